"""The dense layer over the last axis: one product for all rows, then the activation."""

from libc.string cimport memcpy

import numpy as np

from fastlstm._core.blas cimport gemm
from fastlstm._core.kernels cimport (
    activate, activate_backward, activation_index, flush_denormals, fp_mode, real,
    restore_denormals,
)
from fastlstm._core import arguments


cdef class DenseCache:
    """What `backward` needs of one `forward`: the inputs and the pre-activations z."""

    cdef readonly object x, kernel, z, has_bias
    cdef Py_ssize_t rows
    cdef int activation
    cdef bint linear


cdef void run_forward(const real[:, ::1] x, const real[:, ::1] kernel, const real *bias,
                      real[:, ::1] z, real[:, ::1] y, int activation, bint linear) noexcept nogil:
    """z (N, U) OUT x kernel + bias; y (N, U) OUT f(z), may be z unless f is softmax."""
    cdef Py_ssize_t rows = x.shape[0], inputs = x.shape[1], units = kernel.shape[1], row
    cdef fp_mode mode = flush_denormals()
    if bias != NULL:
        for row in range(rows):
            memcpy(&z[row, 0], bias, units * sizeof(real))
    gemm(False, False, rows, units, inputs, &x[0, 0], inputs, &kernel[0, 0], units,
         <real>(0 if bias == NULL else 1), &z[0, 0], units)
    if not linear:
        activate(activation, rows, units, &z[0, 0], &y[0, 0])
    restore_denormals(mode)


cdef void run_backward(const real[:, ::1] x, const real[:, ::1] kernel, const real[:, ::1] dz,
                       real[:, ::1] dx, real[:, ::1] dkernel, real[::1] dbias) noexcept nogil:
    """From dz (N, U): dx (N, F) = dz kernel', dkernel (F, U) = x' dz, dbias (U) = sum dz."""
    cdef Py_ssize_t rows = x.shape[0], inputs = x.shape[1], units = kernel.shape[1], row, j
    gemm(False, True, rows, inputs, units, &dz[0, 0], units, &kernel[0, 0], units,
         <real>0, &dx[0, 0], inputs)
    gemm(True, False, inputs, units, rows, &x[0, 0], inputs, &dz[0, 0], units,
         <real>0, &dkernel[0, 0], units)
    for row in range(rows):
        for j in range(units):
            dbias[j] += dz[row, j]


cdef _forward(DenseCache cache, bias, bint training, const real[:, ::1] x,
              const real[:, ::1] kernel):
    cdef const real[::1] bias_view = bias
    cdef const real *bias_data = NULL if bias is None else &bias_view[0]
    cdef bint in_place = cache.linear or not training
    z = np.empty((x.shape[0], kernel.shape[1]), cache.kernel.dtype)
    y = z if in_place else np.empty_like(z)
    cdef real[:, ::1] z_view = z, y_view = y
    if x.shape[0] > 0:
        with nogil:
            run_forward(x, kernel, bias_data, z_view, y_view, cache.activation, cache.linear)
    cache.z = None if cache.linear else z
    return y


cdef _backward(DenseCache cache, dy, const real[:, ::1] x, const real[:, ::1] kernel):
    cdef Py_ssize_t rows = x.shape[0], inputs = x.shape[1], units = kernel.shape[1]
    dtype = cache.kernel.dtype
    dz = dy
    if not cache.linear:
        dz = np.empty((rows, units), dtype)
    dx = np.empty((rows, inputs), dtype)
    dkernel = np.zeros((inputs, units), dtype)
    dbias = np.zeros(units, dtype)
    cdef const real[:, ::1] dy_view = dy, z = cache.z
    cdef const real[:, ::1] dz_in
    cdef real[:, ::1] dz_out, dx_view = dx, dkernel_view = dkernel
    cdef real[::1] dbias_view = dbias, scratch = np.empty(units, dtype)
    cdef fp_mode mode
    if rows > 0:
        if not cache.linear:
            dz_out = dz
            with nogil:
                mode = flush_denormals()
                activate_backward(cache.activation, rows, units, &z[0, 0], &dy_view[0, 0],
                                  &dz_out[0, 0], &scratch[0])
                restore_denormals(mode)
        dz_in = dz
        with nogil:
            mode = flush_denormals()
            run_backward(x, kernel, dz_in, dx_view, dkernel_view, dbias_view)
            restore_denormals(mode)
    return dx, dkernel, dbias if cache.has_bias else None


def forward(x, kernel, bias, *, str activation, bint training):
    """See `fastlstm.functional.dense_forward`."""
    cdef DenseCache cache = DenseCache.__new__(DenseCache)
    cache.activation = activation_index(activation, "dense_forward: `activation`", False)
    cache.linear = activation == "linear"
    dtype = arguments.real_dtype_of(kernel, "dense_forward: `kernel`")
    kernel = arguments.array_of_rank(kernel, dtype, 2, "dense_forward: `kernel`", "(F, U)")
    inputs, units = kernel.shape
    if inputs == 0 or units == 0:
        raise ValueError(
            f"dense_forward: `kernel` must have shape (F, U) with F and U at least 1, "
            f"got {kernel.shape}."
        )
    if bias is not None:
        bias = arguments.array_of_shape(bias, dtype, (units,), "dense_forward: `bias`", "(U,)")
    x = arguments.as_real_array(x, dtype, "dense_forward: `x`")
    leading = x.shape[:max(0, x.ndim - 1)]
    if x.shape != (*leading, inputs):
        raise ValueError(
            f"dense_forward: `x` must have shape (..., F) with F = {inputs} as in `kernel`, "
            f"got {x.shape}."
        )
    cache.x, cache.kernel, cache.has_bias = x, kernel, bias is not None
    cache.rows = x.size // inputs
    rows = x.reshape(cache.rows, inputs)
    if dtype == arguments.FLOAT32:
        y = _forward[float](cache, bias, training, rows, kernel)
    else:
        y = _forward[double](cache, bias, training, rows, kernel)
    return y.reshape(*leading, units), cache if training else None


def backward(DenseCache cache not None, dy):
    """See `fastlstm.functional.dense_backward`."""
    if cache.x is None:
        raise ValueError(
            "dense_backward: `cache` must come from dense_forward(..., training=True)."
        )
    inputs, units = cache.kernel.shape
    rows = cache.rows
    if cache.x.size != rows * inputs or cache.z is not None and cache.z.shape != (rows, units):
        raise ValueError(
            "dense_backward: the arrays that `cache` refers to have been resized since "
            "dense_forward; run it again."
        )
    shape = (*cache.x.shape[:cache.x.ndim - 1], units)
    dtype = cache.kernel.dtype
    dy = arguments.array_of_shape(dy, dtype, shape, "dense_backward: `dy`", "(..., U)")
    x, dy = cache.x.reshape(rows, inputs), dy.reshape(rows, units)
    if dtype == arguments.FLOAT32:
        dx, dkernel, dbias = _backward[float](cache, dy, x, cache.kernel)
    else:
        dx, dkernel, dbias = _backward[double](cache, dy, x, cache.kernel)
    return dx.reshape(cache.x.shape), dkernel, dbias
