"""Arrays in one ``.safetensors`` file: a length, a JSON header, the bytes of the arrays.

The format is that of https://github.com/huggingface/safetensors: 8 bytes of little-endian length;
the header, which gives for each name ``dtype``, ``shape`` and ``data_offsets``, and texts under
``__metadata__``; then the arrays, little-endian, in C order, without gaps. Whatever a file says is
checked against its size before memory is asked for, and nothing in it is ever executed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

__all__ = ["atomic_writer", "read_header", "read_tensors", "write_tensors"]

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(text): name for name, text in _DTYPES.items()}
# NumPy has no bfloat16: the upper half of a float32.
_BFLOAT16 = "BF16"

# The reference implementation allows 100 MB, whose names would take minutes to go through. A tensor
# needs about a hundred bytes of header, a layer's description a thousand.
_MOST_HEADER_BYTES = 16_000_000
_ALIGNMENT = 8


class _Entry(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


# ---- writing -------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_writer(path: str | bytes | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends, and vanishes if it fails.

    It is on the disk before it takes the place: whoever stops the program at any moment, there is
    either the old file or the new one. What a killed program has left beside it is removed.
    """
    target = Path(os.path.realpath(os.fsdecode(path)))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    file = _new_file_beside(target)
    try:
        with file:
            if target.exists():
                Path(file.name).chmod(target.stat().st_mode & 0o777)
            yield file
            file.flush()
            os.fsync(file.fileno())
            # While it is locked: unlocked, under its old name, another save would remove it.
            Path(file.name).replace(target)
    except BaseException:
        Path(file.name).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _new_file_beside(target: Path) -> BinaryIO:
    """A new file, locked for as long as it is open: the sign that somebody is writing it."""
    while True:
        path = target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")
        file = path.open("xb")
        _lock(file, wait=True)
        if os.fstat(file.fileno()).st_nlink:
            return file
        # Another save found it before it was locked, and took it for an abandoned one.
        file.close()


def _remove_abandoned(target: Path) -> None:
    """Remove the unfinished files of programs that were killed while they wrote `target`."""
    of_target = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.tmp")
    for path in target.parent.iterdir():
        if of_target.fullmatch(path.name):
            # It may vanish, be another's, or lie where nothing can be locked.
            with contextlib.suppress(OSError), path.open("r+b") as file:
                if _lock(file, wait=False):
                    path.unlink()


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock a file until it is closed, by the end of the process at the latest; whether it worked.

    Each opening of a file has a lock of its own, so threads see each other's too.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk too, where a folder can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_tensors(
    path: str | bytes | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    """Write arrays and texts, atomically.

    Raises ``TypeError`` for an array of a type that the format does not have, ``ValueError`` for
    more names and texts than a header may hold.
    """
    arrays = {name: _little_endian(name, array) for name, array in tensors.items()}
    # The widest first, so that each begins at a multiple of its elements' size.
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in order:
        array = arrays[name]
        end = offset + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > _MOST_HEADER_BYTES:
        raise ValueError(
            f"{os.fsdecode(path)!r} would need a header of {len(text)} bytes for its names and "
            f"texts; the most is {_MOST_HEADER_BYTES}."
        )
    with atomic_writer(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            file.write(arrays[name].reshape(-1).view(np.uint8).data)


def _little_endian(name: str, array: np.ndarray) -> np.ndarray:
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise TypeError(f"The array {name!r} has the type {array.dtype}, which cannot be saved.")
    # Not ascontiguousarray, which makes an array of no axes one of one axis.
    return np.asarray(array, dtype, order="C")


# ---- reading -------------------------------------------------------------------------------------


def read_header(path: str | bytes | os.PathLike[str]) -> dict[str, str]:
    """The texts of a file; raises as `read_tensors`."""
    return _read(path, lambda file, entries, metadata: metadata)


def read_tensors(
    path: str | bytes | os.PathLike[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the texts of a file. bfloat16 comes as float32.

    Raises ``ValueError`` for a file that is not of the format, ``OSError`` for one that cannot be
    read.
    """
    return _read(path, lambda file, entries, metadata: (_arrays(path, file, entries), metadata))


def _read(path: str | bytes | os.PathLike[str], use: Callable[..., Any]) -> Any:
    with Path(os.fsdecode(path)).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ValueError("it does not begin with the length of a header")
            if length > _MOST_HEADER_BYTES:
                raise ValueError(f"its header has {length} bytes, the most is {_MOST_HEADER_BYTES}")
            entries, metadata = _parse(file.read(length), size - 8 - length)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{os.fsdecode(path)!r} is no safetensors file: {error}.") from None
        return use(file, entries, metadata)


def _parse(text: bytes, data_bytes: int) -> tuple[list[_Entry], dict[str, str]]:
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its `__metadata__` holds something other than texts")
    entries = sorted((_entry(name, spec) for name, spec in header.items()), key=lambda e: e.begin)
    expected = 0
    for entry in entries:
        if entry.begin != expected:
            raise ValueError(f"the data of {entry.name!r} do not follow those before")
        expected = entry.end
    if expected != data_bytes:
        raise ValueError(f"it has {data_bytes} bytes of data where its header has {expected}")
    return entries, metadata


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice in its header")
    return found


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _entry(name: str, spec: Any) -> _Entry:
    if not isinstance(spec, dict) or set(spec) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} needs `dtype`, `shape` and `data_offsets`")
    dtype, shape, offsets = spec["dtype"], spec["shape"], spec["data_offsets"]
    if not isinstance(dtype, str) or dtype not in (*_DTYPES, _BFLOAT16):
        raise ValueError(f"{name!r} has the unknown type {dtype!r}")
    if not isinstance(shape, list) or len(shape) > 32 or not all(map(_is_size, shape)):
        raise ValueError(f"{name!r} has no valid shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise ValueError(f"{name!r} has no valid `data_offsets`")
    itemsize = 2 if dtype == _BFLOAT16 else np.dtype(_DTYPES[dtype]).itemsize
    if offsets[1] - offsets[0] != math.prod(shape) * itemsize:
        raise ValueError(f"the `data_offsets` of {name!r} do not fit its shape")
    return _Entry(name, dtype, tuple(shape), *offsets)


def _arrays(
    path: str | bytes | os.PathLike[str], file: BufferedReader, entries: list[_Entry]
) -> dict[str, np.ndarray]:
    """The arrays, which follow each other from where `file` is."""
    found = {}
    for entry in entries:
        stored = np.dtype("<u2" if entry.dtype == _BFLOAT16 else _DTYPES[entry.dtype])
        # Sizes that no array can have come with another size of zero.
        try:
            array = np.empty(entry.shape, stored)
        except ValueError as error:
            raise ValueError(f"{os.fsdecode(path)!r}: {entry.name!r}: {error}") from None
        if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
            raise ValueError(f"{os.fsdecode(path)!r} became shorter while it was read.")
        if entry.dtype == "BOOL":
            # Other bytes than 0 and 1 would be no booleans.
            array = array.view(np.uint8) != 0
        if entry.dtype == _BFLOAT16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        found[entry.name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return found
