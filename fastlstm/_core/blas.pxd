"""The one door to BLAS: products of row-major matrices, and sums over their rows.

They end early where `watch`, which may be NULL, is stopped.
"""

from fastlstm._core.kernels cimport real
from fastlstm._core.watch cimport pass_watch

# So many rows are a piece of work of milliseconds when each takes n sums of k products.
cdef Py_ssize_t rows_of_a_piece(Py_ssize_t n, Py_ssize_t k) noexcept nogil

# C = op(A) op(B) + beta C with C (m, n), row-major; ld* are the distances between rows.
cdef void gemm(bint transpose_a, bint transpose_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
               const real *a, Py_ssize_t lda, const real *b, Py_ssize_t ldb,
               real beta, real *c, Py_ssize_t ldc, pass_watch *watch) noexcept nogil

# total (n) = the sum of the rows of a (m, n), which lie `lda` apart, in stretches, so that each sum
# is short.
cdef void sum_rows(Py_ssize_t m, Py_ssize_t n, const real *a, Py_ssize_t lda, real *total,
                   pass_watch *watch) noexcept nogil
