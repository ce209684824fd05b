"""From what users pass to `fit`, `evaluate` and `predict` to checked batches of arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from fastlstm._reduction import expand_over
from fastlstm.errors import as_array, as_real_array
from fastlstm.layers.symbolic import SymbolicTensor

__all__ = ["ArrayData", "Batch", "IterableData", "is_iterable_of_batches", "with_class_weights"]

DEFAULT_BATCH_SIZE = 32


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


def part_of_pass(epoch: int, length: int, steps: int | None) -> range:
    """Which of `length` batches an epoch takes.

    It goes on where the epoch before stopped; a pass over all batches ends with what is left.
    """
    if steps is None:
        return range(length)
    epochs_in_a_pass = max(1, -(-length // steps))
    start = epoch % epochs_in_a_pass * steps
    return range(start, min(start + steps, length))


class ArrayData:
    """Whole arrays in memory, cut into batches.

    Parameters
    ----------
    whole : Batch
        All rows.
    batch_size : int, optional
        32 by default; with `steps`, what makes so many steps a pass over all rows.
    steps : int, optional
        How many batches make an epoch: those of a whole pass by default.
    """

    def __init__(self, whole: Batch, batch_size: int | None = None, steps: int | None = None):
        self.whole = whole
        self.steps = steps
        self._asked_size = batch_size
        if batch_size is None:
            batch_size = DEFAULT_BATCH_SIZE if steps is None else -(-whole.size // steps)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.whole.size // self.batch_size)

    def batches(self, epoch: int, generator: np.random.Generator | None = None) -> Iterator[Batch]:
        """The batches of an epoch, in the order given, or shuffled by `generator`."""
        if len(self) == 1:
            # The order within a batch makes no difference.
            yield self.whole
            return
        part = part_of_pass(epoch, len(self), self.steps)
        order = None
        if generator is not None:
            # Every epoch of a pass draws the same order: the generator moves on with the last one,
            # so that its state and the epoch's number say where an interrupted training goes on.
            is_last = part.stop == len(self)
            order = (generator if is_last else deepcopy(generator)).permutation(self.whole.size)
        for number in part:
            rows: Any = slice(number * self.batch_size, (number + 1) * self.batch_size)
            yield take(self.whole, rows if order is None else order[rows])

    def adjust(self, change: Callable[[Batch], Batch]) -> None:
        """Change all rows at once."""
        self.whole = change(self.whole)

    def is_spent(self) -> bool:
        """No: arrays can be read again."""
        return False

    def end_epoch(self) -> None:
        """Nothing to do: the next pass draws its own order."""

    def split(self, share: float) -> tuple[ArrayData, Batch]:
        """The first rows, and the last `share` of them apart for validation."""
        size = self.whole.size
        count = int(size * (1 - share))
        if not 0 < count < size:
            raise ValueError(
                f"`validation_split` = {share} leaves nothing on one side of {size} samples."
            )
        first, last = take(self.whole, slice(count)), take(self.whole, slice(count, None))
        return ArrayData(first, self._asked_size, self.steps), last


class IterableData:
    """Batches that an iterable yields, as (x,), (x, y) or (x, y, sample_weight).

    `steps` batches make an epoch, all that come where it is None. With `steps` an epoch goes on
    where the one before stopped, and what can be read again is begun anew when it has run out.
    A generator always goes on.
    """

    def __init__(self, source: Any, standardize: Standardizer, steps: int | None) -> None:
        self.source = source
        self.standardize = standardize
        self.steps = steps
        self._is_generator = isinstance(source, Iterator)
        self._running: Iterator[Any] = iter(source) if self._is_generator else iter(())
        # An entry that was read before an epoch wanted it.
        self._ahead: list[Any] = []
        self._has_given = False

    def __len__(self) -> int:
        if self.steps is not None:
            return self.steps
        return len(self.source) if hasattr(self.source, "__len__") else 0

    def require_more_than_one_epoch(self, what: str, steps: str) -> None:
        """Refuse a generator that the first epoch would use up."""
        if self._is_generator and self.steps is None:
            raise ValueError(
                f"{what} is a generator, which the first epoch uses up: give {steps} for one that "
                f"goes on, or a list or another object that can be read again."
            )

    def end_epoch(self) -> None:
        """Tell the source, as Keras's PyDataset and its kin want to know."""
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()

    def adjust(self, change: Callable[[Batch], Batch]) -> None:
        """Change each batch as it comes."""
        standardize = self.standardize
        self.standardize = lambda *parts: change(standardize(*parts))

    def is_spent(self) -> bool:
        """Whether a generator has given all that it had."""
        return self._is_generator and self._has_given and not self._look_ahead()

    def first(self) -> Batch | None:
        """The first batch, which the first epoch gets as well; None if there is none."""
        self._begin(0)
        return self._batch(self._ahead[0]) if self._look_ahead() else None

    def batches(self, epoch: int, generator: np.random.Generator | None = None) -> Iterator[Batch]:
        """The batches of an epoch; their order is the iterable's own."""
        self._begin(epoch)
        count = 0
        while (self.steps is None or count < self.steps) and self._look_ahead():
            count += 1
            self._has_given = True
            yield self._batch(self._ahead.pop())

    def _begin(self, epoch: int) -> None:
        if self._is_generator or self._ahead:
            return
        if hasattr(self.source, "__getitem__") and hasattr(self.source, "__len__"):
            part = part_of_pass(epoch, len(self.source), self.steps)
            self._running = (self.source[number] for number in part)
        elif not (epoch and self.steps is not None and self._look_ahead()):
            self._running = iter(self.source)

    def _look_ahead(self) -> bool:
        """Whether one more entry comes."""
        if not self._ahead:
            self._ahead += itertools.islice(self._running, 1)
        return bool(self._ahead)

    def _batch(self, entry: Any) -> Batch:
        # Keras takes a list for a tuple here: [x, y] is one batch, not two inputs.
        parts = tuple(entry) if isinstance(entry, (tuple, list)) else (entry,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(
                f"Each batch must be (x,), (x, y) or (x, y, sample_weight), "
                f"got a tuple of {len(parts)}."
            )
        return self.standardize(*parts, *[None] * (3 - len(parts)))


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


def in_order(what: str, value: Any, names: Sequence[str], *, spread: bool = False) -> list[Any]:
    """One entry for each name, from a dict, a list of arrays, or a single value.

    With `spread` one array is for all names.
    """
    if isinstance(value, Mapping):
        unknown = sorted(set(value) - set(names))
        if unknown:
            raise ValueError(f"{what} has no entry for {unknown}: known are {list(names)}.")
        return [value.get(name) for name in names]
    if len(names) == 1:
        alone = isinstance(value, (list, tuple)) and len(value) == 1
        return [value[0]] if alone and isinstance(value[0], np.ndarray) else [value]
    if value is None or (spread and isinstance(value, np.ndarray)):
        return [value] * len(names)
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
        found = len(value) if isinstance(value, (list, tuple)) else type(value).__name__
        raise ValueError(f"{what} must be a list of {len(names)} arrays ({names}), got {found}.")
    return list(value)


def numeric(what: str, value: Any, dtype: str | None) -> np.ndarray:
    """`value` as an array: of `dtype`, or of its own type where that is None."""
    if dtype is not None:
        return as_real_array(value, dtype, what)
    array = as_array(value, what)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} must hold real numbers, got an array of dtype {array.dtype}.")
    return array


