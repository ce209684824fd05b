"""The dense layer over the last axis: one product for all rows, then the activation."""

from libc.string cimport memcpy

import numpy as np

from fastlstm._core.arrays cimport Located, data_of, locate, located
from fastlstm._core.blas cimport gemm, rows_of_a_piece, sum_rows
from fastlstm._core.kernels cimport (
    activate, activate_backward, activation_index, flush_denormals, fp_mode, real,
    restore_denormals,
)
from fastlstm._core.watch cimport (
    WORK_OF_A_UNIT, begin_watch, end_watch, is_stopped, pass_watch, stops,
)
from fastlstm._core import arguments

cdef object empty = np.empty
cdef object FLOAT32 = arguments.FLOAT32, FLOAT64 = arguments.FLOAT64


cdef struct Sizes:
    Py_ssize_t rows, inputs, units


cdef class DenseCache:
    """What `backward` needs of one `forward`: the inputs and the pre-activations z."""

    cdef readonly object x, kernel, z, has_bias
    cdef Sizes size
    cdef int activation
    cdef bint linear, is_double


cdef void run_forward(Sizes size, const real *x, const real *kernel, const real *bias, real *z,
                      real *y, int activation, bint linear, pass_watch *watch) noexcept nogil:
    """z (N, U) OUT x kernel + bias; y (N, U) OUT f(z), may be z unless f is softmax."""
    cdef Py_ssize_t row, rows, first = 0, units = size.units, piece
    cdef fp_mode mode = flush_denormals()
    piece = rows_of_a_piece(units, size.inputs)
    while first < size.rows and not is_stopped(watch):
        rows = min(piece, size.rows - first)
        if bias != NULL:
            for row in range(first, first + rows):
                memcpy(z + row * units, bias, units * sizeof(real))
        gemm(False, False, rows, units, size.inputs, x + first * size.inputs, size.inputs, kernel,
             units, <real>(0 if bias == NULL else 1), z + first * units, units, watch)
        if not linear and not stops(watch, rows * units * WORK_OF_A_UNIT):
            activate(activation, rows, units, z + first * units, y + first * units)
        first += rows
    restore_denormals(mode)


cdef void run_backward(Sizes size, const real *x, const real *kernel, const real *dz, real *dx,
                       real *dkernel, real *dbias, pass_watch *watch) noexcept nogil:
    """From dz (N, U): dx (N, F) = dz kernel', dkernel (F, U) = x' dz, dbias (U) = sum dz."""
    cdef fp_mode mode = flush_denormals()
    if dx != NULL:
        gemm(False, True, size.rows, size.inputs, size.units, dz, size.units, kernel, size.units,
             <real>0, dx, size.inputs, watch)
    gemm(True, False, size.inputs, size.units, size.rows, x, size.inputs, dz, size.units,
         <real>0, dkernel, size.units, watch)
    sum_rows(size.rows, size.units, dz, dbias, watch)
    restore_denormals(mode)


cdef void run_activation_backward(DenseCache cache, const real *z, const real *dy, real *dz,
                                  real *scratch, pass_watch *watch) noexcept nogil:
    cdef Py_ssize_t units = cache.size.units, first = 0, rows, piece
    cdef fp_mode mode = flush_denormals()
    piece = rows_of_a_piece(units, 0)
    while first < cache.size.rows and not is_stopped(watch):
        rows = min(piece, cache.size.rows - first)
        activate_backward(cache.activation, rows, units, z + first * units, dy + first * units,
                          dz + first * units, scratch)
        first += rows
        stops(watch, rows * units * WORK_OF_A_UNIT)
    restore_denormals(mode)


cdef double work_of(Sizes size) noexcept nogil:
    """About how many multiplications take as long as a forward pass."""
    return <double>size.rows * size.units * (size.inputs + WORK_OF_A_UNIT)


