"""Values that may come alone, in lists or in dicts: arrays, symbolic tensors, and their shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Shape", "as_list", "is_shape", "map_structure", "map_structure_of_shapes"]

Shape = tuple[int | None, ...]


def map_structure(function: Callable[[Any], Any], structure: Any) -> Any:
    """Apply `function` to every entry of a list, tuple or dict, or to the one value that it is."""
    if isinstance(structure, (list, tuple)):
        return [function(entry) for entry in structure]
    if isinstance(structure, dict):
        return {name: function(entry) for name, entry in structure.items()}
    return function(structure)


def as_list(structure: Any) -> list[Any]:
    """The entries of a list, tuple or dict; anything else as a list of one."""
    if isinstance(structure, dict):
        return list(structure.values())
    return list(structure) if isinstance(structure, (list, tuple)) else [structure]


def is_shape(value: Any) -> bool:
    """Whether `value` is one shape rather than a list of shapes."""
    if not isinstance(value, (list, tuple)):
        return False
    # A plain loop: every call of a layer comes through here.
    for n in value:
        if n is not None and type(n) is not int and not isinstance(n, np.integer):
            return False
    return True


def map_structure_of_shapes(function: Callable[[Shape], Any], shapes: Any) -> Any:
    """Apply `function` to one shape, or to each of a list or dict of shapes."""
    if is_shape(shapes):
        return function(tuple(shapes))
    if isinstance(shapes, dict):
        return {name: function(tuple(shape)) for name, shape in shapes.items()}
    return [function(tuple(shape)) for shape in shapes]
