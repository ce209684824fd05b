from fastlstm._core.passes cimport lstm_backward, lstm_forward, lstm_pass

# How many threads suit a pass, which its workspace depends on.
cdef int suitable_workers(const lstm_pass *p) noexcept nogil
cdef size_t forward_workspace_bytes(const lstm_forward *self, bint is_double) noexcept nogil
cdef size_t backward_workspace_bytes(const lstm_backward *self, bint is_double) noexcept nogil
cdef void run_forward(lstm_forward *self, bint is_double) noexcept nogil
cdef void run_backward(lstm_backward *self, bint is_double) noexcept nogil
