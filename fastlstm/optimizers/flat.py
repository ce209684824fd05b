"""The weights of one dtype moved into one array, so that an update is one call.

Layout, the same for parameters, gradients and every slot:

    | weight 0 ...... | weight 1 ... | ... |
    bounds[0] = 0      bounds[1]            bounds[-1] = size
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastlstm.layers.weight import Weight

__all__ = ["FlatBuffer"]


class FlatBuffer:
    """The weights of one dtype, their gradients and what an optimizer remembers of them.

    Parameters
    ----------
    weights : sequence of Weight
        All of one dtype.
    slots : mapping of str to float or None
        The first value of every slot; None for a slot that the optimizer's variant does not have.
    """

    def __init__(self, weights: Sequence[Weight], slots: Mapping[str, float | None]) -> None:
        self.weights = list(weights)
        self.bounds = np.cumsum([0, *(w.size for w in weights)], dtype=np.intp)
        dtype = weights[0].dtype
        self.slots: dict[str, np.ndarray | None] = {
            name: None if value is None else np.full(self.bounds[-1], value, dtype)
            for name, value in slots.items()
        }
        self._allocate(dtype)

    def _allocate(self, dtype: Any) -> None:
        self.parameters = np.zeros(self.bounds[-1], dtype)
        self.gradients = np.zeros(self.bounds[-1], dtype)
        self._values = list(zip(self.weights, self._views(self.parameters), strict=True))
        views = self._views(self.gradients)
        self._gradients = [(w, view, w.shape) for w, view in zip(self.weights, views, strict=True)]
        self.bind()

    def _views(self, flat: np.ndarray) -> list[np.ndarray]:
        return [
            flat[start:stop].reshape(weight.shape)
            for weight, start, stop in zip(
                self.weights, self.bounds[:-1], self.bounds[1:], strict=True
            )
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {"weights": self.weights, "bounds": self.bounds, "slots": self.slots}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate(self.weights[0].dtype)

    def bind(self) -> None:
        """Move in every weight that is not here, because another optimizer has moved it out."""
        for weight, view in self._values:
            if weight._array is not view:
                view[...] = weight.value
                weight.rebind(view)

    def release(self) -> None:
        """Give every weight that is still here an array of its own: no memory stays for it."""
        for weight, view in self._values:
            if weight._array is view:
                weight.rebind(view.copy())

    def targets(self) -> list[tuple[Weight, np.ndarray]]:
        """Every weight with the place of its gradient, in the weight's shape."""
        return [(weight, view) for weight, view, _ in self._gradients]

    def gather(self, gradients: Mapping[Weight, np.ndarray]) -> list[int]:
        """Copy the gradients in, zeros where none came; returns the indices of those weights.

        Raises ``ValueError`` for a gradient whose shape is not its weight's.
        """
        missing = []
        for index, (weight, view, shape) in enumerate(self._gradients):
            gradient = gradients.get(weight)
            if gradient is None:
                view[...] = 0
                missing.append(index)
            elif gradient is view:
                continue
            elif gradient.shape != shape:
                raise ValueError(
                    f"The gradient of weight {weight.name!r} must have shape {shape}, "
                    f"got {gradient.shape}."
                )
            else:
                view[...] = gradient
        return missing

    def runs(self, chosen: Sequence[bool]) -> list[slice]:
        """The stretches of the buffer that the chosen weights fill, neighbours joined."""
        found: list[slice] = []
        for index, is_chosen in enumerate(chosen):
            if not is_chosen:
                continue
            start, stop = int(self.bounds[index]), int(self.bounds[index + 1])
            if found and found[-1].stop == start:
                start = found.pop().start
            found.append(slice(start, stop))
        return found

    def slots_of(self, index: int) -> dict[str, np.ndarray]:
        """The parts of the slots in use that belong to one weight, in the weight's shape."""
        start, stop = self.bounds[index], self.bounds[index + 1]
        shape = self.weights[index].shape
        return {
            name: slot[start:stop].reshape(shape)
            for name, slot in self.slots.items()
            if slot is not None
        }
