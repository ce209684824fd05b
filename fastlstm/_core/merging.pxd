"""What the layers of several inputs compute, for other Cython code.

All arrays are C-contiguous and may be empty; `count` is at least 1.
"""

from fastlstm._core.kernels cimport real

# y = xs[0] + xs[1] + ..., and the product likewise, from the left; y may be xs[0] or
# xs[1].
cdef void add_arrays(const real **xs, int count, Py_ssize_t n, real *y) noexcept nogil
cdef void multiply_arrays(const real **xs, int count, Py_ssize_t n, real *y) noexcept nogil
# y = x / divisor; they may be one array.
cdef void divide(const real *x, real divisor, Py_ssize_t n, real *y) noexcept nogil

# y (outer, widths[0] + widths[1] + ...) from xs[k] (outer, widths[k]), widths in bytes; and back.
cdef void concatenate(const char **xs, const Py_ssize_t *widths, int count, Py_ssize_t outer,
                      char *y) noexcept nogil
cdef void split(const char *y, const Py_ssize_t *widths, int count, Py_ssize_t outer,
                char **xs) noexcept nogil
