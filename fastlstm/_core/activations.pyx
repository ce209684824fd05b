"""Activations over whole arrays, by the kernels in use."""

import numpy as np

from fastlstm._core.kernels cimport (
    ACTIVATION_COUNT, ACTIVATION_LINEAR, flush_denormals, fp_mode, real, restore_denormals,
    table_f32, table_f64,
)
from fastlstm.errors import one_of

# In alphabetical order, as in enum activation_index; softmax works on rows and comes last.
_ACTIVATION_INDICES = {
    name: index
    for index, name in enumerate((
        "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "relu", "selu",
        "sigmoid", "silu", "softplus", "softsign", "tanh", "softmax",
    ))
}


cdef int activation_index(str name, str what, bint elementwise) except -1:
    """The place of an activation in the tables; softmax is no choice where `elementwise`."""
    index = _ACTIVATION_INDICES.get(name)
    if index is None or elementwise and index >= ACTIVATION_COUNT:
        known = list(_ACTIVATION_INDICES)
        raise one_of(what, name, known[:ACTIVATION_COUNT] if elementwise else known)
    return index


cdef bint has_gradient_from_output(int index) noexcept nogil:
    return (index == ACTIVATION_COUNT or index == ACTIVATION_LINEAR
            or table_f32().activations[index].backward_from_output != NULL)


cdef void activate(int index, Py_ssize_t rows, Py_ssize_t width, const real *x,
                   real *y) noexcept nogil:
    """y = f(x) for x, y (rows, width), which may be one array."""
    if index < ACTIVATION_COUNT:
        if real is float:
            table_f32().activations[index].forward(rows * width, x, y)
        else:
            table_f64().activations[index].forward(rows * width, x, y)
        return
    if real is float:
        table_f32().softmax_forward(rows, width, x, y)
    else:
        table_f64().softmax_forward(rows, width, x, y)


cdef void activate_backward(int index, Py_ssize_t rows, Py_ssize_t width, const real *z,
                            const real *y, const real *dy, real *dz) noexcept nogil:
    """dz from dy and y = f(z), all (rows, width); z is read only unless
    `has_gradient_from_output`."""
    if index == ACTIVATION_COUNT:
        if real is float:
            table_f32().softmax_backward(rows, width, y, dy, dz)
        else:
            table_f64().softmax_backward(rows, width, y, dy, dz)
    elif real is float:
        if table_f32().activations[index].backward_from_output != NULL:
            table_f32().activations[index].backward_from_output(rows * width, y, dy, dz)
        else:
            table_f32().activations[index].backward(rows * width, z, dy, dz)
    elif table_f64().activations[index].backward_from_output != NULL:
        table_f64().activations[index].backward_from_output(rows * width, y, dy, dz)
    else:
        table_f64().activations[index].backward(rows * width, z, dy, dz)


cdef void _activate_array(const real[:, ::1] x, real[:, ::1] y, int index) noexcept nogil:
    cdef fp_mode mode
    if x.shape[0] == 0 or x.shape[1] == 0:
        return
    mode = flush_denormals()
    activate(index, x.shape[0], x.shape[1], &x[0, 0], &y[0, 0])
    restore_denormals(mode)


cdef void _activate_array_backward(const real[:, ::1] x, const real[:, ::1] dy, real[:, ::1] dx,
                                   real[:, ::1] y, int index) noexcept nogil:
    cdef fp_mode mode
    if x.shape[0] == 0 or x.shape[1] == 0:
        return
    mode = flush_denormals()
    activate(index, x.shape[0], x.shape[1], &x[0, 0], &y[0, 0])
    activate_backward(index, x.shape[0], x.shape[1], &x[0, 0], &y[0, 0], &dy[0, 0], &dx[0, 0])
    restore_denormals(mode)


def _as_rows(x):
    """x (..., U) as (rows, U), or a scalar as (1, 1), without a copy."""
    if x.ndim == 0 or x.size == 0:
        return x.reshape(x.size, 1)
    width = x.shape[x.ndim - 1]
    return x.reshape(x.size // width, width)


def activation_forward(x, str activation):
    """f(x) for a C-contiguous array x of float32 or float64."""
    cdef int index = activation_index(activation, "`activation`", False)
    cdef const float[:, ::1] x_f32
    cdef const double[:, ::1] x_f64
    cdef float[:, ::1] y_f32
    cdef double[:, ::1] y_f64
    y = np.empty_like(x)
    if x.dtype == np.float32:
        x_f32, y_f32 = _as_rows(x), _as_rows(y)
        with nogil:
            _activate_array(x_f32, y_f32, index)
    else:
        x_f64, y_f64 = _as_rows(x), _as_rows(y)
        with nogil:
            _activate_array(x_f64, y_f64, index)
    return y


def activation_backward(x, dy, str activation):
    """dy * f'(x) for C-contiguous arrays x and dy of one shape and one real type."""
    cdef int index = activation_index(activation, "`activation`", False)
    cdef const float[:, ::1] x_f32, dy_f32
    cdef const double[:, ::1] x_f64, dy_f64
    cdef float[:, ::1] dx_f32
    cdef double[:, ::1] dx_f64
    cdef float[:, ::1] y_f32
    cdef double[:, ::1] y_f64
    dx = np.empty_like(x)
    rows = _as_rows(x)
    y = np.empty_like(rows)
    if x.dtype == np.float32:
        x_f32, dy_f32, dx_f32, y_f32 = rows, _as_rows(dy), _as_rows(dx), y
        with nogil:
            _activate_array_backward(x_f32, dy_f32, dx_f32, y_f32, index)
    else:
        x_f64, dy_f64, dx_f64, y_f64 = rows, _as_rows(dy), _as_rows(dx), y
        with nogil:
            _activate_array_backward(x_f64, dy_f64, dx_f64, y_f64, index)
    return dx
