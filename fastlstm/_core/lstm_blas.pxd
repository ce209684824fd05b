from fastlstm._core.passes cimport lstm_backward, lstm_forward

cdef size_t forward_workspace_bytes(const lstm_forward *self, bint is_double) noexcept nogil
cdef size_t backward_workspace_bytes(const lstm_backward *self, bint is_double) noexcept nogil
cdef void run_forward(lstm_forward *self, bint is_double) noexcept nogil
cdef void run_backward(lstm_backward *self, bint is_double) noexcept nogil
