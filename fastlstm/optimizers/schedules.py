"""Learning rates that change with the number of updates done so far."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from fastlstm._numbers import real_number
from fastlstm._registry import Registry

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "get",
]


class LearningRateSchedule:
    """The base of all schedules. Subclass it with `__call__`."""

    def __call__(self, step: int) -> float:
        """The learning rate of the update that follows `step` others."""
        raise NotImplementedError(f"{type(self).__name__} must implement `__call__`.")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """The schedule that `get_config` describes."""
        return cls(**config)


def _steps(schedule: LearningRateSchedule, name: str, value: Any, low: int) -> float:
    return real_number(f"{type(schedule).__name__}: `{name}`", value, low=low)


class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``.

    Parameters
    ----------
    initial_learning_rate, decay_rate : float
    decay_steps : int
        At least 1.
    staircase : bool
        Round ``step / decay_steps`` down.

    Examples
    --------
    >>> schedule = ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    >>> schedule(0), schedule(10), schedule(20)
    (0.1, 0.05, 0.025)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        _steps(self, "decay_steps", decay_steps, low=1)
        self.initial_learning_rate = real_number(
            "ExponentialDecay: `initial_learning_rate`", initial_learning_rate, low=0.0
        )
        self.decay_steps = decay_steps
        self.decay_rate = real_number("ExponentialDecay: `decay_rate`", decay_rate, low=0.0)
        self.staircase = staircase
        self.name = name

    def __call__(self, step: int) -> float:
        power = step / self.decay_steps
        if self.staircase:
            power = math.floor(power)
        return self.initial_learning_rate * self.decay_rate**power

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class CosineDecay(LearningRateSchedule):
    """Half a cosine wave down to ``alpha`` times the start, after a straight warm-up if wanted.

    Loshchilov and Hutter, 2017, without restarts.

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int
        The length of the wave; the rate stays at its end afterwards.
    alpha : float
        The last rate as a fraction of the highest.
    warmup_target : float, optional
        If given, the rate first goes from `initial_learning_rate` to it in `warmup_steps`, and the
        wave starts there.
    warmup_steps : int

    Examples
    --------
    >>> schedule = CosineDecay(0.1, decay_steps=10)
    >>> schedule(0), round(schedule(5), 9), schedule(10)
    (0.1, 0.05, 0.0)
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        _steps(self, "decay_steps", decay_steps, low=1)
        _steps(self, "warmup_steps", warmup_steps, low=0)
        self.initial_learning_rate = real_number(
            "CosineDecay: `initial_learning_rate`", initial_learning_rate, low=0.0
        )
        self.decay_steps = decay_steps
        self.alpha = real_number("CosineDecay: `alpha`", alpha, low=0.0)
        self.name = name
        self.warmup_target = (
            None
            if warmup_target is None
            else real_number("CosineDecay: `warmup_target`", warmup_target, low=0.0)
        )
        self.warmup_steps = warmup_steps

    def __call__(self, step: int) -> float:
        if self.warmup_target is None:
            return self._decayed(self.initial_learning_rate, step)
        if step < self.warmup_steps:
            rise = self.warmup_target - self.initial_learning_rate
            return self.initial_learning_rate + rise * step / self.warmup_steps
        return self._decayed(self.warmup_target, step - self.warmup_steps)

    def _decayed(self, highest: float, step: int) -> float:
        done = min(step / self.decay_steps, 1.0)
        wave = 0.5 * (1.0 + math.cos(math.pi * done))
        return highest * ((1 - self.alpha) * wave + self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[k]`` up to and including step ``boundaries[k]``, the last value after that.

    Parameters
    ----------
    boundaries : sequence of int
        Ascending.
    values : sequence of float
        One more than `boundaries`.

    Examples
    --------
    >>> schedule = PiecewiseConstantDecay([10, 20], [0.1, 0.05, 0.01])
    >>> schedule(10), schedule(11), schedule(21)
    (0.1, 0.05, 0.01)
    """

    def __init__(
        self,
        boundaries: Sequence[int],
        values: Sequence[float],
        name: str = "PiecewiseConstant",
    ) -> None:
        self.boundaries = list(boundaries)
        self.values = [
            real_number("PiecewiseConstantDecay: every entry of `values`", value, low=0.0)
            for value in values
        ]
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError(
                f"PiecewiseConstantDecay: `values` must have one entry more than `boundaries`, "
                f"got {len(self.values)} values for {len(self.boundaries)} boundaries."
            )
        if self.boundaries != sorted(self.boundaries):
            raise ValueError(
                f"PiecewiseConstantDecay: `boundaries` must ascend, got {self.boundaries}."
            )
        self.name = name

    def __call__(self, step: int) -> float:
        return self.values[bisect_left(self.boundaries, step)]

    def get_config(self) -> dict[str, Any]:
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


_REGISTRY: Registry[LearningRateSchedule] = Registry(
    "learning rate schedule",
    LearningRateSchedule,
    [CosineDecay, ExponentialDecay, PiecewiseConstantDecay],
)


def get(identifier: Any) -> LearningRateSchedule:
    """The schedule that `identifier`, an object or a dict saved by Keras, stands for.

    Raises ``ValueError`` for an unknown class name, ``TypeError`` for anything else.
    """
    return _REGISTRY.get(identifier)