def forward(x, kernel, bias, *, str activation, bint training):
    """See `fastlstm.functional.dense_forward`."""
    cdef DenseCache cache = DenseCache.__new__(DenseCache)
    cdef Located at, kernel_at, bias_at
    cdef Sizes size
    cdef int axis
    cdef void *z_data
    cdef void *y_data
    cache.activation = activation_index(activation, "dense_forward: `activation`", False)
    cache.linear = activation == "linear"
    if not locate(kernel, False, 2, &kernel_at):
        cache.is_double = arguments.real_dtype_of(kernel, "dense_forward: `kernel`") == FLOAT64
        kernel = located(kernel, cache.is_double, 2, &kernel_at, "dense_forward: `kernel`",
                         "(F, U)")
    cdef bint is_double = cache.is_double, linear = cache.linear
    cdef int index = cache.activation
    dtype = FLOAT64 if is_double else FLOAT32
    size.inputs, size.units = kernel_at.shape[0], kernel_at.shape[1]
    if size.inputs == 0 or size.units == 0:
        raise ValueError(
            f"dense_forward: `kernel` must have shape (F, U) with F and U at least 1, "
            f"got {kernel.shape}."
        )
    bias_at.data = NULL
    if bias is not None:
        bias = located(bias, is_double, 1, &bias_at, "dense_forward: `bias`", "(U,)")
        if bias_at.shape[0] != size.units:
            raise ValueError(
                f"dense_forward: `bias` must have shape (U,) = {(size.units,)}, got {bias.shape}."
            )
    if not locate(x, is_double, -1, &at):
        x = np.array(arguments.as_real_array(x, dtype, "dense_forward: `x`"), order="C")
        locate(x, is_double, -1, &at)
    if at.rank == 0 or at.shape[at.rank - 1] != size.inputs:
        raise ValueError(
            f"dense_forward: `x` must have shape (..., F) with F = {size.inputs} as in `kernel`, "
            f"got {x.shape}."
        )
    size.rows = 1
    for axis in range(at.rank - 1):
        size.rows *= at.shape[axis]
    cache.size = size
    y = empty((*x.shape[:at.rank - 1], size.units), dtype)
    z = y if linear or not training else empty((size.rows, size.units), dtype)
    z_data, y_data = data_of(z), data_of(y)
    cdef pass_watch memory
    cdef pass_watch *watch = begin_watch(&memory, work_of(size))
    if size.rows > 0:
        with nogil:
            if is_double:
                run_forward(size, <const double *>at.data, <const double *>kernel_at.data,
                            <const double *>bias_at.data, <double *>z_data, <double *>y_data,
                            index, linear, watch)
            else:
                run_forward(size, <const float *>at.data, <const float *>kernel_at.data,
                            <const float *>bias_at.data, <float *>z_data, <float *>y_data,
                            index, linear, watch)
    end_watch(watch)
    if not training:
        return y, None
    cache.x, cache.kernel, cache.has_bias = x, kernel, bias is not None
    cache.z = None if linear else z
    return y, cache


def backward(DenseCache cache not None, dy, bint wants_dx=True):
    """See `fastlstm.functional.dense_backward`; dx is None unless `wants_dx`."""
    cdef Located at, kernel_at, dy_at, z_at
    cdef Sizes size = cache.size
    cdef bint is_double = cache.is_double
    cdef int axis
    cdef bint fits
    cdef Py_ssize_t rows = 1
    if cache.x is None:
        raise ValueError(
            "dense_backward: `cache` must come from dense_forward(..., training=True)."
        )
    fits = locate(cache.x, is_double, -1, &at) and at.shape[at.rank - 1] == size.inputs
    for axis in range(at.rank - 1):
        rows *= at.shape[axis]
    fits = fits and rows == size.rows and locate(cache.kernel, is_double, 2, &kernel_at)
    fits = fits and kernel_at.shape[0] == size.inputs and kernel_at.shape[1] == size.units
    if fits and cache.z is not None:
        fits = (locate(cache.z, is_double, 2, &z_at) and z_at.shape[0] == size.rows
                and z_at.shape[1] == size.units)
    if not fits:
        raise ValueError(
            "dense_backward: the arrays that `cache` refers to have been resized since "
            "dense_forward; run it again."
        )
    dtype = FLOAT64 if is_double else FLOAT32
    dy = located(dy, is_double, at.rank, &dy_at, "dense_backward: `dy`", "(..., U)")
    fits = dy_at.shape[at.rank - 1] == size.units
    for axis in range(at.rank - 1):
        fits = fits and dy_at.shape[axis] == at.shape[axis]
    if not fits:
        shape = (*cache.x.shape[:at.rank - 1], size.units)
        raise ValueError(
            f"dense_backward: `dy` must have shape (..., U) = {shape}, got {dy.shape}.")
    dx = empty(cache.x.shape, dtype) if wants_dx else None
    dkernel, dbias = empty((size.inputs, size.units), dtype), empty(size.units, dtype)
    dz = dy if cache.z is None else empty((size.rows, size.units), dtype)
    scratch = None if cache.z is None else empty(size.units, dtype)
    cdef void *scratch_data = data_of(scratch)
    cdef void *dz_data = dy_at.data if cache.z is None else data_of(dz)
    cdef void *dx_data = data_of(dx)
    cdef void *dkernel_data = data_of(dkernel)
    cdef void *dbias_data = data_of(dbias)
    cdef bint activated = cache.z is not None
    cdef pass_watch memory
    cdef pass_watch *watch = begin_watch(&memory, 2 * work_of(size))
    if size.rows == 0:
        dkernel.fill(0)
        dbias.fill(0)
    elif is_double:
        with nogil:
            if activated:
                run_activation_backward(cache, <const double *>z_at.data,
                                        <const double *>dy_at.data, <double *>dz_data,
                                        <double *>scratch_data, watch)
            run_backward(size, <const double *>at.data, <const double *>kernel_at.data,
                         <const double *>dz_data, <double *>dx_data, <double *>dkernel_data,
                         <double *>dbias_data, watch)
    else:
        with nogil:
            if activated:
                run_activation_backward(cache, <const float *>z_at.data,
                                        <const float *>dy_at.data, <float *>dz_data,
                                        <float *>scratch_data, watch)
            run_backward(size, <const float *>at.data, <const float *>kernel_at.data,
                         <const float *>dz_data, <float *>dx_data, <float *>dkernel_data,
                         <float *>dbias_data, watch)
    end_watch(watch)
    return dx, dkernel, dbias if cache.has_bias else None
