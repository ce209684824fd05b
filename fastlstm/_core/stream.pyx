"""A program that goes on step by step: its states stay, and nothing is allocated between steps."""

from libc.string cimport memcpy

from collections.abc import Mapping
from math import prod

import os
import weakref

import numpy as np

from fastlstm._core.arrays cimport Located, data_of, locate, locate_writeable
from fastlstm._core.program cimport (
    DOUBLES, MOST_SHAPE, Calls, Kind, Op, Value, bound_ops, bytes_of,
    call_forward, give_memory, value_of,
)
from fastlstm._core.versions cimport version_of_settings
from fastlstm._core.watch cimport begin_watch, end_watch, pass_watch
from fastlstm._core import arguments
from fastlstm.errors import as_array

cdef extern from "Python.h":
    ctypedef void *PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock)
    int PyThread_acquire_lock(PyThread_type_lock, int)
    void PyThread_release_lock(PyThread_type_lock)

cdef object empty = np.empty
cdef tuple DTYPES = (arguments.FLOAT32, arguments.FLOAT64, np.dtype(np.intp), np.dtype(np.bool_))


cdef class Recipe:
    """What a stream computes.

    Parameters
    ----------
    nodes : list, as `fastlstm._core.program.Run` takes it
        An LSTM reads x, h, c and flags, and fills its output, h and c.
    slots : int
    inputs, outputs : lists of (slot, name, dtype, shape)
        Shapes of one row and one step, without either.
    names_outputs : bool
        Whether outputs are returned by their names.
    states : list of (name, slot, slot after the step, dtype, size)
        Flags change in place: their two slots are one.
    """

    cdef readonly list nodes, inputs, outputs, states
    cdef readonly Py_ssize_t slots
    cdef readonly bint names_outputs

    def __init__(self, list nodes, Py_ssize_t slots, list inputs, list outputs, list states,
                 bint names_outputs):
        self.nodes, self.slots, self.inputs, self.outputs = nodes, slots, inputs, outputs
        self.states, self.names_outputs = states, names_outputs


cdef class Steps:
    """The ops for so many rows, and the values that come, go and stay.

    Raises ``NotImplementedError`` for what ops do not take, or make otherwise than the recipe says.
    """

    cdef Calls calls
    cdef list inputs, outputs, shapes, before, after

    def __init__(self, Recipe recipe, Py_ssize_t rows):
        cdef list values = [None] * recipe.slots
        cdef Value value
        self.inputs, self.outputs, self.before, self.after = [], [], [], []
        # Of the arrays of outputs, which have no time axis.
        self.shapes = [(rows, *shape) for _, _, _, shape in recipe.outputs]
        for slot, _, dtype, shape in recipe.inputs:
            value = value_with(dtype, (rows, 1, *shape))
            value.is_external = True
            values[slot] = value
            self.inputs.append(value)
        for _, slot, _, dtype, size in recipe.states:
            value = value_with(dtype, (rows, size) if size else (rows,))
            give_memory(value)
            values[slot] = value
            self.before.append(value)
        ops = bound_ops(recipe.nodes, values, False)
        for slot, name, dtype, shape in recipe.outputs:
            value = values[slot]
            if value.kind != DTYPES.index(dtype) or value.size != rows * prod(shape):
                raise NotImplementedError(f"the output {name!r} is of another type or shape")
            value.is_external = True
            self.outputs.append(value)
        for _, _, slot, _, _ in recipe.states:
            self.after.append(values[slot])
        for op in ops:
            for value in (<Op>op).outputs:
                give_memory(value)
                if value.mask is not None:
                    give_memory(value.mask)
        self.calls = Calls(ops)
        self.calls.work = sum([(<Op>op).work() for op in ops])


cdef inline void copy_one_way(char *value, char *state, size_t size, bint into_value) noexcept:
    memcpy(value if into_value else state, state if into_value else value, size)


cdef Value value_with(object dtype, tuple shape):
    cdef Py_ssize_t sizes[MOST_SHAPE]
    cdef int axis
    if len(shape) > MOST_SHAPE:
        raise NotImplementedError(f"arrays have at most {MOST_SHAPE} axes")
    for axis in range(len(shape)):
        sizes[axis] = shape[axis]
    return value_of(<Kind><int>DTYPES.index(dtype), len(shape), sizes)


cdef bint overlaps(Value value, list others, Py_ssize_t count):
    """Whether a value's memory is also that of one of so many others."""
    cdef Value other
    cdef Py_ssize_t k
    for k in range(count):
        other = others[k]
        if <char *>other.data < <char *>value.data + bytes_of(value) and (
            <char *>value.data < <char *>other.data + bytes_of(other)
        ):
            return True
    return False


