"""Losses and metrics of rows of predictions, with their gradients: see losses.pxd.

The formulas are in csrc/kernels/*losses_template.h.
"""

from fastlstm._core.kernels cimport (
    LOSS_ABSOLUTE, LOSS_BINARY, LOSS_BINARY_FUSED, LOSS_BINARY_LOGITS, LOSS_CATEGORICAL,
    LOSS_CATEGORICAL_FUSED, LOSS_CATEGORICAL_LOGITS, LOSS_COSINE, LOSS_HUBER, LOSS_KL_DIVERGENCE,
    LOSS_LABELS, LOSS_LOG_COSH, LOSS_SPARSE, LOSS_SPARSE_FUSED, LOSS_SPARSE_LOGITS,
    LOSS_SQUARED, METRIC_BINARY_ACCURACY, METRIC_CATEGORICAL_ACCURACY, METRIC_SPARSE_ACCURACY,
    METRIC_SPARSE_TOP_K, METRIC_TOP_K, flush_denormals, fp_mode, loss_pass, real, restore_denormals,
    table_f32, table_f64,
)

KINDS = {
    "squared": LOSS_SQUARED,
    "absolute": LOSS_ABSOLUTE,
    "huber": LOSS_HUBER,
    "log_cosh": LOSS_LOG_COSH,
    "binary": LOSS_BINARY,
    "binary_logits": LOSS_BINARY_LOGITS,
    "binary_fused": LOSS_BINARY_FUSED,
    "binary_accuracy": METRIC_BINARY_ACCURACY,
    "categorical": LOSS_CATEGORICAL,
    "categorical_logits": LOSS_CATEGORICAL_LOGITS,
    "categorical_fused": LOSS_CATEGORICAL_FUSED,
    "kl_divergence": LOSS_KL_DIVERGENCE,
    "cosine": LOSS_COSINE,
    "categorical_accuracy": METRIC_CATEGORICAL_ACCURACY,
    "top_k": METRIC_TOP_K,
    "sparse": LOSS_SPARSE,
    "sparse_logits": LOSS_SPARSE_LOGITS,
    "sparse_fused": LOSS_SPARSE_FUSED,
    "sparse_accuracy": METRIC_SPARSE_ACCURACY,
    "sparse_top_k": METRIC_SPARSE_TOP_K,
}
cdef dict KIND_OF = KINDS
cdef dict REDUCTION_OF = {
    "sum_over_batch_size": REDUCTION_MEAN,
    "mean": REDUCTION_MEAN,
    "sum": REDUCTION_SUM,
    "mean_with_sample_weight": REDUCTION_WEIGHTED_MEAN,
    "none": REDUCTION_NONE,
    None: REDUCTION_NONE,
}


cdef class NativeLoss:
    """A loss or a metric as the core computes it.

    Parameters
    ----------
    kind : str
        Of `KINDS`: what a row of predictions amounts to.
    reduction : str or None
        As `fastlstm.losses.Loss` takes it.
    parameter : float
        Huber's delta, a threshold, or the k of the k largest.
    label_smoothing : float
    ignored : int, optional
        The class whose rows do not count.
    fused_kind : str, optional
        What takes the place of `kind` where a gradient is to be that of what the activation of the
        predictions was applied to.
    by_element : bool
        Whether weights may also be those of every element, in the shape of the predictions.
    """

    def __cinit__(self, str kind not None, str reduction, double parameter=0,
                  double label_smoothing=0, ignored=None, str fused_kind=None,
                  bint by_element=False):
        self.kind = KIND_OF[kind]
        self.fused_kind = -1 if fused_kind is None else KIND_OF[fused_kind]
        self.reduction = REDUCTION_OF[reduction]
        self.parameter, self.label_smoothing = parameter, label_smoothing
        self.has_ignored, self.by_element = ignored is not None, by_element
        if self.has_ignored:
            self.ignored = ignored

    cdef bint has_labels(self) noexcept nogil:
        """Whether targets are the numbers of classes, and not as the predictions."""
        return self.kind >= LOSS_LABELS

    cdef bint checks_labels(self) noexcept nogil:
        """Whether they must be from 0 to n - 1."""
        return self.has_labels() and self.kind != METRIC_SPARSE_ACCURACY

    cdef bint rescales(self) noexcept nogil:
        """Whether a mean is over what is valid."""
        return self.reduction == REDUCTION_MEAN

    cdef void describe(self, bint fused, loss_pass *loss) noexcept nogil:
        """Say what is to be computed, of whatever arrays."""
        loss.kind = self.fused_kind if fused else self.kind
        loss.parameter, loss.label_smoothing = self.parameter, self.label_smoothing


