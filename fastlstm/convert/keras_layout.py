"""Where Keras 3 keeps the weights of a layer in an HDF5 file.

Each object has a group, named after the attribute that holds it; ``vars/0``, ``vars/1``, ... in it
are its own weights. The layers of a model are numbered by class: ``layers/lstm``,
``layers/lstm_1``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from fastlstm._registry import snake_case
from fastlstm.layers import LSTM, Bidirectional, Dropout, InputLayer, Layer, TimeDistributed
from fastlstm.layers.weight import Weight
from fastlstm.models import Model, Sequential

__all__ = ["Group", "first_use", "groups_of", "keras_class_name", "repeats_in"]

LayersOf = Callable[[Model], Sequence[Layer]]


class Group(NamedTuple):
    """One group: the weights in it, and whether a generator of random numbers is beside them."""

    path: str
    layer: Layer
    weights: list[Weight]
    draws: bool = False


def keras_class_name(layer: Layer) -> str:
    """What Keras calls the class of `layer`."""
    if isinstance(layer, Model):
        return "Sequential" if isinstance(layer, Sequential) else "Functional"
    return type(layer).__name__


def first_use(layer: Layer) -> int:
    """The number of a layer's first use where Keras 3 lists the inputs and outputs of a model.

    There, and not between layers, it counts as a use that a functional model has been made.
    """
    return int(isinstance(layer, Model) and not isinstance(layer, Sequential))


def repeats_in(layers: Sequence[Any]) -> str | None:
    """What is wrong with layers, of Keras or fastlstm, that a Sequential has more than once.

    Keras writes the first use alone, and refuses to read several.
    """
    repeated = [repr(name) for name, n in Counter(each.name for each in layers).items() if n > 1]
    if not repeated:
        return None
    return (
        f"{', '.join(repeated)} is in several places, which files of Keras keep of a "
        f"Model(inputs, outputs) only"
    )


def groups_of(layer: Layer, path: str, layers_of: LayersOf) -> Iterator[Group]:
    """The groups of a layer and everything in it; `layers_of` gives a model's in Keras's order."""
    if isinstance(layer, Model):
        for name, inner in _numbered(layers_of(layer)):
            yield from groups_of(inner, f"{path}layers/{name}/", layers_of)
    elif isinstance(layer, Bidirectional):
        yield from groups_of(layer.forward_layer, f"{path}forward_layer/", layers_of)
        yield from groups_of(layer.backward_layer, f"{path}backward_layer/", layers_of)
    elif isinstance(layer, TimeDistributed):
        yield from groups_of(layer.layer, f"{path}layer/", layers_of)
    elif isinstance(layer, LSTM):
        draws = layer.dropout > 0 or layer.recurrent_dropout > 0
        yield Group(f"{path}cell/", layer, layer.weights, draws)
    elif not isinstance(layer, InputLayer):
        yield Group(path, layer, layer.weights, isinstance(layer, Dropout) and layer.rate > 0)


def _numbered(layers: Sequence[Layer]) -> Iterator[tuple[str, Layer]]:
    counts: Counter[str] = Counter()
    for layer in layers:
        name = snake_case(keras_class_name(layer))
        yield (f"{name}_{counts[name]}" if counts[name] else name), layer
        counts[name] += 1
