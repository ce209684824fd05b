"""The passes of csrc/layers/dense.h over BLAS, on any CPU. `kernel` is plain, (F, U), in both.

    z = x kernel + bias      y = f(z)
    dz = dy f'(z)      dx = dz kernel'      dkernel = x' dz      dbias = sum over rows of dz
"""

from libc.string cimport memcpy

from fastlstm._core.activations cimport activate, activate_backward
from fastlstm._core.blas cimport gemm, rows_of_a_piece
from fastlstm._core.blas_pieces cimport (
    bias_gradient_piece, blas_task, gradient_piece, pieces_of_gradient, pieces_of_rows, share_out,
    start_of_piece, workers_for,
)
from fastlstm._core.kernels cimport ACTIVATION_LINEAR, real
from fastlstm._core.passes cimport dense_backward, dense_forward, dense_pass
from fastlstm._core.watch cimport WORK_OF_A_UNIT, is_stopped, stops


cdef double work_of(const dense_pass *p) noexcept nogil:
    return <double>p.rows * p.units * p.features


cdef Py_ssize_t pieces_of(const dense_pass *p) noexcept nogil:
    return pieces_of_rows(p.rows, work_of(p))


cdef int suitable_workers(const dense_pass *p) noexcept nogil:
    return workers_for(max(pieces_of(p), pieces_of_gradient(p.features, p.units, work_of(p))))


# ---- forward -------------------------------------------------------------------------------------

cdef void forward_rows(const dense_forward *f, Py_ssize_t first, Py_ssize_t end,
                       const real *kernel) noexcept nogil:
    """y for some rows."""
    cdef const dense_pass *p = &f.base
    cdef const real *x = <const real *>p.x
    cdef real *z = <real *>f.z
    cdef real *y = <real *>f.y
    cdef Py_ssize_t units = p.units, piece = rows_of_a_piece(units, p.features), rows, row
    while first < end and not is_stopped(p.watch):
        rows = min(piece, end - first)
        if f.bias != NULL:
            for row in range(first, first + rows):
                memcpy(z + row * units, f.bias, units * sizeof(real))
        # z = x kernel + bias
        gemm(False, False, rows, units, p.features, x + first * p.features, p.features, kernel,
             units, <real>(0 if f.bias == NULL else 1), z + first * units, units, p.watch)
        if p.activation != ACTIVATION_LINEAR and not stops(p.watch, rows * units * WORK_OF_A_UNIT):
            activate(p.activation, rows, units, z + first * units, y + first * units)
        first += rows


cdef void forward_piece(const blas_task *task, Py_ssize_t piece, int worker) noexcept nogil:
    cdef const dense_forward *f = <const dense_forward *>task.a_pass
    cdef Py_ssize_t first = start_of_piece(task, f.base.rows, piece)
    cdef Py_ssize_t end = start_of_piece(task, f.base.rows, piece + 1)
    if task.is_double:
        forward_rows(f, first, end, <const double *>f.kernel)
    else:
        forward_rows(f, first, end, <const float *>f.kernel)


cdef void run_forward(dense_forward *f, bint is_double) noexcept nogil:
    cdef blas_task task = blas_task(f, is_double, pieces_of(&f.base), forward_piece)
    share_out(&task, f.base.workers, work_of(&f.base), f.base.watch)


# ---- backward ------------------------------------------------------------------------------------

cdef void activation_gradient(const dense_backward *g, Py_ssize_t first, Py_ssize_t end,
                              real *dz) noexcept nogil:
    """dz (R, U) = dy f'(z) in some rows."""
    cdef const dense_pass *p = &g.base
    cdef const real *z = <const real *>g.z
    cdef const real *y = <const real *>g.y
    cdef const real *dy = <const real *>g.dy
    cdef Py_ssize_t piece = rows_of_a_piece(p.units, 0), rows, at
    while first < end and not is_stopped(p.watch):
        rows, at = min(piece, end - first), first * p.units
        activate_backward(p.activation, rows, p.units, z + at if z != NULL else NULL, y + at,
                          dy + at, dz + at)
        first += rows
        stops(p.watch, rows * p.units * WORK_OF_A_UNIT)


cdef const real *all_dz(const dense_backward *g, const real *kernel) noexcept nogil:
    """dz (R, U), or where it will be."""
    return <const real *>(g.dy if g.base.activation == ACTIVATION_LINEAR else g.base.workspace)


cdef void backward_rows(const dense_backward *g, Py_ssize_t first, Py_ssize_t end,
                        const real *kernel) noexcept nogil:
    """dz and dx for some rows."""
    cdef const dense_pass *p = &g.base
    if p.activation != ACTIVATION_LINEAR:
        activation_gradient(g, first, end, <real *>p.workspace)
    if g.dx != NULL:
        # dx = dz kernel'
        gemm(False, True, end - first, p.features, p.units, all_dz(g, kernel) + first * p.units,
             p.units, kernel, p.units, <real>0, <real *>g.dx + first * p.features, p.features,
             p.watch)


cdef void weight_gradients(const dense_backward *g, Py_ssize_t piece, Py_ssize_t pieces,
                           const real *kernel) noexcept nogil:
    """A piece of each weight gradient."""
    cdef const dense_pass *p = &g.base
    cdef const real *dz = all_dz(g, kernel)
    # dkernel = x' dz
    gradient_piece(piece, pieces, p.features, p.units, p.rows, <const real *>p.x, dz,
                   <real *>g.dkernel, p.watch)
    bias_gradient_piece(piece, pieces, p.units, p.rows, dz, <real *>g.dbias, p.watch)


cdef void rows_piece(const blas_task *task, Py_ssize_t piece, int worker) noexcept nogil:
    cdef const dense_backward *g = <const dense_backward *>task.a_pass
    cdef Py_ssize_t first = start_of_piece(task, g.base.rows, piece)
    cdef Py_ssize_t end = start_of_piece(task, g.base.rows, piece + 1)
    if task.is_double:
        backward_rows(g, first, end, <const double *>g.kernel)
    else:
        backward_rows(g, first, end, <const float *>g.kernel)


cdef void gradients_piece(const blas_task *task, Py_ssize_t piece, int worker) noexcept nogil:
    cdef const dense_backward *g = <const dense_backward *>task.a_pass
    if task.is_double:
        weight_gradients(g, piece, task.pieces, <const double *>g.kernel)
    else:
        weight_gradients(g, piece, task.pieces, <const float *>g.kernel)


cdef size_t backward_workspace_bytes(const dense_backward *g, bint is_double) noexcept nogil:
    return g.base.rows * g.base.units * (sizeof(double) if is_double else sizeof(float))


cdef void run_backward(dense_backward *g, bint is_double) noexcept nogil:
    cdef const dense_pass *p = &g.base
    cdef double work = work_of(p)
    cdef blas_task task = blas_task(g, is_double, pieces_of(p), rows_piece)
    share_out(&task, p.workers, work, p.watch)
    if is_stopped(p.watch):
        return
    task.pieces, task.do_piece = pieces_of_gradient(p.features, p.units, work), gradients_piece
    share_out(&task, p.workers, work, p.watch)
