"""The loss that sequence models are trained on most often, in one call."""

import numpy as np

from fastlstm._core.arrays cimport Located, data_of, locate
from fastlstm._core.kernels cimport table_f32, table_f64


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
