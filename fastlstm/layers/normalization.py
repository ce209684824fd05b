"""Layer normalization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm import constraints, initializers, regularizers
from fastlstm._core import normalization
from fastlstm._core.program_elements import NormalizationOp
from fastlstm.errors import shape_text
from fastlstm.layers.base import Layer
from fastlstm.layers.checks import check_integers, one_shape
from fastlstm.layers.context import Context
from fastlstm.layers.serialization import object_config
from fastlstm.layers.structure import Shape
from fastlstm.layers.weight import Weight

__all__ = ["LayerNormalization"]


class LayerNormalization(Layer):
    """Normalizes every row over its features (Ba, Kiros & Hinton 2016, equation 4).

    ::

        y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    Parameters
    ----------
    axis : int or list of int
        What mean and variance are taken over; counted with the batch.
    epsilon : float
    center, scale : bool
        Whether there are `beta` and `gamma`.
    beta_initializer, gamma_initializer
        See `fastlstm.initializers`.
    beta_regularizer, gamma_regularizer
        See `fastlstm.regularizers`.
    beta_constraint, gamma_constraint
        See `fastlstm.constraints`.

    Attributes
    ----------
    gamma, beta : Weight of the sizes of the axes, or None

    Raises
    ------
    ValueError, TypeError
        For axes that the inputs do not have, or of another size than at first.

    Examples
    --------
    >>> import numpy as np
    >>> LayerNormalization(epsilon=0.0)(np.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """

    supports_masking = True

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        single = isinstance(axis, int | np.integer)
        self.axis = check_integers(f"{self.label}: `axis`", [axis] if single else axis)
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float | np.floating):
            raise TypeError(f"{self.label}: `epsilon` must be a number, got {epsilon!r}.")
        if not (epsilon >= 0 and math.isfinite(epsilon)):
            raise ValueError(f"{self.label}: `epsilon` must not be negative, got {epsilon}.")
        self.epsilon = float(epsilon)
        self.center = bool(center)
        self.scale = bool(scale)
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.gamma: Weight | None = None
        self.beta: Weight | None = None
        self._sizes: tuple[int, ...] | None = None

    def _axes(self, rank: int) -> tuple[int, ...]:
        return tuple(sorted({axis % rank for axis in self.axis}))

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless the shape has the axes, in the sizes of the weights."""
        shape = one_shape(self.label, input_shape)
        rank = len(shape)
        if any(not -rank <= axis < rank for axis in self.axis):
            raise ValueError(
                f"{self.label}: `axis` {list(self.axis)} must be an axis of the input, "
                f"got shape {shape_text(shape)}."
            )
        sizes = tuple(shape[axis] for axis in self._axes(rank))
        if None in sizes or (self._sizes is not None and sizes != self._sizes):
            expected = "known" if self._sizes is None else str(self._sizes)
            raise ValueError(
                f"{self.label}: the sizes of the axes {list(self.axis)} must be {expected}, "
                f"got shape {shape_text(shape)}."
            )

    def build(self, input_shape: Any) -> None:
        """Create `gamma` and `beta`."""
        sizes = tuple(input_shape[axis] for axis in self._axes(len(input_shape)))
        if self.scale:
            self.gamma = self.add_weight(
                sizes,
                self.gamma_initializer,
                name="gamma",
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
        if self.center:
            self.beta = self.add_weight(
                sizes,
                self.beta_initializer,
                name="beta",
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )
        self._sizes = sizes

    def _order(self, rank: int) -> list[int]:
        """All axes, those to normalize over last."""
        axes = self._axes(rank)
        return [*(axis for axis in range(rank) if axis not in axes), *axes]

    def call(self, inputs: np.ndarray, context: Context | None = None) -> np.ndarray:
        """The normalized inputs, in their shape."""
        order = self._order(inputs.ndim)
        gamma, beta = (None if w is None else w.value for w in (self.gamma, self.beta))
        y, *cache = normalization.forward(
            inputs.transpose(order), gamma, beta, len(self._axes(inputs.ndim)), self.epsilon
        )
        if context is not None:
            context.cache = cache
        return _back(y, order)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """Over the last axes."""
        return NormalizationOp, (self._axes, self.axis, self.gamma, self.beta, self.epsilon)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Each step by itself, unless it normalizes over time."""
        if has_time and 1 in self._axes(rank):
            raise self._needs_sequence("normalizes over the steps")
        return has_time

    def backward(self, context: Context, dy: np.ndarray) -> np.ndarray:
        """The gradient of the inputs."""
        order = self._order(dy.ndim)
        gamma = None if self.gamma is None else self.gamma.value
        dx, *gradients = normalization.backward(dy.transpose(order), gamma, *context.cache)
        for weight, gradient in zip((self.gamma, self.beta), gradients, strict=True):
            if weight is not None:
                context.add_gradient(weight, gradient)
        return _back(dx, order)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The inputs' own."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        objects = {
            name: object_config(f"{self.label}: `{name}`", getattr(self, name))
            for part in ("beta", "gamma")
            for name in (f"{part}_initializer", f"{part}_regularizer", f"{part}_constraint")
        }
        return {
            **super().get_config(),
            "axis": list(self.axis),
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **objects,
        }


def _back(x: np.ndarray, order: list[int]) -> np.ndarray:
    """What was transposed to `order`, in its own."""
    return np.ascontiguousarray(x.transpose(np.argsort(order)))
