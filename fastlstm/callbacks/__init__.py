"""What happens around training: Keras 3's callbacks, hooks and arguments."""

from __future__ import annotations

from fastlstm.callbacks.backup import BackupAndRestore
from fastlstm.callbacks.base import Callback, CallbackList, History, LambdaCallback
from fastlstm.callbacks.logs import CSVLogger, ProgbarLogger, TerminateOnNaN
from fastlstm.callbacks.monitors import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from fastlstm.callbacks.scheduler import LearningRateScheduler

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
