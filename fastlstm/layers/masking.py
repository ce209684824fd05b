"""Steps that hold nothing but a fill value are skipped by the layers after this one."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm._core import sequence_ops
from fastlstm._core.program_elements import MaskingOp
from fastlstm.errors import as_real_array
from fastlstm.layers.base import Layer
from fastlstm.layers.checks import check_rank
from fastlstm.layers.context import Context
from fastlstm.layers.structure import Shape

__all__ = ["Masking"]


class Masking(Layer):
    """Masks the steps all of whose features equal `mask_value`, and sets them to zero.

    Inputs and outputs (B, T, ..., F); the mask is (B, T, ...), true where a step counts.

    Parameters
    ----------
    mask_value : float

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[[1.0], [-1.0], [0.0]]])
    >>> Masking(mask_value=-1.0).compute_mask(x)
    array([[ True, False,  True]])
    """

    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **keywords: Any) -> None:
        super().__init__(**keywords)
        if isinstance(mask_value, bool) or not isinstance(
            mask_value, int | float | np.integer | np.floating
        ):
            raise TypeError(f"{self.label}: `mask_value` must be a number, got {mask_value!r}.")
        self.mask_value = float(mask_value)

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless the shape is (B, ..., F)."""
        check_rank(self.label, input_shape, 2, "(B, ..., F)", or_more=True)

    def call(self, inputs: np.ndarray) -> np.ndarray:
        """The inputs with zeros in the masked steps."""
        return sequence_ops.masked(inputs, self._counts(inputs))

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """For any steps."""
        return MaskingOp, (self.mask_value,)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Each step by itself."""
        return has_time

    def backward(self, context: Context, dy: np.ndarray) -> np.ndarray:
        """The gradient of the inputs: zero in the masked steps."""
        return sequence_ops.masked(dy, self._counts(context.inputs))

    def _counts(self, inputs: np.ndarray) -> np.ndarray:
        return sequence_ops.counting_steps(inputs, self.mask_value)

    def compute_mask(self, inputs: Any, mask: Any = None) -> np.ndarray:
        """True (B, T, ...) where a step counts; replaces the mask of the inputs, as in Keras."""
        return self._counts(as_real_array(inputs, self.dtype, f"{self.label}: input"))

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The inputs' own."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "mask_value": self.mask_value}
