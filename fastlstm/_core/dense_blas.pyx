"""The passes of csrc/dense.h over BLAS, for any CPU. `kernel` is plain, (F, U), in both.

    z = x kernel + bias      y = f(z)
    dz = dy f'(z)      dx = dz kernel'      dkernel = x' dz      dbias = sum over rows of dz
"""

from libc.string cimport memcpy, memset

from fastlstm._core.blas cimport gemm
from fastlstm._core.kernels cimport (
    ACTIVATION_LINEAR, activate, activate_backward, flush_denormals, fp_mode, real,
    restore_denormals,
)
from fastlstm._core.passes cimport dense_backward, dense_forward, dense_pass


cdef void _forward(dense_forward *f, const real *kernel) noexcept nogil:
    cdef const dense_pass *p = &f.base
    cdef real *z = <real *>f.z
    cdef Py_ssize_t row
    cdef fp_mode mode = flush_denormals()
    if f.bias != NULL:
        for row in range(p.rows):
            memcpy(z + row * p.units, f.bias, p.units * sizeof(real))
    # z = x kernel + bias
    gemm(False, False, p.rows, p.units, p.features, <const real *>p.x, p.features, kernel, p.units,
         <real>(0 if f.bias == NULL else 1), z, p.units)
    if p.activation != ACTIVATION_LINEAR:
        activate(p.activation, p.rows, p.units, z, <real *>f.y)
    restore_denormals(mode)


cdef void sum_rows(const dense_pass *p, const real *dz, real *total, real *part) noexcept nogil:
    """total (U) = sum of dz (R, U), first over some rows each, so that the sums stay short."""
    cdef Py_ssize_t row, j, rows_at_once = 256
    memset(total, 0, p.units * sizeof(real))
    memset(part, 0, p.units * sizeof(real))
    for row in range(p.rows):
        for j in range(p.units):
            part[j] += dz[row * p.units + j]
        if (row + 1) % rows_at_once == 0 or row + 1 == p.rows:
            for j in range(p.units):
                total[j] += part[j]
            memset(part, 0, p.units * sizeof(real))


cdef void _backward(dense_backward *g, const real *kernel) noexcept nogil:
    cdef const dense_pass *p = &g.base
    cdef real *part = <real *>p.scratch
    cdef const real *dz = <const real *>g.dy
    cdef fp_mode mode = flush_denormals()
    if p.activation != ACTIVATION_LINEAR:
        activate_backward(p.activation, p.rows, p.units, <const real *>g.z, <const real *>g.y, dz,
                          part + p.units)
        dz = part + p.units
    if g.dx != NULL:
        # dx = dz kernel'
        gemm(False, True, p.rows, p.features, p.units, dz, p.units, kernel, p.units, <real>0,
             <real *>g.dx, p.features)
    # dkernel = x' dz
    gemm(True, False, p.features, p.units, p.rows, <const real *>p.x, p.features, dz, p.units,
         <real>0, <real *>g.dkernel, p.units)
    sum_rows(p, dz, <real *>g.dbias, part)
    restore_denormals(mode)


cdef size_t backward_scratch_bytes(const dense_backward *g, bint is_double) noexcept nogil:
    return (g.base.rows + 1) * g.base.units * (sizeof(double) if is_double else sizeof(float))


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
