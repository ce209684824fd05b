"""Models of other libraries, from their files and into them, and for programs in C.

Each library needs its file format, an extra of its own: ``keras`` (h5py), ``torch``, ``onnx``.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "from_keras",
    "from_onnx",
    "from_torch",
    "load_keras_weights",
    "to_c",
    "to_keras",
    "to_onnx",
    "to_torch",
]

# What is imported when it is first asked for.
_HOMES = {
    "from_keras": "keras_reading",
    "load_keras_weights": "keras_reading",
    "to_keras": "keras_writing",
    "from_torch": "torch",
    "to_torch": "torch",
    "from_onnx": "onnx",
    "to_onnx": "onnx",
    "to_c": "c",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
