"""The one door to BLAS: products of row-major matrices."""

from fastlstm._core.kernels cimport real

# C = op(A) op(B) + beta C with C (m, n), row-major; ld* are the distances between rows.
cdef void gemm(bint transpose_a, bint transpose_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
               const real *a, Py_ssize_t lda, const real *b, Py_ssize_t ldb,
               real beta, real *c, Py_ssize_t ldc) noexcept nogil
