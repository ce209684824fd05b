"""What the description of a model in a file may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["require_backed"]

# A model may have this many layers without weights, and this many more for each weight: enough for
# whatever is built by hand or by a program, and little work for a small file.
_FREE_LAYERS = 1000
_LAYERS_PER_WEIGHT = 10

# Where descriptions, ours and Keras's, list layers and their uses.
_LISTS = ("layers", "calls", "inbound_nodes")


def require_backed(who: str, description: Any, weights: int) -> None:
    """Raise ``ValueError`` for many more layers, or uses of layers, than there are weights."""
    most = _FREE_LAYERS + _LAYERS_PER_WEIGHT * weights
    for name, count in _counts(description).items():
        if count > most:
            raise ValueError(
                f"{who} has {count} `{name}`, but {weights} weights, with which {most} are allowed"
            )


def _counts(description: Any) -> dict[str, int]:
    counts = dict.fromkeys(_LISTS, 0)
    waiting = [description]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            for name in _LISTS:
                listed = each.get(name)
                counts[name] += len(listed) if isinstance(listed, list) else 0
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return counts
