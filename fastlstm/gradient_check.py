"""Numerical gradients, to check the ones that were derived by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["gradcheck", "numeric_gradient"]


def numeric_gradient(f: Callable[..., float], x: np.ndarray, *, step: float = 1e-3) -> np.ndarray:
    """The gradient of a scalar function at x by fourth-order central differences.

    For every element, with d a `step` along it::

        df/dx = (8 (f(x + d) - f(x - d)) - (f(x + 2d) - f(x - 2d))) / (12 step) + O(step^4)

    (Abramowitz & Stegun 1964, 25.3.6). In float64 and with values near 1 the result is good to
    about 1e-11.

    Parameters
    ----------
    f : callable
        Takes an array like `x`, returns a number. Called four times for every element.
    x : array of float64, any shape
        Not modified.
    step : float

    Returns
    -------
    Array of the shape of `x`.

    Raises
    ------
    TypeError
        When `x` is not float64: in float32 the differences drown in rounding.

    Examples
    --------
    >>> numeric_gradient(lambda x: float((x**2).sum()), np.array([1.0, -2.0])).round(9)
    array([ 2., -4.])
    """
    x = np.asarray(x)
    if x.dtype != np.float64:
        raise TypeError(f"numeric_gradient: `x` must be float64, got {x.dtype}.")
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):

        def shifted(count: int, index: tuple[int, ...] = index) -> float:
            moved = x.copy()
            moved[index] += count * step
            return float(f(moved))

        near, far = shifted(1) - shifted(-1), shifted(2) - shifted(-2)
        gradient[index] = (8 * near - far) / (12 * step)
    return gradient


def gradcheck(
    f: Callable[..., tuple[float, Any]],
    *x: np.ndarray,
    rtol: float = 5e-6,
    atol: float = 1e-9,
    step: float = 1e-3,
) -> float:
    """Compare the gradients that `f` claims with central differences.

    Parameters
    ----------
    f : callable
        ``f(*x)`` returns ``(value, gradients)``: a number and its gradient by every argument, in
        a tuple, or as a single array for a single argument.
    *x : arrays of float64
        Where to check. Choose values that are random, distinct and away from kinks.
    rtol, atol : float
        An element passes when it differs by at most ``atol + rtol * abs(numeric)``.
    step : float
        Of the differences.

    Returns
    -------
    The largest ``difference / (atol + rtol * abs(numeric))``, at most 1.

    Raises
    ------
    AssertionError
        When a gradient differs; it names the argument and the worst element.
    ValueError
        When a gradient is missing or has another shape than its argument.

    Examples
    --------
    >>> gradcheck(lambda x: (float((x**2).sum()), 2 * x), np.array([1.0, -2.0])) < 1
    True
    >>> gradcheck(lambda x: (float((x**2).sum()), 3 * x), np.array([1.0, -2.0]))
    Traceback (most recent call last):
        ...
    AssertionError: gradient of argument 0 is wrong at (1,): claimed -6, differences give -4.
    """
    claimed = f(*x)[1]
    if isinstance(claimed, np.ndarray):
        claimed = (claimed,)
    if len(claimed) != len(x):
        raise ValueError(f"gradcheck: {len(x)} arguments, but {len(claimed)} gradients.")
    worst = 0.0
    for number, (argument, gradient) in enumerate(zip(x, claimed, strict=True)):
        if np.shape(gradient) != argument.shape:
            raise ValueError(
                f"gradcheck: the gradient of argument {number} must have shape "
                f"{argument.shape}, got {np.shape(gradient)}."
            )

        def value(moved: np.ndarray, number: int = number) -> float:
            return f(*x[:number], moved, *x[number + 1 :])[0]

        numeric = numeric_gradient(value, argument, step=step)
        if not numeric.size:
            continue
        excess = np.abs(gradient - numeric) / (atol + rtol * np.abs(numeric))
        excess = np.where(np.isnan(excess), np.inf, excess)
        index = np.unravel_index(int(excess.argmax()), excess.shape)
        if excess[index] > 1:
            raise AssertionError(
                f"gradient of argument {number} is wrong at {tuple(map(int, index))}: "
                f"claimed {gradient[index]:.6g}, differences give {numeric[index]:.6g}."
            )
        worst = max(worst, float(excess[index]))
    return worst
