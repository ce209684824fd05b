"""One layer applied to every time step."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm.errors import as_mask
from fastlstm.layers.base import Layer, told_by_class
from fastlstm.layers.checks import check_rank
from fastlstm.layers.context import Context
from fastlstm.layers.dense import Dense
from fastlstm.layers.serialization import deserialize, serialize
from fastlstm.layers.structure import Shape, as_list, map_structure, map_structure_of_shapes

__all__ = ["TimeDistributed"]


class TimeDistributed(Layer):
    """Applies a layer to each step of a sequence, with the same weights at all steps.

    Inputs (B, T, ...), outputs (B, T, ...). The steps go through the layer in one call, as rows
    of one batch of B * T; a Dense takes the sequence as it is.

    A mask must begin with (B, T); each step's part of it reaches a layer whose `call` names
    `mask`. The mask of the outputs is what the layer makes of its part or, where it makes none of
    it, (B, T): true where anything of the step counts.

    Parameters
    ----------
    layer : Layer
        Not stateful: a state belongs to a row of the batch, and here rows are steps.

    Raises
    ------
    TypeError, ValueError
        For what is no layer, a stateful layer, and inputs of fewer than three dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.layers import Dense
    >>> TimeDistributed(Dense(1))(np.ones((2, 3, 4))).shape
    (2, 3, 1)
    """

    supports_masking = True

    def __init__(self, layer: Layer, **keywords: Any) -> None:
        super().__init__(**{"dtype": getattr(layer, "dtype", None), **keywords})
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.label}: `layer` must be a Layer, got {layer!r}.")
        if getattr(layer, "stateful", False):
            raise ValueError(f"{self.label}: {layer.label} must not be stateful inside it.")
        self.layer = layer
        self._layers = [layer]
        self.casts_inputs = layer.casts_inputs
        if not self._trainable:
            layer.trainable = False

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless the shape is (B, T, ...) and the layer takes (B, ...)."""
        shape = check_rank(
            self.label,
            input_shape,
            3,
            "(B, T, F)",
            or_more=True,
            hint=" Let the layer before it return sequences, or leave out TimeDistributed.",
        )
        self.layer.check_inputs(_without_time(shape))

    def build(self, input_shape: Any) -> None:
        """Build the layer for one step (B, ...)."""
        self.layer.ensure_built(_without_time(input_shape))

    def call(
        self,
        inputs: np.ndarray,
        mask: Any = None,
        training: bool = False,
        context: Context | None = None,
    ) -> Any:
        """The layer's outputs for every step (B, T, ...)."""
        inner = None if context is None else context.child()
        if context is not None:
            context.cache = inner
        mask = self._checked_mask(mask, inputs.shape)
        if type(self.layer) is Dense:
            return self.layer(inputs, training=training, context=inner)
        batch, steps = inputs.shape[:2]
        outputs = self.layer(_fold(inputs), mask=_fold(mask), training=training, context=inner)
        return map_structure(lambda y: y.reshape(batch, steps, *y.shape[1:]), outputs)

    def backward(self, context: Context, dy: Any) -> Any:
        """The gradient of the inputs (B, T, ...)."""
        if type(self.layer) is Dense:
            context.cache.takes_dz = context.takes_dz
            return self.layer.differentiate(context.cache, dy)
        dx = self.layer.differentiate(context.cache, map_structure(_fold, dy))
        return None if dx is None else dx.reshape(context.inputs.shape)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """That of a dense layer, which takes any number of steps at once."""
        return told_by_class(self.layer, "op", training) if type(self.layer) is Dense else None

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Each step by itself."""
        return has_time

    def last_activation(self) -> str | None:
        """That of a dense layer."""
        return self.layer.last_activation() if type(self.layer) is Dense else None

    def _checked_mask(self, mask: Any, input_shape: tuple[int, ...]) -> np.ndarray | None:
        if mask is None:
            return None
        mask = as_mask(mask, f"{self.label}: `mask`")
        if mask.shape[:2] != input_shape[:2]:
            raise ValueError(
                f"{self.label}: the shape of `mask` must begin with (B, T) = {input_shape[:2]}, "
                f"got {mask.shape}."
            )
        return mask

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask (B, T, ...) of the outputs; none for inputs without one."""
        if mask is None or np.ndim(mask) <= 2:
            return mask
        mask = as_mask(mask, f"{self.label}: `mask`")
        steps = mask.shape[:2]
        of_step = self.layer.compute_mask(None if inputs is None else _fold(inputs), _fold(mask))
        if all(each is None for each in as_list(of_step)):
            return mask.reshape(*steps, -1).any(axis=-1)
        return map_structure(lambda m: m if m is None else m.reshape(*steps, *m.shape[1:]), of_step)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(B, T, ...) with the layer's own shape after the time."""
        steps = input_shape[1]
        inner = self.layer.compute_output_shape(_without_time(input_shape))
        return map_structure_of_shapes(lambda s: (s[0], steps, *s[1:]), inner)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "layer": serialize(self.layer)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> TimeDistributed:
        """The layer that `get_config` describes."""
        return cls(**{**config, "layer": deserialize(config["layer"], custom_objects)})


def _without_time(shape: Any) -> Shape:
    return (shape[0], *shape[2:])


def _fold(array: np.ndarray | None) -> np.ndarray | None:
    """(B, T, ...) as (B * T, ...)."""
    if array is None:
        return None
    return array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
