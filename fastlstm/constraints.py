"""What weights are brought back to after every update.

A norm is taken over `axis`: with the default of 0, over the inputs of each unit of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastlstm._registry import Registry

__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "unit_norm",
]

# Keeps a weight of norm 0 from being divided by 0; Keras's value.
_EPSILON = 1e-7

Axis = int | Sequence[int]


class Constraint:
    """The base of all constraints. Subclass it with `__call__`."""

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """What `w` becomes: an array of the same shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`.")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constraint:
        """The constraint that `get_config` describes."""
        return cls(**config)


class NonNeg(Constraint):
    """Negative values become 0.

    Examples
    --------
    >>> import numpy as np
    >>> NonNeg()(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __call__(self, w: np.ndarray) -> np.ndarray:
        return np.maximum(w, 0)


class MinMaxNorm(Constraint):
    """Brings norms towards [min_value, max_value].

    Parameters
    ----------
    min_value, max_value : float
    rate : float
        1 brings a norm all the way in one update, less only a part of the way.
    axis : int or sequence of int

    Examples
    --------
    >>> import numpy as np
    >>> MinMaxNorm(max_value=1.0)(np.array([3.0, 4.0])).round(4).tolist()
    [0.6, 0.8]
    """

    def __init__(
        self,
        min_value: float = 0.0,
        max_value: float = 1.0,
        rate: float = 1.0,
        axis: Axis = 0,
    ) -> None:
        self.min_value = min_value
        self.max_value = max_value
        self.rate = rate
        self.axis = axis

    def __call__(self, w: np.ndarray) -> np.ndarray:
        axis = self.axis if isinstance(self.axis, int) else tuple(self.axis)
        norms = np.sqrt(np.square(w).sum(axis=axis, keepdims=True))
        wanted = np.clip(norms, self.min_value, self.max_value)
        if self.rate != 1:
            wanted = self.rate * wanted + (1 - self.rate) * norms
        return w * (wanted / (_EPSILON + norms))

    def get_config(self) -> dict[str, Any]:
        return {
            "min_value": self.min_value,
            "max_value": self.max_value,
            "rate": self.rate,
            "axis": self.axis,
        }


class MaxNorm(MinMaxNorm):
    """Norms above `max_value` are brought down to it.

    Examples
    --------
    >>> import numpy as np
    >>> MaxNorm(5.0)(np.array([6.0, 8.0])).round(4).tolist()
    [3.0, 4.0]
    """

    def __init__(self, max_value: float = 2, axis: Axis = 0) -> None:
        super().__init__(0.0, max_value, axis=axis)

    def get_config(self) -> dict[str, Any]:
        return {"max_value": self.max_value, "axis": self.axis}


class UnitNorm(MinMaxNorm):
    """Norms become 1.

    Examples
    --------
    >>> import numpy as np
    >>> UnitNorm()(np.array([3.0, 4.0])).round(4).tolist()
    [0.6, 0.8]
    """

    def __init__(self, axis: Axis = 0) -> None:
        super().__init__(1.0, 1.0, axis=axis)

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}


max_norm = MaxNorm
min_max_norm = MinMaxNorm
non_neg = NonNeg
unit_norm = UnitNorm

_REGISTRY: Registry[Constraint] = Registry(
    "constraint", Constraint, [MaxNorm, MinMaxNorm, NonNeg, UnitNorm]
)


def get(identifier: Any) -> Callable[[np.ndarray], np.ndarray] | None:
    """The constraint that `identifier` stands for; None stays None.

    Parameters
    ----------
    identifier : None, str, Constraint, its class, a dict saved by Keras, or a function of an
        array that returns an array.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else.

    Examples
    --------
    >>> get("max_norm").get_config()
    {'max_value': 2, 'axis': 0}
    """
    if identifier is None:
        return None
    if callable(identifier) and not isinstance(identifier, type):
        return identifier
    return _REGISTRY.get(identifier)
