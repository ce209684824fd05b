"""Layers that move numbers as ops of a program."""

from libc.string cimport memcpy

from fastlstm._core.merging cimport concatenate, split
from fastlstm._core.program cimport (
    DOUBLES, MOST_PARTS, MOST_SHAPE, Op, Value, any_counts, bytes_of, give_memory, mask_like,
    places_of, shape_of, value_like, value_of, wanted_like,
)
from fastlstm._core.sequence_ops cimport inverse_axes, permute, repeat_rows, sum_steps
from fastlstm._core.watch cimport pass_watch


cdef class ReshapeOp(Op):
    """The same numbers in another shape, or in the same one.

    Parameters
    ----------
    shape_for : function of the inputs' shape that returns that of the outputs; None for the same
    keeps_mask : bool
    target : what `shape_for` depends on besides
    """

    cdef object shape_for
    cdef bint keeps_mask
    cdef Value x, y, dy, dx

    def __init__(self, shape_for, bint keeps_mask, target=None):
        self.shape_for, self.keeps_mask = shape_for, keeps_mask

    cdef list bind(self, list inputs, bint training):
        cdef Py_ssize_t shape[MOST_SHAPE]
        cdef int axis
        self.x = inputs[0]
        target = shape_of(self.x) if self.shape_for is None else self.shape_for(shape_of(self.x))
        if len(target) > MOST_SHAPE:
            return None
        for axis in range(len(target)):
            shape[axis] = target[axis]
        self.y = value_of(self.x.kind, len(target), shape)
        # Until somebody takes it out of the run it is the inputs' memory.
        self.y.is_view = True
        if self.keeps_mask:
            self.y.mask = self.x.mask
        return [self.y]

    cdef int prepare(self, pass_watch *watch) except -1:
        if not self.y.is_external:
            self.y.data = self.x.data
        return 0

    cdef void forward(self) noexcept nogil:
        if self.y.is_external:
            memcpy(self.y.data, self.x.data, bytes_of(self.y))

    cdef list bind_backward(self, list arriving):
        if not self.x.is_wanted:
            return [None]
        self.dx = value_like(self.x)
        self.dx.is_view = True
        self.dy = arriving[0]
        return [self.dx]

    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1:
        if self.x.is_wanted:
            self.dx.data = self.dy.data
        return 0


