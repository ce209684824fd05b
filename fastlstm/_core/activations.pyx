"""Activations over whole arrays, by the kernels in use."""

import numpy as np

from fastlstm._core.arrays cimport data_of
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


cdef void activation_pass(int index, Py_ssize_t rows, Py_ssize_t width, const real *x,
                          real *y) noexcept nogil:
    cdef fp_mode mode
    if rows > 0 and width > 0:
        mode = flush_denormals()
        activate(index, rows, width, x, y)
        restore_denormals(mode)


cdef void activation_backward_pass(int index, Py_ssize_t rows, Py_ssize_t width, const real *z,
                                   const real *y, const real *dy, real *dz) noexcept nogil:
    cdef fp_mode mode
    if rows > 0 and width > 0:
        mode = flush_denormals()
        activate_backward(index, rows, width, z, y, dy, dz)
        restore_denormals(mode)


cdef Py_ssize_t _width_of(x):
    """The length of a row of x; a scalar is one."""
    return x.shape[x.ndim - 1] if x.ndim > 0 else 1


def activation_forward(x, str activation):
    """f(x) for a C-contiguous array x of float32 or float64."""
    cdef int index = activation_index(activation, "`activation`", False)
    y = np.empty_like(x)
    cdef bint is_double = x.dtype == np.float64
    cdef Py_ssize_t width = _width_of(x), rows = x.size // max(1, width)
    cdef const void *data = data_of(x)
    cdef void *result = data_of(y)
    with nogil:
        if is_double:
            activation_pass(index, rows, width, <const double *>data, <double *>result)
        else:
            activation_pass(index, rows, width, <const float *>data, <float *>result)
    return y


def activation_backward(x, dy, str activation):
    """dy * f'(x) for C-contiguous arrays x and dy of one shape and one real type."""
    cdef int index = activation_index(activation, "`activation`", False)
    y, dx = activation_forward(x, activation), np.empty_like(x)
    cdef bint is_double = x.dtype == np.float64
    cdef Py_ssize_t width = _width_of(x), rows = x.size // max(1, width)
    cdef const void *z = data_of(x)
    cdef const void *output = data_of(y)
    cdef const void *arriving = data_of(dy)
    cdef void *result = data_of(dx)
    with nogil:
        if is_double:
            activation_backward_pass(
                index, rows, width, <const double *>z, <const double *>output,
                <const double *>arriving, <double *>result)
        else:
            activation_backward_pass(
                index, rows, width, <const float *>z, <const float *>output,
                <const float *>arriving, <float *>result)
    return dx
