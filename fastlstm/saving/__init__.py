"""Models in files, and back."""

from fastlstm.saving.model_file import (
    load_model,
    load_weights,
    restore_training,
    save_model,
    save_training,
    save_weights,
)

__all__ = [
    "load_model",
    "load_weights",
    "restore_training",
    "save_model",
    "save_training",
    "save_weights",
]
