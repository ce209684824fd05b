"""Where random numbers come from: one seedable source for the whole process."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["check_seed", "generator", "next_seed", "set_random_seed"]

_SEED_LIMIT = 2**32

# Made when it is first needed: NumPy's part for random numbers takes as long to import as all of
# this package.
_source: np.random.Generator | None = None


def check_seed(seed: Any, who: str) -> int | None:
    """`seed` as an int or None; ``TypeError`` or ``ValueError`` for anything NumPy refuses."""
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"{who}: `seed` must be an integer or None, got {seed!r}.")
    if seed < 0:
        raise ValueError(f"{who}: `seed` must not be negative, got {seed}.")
    return int(seed)


def set_random_seed(seed: int) -> None:
    """Make everything random that follows repeatable.

    Seeds Python's `random`, NumPy's global generator and fastlstm's own source, from which
    initializers, dropout and shuffling take their seeds.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1.

    Examples
    --------
    >>> set_random_seed(7)
    >>> first = next_seed()
    >>> set_random_seed(7)
    >>> next_seed() == first
    True
    """
    global _source
    checked = check_seed(seed, "set_random_seed")
    if checked is None:
        raise TypeError("set_random_seed: `seed` must be an integer, got None.")
    if checked >= _SEED_LIMIT:
        raise ValueError(f"set_random_seed: `seed` must be below {_SEED_LIMIT}, got {seed}.")
    import random

    random.seed(checked)
    np.random.seed(checked)  # noqa: NPY002 - programs may draw from NumPy's global generator
    _source = np.random.default_rng(checked)


def next_seed() -> int:
    """A fresh seed from fastlstm's own source, below 2**32."""
    global _source
    if _source is None:
        _source = np.random.default_rng()
    return int(_source.integers(_SEED_LIMIT))


def generator(seed: int | None = None) -> np.random.Generator:
    """A generator that starts from `seed`, or from `next_seed` if it is None."""
    return np.random.default_rng(next_seed() if seed is None else seed)
