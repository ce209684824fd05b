"""RMSprop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastlstm._core import optimizers as kernels
from fastlstm.optimizers.base import LearningRate, Optimizer

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Divides a gradient by the root of the running mean of its square. Tieleman and Hinton, 2012.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, or a function without arguments
    rho : float
        The decay of the running mean, from 0 to 1.
    momentum : float
        From 0 to 1.
    epsilon : float
        Added under the root.
    centered : bool
        Subtract the square of the running mean of the gradient: an estimate of its variance.
    **common
        See `Optimizer`.

    Examples
    --------
    >>> RMSprop(learning_rate=0.01, centered=True).get_config()["rho"]
    0.9
    """

    state_order = (("mean_square",), ("velocity",), ("mean",))

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, **common)
        self.rho = self._number("rho", rho, high=1.0)
        self.momentum = self._number("momentum", momentum, high=1.0)
        self.epsilon = self._number("epsilon", epsilon)
        self.centered = bool(centered)

    def slots(self) -> dict[str, float | None]:
        return {
            "mean_square": 0.0,
            "velocity": 0.0 if self.momentum else None,
            "mean": 0.0 if self.centered else None,
        }

    def kernel(self) -> Callable[..., None]:
        return kernels.rmsprop

    def step_numbers(self, learning_rate: float) -> tuple[float, ...]:
        return learning_rate, self.rho, self.momentum, self.epsilon

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }
