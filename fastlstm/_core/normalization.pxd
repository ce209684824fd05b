"""Layer normalization of rows, for other Cython code. All arrays are C-contiguous."""

from fastlstm._core.kernels cimport real

# Of each row of x (rows, n) to y: minus its mean, over its standard deviation, times gamma (n),
# plus beta (n). Where wanted it keeps the normalized rows (rows, n) and 1 / the standard deviations
# (rows). gamma, beta and what need not be kept may be NULL; x and y may be one array.
cdef void normalize(const real *x, Py_ssize_t rows, Py_ssize_t n, real epsilon,
                    const real *gamma, const real *beta, real *normalized, real *inverse,
                    real *y) noexcept nogil
# dx (rows, n) from dy (rows, n) and what was kept; they may be one array.
cdef void normalize_backward(const real *dy, const real *normalized, const real *inverse,
                             const real *gamma, Py_ssize_t rows, Py_ssize_t n,
                             real *dx) noexcept nogil
# dgamma (n) and dbeta (n), either of which may be NULL: sums over the rows in their order.
cdef void normalize_backward_weights(const real *dy, const real *normalized, Py_ssize_t rows,
                                     Py_ssize_t n, real *dgamma, real *dbeta) noexcept nogil
