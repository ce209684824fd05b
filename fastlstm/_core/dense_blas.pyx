"""The passes of csrc/layers/dense.h over BLAS, on any CPU. `kernel` is plain, (F, U), in both.

    z = x kernel + bias      y = f(z)
    dz = dy f'(z)      dx = dz kernel'      dkernel = x' dz      dbias = sum over rows of dz
"""

from libc.string cimport memcpy

from fastlstm._core.activations cimport activate, activate_backward
from fastlstm._core.blas cimport gemm, rows_of_a_piece
from fastlstm._core.blas_pieces cimport (
    bias_gradient_piece, gradient_piece, pieces_of_gradient, pieces_of_rows, share_out, workers_for,
)
from fastlstm._core.kernels cimport (
    ACTIVATION_LINEAR, flush_denormals, fp_mode, real, restore_denormals,
)
from fastlstm._core.passes cimport dense_backward, dense_forward, dense_pass
from fastlstm._core.pool cimport share_start
from fastlstm._core.watch cimport WORK_OF_A_UNIT, is_stopped, stops


cdef double work_of(const dense_pass *p) noexcept nogil:
    return <double>p.rows * p.units * p.features


cdef Py_ssize_t pieces_of(const dense_pass *p) noexcept nogil:
    return pieces_of_rows(p.rows, work_of(p))


cdef int suitable_workers(const dense_pass *p) noexcept nogil:
    return workers_for(max(pieces_of(p), pieces_of_gradient(p.features, p.units, work_of(p))))


cdef struct blas_task:
    const dense_forward *forward
    const dense_backward *backward
    bint is_double
    Py_ssize_t pieces


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


cdef void forward_worker(void *argument, int worker, int workers) noexcept nogil:
    cdef const blas_task *task = <const blas_task *>argument
    cdef const dense_forward *f = task.forward
    cdef Py_ssize_t piece, first, end
    cdef fp_mode mode = flush_denormals()
    for piece in range(share_start(task.pieces, worker, workers),
                       share_start(task.pieces, worker + 1, workers)):
        first = share_start(f.base.rows, <int>piece, <int>task.pieces)
        end = share_start(f.base.rows, <int>piece + 1, <int>task.pieces)
        if task.is_double:
            forward_rows(f, first, end, <const double *>f.kernel)
        else:
            forward_rows(f, first, end, <const float *>f.kernel)
    restore_denormals(mode)


cdef void run_forward(dense_forward *f, bint is_double) noexcept nogil:
    cdef blas_task task = blas_task(f, NULL, is_double, pieces_of(&f.base))
    share_out(f.base.workers, work_of(&f.base), forward_worker, &task, f.base.watch)


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


cdef void gradient_pieces(const dense_backward *g, Py_ssize_t piece, Py_ssize_t pieces,
                          const real *kernel) noexcept nogil:
    """A piece of each weight gradient."""
    cdef const dense_pass *p = &g.base
    cdef const real *dz = all_dz(g, kernel)
    # dkernel = x' dz
    gradient_piece(piece, pieces, p.features, p.units, p.rows, <const real *>p.x, dz,
                   <real *>g.dkernel, p.watch)
    bias_gradient_piece(piece, pieces, p.units, p.rows, dz, <real *>g.dbias, p.watch)


cdef void rows_worker(void *argument, int worker, int workers) noexcept nogil:
    cdef const blas_task *task = <const blas_task *>argument
    cdef const dense_backward *g = task.backward
    cdef Py_ssize_t piece, first, end
    cdef fp_mode mode = flush_denormals()
    for piece in range(share_start(task.pieces, worker, workers),
                       share_start(task.pieces, worker + 1, workers)):
        first = share_start(g.base.rows, <int>piece, <int>task.pieces)
        end = share_start(g.base.rows, <int>piece + 1, <int>task.pieces)
        if task.is_double:
            backward_rows(g, first, end, <const double *>g.kernel)
        else:
            backward_rows(g, first, end, <const float *>g.kernel)
    restore_denormals(mode)


cdef void gradients_worker(void *argument, int worker, int workers) noexcept nogil:
    cdef const blas_task *task = <const blas_task *>argument
    cdef const dense_backward *g = task.backward
    cdef Py_ssize_t piece
    cdef fp_mode mode = flush_denormals()
    for piece in range(share_start(task.pieces, worker, workers),
                       share_start(task.pieces, worker + 1, workers)):
        if task.is_double:
            gradient_pieces(g, piece, task.pieces, <const double *>g.kernel)
        else:
            gradient_pieces(g, piece, task.pieces, <const float *>g.kernel)
    restore_denormals(mode)


cdef size_t backward_workspace_bytes(const dense_backward *g, bint is_double) noexcept nogil:
    return g.base.rows * g.base.units * (sizeof(double) if is_double else sizeof(float))


cdef void run_backward(dense_backward *g, bint is_double) noexcept nogil:
    cdef const dense_pass *p = &g.base
    cdef double work = work_of(p)
    cdef blas_task task = blas_task(NULL, g, is_double, pieces_of(p))
    share_out(p.workers, work, rows_worker, &task, p.watch)
    if is_stopped(p.watch):
        return
    task.pieces = pieces_of_gradient(p.features, p.units, work)
    share_out(p.workers, work, gradients_worker, &task, p.watch)
