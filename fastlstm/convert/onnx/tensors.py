"""The tensors of ONNX files as arrays, those among them whose bytes lie in another file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["array_of", "dtype_of", "load_external_data"]

# By the number that ONNX gives each: what NumPy and ONNX Runtime compute alike.
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    11: "float64",
    12: "uint32",
    13: "uint64",
}


def dtype_of(onnx: Any, number: int, what: str) -> np.dtype:
    """The dtype of an element type; ``ValueError`` that names `what` where there is none here."""
    if number in _DTYPES:
        return np.dtype(_DTYPES[number])
    known = onnx.TensorProto.DataType
    name = known.Name(number) if number in known.values() else str(number)
    raise ValueError(
        f"{what} has elements of the type {name}; there are {', '.join(_DTYPES.values())} here."
    )


def array_of(onnx: Any, tensor: Any) -> np.ndarray:
    """The array of a ``TensorProto`` whose bytes are in it."""
    what = f"the tensor {tensor.name!r}"
    dtype_of(onnx, tensor.data_type, what)
    shape = tuple(tensor.dims)
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # whatever the library says to data that do not fill the shape
        raise ValueError(f"{what} is not of its shape {shape}: {error}") from error
    if array.shape != shape:  # a negative size is no free one here
        raise ValueError(f"{what} has the shape {shape}, but data for {array.shape}.")
    return array


# Tensors may share bytes of another file: a small one could be read over and over.
_MOST_READINGS = 100


def load_external_data(onnx: Any, model: Any, folder: Path | None) -> None:
    """Bring what lies in other files into the model; they must lie in `folder`."""
    read: Counter[Path] = Counter()
    for tensor in _tensors(onnx, model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        if folder is None:
            raise ValueError(
                f"the tensor {tensor.name!r} lies in another file, beside that of its model; "
                f"give from_onnx the path of the model."
            )
        try:
            tensor.raw_data = _external_bytes(onnx, tensor, folder, read)
        except ValueError as error:
            raise ValueError(f"the external data of the tensor {tensor.name!r}: {error}") from None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(onnx: Any, graph: Any) -> Iterator[Any]:
    """The constants of a graph and of its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _external_bytes(onnx: Any, tensor: Any, folder: Path, read: Counter[Path]) -> bytes:
    """The bytes that a tensor refers to, read only after all of the reference is found right.

    `read` counts the bytes that were read of each file.
    """
    given = {entry.key: entry.value for entry in tensor.external_data}
    itemsize = dtype_of(onnx, tensor.data_type, "it").itemsize
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"the shape {tuple(tensor.dims)} has a negative size.")
    size = prod(tensor.dims) * itemsize
    offset = _count(given, "offset", 0)
    if _count(given, "length", size) != size:
        raise ValueError(
            f"`length` is {given['length']}, and the shape {tuple(tensor.dims)} takes {size} bytes."
        )
    path = _within(folder, given.get("location", ""))
    with open(path, "rb") as file:
        there = os.fstat(file.fileno()).st_size
        if offset + size > there:
            raise ValueError(
                f"bytes {offset} to {offset + size} were expected in {path.name!r}, which has "
                f"{there}."
            )
        read[path] += size
        if read[path] > _MOST_READINGS * there:
            raise ValueError(f"{path.name!r} would be read more than {_MOST_READINGS} times.")
        file.seek(offset)
        return file.read(size)


def _count(given: dict[str, str], key: str, default: int) -> int:
    text = given.get(key, str(default))
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"`{key}` must be a count of bytes, got {text!r}.")
    return int(text)


def _within(folder: Path, location: str) -> Path:
    """The file at a place relative to the folder, which neither it nor a link may leave."""
    relative = Path(location)
    if not location or relative.is_absolute() or ".." in relative.parts:
        raise ValueError(
            f"`location` must be a path within the model's own folder, got {location!r}."
        )
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(
            f"`location` is {location!r}, a link out of the model's own folder; copy the files "
            f"themselves into one folder, as `cp -rL` does, and give from_onnx that."
        )
    if path.exists() and not path.is_file():
        raise ValueError(f"`location` must be a file, got {location!r}.")
    return path
