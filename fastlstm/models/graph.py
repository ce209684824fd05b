"""A graph of layers as a flat list of steps: planned once, run forward and backward many times.

Every symbolic tensor between the inputs and the outputs gets a slot; a step reads slots, calls a
layer and fills slots. Running leaves nothing behind in the graph, so one graph serves many threads.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastlstm.layers.base import Layer, told_by_class
from fastlstm.layers.context import Context
from fastlstm.layers.structure import as_list, map_structure
from fastlstm.layers.symbolic import Node, SymbolicTensor
from fastlstm.models.keras_order import in_keras_order

__all__ = ["Graph", "Step", "Tape"]


class Step(NamedTuple):
    """One call of a layer: which slots it reads, by position or name, and which it fills."""

    node: Node
    layer: Layer
    inputs: Any
    mask: Any
    tensors: dict[str, list[int]]
    settings: dict[str, Any]
    outputs: Any

    def keywords(self, values: list[Any]) -> dict[str, Any]:
        """What the layer is called with by name: tensors, and what was fixed in the graph."""
        if not self.tensors:
            return self.settings
        found = {name: [values[slot] for slot in slots] for name, slots in self.tensors.items()}
        return {**self.settings, **found}

    def reads(self) -> list[int]:
        """Every slot through which a gradient may flow back."""
        return [*as_list(self.inputs), *(s for slots in self.tensors.values() for s in slots)]

    def all_reads(self) -> list[int]:
        """Every slot that is read, masks included."""
        return self.reads() if self.mask is None else [*self.reads(), *as_list(self.mask)]


class Tape(NamedTuple):
    """The contexts of one forward run, one for each step, and what wants a gradient."""

    contexts: list[Context]
    wanted: list[bool]


class Graph:
    """The nodes between some tensors and others.

    Parameters
    ----------
    inputs, outputs : lists of SymbolicTensor
        `inputs` may lie in the middle of a larger graph.

    Raises
    ------
    ValueError
        When an output needs an input that is not among `inputs`.
    """

    def __init__(
        self, inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor], who: str
    ) -> None:
        self._slots: dict[int, int] = {}
        self._tensors: list[SymbolicTensor] = []
        self.input_slots = [self._slot(tensor) for tensor in inputs]
        nodes = self._ordered_nodes(outputs, who)
        self.steps = [self._step(node) for node in nodes]
        self._layers = in_keras_order(nodes, inputs, outputs)
        self.output_slots = [self._slots[id(tensor)] for tensor in outputs]
        self._last_layers = self._layers_of_outputs()

    # ---- planning ----------------------------------------------------------------------------

    def _slot(self, tensor: SymbolicTensor) -> int:
        if id(tensor) not in self._slots:
            self._slots[id(tensor)] = len(self._tensors)
            self._tensors.append(tensor)
        return self._slots[id(tensor)]

    def _step(self, node: Node) -> Step:
        tensors, settings = node.split_keywords()
        mask = tensors.pop("mask", None)
        return Step(
            node,
            node.layer,
            map_structure(self._slot, node.inputs),
            None if mask is None else map_structure(self._slot, mask),
            {name: map_structure(self._slot, as_list(value)) for name, value in tensors.items()},
            settings,
            map_structure(self._slot, node.outputs),
        )

    def _ordered_nodes(self, outputs: Sequence[SymbolicTensor], who: str) -> list[Node]:
        """Nodes from the inputs to the outputs, each after those that it needs.

        Without recursion: a chain may be longer than Python's stack.
        """
        found: dict[int, Node] = {}
        pending: list[tuple[SymbolicTensor, bool]] = [(t, False) for t in reversed(outputs)]
        entered: set[int] = set()
        while pending:
            tensor, parents_done = pending.pop()
            node = tensor.node
            if id(tensor) in self._slots and not parents_done:
                continue
            if node is None or node.inputs is None:
                raise ValueError(
                    f"{who}: an output depends on the Input "
                    f"{node.layer.name if node else tensor!r}, which is not among `inputs`."
                )
            if parents_done:
                found.setdefault(id(node), node)
            elif id(node) not in entered:
                entered.add(id(node))
                pending.append((tensor, True))
                pending.extend((parent, False) for parent in reversed(node.parents()))
        nodes = list(found.values())
        depth = {id(node): 0 for node in nodes}
        for node in reversed(nodes):
            for parent in node.parents():
                if parent.node is not None and id(parent.node) in depth:
                    own = depth[id(parent.node)]
                    depth[id(parent.node)] = max(own, depth[id(node)] + 1)
        return sorted(nodes, key=lambda node: -depth[id(node)])

    def _layers_of_outputs(self) -> list[Layer | None]:
        """What makes each output, if that is one array and nothing else reads it."""
        uses = Counter(slot for step in self.steps for slot in step.reads())
        uses.update(self.output_slots)
        makers = {step.outputs: step.layer for step in self.steps if isinstance(step.outputs, int)}
        return [makers.get(slot) if uses[slot] == 1 else None for slot in self.output_slots]

    @property
    def tensors(self) -> list[SymbolicTensor]:
        """The tensors in the order of their slots."""
        return list(self._tensors)

    @property
    def slot_count(self) -> int:
        """How many slots there are: one for each tensor."""
        return len(self._tensors)

    @functools.cached_property
    def input_dtypes(self) -> list[str | None]:
        """The types to which data are brought once, rather than in every batch by the layers."""
        return [self._dtype_of_readers(slot) for slot in self.input_slots]

    def _dtype_of_readers(self, slot: int) -> str | None:
        """What all layers cast the data of an input to; None where they are not of one mind."""
        readers = [step for step in self.steps if slot in step.all_reads()]
        dtypes = {step.layer.dtype for step in readers if step.layer.casts_inputs}
        is_mask = any(step.mask is not None and slot in as_list(step.mask) for step in readers)
        if is_mask or len(dtypes) != 1 or not all(step.layer.casts_inputs for step in readers):
            return None
        return dtypes.pop()

    def layers(self) -> list[Layer]:
        """The layers, each once, in Keras's order."""
        return list(self._layers)

    # ---- running -----------------------------------------------------------------------------

    def run(
        self,
        inputs: Sequence[Any],
        masks: Sequence[Any] | None = None,
        *,
        training: bool = False,
        context: Context | None = None,
    ) -> tuple[list[Any], list[Any], Tape | None]:
        """Outputs, their masks, and with a `context` the tape for `backward`."""
        values: list[Any] = [None] * self.slot_count
        slot_masks: list[Any] = [None] * self.slot_count
        for position, slot in enumerate(self.input_slots):
            values[slot] = inputs[position]
            slot_masks[slot] = None if masks is None else masks[position]
        wanted = [] if context is None else self.wanted(context.wants_input_gradient)
        contexts: list[Context] = []
        for step in self.steps:
            own = None
            if context is not None:
                own = context.child()
                own.wants_input_gradient = any(wanted[slot] for slot in step.reads())
                contexts.append(own)
            self.call(step, values, slot_masks, training=training, context=own)
        tape = None if context is None else Tape(contexts, wanted)
        return (
            [values[slot] for slot in self.output_slots],
            [slot_masks[slot] for slot in self.output_slots],
            tape,
        )

    def call(
        self,
        step: Step,
        values: list[Any],
        masks: list[Any],
        *,
        training: bool,
        context: Context | None,
    ) -> None:
        """Call the layer of a step on what its slots hold, and fill those of its outputs."""
        mask = (
            map_structure(masks.__getitem__, step.inputs)
            if step.mask is None
            else map_structure(values.__getitem__, step.mask)
        )
        call = {"training": training, **step.keywords(values)}
        outputs, out_masks = step.layer.call_with_mask(
            map_structure(values.__getitem__, step.inputs), mask, context=context, **call
        )
        if isinstance(step.outputs, int):
            values[step.outputs], masks[step.outputs] = outputs, out_masks
            return
        for slot, value in zip(as_list(step.outputs), as_list(outputs), strict=True):
            values[slot] = value
        if out_masks is not None:
            for slot, mask in zip(as_list(step.outputs), as_list(out_masks), strict=True):
                masks[slot] = mask

    def wanted(self, inputs_too: bool) -> list[bool]:
        """For each slot whether its gradient leads to a trainable weight, or to an input."""
        wanted = [False] * len(self._tensors)
        for slot in self.input_slots:
            wanted[slot] = inputs_too
        for step in self.steps:
            if step.layer.has_trainable_weights() or any(wanted[slot] for slot in step.reads()):
                for slot in as_list(step.outputs):
                    wanted[slot] = True
        return wanted

    def last_activation(self, output: int) -> str | None:
        """The activation that makes the output of that number, if `backward` may begin before it.

        None where gradients meet: for an output that something else reads, or a penalty is on.
        """
        layer = self._last_layers[output]
        if layer is None or layer.has_activity_penalty():
            return None
        return told_by_class(layer, "last_activation")

    def backward(
        self,
        tape: Tape,
        doutputs: Sequence[np.ndarray | None],
        fused: Sequence[bool] = (),
    ) -> list[Any]:
        """The gradients of the inputs; those of the weights go to the tape's contexts.

        `fused` tells of each output whether its gradient is that before its `last_activation`.
        """
        gradients: list[Any] = [None] * self.slot_count
        for slot, gradient in zip(self.output_slots, doutputs, strict=True):
            self.add_gradient(gradients, tape.wanted, slot, gradient)
        dz = set(itertools.compress(self.output_slots, fused))
        for step, context in zip(reversed(self.steps), reversed(tape.contexts), strict=True):
            self.differentiate(step, context, gradients, tape.wanted, dz)
        return [gradients[slot] for slot in self.input_slots]

    @staticmethod
    def add_gradient(
        gradients: list[Any], wanted: list[bool], slot: int, gradient: np.ndarray | None
    ) -> None:
        """Add what arrives at a slot to what has arrived, if anyone wants it."""
        if gradient is not None and wanted[slot]:
            known = gradients[slot]
            gradients[slot] = gradient if known is None else known + gradient

    def differentiate(
        self,
        step: Step,
        context: Context,
        gradients: list[Any],
        wanted: list[bool],
        dz: Collection[int],
    ) -> None:
        """The backward pass of one step: from the gradients in its outputs' slots to its inputs'.

        `dz` are the slots whose gradient is that before their `last_activation`.
        """
        context.takes_dz = step.outputs in dz if isinstance(step.outputs, int) else False
        arriving = map_structure(gradients.__getitem__, step.outputs)
        if all(gradient is None for gradient in as_list(arriving)):
            is_wanted = any(wanted[slot] for slot in as_list(step.outputs))
            if not (is_wanted and step.layer.has_activity_penalty()):
                return
            # The loss depends on these outputs by the penalty on them alone.
            arriving = map_structure(np.zeros_like, context.outputs)
        found = step.layer.differentiate(context, arriving)
        if step.tensors:
            found, by_name = found
            for name, slots in step.tensors.items():
                for slot, gradient in zip(slots, by_name[name], strict=True):
                    self.add_gradient(gradients, wanted, slot, gradient)
        for slot, gradient in zip(as_list(step.inputs), as_list(found), strict=True):
            self.add_gradient(gradients, wanted, slot, gradient)
