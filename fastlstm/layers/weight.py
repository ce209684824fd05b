"""The arrays that layers own and optimizers change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastlstm.errors import as_real_array

__all__ = ["Weight", "total_size"]


class Weight:
    """A named array that a layer owns and an optimizer may change.

    Its contents change in place; `value` becomes another array only through `rebind`, by which an
    optimizer moves all its weights into one buffer.
    """

    def __init__(
        self,
        value: np.ndarray,
        name: str,
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
    ) -> None:
        self.value = value
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
        self.value[...] = self.checked(value)

    def rebind(self, view: np.ndarray) -> None:
        """Move the values into `view`, which holds them from now on."""
        view[...] = self.value
        self.value = view

    def __repr__(self) -> str:
        return f"<Weight {self.name} shape={self.shape} dtype={self.dtype}>"


def total_size(weights: Iterable[Weight]) -> int:
    """The number of elements in `weights`."""
    return sum(w.size for w in weights)
