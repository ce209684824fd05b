"""How a pass over BLAS is cut into pieces, and who does them."""

from fastlstm._core.kernels cimport real
from fastlstm._core.watch cimport pass_watch

# A pass of so much work, in multiplications, is cut into so many pieces of rows, and its weight
# gradients (m, n) into so many of columns or rows.
cdef Py_ssize_t pieces_of_rows(Py_ssize_t rows, double work) noexcept nogil
cdef Py_ssize_t pieces_of_gradient(Py_ssize_t m, Py_ssize_t n, double work) noexcept nogil

# How many threads do so many pieces at most.
cdef int workers_for(Py_ssize_t pieces) noexcept nogil

# Does a piece of `task.pieces`; `worker` numbers the thread that does.
ctypedef void (*piece_function)(const blas_task *task, Py_ssize_t piece, int worker) noexcept nogil

# A pass, cut into pieces.
cdef struct blas_task:
    const void *a_pass
    bint is_double
    Py_ssize_t pieces
    piece_function do_piece

# All pieces of so much work, by so many threads.
cdef void share_out(blas_task *task, int workers, double work, pass_watch *watch) noexcept nogil

# Where a piece begins among `count` rows; it ends where the next one begins.
cdef Py_ssize_t start_of_piece(const blas_task *task, Py_ssize_t count,
                               Py_ssize_t piece) noexcept nogil

# A piece of dkernel (m, n) = x' dz, with `rows` rows of x (m) and dz (n).
cdef void gradient_piece(Py_ssize_t piece, Py_ssize_t pieces, Py_ssize_t m, Py_ssize_t n,
                         Py_ssize_t rows, const real *x, const real *dz, real *dkernel,
                         pass_watch *watch) noexcept nogil
# A piece of dbias (n), the sum of the rows of dz.
cdef void bias_gradient_piece(Py_ssize_t piece, Py_ssize_t pieces, Py_ssize_t n, Py_ssize_t rows,
                              const real *dz, real *dbias, pass_watch *watch) noexcept nogil
