"""Models compiled for one use: what `fit`, `evaluate`, `predict` and streams run."""

from fastlstm.program.program import Program
from fastlstm.program.stream import Stream, stream_of

__all__ = ["Program", "Stream", "stream_of"]
