"""Arrays at the door of the core: see arrays.pxd.

A buffer is asked for and released at once: whoever holds the array keeps its data in place.
"""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_Clear
from libc.string cimport memcmp

import numpy as np

from fastlstm._core import arguments

cdef extern from "Python.h":
    # Without Cython's handling of exceptions, which costs as much as the call.
    int try_buffer "PyObject_GetBuffer" (object, Py_buffer *, int) noexcept

cdef object ndarray = np.ndarray
cdef object FLOAT32 = arguments.FLOAT32, FLOAT64 = arguments.FLOAT64


cdef bint has_type(const Py_buffer *view, char code) noexcept:
    """Whether its elements are of the type that struct gives that code; "n" is that of an index."""
    if view.format[1] != 0:
        return False
    if code == c"n":
        return view.format[0] in (c"l", c"q") and view.itemsize == sizeof(Py_ssize_t)
    return view.format[0] == code


cdef bint locate_by(int flags, object value, char code, int rank, Located *found) except -1:
    """Whether `value` is a C-contiguous, aligned array of that type and rank, and where it is.

    A `rank` of -1 is any from 1 to MOST_RANK. What is not found is nowhere, and of rank 0.
    """
    cdef Py_buffer view
    cdef int axis
    cdef bint fits
    found.data, found.rank = NULL, 0
    if type(value) is not ndarray:
        return False
    if try_buffer(value, &view, flags) != 0:
        PyErr_Clear()
        return False
    fits = has_type(&view, code) and (
        view.ndim == rank or rank == -1 and 1 <= view.ndim <= MOST_RANK
    ) and <size_t>view.buf % <size_t>view.itemsize == 0
    if fits:
        found.data, found.rank = view.buf, view.ndim
        for axis in range(view.ndim):
            found.shape[axis] = view.shape[axis]
    PyBuffer_Release(&view)
    return fits


cdef bint locate_typed(object value, char code, int rank, Located *found) except -1:
    return locate_by(PyBUF_C_CONTIGUOUS | PyBUF_FORMAT, value, code, rank, found)


cdef bint locate(object value, bint is_double, int rank, Located *found) except -1:
    """`locate_typed` for a real type."""
    return locate_typed(value, c"d" if is_double else c"f", rank, found)


cdef bint locate_writeable(object value, bint is_double, int rank, Located *found) except -1:
    return locate_by(PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE, value,
                     c"d" if is_double else c"f", rank, found)


cdef object located(object value, bint is_double, int rank, Located *found, str what,
                    str symbols):
    """`value` as such an array, converted if need be; raises for what cannot be."""
    if not locate(value, is_double, rank, found):
        value = arguments.array_of_rank(
            value, FLOAT64 if is_double else FLOAT32, rank, what, symbols)
        if not locate(value, is_double, rank, found):
            value = np.array(value, FLOAT64 if is_double else FLOAT32, order="C")
            locate(value, is_double, rank, found)
    return value


cdef bint locate_matrix(object value, bint is_double, Py_ssize_t rows, Py_ssize_t columns,
                        const void **data) except -1:
    """Whether `value` is such an array of that shape, and where it is."""
    cdef Located found
    data[0] = NULL
    if not locate(value, is_double, 2, &found):
        return False
    data[0] = found.data
    return found.shape[0] == rows and found.shape[1] == columns


cdef void *data_of(object array) except? NULL:
    """The data of a C-contiguous array made here, or NULL for None."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS)
    PyBuffer_Release(&view)
    return view.buf


def same_bytes(first, second) -> bool:
    """Whether two C-contiguous arrays of one size hold the same bytes."""
    cdef Py_buffer a, b
    cdef bint same
    PyObject_GetBuffer(first, &a, PyBUF_C_CONTIGUOUS)
    try:
        PyObject_GetBuffer(second, &b, PyBUF_C_CONTIGUOUS)
        same = a.len == b.len and memcmp(a.buf, b.buf, a.len) == 0
        PyBuffer_Release(&b)
    finally:
        PyBuffer_Release(&a)
    return same
