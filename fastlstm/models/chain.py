"""The fast way through a model that is a chain of plain layers, for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlstm.layers.base import told_by_class
from fastlstm.layers.stage import Stage
from fastlstm.layers.weight import Weight

if TYPE_CHECKING:
    from fastlstm.models.graph import Graph

__all__ = ["Chain", "chain_of"]


class Chain:
    """Stages one behind the other; computes what `Graph` computes in training.

    Parameters
    ----------
    stages : list of Stage
        One for each use of a layer.
    has_weights : list of bool
        Whether the layer of a stage has weights that train.
    """

    def __init__(self, stages: Sequence[Stage], has_weights: Sequence[bool]) -> None:
        # No gradient needs to go further down than to the first weight.
        lowest = has_weights.index(True) if True in has_weights else len(stages)
        self.stages = list(stages)
        self._down = [(stage, k > lowest) for k, stage in enumerate(stages) if k >= lowest][::-1]

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The outputs."""
        for stage in self.stages:
            x = stage.forward(x)
        return x

    def backward(self, dy: Any, fused: bool = False) -> dict[Weight, np.ndarray]:
        """The gradients of the weights after the last `forward`; `fused` as in `Graph.backward`."""
        gradients: dict[Weight, np.ndarray] = {}
        if fused:
            self.stages[-1].takes_dz = True
        for stage, wants_dx in self._down:
            dy = stage.backward(dy, wants_dx, gradients)
        return gradients


def chain_of(graph: Graph) -> Chain | None:
    """The graph as a chain, or None where it is more than that."""
    if len(graph.input_slots) != 1 or len(graph.output_slots) != 1:
        return None
    place = graph.input_slots[0]
    stages = []
    for step in graph.steps:
        stage = told_by_class(step.layer, "stage")
        if stage is None or step.inputs != place or step.node.keywords:
            return None
        stages.append(stage)
        place = step.outputs
    if place != graph.output_slots[0]:
        return None
    return Chain(stages, [step.layer.has_trainable_weights() for step in graph.steps])
