"""An LSTM whose output is projected to fewer features before it is fed back."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm import functional
from fastlstm.errors import check_positive_int
from fastlstm.layers.base import Layer
from fastlstm.layers.checks import check_mask
from fastlstm.layers.setting import Setting, truth
from fastlstm.layers.weight import Weight

__all__ = ["ProjectedLSTM"]


class ProjectedLSTM(Layer):
    """The LSTM with recurrent projection of Sak et al. 2014 (arXiv:1402.1128), for inference.

    ``z = x kernel + r recurrent_kernel + bias``, the states c and h as in `LSTM`, and
    ``r = h projection`` is what the layer returns and feeds back. For models of PyTorch with
    ``proj_size``; it runs step by step in NumPy and cannot be trained.

    Inputs (B, T, F), outputs (B, P), or (B, T, P) with `return_sequences`, and with `return_state`
    the list of that, r (B, P) and c (B, H). Masked steps carry states and output.

    Parameters
    ----------
    units : int
        H.
    projection_units : int
        P.
    use_bias, return_sequences, return_state, go_backwards : bool

    Examples
    --------
    >>> ProjectedLSTM(8, 3)(np.ones((2, 5, 4))).shape
    (2, 3)
    """

    supports_masking = True
    stateful = False
    units: Any = Setting(check_positive_int, fixed=True)
    projection_units: Any = Setting(check_positive_int, fixed=True)
    use_bias: Any = Setting(truth, fixed=True)

    def __init__(
        self,
        units: int,
        projection_units: int,
        use_bias: bool = True,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        self.units = units
        self.projection_units = projection_units
        self.use_bias = use_bias
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.go_backwards = bool(go_backwards)

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless the inputs are (B, T, F)."""
        if len(input_shape) != 3 or input_shape[2] is None:
            raise ValueError(
                f"{self.label}: inputs must have shape (B, T, F), got {tuple(input_shape)}."
            )

    def build(self, input_shape: Any) -> None:
        """Create the weights for inputs (B, T, F)."""
        width = 4 * self.units
        self.kernel = self.add_weight((input_shape[2], width), name="kernel")
        self.recurrent_kernel = self.add_weight(
            (self.projection_units, width), "orthogonal", name="recurrent_kernel"
        )
        self.bias: Weight | None = None
        if self.use_bias:
            self.bias = self.add_weight((width,), "zeros", name="bias")
        self.projection = self.add_weight((self.units, self.projection_units), name="projection")

    def call(self, inputs: np.ndarray, mask: Any = None) -> Any:
        """The output, or with `return_state` the list [output, r, c]."""
        batch, steps, _ = inputs.shape
        mask = check_mask(self.label, mask, (batch, steps))
        z_inputs = inputs @ self.kernel.value
        if self.bias is not None:
            z_inputs += self.bias.value
        r = np.zeros((batch, self.projection_units), self.dtype)
        c = np.zeros((batch, self.units), self.dtype)
        outputs = np.zeros((batch, steps, self.projection_units), self.dtype)
        order = range(steps)
        for step, place in enumerate(reversed(order) if self.go_backwards else order):
            new_r, new_c = self._step(z_inputs[:, place], r, c)
            if mask is None:
                r, c = new_r, new_c
            else:
                counts = mask[:, place, None]
                r, c = np.where(counts, new_r, r), np.where(counts, new_c, c)
            outputs[:, step] = r
        output = outputs if self.return_sequences else r
        return [output, r, c] if self.return_state else output

    def _step(
        self, z_input: np.ndarray, r: np.ndarray, c: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        z = z_input + r @ self.recurrent_kernel.value
        zi, zf, zg, zo = np.split(z, 4, axis=1)
        i, f, o = (functional.activation_forward(each, "sigmoid") for each in (zi, zf, zo))
        c = f * c + i * functional.activation_forward(zg, "tanh")
        return (o * functional.activation_forward(c, "tanh")) @ self.projection.value, c

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(B, P) or (B, T, P); with `return_state` the list of that, (B, P) and (B, H)."""
        batch, steps, _ = input_shape
        last = (batch, self.projection_units)
        output = (batch, steps, self.projection_units) if self.return_sequences else last
        return [output, last, (batch, self.units)] if self.return_state else output

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of a sequence; none for a single output or a state."""
        output = mask if self.return_sequences else None
        return [output, None, None] if self.return_state else output

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "projection_units": self.projection_units,
            "use_bias": self.use_bias,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
        }
