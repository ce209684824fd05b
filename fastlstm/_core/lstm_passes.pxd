"""Passes of an LSTM that have their arrays: which code runs them, and on which weights."""

from fastlstm._core.kernels cimport ENGINE_OF_CHOICE, Engine
from fastlstm._core.lstm_weights cimport LSTMWeights
from fastlstm._core.passes cimport lstm_backward, lstm_forward, lstm_pass

cdef lstm_pass prepared(LSTMWeights plan, Py_ssize_t batch, Py_ssize_t steps)
cdef Engine run_forward(LSTMWeights plan, lstm_forward *f) except? ENGINE_OF_CHOICE
cdef int run_forward_or_restore(LSTMWeights plan, lstm_forward *f) except -1
cdef int run_forward_pair(LSTMWeights first, lstm_forward *f, LSTMWeights second,
                          lstm_forward *g) except -1
cdef int run_forward_stack(list plans, lstm_forward **passes, int count) except -1
cdef int run_backward(LSTMWeights plan, lstm_backward *g, Engine forward) except -1
