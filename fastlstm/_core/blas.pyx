"""The one door to BLAS (OpenBLAS as built by the scipy-openblas32 project)."""

from fastlstm._core.watch cimport WORK_OF_A_UNIT, is_stopped, stops

cdef extern from "cblas.h" nogil:
    cdef enum CBLAS_ORDER:
        CblasRowMajor
    cdef enum CBLAS_TRANSPOSE:
        CblasNoTrans
        CblasTrans
    void scipy_cblas_sgemm(CBLAS_ORDER, CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, int m, int n, int k,
                           float alpha, const float *a, int lda, const float *b, int ldb,
                           float beta, float *c, int ldc)
    void scipy_cblas_dgemm(CBLAS_ORDER, CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, int m, int n, int k,
                           double alpha, const double *a, int lda, const double *b, int ldb,
                           double beta, double *c, int ldc)
    void scipy_cblas_sgemv(CBLAS_ORDER, CBLAS_TRANSPOSE, int m, int n, float alpha,
                           const float *a, int lda, const float *x, int incx,
                           float beta, float *y, int incy)
    void scipy_cblas_dgemv(CBLAS_ORDER, CBLAS_TRANSPOSE, int m, int n, double alpha,
                           const double *a, int lda, const double *x, int incx,
                           double beta, double *y, int incy)
    char *scipy_openblas_get_config()
    char *scipy_openblas_get_corename()

# Rows of one call. BLAS counts in 32 bits and does not stop, so longer matrices go piece by piece;
# with too few rows a product reads its other matrix for too little work.
cdef enum:
    MOST_ROWS = 1 << 30
    LEAST_ROWS = 512
    WORK_OF_A_PIECE = 1 << 29

# Rows, and columns, that `sum_rows` takes at a time.
cdef enum:
    STRETCH = 256
    COLUMNS = 64


def openblas_config() -> str:
    """How the library was built, as it says itself."""
    return scipy_openblas_get_config().decode()


def openblas_core() -> str:
    """The CPU core whose kernels the library uses."""
    return scipy_openblas_get_corename().decode()


cdef void _row_times_matrix(bint transpose_b, Py_ssize_t n, Py_ssize_t k, const real *a,
                            const real *b, Py_ssize_t ldb, real beta, real *c) noexcept nogil:
    """c (n) = a (k) op(b) + beta c: one row, for which gemv is several times faster."""
    cdef CBLAS_TRANSPOSE transpose = CblasNoTrans if transpose_b else CblasTrans
    cdef Py_ssize_t rows = n if transpose_b else k
    cdef Py_ssize_t columns = k if transpose_b else n
    if real is float:
        scipy_cblas_sgemv(CblasRowMajor, transpose, <int>rows, <int>columns, 1, b, <int>ldb, a, 1,
                          beta, c, 1)
    else:
        scipy_cblas_dgemv(CblasRowMajor, transpose, <int>rows, <int>columns, 1, b, <int>ldb, a, 1,
                          beta, c, 1)


cdef void _gemm(bint transpose_a, bint transpose_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                const real *a, Py_ssize_t lda, const real *b, Py_ssize_t ldb,
                real beta, real *c, Py_ssize_t ldc) noexcept nogil:
    cdef CBLAS_TRANSPOSE op_a = CblasTrans if transpose_a else CblasNoTrans
    cdef CBLAS_TRANSPOSE op_b = CblasTrans if transpose_b else CblasNoTrans
    if m == 1 and not transpose_a:
        _row_times_matrix(transpose_b, n, k, a, b, ldb, beta, c)
    elif real is float:
        scipy_cblas_sgemm(CblasRowMajor, op_a, op_b, <int>m, <int>n, <int>k, 1, a, <int>lda,
                          b, <int>ldb, beta, c, <int>ldc)
    else:
        scipy_cblas_dgemm(CblasRowMajor, op_a, op_b, <int>m, <int>n, <int>k, 1, a, <int>lda,
                          b, <int>ldb, beta, c, <int>ldc)


cdef Py_ssize_t rows_of_a_piece(Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    return max(<Py_ssize_t>LEAST_ROWS,
               min(<Py_ssize_t>MOST_ROWS, WORK_OF_A_PIECE // (n * (k + WORK_OF_A_UNIT))))


cdef void gemm(bint transpose_a, bint transpose_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
               const real *a, Py_ssize_t lda, const real *b, Py_ssize_t ldb,
               real beta, real *c, Py_ssize_t ldc, pass_watch *watch) noexcept nogil:
    """C = op(A) op(B) + beta C. Widths and row distances must fit 32 bits; m, k need not."""
    cdef Py_ssize_t start = 0, rows, row, column, piece
    if m == 0 or n == 0 or is_stopped(watch):
        return
    if k == 0:
        if beta == 0:
            for row in range(m):
                for column in range(n):
                    c[row * ldc + column] = 0
        return
    if transpose_a:
        piece = rows_of_a_piece(n, m)
        while start < k:
            rows = min(piece, k - start)
            _gemm(True, transpose_b, m, n, rows, a + start * lda, lda, b + start * ldb, ldb,
                  beta if start == 0 else <real>1, c, ldc)
            start += rows
            if stops(watch, rows * n * m):
                return
        return
    piece = rows_of_a_piece(n, k)
    while start < m:
        rows = min(piece, m - start)
        _gemm(False, transpose_b, rows, n, k, a + start * lda, lda, b, ldb, beta,
              c + start * ldc, ldc)
        start += rows
        if stops(watch, rows * n * k):
            return


cdef void _add_columns(Py_ssize_t m, Py_ssize_t columns, const real *a, Py_ssize_t lda,
                       real *total) noexcept nogil:
    """total (columns) += the sum of the rows of a (m, columns)."""
    cdef real[COLUMNS] sums
    cdef Py_ssize_t row, j
    for j in range(columns):
        sums[j] = 0
    for row in range(m):
        for j in range(columns):
            sums[j] += a[row * lda + j]
    for j in range(columns):
        total[j] += sums[j]


cdef void sum_rows(Py_ssize_t m, Py_ssize_t n, const real *a, Py_ssize_t lda, real *total,
                   pass_watch *watch) noexcept nogil:
    cdef Py_ssize_t start = 0, rows, column, columns
    for column in range(n):
        total[column] = 0
    while start < m:
        rows = min(<Py_ssize_t>STRETCH, m - start)
        column = 0
        while column < n:
            columns = min(<Py_ssize_t>COLUMNS, n - column)
            _add_columns(rows, columns, a + start * lda + column, lda, total + column)
            column += columns
        start += rows
        if stops(watch, rows * n):
            return
