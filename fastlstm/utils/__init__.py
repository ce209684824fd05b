"""Small helpers, by Keras's names."""

from __future__ import annotations

from fastlstm.random import set_random_seed
from fastlstm.utils.arrays import pad_sequences, to_categorical
from fastlstm.utils.progbar import Progbar
from fastlstm.utils.session import clear_session

__all__ = ["Progbar", "clear_session", "pad_sequences", "set_random_seed", "to_categorical"]
