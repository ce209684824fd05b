"""Callbacks that watch one of the results of an epoch."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastlstm import metrics
from fastlstm._numbers import real_number
from fastlstm.callbacks.base import Callback, Logs
from fastlstm.errors import one_of
from fastlstm.saving.model_file import require_suffix

__all__ = ["EarlyStopping", "ModelCheckpoint", "MonitorCallback", "ReduceLROnPlateau"]

_MODES = ("auto", "min", "max")


class MonitorCallback(Callback):
    """The base of callbacks that watch one result; NaN is never an improvement.

    Parameters
    ----------
    monitor : str
        The name of a result, such as "val_loss".
    mode : "auto", "min" or "max"
        Whether less or more is better; "auto" knows it for losses and for fastlstm's metrics.
    baseline : float, optional
        What the first result must be better than.
    min_delta : float
        By how much a result must be better to count.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "auto",
        baseline: float | None = None,
        min_delta: float = 0.0,
    ) -> None:
        super().__init__()
        if mode not in _MODES:
            raise one_of(f"{type(self).__name__}: `mode`", mode, _MODES)
        self.monitor = monitor
        self.mode = mode
        self.best = baseline
        self.min_delta = abs(real_number(f"{type(self).__name__}: `min_delta`", min_delta))

    def is_improvement(self, value: float, reference: float | None) -> bool:
        """Whether `value` is better than `reference`: any number is than None, and NaN never."""
        if math.isnan(value):
            return False
        if reference is None:
            return True
        if self._more_is_better():
            return value - self.min_delta > reference
        return value + self.min_delta < reference

    def _more_is_better(self) -> bool:
        if self.mode == "auto":
            self.mode = "max" if self._direction() == "up" else "min"
        return self.mode == "max"

    def _direction(self) -> str:
        name = self.monitor.removeprefix("val_")
        objective = getattr(self.model, "_objective", None)
        known = None if objective is None else objective.direction_of(name)
        if known is not None:
            return known
        # With several outputs, names begin with that of the output: "dense_2_loss".
        words = name.split("_")
        for start in range(len(words)):
            tail = "_".join(words[start:])
            direction = "down" if tail == "loss" else metrics.direction_of(tail)
            if direction is not None:
                return direction
        raise ValueError(
            f"{type(self).__name__}: nobody knows whether more or less of {self.monitor!r} is "
            f"better; give mode='max' or mode='min'."
        )

    def _value(self, logs: Logs) -> float | None:
        value = (logs or {}).get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__} watches {self.monitor!r}, which is not among the results "
                f"{', '.join(logs or ())}.",
                stacklevel=3,
            )
        return value


class EarlyStopping(MonitorCallback):
    """Stops training when a result has not become better for a while.

    Parameters
    ----------
    monitor, min_delta, mode
        See `MonitorCallback`.
    patience : int
        The number of epochs without improvement after which training stops.
    verbose : int
        1 to print when it does.
    baseline : float, optional
        Stop if no result gets better than this.
    restore_best_weights : bool
        Give the model the weights of its best epoch in the end.
    start_from_epoch : int
        The first epoch to watch.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        value = self._value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        first = self.restore_best_weights and self.best_weights is None
        better = self.is_improvement(value, self.best)
        if better:
            self.best = value
        if better or first:
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
        if better:
            if self.baseline is None or self.is_improvement(value, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring model weights from the best epoch: {self.best_epoch + 1}.")
            for weight, value in zip(self.model.weights, self.best_weights, strict=True):
                weight.restore(value)


class ReduceLROnPlateau(MonitorCallback):
    """Lowers the learning rate when a result has not become better for a while.

    Also adds the learning rate to the logs.

    Parameters
    ----------
    monitor, mode, min_delta
        See `MonitorCallback`.
    factor : float
        What the learning rate is multiplied by, below 1.
    patience : int
        The number of epochs without improvement after which that happens.
    verbose : int
        1 to print it.
    cooldown : int
        The number of epochs to wait afterwards before watching again.
    min_lr : float
        The least learning rate.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta=min_delta)
        self.factor = real_number("ReduceLROnPlateau: `factor`", factor, low=0.0)
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: `factor` must be below 1, got {factor}.")
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = real_number("ReduceLROnPlateau: `min_lr`", min_lr, low=0.0)
        self._reset()

    def _reset(self) -> None:
        self.best = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate
        value = self._value(logs)
        if value is None:
            return
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_improvement(value, self.best):
            self.best = value
            self.wait = 0
        elif not self.cooldown_counter:
            self.wait += 1
            if self.wait >= self.patience and self._reduce(epoch):
                self.cooldown_counter = self.cooldown
                self.wait = 0

    def _reduce(self, epoch: int) -> bool:
        optimizer = self.model.optimizer
        old = optimizer.learning_rate
        if old <= self.min_lr:
            return False
        optimizer.learning_rate = max(old * self.factor, self.min_lr)
        if self.verbose:
            print(
                f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to "
                f"{optimizer.learning_rate}."
            )
        return True


class ModelCheckpoint(MonitorCallback):
    """Saves the model as training goes on, each time as `Model.save` does: whole or not at all.

    Parameters
    ----------
    filepath : str, path or None
        Must end in ``.safetensors``. May name ``{epoch}``, counted from 1, ``{batch}`` and results
        such as ``{val_loss:.3f}``. With None nothing is written and the weights are kept as
        `best_weights`.
    monitor, mode
        See `MonitorCallback`.
    verbose : int
        1 to print what is saved.
    save_best_only : bool
        Save only when the result is the best so far.
    save_weights_only : bool
        Save the weights, for `Model.load_weights`, instead of the model with its optimizer.
    save_freq : "epoch" or int
        When to save: after every epoch, or after so many batches.
    initial_value_threshold : float, optional
        What the first result must be better than.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str] | None = None,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, initial_value_threshold)
        valid = save_freq == "epoch" or (type(save_freq) is int and save_freq > 0)
        if not valid:
            raise ValueError(
                f"ModelCheckpoint: `save_freq` must be 'epoch' or a positive integer, "
                f"got {save_freq!r}."
            )
        self.filepath = None if filepath is None else os.fspath(filepath)
        if self.filepath is not None:
            require_suffix("ModelCheckpoint", self.filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.best_weights: list[np.ndarray] | None = None
        self._epoch = 0
        self._batches = 0

    def uses(self, hook: str) -> bool:
        """Batches matter only where they are counted."""
        if hook == "on_train_batch_end":
            return self.save_freq != "epoch"
        return super().uses(hook)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._batches += 1
        if self._batches == self.save_freq:
            self._batches = 0
            self._save_if_due(self._epoch, batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self.save_freq == "epoch":
            self._save_if_due(epoch, None, logs)

    def _save_if_due(self, epoch: int, batch: int | None, logs: Logs) -> None:
        if self.save_best_only:
            value = self._value(logs)
            if value is not None and not self.is_improvement(value, self.best):
                return
            self.best = self.best if value is None else value
        if self.filepath is None:
            self.best_weights = self.model.get_weights()
            return
        path = self._path(epoch, batch, logs or {})
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: saving model to {path}")
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path, include_optimizer=True)

    def _path(self, epoch: int, batch: int | None, logs: dict[str, Any]) -> Path:
        known = {"epoch": epoch + 1, **({} if batch is None else {"batch": batch + 1}), **logs}
        try:
            return Path(str(self.filepath).format(**known))
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint: `filepath` names {error}, but there are only {', '.join(known)}."
            ) from None
