"""Adam and its variants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastlstm._core import optimizers as kernels
from fastlstm.optimizers.base import LearningRate, Optimizer

__all__ = ["Adam", "AdamW", "Nadam"]


class _Moments(Optimizer):
    """The arguments that Adam and Nadam share."""

    def __init__(
        self,
        learning_rate: LearningRate,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, **common)
        self.beta_1 = self._decay_rate("beta_1", beta_1)
        self.beta_2 = self._decay_rate("beta_2", beta_2)
        self.epsilon = self._number("epsilon", epsilon)

    def _decay_rate(self, name: str, value: Any) -> float:
        rate = self._number(name, value, high=1.0)
        if rate == 1:
            raise ValueError(f"{type(self).__name__}: `{name}` must be less than 1, got {value}.")
        return rate

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


class Adam(_Moments):
    """Adam. Kingma and Ba, 2015, in the form before their section 2.1: epsilon is not scaled.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, or a function without arguments
    beta_1, beta_2 : float
        The decays of the running means of the gradient and of its square, below 1.
    epsilon : float
        Added to the root.
    amsgrad : bool
        Divide by the root of the largest mean square so far. Reddi et al., 2018.
    **common
        See `Optimizer`.

    Examples
    --------
    >>> Adam(learning_rate=0.01).learning_rate
    0.01
    """

    state_order = (("mean", "mean_square"), ("largest",))

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **common)
        self.amsgrad = bool(amsgrad)

    def slots(self) -> dict[str, float | None]:
        return {"mean": 0.0, "mean_square": 0.0, "largest": 0.0 if self.amsgrad else None}

    def kernel(self) -> Callable[..., None]:
        return kernels.adam

    def step_numbers(self, learning_rate: float) -> tuple[float, ...]:
        t = self.iterations + 1
        step_size = learning_rate * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return step_size, self.beta_1, self.beta_2, self.epsilon

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "amsgrad": self.amsgrad}


class AdamW(Adam):
    """Adam with weight decay by default. Loshchilov and Hutter, 2019.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, or a function without arguments
    weight_decay : float
    beta_1, beta_2, epsilon, amsgrad
        See `Adam`.
    **common
        See `Optimizer`.

    Examples
    --------
    >>> AdamW().weight_decay
    0.004
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **common: Any,
    ) -> None:
        if weight_decay is None:
            raise ValueError("AdamW: `weight_decay` must be a number, got None; use Adam instead.")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **common
        )


class Nadam(_Moments):
    """Adam with Nesterov's momentum. Dozat, 2016.

    The momentum of update t is ``beta_1 * (1 - 0.5 * 0.96 ** t)``.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, or a function without arguments
    beta_1, beta_2, epsilon
        See `Adam`.
    **common
        See `Optimizer`.

    Examples
    --------
    >>> Nadam().beta_2
    0.999
    """

    state_order = (("mean", "mean_square"),)
    state_numbers = ("momentum_product",)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **common: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **common)
        self.momentum_product = 1.0

    def slots(self) -> dict[str, float | None]:
        return {"mean": 0.0, "mean_square": 0.0}

    def kernel(self) -> Callable[..., None]:
        return kernels.nadam

    def _momentum(self, t: int) -> float:
        return self.beta_1 * (1.0 - 0.5 * 0.96**t)

    def step_numbers(self, learning_rate: float) -> tuple[float, ...]:
        t = self.iterations + 1
        momentum, next_momentum = self._momentum(t), self._momentum(t + 1)
        product = self.momentum_product * momentum
        mean_factor = next_momentum / (1 - product * next_momentum)
        gradient_factor = (1 - momentum) / (1 - product)
        square_factor = 1 / (1 - self.beta_2**t)
        return (
            learning_rate,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            mean_factor,
            gradient_factor,
            square_factor,
        )

    def count_update(self) -> None:
        self.momentum_product *= self._momentum(self.iterations + 1)
        super().count_update()
