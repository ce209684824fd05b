"""An activation function as a layer of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm import functional
from fastlstm._core.program_dense import ActivationOp
from fastlstm.layers.base import Layer
from fastlstm.layers.checks import one_shape
from fastlstm.layers.context import Context
from fastlstm.layers.setting import Setting, activation_name
from fastlstm.layers.structure import Shape

__all__ = ["Activation"]


class Activation(Layer):
    """Applies an activation to every element, or ``"softmax"`` over the last axis.

    Parameters
    ----------
    activation : str or function of `fastlstm.activations`

    Examples
    --------
    >>> import numpy as np
    >>> Activation("relu")(np.array([[-1.0, 2.0]]))
    array([[0., 2.]], dtype=float32)
    """

    supports_masking = True
    activation: Any = Setting(activation_name)

    def __init__(self, activation: Any, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.activation = activation

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` for several inputs."""
        one_shape(self.label, input_shape)

    def call(self, inputs: np.ndarray) -> np.ndarray:
        """The activation of the inputs."""
        return functional.activation_forward(inputs, self.activation)

    def backward(self, context: Context, dy: np.ndarray) -> np.ndarray:
        """The gradient of the inputs."""
        if context.takes_dz:
            return dy
        return functional.activation_backward(context.inputs, dy, self.activation)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """For any inputs."""
        return ActivationOp, (self.activation,)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Each step by itself."""
        return has_time

    def last_activation(self) -> str | None:
        """The layer's own."""
        return self.activation

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The inputs' own."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "activation": self.activation}
