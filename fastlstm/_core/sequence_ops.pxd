"""What Embedding, Masking, RepeatVector and Permute compute, for other Cython code.

All arrays are C-contiguous and may be empty. What only moves elements takes their bytes, of any
type: an `item` is the bytes of one.
"""

from fastlstm._core.arrays cimport MOST_RANK
from fastlstm._core.kernels cimport real

# total += x
cdef void add_into(real *total, const real *x, Py_ssize_t n) noexcept nogil

# The first of `n` indices that is not from 0 to `limit` - 1, or -1.
cdef Py_ssize_t first_out_of_range(const Py_ssize_t *indices, Py_ssize_t n,
                                   Py_ssize_t limit) noexcept nogil
# The mask of an embedding: whether each index is another one than 0.
cdef void mask_of_indices(const Py_ssize_t *indices, Py_ssize_t n,
                          unsigned char *counts) noexcept nogil
# y[k] = table[indices[k]] for rows of so many bytes.
cdef void take_rows(const char *table, const Py_ssize_t *indices, Py_ssize_t n, Py_ssize_t row,
                    char *y) noexcept nogil
# table[indices[k]] += dy[k] for rows of `width` elements, k in order.
cdef void add_rows(const real *dy, const Py_ssize_t *indices, Py_ssize_t n, Py_ssize_t width,
                   real *table) noexcept nogil

# Whether any element of each of `rows` is not `value`; NaN never is.
cdef void steps_that_count(const real *x, Py_ssize_t rows, Py_ssize_t width, real value,
                           unsigned char *counts) noexcept nogil
# y = x in the rows that count, and `fill` in the others; x and y may be one array.
cdef void fill_masked(const real *x, const unsigned char *counts, Py_ssize_t rows,
                      Py_ssize_t width, real fill, real *y) noexcept nogil

# y (rows, n, row) from x (rows, row), a row of so many bytes.
cdef void repeat_rows(const char *x, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t row,
                      char *y) noexcept nogil
# dx (batch, width) from dy (batch, steps, width): each element one sum, its steps in order.
cdef void sum_steps(const real *dy, Py_ssize_t batch, Py_ssize_t steps, Py_ssize_t width,
                    real *dx) noexcept nogil

# Axis k of y is axis axes[k] of x, which has the `shape`; 0 <= rank <= MOST_RANK.
cdef void permute(const char *x, int rank, const Py_ssize_t *shape, const int *axes,
                  Py_ssize_t item, char *y) noexcept nogil
# The axes that undo `axes`.
cdef void inverse_axes(int rank, const int *axes, int *inverse) noexcept nogil