cdef class RepeatOp(Op):
    """A vector at each of n steps."""

    cdef Py_ssize_t n
    cdef Value x, y, dy, dx

    def __init__(self, Py_ssize_t n):
        self.n = n

    cdef list bind(self, list inputs, bint training):
        cdef Py_ssize_t shape[3]
        self.x = inputs[0]
        if self.x.rank != 2 or self.x.kind > DOUBLES:
            return None
        shape[0], shape[1], shape[2] = self.x.shape[0], self.n, self.x.shape[1]
        self.y = value_of(self.x.kind, 3, shape)
        return [self.y]

    cdef void forward(self) noexcept nogil:
        repeat_rows(<const char *>self.x.data, self.x.shape[0], self.n,
                    bytes_of(self.x) // self.x.shape[0], <char *>self.y.data)

    cdef list bind_backward(self, list arriving):
        self.dy, self.dx = arriving[0], wanted_like(self.x)
        return [self.dx]

    cdef void backward(self) noexcept nogil:
        if self.dx is None:
            return
        if self.x.kind == DOUBLES:
            sum_steps(<const double *>self.dy.data, self.x.shape[0], self.n, self.x.shape[1],
                      <double *>self.dx.data)
        else:
            sum_steps(<const float *>self.dy.data, self.x.shape[0], self.n, self.x.shape[1],
                      <float *>self.dx.data)


cdef class PermuteOp(Op):
    """The axes in another order.

    Parameters
    ----------
    dims : tuple of int
        Counted from 1, without the batch.
    """

    cdef Value x, y, dy, dx
    cdef int rank
    cdef int axes[MOST_SHAPE]
    cdef int inverse[MOST_SHAPE]
    cdef Py_ssize_t item

    def __init__(self, dims):
        cdef int k
        self.rank = len(dims) + 1
        for k, axis in enumerate((0, *dims[:MOST_SHAPE - 1])):
            self.axes[k] = axis

    cdef list bind(self, list inputs, bint training):
        cdef Py_ssize_t shape[MOST_SHAPE]
        cdef int k
        self.x = inputs[0]
        if self.x.rank != self.rank:
            return None
        for k in range(self.rank):
            shape[k] = self.x.shape[self.axes[k]]
        self.y = value_of(self.x.kind, self.rank, shape)
        inverse_axes(self.rank, self.axes, self.inverse)
        self.item = bytes_of(self.x) // self.x.size
        return [self.y]

    cdef void forward(self) noexcept nogil:
        permute(<const char *>self.x.data, self.rank, self.x.shape, self.axes, self.item,
                <char *>self.y.data)

    cdef list bind_backward(self, list arriving):
        self.dy, self.dx = arriving[0], wanted_like(self.x)
        return [self.dx]

    cdef void backward(self) noexcept nogil:
        if self.dx is not None:
            permute(<const char *>self.dy.data, self.rank, self.y.shape, self.inverse, self.item,
                    <char *>self.dx.data)


cdef bint are_alike(Value value, Value other, int but) noexcept:
    """Whether all sizes are equal, but that of one axis."""
    cdef int axis
    if value.rank != other.rank:
        return False
    for axis in range(value.rank):
        if axis != but and value.shape[axis] != other.shape[axis]:
            return False
    return True


cdef class ConcatenateOp(Op):
    """Arrays side by side along an axis."""

    cdef int axis, count
    cdef Value y, dy
    cdef Py_ssize_t outer
    cdef Py_ssize_t widths[MOST_PARTS]
    cdef void *xs[MOST_PARTS]
    cdef void *masks[MOST_PARTS]
    cdef void *dxs[MOST_PARTS]
    cdef list input_masks, parts

    def __init__(self, int axis):
        self.axis = axis

    cdef list bind(self, list inputs, bint training):
        cdef Value first = inputs[0], each
        cdef int axis = self.axis + first.rank if self.axis < 0 else self.axis
        cdef Py_ssize_t k
        if len(inputs) > MOST_PARTS:
            return None
        self.count, self.y, self.outer = len(inputs), value_like(first), 1
        for k in range(axis):
            self.outer *= first.shape[k]
        self.y.shape[axis] = 0
        for k in range(self.count):
            each = inputs[k]
            if each.kind != first.kind or not are_alike(each, first, axis):
                return None
            self.y.shape[axis] += each.shape[axis]
            self.widths[k] = bytes_of(each) // self.outer
        self.y = value_of(first.kind, first.rank, self.y.shape)
        self.input_masks = [(<Value>x).mask for x in inputs]
        if any([mask is not None for mask in self.input_masks]):
            # What counts in no input counts nowhere; an input without a mask counts everywhere.
            if axis != first.rank - 1 or any(
                [mask is not None and shape_of(mask) != shape_of(first)[:axis]
                 for mask in self.input_masks]
            ):
                return None
            self.y.mask = mask_like(self.y)
        return [self.y]

    cdef int prepare(self, pass_watch *watch) except -1:
        places_of(self.inputs, self.xs)
        places_of(self.input_masks, self.masks)
        return 0

    cdef void forward(self) noexcept nogil:
        concatenate(<const char **>self.xs, self.widths, self.count, self.outer,
                    <char *>self.y.data)
        if self.y.mask is not None:
            any_counts(self.masks, self.count, self.y.mask)

    cdef list bind_backward(self, list arriving):
        self.dy, self.parts = arriving[0], [value_like(x) for x in self.inputs]
        for part in self.parts:
            give_memory(part)
        return [part if (<Value>x).is_wanted else None
                for part, x in zip(self.parts, self.inputs)]

    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1:
        places_of(self.parts, self.dxs)
        return 0

    cdef void backward(self) noexcept nogil:
        split(<const char *>self.dy.data, self.widths, self.count, self.outer, <char **>self.dxs)
