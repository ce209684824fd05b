"""Layers that compute element by element or row by row as ops of a program."""

from libc.string cimport memcpy, memset

from fastlstm._core.arrays cimport data_of
from fastlstm._core.dropout cimport multiply_steps
from fastlstm._core.kernels cimport real
from fastlstm._core.merging cimport add_arrays, divide, multiply_arrays
from fastlstm._core.normalization cimport (
    normalize, normalize_backward, normalize_backward_weights,
)
from fastlstm._core.program cimport (
    DOUBLES, FLOATS, INTEGERS, MOST_PARTS, MOST_SHAPE, Gradient, Op, Value, any_counts, bytes_of,
    give_memory, mask_like, places_of, rows_of, shape_of, value_like, value_of, wanted_like,
)
from fastlstm._core.sequence_ops cimport (
    add_rows, fill_masked, first_out_of_range, mask_of_indices, steps_that_count, take_rows,
)
from fastlstm._core.watch cimport pass_watch
from fastlstm._core.arguments import resized


cdef class EmbeddingOp(Op):
    """Rows of a table by integers.

    Parameters
    ----------
    table : Weight (N, D)
    mask_zero : bool
        Whether 0 is padding.
    label : str
        The layer, for messages.
    """

    cdef object table, held, label
    cdef bint mask_zero
    cdef Value x, y, dy
    cdef Py_ssize_t count, width
    cdef const char *rows
    cdef Gradient dtable

    def __init__(self, table, bint mask_zero, label):
        self.table, self.mask_zero, self.label = table, mask_zero, label

    cdef list bind(self, list inputs, bint training):
        cdef Py_ssize_t shape[MOST_SHAPE]
        self.x = inputs[0]
        if self.x.kind != INTEGERS or self.x.rank >= MOST_SHAPE:
            return None
        memcpy(shape, self.x.shape, sizeof(shape))
        self.count, self.width = self.table.shape
        shape[self.x.rank] = self.width
        self.y = value_of(
            DOUBLES if self.table.dtype.itemsize == 8 else FLOATS, self.x.rank + 1, shape)
        if self.mask_zero:
            self.y.mask = mask_like(self.y)
        return [self.y]

    cdef int prepare(self, pass_watch *watch) except -1:
        cdef Py_ssize_t place = first_out_of_range(
            <const Py_ssize_t *>self.x.data, self.x.size, self.count)
        if place >= 0:
            raise ValueError(
                f"{self.label}: the input must hold integers from 0 to {self.count - 1} "
                f"(`input_dim` - 1), got {(<const Py_ssize_t *>self.x.data)[place]}.")
        # Whoever assigns to the weight meanwhile moves it, or writes to this array.
        self.held = self.table.value
        if self.held.shape != (self.count, self.width) or self.held.dtype.itemsize != (
            8 if self.y.kind == DOUBLES else 4
        ):
            raise resized("embedding")
        self.rows = <const char *>data_of(self.held)
        return 0

    cdef void forward(self) noexcept nogil:
        take_rows(self.rows, <const Py_ssize_t *>self.x.data, self.x.size,
                  bytes_of(self.y) // self.x.size, <char *>self.y.data)
        if self.y.mask is not None:
            mask_of_indices(<const Py_ssize_t *>self.x.data, self.x.size,
                            <unsigned char *>self.y.mask.data)

    cdef list bind_backward(self, list arriving):
        self.dy = arriving[0]
        self.dtable = Gradient(self.table, self.y.kind, self.count * self.width)
        return [None]

    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1:
        return self.dtable.prepare(gradients, targets)

    cdef void backward(self) noexcept nogil:
        if self.y.kind == DOUBLES:
            memset(self.dtable.data, 0, self.dtable.size * sizeof(double))
            add_rows(<const double *>self.dy.data, <const Py_ssize_t *>self.x.data, self.x.size,
                     self.width, <double *>self.dtable.data)
        else:
            memset(self.dtable.data, 0, self.dtable.size * sizeof(float))
            add_rows(<const float *>self.dy.data, <const Py_ssize_t *>self.x.data, self.x.size,
                     self.width, <float *>self.dtable.data)
        self.dtable.add()


cdef class MaskingOp(Op):
    """Zeros, and a mask, where all features of a step are one value."""

    cdef double mask_value
    cdef Value x, y, dy, dx
    cdef Py_ssize_t rows, width

    def __init__(self, double mask_value):
        self.mask_value = mask_value

    cdef list bind(self, list inputs, bint training):
        self.x = inputs[0]
        if self.x.kind > DOUBLES or self.x.rank < 2:
            return None
        self.y = value_like(self.x)
        self.y.mask = mask_like(self.x)
        self.rows, self.width = rows_of(self.x), self.x.shape[self.x.rank - 1]
        return [self.y]

    cdef void forward(self) noexcept nogil:
        cdef unsigned char *counts = <unsigned char *>self.y.mask.data
        if self.x.kind == DOUBLES:
            steps_that_count[double](<const double *>self.x.data, self.rows, self.width,
                                     self.mask_value, counts)
            fill_masked[double](<const double *>self.x.data, counts, self.rows, self.width, 0,
                                <double *>self.y.data)
        else:
            steps_that_count[float](<const float *>self.x.data, self.rows, self.width,
                                    <float>self.mask_value, counts)
            fill_masked[float](<const float *>self.x.data, counts, self.rows, self.width, 0,
                               <float *>self.y.data)

    cdef list bind_backward(self, list arriving):
        self.dy, self.dx = arriving[0], wanted_like(self.x)
        return [self.dx]

    cdef void backward(self) noexcept nogil:
        cdef const unsigned char *counts = <const unsigned char *>self.y.mask.data
        if self.dx is None:
            return
        if self.x.kind == DOUBLES:
            fill_masked[double](<const double *>self.dy.data, counts, self.rows, self.width, 0,
                                <double *>self.dx.data)
        else:
            fill_masked[float](<const float *>self.dy.data, counts, self.rows, self.width, 0,
                               <float *>self.dx.data)


cdef class DropoutOp(Op):
    """Products with random factors.

    Parameters
    ----------
    draw : function of a shape and a dtype that returns factors
        As many as elements, or in a shape of (B, 1, F) over (B, T, F).
    shape_for : function of the inputs' shape that returns that of the factors
    noise_shape : what it depends on besides
    """

    cdef object draw, shape_for, drawn, shape, dtype
    cdef Value x, y, dy, dx
    cdef Py_ssize_t batch, steps, width
    cdef const void *factors

    def __init__(self, draw, shape_for, noise_shape):
        self.draw, self.shape_for = draw, shape_for

    cdef list bind(self, list inputs, bint training):
        self.x = inputs[0]
        shape = shape_of(self.x)
        self.shape = self.shape_for(shape)
        if self.x.kind > DOUBLES:
            return None
        if self.shape == shape:
            self.batch, self.steps, self.width = 1, 1, self.x.size
        elif len(shape) == 3 and self.shape == (shape[0], 1, shape[2]):
            self.batch, self.steps, self.width = shape
        else:
            return None
        self.dtype = "float64" if self.x.kind == DOUBLES else "float32"
        self.y = value_like(self.x)
        self.y.mask = self.x.mask
        return [self.y]

    cdef int prepare(self, pass_watch *watch) except -1:
        self.drawn = self.draw(self.shape, self.dtype)
        self.factors = data_of(self.drawn)
        return 0

    cdef void _multiply(self, Value x, Value y) noexcept nogil:
        if y.kind == DOUBLES:
            multiply_steps(<const double *>x.data, <const double *>self.factors, self.batch,
                           self.steps, self.width, <double *>y.data)
        else:
            multiply_steps(<const float *>x.data, <const float *>self.factors, self.batch,
                           self.steps, self.width, <float *>y.data)

    cdef void forward(self) noexcept nogil:
        self._multiply(self.x, self.y)

    cdef list bind_backward(self, list arriving):
        self.dy, self.dx = arriving[0], wanted_like(self.x)
        return [self.dx]

    cdef void backward(self) noexcept nogil:
        if self.dx is not None:
            self._multiply(self.dy, self.dx)


cdef class MergeOp(Op):
    """The sum, mean or product of arrays of one shape.

    Parameters
    ----------
    is_product, is_mean : bool
    """

    cdef bint is_product, is_mean, masked
    cdef int count
    cdef Value y, dy
    cdef void *xs[MOST_PARTS]
    cdef void *masks[MOST_PARTS]
    cdef void *dxs[MOST_PARTS]
    cdef list input_masks, leaving

    def __init__(self, bint is_product, bint is_mean):
        self.is_product, self.is_mean = is_product, is_mean

    cdef list bind(self, list inputs, bint training):
        cdef Value first = inputs[0]
        if first.kind > DOUBLES or len(inputs) > MOST_PARTS - 1:
            return None
        self.count, self.y = len(inputs), value_like(first)
        for x in inputs:
            if (<Value>x).kind != first.kind or shape_of(x) != shape_of(first):
                return None
        self.input_masks = [(<Value>x).mask for x in inputs]
        given = [mask for mask in self.input_masks if mask is not None]
        if given and self.is_product:
            # A masked input counts as 1.
            return None
        self.masked = len(given) == self.count
        if self.masked:
            if any([shape_of(mask) != shape_of(given[0]) for mask in given]):
                return None
            self.y.mask = value_like(given[0])
        return [self.y]

    cdef int prepare(self, pass_watch *watch) except -1:
        places_of(self.inputs, self.xs)
        places_of(self.input_masks, self.masks)
        return 0

    cdef void forward(self) noexcept nogil:
        if self.masked:
            any_counts(self.masks, self.count, self.y.mask)
        if self.y.kind == DOUBLES:
            combine[double](<const double **>self.xs, self.count, self.y.size, self.is_product,
                            self.is_mean, <double *>self.y.data)
        else:
            combine[float](<const float **>self.xs, self.count, self.y.size, self.is_product,
                           self.is_mean, <float *>self.y.data)

    cdef list bind_backward(self, list arriving):
        cdef Value shared = None
        self.dy = arriving[0]
        if self.is_mean:
            shared = value_like(self.dy)
            give_memory(shared)
        self.leaving = [
            wanted_like(x) if self.is_product else shared if self.is_mean else self.dy
            for x in self.inputs
        ]
        return [dx if (<Value>x).is_wanted else None
                for dx, x in zip(self.leaving, self.inputs)]

    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1:
        return places_of(self.leaving, self.dxs)

    cdef void backward(self) noexcept nogil:
        if self.y.kind == DOUBLES:
            self._backward(<const double *>self.dy.data, <double *>self.dxs[0])
        else:
            self._backward(<const float *>self.dy.data, <float *>self.dxs[0])

    cdef void _backward(self, const real *dy, real *dx) noexcept nogil:
        cdef const real *factors[MOST_PARTS]
        cdef int k, j, n
        if self.is_mean:
            divide[real](dy, <real>self.count, self.y.size, dx)
        if not self.is_product:
            return
        for k in range(self.count):
            if self.dxs[k] == NULL:
                continue
            factors[0], n = dy, 1
            for j in range(self.count):
                if j != k:
                    factors[n] = <const real *>self.xs[j]
                    n += 1
            multiply_arrays[real](factors, n, self.y.size, <real *>self.dxs[k])


cdef void combine(const real **xs, int count, Py_ssize_t n, bint is_product, bint is_mean,
                  real *y) noexcept nogil:
    if is_product:
        multiply_arrays[real](xs, count, n, y)
        return
    add_arrays[real](xs, count, n, y)
    if is_mean:
        divide[real](y, <real>count, n, y)


cdef class NormalizationOp(Op):
    """Layer normalization over the last axes.

    Parameters
    ----------
    axes_for : function of a rank that returns the axes
    axis : what it depends on besides
    gamma, beta : Weight or None
    epsilon : float
    """

    cdef object axes_for, gamma, beta
    cdef tuple sizes
    cdef list held
    cdef double epsilon
    cdef bint keeps
    cdef Value x, y, normalized, inverse, dy, dx
    cdef const void *scale
    cdef const void *shift
    cdef Py_ssize_t rows, n
    cdef Gradient dgamma, dbeta

    def __init__(self, axes_for, axis, gamma, beta, double epsilon):
        self.axes_for, self.gamma, self.beta, self.epsilon = axes_for, gamma, beta, epsilon

    cdef list bind(self, list inputs, bint training):
        cdef Py_ssize_t rows[1]
        cdef int axis
        self.x, self.keeps = inputs[0], training
        axes = self.axes_for(self.x.rank)
        if self.x.kind > DOUBLES or axes != tuple(range(self.x.rank - len(axes), self.x.rank)):
            return None
        self.sizes = shape_of(self.x)[self.x.rank - len(axes):]
        self.n = 1
        for axis in axes:
            self.n *= self.x.shape[axis]
        if not self._fit():
            return None
        self.rows = rows[0] = self.x.size // self.n
        self.y = value_like(self.x)
        self.y.mask = self.x.mask
        if training:
            self.normalized, self.inverse = value_like(self.x), value_of(self.x.kind, 1, rows)
            give_memory(self.normalized)
            give_memory(self.inverse)
        return [self.y]

    cdef bint _fit(self) except -1:
        """Whether the weights are those of such rows."""
        for weight in (self.gamma, self.beta):
            if weight is not None and (weight.shape != self.sizes or weight.dtype.itemsize != (
                8 if self.x.kind == DOUBLES else 4
            )):
                return False
        return True

    cdef int prepare(self, pass_watch *watch) except -1:
        if not self._fit():
            raise resized("layer_normalization")
        self.held = [None if weight is None else weight.value for weight in (self.gamma, self.beta)]
        self.scale, self.shift = data_of(self.held[0]), data_of(self.held[1])
        return 0

    cdef void forward(self) noexcept nogil:
        cdef void *normalized = self.normalized.data if self.keeps else NULL
        cdef void *inverse = self.inverse.data if self.keeps else NULL
        if self.x.kind == DOUBLES:
            normalize[double](
                <const double *>self.x.data, self.rows, self.n, self.epsilon,
                <const double *>self.scale, <const double *>self.shift, <double *>normalized,
                <double *>inverse, <double *>self.y.data)
        else:
            normalize[float](
                <const float *>self.x.data, self.rows, self.n, <float>self.epsilon,
                <const float *>self.scale, <const float *>self.shift, <float *>normalized,
                <float *>inverse, <float *>self.y.data)

    cdef list bind_backward(self, list arriving):
        self.dy, self.dx = arriving[0], wanted_like(self.x)
        self.dgamma = Gradient(self.gamma, self.x.kind, self.n)
        self.dbeta = Gradient(self.beta, self.x.kind, self.n)
        return [self.dx]

    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1:
        self.dgamma.prepare(gradients, targets)
        return self.dbeta.prepare(gradients, targets)

    cdef void backward(self) noexcept nogil:
        if self.x.kind == DOUBLES:
            self._backward(<const double *>self.dy.data)
        else:
            self._backward(<const float *>self.dy.data)
        self.dgamma.add()
        self.dbeta.add()

    cdef void _backward(self, const real *dy) noexcept nogil:
        normalize_backward_weights[real](
            dy, <const real *>self.normalized.data, self.rows, self.n, <real *>self.dgamma.data,
            <real *>self.dbeta.data)
        if self.dx is not None:
            normalize_backward[real](
                dy, <const real *>self.normalized.data, <const real *>self.inverse.data,
                <const real *>self.scale, self.rows, self.n, <real *>self.dx.data)
