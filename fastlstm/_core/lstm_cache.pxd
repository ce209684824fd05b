"""What the backward pass of an LSTM needs of a forward pass."""

from fastlstm._core.kernels cimport Engine
from fastlstm._core.lstm_weights cimport LSTMWeights
from fastlstm._core.memory cimport Memory
from fastlstm._core.passes cimport lstm_backward, lstm_forward


cdef class LSTMCache:
    cdef readonly LSTMWeights plan
    cdef readonly object x
    cdef Py_ssize_t batch, steps    # as they were
    cdef Memory memory              # holds these:
    cdef void *h0                   # (B, H)
    cdef void *c0                   # (B, H)
    cdef void *gates                # (B, T, 4H) as the gate kernels left them, in the order of x
    cdef void *c                    # (B, T, H) states after each step, in step order
    cdef void *h                    # the same; NULL where they are the outputs
    cdef readonly object y
    cdef object valid               # (B, T) uint8 in step order, or None: steps that count
    cdef object shown               # (B, T) uint8 in step order, or None: outputs that are states
    cdef readonly str path
    # What the gates hold depends on the kernels that computed them.
    cdef const void *kernels
    cdef Engine engine


cdef LSTMCache cache_for(LSTMWeights plan, lstm_forward *f, object x, object y, object valid,
                         object shown)
cdef int use_cache(LSTMCache cache, lstm_backward *g) except -1
