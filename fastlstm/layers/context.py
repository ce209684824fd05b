"""The record of one call, which travels with the call."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm.layers.weight import Weight

__all__ = ["Context"]


class Context:
    """What one call of a layer keeps for its backward pass.

    Attributes
    ----------
    inputs, outputs : the arrays of the call, as the layer saw and returned them
    mask, training : what the call was given
    cache : free for the layer
    wants_input_gradient : False where nobody will look at what `backward` returns
    takes_dz : True where `backward` is given not the gradient of the outputs but that of what the
        layer's `last_activation` made them of
    gradients : dict of `Weight` to the gradient summed so far
    penalties : what the layers' activity regularizers add to the loss
    """

    __slots__ = (
        "cache",
        "gradients",
        "inputs",
        "mask",
        "outputs",
        "penalties",
        "takes_dz",
        "training",
        "wants_input_gradient",
    )

    def __init__(self) -> None:
        self.gradients: dict[Weight, np.ndarray] = {}
        self.penalties: list[float] = []
        self.inputs: Any = None
        self.outputs: Any = None
        self.mask: Any = None
        self.training = False
        self.cache: Any = None
        self.wants_input_gradient = True
        self.takes_dz = False

    def child(self) -> Context:
        """A context for a layer called inside this one; weight gradients meet in one place."""
        child = Context()
        child.gradients, child.penalties = self.gradients, self.penalties
        return child

    def add_gradient(self, weight: Weight, gradient: np.ndarray | None) -> None:
        """Add to the gradient of `weight`; a frozen weight, or None, adds nothing."""
        if gradient is None or not weight.trainable:
            return
        known = self.gradients.get(weight)
        self.gradients[weight] = gradient if known is None else known + gradient
