"""What a training loop runs of a layer: arrays in, arrays out, nothing looked up twice.

`Layer.__call__` serves every use of a layer: masks, lists, symbols, contexts. In a chain of plain
layers none of that is needed, and at a few microseconds a layer it would be most of the time that
a small model trains. A stage holds what one layer keeps between its forward and its backward pass;
it belongs to one loop, so that the layer itself stays free for others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlstm._core import dense, lstm, sequence_ops
from fastlstm.layers.weight import Weight

if TYPE_CHECKING:
    from fastlstm.layers.dense import Dense

__all__ = ["DenseStage", "LSTMStage", "RepeatVectorStage", "Stage"]

Gradients = dict[Weight, np.ndarray]


class Stage:
    """One place of a layer in a chain: a layer that stands there twice gives two stages.

    `takes_dz` is what it is in the `Context` of a layer.
    """

    takes_dz = False

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The outputs; keeps what `backward` needs."""
        raise NotImplementedError

    def backward(self, dy: np.ndarray, wants_dx: bool, gradients: Gradients) -> Any:
        """The gradient of the last inputs, if wanted; those of trainable weights are added."""
        raise NotImplementedError


def _add(gradients: Gradients, pairs: tuple[tuple[Weight | None, Any], ...]) -> None:
    """Add to what stages of the same layer have found: a layer may stand in a chain twice."""
    for weight, gradient in pairs:
        if weight is not None and weight.trainable:
            known = gradients.get(weight)
            gradients[weight] = gradient if known is None else known + gradient


class LSTMStage(Stage):
    """Of an LSTM without states, masks and dropout.

    Parameters
    ----------
    plan : function that returns the current plan
    weights : kernel, recurrent kernel, bias or None
    sequences : bool
        Whether the outputs are sequences.
    """

    def __init__(
        self,
        plan: Callable[[], lstm.LSTMPlan],
        weights: tuple[Weight, Weight, Weight | None],
        sequences: bool,
    ) -> None:
        self._plan, self._weights, self._sequences = plan, weights, sequences
        self._cache: Any = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        y, h, _, self._cache = lstm.forward(self._plan(), x, None, None, None, True)
        return y if self._sequences else h

    def backward(self, dy: np.ndarray, wants_dx: bool, gradients: Gradients) -> Any:
        sequence, last = (dy, None) if self._sequences else (None, dy)
        dx, *found, _, _ = lstm.backward(self._cache, sequence, last, None, wants_dx)
        _add(gradients, tuple(zip(self._weights, found, strict=True)))
        return dx


class DenseStage(Stage):
    """Of a dense layer, over one step or all."""

    def __init__(self, layer: Dense) -> None:
        self._layer, self._kernel, self._bias = layer, layer.kernel, layer.bias
        self._cache: Any = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        y, self._cache = dense.forward(self._layer.current_plan(), x, True)
        return y

    def backward(self, dy: np.ndarray, wants_dx: bool, gradients: Gradients) -> Any:
        dx, dkernel, dbias = dense.backward(self._cache, dy, wants_dx, self.takes_dz)
        _add(gradients, ((self._kernel, dkernel), (self._bias, dbias)))
        return dx


class RepeatVectorStage(Stage):
    """Of a RepeatVector of `n` steps."""

    def __init__(self, n: int) -> None:
        self._n = n

    def forward(self, x: np.ndarray) -> np.ndarray:
        return x[:, None, :].repeat(self._n, axis=1)

    def backward(self, dy: np.ndarray, wants_dx: bool, gradients: Gradients) -> Any:
        return sequence_ops.sum_over_steps(dy)
