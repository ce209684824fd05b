"""Layers of several inputs: Add, Multiply, Average, Concatenate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastlstm._core import merging
from fastlstm._core.program_elements import MergeOp
from fastlstm._core.program_shapes import ConcatenateOp
from fastlstm.errors import as_mask, shape_text
from fastlstm.layers.base import Layer
from fastlstm.layers.context import Context
from fastlstm.layers.structure import Shape, is_shape

__all__ = [
    "Add",
    "Average",
    "Concatenate",
    "Multiply",
    "add",
    "average",
    "concatenate",
    "multiply",
]


class _Merge(Layer):
    """What the layers of several inputs share: the list of inputs and its masks."""

    supports_masking = True

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless the inputs are a list of arrays that go together."""
        if is_shape(input_shape) or not input_shape:
            raise ValueError(
                f"{self.label} takes a list of inputs, got one of shape {tuple(input_shape)}."
            )
        batches = {shape[0] for shape in input_shape if shape} - {None}
        if len(batches) > 1:
            raise self._misfit(input_shape, "the same batch size")
        self.compute_output_shape(input_shape)

    def _misfit(self, shapes: Sequence[Any], need: str) -> ValueError:
        listed = ", ".join(shape_text(shape) for shape in shapes)
        return ValueError(f"{self.label}: the inputs must have {need}, got shapes {listed}.")

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Each step by itself."""
        return has_time

    def _masks(self, mask: Any, count: int) -> list[Any]:
        if mask is None:
            return [None] * count
        if not isinstance(mask, list | tuple) or len(mask) != count:
            raise ValueError(
                f"{self.label}: `mask` must be a list of {count} masks or None, one for each input."
            )
        return [None if m is None else as_mask(m, f"{self.label}: `mask`") for m in mask]


class _Elementwise(_Merge):
    """Inputs of shapes that broadcast; one of fewer dimensions gets sizes of 1 after the batch."""

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The shape to which the inputs broadcast."""
        rank = max(map(len, input_shape))
        aligned = [_aligned(tuple(shape), rank) for shape in input_shape]
        output = []
        for sizes in zip(*aligned, strict=True):
            known = {n for n in sizes if n not in (None, 1)}
            if len(known) > 1:
                raise self._misfit(input_shape, "shapes that broadcast")
            output.append(known.pop() if known else None if None in sizes else 1)
        return tuple(output)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Where any input counts; none unless all inputs have a mask."""
        if mask is None:
            return None
        masks = self._masks(mask, len(inputs))
        if any(m is None for m in masks):
            return None
        return np.logical_or.reduce(np.broadcast_arrays(*masks))


def _aligned(shape: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    return (*shape[:1], *[1] * (rank - len(shape)), *shape[1:])


def _align(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    rank = max(array.ndim for array in arrays)
    return [array.reshape(_aligned(array.shape, rank)) for array in arrays]


def _summed_to(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of an array of `shape` that was broadcast: the sum over its copies."""
    aligned = _aligned(shape, gradient.ndim)
    axes = tuple(
        axis
        for axis, (ours, theirs) in enumerate(zip(aligned, gradient.shape, strict=True))
        if ours != theirs
    )
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)


def _combined(
    core: Callable[[list[np.ndarray]], np.ndarray | None], ufunc: np.ufunc, arrays: list[np.ndarray]
) -> np.ndarray:
    """The arrays added or multiplied from the left: by the core, or by `ufunc` to broadcast."""
    combined = core(arrays)
    if combined is None:
        combined = functools.reduce(ufunc, arrays[1:], arrays[0].copy())
    return combined


class Add(_Elementwise):
    """The sum of the inputs, which broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> Add()([np.array([[1.0, 2.0]]), np.array([[10.0]])]).tolist()
    [[11.0, 12.0]]
    """

    def call(self, inputs: list[np.ndarray]) -> np.ndarray:
        """The sum."""
        return _combined(merging.add, np.add, _align(inputs))

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """For inputs of one shape."""
        return MergeOp, (False, False)

    def backward(self, context: Context, dy: np.ndarray) -> list[np.ndarray]:
        """The gradient of every input."""
        return [_summed_to(dy, x.shape) for x in context.inputs]


class Average(Add):
    """The mean of the inputs, which broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> Average()([np.array([[1.0, 2.0]]), np.array([[3.0, 6.0]])]).tolist()
    [[2.0, 4.0]]
    """

    def call(self, inputs: list[np.ndarray]) -> np.ndarray:
        """The mean."""
        return merging.divided(super().call(inputs), len(inputs))

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """For inputs of one shape."""
        return MergeOp, (False, True)

    def backward(self, context: Context, dy: np.ndarray) -> list[np.ndarray]:
        """The gradient of every input."""
        return super().backward(context, merging.divided(dy, len(context.inputs)))


