"""Callbacks that tell how training goes."""

from __future__ import annotations

import csv
import math
import os
from typing import Any, TextIO

from fastlstm.callbacks.base import Callback, Logs
from fastlstm.utils.progbar import Progbar, is_terminal

__all__ = ["CSVLogger", "ProgbarLogger", "TerminateOnNaN"]


class ProgbarLogger(Callback):
    """Shows Keras's progress bar, or with ``verbose=2`` a line an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.verbose = 1
        self.epochs = 1
        self.target: int | None = None
        self._seen = 0
        self._in_fit = False
        self._bar: Progbar | None = None

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        verbose = params.get("verbose", 1)
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self.epochs = params.get("epochs", 1)
        self.target = params.get("steps")

    def uses(self, hook: str) -> bool:
        """Batches matter only to a bar that is redrawn, or to count them."""
        if not self.verbose:
            return False
        if "batch" in hook:
            moves = self.verbose == 1 and is_terminal()
            return super().uses(hook) and (moves or self.target is None)
        return super().uses(hook)

    def _begin(self) -> None:
        self._seen = 0
        self._bar = Progbar(self.target, verbose=self.verbose, stateless_metrics=())

    def _step(self, batch: int, logs: Logs) -> None:
        self._seen = batch + 1
        if self._bar is not None:
            self._bar.update(self._seen, (logs or {}).items(), finalize=False)

    def _end(self, logs: Logs) -> None:
        if self._bar is None:
            return
        if self.target is None:
            self.target = self._bar.target = self._seen
        self._bar.update(self.target, (logs or {}).items(), finalize=True)

    def on_train_begin(self, logs: Logs = None) -> None:
        self._in_fit = True

    def on_train_end(self, logs: Logs = None) -> None:
        self._in_fit = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self.epochs > 1:
            print(f"Epoch {epoch + 1}/{self.epochs}", flush=True)
        self._begin()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._end(logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._step(batch, logs)

    def on_test_begin(self, logs: Logs = None) -> None:
        if not self._in_fit:
            self._begin()

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not self._in_fit:
            self._step(batch, logs)

    def on_test_end(self, logs: Logs = None) -> None:
        if not self._in_fit:
            self._end(logs)

    def on_predict_begin(self, logs: Logs = None) -> None:
        self._begin()

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._step(batch, None)

    def on_predict_end(self, logs: Logs = None) -> None:
        self._end(None)


class CSVLogger(Callback):
    """Writes the results of every epoch to a file, one line each.

    Without validation in the first epoch, its columns are there all the same and hold "NA".

    Parameters
    ----------
    filename : str or path
    separator : str
    append : bool
        Go on with a file that is there, without a second header.
    """

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        super().__init__()
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self._file: TextIO | None = None
        self._writer: csv.DictWriter | None = None
        self._names: list[str] = []

    def on_train_begin(self, logs: Logs = None) -> None:
        self._close()
        self._file = open(self.filename, "a" if self.append else "w", newline="")  # noqa: SIM115
        self._writer = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        logs = logs or {}
        if self._file is None:
            return
        if self._writer is None:
            self._writer = self._begin_table(self._file, sorted(logs))
        self._writer.writerow(
            {"epoch": epoch, **{name: logs.get(name, "NA") for name in self._names}}
        )
        self._file.flush()

    def _begin_table(self, file: TextIO, names: list[str]) -> csv.DictWriter:
        if not any(name.startswith("val_") for name in names):
            names = names + [f"val_{name}" for name in names]
        self._names = names
        writer = csv.DictWriter(
            file, ["epoch", *names], delimiter=self.separator, lineterminator="\n"
        )
        if file.tell() == 0:
            writer.writeheader()
        return writer

    def on_train_end(self, logs: Logs = None) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._writer = None


class TerminateOnNaN(Callback):
    """Stops training at the first loss that is NaN or infinite.

    Parameters
    ----------
    raise_error : bool
        Raise ``RuntimeError`` instead.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"The loss of batch {batch} is {loss}; training is terminated.")
        print(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True
