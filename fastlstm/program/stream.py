"""Graphs compiled for reading sequences step by step.

Every tensor of the graph either has a time axis, the second one, or belongs to the present step.
A step is the program of the graph for sequences of one step, in which each LSTM begins from the
states that it left behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm._core.program_lstm import LSTMOp
from fastlstm._core.stream import Recipe, Stream
from fastlstm.errors import check_positive_int
from fastlstm.layers.base import Layer, told_by_class
from fastlstm.layers.input import InputLayer
from fastlstm.layers.lstm import LSTM
from fastlstm.layers.structure import as_list
from fastlstm.models.graph import Graph, Step
from fastlstm.program.program import differs

__all__ = ["Stream", "stream_of", "stream_of_layer"]


def stream_of(
    graph: Graph,
    label: str,
    batch_size: int,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    names_outputs: bool = False,
) -> Stream:
    """A stream of so many rows through a graph whose inputs are sequences.

    `inputs` and `outputs` are their names; outputs are returned by them if `names_outputs`. Raises
    ``ValueError`` for layers that need the whole sequence, by their names.
    """
    check_positive_int(f"{label}: stream: `batch_size`", batch_size)
    return Stream(
        lambda: _recipe_of(graph, label, inputs, outputs, names_outputs), label, batch_size
    )


def stream_of_layer(layer: Layer, batch_size: int) -> Stream:
    """A stream of so many rows through one layer that has been built."""
    if not layer.built:
        raise ValueError(f"{layer.label} is not built yet: call it or `build` it before `stream`.")
    source = InputLayer(batch_shape=(None, None, layer.weights[0].shape[0]), name="x")
    outputs = as_list(layer(source.output))
    # The graph keeps its node; the layer need not know of a use that is no model's.
    layer._nodes.remove(outputs[0].node)
    graph = Graph([source.output], outputs, layer.label)
    names = ["output", "h", "c"][: len(outputs)]
    return stream_of(graph, layer.label, batch_size, inputs=["x"], outputs=names)


def _recipe_of(
    graph: Graph, label: str, inputs: Sequence[str], outputs: Sequence[str], names_outputs: bool
) -> Recipe:
    tensors = graph.tensors
    has_time = dict.fromkeys(graph.input_slots, True)
    builder = _Builder(graph.slot_count)
    for step in graph.steps:
        found = _checked(step, label, [has_time[slot] for slot in step.reads()])
        output, *states = as_list(step.outputs)
        has_time.update({output: found, **dict.fromkeys(states, False)})
        builder.add(step)
    dtypes = [
        _dtype_of_input(graph, slot, f"{label}: stream: the input {name!r}")
        for slot, name in zip(graph.input_slots, inputs, strict=True)
    ]
    made = {slot for step in graph.steps for slot in as_list(step.outputs)}
    output_slots = graph.output_slots
    if len(set(output_slots)) != len(output_slots) or not made.issuperset(output_slots):
        raise ValueError(f"{label}: stream: every output must be that of a layer, and come once.")
    return Recipe(
        builder.nodes,
        builder.slots,
        [
            (slot, name, dtype, tuple(tensors[slot].shape[2:]))
            for slot, name, dtype in zip(graph.input_slots, inputs, dtypes, strict=True)
        ],
        [
            (
                slot,
                name,
                np.dtype(tensors[slot].dtype),
                tuple(tensors[slot].shape[2 if has_time[slot] else 1 :]),
            )
            for slot, name in zip(output_slots, outputs, strict=True)
        ],
        builder.states,
        names_outputs,
    )


def _checked(step: Step, label: str, has_time: list[bool]) -> bool:
    """Whether the outputs of a step have a time axis; raises where it cannot be streamed."""
    layer = step.layer
    if step.mask is not None or step.tensors or step.settings:
        raise ValueError(
            f"{label}: stream: {layer.label} is called with more than its inputs, which a stream "
            f"does not have."
        )
    if len(set(has_time)) != 1:
        raise ValueError(
            f"{label}: stream: {layer.label} brings a sequence together with what has no time axis."
        )
    if layer.casts_inputs and any(differs(tensor, layer) for tensor in step.node.parents()):
        raise ValueError(
            f"{label}: stream: {layer.label} computes in {layer.dtype}, and reads what a layer of "
            f"another type makes: give them one `dtype`."
        )
    rank = len(step.node.parents()[0].shape)
    found = told_by_class(layer, "time_after", has_time[0], rank)
    if found is None or told_by_class(layer, "op", False, True) is None:
        raise ValueError(
            f"{label}: stream: {layer.label} does not say how it computes a single time step; a "
            f"stream takes the layers of the package."
        )
    return found


def _dtype_of_input(graph: Graph, slot: int, what: str) -> np.dtype:
    """What the readers of an input want it in; raises for what is no sequence."""
    shape = graph.tensors[slot].shape
    readers = [step.layer for step in graph.steps if slot in step.reads()]
    dtypes = {np.dtype(each.dtype if each.casts_inputs else np.intp) for each in readers}
    if len(dtypes) != 1:
        found = ", ".join(sorted(map(str, dtypes))) or "none: no layer reads it"
        raise ValueError(f"{what} must be read in one type, got {found}.")
    # Integers are looked up, real numbers are features: the last axis of all.
    if len(shape) < (2 if dtypes == {np.dtype(np.intp)} else 3):
        raise ValueError(f"{what} must be a sequence (B, T, ...), got one of shape {shape}.")
    if None in shape[2:]:
        raise ValueError(f"{what} must have known sizes but for B and T, got shape {shape}.")
    return dtypes.pop()


class _Builder:
    """Gathers the nodes of a recipe, and the states of its LSTMs."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.nodes: list[Any] = []
        self.states: list[Any] = []

    def _new_slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def add(self, step: Step) -> None:
        """The op of a step; of an LSTM with slots for what it keeps."""
        layer = step.layer
        make, arguments = told_by_class(layer, "op", False, True)
        reads, fills = step.reads(), as_list(step.outputs)
        if make is LSTMOp:
            assert isinstance(layer, LSTM)
            before = [self._new_slot() for _ in range(3)]
            after = [self._new_slot(), self._new_slot()]
            reads = [*reads, *before]
            if len(fills) > 1:
                after = fills[1:]
            fills = [*fills[:1], *after]
            arguments = (*arguments[:-2], True, None)
            name = self._free_name(layer.name)
            dtype = np.dtype(layer.dtype)
            kinds = [("h", after[0], dtype, layer.units), ("c", after[1], dtype, layer.units)]
            kinds.append(("began", before[2], np.dtype(bool), 0))
            for (kind, slot_after, kind_dtype, size), slot in zip(kinds, before, strict=True):
                self.states.append((f"{name}/{kind}", slot, slot_after, kind_dtype, size))
        self.nodes.append((make, arguments, reads, fills, False))

    def _free_name(self, name: str) -> str:
        """Of a layer that comes again, with a number."""
        known = {state[0].rpartition("/")[0] for state in self.states}
        found, number = name, 1
        while found in known:
            found, number = f"{name}:{number}", number + 1
        return found
