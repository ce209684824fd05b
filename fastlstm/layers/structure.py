"""Values that may come alone or in lists: arrays, symbolic tensors, and their shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Shape", "as_list", "is_shape", "map_structure", "map_structure_of_shapes"]

Shape = tuple[int | None, ...]


def map_structure(function: Callable[[Any], Any], structure: Any) -> Any:
    """Apply `function` to every entry of a list or tuple, or to the one value that it is."""
    if isinstance(structure, (list, tuple)):
        return [function(entry) for entry in structure]
    return function(structure)


def as_list(structure: Any) -> list[Any]:
    """A list or tuple as a list; anything else as a list of one."""
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
    """Apply `function` to one shape, or to each of a list of shapes."""
    if is_shape(shapes):
        return function(tuple(shapes))
    return [function(tuple(shape)) for shape in shapes]
