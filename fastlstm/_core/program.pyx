"""See program.pxd."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import numpy as np

from fastlstm._core.arrays cimport Located, data_of, locate
from fastlstm._core.memory cimport Memory
from fastlstm._core.sequence_ops cimport add_into
from fastlstm._core.watch cimport begin_watch, end_watch, is_stopped, pass_watch
from fastlstm._core import arguments

cdef object empty = np.empty, ndarray = np.ndarray
cdef tuple DTYPES = (arguments.FLOAT32, arguments.FLOAT64, np.dtype(np.intp), np.dtype(np.bool_))

# So many doubles have less than 2^63 bytes.
cdef Py_ssize_t MOST_ELEMENTS = <Py_ssize_t>1 << 59

# ---- values --------------------------------------------------------------------------------------

cdef size_t bytes_of(Value value) noexcept nogil:
    cdef size_t element = 4 if value.kind == FLOATS else 1 if value.kind == FLAGS else 8
    return element * value.size


cdef class Value:
    pass


cdef Value value_of(Kind kind, int rank, const Py_ssize_t *shape):
    cdef Value value = Value.__new__(Value)
    cdef int axis
    value.kind, value.rank, value.size = kind, rank, 1
    for axis in range(rank):
        value.shape[axis] = shape[axis]
        if shape[axis] > 0 and value.size > MOST_ELEMENTS // shape[axis]:
            raise MemoryError(
                f"There is no memory for an array of shape {[shape[k] for k in range(rank)]}.")
        value.size *= shape[axis]
    return value


cdef Value value_like(Value other):
    return value_of(other.kind, other.rank, other.shape)


cdef int give_memory(Value value) except -1:
    if value.data == NULL and not (value.is_external or value.is_view):
        value.memory = Memory(bytes_of(value))
        value.data = value.memory.data
    return 0


cdef Value wanted_like(Value value):
    cdef Value found = None
    if value.is_wanted:
        found = value_like(value)
        give_memory(found)
    return found


cdef Value mask_like(Value value):
    return value_of(FLAGS, value.rank - 1, value.shape)


cdef Py_ssize_t rows_of(Value value) noexcept nogil:
    cdef Py_ssize_t rows = 1
    cdef int axis
    for axis in range(value.rank - 1):
        rows *= value.shape[axis]
    return rows


cdef int places_of(list values, void **places) except -1:
    cdef Py_ssize_t k
    for k in range(len(values)):
        places[k] = NULL if values[k] is None else (<Value>values[k]).data
    return 0


cdef void any_counts(void **masks, int count, Value found) noexcept nogil:
    cdef unsigned char *counts = <unsigned char *>found.data
    cdef const unsigned char *mask
    cdef Py_ssize_t i
    cdef int k
    memset(counts, 0, found.size)
    for k in range(count):
        mask = <const unsigned char *>masks[k]
        if mask == NULL:
            memset(counts, 1, found.size)
            return
        for i in range(found.size):
            counts[i] |= mask[i]


cdef Value value_for(object array):
    """What arrays of this type and shape come as; None where no op takes them."""
    cdef Py_ssize_t shape[MOST_SHAPE]
    cdef int axis
    if type(array) is not np.ndarray or array.dtype not in DTYPES or not (
        1 <= array.ndim <= MOST_SHAPE and array.size
    ):
        return None
    for axis in range(array.ndim):
        shape[axis] = array.shape[axis]
    value = value_of(<Kind><int>DTYPES.index(array.dtype), array.ndim, shape)
    value.is_external = True
    return value


cdef tuple shape_of(Value value):
    return tuple([value.shape[axis] for axis in range(value.rank)])


cdef bint use_array(Value value, object array) except -1:
    """Have `value` be the contents of an array, if that has its type and shape."""
    cdef Located found
    cdef int axis
    if value.kind <= DOUBLES and locate(array, value.kind == DOUBLES, value.rank, &found):
        for axis in range(value.rank):
            if found.shape[axis] != value.shape[axis]:
                return False
        value.data, value.array = found.data, array
        return True
    if type(array) is not ndarray or array.dtype != DTYPES[<int>value.kind] or (
        array.shape != shape_of(value)
    ):
        return False
    value.array = np.require(array, requirements=["C", "A"])
    value.data = data_of(value.array)
    return True


cdef int use_gradient(Value value, object array) except -1:
    """Have `value` be a gradient, be it that a layer of a user's own made it in another type."""
    if not use_array(value, array):
        use_array(value, arguments.array_of_shape(
            array, DTYPES[<int>value.kind], shape_of(value),
            "backward: the gradient of an array", "of the array"))
    return 0


