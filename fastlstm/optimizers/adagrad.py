"""Adagrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastlstm._core import optimizers as kernels
from fastlstm.optimizers.base import LearningRate, Optimizer

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Divides a gradient by the root of the sum of its squares so far. Duchi et al., 2011.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, or a function without arguments
    initial_accumulator_value : float
        What the sum starts from.
    epsilon : float
        Added under the root.
    **common
        See `Optimizer`.

    Examples
    --------
    >>> Adagrad().initial_accumulator_value
    0.1
    """

    state_order = (("square_sum",),)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, **common)
        self.initial_accumulator_value = self._number(
            "initial_accumulator_value", initial_accumulator_value
        )
        self.epsilon = self._number("epsilon", epsilon)

    def slots(self) -> dict[str, float | None]:
        return {"square_sum": self.initial_accumulator_value}

    def kernel(self) -> Callable[..., None]:
        return kernels.adagrad

    def step_numbers(self, learning_rate: float) -> tuple[float, ...]:
        return learning_rate, self.epsilon

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }
