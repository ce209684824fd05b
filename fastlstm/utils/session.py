"""What a process remembers between models."""

from __future__ import annotations

from fastlstm.layers.base import reset_names

__all__ = ["clear_session"]


def clear_session() -> None:
    """Forget the automatic layer names given so far: the next LSTM is ``lstm_1`` again."""
    reset_names()