def in_precision_of(dtype: str, targets: np.ndarray) -> np.ndarray:
    """Real targets in the type of the outputs, once rather than in every batch."""
    return targets.astype(dtype, copy=False) if targets.dtype.kind == "f" else targets


def check_lengths(who: str, batch: Batch) -> None:
    """Refuse arrays of different length, and of none."""
    given = [*batch.x, *batch.y, *batch.sample_weight]
    if all(a is None or len(a) == batch.size for a in given):
        return
    lengths = {
        "x": [len(a) for a in batch.x],
        "y": [len(a) for a in batch.y if a is not None],
        "sample_weight": [len(a) for a in batch.sample_weight if a is not None],
    }
    text = ", ".join(f"{name} {n}" for name, found in lengths.items() for n in found)
    raise ValueError(f"{who}: all arrays must have the same number of samples, got {text}.")


def with_class_weights(
    who: str,
    batch: Batch,
    class_weight: Mapping[int, float] | None,
    outputs: Sequence[SymbolicTensor],
) -> Batch:
    """The batch, each of whose targets also weighs what its class does.

    Targets with fewer axes than the outputs, or a last axis of 1, are labels; others are one-hot
    over the last axis.
    """
    if class_weight is None:
        return batch
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f"{who}: `class_weight` must be a dict of label to weight, got {class_weight!r}."
        )
    if len(batch.y) != 1 or batch.y[0] is None:
        raise ValueError(f"{who}: `class_weight` works with a single output and targets only.")
    labels = batch.y[0]
    if labels.ndim >= outputs[0].ndim and labels.ndim > 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels.argmax(axis=-1)
    labels = np.rint(labels)
    weights = np.ones(labels.shape)
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    own = batch.sample_weight[0]
    if own is not None:
        weights = weights * expand_over(own, weights.shape, f"{who}: `sample_weight`")
    return batch._replace(sample_weight=[weights])
