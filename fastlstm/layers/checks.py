"""The checks that several layers share, each with its message in one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm.errors import as_mask, shape_text
from fastlstm.layers.structure import Shape, is_shape

__all__ = [
    "check_features",
    "check_integers",
    "check_mask",
    "check_rank",
    "check_rate",
    "one_shape",
]


def one_shape(label: str, input_shape: Any) -> Shape:
    """The shape of the one input that a layer takes; ``ValueError`` for several inputs."""
    if not is_shape(input_shape):
        raise ValueError(f"{label} takes one input, got {len(input_shape)} inputs.")
    return tuple(input_shape)


def check_rank(
    label: str, input_shape: Any, rank: int, symbols: str, *, or_more: bool = False, hint: str = ""
) -> Shape:
    """The one shape, which must have `rank` dimensions; ``ValueError`` otherwise."""
    shape = one_shape(label, input_shape)
    if len(shape) < rank or (len(shape) > rank and not or_more):
        count = f"at least {rank}" if or_more else str(rank)
        raise ValueError(
            f"{label}: the input must have {count} dimensions {symbols}, "
            f"got shape {shape_text(shape)}.{hint}"
        )
    return shape


def check_features(label: str, shape: Shape, expected: int | None = None) -> None:
    """Raise ``ValueError`` unless the last dimension is known and what the layer was built for."""
    features = shape[-1]
    if features is None or features < 1:
        raise ValueError(
            f"{label}: the last dimension of the input must be a known number of features, "
            f"got shape {shape_text(shape)}."
        )
    if expected is not None and features != expected:
        raise ValueError(
            f"{label}: the input must have {expected} features in its last dimension, as when "
            f"the layer was built, got {features} (shape {shape_text(shape)})."
        )


def check_mask(label: str, mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """`mask` as a new array of bool of `shape`, or None.

    Raises ``ValueError`` for another shape, and what `as_mask` does.
    """
    if mask is None:
        return None
    array = as_mask(mask, f"{label}: `mask`")
    if array.shape != shape:
        raise ValueError(f"{label}: `mask` must have shape (B, T) = {shape}, got {array.shape}.")
    return np.ascontiguousarray(array)


def check_rate(what: str, rate: Any) -> float:
    """A dropout rate as a float; ``TypeError`` or ``ValueError`` unless it is one from 0 to 1."""
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.integer | np.floating):
        raise TypeError(f"{what} must be a number from 0 to 1, got {rate!r}.")
    if not 0 <= rate <= 1:
        raise ValueError(f"{what} must be from 0 to 1, got {rate}.")
    return float(rate)


def check_integers(what: str, values: Any) -> tuple[int, ...]:
    """A sequence of integers as a tuple; ``TypeError`` for anything else."""
    if isinstance(values, Sequence | np.ndarray) and not isinstance(values, str):
        entries = list(values)
        if all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in entries):
            return tuple(int(n) for n in entries)
    raise TypeError(f"{what} must be a tuple of integers, got {values!r}.")
