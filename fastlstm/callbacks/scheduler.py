"""The learning rate as a function of the epoch."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from fastlstm._numbers import real_number
from fastlstm.callbacks.base import Callback, Logs

__all__ = ["LearningRateScheduler"]


class LearningRateScheduler(Callback):
    """Sets the learning rate at the start of every epoch, and adds it to the logs.

    Parameters
    ----------
    schedule : function of (epoch) or (epoch, learning_rate)
        Returns the new learning rate; epochs count from 0.
    verbose : int
        1 to print it.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(
                f"LearningRateScheduler: `schedule` must be a function, got {schedule!r}."
            )
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _takes_two(schedule)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        optimizer = self.model.optimizer
        arguments = (epoch, optimizer.learning_rate) if self._takes_rate else (epoch,)
        rate = self.schedule(*arguments)
        optimizer.learning_rate = real_number(
            "LearningRateScheduler: what `schedule` returns", rate, low=0.0
        )
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


def _takes_two(function: Callable[..., float]) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:
        # A function in C may not tell its signature.
        return True
    return True
