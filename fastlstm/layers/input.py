"""The place in a graph where the data of a functional model comes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm.errors import shape_text
from fastlstm.layers.base import Layer
from fastlstm.layers.structure import Shape, is_shape
from fastlstm.layers.symbolic import Node, SymbolicTensor

__all__ = ["Input", "InputLayer"]


class InputLayer(Layer):
    """The layer behind `Input`; called on arrays it returns them.

    Parameters
    ----------
    shape : tuple of int or None
        Without the batch; None where a size varies.
    batch_size : int, optional
        A batch size that never varies, as stateful layers need it.
    dtype : str, optional
        Any integer or real type; `fastlstm.config.floatx()` by default.
    batch_shape : tuple of int or None
        `shape` with the batch size in front, instead of `shape` and `batch_size`.
    name : str, optional

    Attributes
    ----------
    output : SymbolicTensor

    Examples
    --------
    >>> InputLayer(shape=(None, 3), name="series").output
    <SymbolicTensor shape=(None, None, 3) dtype=float32>
    """

    casts_inputs = False

    def __init__(
        self,
        shape: Sequence[int | None] | None = None,
        batch_size: int | None = None,
        dtype: Any = None,
        batch_shape: Sequence[int | None] | None = None,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        keywords.pop("trainable", None)
        kept = {k: v for k, v in keywords.items() if v or k not in ("sparse", "ragged", "optional")}
        super().__init__(name=name, **kept)
        if dtype is not None:
            self.dtype = self._array_dtype(dtype)
        if batch_shape is None:
            batch_shape = self.batch_input_shape
        self.batch_shape = self._whole_shape(shape, batch_size, batch_shape)
        self.batch_input_shape = None
        self.built = True
        node = Node(self, None, {}, None)
        node.outputs = SymbolicTensor(self.batch_shape, self.dtype, node)
        self._nodes.append(node)

    def __getstate__(self) -> dict[str, Any]:
        # Its node is its own: it reads nothing.
        return self.__dict__.copy()

    def _array_dtype(self, dtype: Any) -> str:
        try:
            array_dtype = np.dtype(dtype)
        except TypeError:
            raise TypeError(
                f"{self.label}: `dtype` must be a NumPy dtype, got {dtype!r}."
            ) from None
        if array_dtype.kind not in "fiub":
            raise ValueError(f"{self.label}: `dtype` must be real or integer, got {array_dtype}.")
        return array_dtype.name

    def _whole_shape(
        self,
        shape: Sequence[int | None] | None,
        batch_size: int | None,
        batch_shape: Sequence[int | None] | None,
    ) -> Shape:
        if (shape is None) == (batch_shape is None):
            raise ValueError(f"{self.label}: give either `shape` or `batch_shape`, and not both.")
        if batch_shape is not None and batch_size is not None:
            raise ValueError(
                f"{self.label}: `batch_shape` holds the batch size; `batch_size` is for `shape`."
            )
        given: Any = shape if batch_shape is None else batch_shape
        if not is_shape(given) or any(n is not None and n < 0 for n in given):
            raise ValueError(
                f"{self.label}: a shape must be a tuple of sizes, None where they vary, "
                f"got {given!r}."
            )
        return (batch_size, *given) if batch_shape is None else tuple(given)

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless the data fit the declared shape."""
        fits = (
            is_shape(input_shape)
            and len(input_shape) == len(self.batch_shape)
            and all(
                a is None or b is None or a == b
                for a, b in zip(input_shape, self.batch_shape, strict=True)
            )
        )
        if not fits:
            raise ValueError(
                f"{self.label}: the input must have shape {shape_text(self.batch_shape)}, "
                f"got {input_shape}."
            )

    def call(self, inputs: np.ndarray) -> np.ndarray:
        """The data as they are."""
        return inputs

    def backward(self, context: Any, dy: np.ndarray) -> np.ndarray:
        """The gradient as it is."""
        return dy

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The declared shape."""
        return self.batch_shape

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Data come in with the mask that they were given."""
        return mask

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"batch_shape": list(self.batch_shape), "dtype": self.dtype, "name": self.name}


def Input(  # noqa: N802 - Keras's name
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: Any = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
) -> SymbolicTensor:
    """A symbolic tensor to build a functional model from; see `InputLayer` for the arguments.

    Raises ``ValueError`` unless exactly one of `shape` and `batch_shape` is given.

    Examples
    --------
    >>> from fastlstm.layers import LSTM
    >>> LSTM(4)(Input(shape=(None, 3)))
    <SymbolicTensor shape=(None, 4) dtype=float32>
    """
    return InputLayer(shape, batch_size, dtype, batch_shape, name).output
