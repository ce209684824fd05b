"""What losses and metrics share: matching the shapes of targets, predictions, weights and masks."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastlstm.errors import as_mask, as_real_array

__all__ = ["expand_over", "match_rank", "match_shape", "merge_weights", "weighted_rows"]


def match_rank(y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring targets to the rank of the predictions where only a last axis of 1 is in the way.

    Predictions change only from shape (B,) to (B, 1), for targets of shape (B, 1).
    """
    if y_true.ndim == y_pred.ndim - 1 and y_pred.shape[-1] == 1:
        return y_true[..., None], y_pred
    if y_true.ndim == y_pred.ndim + 1 and y_true.shape[-1] == 1:
        return (y_true, y_pred[..., None]) if y_pred.ndim == 1 else (y_true[..., 0], y_pred)
    return y_true, y_pred


def match_shape(y_true: np.ndarray, y_pred: np.ndarray, who: str) -> tuple[np.ndarray, np.ndarray]:
    """`match_rank`, and ``ValueError`` unless the shapes are equal then.

    Keras would broadcast ``(4, 1)`` against ``(4, 3)``, which is hardly ever what was meant.
    """
    if y_true.shape != y_pred.shape:
        given = y_true.shape
        y_true, y_pred = match_rank(y_true, y_pred)
        if y_true.shape != y_pred.shape:
            raise ValueError(
                f"{who}: the targets must have the shape of the predictions, {y_pred.shape}, "
                f"got {given}."
            )
    return y_true, y_pred


def expand_over(array: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    """`array` with axes of 1 appended until its leading axes stand over those of `shape`.

    One weight for each sample thus meets (B, T) losses as (B, 1). Over a single number, shape (),
    anything goes. Raises ``ValueError`` if an axis is neither 1 nor that of `shape`.
    """
    if not shape:
        return array
    if array.ndim == len(shape) + 1 and array.shape[-1] == 1:
        array = array[..., 0]
    missing = len(shape) - array.ndim
    if missing < 0 or any(a not in (1, b) for a, b in zip(array.shape, shape, strict=False)):
        raise ValueError(
            f"{what} must have the shape {shape} or its leading axes, got {array.shape}."
        )
    return array.reshape(array.shape + (1,) * missing)


def merge_weights(
    sample_weight: Any,
    mask: Any,
    shape: tuple[int, ...],
    dtype: np.dtype,
    who: str,
    *,
    rescale: bool,
) -> np.ndarray | None:
    """One array of weights, which broadcasts against values of `shape`; None if there is none.

    With `rescale`, valid entries of a mask weigh ``total / valid`` instead of 1, so that a mean
    over all entries is the mean over the valid ones. A mask with nothing valid weighs 0.
    """
    weights = None
    if sample_weight is not None:
        weights = as_real_array(sample_weight, dtype, f"{who}: `sample_weight`")
        weights = expand_over(weights, shape, f"{who}: `sample_weight`")
    if mask is None:
        return weights
    what = f"{who}: `mask`"
    valid = expand_over(as_mask(mask, what), shape, what)
    mask_weights = valid.astype(dtype)
    if rescale and (count := np.count_nonzero(valid)):
        mask_weights *= valid.size / count
    return mask_weights if weights is None else weights * mask_weights


class Rows(NamedTuple):
    """Targets, predictions, and in the shape of the rows their weights and mask, None for none."""

    arrays: tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]
    # How many weights there were before they were repeated for several rows; 0 without.
    entries: int


def weighted_rows(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    shape: tuple[int, ...],
    sample_weight: Any,
    mask: Any,
    own_mask: np.ndarray | None,
    who: str,
) -> Rows:
    """Rows of the given shape with what they weigh: sample weights, and both masks in one.

    A single row, of shape (), may have any number of weights: it is then there as often.
    """
    samples = valid = None
    if sample_weight is not None:
        what = f"{who}: `sample_weight`"
        samples = expand_over(as_real_array(sample_weight, np.float64, what), shape, what)
    for each in (mask, own_mask):
        if each is not None:
            what = f"{who}: `mask`"
            found = expand_over(as_mask(each, what), shape, what)
            valid = found if valid is None else valid & found
    given = [array.shape for array in (samples, valid) if array is not None]
    if not given:
        return Rows((y_true, y_pred, None, None), 0)
    own_shape = np.broadcast_shapes(*given)
    if not shape:
        shape = own_shape or (1,)
        y_true, y_pred = (
            np.ascontiguousarray(np.broadcast_to(each, (*shape, *each.shape)))
            for each in (y_true, y_pred)
        )
    samples, valid = (
        None if array is None else np.ascontiguousarray(np.broadcast_to(array, shape))
        for array in (samples, valid)
    )
    return Rows((y_true, y_pred, samples, valid), math.prod(own_shape))