cdef class Stream:
    """A model that reads sequences one time step at a time, and keeps its states in between.

    Made by ``model.stream(batch_size)`` or ``layer.stream(batch_size)``. What the steps return is
    bit for bit what `predict` returns for the whole sequence, and what each row alone would give;
    over BLAS, as on the baseline instruction set, but for rounding. It uses the weights as they are
    at each step; its states are its own. One thread at a time may use a stream; several streams of
    one model may be used by several.

    Attributes
    ----------
    batch_size : int
        How many independent sequences, the rows, the stream has.
    states : dict of str to array (batch_size, H)
        Copies of the states, by names such as ``lstm_1/h`` and ``lstm_1/c``, and bool (batch_size,)
        as ``lstm_1/began``: whether a step has counted. Assigning such a mapping, be it what
        ``np.load`` reads of what ``np.savez(file, **stream.states)`` wrote, sets them all;
        ``ValueError`` or ``TypeError`` for other names, shapes or types, and then nothing has
        changed.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.layers import LSTM
    >>> layer = LSTM(4, return_sequences=True)
    >>> x = np.random.default_rng(0).normal(size=(1, 3, 2)).astype("float32")
    >>> stream = layer.stream() if layer(x) is not None else None
    >>> steps = [stream.step(x[:, t]) for t in range(3)]
    >>> bool((np.stack(steps, axis=1) == layer(x)).all())
    True
    """

    cdef object _describe, _label
    cdef Recipe _recipe
    cdef long long _settings
    cdef readonly Py_ssize_t batch_size
    cdef dict _steps
    cdef Steps _all
    cdef list _states
    # One for each row, zeros between calls.
    cdef object _marks
    cdef PyThread_type_lock _lock
    cdef object __weakref__

    def __cinit__(self, describe, str label not None, Py_ssize_t batch_size):
        self._lock = PyThread_allocate_lock()
        if self._lock == NULL:
            raise MemoryError("There is no memory for a stream.")
        _streams.add(self)
        self._describe, self._label, self.batch_size = describe, label, batch_size
        self._settings = version_of_settings()
        self._compile(describe())
        self._marks = np.zeros(batch_size, np.uint8)
        self._states = [
            np.zeros((batch_size, size) if size else (batch_size,), dtype)
            for _, _, _, dtype, size in self._recipe.states
        ]

    def _have_a_new_lock(self):
        """In a forked child, where no thread is left that would give the old one back."""
        self._lock = PyThread_allocate_lock()

    def __dealloc__(self):
        if self._lock != NULL:
            PyThread_free_lock(self._lock)

    def __reduce__(self):
        raise TypeError(f"{self._label}: a stream cannot be pickled; save its `states`.")

    cdef int _compile(self, Recipe recipe) except -1:
        try:
            all_rows = Steps(recipe, self.batch_size)
        except NotImplementedError as error:
            raise ValueError(
                f"{self._label}: stream: single time steps cannot be computed: {error}.") from None
        self._recipe, self._all, self._steps = recipe, all_rows, {}
        return 0

    cdef int _look_at_settings(self) except -1:
        """Compile anew what is not as it was; the states stay."""
        cdef long long version = version_of_settings()
        cdef Recipe recipe = self._describe()
        if recipe.nodes != self._recipe.nodes:
            if (recipe.states, recipe.outputs) != (self._recipe.states, self._recipe.outputs):
                raise ValueError(f"{self._label}: its layers have changed: make a new stream.")
            self._compile(recipe)
        self._settings = version
        return 0

    cdef int _enter(self) except -1:
        """Be the only one at the stream until `PyThread_release_lock`."""
        if not PyThread_acquire_lock(self._lock, 0):
            raise RuntimeError(
                f"{self._label}: another thread is using this stream: make one for each thread.")
        return 0

    # ---- steps -------------------------------------------------------------------------------

    def step(self, x, out=None, rows=None):
        """Read one time step of every row, or of some, and return the outputs of that step.

        Parameters
        ----------
        x : array (B, F), or (B,) of integers; a list or a dict of names for several inputs
            B is `batch_size`, or the number of `rows`.
        out : array of the outputs' shape and dtype, in C order, optional
            Where to put the outputs instead of a new array; a list or a dict for several outputs.
            It must not overlap x. After an exception its contents are undefined.
        rows : list of int, optional
            Which rows x belongs to, none of them twice; the states of the others stay.

        Returns
        -------
        array (B, ...), or a list or a dict of them for several outputs, as of `predict`

        Raises
        ------
        ValueError, TypeError, IndexError
            For arrays of another shape or type, and rows that are not there. The states are then
            as they were.
        RuntimeError
            When another thread is in a step of the stream.
        """
        self._enter()
        try:
            return self._step(x, out, rows)
        finally:
            PyThread_release_lock(self._lock)

    cdef object _step(self, x, out, rows):
        cdef Steps steps = self._all
        cdef pass_watch memory
        cdef pass_watch *watch
        cdef Py_ssize_t[::1] places = None
        cdef Py_ssize_t count = self.batch_size
        if self._settings != version_of_settings():
            self._look_at_settings()
            steps = self._all
        if rows is not None:
            places = self._places(rows)
            count = places.shape[0]
            if count == 0:
                raise ValueError(f"{self._label}: `rows` is empty.")
            steps = self._steps_for(count)
        _kept = self._take_inputs(steps, x, count)
        found = self._take_outputs(steps, out, count)
        self._copy_states(steps.before, places, True)
        watch = begin_watch(&memory, steps.calls.work)
        for op in steps.calls.ops:
            (<Op>op).prepare(watch)
        with nogil:
            call_forward(steps.calls, watch)
        end_watch(watch)
        self._copy_states(steps.after, places, False)
        if self._recipe.names_outputs:
            return {name: array for (_, name, *_), array in zip(self._recipe.outputs, found)}
        return found[0] if len(found) == 1 else found

    cdef Steps _steps_for(self, Py_ssize_t count):
        """What so many rows run on: kept, but for a few numbers of rows only."""
        cdef Steps steps
        if count == self.batch_size:
            return self._all
        steps = self._steps.get(count)
        if steps is None:
            if len(self._steps) >= 64:
                # The oldest.
                del self._steps[next(iter(self._steps))]
            steps = self._steps[count] = Steps(self._recipe, count)
        return steps

    cdef Py_ssize_t[::1] _places(self, rows) except *:
        places = as_array(rows, f"{self._label}: `rows`")
        if places.ndim != 1 or (places.size and places.dtype.kind not in "iu"):
            raise TypeError(
                f"{self._label}: `rows` must be a list of integers, got {rows!r}.")
        places = places.astype(np.intp)
        if not self._are_rows(places):
            if not 0 <= places.min() <= places.max() < self.batch_size:
                raise IndexError(
                    f"{self._label}: `rows` must be from 0 to {self.batch_size - 1}, got {rows!r}.")
            raise ValueError(f"{self._label}: `rows` names a row twice: {rows!r}.")
        return places

    cdef bint _are_rows(self, Py_ssize_t[::1] places) except -1:
        """Whether they are rows, and each once."""
        cdef Py_ssize_t k, row, count = places.shape[0]
        cdef unsigned char *marks = <unsigned char *>data_of(self._marks)
        cdef bint fits = True
        for k in range(count):
            row = places[k]
            if not 0 <= row < self.batch_size or marks[row]:
                fits, count = False, k
                break
            marks[row] = 1
        for k in range(count):
            marks[places[k]] = 0
        return fits

    # ---- arrays that come and go -------------------------------------------------------------

    cdef list _in_order(self, given, list wanted, str what):
        """One array for each of the inputs or outputs `wanted`."""
        if len(wanted) == 1 and not isinstance(given, dict):
            return [given]
        names = [name for _, name, *_ in wanted]
        if isinstance(given, dict):
            if given.keys() != set(names):
                raise ValueError(
                    f"{self._label}: step: {what} must be named {names}, got {list(given)}.")
            return [given[name] for name in names]
        if not isinstance(given, (list, tuple)):
            raise TypeError(
                f"{self._label}: step: {what} must be a list of {len(names)} arrays or a dict of "
                f"{names}, got {arguments.described(given)}.")
        if len(given) != len(names):
            raise ValueError(
                f"{self._label}: step: {what} must be a list of {len(names)} arrays, "
                f"got {len(given)}.")
        return list(given)

    cdef list _take_inputs(self, Steps steps, x, Py_ssize_t count):
        cdef Value value
        cdef Py_ssize_t k
        cdef Located found
        cdef list given = self._in_order(x, self._recipe.inputs, "x")
        cdef list kept = []
        for k in range(len(given)):
            value = steps.inputs[k]
            array = given[k]
            # (B, F) in the type of the model: the usual case.
            if not (value.rank == 3 and value.kind <= DOUBLES
                    and locate(array, value.kind == DOUBLES, 2, &found)
                    and found.shape[0] == count and found.shape[1] == value.shape[2]):
                array = self._checked_input(k, array, count)
                value.data = data_of(array)
            else:
                value.data = found.data
            kept.append(array)
        return kept

    def _checked_input(self, Py_ssize_t k, array, Py_ssize_t count):
        _, name, dtype, shape = self._recipe.inputs[k]
        what = f"{self._label}: step: the input {name!r}"
        found = arguments.array_for_step(array, dtype, what)
        if found.shape != (count, *shape):
            raise ValueError(
                f"{what} must have shape {(count, *shape)}, one time step of each row, "
                f"got {found.shape}.")
        return found

    cdef list _take_outputs(self, Steps steps, out, Py_ssize_t count):
        cdef Value value
        cdef Py_ssize_t k
        cdef tuple shape
        cdef list given = None, found = []
        if out is not None:
            given = self._in_order(out, self._recipe.outputs, "`out`")
        for k in range(len(steps.outputs)):
            value, shape = steps.outputs[k], steps.shapes[k]
            if given is None:
                array = empty(shape, DTYPES[<int>value.kind])
                value.data = data_of(array)
            else:
                array = given[k]
                self._use_out(steps, k, array, shape)
            found.append(array)
        return found

    cdef int _use_out(self, Steps steps, Py_ssize_t k, array, tuple shape) except -1:
        """Have an array of the caller's be where the k-th output goes."""
        cdef Value value = steps.outputs[k]
        cdef Located found
        if value.kind > DOUBLES or not locate_writeable(
            array, value.kind == DOUBLES, <int>len(shape), &found
        ) or array.shape != shape:
            raise ValueError(
                f"{self._label}: step: `out` must be an array of shape {shape} and type "
                f"{DTYPES[<int>value.kind]}, in C order and writeable, "
                f"got {arguments.described(array)}.")
        value.data = found.data
        if overlaps(value, steps.inputs, len(steps.inputs)):
            raise ValueError(f"{self._label}: step: `out` must not overlap x: pass another array.")
        if overlaps(value, steps.outputs, k):
            raise ValueError(f"{self._label}: step: the arrays of `out` must not overlap.")
        return 0

    # ---- states ------------------------------------------------------------------------------

    cdef int _copy_states(self, list values, Py_ssize_t[::1] places, bint into_values) except -1:
        """Copy the states of the rows of a step to where it begins, or those after it back."""
        cdef Value value
        cdef Py_ssize_t k, row
        cdef char *states
        cdef size_t size
        for k in range(len(values)):
            value = values[k]
            states = <char *>data_of(self._states[k])
            if places is None:
                copy_one_way(<char *>value.data, states, bytes_of(value), into_values)
                continue
            size = bytes_of(value) // places.shape[0]
            for row in range(places.shape[0]):
                copy_one_way(<char *>value.data + row * size, states + places[row] * size, size,
                             into_values)
        return 0

    def reset(self, rows=None) -> None:
        """Begin new sequences: set the states to zero, all of them or those of some rows."""
        chosen = slice(None) if rows is None else np.asarray(self._places(rows))
        self._enter()
        try:
            for state in self._states:
                state[chosen] = 0
        finally:
            PyThread_release_lock(self._lock)

    @property
    def states(self):
        names = self._state_names()
        self._enter()
        try:
            return {name: state.copy() for name, state in zip(names, self._states)}
        finally:
            PyThread_release_lock(self._lock)

    cdef list _state_names(self):
        return [name for name, *_ in self._recipe.states]

    @states.setter
    def states(self, given):
        names = self._state_names()
        if not isinstance(given, Mapping):
            raise TypeError(
                f"{self._label}: `states` must be a mapping of {names} to arrays, "
                f"got {arguments.described(given)}.")
        if given.keys() != set(names):
            raise ValueError(
                f"{self._label}: `states` must be named {names}, got {list(given)}.")
        checked = []
        for name, state in zip(names, self._states):
            array = arguments.array_for_step(
                given[name], state.dtype, f"{self._label}: the state {name!r}")
            if array.shape != state.shape:
                raise ValueError(
                    f"{self._label}: the state {name!r} must have shape {state.shape}, "
                    f"got {array.shape}.")
            checked.append(array)
        self._enter()
        try:
            for state, array in zip(self._states, checked):
                state[...] = array
        finally:
            PyThread_release_lock(self._lock)

    def copy(self) -> Stream:
        """Another stream of the same model that goes on from the same states."""
        twin = Stream(self._describe, self._label, self.batch_size)
        twin.states = self.states
        return twin

    def __copy__(self):
        return self.copy()

    def __repr__(self):
        return f"<Stream of {self._label}, batch_size={self.batch_size}>"


cdef object _streams = weakref.WeakSet()


def _have_new_locks():
    for stream in list(_streams):
        stream._have_a_new_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_have_new_locks)
