"""Layers that only move numbers: RepeatVector, Flatten, Reshape, Permute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm._core import sequence_ops
from fastlstm._core.program_shapes import PermuteOp, RepeatOp, ReshapeOp
from fastlstm.errors import check_positive_int
from fastlstm.layers.base import Layer
from fastlstm.layers.checks import check_integers, check_rank
from fastlstm.layers.context import Context
from fastlstm.layers.structure import Shape

__all__ = ["Flatten", "Permute", "RepeatVector", "Reshape"]


class RepeatVector(Layer):
    """Repeats a vector over time: (B, F) -> (B, n, F).

    Parameters
    ----------
    n : int
        The number of time steps.

    Examples
    --------
    >>> import numpy as np
    >>> RepeatVector(2)(np.array([[1.0, 2.0]])).tolist()
    [[[1.0, 2.0], [1.0, 2.0]]]
    """

    def __init__(self, n: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.n = check_positive_int(f"{self.label}: `n`", n)

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless the shape is (B, F)."""
        check_rank(self.label, input_shape, 2, "(B, F)")

    def call(self, inputs: np.ndarray) -> np.ndarray:
        """The repeated vectors (B, n, F)."""
        return sequence_ops.repeated(inputs, self.n)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """For any vectors."""
        return RepeatOp, (self.n,)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Never: there is no step at which the vector is known."""
        raise self._needs_sequence("repeats what comes after the last step")

    def backward(self, context: Context, dy: np.ndarray) -> np.ndarray:
        """The gradient of the vectors: the sum over the repetitions."""
        return sequence_ops.sum_over_steps(dy)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """(B, n, F)."""
        return (input_shape[0], self.n, input_shape[1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "n": self.n}


class Flatten(Layer):
    """All dimensions but the batch in one: (B, ...) -> (B, N).

    Parameters
    ----------
    data_format : "channels_last" or None
        For Keras's sake; nothing else is supported.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten()(np.zeros((5, 2, 3))).shape
    (5, 6)
    """

    def __init__(self, data_format: str | None = None, **keywords: Any) -> None:
        super().__init__(**keywords)
        if data_format not in (None, "channels_last"):
            raise ValueError(
                f"{self.label}: `data_format` must be 'channels_last' or None, "
                f"got {data_format!r}; use Permute before it."
            )
        self.data_format = data_format

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` for inputs without a batch dimension."""
        check_rank(self.label, input_shape, 1, "(B, ...)", or_more=True)

    def call(self, inputs: np.ndarray) -> np.ndarray:
        """The inputs as (B, N)."""
        return inputs.reshape(self.compute_output_shape(inputs.shape))

    def backward(self, context: Context, dy: np.ndarray) -> np.ndarray:
        """The gradient in the inputs' shape."""
        return dy.reshape(context.inputs.shape)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """The same memory."""
        return ReshapeOp, (self.compute_output_shape, False)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Only after the steps: the time axis is one that it moves."""
        if has_time:
            raise self._needs_sequence("moves the time axis")
        return False

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(B, N), N None where a size is."""
        sizes = input_shape[1:]
        return (input_shape[0], None if None in sizes else math.prod(sizes))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "data_format": self.data_format}


class Reshape(Layer):
    """Another shape for every row of the batch: (B, ...) -> (B, *target_shape).

    Parameters
    ----------
    target_shape : tuple of int
        Without the batch; one of them may be -1, which is worked out from the others.

    Examples
    --------
    >>> import numpy as np
    >>> Reshape((3, -1))(np.zeros((5, 12))).shape
    (5, 3, 4)
    """

    def __init__(self, target_shape: Sequence[int], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.target_shape = check_integers(f"{self.label}: `target_shape`", target_shape)
        if self.target_shape.count(-1) > 1 or any(n < -1 for n in self.target_shape):
            raise ValueError(
                f"{self.label}: `target_shape` must hold sizes, at most one of them -1, "
                f"got {self.target_shape}."
            )

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` for rows of another number of elements."""
        self.compute_output_shape(check_rank(self.label, input_shape, 1, "(B, ...)", or_more=True))

    def call(self, inputs: np.ndarray) -> np.ndarray:
        """The inputs in the new shape."""
        return inputs.reshape(self.compute_output_shape(inputs.shape))

    def backward(self, context: Context, dy: np.ndarray) -> np.ndarray:
        """The gradient in the inputs' shape."""
        return dy.reshape(context.inputs.shape)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """The same memory."""
        return ReshapeOp, (self.compute_output_shape, False, self.target_shape)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Only after the steps: the time axis is one that it moves."""
        if has_time:
            raise self._needs_sequence("moves the time axis")
        return False

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(B, *target_shape) with -1 worked out, or None where that takes an unknown size."""
        batch, *sizes = input_shape
        target = self.target_shape
        if None in sizes:
            return (batch, *(None if n == -1 else n for n in target))
        size, known = math.prod(sizes), math.prod(n for n in target if n != -1)
        if (size != known) if -1 not in target else (known == 0 or size % known):
            raise ValueError(
                f"{self.label}: rows of shape {tuple(sizes)} hold {size} elements, "
                f"which do not fit `target_shape` {target}."
            )
        return (batch, *(size // known if n == -1 else n for n in target))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "target_shape": list(self.target_shape)}


class Permute(Layer):
    """The dimensions in another order.

    Parameters
    ----------
    dims : tuple of int
        Counted from 1, without the batch: ``(2, 1)`` is (B, T, F) -> (B, F, T).

    Examples
    --------
    >>> import numpy as np
    >>> Permute((2, 1))(np.zeros((5, 2, 3))).shape
    (5, 3, 2)
    """

    def __init__(self, dims: Sequence[int], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.dims = check_integers(f"{self.label}: `dims`", dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"{self.label}: `dims` must be the numbers from 1 to {len(self.dims)} in some "
                f"order, got {self.dims}; the batch is not counted."
            )

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless there is one dimension for each of `dims`."""
        check_rank(self.label, input_shape, len(self.dims) + 1, f"for `dims` {self.dims}")

    def call(self, inputs: np.ndarray) -> np.ndarray:
        """The inputs with their dimensions in the new order."""
        return sequence_ops.permuted(inputs, (0, *self.dims))

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """For any arrays."""
        return PermuteOp, (self.dims,)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Only after the steps: the time axis is one that it moves."""
        if has_time:
            raise self._needs_sequence("moves the time axis")
        return False

    def backward(self, context: Context, dy: np.ndarray) -> np.ndarray:
        """The gradient with its dimensions in the inputs' order."""
        return sequence_ops.permuted_back(dy, (0, *self.dims))

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The sizes in the new order."""
        return (input_shape[0], *(input_shape[d] for d in self.dims))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "dims": list(self.dims)}
