"""The arrays that layers own and optimizers change."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from fastlstm._core.versions import Versioned
from fastlstm.errors import as_real_array

__all__ = ["UNUSED", "Weight", "changing", "starting_value", "total_size", "weights_to_load"]


_versions = itertools.count()
# In place of the version of a weight that a layer does not have.
UNUSED = -1


class Weight(Versioned):
    """A named array that a layer owns and an optimizer may change.

    `value` cannot be written to: contents change through `assign`, or inside `changing` through an
    optimizer that has moved them into its buffer by `rebind`. What was once read from `value` may
    show later contents or stay behind; `numpy` gives a copy.

    Attributes
    ----------
    version : int or None
        Another number after every change, so that a layer may keep what it derives from the
        values: the LSTM packs its weights. None while they change: nothing derived then may be
        kept.
    """

    value: np.ndarray
    _array: np.ndarray

    def __init__(
        self,
        value: np.ndarray,
        name: str,
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
    ) -> None:
        self.rebind(value)
        self.name = name
        self.trainable = trainable
        self.always_frozen = not trainable
        self.regularizer = regularizer
        self.constraint = constraint

    @property
    def path(self) -> str:
        """Where the weight is: the layer's name and its own, as in ``lstm_1/kernel``."""
        return self.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        """The real type of the array."""
        return self.value.dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.value.size

    def numpy(self) -> np.ndarray:
        """A copy of the values."""
        return self.value.copy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            return np.asarray(self.value, dtype=dtype)
        return np.array(self.value, dtype=dtype)

    def checked(self, value: Any) -> np.ndarray:
        """`value` as an array that `assign` would take; raises as `assign` does."""
        array = as_real_array(value, self.dtype, f"Weight {self.name!r}")
        if array.shape != self.shape:
            raise ValueError(
                f"Weight {self.name!r} must have shape {self.shape}, got {array.shape}."
            )
        if not np.isfinite(array).all():
            raise ValueError(f"Weight {self.name!r} must be finite, got NaN or infinity.")
        return array

    def assign(self, value: Any) -> None:
        """Copy `value` into the weight.

        Raises ``ValueError`` for another shape, NaN or infinity, ``TypeError`` for what is not
        real numbers; the weight then stays as it was.
        """
        self.restore(self.checked(value))

    def restore(self, value: np.ndarray) -> None:
        """Copy what was saved of such a weight, were it not finite."""
        with changing((self,)):
            self._array[...] = value

    def constrain(self) -> None:
        """Bring the values to where the constraint wants them, if there is one."""
        if self.constraint is not None:
            self.restore(self.constraint(self.value))

    def rebind(self, array: np.ndarray) -> None:
        """Let `array` hold the values from now on; whoever moves them has copied them there."""
        view = array.view()
        view.flags.writeable = False
        with changing((self,)):
            # In one step, which no interrupt divides: what is read is what `restore` writes.
            # CPython takes interrupts after calls and at jumps: not between these two.
            self._array, self.value = array, view

    def __copy__(self) -> Weight:
        # Two weights on one array would not hear of each other's changes.
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        # A view would come back as an array of its own.
        del state["value"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.rebind(self._array)

    def __repr__(self) -> str:
        return f"<Weight {self.name} shape={self.shape} dtype={self.dtype}>"


class changing:  # noqa: N801
    """A context inside which the values of some weights change.

    It takes their versions away before it gives them new ones. So whatever moment an interrupt
    comes at, and whatever another thread computes meanwhile, nothing derived from other values than
    the last is kept. One such context must not be inside another for the same weight.

    Examples
    --------
    >>> weight = Weight(np.zeros(2), "w")
    >>> with changing([weight]):
    ...     print(weight.version)
    None
    """

    __slots__ = ("_weights",)

    def __init__(self, weights: Sequence[Weight]) -> None:
        self._weights = weights

    def __enter__(self) -> None:
        for weight in self._weights:
            weight.version = None

    def __exit__(self, *exception: object) -> None:
        version = next(_versions)
        for weight in self._weights:
            weight.version = version


def total_size(weights: Iterable[Weight]) -> int:
    """The number of elements in `weights`."""
    return sum(w.size for w in weights)


# How many bytes the weights may still take that are made only to be loaded; None outside.
_bytes_to_load: ContextVar[list[int] | None] = ContextVar("_bytes_to_load", default=None)


@contextlib.contextmanager
def weights_to_load(total_bytes: int) -> Iterator[None]:
    """Weights made inside will be overwritten: they start as zeros, and take no more than that.

    What a file says of shapes can so not make more memory be asked for than the file has.
    """
    token = _bytes_to_load.set([total_bytes])
    try:
        yield
    finally:
        _bytes_to_load.reset(token)


def starting_value(
    initializer: Callable[..., Any], shape: Sequence[int], dtype: np.dtype
) -> np.ndarray:
    """The first values of a weight; raises ``ValueError`` for more than there is to load."""
    left = _bytes_to_load.get()
    if left is None:
        return np.array(initializer(tuple(shape), dtype=dtype), dtype=dtype, order="C")
    left[0] -= math.prod(shape) * dtype.itemsize
    if left[0] < 0:
        raise ValueError("the layers have more weights than there are to load")
    return np.zeros(shape, dtype)
