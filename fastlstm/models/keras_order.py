"""The order that Keras 3 gives to the layers of a graph, so that weights come in its order.

Keras sorts what it calls operations by their distance from the outputs, and settles ties by who is
met first on the way from the outputs to the inputs. Masks are operations there: ``NotEqual`` behind
an Embedding makes a branch longer than it is here. So they are drawn too, where Keras draws them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastlstm.layers.base import Layer
from fastlstm.layers.bidirectional import Bidirectional
from fastlstm.layers.embedding import Embedding
from fastlstm.layers.masking import Masking
from fastlstm.layers.merging import Concatenate, _Merge
from fastlstm.layers.structure import as_list
from fastlstm.layers.symbolic import Node, SymbolicTensor

__all__ = ["in_keras_order"]


class _Use:
    """One call of an operation: of a layer, or of a nameless one that makes a mask."""

    def __init__(
        self, parents: Sequence[_Use | None], operation: Any = None, ndim: int = 0
    ) -> None:
        self.parents = [parent for parent in parents if parent is not None]
        self.operation = self if operation is None else operation
        self.ndim = ndim


def in_keras_order(
    nodes: Sequence[Node], inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]
) -> list[Layer]:
    """The layers of `nodes`, each once, in the order of a Keras model of the same graph.

    `nodes` lead from the inputs to the outputs, each after those that it needs.
    """
    drawing = _Drawing(inputs)
    for node in nodes:
        drawing.add(node)
    met, finished = _met_on_the_way_up([drawing.uses[id(tensor)] for tensor in outputs])
    depths = _depths(finished)
    ordered = sorted(met, key=lambda operation: (-depths[operation], met[operation]))
    ours = {node.layer for node in nodes}
    return [operation for operation in ordered if operation in ours]


class _Drawing:
    """The uses and masks behind the tensors of a graph."""

    def __init__(self, inputs: Sequence[SymbolicTensor]) -> None:
        self.uses: dict[int, _Use | None] = {}
        self._masks: dict[int, _Use] = {}
        for tensor in inputs:
            # Keras does not look behind a tensor in the middle of a larger graph.
            begins = tensor.node is not None and tensor.node.inputs is None
            self.uses[id(tensor)] = _Use([], tensor.node.layer) if begins and tensor.node else None

    def add(self, node: Node) -> None:
        """Draw a node whose parents have been drawn."""
        inputs, keywords = as_list(node.inputs), node.split_keywords()[0]
        masks = [self._masks.get(id(tensor)) for tensor in inputs]
        parents = [self.uses[id(tensor)] for tensor in inputs]
        if "mask" in keywords:
            masks = [self.uses[id(tensor)] for tensor in as_list(keywords["mask"])]
        elif self._is_told_its_masks(node):
            parents += masks
        for name in sorted(keywords):
            parents += [self.uses[id(tensor)] for tensor in as_list(keywords[name])]
        use = _Use(parents, node.layer)
        made = self._masks_made(node, inputs, masks)
        for number, tensor in enumerate(as_list(node.outputs)):
            self.uses.setdefault(id(tensor), use)
            mask = made[number] if number < len(made) else None
            if mask is not None:
                self._masks[id(tensor)] = mask

    @staticmethod
    def _is_told_its_masks(node: Node) -> bool:
        """Whether Keras makes masks an argument of the call.

        It does for a model; for a layer it does so behind the call if the inputs had to be
        converted, and then the graph does not know.
        """
        if "mask" not in node.layer._call_signature.names or node.keywords:
            return False
        is_tensor_of_its_type = (
            isinstance(node.inputs, SymbolicTensor) and node.inputs.dtype == node.layer.dtype
        )
        return is_tensor_of_its_type or _is_model(node.layer)

    def _masks_made(
        self, node: Node, inputs: Sequence[SymbolicTensor], masks: Sequence[_Use | None]
    ) -> Sequence[_Use | None]:
        """The masks of the outputs; those that are none may be left out at the end."""
        layer: Any = node.layer
        if isinstance(layer, Embedding):
            return [_Use([self.uses[id(inputs[0])]], ndim=inputs[0].ndim)] * layer.mask_zero
        if isinstance(layer, Masking):
            unequal = _Use([self.uses[id(inputs[0])]])
            return [_Use([unequal], ndim=inputs[0].ndim - 1)]
        if isinstance(layer, Concatenate):
            return [self._concatenated(inputs, masks)]
        if isinstance(layer, _Merge):
            return [_any_of(masks)]
        if _is_model(layer) or not layer.supports_masking:
            return []
        if hasattr(layer, "return_sequences"):
            halves = 2 if isinstance(layer, Bidirectional) and layer.merge_mode is None else 1
            return [masks[0]] * halves * layer.return_sequences
        return masks

    def _concatenated(
        self, inputs: Sequence[SymbolicTensor], masks: Sequence[_Use | None]
    ) -> _Use | None:
        if all(mask is None for mask in masks):
            return None
        parts = []
        for tensor, mask in zip(inputs, masks, strict=True):
            if mask is None:
                mask = _Use([self.uses[id(tensor)]])
            elif mask.ndim < tensor.ndim:
                mask = _Use([_Use([mask]), _Use([self.uses[id(tensor)]])])
            parts.append(mask)
        return _Use([_Use(parts)], ndim=inputs[0].ndim - 1)


def _any_of(masks: Sequence[_Use | None]) -> _Use | None:
    """The masks joined one after the other; none unless there are all."""
    joined = masks[0]
    for mask in masks[1:]:
        if joined is None or mask is None:
            return None
        joined = _Use([joined, mask], ndim=joined.ndim)
    return joined


def _is_model(layer: Layer) -> bool:
    return hasattr(layer, "graph")


def _met_on_the_way_up(outputs: Sequence[_Use | None]) -> tuple[dict[Any, int], list[_Use]]:
    """When each operation is met first, and the uses, each after those that it needs."""
    met: dict[Any, int] = {}
    finished: dict[_Use, None] = {}
    for output in outputs:
        path: list[tuple[_Use, Iterator[_Use]]] = []
        entering = output
        while entering is not None or path:
            if entering is not None and entering not in finished:
                met.setdefault(entering.operation, len(met))
                path.append((entering, iter(entering.parents)))
            if not path:
                break
            use, parents = path[-1]
            entering = next(parents, None)
            if entering is None:
                finished[use] = None
                path.pop()
    return met, list(finished)


def _depths(uses: Sequence[_Use]) -> dict[Any, int]:
    """The distance of each operation from the outputs, as far as a look at each use tells.

    A use of an operation is no nearer than those of its uses that were looked at before.
    """
    of_uses: dict[_Use, int] = {}
    of_operations: dict[Any, int] = {}
    for use in reversed(uses):
        depth = max(of_uses.get(use, 0), of_operations.get(use.operation, 0))
        of_uses[use] = of_operations[use.operation] = depth
        for parent in use.parents:
            of_uses[parent] = max(of_uses.get(parent, 0), depth + 1)
    return of_operations
