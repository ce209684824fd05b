"""Models: the functional `Model`, and `Sequential`, a stack of layers."""

from fastlstm.models.model import Model
from fastlstm.models.sequential import Sequential
from fastlstm.saving import load_model

__all__ = ["Model", "Sequential", "load_model"]
