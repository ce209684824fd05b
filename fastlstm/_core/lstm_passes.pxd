"""Passes of an LSTM that have their arrays: which code runs them, and on which weights."""

from fastlstm._core.kernels cimport ENGINE_OF_CHOICE, Engine
from fastlstm._core.lstm_weights cimport LSTMWeights
from fastlstm._core.passes cimport lstm_backward, lstm_forward, lstm_pass

cdef lstm_pass prepared(LSTMWeights plan, Py_ssize_t batch, Py_ssize_t steps)
# About how many multiplications take as long as a forward pass.
cdef double work_of(const lstm_pass *p) noexcept nogil

# Give a pass what it needs to run on an engine; returns what it then refers to.
cdef tuple ready_forward(Engine engine, LSTMWeights plan, lstm_forward *f)
cdef tuple ready_backward(Engine engine, LSTMWeights plan, lstm_backward *g)
# Run a pass that is ready.
cdef void compute_forward(Engine engine, lstm_forward *f, bint is_double) noexcept nogil
cdef void compute_backward(Engine engine, lstm_backward *g, bint is_double) noexcept nogil

cdef Engine run_forward(LSTMWeights plan, lstm_forward *f) except? ENGINE_OF_CHOICE
cdef int run_forward_or_restore(LSTMWeights plan, lstm_forward *f) except -1
# Give two passes of one length what they need to run side by side, as `ready_forward` does; None
# where one after the other is faster. And run them.
cdef tuple ready_pair(LSTMWeights first, lstm_forward *f, Engine engine, LSTMWeights second,
                      lstm_forward *g, Engine other)
cdef void compute_pair(lstm_forward *f, lstm_forward *g, bint is_double) noexcept nogil
# The same for passes of one real type, batch and number of steps, each on the outputs of the one
# before; none but the first goes backwards.
cdef list ready_stack(list plans, lstm_forward **passes, list engines)
cdef void compute_stack(lstm_forward **passes, int count, bint is_double) noexcept nogil
cdef int run_backward(LSTMWeights plan, lstm_backward *g, Engine forward) except -1
