"""Layer normalization of rows: see normalization.pxd.

A sum over a row is taken by running sums that are added up in pairs, in one order for every row,
type and compiler: its error grows with the logarithm of the length. The treatment of denormals is
left as it is.
"""

import math

from libc.math cimport sqrt, sqrtf
from libc.string cimport memcpy, memset

import numpy as np

from fastlstm._core.arrays cimport data_of
from fastlstm._core.kernels cimport real
from fastlstm._core import arguments

cdef object FLOAT64 = arguments.FLOAT64

cdef enum:
    RUNNING_SUMS = 16
    BLOCK = 256


cdef real sum_of_block(const real *a, const real *b, Py_ssize_t n) noexcept nogil:
    cdef real[RUNNING_SUMS] sums
    cdef Py_ssize_t i, k, whole = n - n % RUNNING_SUMS
    cdef int j
    for j in range(RUNNING_SUMS):
        sums[j] = 0
    if b == NULL:
        for k in range(n // RUNNING_SUMS):
            for j in range(RUNNING_SUMS):
                sums[j] += a[k * RUNNING_SUMS + j]
        for i in range(whole, n):
            sums[i - whole] += a[i]
    else:
        for k in range(n // RUNNING_SUMS):
            for j in range(RUNNING_SUMS):
                sums[j] += a[k * RUNNING_SUMS + j] * b[k * RUNNING_SUMS + j]
        for i in range(whole, n):
            sums[i - whole] += a[i] * b[i]
    for j in range(8):
        sums[j] += sums[j + 8]
    for j in range(4):
        sums[j] += sums[j + 4]
    for j in range(2):
        sums[j] += sums[j + 2]
    return sums[0] + sums[1]


cdef real sum_of(const real *a, const real *b, Py_ssize_t n) noexcept nogil:
    """The sum of a * b, or of a alone where b is NULL."""
    cdef Py_ssize_t half = n // 2 - n // 2 % RUNNING_SUMS
    if n <= BLOCK:
        return sum_of_block(a, b, n)
    return sum_of(a, b, half) + sum_of(a + half, b + half if b != NULL else b, n - half)


cdef real inverse_root(real x) noexcept nogil:
    if real is float:
        return 1 / sqrtf(x)
    else:
        return 1 / sqrt(x)


cdef void normalize(const real *x, Py_ssize_t rows, Py_ssize_t n, real epsilon,
                    const real *gamma, const real *beta, real *normalized, real *inverse,
                    real *y) noexcept nogil:
    cdef Py_ssize_t r, i
    cdef real mean, factor
    for r in range(rows):
        mean = sum_of(x, <const real *>NULL, n) / n
        for i in range(n):
            y[i] = x[i] - mean
        # Far from zero the mean is rounded coarsely: what is left of it goes too.
        mean = sum_of(y, <const real *>NULL, n) / n
        for i in range(n):
            y[i] -= mean
        factor = inverse_root(sum_of(y, y, n) / n + epsilon)
        for i in range(n):
            y[i] *= factor
        if normalized != NULL:
            memcpy(normalized + r * n, y, n * sizeof(real))
        if inverse != NULL:
            inverse[r] = factor
        if gamma != NULL:
            for i in range(n):
                y[i] *= gamma[i]
        if beta != NULL:
            for i in range(n):
                y[i] += beta[i]
        x += n
        y += n


cdef void normalize_backward(const real *dy, const real *normalized, const real *inverse,
                             const real *gamma, Py_ssize_t rows, Py_ssize_t n,
                             real *dx) noexcept nogil:
    cdef Py_ssize_t r, i
    cdef real mean, along
    for r in range(rows):
        # The gradient of the normalized row takes its place in dx first.
        for i in range(n):
            dx[i] = dy[i] if gamma == NULL else dy[i] * gamma[i]
        mean = sum_of(dx, <const real *>NULL, n) / n
        along = sum_of(dx, normalized, n) / n
        for i in range(n):
            dx[i] = inverse[r] * (dx[i] - mean - normalized[i] * along)
        dy += n
        normalized += n
        dx += n


cdef void normalize_backward_weights(const real *dy, const real *normalized, Py_ssize_t rows,
                                     Py_ssize_t n, real *dgamma, real *dbeta) noexcept nogil:
    cdef Py_ssize_t _r, i
    if dgamma != NULL:
        memset(dgamma, 0, n * sizeof(real))
    if dbeta != NULL:
        memset(dbeta, 0, n * sizeof(real))
    for _r in range(rows):
        if dgamma != NULL:
            for i in range(n):
                dgamma[i] += dy[i] * normalized[i]
        if dbeta != NULL:
            for i in range(n):
                dbeta[i] += dy[i]
        dy += n
        normalized += n


# ---- arrays --------------------------------------------------------------------------------------

def forward(x, gamma, beta, int axes, double epsilon):
    """x normalized over its last `axes`, then times gamma plus beta of their shape, or None each.

    And for `backward` the normalized x, and 1 / the standard deviations, of the other axes.
    """
    x = arguments.real_array(x, "`x`")
    rank = x.ndim - axes
    shape = x.shape[rank:]
    gamma, beta = _weight(gamma, x.dtype, shape), _weight(beta, x.dtype, shape)
    y, normalized = np.empty_like(x), np.empty_like(x)
    inverse = np.empty(x.shape[:rank], x.dtype)
    cdef Py_ssize_t rows = inverse.size, n = math.prod(shape)
    cdef bint is_double = x.dtype == FLOAT64
    cdef const void *data = data_of(x)
    cdef const void *g = data_of(gamma)
    cdef const void *b = data_of(beta)
    cdef void *kept = data_of(normalized)
    cdef void *factors = data_of(inverse)
    cdef void *result = data_of(y)
    with nogil:
        if is_double:
            normalize[double](
                <const double *>data, rows, n, epsilon, <const double *>g, <const double *>b,
                <double *>kept, <double *>factors, <double *>result)
        else:
            normalize[float](
                <const float *>data, rows, n, <float>epsilon, <const float *>g,
                <const float *>b, <float *>kept, <float *>factors, <float *>result)
    return y, normalized, inverse


def backward(dy, gamma, normalized, inverse):
    """dx, dgamma and dbeta from dy and what `forward` gave."""
    shape = normalized.shape[inverse.ndim:]
    dy = arguments.array_of_shape(
        dy, normalized.dtype, normalized.shape, "`dy`", "of the inputs")
    gamma = _weight(gamma, dy.dtype, shape)
    dx, dgamma, dbeta = np.empty_like(dy), np.empty(shape, dy.dtype), np.empty(shape, dy.dtype)
    cdef Py_ssize_t rows = inverse.size, n = math.prod(shape)
    cdef bint is_double = dy.dtype == FLOAT64
    cdef const void *data = data_of(dy)
    cdef const void *kept = data_of(normalized)
    cdef const void *factors = data_of(inverse)
    cdef const void *g = data_of(gamma)
    cdef void *result = data_of(dx)
    cdef void *to_gamma = data_of(dgamma)
    cdef void *to_beta = data_of(dbeta)
    with nogil:
        if is_double:
            normalize_backward_weights(
                <const double *>data, <const double *>kept, rows, n, <double *>to_gamma,
                <double *>to_beta)
            normalize_backward(
                <const double *>data, <const double *>kept, <const double *>factors,
                <const double *>g, rows, n, <double *>result)
        else:
            normalize_backward_weights(
                <const float *>data, <const float *>kept, rows, n, <float *>to_gamma,
                <float *>to_beta)
            normalize_backward(
                <const float *>data, <const float *>kept, <const float *>factors,
                <const float *>g, rows, n, <float *>result)
    return dx, dgamma, dbeta


cdef _weight(value, dtype, shape):
    if value is None:
        return None
    return arguments.array_of_shape(value, dtype, shape, "gamma and beta", "of the axes")
