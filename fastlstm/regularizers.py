"""Penalties on the size of weights, added to the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm._numbers import real_number
from fastlstm._registry import Registry

__all__ = ["L1", "L1L2", "L2", "Regularizer", "get", "l1", "l1_l2", "l2"]


class Regularizer:
    """The base of all regularizers. Subclass it with `__call__` and `gradient`."""

    def __call__(self, w: np.ndarray) -> float:
        """The penalty for the weight `w`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`.")

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """The derivative of the penalty with respect to every element of `w`."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `gradient` to be trained with."
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """The regularizer that `get_config` describes."""
        return cls(**config)


def _factor(value: Any, what: str, default: float) -> float:
    return default if value is None else real_number(what, value, low=0.0)


class L1L2(Regularizer):
    """``l1 * sum(abs(w)) + l2 * sum(w ** 2)``.

    Examples
    --------
    >>> import numpy as np
    >>> L1L2(l1=1.0, l2=10.0)(np.array([-1.0, 2.0]))
    53.0
    """

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0) -> None:
        self.l1 = _factor(l1, f"{type(self).__name__}: `l1`", 0.0)
        self.l2 = _factor(l2, f"{type(self).__name__}: `l2`", 0.0)

    def __call__(self, w: np.ndarray) -> float:
        penalty = 0.0
        if self.l1:
            penalty += self.l1 * float(np.abs(w).sum())
        if self.l2:
            penalty += self.l2 * float(np.square(w).sum())
        return penalty

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """``l1 * sign(w) + 2 * l2 * w``, the derivative at 0 being 0; shape and dtype of `w`."""
        if not self.l1:
            return w * (2 * self.l2)
        return np.sign(w) * self.l1 + w * (2 * self.l2)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2}


class L1(L1L2):
    """``l1 * sum(abs(w))``.

    Examples
    --------
    >>> import numpy as np
    >>> L1(0.5)(np.array([-1.0, 2.0]))
    1.5
    """

    def __init__(self, l1: float | None = 0.01) -> None:
        super().__init__(l1=0.01 if l1 is None else l1)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1}


class L2(L1L2):
    """``l2 * sum(w ** 2)``.

    Examples
    --------
    >>> import numpy as np
    >>> L2(0.5)(np.array([-1.0, 2.0]))
    2.5
    """

    def __init__(self, l2: float | None = 0.01) -> None:
        super().__init__(l2=0.01 if l2 is None else l2)

    def get_config(self) -> dict[str, Any]:
        return {"l2": self.l2}


l1 = L1
l2 = L2
l1_l2 = L1L2

_REGISTRY: Registry[Regularizer] = Registry(
    "regularizer", Regularizer, [L1, L2, L1L2], {"l1_l2": L1L2, "l1l2": L1L2}
)


def get(identifier: Any) -> Regularizer | None:
    """The regularizer that `identifier` stands for; None stays None.

    Parameters
    ----------
    identifier : None, str, Regularizer, its class, or a dict saved by Keras.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else; a plain function among it, since it has no gradient.

    Examples
    --------
    >>> get("l2").get_config()
    {'l2': 0.01}
    """
    return None if identifier is None else _REGISTRY.get(identifier)
