"""Training that survives being interrupted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastlstm import saving
from fastlstm.callbacks.base import Callback, Logs

if TYPE_CHECKING:
    from fastlstm.models.model import Model

__all__ = ["BackupAndRestore"]


class BackupAndRestore(Callback):
    """Resumes a `fit` that was interrupted, by an error or by the end of the process.

    After every epoch the weights, what the optimizer remembers and the states of the random
    generators are saved in a folder. The next `fit` of such a model with the same folder takes
    them up and goes on with the epoch that had not ended, bit for bit as if nothing had happened.
    When training ends the folder is emptied.

    Parameters
    ----------
    backup_dir : str or path
        A folder of this training's own.
    save_freq : "epoch" or int
        When to save: after every epoch, or also after so many batches; the epoch is then done
        again from its first batch.
    delete_checkpoint : bool
        Whether to remove the file when training has ended.

    Raises
    ------
    ValueError
        For another `save_freq`, and at the beginning of `fit` for a backup of another model.
    """

    model: Model

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if save_freq != "epoch" and not (type(save_freq) is int and save_freq > 0):
            raise ValueError(
                f"BackupAndRestore: `save_freq` must be 'epoch' or a positive integer, "
                f"got {save_freq!r}."
            )
        self.path = Path(backup_dir) / "training.safetensors"
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        self._epoch = 0
        self._batches = 0

    def uses(self, hook: str) -> bool:
        """Batches matter only where they are counted."""
        if hook == "on_train_batch_end":
            return self.save_freq != "epoch"
        return super().uses(hook)

    def on_train_begin(self, logs: Logs = None) -> None:
        self._batches = 0
        if self.path.exists():
            notes = saving.restore_training(self.model, self.path)
            if not notes.get("epoch", "").isdecimal():
                raise ValueError(f'BackupAndRestore: "{self.path}" is no backup of a training.')
            self.model._resume_epoch = int(notes["epoch"])

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._batches += 1
        if self._batches == self.save_freq:
            self._batches = 0
            self._save(self._epoch)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._save(epoch + 1)

    def _save(self, epoch: int) -> None:
        saving.save_training(self.model, self.path, {"epoch": str(epoch)})

    def on_train_end(self, logs: Logs = None) -> None:
        if self.delete_checkpoint:
            self.path.unlink(missing_ok=True)
