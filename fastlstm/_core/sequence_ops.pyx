"""What Embedding, Masking, RepeatVector and Permute compute: see sequence_ops.pxd.

Loops on memory that the caller has laid out, and below them a door for each to arrays. They leave
the treatment of denormals as it is.
"""

from libc.string cimport memcpy, memset

import numpy as np

from fastlstm._core.arrays cimport MOST_RANK, data_of
from fastlstm._core.kernels cimport real
from fastlstm._core import arguments

cdef object FLOAT64 = arguments.FLOAT64, INDEX = np.dtype(np.intp)


cdef void add_into(real *total, const real *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        total[i] += x[i]


# ---- Embedding -----------------------------------------------------------------------------------

cdef Py_ssize_t first_out_of_range(const Py_ssize_t *indices, Py_ssize_t n,
                                   Py_ssize_t limit) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        # As an unsigned number a negative one is above every limit.
        if <size_t>indices[k] >= <size_t>limit:
            return k
    return -1


cdef void mask_of_indices(const Py_ssize_t *indices, Py_ssize_t n,
                          unsigned char *counts) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        counts[k] = indices[k] != 0


cdef void take_rows(const char *table, const Py_ssize_t *indices, Py_ssize_t n, Py_ssize_t row,
                    char *y) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        memcpy(y + k * row, table + indices[k] * row, row)


cdef void add_rows(const real *dy, const Py_ssize_t *indices, Py_ssize_t n, Py_ssize_t width,
                   real *table) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        add_into(table + indices[k] * width, dy + k * width, width)


# ---- Masking -------------------------------------------------------------------------------------

cdef void steps_that_count(const real *x, Py_ssize_t rows, Py_ssize_t width, real value,
                           unsigned char *counts) noexcept nogil:
    cdef Py_ssize_t r, j
    for r in range(rows):
        counts[r] = 0
        for j in range(r * width, (r + 1) * width):
            if x[j] != value:  # in a step with data, most often the first
                counts[r] = 1
                break


cdef void fill_masked(const real *x, const unsigned char *counts, Py_ssize_t rows,
                      Py_ssize_t width, real fill, real *y) noexcept nogil:
    cdef Py_ssize_t r, j
    for r in range(rows):
        if not counts[r]:
            for j in range(r * width, (r + 1) * width):
                y[j] = fill
        elif x != y:
            memcpy(y + r * width, x + r * width, width * sizeof(real))


# ---- RepeatVector --------------------------------------------------------------------------------

cdef void repeat_rows(const char *x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t row,
                      char *y) noexcept nogil:
    cdef Py_ssize_t r, k
    for r in range(rows):
        for k in range(n):
            memcpy(y + (r * n + k) * row, x + r * row, row)


cdef void sum_steps(const real *dy, Py_ssize_t batch, Py_ssize_t steps, Py_ssize_t width,
                    real *dx) noexcept nogil:
    cdef Py_ssize_t b, _t
    cdef const real *step
    cdef real *total
    if steps == 0:
        memset(dx, 0, batch * width * sizeof(real))
        return
    for b in range(batch):
        step, total = dy + b * steps * width, dx + b * width
        memcpy(total, step, width * sizeof(real))
        for _t in range(1, steps):
            step += width
            add_into(total, step, width)


# ---- Permute -------------------------------------------------------------------------------------

ctypedef fused word:
    unsigned char
    unsigned int
    unsigned long long


cdef void gather(const char *x, Py_ssize_t n, Py_ssize_t stride, word *y) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        y[k] = (<const word *>(x + k * stride))[0]


cdef void gather_blocks(const char *x, Py_ssize_t n, Py_ssize_t stride, Py_ssize_t block,
                        char *y) noexcept nogil:
    """y (n, block) from blocks that lie `stride` bytes apart."""
    cdef Py_ssize_t k
    if block == sizeof(unsigned int):
        gather(x, n, stride, <unsigned int *>y)
    elif block == sizeof(unsigned long long):
        gather(x, n, stride, <unsigned long long *>y)
    elif block == 1:
        gather(x, n, stride, <unsigned char *>y)
    else:
        for k in range(n):
            memcpy(y + k * block, x + k * stride, block)


cdef void permute(const char *x, int rank, const Py_ssize_t *shape, const int *axes,
                  Py_ssize_t item, char *y) noexcept nogil:
    # The axes of y from the first to the last, their strides in x; neighbours in both are one.
    cdef Py_ssize_t[MOST_RANK] strides_of_x, sizes, strides, position
    cdef Py_ssize_t step = item, block = item, n, stride
    cdef int axis, k, count = 0
    for axis in range(rank - 1, -1, -1):
        strides_of_x[axis] = step
        step *= shape[axis]
    if step == 0:
        return
    for k in range(rank):
        n, stride = shape[axes[k]], strides_of_x[axes[k]]
        if n == 1:
            continue
        if count > 0 and strides[count - 1] == n * stride:
            sizes[count - 1] *= n
            strides[count - 1] = stride
        else:
            sizes[count], strides[count], position[count] = n, stride, 0
            count += 1
    if count > 0 and strides[count - 1] == item:
        count -= 1
        block = sizes[count] * item
    if count == 0:
        memcpy(y, x, block)
        return
    count -= 1
    while True:
        gather_blocks(x, sizes[count], strides[count], block, y)
        y += sizes[count] * block
        axis = count - 1
        while axis >= 0 and position[axis] == sizes[axis] - 1:
            x -= position[axis] * strides[axis]
            position[axis] = 0
            axis -= 1
        if axis < 0:
            return
        position[axis] += 1
        x += strides[axis]


cdef void inverse_axes(int rank, const int *axes, int *inverse) noexcept nogil:
    cdef int k
    for k in range(rank):
        inverse[axes[k]] = k


# ---- arrays --------------------------------------------------------------------------------------

def first_invalid(indices, Py_ssize_t limit):
    """The flat position of the first index (intp) that is not from 0 to limit - 1, or -1."""
    indices = np.ascontiguousarray(indices, INDEX)
    cdef const Py_ssize_t *data = <const Py_ssize_t *>data_of(indices)
    cdef Py_ssize_t n = indices.size, found
    with nogil:
        found = first_out_of_range(data, n, limit)
    return found


def index_mask(indices):
    """Where indices are not 0, of bool."""
    indices = np.ascontiguousarray(indices, INDEX)
    counts = np.empty(indices.shape, np.bool_)
    cdef const Py_ssize_t *data = <const Py_ssize_t *>data_of(indices)
    cdef unsigned char *result = <unsigned char *>data_of(counts)
    cdef Py_ssize_t n = indices.size
    with nogil:
        mask_of_indices(data, n, result)
    return counts


def rows_of(table, indices):
    """The rows (..., F) of a table (N, F) that indices (...) select; IndexError out of it."""
    table = np.ascontiguousarray(table)
    indices = _checked_indices(indices, table.shape[0])
    y = np.empty((*indices.shape, table.shape[1]), table.dtype)
    cdef const char *rows = <const char *>data_of(table)
    cdef const Py_ssize_t *data = <const Py_ssize_t *>data_of(indices)
    cdef char *result = <char *>data_of(y)
    cdef Py_ssize_t n = indices.size, row = table.shape[1] * table.itemsize
    with nogil:
        take_rows(rows, data, n, row, result)
    return y


def gradient_of_table(dy, indices, tuple shape, dtype):
    """The gradient of a table (N, F) from that of its selected rows; IndexError out of it."""
    indices = _checked_indices(indices, shape[0])
    dy = arguments.array_of_shape(dy, dtype, (*indices.shape, shape[1]), "`dy`", "(..., F)")
    gradient = np.zeros(shape, dtype)
    cdef bint is_double = dy.dtype == FLOAT64
    cdef const void *rows = data_of(dy)
    cdef const Py_ssize_t *data = <const Py_ssize_t *>data_of(indices)
    cdef void *result = data_of(gradient)
    cdef Py_ssize_t n = indices.size, width = shape[1]
    with nogil:
        if is_double:
            add_rows(<const double *>rows, data, n, width, <double *>result)
        else:
            add_rows(<const float *>rows, data, n, width, <float *>result)
    return gradient


cdef _checked_indices(indices, Py_ssize_t limit):
    indices = np.ascontiguousarray(indices, INDEX)
    bad = first_invalid(indices, limit)
    if bad >= 0:
        raise IndexError(f"Index {indices.flat[bad]} is no row of a table of {limit}.")
    return indices


def counting_steps(x, double value):
    """Where any feature of x (..., F) is not `value` in the precision of x: bool (...)."""
    x = arguments.real_array(x, "`x`")
    counts = np.empty(x.shape[:x.ndim - 1], np.bool_)
    cdef bint is_double = x.dtype == FLOAT64
    cdef const void *data = data_of(x)
    cdef unsigned char *result = <unsigned char *>data_of(counts)
    cdef Py_ssize_t rows = counts.size, width = x.shape[x.ndim - 1]
    with nogil:
        if is_double:
            steps_that_count[double](<const double *>data, rows, width, value, result)
        else:
            steps_that_count[float](<const float *>data, rows, width, <float>value, result)
    return counts


def masked(x, counts, double fill=0.0):
    """x (..., F) where the steps count (...), and `fill` elsewhere."""
    x = arguments.real_array(x, "`x`")
    counts = np.ascontiguousarray(counts, np.bool_)
    if counts.shape != x.shape[:x.ndim - 1]:
        raise ValueError(f"The mask must have shape {x.shape[:x.ndim - 1]}, got {counts.shape}.")
    y = np.empty_like(x)
    cdef bint is_double = x.dtype == FLOAT64
    cdef const void *data = data_of(x)
    cdef const unsigned char *mask = <const unsigned char *>data_of(counts)
    cdef void *result = data_of(y)
    cdef Py_ssize_t rows = counts.size, width = x.shape[x.ndim - 1]
    with nogil:
        if is_double:
            fill_masked[double](<const double *>data, mask, rows, width, fill, <double *>result)
        else:
            fill_masked[float](
                <const float *>data, mask, rows, width, <float>fill, <float *>result)
    return y


def repeated(x, Py_ssize_t n):
    """x (B, F) as (B, n, F)."""
    x = np.ascontiguousarray(x)
    y = np.empty((x.shape[0], n, x.shape[1]), x.dtype)
    cdef const char *data = <const char *>data_of(x)
    cdef char *result = <char *>data_of(y)
    cdef Py_ssize_t rows = x.shape[0], row = x.shape[1] * x.itemsize
    with nogil:
        repeat_rows(data, rows, n, row, result)
    return y


def sum_over_steps(dy):
    """The sum of dy (B, T, F) over its steps, in their order."""
    dy = arguments.real_array(dy, "`dy`")
    cdef Py_ssize_t batch, steps, width
    batch, steps, width = dy.shape
    dx = np.empty((batch, width), dy.dtype)
    cdef bint is_double = dy.dtype == FLOAT64
    cdef const void *data = data_of(dy)
    cdef void *result = data_of(dx)
    with nogil:
        if is_double:
            sum_steps(<const double *>data, batch, steps, width, <double *>result)
        else:
            sum_steps(<const float *>data, batch, steps, width, <float *>result)
    return dx


def permuted(x, axes):
    """x with axis axes[k] as axis k, C-contiguous."""
    cdef int[MOST_RANK] order
    _read_axes(x.ndim, axes, order)
    return _permuted(x, order)


def permuted_back(dy, axes):
    """What `permuted` by `axes` has made `dy` of."""
    cdef int[MOST_RANK] order, inverse
    _read_axes(dy.ndim, axes, order)
    inverse_axes(dy.ndim, order, inverse)
    return _permuted(dy, inverse)


cdef int _read_axes(int rank, axes, int *order) except -1:
    if sorted(axes) != list(range(rank)):
        raise ValueError(f"`axes` must be the numbers from 0 to {rank - 1}, got {axes}.")
    for k, axis in enumerate(axes):
        order[k] = axis
    return 0


cdef _permuted(x, const int *order):
    x = np.asarray(x, order="C")
    cdef Py_ssize_t[MOST_RANK] shape
    cdef int rank = x.ndim, k
    for k in range(rank):
        shape[k] = x.shape[k]
    y = np.empty([shape[order[k]] for k in range(rank)], x.dtype)
    cdef Py_ssize_t item = x.itemsize
    cdef const char *data = <const char *>data_of(x)
    cdef char *result = <char *>data_of(y)
    with nogil:
        permute(data, rank, shape, order, item, result)
    return y