cdef int use_fresh_array(Value value) except -1:
    """Have `value` leave the run in an array of its own."""
    value.array = empty(shape_of(value), DTYPES[<int>value.kind])
    value.data = data_of(value.array)
    return 0


# ---- gradients of weights ------------------------------------------------------------------------

cdef void add_to(Kind kind, Py_ssize_t size, void *total, const void *term) noexcept nogil:
    if kind == FLOATS:
        add_into(<float *>total, <const float *>term, size)
    else:
        add_into(<double *>total, <const double *>term, size)


cdef class Gradient:
    def __cinit__(self, weight, Kind kind, Py_ssize_t size):
        self.weight, self.kind, self.size = weight, kind, size

    cdef int prepare(self, dict gradients, object targets) except -1:
        target = None
        if self.weight is not None and self.weight.trainable:
            target = targets.get(self.weight)
            if target is None:
                # One that the optimizer does not know: it says so.
                target = empty(self.weight.shape, DTYPES[<int>self.kind])
        known = None if target is None else gradients.get(self.weight)
        self.data = self.sum = NULL
        if target is not None:
            self.sum = data_of(target)
            if known is None:
                self.data, self.sum = self.sum, NULL
            elif known is not target:
                target[...] = known
            gradients[self.weight] = target
        if self.data == NULL:
            if self.memory is None:
                self.memory = Memory(self.size * (4 if self.kind == FLOATS else 8))
            self.data = self.memory.data
        return 0

    cdef void add(self) noexcept nogil:
        if self.sum != NULL:
            add_to(self.kind, self.size, self.sum, self.data)


# ---- ops -----------------------------------------------------------------------------------------

cdef class Op:
    cdef list bind(self, list inputs, bint training):
        raise NotImplementedError

    cdef double work(self) noexcept:
        return (<Value>self.outputs[0]).size

    cdef int prepare(self, pass_watch *watch) except -1:
        return 0

    cdef void forward(self) noexcept nogil:
        pass

    cdef Op joined(self, Op later):
        return None

    cdef int rest(self) except -1:
        return 0

    cdef list bind_backward(self, list arriving):
        raise NotImplementedError

    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1:
        return 0

    cdef void backward(self) noexcept nogil:
        pass


cdef list joined_ops(list ops):
    cdef list found = []
    cdef Op last = None, one
    for op in ops:
        one = None if last is None else last.joined(op)
        if one is not None:
            found.pop()
        last = op if one is None else one
        found.append(last)
    return found


cdef class Sum(Op):
    """The gradients that arrive at one value from two readers."""

    cdef Value known, term, total

    cdef void backward(self) noexcept nogil:
        memcpy(self.total.data, self.known.data, bytes_of(self.total))
        add_to(self.total.kind, self.total.size, self.total.data, self.term.data)


cdef class Calls:
    def __cinit__(self, list ops):
        cdef Py_ssize_t k
        self.ops, self.count = ops, len(ops)
        self.pointers = <void **>malloc((self.count + 1) * sizeof(void *))
        if self.pointers == NULL:
            raise MemoryError("There is no memory for a program.")
        for k in range(self.count):
            self.pointers[k] = <void *>ops[k]

    def __dealloc__(self):
        free(self.pointers)


cdef void call_forward(Calls calls, const pass_watch *watch) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(calls.count):
        (<Op>calls.pointers[k]).forward()
        if is_stopped(watch):
            break


cdef void call_backward(Calls calls, const pass_watch *watch) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(calls.count):
        (<Op>calls.pointers[k]).backward()
        if is_stopped(watch):
            break


