"""The passes of csrc/layers/dense.h over BLAS, for any CPU. `kernel` is plain, (F, U), in both.

    z = x kernel + bias      y = f(z)
    dz = dy f'(z)      dx = dz kernel'      dkernel = x' dz      dbias = sum over rows of dz
"""

from libc.string cimport memcpy

from fastlstm._core.activations cimport activate, activate_backward
from fastlstm._core.blas cimport gemm, rows_of_a_piece, sum_rows
from fastlstm._core.kernels cimport (
    ACTIVATION_LINEAR, flush_denormals, fp_mode, real, restore_denormals,
)
from fastlstm._core.passes cimport dense_backward, dense_forward, dense_pass
from fastlstm._core.watch cimport WORK_OF_A_UNIT, is_stopped, stops


cdef void _forward(dense_forward *f, const real *kernel) noexcept nogil:
    cdef const dense_pass *p = &f.base
    cdef const real *x = <const real *>p.x
    cdef real *z = <real *>f.z
    cdef real *y = <real *>f.y
    cdef Py_ssize_t units = p.units, piece = rows_of_a_piece(units, p.features)
    cdef Py_ssize_t first = 0, rows, row
    cdef fp_mode mode = flush_denormals()
    while first < p.rows and not is_stopped(p.watch):
        rows = min(piece, p.rows - first)
        if f.bias != NULL:
            for row in range(first, first + rows):
                memcpy(z + row * units, f.bias, units * sizeof(real))
        # z = x kernel + bias
        gemm(False, False, rows, units, p.features, x + first * p.features, p.features, kernel,
             units, <real>(0 if f.bias == NULL else 1), z + first * units, units, p.watch)
        if p.activation != ACTIVATION_LINEAR and not stops(p.watch, rows * units * WORK_OF_A_UNIT):
            activate(p.activation, rows, units, z + first * units, y + first * units)
        first += rows
    restore_denormals(mode)


cdef void activation_gradient(dense_backward *g, real *dz) noexcept nogil:
    """dz (R, U) = dy f'(z)."""
    cdef const dense_pass *p = &g.base
    cdef const real *z = <const real *>g.z
    cdef const real *y = <const real *>g.y
    cdef const real *dy = <const real *>g.dy
    cdef Py_ssize_t piece = rows_of_a_piece(p.units, 0), first = 0, rows, at
    while first < p.rows and not is_stopped(p.watch):
        rows, at = min(piece, p.rows - first), first * p.units
        activate_backward(p.activation, rows, p.units, z + at if z != NULL else NULL, y + at,
                          dy + at, dz + at)
        first += rows
        stops(p.watch, rows * p.units * WORK_OF_A_UNIT)


cdef void _backward(dense_backward *g, const real *kernel) noexcept nogil:
    cdef const dense_pass *p = &g.base
    cdef const real *dz = <const real *>g.dy
    cdef fp_mode mode = flush_denormals()
    if p.activation != ACTIVATION_LINEAR:
        dz = <const real *>p.workspace
        activation_gradient(g, <real *>p.workspace)
    if g.dx != NULL:
        # dx = dz kernel'
        gemm(False, True, p.rows, p.features, p.units, dz, p.units, kernel, p.units, <real>0,
             <real *>g.dx, p.features, p.watch)
    # dkernel = x' dz
    gemm(True, False, p.features, p.units, p.rows, <const real *>p.x, p.features, dz, p.units,
         <real>0, <real *>g.dkernel, p.units, p.watch)
    sum_rows(p.rows, p.units, dz, <real *>g.dbias, p.watch)
    restore_denormals(mode)


cdef size_t backward_workspace_bytes(const dense_backward *g, bint is_double) noexcept nogil:
    return g.base.rows * g.base.units * (sizeof(double) if is_double else sizeof(float))


cdef void run_forward(dense_forward *f, bint is_double) noexcept nogil:
    if is_double:
        _forward(f, <const double *>f.kernel)
    else:
        _forward(f, <const float *>f.kernel)


cdef void run_backward(dense_backward *g, bint is_double) noexcept nogil:
    if is_double:
        _backward(g, <const double *>g.kernel)
    else:
        _backward(g, <const float *>g.kernel)
