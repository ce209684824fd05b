"""Losses and metrics of rows of predictions, for other Cython code: on raw pointers, nogil.

A program asks a loss for its `native()` and, for every batch, has the rows weighed by
`weigh_rows`, takes the `divisor_of` the reduction and lets `run_loss` compute. That is also what
calling the loss does, so both give the same bits.
"""

from fastlstm._core.kernels cimport loss_pass

cdef enum Reduction:
    REDUCTION_MEAN  # over the number of rows
    REDUCTION_SUM
    REDUCTION_WEIGHTED_MEAN  # over the sum of the weights
    REDUCTION_NONE

cdef struct row_weights:
    # What rows weigh. Each entry of `samples` and of `mask`, if they are there, stands for so many
    # rows, one after the other; rows / repeat is their number.
    Py_ssize_t rows
    const void *samples  # float or, if `is_double`, double; NULL for none
    bint is_double
    Py_ssize_t samples_repeat
    const unsigned char *mask  # NULL for none
    Py_ssize_t mask_repeat
    const Py_ssize_t *labels  # (rows), NULL where every class counts
    Py_ssize_t ignored  # the class that does not
    # Whether valid rows weigh rows / valid of them, which makes the mean over all rows theirs.
    bint rescale
    double *weights  # OUT (rows)
    double total  # OUT: their sum
    Py_ssize_t repeat  # OUT: of how many rows one after the other each weight is that

cdef void weigh_rows(row_weights *found) noexcept nogil
cdef double divisor_of(int reduction, Py_ssize_t rows, const row_weights *found) noexcept nogil
cdef void run_loss(loss_pass *loss, bint is_double) noexcept nogil
cdef Py_ssize_t label_outside(const Py_ssize_t *labels, Py_ssize_t rows, Py_ssize_t n,
                              bint has_ignored, Py_ssize_t ignored) noexcept nogil


cdef class NativeLoss:
    # A loss or a metric as `run_loss` computes it: see losses.pyx.
    cdef readonly int kind, fused_kind, reduction
    cdef readonly double parameter, label_smoothing
    cdef readonly bint has_ignored, by_element
    cdef readonly Py_ssize_t ignored

    cdef bint has_labels(self) noexcept nogil
    cdef bint checks_labels(self) noexcept nogil
    cdef bint rescales(self) noexcept nogil
    cdef void describe(self, bint fused, loss_pass *loss) noexcept nogil
