"""The weights of an LSTM."""

from fastlstm._core.plan cimport PackedWeights, Plan


cdef class LSTMWeights(Plan):
    cdef readonly object recurrent_kernel
    cdef readonly bint go_backwards, zero_output_for_mask
    cdef int recurrent_activation


cdef int plain_weights(LSTMWeights plan, const void **plain) except -1
