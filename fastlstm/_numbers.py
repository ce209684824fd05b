"""Checks of single numbers given as arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["real_number"]


def real_number(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a finite float from `low` to `high`.

    Raises ``TypeError`` for what is no real number, ``ValueError`` outside the range.
    """
    zero_dimensional = isinstance(value, np.ndarray) and value.ndim == 0
    if isinstance(value, bool) or not (
        isinstance(value, int | float | np.integer | np.floating) or zero_dimensional
    ):
        raise TypeError(f"{what} must be a number, got {value!r}.")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} must be finite, got {number}.")
    if not low <= number <= high:
        bounds = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise ValueError(f"{what} must be {bounds}, got {number:g}.")
    return number
