"""Small helpers, by Keras's names."""

from __future__ import annotations

from typing import Any

from fastlstm.random import set_random_seed
from fastlstm.utils.arrays import pad_sequences, to_categorical
from fastlstm.utils.progbar import Progbar
from fastlstm.utils.session import clear_session

__all__ = [
    "Progbar",
    "clear_session",
    "pad_sequences",
    "plot_model",
    "set_random_seed",
    "to_categorical",
]


def plot_model(*arguments: Any, **keywords: Any) -> Any:
    """`fastlstm.plots.plot_model`, where Keras has it."""
    from fastlstm import plots

    return plots.plot_model(*arguments, **keywords)
