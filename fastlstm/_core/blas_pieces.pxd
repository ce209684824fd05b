"""How a pass over BLAS is cut into pieces, and who does them."""

from fastlstm._core.kernels cimport real
from fastlstm._core.pool cimport pool_task
from fastlstm._core.watch cimport pass_watch

# A pass of so much work, in multiplications, is cut into so many pieces of rows, and its weight
# gradients (m, n) into so many of columns or rows.
cdef Py_ssize_t pieces_of_rows(Py_ssize_t rows, double work) noexcept nogil
cdef Py_ssize_t pieces_of_gradient(Py_ssize_t m, Py_ssize_t n, double work) noexcept nogil

# How many threads do so many pieces at most; and the task done in so many parts.
cdef int workers_for(Py_ssize_t pieces) noexcept nogil
cdef void share_out(int workers, double work, pool_task task, void *argument,
                    pass_watch *watch) noexcept nogil

# A piece of dkernel (m, n) = x' dz, with `rows` rows of x (m) and dz (n).
cdef void gradient_piece(Py_ssize_t piece, Py_ssize_t pieces, Py_ssize_t m, Py_ssize_t n,
                         Py_ssize_t rows, const real *x, const real *dz, real *dkernel,
                         pass_watch *watch) noexcept nogil
# A piece of dbias (n), the sum of the rows of dz.
cdef void bias_gradient_piece(Py_ssize_t piece, Py_ssize_t pieces, Py_ssize_t n, Py_ssize_t rows,
                              const real *dz, real *dbias, pass_watch *watch) noexcept nogil
