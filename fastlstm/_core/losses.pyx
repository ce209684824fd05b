"""Losses that sequence models are trained on most often, each with its gradient in one call."""

from libc.string cimport memset

import numpy as np

from fastlstm._core.arrays cimport Located, data_of, locate
from fastlstm._core.kernels cimport (
    flush_denormals, fp_mode, real, restore_denormals, table_f32, table_f64,
)

cdef enum:
    SOFTMAX
    LABELS
    SIGMOID


def mean_squared_error(y_true, y_pred):
    """The mean of ``(y_pred - y_true) ** 2`` and its gradient in the shape of y_pred.

    For C-contiguous arrays of one real type and shape that are not empty; None for others.
    """
    cdef Located true, predicted
    cdef bint fits = locate(y_pred, False, -1, &predicted), is_double = not fits
    cdef Py_ssize_t count = 1
    cdef int axis
    cdef double total
    if is_double:
        fits = locate(y_pred, True, -1, &predicted)
    fits = fits and locate(y_true, is_double, predicted.rank, &true)
    for axis in range(predicted.rank):
        count *= predicted.shape[axis]
        fits = fits and true.shape[axis] == predicted.shape[axis]
    if not fits or count == 0:
        return None
    gradient = np.empty_like(y_pred)
    cdef void *dy = data_of(gradient)
    with nogil:
        if is_double:
            total = table_f64().squared_error(
                count, <const double *>true.data, <const double *>predicted.data, 2.0 / count,
                <double *>dy)
        else:
            total = table_f32().squared_error(
                count, <const float *>true.data, <const float *>predicted.data,
                <float>(2.0 / count), <float *>dy)
    return total / count, gradient


def crossentropy(str activation not None, y_true, y_pred, factors):
    """The losses (R,) of rows of probabilities, and the gradient (R, N) of what they were made of.

    Parameters
    ----------
    activation : "softmax" or "sigmoid"
        What has made `y_pred`.
    y_true : array (R, N), or for a softmax class numbers (R,) of intp
    y_pred : array (R, N)
    factors : array (R,)
        What the gradient of each row is multiplied by. Where it is 0, so are loss and gradient,
        whatever the row holds.

    All C-contiguous, and but for class numbers of one real type. Raises ``ValueError`` for others
    and for numbers that are no classes.
    """
    losses, dz = np.empty_like(factors), np.empty_like(y_pred)
    cdef int kind = (
        SIGMOID if activation == "sigmoid" else LABELS if y_true.ndim == 1 else SOFTMAX)
    if y_pred.dtype == np.float32:
        _crossentropy[float](kind, y_true, y_pred, factors, losses, dz)
    else:
        _crossentropy[double](kind, y_true, y_pred, factors, losses, dz)
    return losses, dz


cdef _crossentropy(int kind, y_true, const real[:, ::1] y_pred, const real[::1] factors,
                   real[::1] losses, real[:, ::1] dz):
    cdef Py_ssize_t rows = y_pred.shape[0], n = y_pred.shape[1], row
    cdef const Py_ssize_t[::1] labels = y_true if kind == LABELS else None
    cdef const real[:, ::1] targets = y_true if kind != LABELS else None
    cdef bint fits = factors.shape[0] == rows and n > 0
    cdef fp_mode mode
    if kind == LABELS:
        fits = fits and labels.shape[0] == rows
        for row in range(rows if fits else 0):
            fits = fits and 0 <= labels[row] < n
    else:
        fits = fits and targets.shape[0] == rows and targets.shape[1] == n
    if not fits:
        raise ValueError("crossentropy: the arrays do not fit each other.")
    with nogil:
        mode = flush_denormals()
        for row in range(rows):
            if factors[row] == 0:
                losses[row] = 0
                memset(&dz[row, 0], 0, n * sizeof(real))
            elif kind == LABELS:
                losses[row] = _row_of_label(
                    n, labels[row], &y_pred[row, 0], factors[row], &dz[row, 0])
            else:
                losses[row] = _row_of_targets(
                    kind, n, &targets[row, 0], &y_pred[row, 0], factors[row], &dz[row, 0])
        restore_denormals(mode)


cdef real _row_of_label(Py_ssize_t n, Py_ssize_t label, const real *p, real factor,
                        real *dz) noexcept nogil:
    if real is float:
        return table_f32().label_crossentropy(n, label, p, factor, dz)
    else:
        return table_f64().label_crossentropy(n, label, p, factor, dz)


cdef real _row_of_targets(int kind, Py_ssize_t n, const real *t, const real *p, real factor,
                          real *dz) noexcept nogil:
    if real is float:
        if kind == SIGMOID:
            return table_f32().sigmoid_crossentropy(n, t, p, factor, dz)
        return table_f32().softmax_crossentropy(n, t, p, factor, dz)
    else:
        if kind == SIGMOID:
            return table_f64().sigmoid_crossentropy(n, t, p, factor, dz)
        return table_f64().softmax_crossentropy(n, t, p, factor, dz)
