"""Checks of the arrays that come in at the door of the core."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm.errors import as_mask, as_real_array

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
# BLAS takes the distance between two rows as a 32-bit int.
LARGEST_STRIDE = 2**31 - 1


def real_dtype_of(weights: Any, what: str) -> np.dtype:
    """The real type of a weight array, which is the type that everything is computed in."""
    dtype = getattr(weights, "dtype", None)
    if dtype is None:
        raise TypeError(f"{what} must be a NumPy array of float32 or float64, got {weights!r}.")
    if dtype != FLOAT32 and dtype != FLOAT64:
        raise TypeError(f"{what} must be of dtype float32 or float64, got {dtype}.")
    return np.dtype(dtype)


def real_array(value: Any, what: str) -> np.ndarray:
    """`value` as a C-contiguous array of its own real type, or of float64 when it has none."""
    dtype = getattr(value, "dtype", None)
    return as_real_array(value, dtype if dtype == FLOAT32 else FLOAT64, what)


def array_of_shape(
    value: Any, dtype: np.dtype, shape: tuple[int, ...], what: str, symbols: str
) -> np.ndarray:
    """`value` as a C-contiguous array of `dtype` that has the `shape` (`symbols` in letters)."""
    array = as_real_array(value, dtype, what)
    if array.shape != shape:
        raise ValueError(f"{what} must have shape {symbols} = {shape}, got {array.shape}.")
    return array


def array_of_rank(value: Any, dtype: np.dtype, rank: int, what: str, symbols: str) -> np.ndarray:
    """`value` as a C-contiguous array of `dtype` with `rank` dimensions."""
    array = as_real_array(value, dtype, what)
    if array.ndim != rank:
        raise ValueError(f"{what} must have shape {symbols}, got {array.shape}.")
    return array


def resized(who: str) -> ValueError:
    """The error for an array that is no longer as it was when a plan or a cache took it."""
    return ValueError(f"{who}: the arrays of an earlier call have been resized since; start anew.")


def mask_in_step_order(
    mask: Any, shape: tuple[int, int], go_backwards: bool, what: str
) -> np.ndarray:
    """`mask` (B, T) as new bytes of 0 and 1, in the order in which the steps are done."""
    array = as_mask(mask, what)
    if array.shape != shape:
        raise ValueError(f"{what} must have shape (B, T) = {shape}, got {array.shape}.")
    if go_backwards:
        array = array[:, ::-1]
    return np.ascontiguousarray(array).view(np.uint8)


def check_strides(batch: int, steps: int, width: int, what: str) -> None:
    """Refuse sequences whose rows lie too far apart for BLAS."""
    if batch > 1 and steps * width > LARGEST_STRIDE:
        raise ValueError(
            f"{what}: T * max(F, 4*H) = {steps * width} exceeds {LARGEST_STRIDE}; "
            f"run the sequence in parts and carry the states over."
        )


def array_for_step(value: Any, dtype: np.dtype, what: str) -> np.ndarray:
    """`value` as an array of `dtype` in C order, converted if that loses nothing of its meaning."""
    if dtype in (FLOAT32, FLOAT64):
        return np.require(as_real_array(value, dtype, what), requirements=["C", "A"])
    array = np.asarray(value)
    kinds = "b" if dtype.kind == "b" else "iu"
    if array.dtype.kind not in kinds:
        raise TypeError(f"{what} must hold {dtype}, got an array of dtype {array.dtype}.")
    return np.require(array.astype(dtype), requirements=["C", "A"])


def described(value: Any) -> str:
    """What an argument is, for messages."""
    if isinstance(value, np.ndarray):
        order = "" if value.flags.c_contiguous else ", not in C order"
        writeable = "" if value.flags.writeable else ", read-only"
        return f"one of shape {value.shape} and type {value.dtype}{order}{writeable}"
    return type(value).__name__
