"""What the layers of several inputs compute: see merging.pxd.

Loops on memory that the caller has laid out, and below them a door for each to arrays. They leave
the treatment of denormals as it is.
"""

import math

from libc.string cimport memcmp, memcpy

import numpy as np

from fastlstm._core.arrays cimport Located, data_of, locate
from fastlstm._core.kernels cimport real
from fastlstm._core import arguments

cdef object FLOAT64 = arguments.FLOAT64


cdef void add_arrays(const real **xs, int count, Py_ssize_t n, real *y) noexcept nogil:
    cdef const real *a = xs[0]
    cdef const real *b
    cdef Py_ssize_t i
    cdef int k
    if count == 1:
        memcpy(y, a, n * sizeof(real))
    for k in range(1, count):
        b = xs[k]
        for i in range(n):
            y[i] = a[i] + b[i]
        a = y


cdef void multiply_arrays(const real **xs, int count, Py_ssize_t n, real *y) noexcept nogil:
    cdef const real *a = xs[0]
    cdef const real *b
    cdef Py_ssize_t i
    cdef int k
    if count == 1:
        memcpy(y, a, n * sizeof(real))
    for k in range(1, count):
        b = xs[k]
        for i in range(n):
            y[i] = a[i] * b[i]
        a = y


cdef void divide(const real *x, real divisor, Py_ssize_t n, real *y) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = x[i] / divisor


cdef void concatenate(const char **xs, const Py_ssize_t *widths, int count, Py_ssize_t outer,
                      char *y) noexcept nogil:
    cdef Py_ssize_t row
    cdef int k
    for row in range(outer):
        for k in range(count):
            memcpy(y, xs[k] + row * widths[k], widths[k])
            y += widths[k]


cdef void split(const char *y, const Py_ssize_t *widths, int count, Py_ssize_t outer,
                char **xs) noexcept nogil:
    cdef Py_ssize_t row
    cdef int k
    for row in range(outer):
        for k in range(count):
            memcpy(xs[k] + row * widths[k], y, widths[k])
            y += widths[k]


# ---- arrays --------------------------------------------------------------------------------------

def add(arrays):
    """The sum from the left; None unless the arrays are C-contiguous, of one shape and real type.
    """
    return _combined(arrays, False)


def multiply(arrays):
    """The product likewise."""
    return _combined(arrays, True)


cdef _combined(arrays, bint product):
    cdef Located first, found
    cdef bint is_double = arrays[0].dtype == FLOAT64
    cdef int k, count = len(arrays)
    if not locate(arrays[0], is_double, -1, &first):
        return None
    addresses = np.empty(count, np.uintp)
    cdef void **xs = <void **>data_of(addresses)
    for k in range(count):
        if not locate(arrays[k], is_double, first.rank, &found) or memcmp(
                found.shape, first.shape, first.rank * sizeof(Py_ssize_t)) != 0:
            return None
        xs[k] = found.data
    y = np.empty_like(arrays[0])
    cdef void *result = data_of(y)
    cdef Py_ssize_t n = y.size
    with nogil:
        if product and is_double:
            multiply_arrays(<const double **>xs, count, n, <double *>result)
        elif product:
            multiply_arrays(<const float **>xs, count, n, <float *>result)
        elif is_double:
            add_arrays(<const double **>xs, count, n, <double *>result)
        else:
            add_arrays(<const float **>xs, count, n, <float *>result)
    return y


def divided(x, double divisor):
    """x / divisor, in the real type of x."""
    x = arguments.real_array(x, "`x`")
    y = np.empty_like(x)
    cdef bint is_double = x.dtype == FLOAT64
    cdef const void *data = data_of(x)
    cdef void *result = data_of(y)
    cdef Py_ssize_t n = x.size
    with nogil:
        if is_double:
            divide[double](<const double *>data, divisor, n, <double *>result)
        else:
            divide[float](<const float *>data, <float>divisor, n, <float *>result)
    return y


def concatenated(arrays, int axis):
    """Arrays of the first one's type side by side along an axis; their other sizes are equal."""
    arrays = [np.ascontiguousarray(x, arrays[0].dtype) for x in arrays]
    shape = list(arrays[0].shape)
    axis = range(len(shape))[axis]
    sizes = [x.shape[axis] for x in arrays]
    for x, shape[axis] in zip(arrays, sizes, strict=True):
        if x.shape != tuple(shape):
            raise ValueError(f"The sizes must be equal outside of axis {axis}, got {x.shape}.")
    shape[axis] = sum(sizes)
    y = np.empty(shape, arrays[0].dtype)
    _concatenate(y, arrays, axis, False)
    return y


def parts(y, sizes, int axis):
    """The arrays of the given sizes along an axis that `concatenated` would make `y` of."""
    y = np.ascontiguousarray(y)
    shape = list(y.shape)
    axis = range(len(shape))[axis]
    if sum(sizes) != shape[axis]:
        raise ValueError(f"The sizes {sizes} must add up to {shape[axis]}, axis {axis} of `dy`.")
    arrays = []
    for shape[axis] in sizes:
        arrays.append(np.empty(shape, y.dtype))
    _concatenate(y, arrays, axis, True)
    return arrays


cdef int _concatenate(whole, arrays, int axis, bint backward) except -1:
    """Between C-contiguous arrays that fit."""
    cdef int k, count = len(arrays)
    cdef Py_ssize_t item = math.prod(whole.shape[axis + 1:]) * whole.itemsize
    cdef Py_ssize_t outer = math.prod(whole.shape[:axis])
    addresses, sizes = np.empty(count, np.uintp), np.empty(count, np.intp)
    cdef void **xs = <void **>data_of(addresses)
    cdef Py_ssize_t *widths = <Py_ssize_t *>data_of(sizes)
    cdef char *y = <char *>data_of(whole)
    for k in range(count):
        xs[k] = data_of(arrays[k])
        widths[k] = arrays[k].shape[axis] * item
    with nogil:
        if backward:
            split(y, widths, count, outer, <char **>xs)
        else:
            concatenate(<const char **>xs, widths, count, outer, y)
    return 0
