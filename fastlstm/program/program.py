"""A graph compiled for one use into parts, each of them native ops or one call of a layer.

    graph    Masking -> LSTM -> Lambda -> LSTM -> Dense
    parts    [native: Masking, LSTM]  [call: Lambda]  [native: LSTM, Dense]

A native part is one call of the core, which runs all of its ops on memory that it has planned
(`fastlstm._core.program`). Any other layer, one of a user's own among them, is called as it is
called on arrays. What is not there is left out at compile time: masks, dropout outside of training,
gradients that lead nowhere. The graph's own `run` and `backward` call every layer; a program gives
the same bits.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastlstm._core.program import Run
from fastlstm._core.versions import settings_version
from fastlstm.layers.base import Layer, told_by_class
from fastlstm.layers.context import Context
from fastlstm.layers.structure import as_list
from fastlstm.layers.symbolic import SymbolicTensor
from fastlstm.layers.weight import Weight
from fastlstm.models.graph import Graph, Step

__all__ = ["Program", "Tape"]

# An idle run keeps its memory up to this size: planning it anew takes some microseconds, which
# larger ones do not notice, and blocks of memory are kept for whoever asks next.
MOST_IDLE_BYTES = 1 << 24
MOST_IDLE_RUNS = 8


class Tape(NamedTuple):
    """What one run keeps for `Program.backward`: for each part its run or its context."""

    records: list[Any]
    context: Context


class _Native:
    """Some steps as ops one after the other, between slots that arrays come in and go out by."""

    def __init__(
        self,
        steps: Sequence[Step],
        nodes: Sequence[Any],
        wanted: Sequence[bool],
        read_elsewhere: Callable[[int], bool],
        training: bool,
    ) -> None:
        self.steps, self._training = list(steps), training
        made = dict.fromkeys(slot for step in steps for slot in as_list(step.outputs))
        reads = dict.fromkeys(slot for step in steps for slot in step.reads())
        self.inputs = [slot for slot in reads if slot not in made]
        self.outputs = [slot for slot in made if read_elsewhere(slot)]
        self._wanted = [wanted[slot] for slot in self.inputs]
        self._dtypes = [self._dtypes_for(slot) for slot in self.inputs]
        self._own = {slot: own for own, slot in enumerate([*self.inputs, *made])}
        self._nodes = [
            (make, arguments, self._own_slots(step.reads()), self._own_slots(step.outputs), trains)
            for (make, arguments, trains), step in zip(nodes, steps, strict=True)
        ]
        self._idle: list[Run] = []

    def _dtypes_for(self, slot: int) -> set[np.dtype]:
        """What the layers that read a slot would cast it to."""
        readers = [step.layer for step in self.steps if slot in step.reads()]
        return {np.dtype(layer.dtype) for layer in readers if layer.casts_inputs}

    def _own_slots(self, slots: Any) -> list[int]:
        """The numbers of slots among those of this part."""
        return [self._own[slot] for slot in as_list(slots)]

    def forward(self, values: list[Any], masks: list[Any]) -> Run | None:
        """Fill slots; the run, or None where its layers were called instead."""
        arrays = [values[slot] for slot in self.inputs]
        array_masks = [masks[slot] for slot in self.inputs]
        run = self._run_for(arrays, array_masks)
        if run is None:
            return None
        outputs, output_masks = run.forward(arrays, array_masks)
        for slot, output, mask in zip(self.outputs, outputs, output_masks, strict=True):
            values[slot], masks[slot] = output, mask
        return run

    def _run_for(self, arrays: list[Any], masks: list[Any]) -> Run | None:
        """A run for such arrays that nobody uses; None where they are more than ops take."""
        for run in list(self._idle):
            if run.fits(arrays, masks):
                try:
                    self._idle.remove(run)
                except ValueError:  # another thread was faster
                    continue
                return run
        for array, dtypes in zip(arrays, self._dtypes, strict=True):
            if any(getattr(array, "dtype", None) != dtype for dtype in dtypes):
                return None
        try:
            return Run(
                self._nodes,
                len(self._own),
                self._own_slots(self.inputs),
                self._own_slots(self.outputs),
                self._wanted,
                self._training,
                arrays,
                masks,
            )
        except NotImplementedError:
            return None

    def give_back(self, run: Run) -> None:
        """Keep a run for the next arrays of its shapes."""
        run.release()
        if run.bytes <= MOST_IDLE_BYTES:
            self._idle.append(run)
            del self._idle[:-MOST_IDLE_RUNS]


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

    def _parts(self) -> list[_Native | Step]:
        """Neighbours that are native in one part, every other step alone."""
        graph = self.graph
        readers = Counter(slot for step in graph.steps for slot in step.all_reads())
        readers.update(graph.output_slots)
        parts: list[_Native | Step] = []
        steps_and_nodes = zip(graph.steps, self.nodes, strict=True)
        for is_native, group in itertools.groupby(
            steps_and_nodes, lambda each: each[1] is not None
        ):
            steps, nodes = zip(*group, strict=True)
            if not is_native:
                parts.extend(steps)
                continue
            inside = Counter(slot for step in steps for slot in step.reads())
            parts.append(
                _Native(
                    steps,
                    nodes,
                    self.wanted,
                    lambda slot, inside=inside: readers[slot] > inside[slot],
                    self.training,
                )
            )
        return parts

    def is_current(self) -> bool:
        """Whether the layers are still as they were when the program was compiled."""
        version = settings_version()
        if not self.training and version == self._settings_version:
            return True
        # Which weights train is not a setting of a layer alone.
        nodes = describe(self.graph, training=self.training, penalties=self.penalties)
        if nodes != self.nodes:
            return False
        self._settings_version = version
        return True

    def run(
        self, inputs: Sequence[Any], *, keep: bool = False
    ) -> tuple[list[Any], list[Any], Tape]:
        """Outputs and their masks, and with `keep` the tape for `backward`.

        Parameters
        ----------
        inputs : list of arrays, for the graph's inputs
        """
        graph = self.graph
        values: list[Any] = [None] * graph.slot_count
        masks: list[Any] = [None] * graph.slot_count
        for slot, value in zip(graph.input_slots, inputs, strict=True):
            values[slot] = value
        context = Context()
        wants_contexts = keep or self.penalties
        records: list[Any] = []
        for part in self.parts:
            if isinstance(part, Step):
                records.append(self._call(part, values, masks, context, wants_contexts))
                continue
            record: Any = part.forward(values, masks)
            if record is None:
                record = [
                    self._call(step, values, masks, context, wants_contexts) for step in part.steps
                ]
            elif not keep:
                part.give_back(record)
            records.append(record)
        outputs = [values[slot] for slot in graph.output_slots]
        return outputs, [masks[slot] for slot in graph.output_slots], Tape(records, context)

    def _call(
        self, step: Step, values: list[Any], masks: list[Any], context: Context, wanted: bool
    ) -> Context | None:
        own = context.child() if wanted else None
        if own is not None:
            own.wants_input_gradient = any(self.wanted[slot] for slot in step.reads())
        self.graph.call(step, values, masks, training=self.training, context=own)
        return own

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
        tape : of the run
        doutputs : list of arrays or None
            The gradients of the outputs; where `fused`, of what their `last_activation` made them
            of.
        targets : dict of weight to array
            Where gradients are put; those of called layers may be elsewhere.
        """
        graph, found = self.graph, tape.context.gradients
        gradients: list[Any] = [None] * graph.slot_count
        for slot, gradient in zip(graph.output_slots, doutputs, strict=True):
            graph.add_gradient(gradients, self.wanted, slot, gradient)
        dz = {slot for slot, is_dz in zip(graph.output_slots, fused, strict=True) if is_dz}
        for part, record in zip(reversed(self.parts), reversed(tape.records), strict=True):
            if isinstance(part, Step):
                graph.differentiate(part, record, gradients, self.wanted, dz)
            elif isinstance(record, list):
                for step, context in zip(reversed(part.steps), reversed(record), strict=True):
                    graph.differentiate(step, context, gradients, self.wanted, dz)
            else:
                arriving = [gradients[slot] for slot in part.outputs]
                is_dz = [slot in dz for slot in part.outputs]
                known = [gradients[slot] for slot in part.inputs]
                leaving = record.backward(arriving, known, is_dz, found, targets)
                for slot, gradient in zip(part.inputs, leaving, strict=True):
                    if gradient is not None:
                        gradients[slot] = gradient
                part.give_back(record)
        return found


def describe(graph: Graph, *, training: bool, penalties: bool) -> list[Any]:
    """For each step how a native op is made and whether it trains, None where a call it is."""
    return [_described(step, training, penalties) for step in graph.steps]


def _described(step: Step, training: bool, penalties: bool) -> Any:
    layer = step.layer
    if step.mask is not None or step.settings or not set(step.tensors) <= {"initial_state"}:
        return None
    if penalties and layer.has_activity_penalty():
        return None
    if layer.casts_inputs and any(differs(tensor, layer) for tensor in step.node.parents()):
        return None
    op = told_by_class(layer, "op", training)
    return None if op is None else (*op, training and layer.has_trainable_weights())


def differs(tensor: SymbolicTensor, layer: Layer) -> bool:
    """Whether the layer would have to cast what another one makes; data come as they are read."""
    is_made = tensor.node is not None and tensor.node.inputs is not None
    return is_made and tensor.dtype != layer.dtype
