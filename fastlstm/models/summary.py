"""The table that `Model.summary` prints, as Keras 2 laid it out and the tutorials show it.

Two quirks of the Keras that printed the tutorials' tables are not copied: ``(None, 1, 5)`` for a
layer that returns ``(None, 5)``, and totals with a decimal point, ``146.0``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastlstm.errors import shape_text
from fastlstm.layers.base import Layer
from fastlstm.layers.structure import is_shape, map_structure
from fastlstm.layers.weight import total_size

if TYPE_CHECKING:
    from fastlstm.models.model import Model

__all__ = ["print_summary"]

CHAIN_WIDTH, CHAIN_COLUMNS = 65, (0.45, 0.85, 1.0)
GRAPH_WIDTH, GRAPH_COLUMNS = 98, (0.33, 0.55, 0.67, 1.0)


def print_summary(
    model: Model,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
) -> None:
    """Print the layers of a built model with their output shapes and parameters.

    Parameters
    ----------
    line_length : int, optional
        65, or 98 for a graph that is no chain and gets the column "Connected to".
    positions : sequence of float, optional
        Where each column ends, as parts of the line.
    print_fn : callable, optional
        Takes each line; `print` by default.
    """
    emit = print_fn or print
    is_chain = _is_chain(model)
    width = line_length or (CHAIN_WIDTH if is_chain else GRAPH_WIDTH)
    shares = positions or (CHAIN_COLUMNS if is_chain else GRAPH_COLUMNS)
    ends = [int(width * share) if share <= 1 else int(share) for share in shares]
    titles = ["Layer (type)", "Output Shape", "Param #"]
    emit("_" * width)
    emit(_row(titles if is_chain else [*titles, "Connected to"], ends))
    emit("=" * width)
    layers = model.layers
    for number, layer in enumerate(layers):
        links = [] if is_chain else _links(model, layer)
        fields = [f"{layer.name} ({type(layer).__name__})", _shapes(model, layer), _count(layer)]
        emit(_row(fields if is_chain else [*fields, links[0] if links else ""], ends))
        for link in links[1:]:
            emit(_row(["", "", "", link], ends))
        emit(("=" if number == len(layers) - 1 else "_") * width)
    trainable, frozen = total_size(model.trainable_weights), total_size(model.non_trainable_weights)
    emit(f"Total params: {trainable + frozen:,}")
    emit(f"Trainable params: {trainable:,}")
    emit(f"Non-trainable params: {frozen:,}")
    emit("_" * width)


def _row(fields: Sequence[str], ends: Sequence[int]) -> str:
    """Fields one after the other, each cut where its column ends, with a space before the next."""
    line = ""
    for number, (field, end) in enumerate(zip(fields, ends, strict=False)):
        if number:
            line = line[:-1] + " "
        line = (line + field)[:end].ljust(end)
    return line.rstrip()


def _count(layer: Layer) -> str:
    return str(total_size(layer.weights))


def _shapes(model: Model, layer: Layer) -> str:
    """The output shape of the layer's first use in this model."""
    node = model.node_of(layer)
    shapes = map_structure(lambda tensor: tensor.shape, node.outputs)
    return shape_text(shapes) if is_shape(shapes) else str(shapes)


def _is_chain(model: Model) -> bool:
    """Whether every layer has one use, one input and one output that one other layer reads."""
    nodes = [step.node for step in model.graph.steps]
    readers: dict[int, int] = {}
    for node in nodes:
        for tensor in node.parents():
            readers[id(tensor)] = readers.get(id(tensor), 0) + 1
    return (
        len(model.inputs) == 1
        and len({id(node.layer) for node in nodes}) == len(nodes)
        and all(len(node.parents()) == 1 for node in nodes)
        and all(count == 1 for count in readers.values())
    )


def _links(model: Model, layer: Layer) -> list[str]:
    """The layers that this one reads, as ``name[use][output]``."""
    links = []
    for step in model.graph.steps:
        if step.layer is layer:
            for tensor in step.node.parents():
                source = tensor.node
                assert source is not None
                links.append(f"{source.layer.name}[{model.use_of(source)}][{tensor.index}]")
    return links
