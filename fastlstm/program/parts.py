"""The parts of a program: some ops in one call of the core, or a call of a layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fastlstm._core.program import Run
from fastlstm.layers.context import Context
from fastlstm.layers.structure import as_list
from fastlstm.layers.weight import Weight
from fastlstm.models.graph import Graph, Step

__all__ = ["CalledPart", "NativePart", "Part", "Tape"]

# An idle run keeps its memory up to this size: planning it anew takes some microseconds, which
# larger ones do not notice, and blocks of memory are kept for whoever asks next.
MOST_IDLE_BYTES = 1 << 24
MOST_IDLE_RUNS = 8
MOST_REFUSED = 64


class Tape:
    """What one run of a program keeps: for each part a record, and what its layers found.

    Attributes
    ----------
    keeps : bool
        Whether a backward pass may follow.
    has_contexts : bool
        Whether layers that are called get contexts: for the backward pass, or for penalties.
    records : list, one for each part
    gradients : dict of weight to array, the sums so far
    penalties : list of float, what activity regularizers add to the loss
    """

    __slots__ = ("gradients", "has_contexts", "keeps", "penalties", "records")

    def __init__(self, keeps: bool, has_contexts: bool) -> None:
        self.keeps, self.has_contexts = keeps, has_contexts
        self.records: list[Any] = []
        self.gradients: dict[Weight, np.ndarray] = {}
        self.penalties: list[float] = []

    def new_context(self) -> Context:
        """A context whose gradients and penalties are the tape's."""
        context = Context()
        context.gradients, context.penalties = self.gradients, self.penalties
        return context


class Part(Protocol):
    """Some steps of a graph.

    `forward` reads and fills slots, each with the mask of its value; `backward` adds to the
    gradients in the slots, and to those of weights on the tape.
    """

    def forward(self, values: list[Any], masks: list[Any], tape: Tape) -> Any:
        """The record, which `backward` gets."""

    def backward(
        self,
        record: Any,
        gradients: list[Any],
        dz: Collection[int],
        tape: Tape,
        targets: Mapping[Weight, np.ndarray],
    ) -> None:
        """`dz` are the slots whose gradient is that before their `last_activation`."""


class CalledPart:
    """One call of a layer."""

    def __init__(self, graph: Graph, step: Step, wanted: list[bool], training: bool) -> None:
        self.steps: tuple[()] = ()
        self._graph, self._step, self._all_wanted, self._training = graph, step, wanted, training
        self._wants_input_gradient = any(wanted[slot] for slot in step.reads())

    def forward(self, values: list[Any], masks: list[Any], tape: Tape) -> Context | None:
        """Call the layer; the record is its context, if there are any."""
        own = None
        if tape.has_contexts:
            own = tape.new_context()
            own.wants_input_gradient = self._wants_input_gradient
        self._graph.call(self._step, values, masks, training=self._training, context=own)
        return own

    def backward(
        self,
        record: Context,
        gradients: list[Any],
        dz: Collection[int],
        tape: Tape,
        targets: Mapping[Weight, np.ndarray],
    ) -> None:
        """The layer's own backward pass."""
        self._graph.differentiate(self._step, record, gradients, self._all_wanted, dz)


class NativePart:
    """Some steps as ops one after the other, between slots that arrays come in and go out by.

    Where arrays are more than the ops take, as empty ones are, the layers are called instead.

    Parameters
    ----------
    steps : sequence of Step
    nodes : for each how its op is made: (make, arguments, whether it trains)
    read_elsewhere : function of a slot
        Whether other parts read it, or it leaves the program.
    """

    def __init__(
        self,
        graph: Graph,
        steps: Sequence[Step],
        nodes: Sequence[Any],
        wanted: list[bool],
        training: bool,
        read_elsewhere: Callable[[int], bool],
    ) -> None:
        self.steps = tuple(steps)
        self._calls = [CalledPart(graph, step, wanted, training) for step in steps]
        made = dict.fromkeys(slot for step in steps for slot in as_list(step.outputs))
        reads = dict.fromkeys(slot for step in steps for slot in step.reads())
        self._inputs = [slot for slot in reads if slot not in made]
        own = {slot: number for number, slot in enumerate([*self._inputs, *made])}
        self._plan = (
            [
                (
                    make,
                    arguments,
                    [own[slot] for slot in step.reads()],
                    [own[slot] for slot in as_list(step.outputs)],
                    trains,
                )
                for (make, arguments, trains), step in zip(nodes, steps, strict=True)
            ],
            len(own),
            self._inputs,
            [(slot, own[slot]) for slot in made if read_elsewhere(slot)],
            [wanted[slot] for slot in self._inputs],
            training,
        )
        # How data come in that are not cast to a layer's dtype.
        self._entries = [
            (slot, step.layer.entry)
            for step in steps
            if not step.layer.casts_inputs
            for slot in step.reads()
        ]
        # What the layers that read a slot would cast it to.
        self._casts = [
            (slot, np.dtype(step.layer.dtype))
            for step in steps
            if step.layer.casts_inputs
            for slot in step.reads()
            if slot not in made
        ]
        self._idle: list[Run] = []
        # Shapes and types of arrays that ops do not take.
        self._refused: set[Any] = set()

    def forward(self, values: list[Any], masks: list[Any], tape: Tape) -> Any:
        """Run all ops; the record is the run, or a list of contexts where layers were called."""
        run = self._entered(values, masks) if self._entries else self._ran(values, masks)
        if run is None:
            return [call.forward(values, masks, tape) for call in self._calls]
        if not tape.keeps:
            self._give_back(run)
        return run

    def _entered(self, values: list[Any], masks: list[Any]) -> Any:
        """As `_ran`, on data as the ops read them, which others do not see."""
        own = list(values)
        for slot, entry in self._entries:
            own[slot] = entry(own[slot])
        run = self._ran(own, masks)
        for slot, _ in self._plan[3] if run is not None else ():
            values[slot] = own[slot]
        return run

    def _ran(self, values: list[Any], masks: list[Any]) -> Any:
        """A run that has been run; None where no op takes what the slots hold."""
        for _ in range(len(self._idle)):
            try:
                run = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if run.forward(values, masks):
                return run
            self._idle.insert(0, run)
        if any(getattr(values[slot], "dtype", None) != dtype for slot, dtype in self._casts):
            return None
        signature = tuple(_signature(of[slot]) for of in (values, masks) for slot in self._inputs)
        if signature in self._refused:
            return None
        try:
            run = Run(*self._plan, values, masks)
        except NotImplementedError:
            if len(self._refused) >= MOST_REFUSED:
                self._refused.clear()
            self._refused.add(signature)
            return None
        run.forward(values, masks)
        return run

    def _give_back(self, run: Run) -> None:
        """Keep a run for the next arrays of its shapes."""
        run.release()
        if run.bytes <= MOST_IDLE_BYTES:
            self._idle.append(run)
            if len(self._idle) > MOST_IDLE_RUNS:
                del self._idle[:-MOST_IDLE_RUNS]

    def backward(
        self,
        record: Run | list[Context],
        gradients: list[Any],
        dz: Collection[int],
        tape: Tape,
        targets: Mapping[Weight, np.ndarray],
    ) -> None:
        """All ops from the last to the first."""
        if isinstance(record, list):
            for call, context in zip(reversed(self._calls), reversed(record), strict=True):
                call.backward(context, gradients, dz, tape, targets)
            return
        record.backward(gradients, dz, tape.gradients, targets)
        self._give_back(record)


def _signature(array: Any) -> Any:
    """What makes two arrays alike for a plan."""
    return None if array is None else (np.shape(array), getattr(array, "dtype", None))
