"""Bringing data into the shapes that models take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm.errors import one_of

__all__ = ["pad_sequences", "to_categorical"]

_SIDES = ("pre", "post")


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Class numbers as one-hot vectors.

    Parameters
    ----------
    x : array_like of int, shape (...) or (..., 1)
        Numbers from 0 to ``num_classes - 1``.
    num_classes : int, optional
        By default the largest number plus 1.

    Returns
    -------
    array of float64, shape (..., num_classes)

    Raises
    ------
    ValueError
        For a number that is not whole, negative, or too large.

    Examples
    --------
    >>> to_categorical([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    given = np.asarray(x)
    labels = given.astype(np.int64)
    if not np.array_equal(labels, given):
        raise ValueError("to_categorical: class numbers must be whole.")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if num_classes is None:
        num_classes = int(labels.max()) + 1 if labels.size else 0
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(
            f"to_categorical: class numbers must be from 0 to {num_classes - 1}, "
            f"got {labels.min()} to {labels.max()}."
        )
    one_hot = np.zeros((*labels.shape, num_classes))
    np.put_along_axis(one_hot, labels[..., None], 1.0, axis=-1)
    return one_hot


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Sequences of unlike lengths as one array.

    Parameters
    ----------
    sequences : list of array_like, each of shape (length, ...)
    maxlen : int, optional
        By default the length of the longest sequence.
    dtype : dtype
        Of the result.
    padding, truncating : "pre" or "post"
        On which side to fill up short sequences, and to cut long ones.
    value : number
        What to fill up with.

    Returns
    -------
    array of `dtype`, shape (len(sequences), maxlen, ...)

    Raises
    ------
    ValueError
        If the sequences are not sequences or differ in more than their length.

    Examples
    --------
    >>> pad_sequences([[1], [2, 3], [4, 5, 6]], maxlen=2).tolist()
    [[0, 1], [2, 3], [5, 6]]
    """
    for what, side in (("padding", padding), ("truncating", truncating)):
        if side not in _SIDES:
            raise one_of(f"pad_sequences: `{what}`", side, _SIDES)
    try:
        arrays = [np.asarray(sequence, dtype=dtype) for sequence in sequences]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"pad_sequences: `sequences` must be a list of sequences: {error}"
        ) from None
    if any(array.ndim == 0 for array in arrays):
        raise ValueError("pad_sequences: every entry of `sequences` must be a sequence itself.")
    if maxlen is None:
        maxlen = max(map(len, arrays), default=0)
    entry_shape = next((array.shape[1:] for array in arrays if len(array)), ())
    padded = np.full((len(arrays), maxlen, *entry_shape), value, dtype=dtype)
    for index, array in enumerate(arrays):
        if not len(array) or not maxlen:
            continue
        if array.shape[1:] != entry_shape:
            raise ValueError(
                f"pad_sequences: the entries of sequence {index} must have shape {entry_shape}, "
                f"got {array.shape[1:]}."
            )
        kept = array[-maxlen:] if truncating == "pre" else array[:maxlen]
        place = slice(maxlen - len(kept), None) if padding == "pre" else slice(len(kept))
        padded[index, place] = kept
    return padded
