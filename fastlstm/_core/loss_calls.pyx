"""Losses and metrics called on arrays, by what losses.pyx has for raw pointers."""

import numpy as np

from fastlstm._core.arrays cimport Located, data_of, locate, locate_typed
from fastlstm._core.kernels cimport LOSS_ROWS, loss_pass
from fastlstm._core.losses cimport (
    REDUCTION_NONE, NativeLoss, divisor_of, label_outside, row_weights, run_loss, weigh_rows,
)

cdef object empty = np.empty, empty_like = np.empty_like, FLOAT64 = np.dtype(np.float64)


cdef struct Batch:
    # Targets, predictions and weights that fit each other.
    bint is_double, is_weighted
    Py_ssize_t samples  # the length of the first axis, 1 where rows have none
    loss_pass loss
    row_weights weights


cdef bint leads(const Located *array, const Located *predicted, int rank) noexcept:
    """Whether its axes, but for axes of 1 at their end, are the first `rank` of the predictions'.

    Each of its entries then stands for as many rows.
    """
    cdef int axis, axes = array.rank
    if axes > rank + 1 or axes == rank + 1 and array.shape[axes - 1] != 1:
        return False
    while axes > 0 and array.shape[axes - 1] == 1:
        axes -= 1
    for axis in range(axes):
        if array.shape[axis] != predicted.shape[axis]:
            return False
    return True


