"""The native part of a program: ops on values, whose memory is planned once and used run after run.

A `Run` is made of a list of nodes for inputs of some shapes. It belongs to one thread at a time.
"""

from fastlstm._core.arrays cimport MOST_RANK
from fastlstm._core.memory cimport Memory
from fastlstm._core.watch cimport pass_watch

cdef enum Kind:
    FLOATS
    DOUBLES
    INTEGERS  # Py_ssize_t
    FLAGS  # a byte each

cdef enum:
    MOST_SHAPE = 8
    # Of the inputs of one op.
    MOST_PARTS = 32


cdef class Value:
    """An array in C order of a run, be it memory of the run or of an array that comes or goes."""

    cdef void *data
    cdef Kind kind
    cdef int rank
    cdef Py_ssize_t shape[MOST_SHAPE]
    cdef Py_ssize_t size
    # FLAGS: which steps count, over the leading axes; None where all do.
    cdef Value mask
    # Whether a gradient of it leads to a weight that trains, or to an input that wants one.
    cdef bint is_wanted
    # Whether every run brings or takes another array, and the array of the present run.
    cdef bint is_external
    cdef object array
    # Whether another value's memory is meant, unless the value is external.
    cdef bint is_view
    cdef Memory memory


cdef Value value_like(Value other)
cdef Value value_of(Kind kind, int rank, const Py_ssize_t *shape)
# Give a value memory of its own, unless it has some.
cdef int give_memory(Value value) except -1
# One like `value`, with memory of its own, if its gradient is wanted; else None.
cdef Value wanted_like(Value value)
# Flags over all axes of `value` but the last.
cdef Value mask_like(Value value)
cdef size_t bytes_of(Value value) noexcept nogil
# The product of the sizes of all axes but the last.
cdef Py_ssize_t rows_of(Value value) noexcept nogil
cdef tuple shape_of(Value value)


# Where values are, NULL for None; at most MOST_PARTS of them.
cdef int places_of(list values, void **places) except -1
# Where any of some masks counts; NULL stands for one that counts everywhere.
cdef void any_counts(void **masks, int count, Value found) noexcept nogil


# total += term, for a real kind.
cdef void add_to(Kind kind, Py_ssize_t size, void *total, const void *term) noexcept nogil


cdef class Gradient:
    """Where a pass writes the gradient of a weight (or of none), and where it then belongs."""

    cdef object weight
    cdef Kind kind
    cdef Py_ssize_t size
    cdef void *data
    cdef void *sum
    cdef Memory memory
    # Find out where, given the sums so far and where those of the weights that train shall be.
    cdef int prepare(self, dict gradients, object targets) except -1
    # After the pass.
    cdef void add(self) noexcept nogil


cdef class Op:
    """One native layer at work. Subclasses say what each method does."""

    cdef list inputs, outputs
    # Whether `backward` is given the gradient of what the last activation was applied to.
    cdef bint takes_dz

    # Plan for such inputs: the outputs, or None for inputs that the op does not take.
    cdef list bind(self, list inputs, bint training)
    # About how many multiplications take as long as `forward`.
    cdef double work(self) noexcept
    # With the GIL before each run: weights, memory, numbers to draw.
    cdef int prepare(self, pass_watch *watch) except -1
    cdef void forward(self) noexcept nogil
    # Between runs: give back memory that every run fills anew.
    cdef int rest(self) except -1
    # One op that does what this one and the next do, forward, or None.
    cdef Op joined(self, Op later)
    # Plan for gradients of the outputs, None where none arrives: those of the inputs, None where
    # none is wanted.
    cdef list bind_backward(self, list arriving)
    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1
    cdef void backward(self) noexcept nogil


# Ops for what the slots of the inputs hold; fills the slots of their outputs. Raises
# NotImplementedError for inputs that an op does not take.
cdef list bound_ops(list nodes, list values, bint training)


cdef class Calls:
    """Ops in the order in which one method of theirs is called."""

    cdef list ops
    cdef void **pointers
    cdef Py_ssize_t count
    cdef double work

# The ops in their order, with those in one that may be.
cdef list joined_ops(list ops)
# Call all of them, until the watch says stop.
cdef void call_forward(Calls calls, const pass_watch *watch) noexcept nogil
