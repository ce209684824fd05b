"""What attributes hold: looked up when somebody asks, not noted when it is assigned.

So nothing has to be wrapped, and a list that grows after its assignment is seen as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fastlstm.layers.symbolic import Node, SymbolicTensor

__all__ = ["held"]

# Most attributes are one of these, in which nothing is to be found.
_PLAIN = frozenset({bool, int, float, str, type(None), np.ndarray, Node, SymbolicTensor})
_CONTAINERS = (list, tuple, Mapping, set, frozenset)


def held(
    attributes: Iterable[tuple[Any, Any]],
    kinds: tuple[type, ...],
    place: str = "",
    inside: frozenset[int] = frozenset(),
) -> Iterator[tuple[str, Any]]:
    """Every object of `kinds` among named values, and in the lists, tuples, dicts and sets there.

    Each comes with its place, as in ``blocks/0``, in the order of the attributes and entries; of a
    set, which has no order, in that of names.
    """
    for name, value in attributes:
        if type(value) in _PLAIN:
            continue
        if isinstance(value, kinds):
            yield f"{place}{name}", value
        elif isinstance(value, _CONTAINERS) and value and id(value) not in inside:
            yield from held(_entries(value, kinds), kinds, f"{place}{name}/", inside | {id(value)})


def _entries(container: Any, kinds: tuple[type, ...]) -> Iterable[tuple[Any, Any]]:
    # Copies: another thread may add an entry.
    if isinstance(container, Mapping):
        return list(container.items())
    if isinstance(container, (list, tuple)):
        return enumerate(list(container))
    found = [entry for entry in list(container) if isinstance(entry, kinds)]
    return enumerate(sorted(found, key=lambda entry: entry.name))
