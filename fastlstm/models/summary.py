"""The table that `Model.summary` prints, as Keras 2 laid it out and the tutorials show it.

Two quirks of the Keras that printed the tutorials' tables are not copied: ``(None, 1, 5)`` for a
layer that returns ``(None, 5)``, and totals with a decimal point, ``146.0``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastlstm.errors import shape_text
from fastlstm.layers.base import Layer
from fastlstm.layers.input import InputLayer
from fastlstm.layers.structure import is_shape, map_structure
from fastlstm.layers.symbolic import Node
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
    """Print the layers of a model with their output shapes and parameters.

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
    rows = model.rows()
    nodes = [step.node for step in model.graph.steps] if model.built else []
    is_chain = _is_chain(rows, nodes)
    width = line_length or (CHAIN_WIDTH if is_chain else GRAPH_WIDTH)
    shares = positions or (CHAIN_COLUMNS if is_chain else GRAPH_COLUMNS)
    ends = [int(width * share) if share <= 1 else int(share) for share in shares]
    links = {} if is_chain else _links(nodes)
    titles = ["Layer (type)", "Output Shape", "Param #"]
    emit("_" * width)
    emit(_row(titles if is_chain else [*titles, "Connected to"], ends))
    emit("=" * width)
    for number, (layer, node) in enumerate(rows):
        fields = [f"{layer.name} ({type(layer).__name__})", _shapes(node), _count(layer)]
        first, *further = links.get(layer) or [""]
        emit(_row(fields if is_chain else [*fields, first], ends))
        for link in further:
            emit(_row(["", "", "", link], ends))
        emit(("=" if number == len(rows) - 1 else "_") * width)
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
    return str(total_size(layer.weights)) if layer.built else "unbuilt"


def _shapes(node: Node | None) -> str:
    if node is None:
        return "?"
    shapes = map_structure(lambda tensor: tensor.shape, node.outputs)
    return shape_text(shapes) if is_shape(shapes) else str(shapes)


def _is_chain(rows: Sequence[tuple[Layer, Node | None]], nodes: Sequence[Node]) -> bool:
    """Whether every use has a row, and reads one tensor that nothing else reads."""
    used = [node for _, node in rows if node is not None and node.inputs is not None]
    inputs = sum(isinstance(layer, InputLayer) for layer, _ in rows)
    read = [tensor for node in nodes for tensor in node.parents()]
    return (
        inputs <= 1
        and len(used) == len(nodes)
        and all(len(node.parents()) == 1 for node in nodes)
        and len(set(read)) == len(read)
    )


def _links(nodes: Sequence[Node]) -> dict[Layer, list[str]]:
    """For each layer what its uses read, as ``name[use][output]``."""
    uses: Counter[Layer] = Counter()
    number_of: dict[Node, int] = {}
    links: dict[Layer, list[str]] = {}
    for node in nodes:
        number_of[node] = uses[node.layer]
        uses[node.layer] += 1
        for tensor in node.parents():
            source = tensor.node
            assert source is not None
            link = f"{source.layer.name}[{number_of.get(source, 0)}][{tensor.index}]"
            links.setdefault(node.layer, []).append(link)
    return links