cdef Py_ssize_t repeat_of(const Located *array, Py_ssize_t rows) noexcept:
    cdef Py_ssize_t size = 1
    cdef int axis
    for axis in range(array.rank):
        size *= array.shape[axis]
    return max(rows // size, 1) if size else 1


cdef bint locate_real(object value, bint *is_double, Located *found) except -1:
    is_double[0] = False
    if locate(value, False, -1, found):
        return True
    is_double[0] = True
    return locate(value, True, -1, found)


cdef bint locate_weights(object sample_weight, object mask, const Located *predicted, int rank,
                         row_weights *found) except -1:
    """Whether both are arrays that lead over the first `rank` axes, or None; and where."""
    cdef Located array
    found.samples, found.mask = NULL, NULL
    if sample_weight is not None:
        if not locate_real(sample_weight, &found.is_double, &array):
            return False
        if not leads(&array, predicted, rank):
            return False
        found.samples, found.samples_repeat = array.data, repeat_of(&array, found.rows)
    if mask is not None:
        if not locate_typed(mask, c"?", -1, &array) or not leads(&array, predicted, rank):
            return False
        found.mask = <const unsigned char *>array.data
        found.mask_repeat = repeat_of(&array, found.rows)
    return True


cdef bint fits_targets(NativeLoss native, object y_true, const Located *predicted,
                       Batch *batch) except -1:
    """Whether `y_true` are targets for the predictions, and where; classes must be there."""
    cdef Located true
    cdef int rank = predicted.rank, axis
    cdef char code = c"n" if native.has_labels() else c"d" if batch.is_double else c"f"
    if not locate_typed(y_true, code, -1, &true):
        return False
    for axis in range(rank - 1):
        if axis >= true.rank or true.shape[axis] != predicted.shape[axis]:
            return False
    if true.rank == rank:
        if true.shape[rank - 1] != (1 if native.has_labels() else predicted.shape[rank - 1]):
            return False
    elif true.rank != rank - 1 or not (native.has_labels() or predicted.shape[rank - 1] == 1):
        return False
    batch.loss.targets = true.data
    return not native.checks_labels() or label_outside(
        <const Py_ssize_t *>true.data, batch.loss.rows, batch.loss.n, native.has_ignored,
        native.ignored) < 0


cdef bint find_batch(NativeLoss native, object y_true, object y_pred, object sample_weight,
                     object mask, Batch *batch) except -1:
    """Whether these are arrays as the core takes them, that fit each other; and where they are."""
    cdef Located predicted
    cdef int axis, rank
    if not locate_real(y_pred, &batch.is_double, &predicted):
        return False
    rank = predicted.rank - 1
    batch.loss.rows, batch.loss.n = 1, predicted.shape[rank]
    for axis in range(rank):
        batch.loss.rows *= predicted.shape[axis]
    if batch.loss.n == 0 and native.kind >= LOSS_ROWS:
        return False
    if not fits_targets(native, y_true, &predicted, batch):
        return False
    batch.loss.predictions = predicted.data
    batch.weights.rows = batch.loss.rows
    if native.by_element and rank == 0 or not locate_weights(
            sample_weight, mask, &predicted, rank, &batch.weights):
        if not native.by_element:
            return False
        # Every element is a row of its own.
        rank += 1
        batch.loss.rows, batch.loss.n = batch.loss.rows * batch.loss.n, 1
        batch.weights.rows = batch.loss.rows
        if not locate_weights(sample_weight, mask, &predicted, rank, &batch.weights):
            return False
    batch.weights.labels = <const Py_ssize_t *>batch.loss.targets if native.has_ignored else NULL
    batch.weights.ignored = native.ignored
    batch.weights.rescale = native.rescales()
    batch.is_weighted = native.has_ignored or not (sample_weight is None and mask is None)
    batch.samples = predicted.shape[0] if rank else 1
    # Several weights of the one loss that a single axis of predictions has are somebody else's.
    return rank > 0 or sample_weight is mask is None


cdef object weigh(Batch *batch):
    """Have the rows of a batch weighed; returns what holds the weights."""
    batch.loss.weights = NULL
    if not batch.is_weighted:
        return None
    held = empty(batch.loss.rows, FLOAT64)
    batch.weights.weights = <double *>data_of(held)
    batch.loss.weights = batch.weights.weights
    with nogil:
        weigh_rows(&batch.weights)
    return held


def evaluate(NativeLoss native not None, y_true, y_pred, sample_weight, mask, *,
             bint gradient=False, bint fused=False, Py_ssize_t entries=0):
    """The reduced loss of predictions (..., N); its gradient as well, if wanted.

    Parameters
    ----------
    native : NativeLoss
        Without a reduction, the weighted losses (...) take the place of the loss.
    y_true : array (..., N), or class numbers (...) or (..., 1) of intp
        The last axis may be absent where N is 1.
    y_pred : array (..., N)
    sample_weight : array of a real type, or None
    mask : array of bool, or None
        Both in the shape of the losses or of its leading axes; axes of 1 may follow.
    gradient, fused : bool
        Whether to return it; and as the one of what the activation was applied to.
    entries : int
        How many weights there were before they were repeated for several rows; 0 for as many as
        have come.

    Returns
    -------
    float, array, or (float, array) with a `gradient`, which has the shape of `y_pred`. None unless
    all arrays are C-contiguous, aligned, targets and predictions of one real type, all fit each
    other, and class numbers are classes: whoever calls knows what is to be said then.
    """
    cdef Batch batch
    cdef double divisor
    if not find_batch(native, y_true, y_pred, sample_weight, mask, &batch):
        return None
    _held, losses, dy = weigh(&batch), None, None
    native.describe(fused, &batch.loss)
    if entries and batch.is_weighted:
        batch.weights.repeat = batch.loss.rows // entries
    divisor = divisor_of(
        native.reduction, batch.loss.rows, &batch.weights if batch.is_weighted else NULL)
    if native.reduction == REDUCTION_NONE:
        losses = empty(y_pred.shape[:y_pred.ndim - 1], y_pred.dtype)
    if gradient:
        dy = empty_like(y_pred)
    batch.loss.losses, batch.loss.gradient = data_of(losses), data_of(dy)
    batch.loss.divisor = divisor
    with nogil:
        run_loss(&batch.loss, batch.is_double)
    if losses is not None:
        return losses
    return (batch.loss.total / divisor, dy) if gradient else batch.loss.total / divisor


def metric_sums(NativeLoss native not None, y_true, y_pred, sample_weight, mask):
    """What a metric adds for predictions (B, ..., N): the weighted sum, and that of the weights.

    Each sample counts once, by the mean of its values. Takes what `evaluate` takes, and returns
    None where that does.
    """
    cdef Batch batch
    cdef double count
    cdef Py_ssize_t of_sample
    if not find_batch(native, y_true, y_pred, sample_weight, mask, &batch):
        return None
    _held = weigh(&batch)
    native.describe(False, &batch.loss)
    batch.loss.losses, batch.loss.gradient, batch.loss.divisor = NULL, NULL, 1
    with nogil:
        run_loss(&batch.loss, batch.is_double)
    of_sample = max(batch.loss.rows // batch.samples, 1) if batch.samples else 1
    count = batch.weights.total / of_sample if batch.is_weighted else batch.samples
    return batch.loss.total / of_sample, count