cdef list bound_ops(list nodes, list values, bint training):
    """Ops for what the inputs' slots hold; fills the slots of their outputs."""
    cdef list ops = []
    cdef Op op
    cdef Value value
    for make, arguments, reads, fills, trains in nodes:
        op = make(*arguments)
        op.inputs = [values[slot] for slot in reads]
        op.outputs = op.bind(op.inputs, training)
        if op.outputs is None:
            raise NotImplementedError("an op does not take its inputs")
        is_wanted = trains or any([(<Value>each).is_wanted for each in op.inputs])
        for slot, value in zip(fills, op.outputs, strict=True):
            value.is_wanted = is_wanted
            values[slot] = value
        ops.append(op)
    return ops


# ---- runs ----------------------------------------------------------------------------------------

cdef class Run:
    """Native ops one after the other, forward and backward, for arrays of some shapes.

    Its arrays come from and go to the slots of the whole program.

    Parameters
    ----------
    nodes : list of (make, arguments, inputs, outputs, trains)
        ``make(*arguments)`` is the `Op`; the numbers of the values that it reads and fills, those
        of the run's inputs first; and whether it has weights that train.
    count : int
        How many values there are.
    inputs : list of slots
    outputs : list of (slot, number of the value)
    wanted : list of bool
        For each input whether its gradient is wanted.
    training : bool
    slots, masks : lists
        What the slots hold when the run is first used.

    Raises
    ------
    NotImplementedError
        For arrays that an op does not take.
    """

    cdef list _inputs, _outputs, _ops, _input_slots, _output_slots
    # The values that leave the run in arrays, each once.
    cdef list _leaving
    cdef bint _training
    cdef Calls _forward
    # Of the last backward pass: ops are bound to the gradients of one at a time.
    cdef BackwardPlan _backward
    cdef tuple _pattern
    cdef object __weakref__
    # About how much memory the run holds.
    cdef readonly double bytes

    def __init__(self, list nodes, Py_ssize_t count, list inputs, list outputs, list wanted,
                 bint training, list slots, list masks):
        cdef list values = [None] * count
        cdef Value value
        cdef Py_ssize_t k
        self._training, self._inputs = training, []
        self._input_slots, self._output_slots = inputs, [slot for slot, _ in outputs]
        for k in range(len(inputs)):
            value = value_for(slots[inputs[k]])
            mask = masks[inputs[k]]
            if value is None:
                raise NotImplementedError("an input")
            if mask is not None:
                value.mask = value_for(mask)
                if value.mask is None or value.mask.kind != FLAGS:
                    raise NotImplementedError("a mask")
            value.is_wanted = wanted[k]
            values[k] = value
            self._inputs.append(value)
        self._ops = bound_ops(nodes, values, training)
        self._outputs = [values[number] for _, number in outputs]
        self._leaving = []
        for value in self._outputs:
            for each in (value, value.mask):
                if each is not None and not (<Value>each).is_external:
                    (<Value>each).is_external = True
                    self._leaving.append(each)
        for op in self._ops:
            for value in (<Op>op).outputs:
                give_memory(value)
                self.bytes += bytes_of(value) * (8 if training else 2)
                if value.mask is not None:
                    give_memory(value.mask)
        self._forward = Calls(joined_ops(self._ops))
        self._forward.work = sum([(<Op>op).work() for op in self._ops])

    def forward(self, list slots not None, list masks not None) -> bool:
        """Run on what the slots of the inputs hold, and fill those of the outputs.

        False, and nothing has been run, where they hold arrays of another type or shape.
        """
        cdef Py_ssize_t k
        cdef Value value
        cdef pass_watch memory
        cdef pass_watch *watch
        for k in range(len(self._inputs)):
            value = self._inputs[k]
            mask = masks[self._input_slots[k]]
            if not use_array(value, slots[self._input_slots[k]]) or (
                (value.mask is None) != (mask is None)
            ) or (value.mask is not None and not use_array(value.mask, mask)):
                return False
        for value in self._leaving:
            use_fresh_array(value)
        watch = begin_watch(&memory, self._forward.work)
        for op in self._forward.ops:
            (<Op>op).prepare(watch)
        with nogil:
            call_forward(self._forward, watch)
        end_watch(watch)
        for k in range(len(self._outputs)):
            value = self._outputs[k]
            slots[self._output_slots[k]] = value.array
            masks[self._output_slots[k]] = None if value.mask is None else value.mask.array
        return True

    def backward(self, list slots not None, dz not None, dict gradients not None,
                 targets not None) -> None:
        """Add to the gradients of the inputs after the last `forward`, and to those of weights.

        Parameters
        ----------
        slots : list
            The gradients of arrays, None where there is none so far.
        dz : collection of slots
            Whose gradient is that of what the last activation was applied to.
        gradients : dict of weight to array
            The sums so far.
        targets : dict of weight to array
            Where the sums of those that train shall be.
        """
        cdef pass_watch memory
        cdef pass_watch *watch
        cdef Value value
        cdef BackwardPlan plan
        cdef Py_ssize_t k
        cdef list given = [slots[slot] for slot in self._output_slots]
        given += [slots[slot] for slot in self._input_slots]
        cdef list is_dz = [slot in dz for slot in self._output_slots]
        cdef tuple pattern = tuple([array is not None for array in given] + is_dz)
        if pattern != self._pattern:
            self._pattern = None
            self._backward = self._plan_backward(given, is_dz)
            self._pattern = pattern
        plan = self._backward
        for k in range(len(given)):
            value = plan.arriving[k]
            if value is not None:
                use_gradient(value, given[k])
        watch = begin_watch(&memory, 2 * self._forward.work)
        for op in plan.calls.ops:
            (<Op>op).prepare_backward(gradients, targets, watch)
        with nogil:
            call_backward(plan.calls, watch)
        end_watch(watch)
        for k in range(len(plan.leaving)):
            value = plan.leaving[k]
            if value is not None:
                slots[self._input_slots[k]] = copied(value)

    cdef BackwardPlan _plan_backward(self, list known, list is_dz):
        cdef BackwardPlan plan = BackwardPlan.__new__(BackwardPlan)
        cdef dict gradients = {}
        cdef list calls = []
        cdef Value value, dy
        cdef Op op
        plan.arriving = []
        for value, given in zip([*self._outputs, *self._inputs], known, strict=True):
            dy = None
            if given is not None:
                dy = value_like(value)
                dy.is_external = True
                add_gradient(gradients, calls, value, dy)
            plan.arriving.append(dy)
        dz = {value for value, fused in zip(self._outputs, is_dz, strict=True) if fused}
        for op in reversed(self._ops):
            arriving = [gradients.get(value) for value in op.outputs]
            if not (<Value>op.outputs[0]).is_wanted or not any(
                [each is not None for each in arriving]
            ):
                continue
            op.takes_dz = op.outputs[0] in dz
            leaving = op.bind_backward(arriving)
            calls.append(op)
            for value, dy in zip(op.inputs, leaving, strict=True):
                if dy is not None:
                    add_gradient(gradients, calls, value, dy)
        plan.leaving = []
        for value, known_dy in zip(self._inputs, plan.arriving[len(self._outputs):], strict=True):
            dy = gradients.get(value)
            # What came as it goes is no news.
            plan.leaving.append(None if dy is known_dy else dy)
        plan.calls = Calls(calls)
        return plan

    def release(self) -> None:
        """Forget the arrays of the last run, and what only that needed."""
        cdef Value value
        for op in [*self._ops, *self._forward.ops]:
            (<Op>op).rest()
        for value in [*self._inputs, *self._leaving]:
            value.array = None
            if value.mask is not None:
                value.mask.array = None
        if self._backward is not None:
            for value in self._backward.arriving:
                if value is not None:
                    value.array = None


cdef class BackwardPlan:
    cdef list arriving, leaving
    cdef Calls calls


cdef int add_gradient(dict gradients, list calls, Value value, Value dy) except -1:
    """Note that `dy` arrives at `value`, if anyone wants it."""
    cdef Sum op
    if not value.is_wanted:
        return 0
    known = gradients.get(value)
    if known is not None:
        op = Sum.__new__(Sum)
        op.known, op.term, op.total = known, dy, value_like(value)
        give_memory(op.total)
        calls.append(op)
        dy = op.total
    gradients[value] = dy
    return 0


cdef object copied(Value value):
    """The contents of a value in an array of their own."""
    array = empty(shape_of(value), DTYPES[<int>value.kind])
    memcpy(data_of(array), value.data, bytes_of(value))
    return array
