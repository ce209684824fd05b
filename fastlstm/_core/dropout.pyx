"""Random factors and what is multiplied with them: see dropout.pxd."""

from cpython.pycapsule cimport PyCapsule_GetPointer

import numpy as np

from fastlstm._core.arrays cimport data_of
from fastlstm._core.kernels cimport real
from fastlstm._core import arguments

cdef object FLOAT32 = arguments.FLOAT32, FLOAT64 = arguments.FLOAT64


cdef bitgen *bits_of(object generator) except NULL:
    return <bitgen *>PyCapsule_GetPointer(generator.bit_generator.capsule, "BitGenerator")


cdef void draw_factors(bitgen *bits, double rate, real scale, Py_ssize_t n,
                       real *factors) noexcept nogil:
    # Looked up, since no CPU foretells a branch that is taken at random.
    cdef real[2] choice = [0, scale]
    cdef Py_ssize_t i
    for i in range(n):
        factors[i] = choice[bits.next_double(bits.state) >= rate]


cdef void multiply_steps(const real *x, const real *factors, Py_ssize_t batch, Py_ssize_t steps,
                         Py_ssize_t width, real *y) noexcept nogil:
    cdef Py_ssize_t _b, _t, j
    for _b in range(batch):
        for _t in range(steps):
            for j in range(width):
                y[j] = x[j] * factors[j]
            x += width
            y += width
        factors += width


def random_factors(generator, shape, double rate, dtype):
    """Factors of a shape: 0 at `rate` of the places, 1 / (1 - rate) elsewhere; rate < 1."""
    factors = np.empty(shape, dtype)
    if factors.dtype != FLOAT64 and factors.dtype != FLOAT32:
        raise TypeError(f"`dtype` must be float32 or float64, got {factors.dtype}.")
    cdef bitgen *bits = bits_of(generator)
    cdef bint is_double = factors.dtype == FLOAT64
    cdef void *result = data_of(factors)
    cdef Py_ssize_t n = factors.size
    cdef double scale = 1.0 / (1.0 - rate)
    with generator.bit_generator.lock:
        with nogil:
            if is_double:
                draw_factors[double](bits, rate, scale, n, <double *>result)
            else:
                draw_factors[float](bits, rate, <float>scale, n, <float *>result)
    return factors


def scaled(x, factors):
    """x * factors, which broadcast over x."""
    if x.dtype != factors.dtype or not _is_by_steps(x.shape, factors.shape):
        return x * factors
    x, factors = arguments.real_array(x, "`x`"), arguments.real_array(factors, "`factors`")
    y = np.empty_like(x)
    cdef bint is_double = x.dtype == FLOAT64
    cdef const void *data = data_of(x)
    cdef const void *by = data_of(factors)
    cdef void *result = data_of(y)
    cdef Py_ssize_t batch = 1, steps = 1, width = factors.size
    if x.shape != factors.shape:
        batch, steps, width = x.shape
    with nogil:
        if is_double:
            multiply_steps(
                <const double *>data, <const double *>by, batch, steps, width, <double *>result)
        else:
            multiply_steps(
                <const float *>data, <const float *>by, batch, steps, width, <float *>result)
    return y


cdef bint _is_by_steps(tuple shape, tuple factors) except -1:
    """Whether there is a factor for each element, or the same for all steps."""
    return shape == factors or len(shape) == 3 and factors == (shape[0], 1, shape[2])
