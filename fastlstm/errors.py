"""One place for argument checks, so that every layer says the same thing in the same form."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np

__all__ = ["as_array", "as_mask", "as_real_array", "check_positive_int", "one_of", "shape_text"]


def shape_text(shape: Iterable[int | None]) -> str:
    """The shape as NumPy writes it, e.g. ``(None, 3)``."""
    return str(tuple(shape))


def check_positive_int(what: str, value: Any) -> int:
    """`value` as an int of at least 1; ``TypeError`` or ``ValueError`` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{what} must be a positive integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{what} must be a positive integer, got {value}.")
    return int(value)


def one_of(what: str, value: Any, known: Iterable[str]) -> ValueError:
    """The error for a name that is none of `known`, with the nearest one suggested."""
    known = list(known)
    near = get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"{what} must be one of {', '.join(sorted(known))}; got {value!r}.{hint}")


def as_array(value: Any, what: str) -> np.ndarray:
    """`value` as an array of whatever it holds; ``ValueError`` for ragged sequences."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{what} must be a rectangular array of numbers: {error}") from None


def as_mask(value: Any, what: str) -> np.ndarray:
    """`value` as a new array of bool.

    Takes booleans, and numbers all of which are 0 or 1. Raises ``TypeError`` for anything but
    these types, ``ValueError`` for other numbers: they may be lengths, or data.
    """
    array = as_array(value, what)
    hint = "compare with a number first, e.g. mask > 0"
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{what} must hold booleans, got an array of dtype {array.dtype}; {hint}.")
    mask = array.astype(bool)
    if array.dtype != np.bool_ and not np.array_equal(mask, array):
        wrong = array[mask != array].flat[0]
        raise ValueError(f"{what} must hold booleans, or 0 and 1 only, got {wrong}; {hint}.")
    return mask


def as_real_array(value: Any, dtype: Any, what: str) -> np.ndarray:
    """`value` as a C-contiguous, aligned array of the real type `dtype`, copied only where needed.

    Floats are cast. Booleans and integers are converted only when every value is exact in
    `dtype`. Raises ``TypeError`` for objects, strings and complex numbers, ``ValueError`` for
    ragged sequences and inexact integers.
    """
    dtype = np.dtype(dtype)
    if isinstance(value, np.ndarray) and value.dtype == dtype:
        flags = value.flags
        if flags.c_contiguous and flags.aligned:
            return value
    array = as_array(value, what)
    kind = array.dtype.kind
    if kind not in "fiub":
        raise TypeError(f"{what} must hold real numbers, got an array of dtype {array.dtype}.")
    if kind in "iu" and array.size:
        exact = 1 << (np.finfo(dtype).nmant + 1)
        if max(abs(int(array.min())), abs(int(array.max()))) > exact:
            converted = array.astype(dtype)
            if any(int(a) != int(b) for a, b in zip(array.flat, converted.flat, strict=True)):
                raise ValueError(
                    f"{what} holds integers that {dtype} cannot represent exactly; "
                    f"scale them or convert them to floats yourself."
                )
            return np.require(converted, dtype, ["C", "A"])
    if array is not value and array.dtype == dtype:
        return np.require(array, dtype, ["C", "A"])
    with np.errstate(over="ignore"):
        return array.astype(dtype, order="C", subok=False)
