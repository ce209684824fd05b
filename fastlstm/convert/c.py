"""Models for C programs: one flat file, or the same bytes as a C header."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastlstm._version import __version__
from fastlstm.layers import LSTM, Activation, Dense, Dropout, Layer, TimeDistributed, Weight
from fastlstm.models import Model, Sequential
from fastlstm.saving.safetensors import atomic_writer

__all__ = ["to_c"]

# The format, see csrc/model/flat.h: a header, a record for each layer, the weights.
_VERSION = 1
_RECORD = 64
_HEADER = struct.Struct(f"<8s4I{_RECORD - 24}x")
_LAYER = struct.Struct(f"<4I16s16s{_RECORD - 48}x")
_LSTM, _DENSE, _ACTIVATION = 1, 2, 3
# What csrc/model/flat.c takes for damage.
_MOST_SIZE, _MOST_LAYERS = 1 << 24, 1 << 16

_FILE, _C_HEADER = ".fastlstm", ".h"
# Headers that a program would no longer find behind one of the same name: ours, and those of C23.
_TAKEN = (
    "fastlstm assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp "
    "signal stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib "
    "stdnoreturn string tgmath threads time uchar wchar wctype"
)


class _Record(NamedTuple):
    """A layer of the flat file. Several layers of the model may have one weight."""

    kind: int
    units: int
    activation: str
    recurrent_activation: str
    has_bias: bool
    weights: Sequence[np.ndarray]


def to_c(model: Model, path: str | bytes | os.PathLike[str]) -> None:
    """Write a built Sequential for C and C++ programs, which run it without Python, step by step.

    A `path` that ends in ``.h`` becomes a C header: ``amp.h`` defines the array ``amp_model``. One
    that ends in ``.fastlstm`` becomes a file of the same bytes, to be read at run time. What a
    program does with them is in ``fastlstm.h``, in the folder `fastlstm.get_include`, and in
    ``docs/c_programs.md``.

    The model is a stack of LSTM, Dense, TimeDistributed(Dense), Activation and Dropout, which does
    nothing there, on inputs (B, T, F) or (B, F), all in float32 or all in float64. A step returns
    what the last layer returns after it. States begin with zero, those of a stateful layer too.

    Raises
    ------
    ValueError
        For a `path` with another ending, for a header that is named like one of C, such as
        ``math.h``, or as no array could be, for a model that is not built, and for layers and
        options that a step in C does not have, all of them at once, by name.
    OSError
        For a file that cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import fastlstm
    >>> from fastlstm.layers import LSTM, Dense
    >>> model = fastlstm.Sequential([LSTM(8, input_shape=(None, 1)), Dense(1)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_c(model, f"{folder}/amp.fastlstm")
    ...     Path(f"{folder}/amp.fastlstm").stat().st_size
    1600
    """
    name = _checked_name(path)
    model._require_built("to_c")
    layers = list(_flattened(model))
    problems = _problems(model, layers)
    if problems:
        raise ValueError("to_c: these cannot be converted:\n" + "\n".join(problems))
    data = _flat_bytes(model, layers)
    with atomic_writer(path) as file:
        file.write(data if name is None else _c_header(model, name, data))


def _checked_name(path: str | bytes | os.PathLike[str]) -> str | None:
    """The name of a C header's array, None for the other form."""
    file = Path(os.fsdecode(path))
    if file.suffix == _FILE:
        return None
    if file.suffix != _C_HEADER:
        raise ValueError(
            f"to_c: `path` must end in {_C_HEADER!r} for a C header or in {_FILE!r} for a file to "
            f"be read at run time, got {str(file)!r}."
        )
    if not (file.stem.isascii() and file.stem.isidentifier()):
        raise ValueError(
            f"to_c: a C header names an array after itself, so the name of `path` before "
            f"{_C_HEADER!r} must be letters, digits and underscores and begin with no digit, got "
            f"{file.name!r}."
        )
    if file.stem.lower() in _TAKEN.split():
        raise ValueError(
            f"to_c: `path` must not have the name of a header that C programs include, got "
            f"{file.name!r}; call it {f'my_{file.name}'!r}, for example."
        )
    return f"{file.stem}_model"


# ---- what is refused -----------------------------------------------------------------------------


def _flattened(model: Model) -> Iterator[Layer]:
    """The layers in order, those of stacks within the stack among them."""
    for layer in model.layers:
        if type(layer) is Sequential:
            yield from _flattened(layer)
        else:
            yield layer


def _problems(model: Model, layers: Sequence[Layer]) -> list[str]:
    if not isinstance(model, Sequential):
        return [f"- {model.label}: it is not a Sequential"]
    found = [f"- {layer.label}: {reason}" for layer in layers if (reason := _lacks(layer))]
    shape = model.inputs[0].shape
    if len(shape) not in (2, 3) or shape[-1] is None:
        found.append(f"- {model.label}: its input has the shape {shape}, not (B, T, F) or (B, F)")
    widest = max(shape[-1] or 0, *(getattr(layer, "units", 0) for layer in layers))
    if widest > _MOST_SIZE:
        found.append(f"- {model.label}: a layer has {widest} numbers, the most are {_MOST_SIZE}")
    types = sorted({each.dtype for layer in layers for each in (layer, *layer._layers)})
    if len(types) != 1:
        found.append(f"- {model.label}: its layers have several types: {', '.join(types)}")
    if all(type(layer) is Dropout for layer in layers):
        found.append(f"- {model.label}: it computes nothing")
    if len(layers) > _MOST_LAYERS:
        found.append(f"- {model.label}: it has {len(layers)} layers, the most are {_MOST_LAYERS}")
    return found


def _lacks(layer: Layer) -> str | None:
    """Why a step in C does not have a layer; None if it has."""
    if type(layer) is TimeDistributed:
        return None if type(layer.layer) is Dense else "its layer is not a Dense"
    if type(layer) not in (LSTM, Dense, Activation, Dropout):
        return "a step in C does not have this layer"
    if isinstance(layer, LSTM) and layer.go_backwards:
        return "`go_backwards` needs the whole sequence"
    return None


# ---- the bytes -----------------------------------------------------------------------------------


def _records(model: Model, layers: Sequence[Layer]) -> Iterator[_Record]:
    width: Any = model.inputs[0].shape[-1]
    for layer in layers:
        each: Any = layer.layer if isinstance(layer, TimeDistributed) else layer
        if isinstance(each, LSTM):
            weights = [each.kernel, each.recurrent_kernel]
            yield _weighted(_LSTM, each, each.recurrent_activation, weights)
        elif isinstance(each, Dense):
            yield _weighted(_DENSE, each, "", [each.kernel])
        elif isinstance(each, Activation):
            yield _Record(_ACTIVATION, width, each.activation, "", False, [])
        width = getattr(each, "units", width)


def _weighted(
    kind: int, layer: Any, recurrent_activation: str, weights: Sequence[Weight]
) -> _Record:
    has_bias = layer.bias is not None
    values = [weight.value for weight in (*weights, *([layer.bias] if has_bias else []))]
    activation = layer.activation or "linear"
    return _Record(kind, layer.units, activation, recurrent_activation, has_bias, values)


def _flat_bytes(model: Model, layers: Sequence[Layer]) -> bytes:
    real = np.dtype(layers[0].dtype)
    records = list(_records(model, layers))
    parts = [
        _HEADER.pack(b"FASTLSTM", _VERSION, real.itemsize, model.inputs[0].shape[-1], len(records)),
        *(
            _LAYER.pack(
                record.kind,
                record.units,
                record.has_bias,
                0,
                record.activation.encode(),
                record.recurrent_activation.encode(),
            )
            for record in records
        ),
    ]
    for record in records:
        for weight in record.weights:
            data = weight.astype(real.newbyteorder("<")).tobytes()
            parts += [data, bytes(-len(data) % _RECORD)]
    return b"".join(parts)


def _c_header(model: Model, name: str, data: bytes) -> bytes:
    """The bytes as numbers of 64 bits: an array of these is aligned as the reader wants it."""
    words = [f"0x{word:x}" for word in np.frombuffer(data, "<u8")]
    rows = [", ".join(words[first : first + 8]) for first in range(0, len(words), 8)]
    layers = ", ".join(type(layer).__name__ for layer in model.layers)
    return "\n".join(
        [
            f"/* Written by fastlstm {__version__} for fastlstm.h: {layers}. */",
            # Not in capitals: amp.h and Amp.h are two models.
            f"#ifndef FASTLSTM_{name}_H",
            f"#define FASTLSTM_{name}_H",
            "",
            "#include <stdint.h>",
            "",
            f"static const uint64_t {name}[{len(words)}] = {{",
            *(f"    {row}," for row in rows),
            "};",
            "",
            "#endif",
            "",
        ]
    ).encode()