# ---- what rows weigh -----------------------------------------------------------------------------

cdef void weigh_rows(row_weights *found) noexcept nogil:
    """Weights from those of samples, a mask and an ignored class, for each of the rows.

    What does not count weighs 0, whatever its sample weighs.
    """
    cdef Py_ssize_t row = 0, rows = found.rows, entry, _each
    cdef double *weights = found.weights
    cdef double valid = 0, value
    found.repeat = rows
    if found.mask != NULL:
        found.repeat = min(found.repeat, found.mask_repeat)
        for entry in range(rows // found.mask_repeat):
            for _each in range(found.mask_repeat):
                weights[row] = found.mask[entry] != 0
                row += 1
    else:
        for row in range(rows):
            weights[row] = 1
    if found.labels != NULL:
        found.repeat = min(found.repeat, 1)
        for row in range(rows):
            if found.labels[row] == found.ignored:
                weights[row] = 0
    if found.rescale and (found.mask != NULL or found.labels != NULL):
        for row in range(rows):
            valid += weights[row]
    value = rows / valid if valid > 0 else 1
    if found.samples == NULL:
        for row in range(rows):
            weights[row] *= value
    elif found.is_double:
        weigh_samples[double](found, <const double *>found.samples, value)
    else:
        weigh_samples[float](found, <const float *>found.samples, value)
    found.total = 0
    for row in range(rows):
        found.total += weights[row]


cdef void weigh_samples(row_weights *found, const real *samples, double scale) noexcept nogil:
    cdef Py_ssize_t row = 0, entry, _each
    cdef double value
    found.repeat = min(found.repeat, found.samples_repeat)
    for entry in range(found.rows // found.samples_repeat):
        value = samples[entry] * scale
        for _each in range(found.samples_repeat):
            found.weights[row] = value if found.weights[row] != 0 else 0
            row += 1


cdef double divisor_of(int reduction, Py_ssize_t rows, const row_weights *found) noexcept nogil:
    """What the sum of the losses is divided by; 1 in place of 0, the sum then being 0 as well.

    `found` is NULL for rows without weights. A weight of several rows counts once.
    """
    cdef double divisor = 1
    if reduction == REDUCTION_WEIGHTED_MEAN and found != NULL:
        divisor = found.total / max(found.repeat, 1)
    elif reduction == REDUCTION_MEAN or reduction == REDUCTION_WEIGHTED_MEAN:
        divisor = <double>rows
    return divisor if divisor != 0 else 1


# ---- one pass over rows --------------------------------------------------------------------------

cdef void run_loss(loss_pass *loss, bint is_double) noexcept nogil:
    """The losses of all rows, their sum and gradients: see csrc/kernels/losses.h."""
    cdef fp_mode mode = flush_denormals()
    if is_double:
        table_f64().run_losses(loss)
    else:
        table_f32().run_losses(loss)
    restore_denormals(mode)


cdef Py_ssize_t label_outside(const Py_ssize_t *labels, Py_ssize_t rows, Py_ssize_t n,
                              bint has_ignored, Py_ssize_t ignored) noexcept nogil:
    """The first row whose label is none of n classes, nor the ignored one; -1 if there is none."""
    cdef Py_ssize_t row
    for row in range(rows):
        if not (0 <= labels[row] < n or has_ignored and labels[row] == ignored):
            return row
    return -1
