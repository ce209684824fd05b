"""See lstm_cache.pxd."""

from libc.string cimport memcpy, memset

from fastlstm._core.arrays cimport Located, data_of, locate
from fastlstm._core.kernels cimport GATES
from fastlstm._core.lstm_passes cimport prepared
from fastlstm._core.lstm_weights cimport LSTMWeights
from fastlstm._core.memory cimport Memory
from fastlstm._core.passes cimport lstm_backward, lstm_forward
from fastlstm._core import arguments

cdef extern from "base/blocks.h" nogil:
    size_t in_lines(size_t size)


cdef class LSTMCache:
    """What `backward` needs of one `forward`. Holds references to the caller's arrays.

    `path` names what ran: the instruction set; the engine (``packed``, ``unpacked`` or ``blas``);
    the gates, for ``tanh``, ``relu`` or any (``general``). It is empty where there was nothing to
    run.
    """


cdef LSTMCache cache_for(LSTMWeights plan, lstm_forward *f, object x, object y, object valid,
                         object shown):
    """A cache with memory for what `f` must leave behind, where `f` then leaves it."""
    cdef LSTMCache cache = LSTMCache.__new__(LSTMCache)
    cdef size_t size = f.base.batch * f.base.units * (
        sizeof(double) if plan.is_double else sizeof(float))
    # Each part begins in a cache line of its own.
    cdef size_t of_states = in_lines(size), of_sequence = in_lines(size * f.base.steps)
    cdef size_t of_gates = in_lines(GATES * size * f.base.steps)
    # With a mask the outputs are not the states.
    cdef bint keeps_h = valid is not None
    cache.plan, cache.x, cache.y, cache.valid, cache.shown = plan, x, y, valid, shown
    cache.batch, cache.steps = f.base.batch, f.base.steps
    cache.kernels, cache.path = f.base.kernels, ""
    cache.memory = Memory(2 * of_states + of_gates + (1 + keeps_h) * of_sequence)
    cache.h0 = cache.memory.data
    cache.c0 = <char *>cache.h0 + of_states
    cache.gates = <char *>cache.c0 + of_states
    cache.c = <char *>cache.gates + of_gates
    cache.h = <char *>cache.c + of_sequence if keeps_h else NULL
    # The states belong to the caller, who may well reuse their memory for the next call.
    memcpy(cache.h0, f.h, size)
    memcpy(cache.c0, f.c, size)
    f.gates, f.saved_c, f.saved_h = cache.gates, cache.c, cache.h
    return cache


cdef bint _has_shape(object sequence, LSTMCache cache, Py_ssize_t width, Located *found) except -1:
    """Whether it still is (B, T, width), as when `cache` was made, and where it is."""
    return (
        locate(sequence, cache.plan.is_double, 3, found)
        and found.shape[0] == cache.batch
        and found.shape[1] == cache.steps
        and found.shape[2] == width
    )


cdef int use_cache(LSTMCache cache, lstm_backward *g) except -1:
    """Have `g` read what the forward pass left, and what it got.

    Refuses arrays that were resized in place since, as `ndarray.resize` can.
    """
    cdef LSTMWeights plan = cache.plan
    cdef Located x, y
    cdef bint fits = (
        _has_shape(cache.x, cache, plan.features, &x)
        and _has_shape(cache.y, cache, plan.units, &y)
    )
    if not fits:
        raise arguments.resized("lstm_backward")
    memset(g, 0, sizeof(lstm_backward))
    g.base = prepared(plan, cache.batch, cache.steps)
    g.base.kernels = cache.kernels
    g.base.x = x.data
    g.base.valid = <const unsigned char *>data_of(cache.valid)
    g.base.shown = <const unsigned char *>data_of(cache.shown)
    g.gates, g.saved_c = cache.gates, cache.c
    g.saved_h = y.data if cache.h == NULL else cache.h
    g.h0, g.c0 = cache.h0, cache.c0
    return 0
