"""From what users pass to `fit`, `evaluate` and `predict` to checked batches of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastlstm.errors import as_real_array, check_positive_int

__all__ = ["ArrayData", "Batch", "IterableData", "class_weights", "is_iterable_of_batches"]


class Batch(NamedTuple):
    """Inputs, targets and weights, one entry for each input or output of the model."""

    x: list[np.ndarray]
    y: list[np.ndarray | None]
    sample_weight: list[np.ndarray | None]

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self.x[0])


Standardizer = Callable[[Any, Any, Any], Batch]


class ArrayData:
    """Whole arrays in memory, cut into batches.

    Parameters
    ----------
    whole : Batch
        All rows.
    batch_size : int
    """

    def __init__(self, whole: Batch, batch_size: int) -> None:
        self.whole = whole
        self.batch_size = check_positive_int("`batch_size`", batch_size)

    def __len__(self) -> int:
        return -(-self.whole.size // self.batch_size)

    def batches(self, generator: np.random.Generator | None = None) -> Iterator[Batch]:
        """All rows once, in the order given, or shuffled by `generator`."""
        if len(self) == 1:
            # The order within a batch makes no difference.
            yield self.whole
            return
        size = self.whole.size
        order = None if generator is None else generator.permutation(size)
        for start in range(0, size, self.batch_size):
            rows: Any = slice(start, start + self.batch_size)
            yield take(self.whole, rows if order is None else order[rows])

    def end_epoch(self) -> None:
        """Nothing to do: the next epoch draws its own order."""

    def split(self, share: float) -> tuple[ArrayData, ArrayData]:
        """The first rows, and the last `share` of them apart for validation."""
        size = self.whole.size
        count = int(size * (1 - share))
        if not 0 < count < size:
            raise ValueError(
                f"`validation_split` = {share} leaves nothing on one side of {size} samples."
            )
        first, last = take(self.whole, slice(count)), take(self.whole, slice(count, None))
        return ArrayData(first, self.batch_size), ArrayData(last, self.batch_size)


class IterableData:
    """Batches that an iterable yields, as (x,), (x, y) or (x, y, sample_weight).

    A generator goes on where it stopped; anything else is begun anew for each epoch. `steps`
    batches make an epoch, all that come where it is None.
    """

    def __init__(self, source: Any, standardize: Standardizer, steps: int | None) -> None:
        self.source = source
        self.standardize = standardize
        self.steps = steps
        self._running = iter(source) if isinstance(source, Iterator) else None

    def __len__(self) -> int:
        if self.steps is not None:
            return self.steps
        return len(self.source) if hasattr(self.source, "__len__") else 0

    def require_more_than_one_epoch(self, what: str, steps: str) -> None:
        """Refuse a generator that the first epoch would use up."""
        if self._running is not None and self.steps is None:
            raise ValueError(
                f"{what} is a generator, which the first epoch uses up: give {steps} for one that "
                f"goes on, or a list or another object that can be read again."
            )

    def end_epoch(self) -> None:
        """Tell the source, as Keras's PyDataset and its kin want to know."""
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()

    def _entries(self) -> Iterator[Any]:
        if self._running is not None:
            return self._running
        if hasattr(self.source, "__getitem__") and hasattr(self.source, "__len__"):
            return (self.source[number] for number in range(len(self.source)))
        return iter(self.source)

    def batches(self, generator: np.random.Generator | None = None) -> Iterator[Batch]:
        """The batches of one epoch; their order is the iterable's own."""
        entries = self._entries()
        count = 0
        while self.steps is None or count < self.steps:
            try:
                entry = next(entries)
            except StopIteration:
                break
            count += 1
            # Keras takes a list for a tuple here: [x, y] is one batch, not two inputs.
            parts = tuple(entry) if isinstance(entry, (tuple, list)) else (entry,)
            if not 1 <= len(parts) <= 3:
                raise ValueError(
                    f"Each batch must be (x,), (x, y) or (x, y, sample_weight), "
                    f"got a tuple of {len(parts)}."
                )
            yield self.standardize(*parts, *[None] * (3 - len(parts)))


def take(batch: Batch, rows: Any) -> Batch:
    """Some rows of every array."""
    return Batch(
        [a[rows] for a in batch.x],
        [None if a is None else a[rows] for a in batch.y],
        [None if a is None else a[rows] for a in batch.sample_weight],
    )


def is_iterable_of_batches(x: Any) -> bool:
    """Whether `x` yields batches rather than being the data."""
    if isinstance(x, (np.ndarray, list, tuple, Mapping, str)) or hasattr(x, "__array__"):
        return False
    return isinstance(x, Iterable) or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


def in_order(what: str, value: Any, names: Sequence[str]) -> list[Any]:
    """One entry for each name, from a dict, a list of arrays, or a single value."""
    if isinstance(value, Mapping):
        unknown = sorted(set(value) - set(names))
        if unknown:
            raise ValueError(f"{what} has no entry for {unknown}: known are {list(names)}.")
        return [value.get(name) for name in names]
    if len(names) == 1:
        alone = isinstance(value, (list, tuple)) and len(value) == 1
        return [value[0]] if alone and isinstance(value[0], np.ndarray) else [value]
    if value is None:
        return [None] * len(names)
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
        found = len(value) if isinstance(value, (list, tuple)) else type(value).__name__
        raise ValueError(f"{what} must be a list of {len(names)} arrays ({names}), got {found}.")
    return list(value)


def numeric(what: str, value: Any, dtype: str | None) -> np.ndarray:
    """`value` as an array: of `dtype`, or of its own type where that is None."""
    if dtype is not None:
        return as_real_array(value, dtype, what)
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} must hold real numbers, got an array of dtype {array.dtype}.")
    return array


def in_precision_of(dtype: str, targets: np.ndarray) -> np.ndarray:
    """Real targets in the type of the outputs, once rather than in every batch."""
    return targets.astype(dtype, copy=False) if targets.dtype.kind == "f" else targets


def check_lengths(who: str, batch: Batch) -> None:
    """Refuse arrays of different length, and of none."""
    lengths = {
        "x": [len(a) for a in batch.x],
        "y": [len(a) for a in batch.y if a is not None],
        "sample_weight": [len(a) for a in batch.sample_weight if a is not None],
    }
    if len({n for found in lengths.values() for n in found}) > 1:
        text = ", ".join(f"{name} {n}" for name, found in lengths.items() for n in found)
        raise ValueError(f"{who}: all arrays must have the same number of samples, got {text}.")


def class_weights(
    who: str, class_weight: Mapping[int, float], y: Sequence[np.ndarray | None]
) -> np.ndarray:
    """The weight of each target's class; targets are labels, or one-hot over the last axis."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"{who}: `class_weight` must be a dict of label to weight, got {class_weight!r}."
        )
    if len(y) != 1 or y[0] is None:
        raise ValueError(f"{who}: `class_weight` works with a single output and targets only.")
    target = y[0]
    labels = target
    if target.ndim > 1:
        labels = target[..., 0] if target.shape[-1] == 1 else target.argmax(axis=-1)
    weights = np.ones(labels.shape)
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    return weights
