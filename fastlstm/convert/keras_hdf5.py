"""HDF5 files as Keras writes them, read so that a file can give nothing but what is in it.

HDF5 lets a dataset keep its values in other files (external storage, virtual datasets), and a group
have members that are elsewhere (soft and external links). Keras writes none of these; a file that
has them could hand over any file that its reader may open, so they are refused by name.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from fastlstm._extras import require

__all__ = ["MOST_EXPANSION", "Group", "StoredArray", "opened"]

# The most that the content of a file may hold for each of its bytes; compressed weights need some.
MOST_EXPANSION = 100

# What HDF5 itself brings to pack a dataset; others come from libraries that it looks for.
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}


# Where texts without a fixed length lie: a "global heap collection" of the HDF5 specification.
_COLLECTION = b"GCOL\x01"
_HEADER_BYTES = 16  # of a collection, and of each object in it
_OBJECT = struct.Struct("<H6xQ")  # index, 0 for free space; size
_BLOCK_BYTES = 1 << 20


@contextlib.contextmanager
def opened(file: BinaryIO) -> Iterator[Group]:
    """The root of an HDF5 file."""
    h5py = require("h5py", "keras")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with h5py.File(file, "r") as root:
        widths = root.id.get_create_plist().get_sizes()
        if widths != (8, 8):
            raise ValueError(f"its places and sizes must take 8 bytes each, not {widths}")
        _require_readable_texts(file)
        yield Group(h5py, root, MOST_EXPANSION * size)


def _require_readable_texts(file: BinaryIO) -> None:
    """Raise ``ValueError`` for collections of texts in which HDF5 would go round for ever.

    Up to version 2.0 at least it goes from object to object without asking whether the next one
    lies behind the last. Collections do not overlap, so all of this takes one pass over the file.
    """
    end = 0
    for begin in _places(file, _COLLECTION):
        if begin < end:
            raise ValueError("its collections of texts overlap")
        end = _end_of_collection(file, begin)


def _places(file: BinaryIO, signature: bytes) -> Iterator[int]:
    """Where `signature` is in a file, which may be read elsewhere in between."""
    begin, rest = 0, b""
    while True:
        file.seek(begin + len(rest))
        block = file.read(_BLOCK_BYTES)
        if not block:
            return
        content = rest + block
        found = content.find(signature)
        while found >= 0:
            yield begin + found
            found = content.find(signature, found + 1)
        rest = content[1 - len(signature) :]
        begin += len(content) - len(rest)


def _end_of_collection(file: BinaryIO, begin: int) -> int:
    file.seek(begin + 8)
    end = begin + int.from_bytes(file.read(8), "little")
    place = begin + _HEADER_BYTES
    while place + _HEADER_BYTES <= end:
        file.seek(place)
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            break
        index, size = _OBJECT.unpack(header)
        step = size if index == 0 else _HEADER_BYTES + -(-size // 8) * 8
        if step % (1 << 64) < _HEADER_BYTES:
            raise ValueError(f"the text at byte {place} ends before it begins")
        place += step
    return end


class StoredArray:
    """A dataset of real numbers, none of which has been read yet."""

    def __init__(self, h5py: Any, dataset: Any, most_bytes: int) -> None:
        name = dataset.name
        # First of all: to ask a virtual dataset for its shape may open other files.
        if dataset.is_virtual:
            raise ValueError(f"the values of {name!r} are in other files: it is a virtual dataset")
        if dataset.external:
            raise ValueError(f"the values of {name!r} are in another file: {dataset.external[0]}")
        plist = dataset.id.get_create_plist()
        filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
        if unknown := [number for number in filters if number not in _FILTERS]:
            raise ValueError(f"{name!r} is packed by unknown filters: {unknown}")
        if dataset.dtype.kind != "f" or dataset.shape is None:
            raise ValueError(f"{name!r} must hold real numbers, but has {dataset.dtype}")
        largest = max(math.prod(dataset.shape), math.prod(dataset.chunks or ()))
        if largest * dataset.dtype.itemsize > most_bytes:
            raise ValueError(f"{name!r} says that it is larger than its file can be")
        self.shape: tuple[int, ...] = dataset.shape
        self._dataset = dataset

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._dataset[...], dtype)


class Group:
    """A group of an HDF5 file, which gives only what the file itself holds."""

    def __init__(self, h5py: Any, group: Any, most_bytes: int) -> None:
        self._h5py = h5py
        self._group = group
        self._most_bytes = most_bytes

    def __len__(self) -> int:
        return len(self._group)

    def __contains__(self, path: str) -> bool:
        return self._find(path) is not None

    def group(self, path: str) -> Group:
        """The group at `path`; ``ValueError`` for none."""
        found = self._at(path)
        if not isinstance(found, self._h5py.Group):
            raise ValueError(f"{path!r} is no group")
        return Group(self._h5py, found, self._most_bytes)

    def array(self, path: str) -> StoredArray:
        """The dataset at `path`; ``ValueError`` for none."""
        found = self._at(path)
        if not isinstance(found, self._h5py.Dataset):
            raise ValueError(f"{path!r} is no dataset")
        return StoredArray(self._h5py, found, self._most_bytes)

    def text(self, name: str, default: str | None = None) -> str:
        """The text that is the attribute `name`; ``ValueError`` for another thing."""
        if default is not None and name not in self._group.attrs:
            return default
        value = self._attribute(name)
        if isinstance(value, np.ndarray) and value.shape == ():
            value = value.item()
        return _text(name, value)

    def has(self, name: str) -> bool:
        """Whether there is an attribute `name`, whole or in numbered parts."""
        return name in self._group.attrs or f"{name}0" in self._group.attrs

    def names(self, name: str) -> list[str]:
        """The texts in the attribute `name`, which Keras cuts in parts where they are many."""
        if name in self._group.attrs:
            parts = [name]
        else:
            count = 0
            while f"{name}{count}" in self._group.attrs:
                count += 1
            parts = [f"{name}{number}" for number in range(count)]
        if not parts:
            raise ValueError(f"{self._group.name!r} has no attribute {name!r}")
        return [_text(name, each) for part in parts for each in self._list(part)]

    def _list(self, name: str) -> Sequence[Any]:
        value = np.asarray(self._attribute(name))
        if value.ndim != 1:
            raise ValueError(f"the attribute {name!r} is no list")
        return value.tolist()

    def _attribute(self, name: str) -> Any:
        about = self._group.attrs.get_id(name)
        if math.prod(about.shape) * about.dtype.itemsize > self._most_bytes:
            raise ValueError(f"the attribute {name!r} says that it is larger than its file can be")
        return self._group.attrs[name]

    def _at(self, path: str) -> Any:
        found = self._find(path)
        if found is None:
            raise ValueError(f"it has no {path!r}")
        return found

    def _find(self, path: str) -> Any:
        """What is at `path`, None if nothing is."""
        found = self._group
        for name in filter(None, path.split("/")):
            if not isinstance(found, self._h5py.Group) or not found.id.links.exists(name.encode()):
                return None
            self._require_hard_link(found, name)
            found = found[name]
        return found

    def _require_hard_link(self, group: Any, name: str) -> None:
        # Not by `in` and `get`, which follow a link to see whether it leads anywhere.
        kind = group.id.links.get_info(name.encode()).type
        if kind == self._h5py.h5l.TYPE_EXTERNAL:
            elsewhere = group.id.links.get_val(name.encode())[0].decode()
            raise ValueError(f"{name!r} in {group.name!r} is a link to the file {elsewhere!r}")
        if kind != self._h5py.h5l.TYPE_HARD:
            raise ValueError(f"{name!r} in {group.name!r} is a link to another place")


def _text(what: str, value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise ValueError(f"the attribute {what!r} must hold texts, but has {value!r}")
    return value
