"""See blas_pieces.pxd.

BLAS rounds a row differently in a matrix of another height: it has other kernels for the rows that
are left over, and for small matrices. So the pieces depend on the shape of a pass alone, never on
the number of threads, and each is one call after the other in one thread.
"""

from fastlstm._core.blas cimport gemm, sum_rows
from fastlstm._core.kernels cimport (
    flush_denormals, fp_mode, real, restore_denormals, the_pool,
)
from fastlstm._core.pool cimport PARTS_ALONE, share_start
from fastlstm._core.watch cimport give_up, pass_watch

# BLAS packs the weights in every call: in pieces of 64 rows that costs a fifth of the time, of 32
# a third, which a second thread more than makes up for. Below 2**18 multiplications, some 5 us, it
# does not; and waking one takes longer than 2**23.
cdef enum:
    MOST_PIECES = 8
    ROWS_OF_A_PIECE = 64
    LEAST_ROWS_OF_A_HALF = 16
    COLUMNS_OF_A_PIECE = 128
    LEAST_WORK_OF_A_PIECE = 1 << 18
    LEAST_WORK_TO_WAKE = 1 << 23


cdef Py_ssize_t _limited(Py_ssize_t pieces, double work) noexcept nogil:
    cdef double most = min(<double>MOST_PIECES, work / LEAST_WORK_OF_A_PIECE)
    return max(<Py_ssize_t>1, min(pieces, <Py_ssize_t>most))


cdef Py_ssize_t pieces_of_rows(Py_ssize_t rows, double work) noexcept nogil:
    cdef Py_ssize_t halves = min(<Py_ssize_t>2, rows // LEAST_ROWS_OF_A_HALF)
    return _limited(max(halves, rows // ROWS_OF_A_PIECE), work)


cdef Py_ssize_t pieces_of_gradient(Py_ssize_t m, Py_ssize_t n, double work) noexcept nogil:
    return _limited(max(m, n) // COLUMNS_OF_A_PIECE, work)


cdef int workers_for(Py_ssize_t pieces) noexcept nogil:
    return min(<int>pieces, the_pool().threads())


cdef Py_ssize_t start_of_piece(const blas_task *task, Py_ssize_t count,
                               Py_ssize_t piece) noexcept nogil:
    return share_start(count, <int>piece, <int>task.pieces)


cdef void _worker(void *argument, int worker, int workers) noexcept nogil:
    cdef const blas_task *task = <const blas_task *>argument
    cdef Py_ssize_t piece
    cdef fp_mode mode = flush_denormals()
    for piece in range(share_start(task.pieces, worker, workers),
                       share_start(task.pieces, worker + 1, workers)):
        task.do_piece(task, piece, worker)
    restore_denormals(mode)


cdef void share_out(blas_task *task, int workers, double work, pass_watch *watch) noexcept nogil:
    if not the_pool().run(workers, PARTS_ALONE, work >= LEAST_WORK_TO_WAKE, _worker, task):
        give_up(watch)


cdef void gradient_piece(Py_ssize_t piece, Py_ssize_t pieces, Py_ssize_t m, Py_ssize_t n,
                         Py_ssize_t rows, const real *x, const real *dz, real *dkernel,
                         pass_watch *watch) noexcept nogil:
    cdef bint by_columns = n >= m
    cdef Py_ssize_t first = share_start(n if by_columns else m, <int>piece, <int>pieces)
    cdef Py_ssize_t end = share_start(n if by_columns else m, <int>piece + 1, <int>pieces)
    if by_columns:
        gemm(True, False, m, end - first, rows, x, m, dz + first, n, <real>0, dkernel + first, n,
             watch)
    else:
        gemm(True, False, end - first, n, rows, x + first, m, dz, n, <real>0, dkernel + first * n,
             n, watch)


cdef void bias_gradient_piece(Py_ssize_t piece, Py_ssize_t pieces, Py_ssize_t n, Py_ssize_t rows,
                              const real *dz, real *dbias, pass_watch *watch) noexcept nogil:
    cdef Py_ssize_t first = share_start(n, <int>piece, <int>pieces)
    cdef Py_ssize_t end = share_start(n, <int>piece + 1, <int>pieces)
    sum_rows(rows, end - first, dz + first, n, dbias + first, watch)
