"""Arrays at the door of the core: where they are and of what shape, in one call each."""

cdef enum:
    MOST_RANK = 64


cdef struct Located:
    # The data of an array that somebody holds a reference to, its rank and shape.
    void *data
    int rank
    Py_ssize_t shape[MOST_RANK]


cdef bint locate_typed(object value, char code, int rank, Located *found) except -1
cdef bint locate(object value, bint is_double, int rank, Located *found) except -1
# The same for an array that may be written to.
cdef bint locate_writeable(object value, bint is_double, int rank, Located *found) except -1
cdef bint locate_matrix(object value, bint is_double, Py_ssize_t rows, Py_ssize_t columns,
                        const void **data) except -1
cdef object located(object value, bint is_double, int rank, Located *found, str what, str symbols)
cdef void *data_of(object array) except? NULL