class Multiply(_Elementwise):
    """The product of the inputs, which broadcast.

    Where an input is masked it counts as 1; where all inputs are, the product is 0.

    Examples
    --------
    >>> import numpy as np
    >>> Multiply()([np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])]).tolist()
    [[3.0, 8.0]]
    """

    def call(
        self, inputs: list[np.ndarray], mask: Any = None, context: Context | None = None
    ) -> np.ndarray:
        """The product."""
        masks = [None if m is None else m[..., None] for m in self._masks(mask, len(inputs))]
        factors = _align(
            [
                x if m is None else np.where(m, x, x.dtype.type(1))
                for x, m in zip(inputs, masks, strict=True)
            ]
        )
        counts, given = None, [m for m in masks if m is not None]
        if len(given) == len(masks):
            counts = np.logical_or.reduce(np.broadcast_arrays(*_align(given)))
        if context is not None:
            context.cache = (factors, masks)
        return _zero_unless(counts, _product(factors))

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """For inputs of one shape without masks."""
        return MergeOp, (True, False)

    def backward(self, context: Context, dy: np.ndarray) -> list[np.ndarray]:
        """The gradient of every input: dy times the product of the others."""
        factors, masks = context.cache
        gradients = []
        for index, (x, mask) in enumerate(zip(context.inputs, masks, strict=True)):
            others = factors[:index] + factors[index + 1 :]
            dx = _summed_to(_product([dy, *others]), x.shape)
            gradients.append(_zero_unless(mask, dx))
        return gradients


def _product(arrays: list[np.ndarray]) -> np.ndarray:
    return _combined(merging.multiply, np.multiply, arrays)


def _zero_unless(counts: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    return values if counts is None else np.where(counts, values, values.dtype.type(0))


class Concatenate(_Merge):
    """The inputs side by side along one axis; their other sizes must be equal.

    Parameters
    ----------
    axis : int
        Counted with the batch; -1 puts features side by side, 1 steps.

    Examples
    --------
    >>> import numpy as np
    >>> Concatenate()([np.array([[1.0]]), np.array([[2.0, 3.0]])]).tolist()
    [[1.0, 2.0, 3.0]]
    """

    def __init__(self, axis: int = -1, **keywords: Any) -> None:
        super().__init__(**keywords)
        if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
            raise TypeError(f"{self.label}: `axis` must be an integer, got {axis!r}.")
        self.axis = int(axis)

    def call(self, inputs: list[np.ndarray]) -> np.ndarray:
        """The inputs as one array."""
        return merging.concatenated(inputs, self.axis)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """For masks of steps, if any."""
        return ConcatenateOp, (self.axis,)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Each step by itself, unless steps are put behind each other."""
        if has_time and self.axis % rank == 1:
            raise self._needs_sequence("moves the time axis")
        return has_time

    def backward(self, context: Context, dy: np.ndarray) -> list[np.ndarray]:
        """The part of the gradient that belongs to each input."""
        return merging.parts(dy, [x.shape[self.axis] for x in context.inputs], self.axis)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The common shape, with the sum of the sizes along `axis`."""
        rank = len(input_shape[0])
        if any(len(shape) != rank for shape in input_shape) or not -rank <= self.axis < rank:
            raise self._misfit(input_shape, f"equally many dimensions and an axis {self.axis}")
        output: list[int | None] = []
        for axis, sizes in enumerate(zip(*input_shape, strict=True)):
            if axis == self.axis % rank:
                output.append(None if None in sizes else sum(sizes))
                continue
            known = {n for n in sizes if n is not None}
            if len(known) > 1:
                raise self._misfit(input_shape, f"equal sizes outside of axis {self.axis}")
            output.append(known.pop() if known else None)
        return tuple(output)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The masks put together as the inputs are, true where any feature counts."""
        masks = self._masks(mask, len(inputs))
        if all(m is None for m in masks):
            return None
        whole = []
        for x, m in zip(inputs, masks, strict=True):
            if m is None:
                whole.append(np.ones(np.shape(x), bool))
            else:
                while m.ndim < np.ndim(x):
                    m = m[..., None]
                whole.append(np.broadcast_to(m, np.shape(x)))
        return np.concatenate(whole, axis=self.axis).any(axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "axis": self.axis}


def add(inputs: Sequence[Any], **keywords: Any) -> Any:
    """``Add(**keywords)(inputs)``."""
    return Add(**keywords)(list(inputs))


def average(inputs: Sequence[Any], **keywords: Any) -> Any:
    """``Average(**keywords)(inputs)``."""
    return Average(**keywords)(list(inputs))


def multiply(inputs: Sequence[Any], **keywords: Any) -> Any:
    """``Multiply(**keywords)(inputs)``."""
    return Multiply(**keywords)(list(inputs))


def concatenate(inputs: Sequence[Any], axis: int = -1, **keywords: Any) -> Any:
    """``Concatenate(axis, **keywords)(inputs)``."""
    return Concatenate(axis, **keywords)(list(inputs))
