"""Weights that another library owns, packed again when their values have changed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from fastlstm._core import lstm
from fastlstm._core.arrays import same_bytes

__all__ = ["Plans"]


class Plans:
    """The plan of each of some sets of weights, for as long as it is valid.

    Values are compared: other libraries change theirs in ways that leave no trace, as PyTorch does
    through ``.data``. Not by such a library either: its threads would go on spinning beside ours.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[list[np.ndarray], lstm.LSTMPlan]] = {}

    def plan(
        self,
        which: Hashable,
        weights: Sequence[np.ndarray],
        activation: str,
        recurrent_activation: str,
        go_backwards: bool,
        zero_output_for_mask: bool = True,
    ) -> lstm.LSTMPlan:
        """A plan for kernel (F, 4H), recurrent kernel (H, 4H) and perhaps bias (4H,)."""
        known = self._known.get(which)
        if known is None or not _same(known[0], weights):
            copies = [np.array(weight, order="K") for weight in weights]
            bias = copies[2] if len(copies) > 2 else None
            kernel, recurrent_kernel = map(np.ascontiguousarray, copies[:2])
            plan = lstm.LSTMPlan(
                kernel,
                recurrent_kernel,
                bias,
                activation,
                recurrent_activation,
                go_backwards,
                zero_output_for_mask,
            )
            # Other threads may be reading: in one piece.
            self._known[which] = known = (copies, plan)
        return known[1]


def _same(copies: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> bool:
    """Whether all values are as they were, in whichever order of axes they lie."""
    return len(copies) == len(weights) and all(
        copy.dtype == weight.dtype
        and copy.shape == weight.shape
        and copy.strides == weight.strides
        and same_bytes(_in_order(copy), _in_order(weight))
        for copy, weight in zip(copies, weights, strict=True)
    )


def _in_order(array: np.ndarray) -> np.ndarray:
    """The array, transposed if that is how it lies in memory; copied if it is neither."""
    return np.ascontiguousarray(array.T if array.flags.f_contiguous else array)
