"""Activations for other Cython code, by their place in the tables; softmax comes last."""

from fastlstm._core.kernels cimport real

# Whether an activation's gradient is a function of its output.
cdef bint has_gradient_from_output(int index) noexcept nogil
cdef int activation_index(str name, str what, bint elementwise) except -1
cdef void activate(int index, Py_ssize_t rows, Py_ssize_t width, const real *x,
                   real *y) noexcept nogil
cdef void activate_backward(int index, Py_ssize_t rows, Py_ssize_t width, const real *z,
                            const real *y, const real *dy, real *dz) noexcept nogil
# The same two as a pass of their own, with denormals flushed as in every other, on arrays that may
# be empty: what a layer that is an activation runs.
cdef void activation_pass(int index, Py_ssize_t rows, Py_ssize_t width, const real *x,
                          real *y) noexcept nogil
cdef void activation_backward_pass(int index, Py_ssize_t rows, Py_ssize_t width, const real *z,
                                   const real *y, const real *dy, real *dz) noexcept nogil
