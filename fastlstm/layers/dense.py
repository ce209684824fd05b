"""The densely connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm import constraints, initializers, regularizers
from fastlstm._core import dense
from fastlstm._core.dense_plan import DensePlan
from fastlstm._core.program_dense import DenseOp
from fastlstm.errors import check_positive_int
from fastlstm.layers.base import Layer
from fastlstm.layers.checks import check_features, check_rank
from fastlstm.layers.context import Context
from fastlstm.layers.serialization import object_config
from fastlstm.layers.setting import Setting, activation_name, truth
from fastlstm.layers.structure import Shape
from fastlstm.layers.weight import UNUSED, Weight

__all__ = ["Dense"]


class Dense(Layer):
    """activation(x @ kernel + bias) over the last axis.

    Inputs (B, ..., F), outputs (B, ..., units), both of the layer's dtype.

    Parameters
    ----------
    units : int
    activation : str or function of `fastlstm.activations`, optional
        None is linear.
    use_bias : bool
    kernel_initializer, bias_initializer
        See `fastlstm.initializers`.
    kernel_regularizer, bias_regularizer
        See `fastlstm.regularizers`.
    kernel_constraint, bias_constraint
        See `fastlstm.constraints`.

    Attributes
    ----------
    kernel : Weight (F, units)
    bias : Weight (units,) or None

    Raises
    ------
    ValueError, TypeError
        For `units` that is no positive integer, an unknown activation, inputs of fewer than two
        dimensions or of another number of features than at first.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Dense(2, kernel_initializer="ones", bias_initializer="ones")
    >>> layer(np.array([[1.0, 2.0, 3.0]]))
    array([[7., 7.]], dtype=float32)
    """

    supports_masking = True
    units: Any = Setting(check_positive_int, fixed=True)
    activation: Any = Setting(activation_name)
    use_bias: Any = Setting(truth, fixed=True)

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **keywords: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **keywords)
        self.units = units
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self._plan: tuple[Any, DensePlan] | None = None
        self.kernel: Weight
        self.bias: Weight | None = None

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless the shape is (B, ..., F)."""
        shape = check_rank(self.label, input_shape, 2, "(B, ..., F)", or_more=True)
        check_features(self.label, shape, self.kernel.shape[0] if self.built else None)

    def build(self, input_shape: Any) -> None:
        """Create `kernel` and `bias` for inputs (B, ..., F)."""
        self.kernel = self.add_weight(
            (input_shape[-1], self.units),
            self.kernel_initializer,
            name="kernel",
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                (self.units,),
                self.bias_initializer,
                name="bias",
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs: np.ndarray, context: Context | None = None) -> np.ndarray:
        """The outputs (B, ..., units)."""
        y, cache = dense.forward(self.plan_for(self.activation), inputs, context is not None)
        if context is not None:
            context.cache = cache
        return y

    def backward(self, context: Context, dy: np.ndarray) -> np.ndarray:
        """The gradient of the inputs (B, ..., F)."""
        dx, dkernel, dbias = dense.backward(
            context.cache, dy, context.wants_input_gradient, context.takes_dz
        )
        context.add_gradient(self.kernel, dkernel)
        if self.bias is not None:
            context.add_gradient(self.bias, dbias)
        return dx

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """Over one step or all."""
        return DenseOp, (self.plan_for, (self.kernel, self.bias), self.activation)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Each step by itself."""
        return has_time

    def last_activation(self) -> str | None:
        """The layer's own."""
        return self.activation

    def plan_for(self, activation: str, own: bool = False) -> DensePlan:
        """The weights as they are now, packed once for all calls until they change.

        With `own`, a plan that nobody else has.
        """
        bias = self.bias
        made_of = (self.kernel.version, UNUSED if bias is None else bias.version, activation)
        known = self._plan
        if not own and known is not None and known[0] == made_of:
            return known[1]
        plan = DensePlan(self.kernel.value, None if bias is None else bias.value, activation)
        if not own and None not in made_of:
            self._plan = (made_of, plan)
        return plan

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_plan": None}

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """(B, ..., units)."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": object_config("kernel_initializer", self.kernel_initializer),
            "bias_initializer": object_config("bias_initializer", self.bias_initializer),
            "kernel_regularizer": object_config("kernel_regularizer", self.kernel_regularizer),
            "bias_regularizer": object_config("bias_regularizer", self.bias_regularizer),
            "kernel_constraint": object_config("kernel_constraint", self.kernel_constraint),
            "bias_constraint": object_config("bias_constraint", self.bias_constraint),
        }
