"""A graph compiled for one use into parts, each of them native ops or one call of a layer.

    graph    Masking -> LSTM -> Lambda -> LSTM -> Dense
    parts    [native: Masking, LSTM]  [call: Lambda]  [native: LSTM, Dense]

A native part is one call of the core, which runs all of its ops on memory that it has planned
(`fastlstm._core.program`). Any other layer, one of a user's own among them, is called as it is
called on arrays. What is not there is left out at compile time: masks, dropout outside of training,
gradients that lead nowhere. The graph's own `run` and `backward` call every layer; a program gives
the same bits, but where gradients in several real types meet: it casts each before it adds it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastlstm._core.versions import settings_version
from fastlstm.layers.base import Layer, told_by_class
from fastlstm.layers.symbolic import SymbolicTensor
from fastlstm.layers.weight import Weight
from fastlstm.models.graph import Graph, Step
from fastlstm.program.parts import CalledPart, NativePart, Part, Tape

__all__ = ["Program", "differs"]


class Program:
    """A graph compiled for one use.

    Parameters
    ----------
    graph : Graph
    training : bool
        Whether layers compute as in training, and `backward` may follow.
    penalties : bool
        Whether what the layers' activity regularizers add to the loss is wanted.
    """

    def __init__(self, graph: Graph, *, training: bool, penalties: bool) -> None:
        self.graph, self.training, self.penalties = graph, training, penalties
        self._settings_version = settings_version()
        self.nodes = describe(graph, training=training, penalties=penalties)
        self.wanted = graph.wanted(False) if training else [False] * graph.slot_count
        self.parts = self._parts()
        self._has_penalties = self._finds_penalties()

    def _finds_penalties(self) -> bool:
        """Whether a layer that is called adds to the loss."""
        called = zip(self.graph.steps, self.nodes, strict=True)
        return self.penalties and any(
            step.layer.has_activity_penalty() for step, node in called if node is None
        )

    def _parts(self) -> list[Part]:
        """Neighbours that are native in one part, every other step alone."""
        graph = self.graph
        readers = Counter(slot for step in graph.steps for slot in step.all_reads())
        readers.update(graph.output_slots)
        parts: list[Part] = []
        pairs = zip(graph.steps, self.nodes, strict=True)
        for is_native, group in itertools.groupby(pairs, lambda pair: pair[1] is not None):
            steps, nodes = zip(*group, strict=True)
            if not is_native:
                parts += [CalledPart(graph, s, self.wanted, self.training) for s in steps]
                continue
            inside = Counter(slot for step in steps for slot in step.reads())
            outside = {slot for slot in readers if readers[slot] > inside[slot]}
            parts.append(
                NativePart(graph, steps, nodes, self.wanted, self.training, outside.__contains__)
            )
        return parts

    def is_current(self) -> bool:
        """Whether the layers are still as they were when the program was compiled."""
        version = settings_version()
        if not self.training and version == self._settings_version:
            return True
        # Which weights train is not a setting of a layer alone.
        nodes = describe(self.graph, training=self.training, penalties=self.penalties)
        if nodes != self.nodes or self._finds_penalties() != self._has_penalties:
            return False
        if self.training and self.graph.wanted(False) != self.wanted:
            return False
        self._settings_version = version
        return True

    def run(
        self, inputs: Sequence[Any], *, keep: bool = False
    ) -> tuple[list[Any], list[Any], Tape]:
        """Outputs and their masks, and with `keep` a tape for `backward`.

        `inputs` are the arrays for the graph's inputs.
        """
        values: list[Any] = [None] * len(self.wanted)
        masks: list[Any] = [None] * len(self.wanted)
        for slot, value in zip(self.graph.input_slots, inputs, strict=True):
            values[slot] = value
        tape = Tape(keep, keep or self._has_penalties)
        for part in self.parts:
            tape.records.append(part.forward(values, masks, tape))
        slots = self.graph.output_slots
        return [values[slot] for slot in slots], [masks[slot] for slot in slots], tape

    def backward(
        self,
        tape: Tape,
        doutputs: Sequence[np.ndarray | None],
        fused: Sequence[bool],
        targets: Mapping[Weight, np.ndarray],
    ) -> dict[Weight, np.ndarray]:
        """The gradients of the weights that train.

        Parameters
        ----------
        tape : of a run that was kept; good for one backward pass
        doutputs : list of arrays or None
            The gradients of the outputs; where `fused`, of what their `last_activation` made them
            of.
        targets : dict of weight to array
            Where gradients are put; those of layers that are called may be elsewhere.
        """
        graph, gradients = self.graph, [None] * len(self.wanted)
        for slot, gradient in zip(graph.output_slots, doutputs, strict=True):
            graph.add_gradient(gradients, self.wanted, slot, gradient)
        dz = list(itertools.compress(graph.output_slots, fused))
        for part, record in zip(reversed(self.parts), reversed(tape.records), strict=True):
            part.backward(record, gradients, dz, tape, targets)
        return tape.gradients


def describe(graph: Graph, *, training: bool, penalties: bool) -> list[Any]:
    """For each step how a native op is made and whether it trains, None where a call it is."""
    cast = _slots_that_are_cast(graph)
    return [_described(step, cast, training, penalties) for step in graph.steps]


def _slots_that_are_cast(graph: Graph) -> set[int]:
    """All slots but those of inputs that no layer casts to its dtype: they hold integers."""
    slots = set(range(graph.slot_count)).difference(graph.input_slots)
    for step in graph.steps:
        if step.layer.casts_inputs:
            slots.update(step.all_reads())
    return slots


def _described(step: Step, cast: set[int], training: bool, penalties: bool) -> Any:
    layer = step.layer
    if step.mask is not None or step.settings or not set(step.tensors) <= {"initial_state"}:
        return None
    if penalties and layer.has_activity_penalty():
        return None
    if layer.casts_inputs:
        if any(differs(tensor, layer) for tensor in step.node.parents()):
            return None
    elif not cast.isdisjoint(step.reads()):
        return None
    op = told_by_class(layer, "op", training)
    return None if op is None else (*op, training and layer.has_trainable_weights())


def differs(tensor: SymbolicTensor, layer: Layer) -> bool:
    """Whether the layer would have to cast what another one makes; data come as they are read."""
    is_made = tensor.node is not None and tensor.node.inputs is not None
    return is_made and tensor.dtype != layer.dtype
