"""Gradient descent, with momentum if wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastlstm._core import optimizers as kernels
from fastlstm.optimizers.base import LearningRate, Optimizer

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent.

    ``w -= learning_rate * g``; with momentum ``v = momentum * v - learning_rate * g`` and
    ``w += v``, or with Nesterov's variant ``w += momentum * v - learning_rate * g``.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, or a function without arguments
    momentum : float
        From 0 to 1.
    nesterov : bool
    **common
        See `Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.layers.weight import Weight
    >>> weight = Weight(np.array([1.0, 2.0]), "w")
    >>> optimizer = SGD(learning_rate=0.5)
    >>> optimizer.build([weight])
    >>> optimizer.apply({weight: np.array([1.0, -1.0])})
    >>> weight.value.tolist()
    [0.5, 2.5]
    """

    state_order = (("velocity",),)

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, **common)
        self.momentum = self._number("momentum", momentum, high=1.0)
        self.nesterov = bool(nesterov)

    def slots(self) -> dict[str, float | None]:
        return {"velocity": 0.0 if self.momentum else None}

    def kernel(self) -> Callable[..., None]:
        return kernels.sgd

    def step_numbers(self, learning_rate: float) -> tuple[float, ...]:
        return learning_rate, self.momentum, self.nesterov

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}
