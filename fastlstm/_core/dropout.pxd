"""Random factors and what is multiplied with them, for other Cython code."""

from libc.stdint cimport uint32_t, uint64_t

from fastlstm._core.kernels cimport real

# NumPy's numpy/random/bitgen.h, a stable interface since version 1.17.
cdef struct bitgen:
    void *state
    uint64_t (*next_uint64)(void *state) noexcept nogil
    uint32_t (*next_uint32)(void *state) noexcept nogil
    double (*next_double)(void *state) noexcept nogil
    uint64_t (*next_raw)(void *state) noexcept nogil

# The bits of a numpy.random.Generator, valid while it lives. Whoever draws holds its
# `bit_generator.lock`, as NumPy does.
cdef bitgen *bits_of(object generator) except NULL
# One `Generator.random` each: 0 where it is below `rate`, `scale` elsewhere.
cdef void draw_factors(bitgen *bits, double rate, real scale, Py_ssize_t n,
                       real *factors) noexcept nogil
# y (batch, steps, width) = x * factors (batch, width), the same at all steps; x and y may be one.
cdef void multiply_steps(const real *x, const real *factors, Py_ssize_t batch, Py_ssize_t steps,
                         Py_ssize_t width, real *y) noexcept nogil
