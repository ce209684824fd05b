"""The passes of csrc/layers/dense.h over BLAS."""

from fastlstm._core.passes cimport dense_backward, dense_forward, dense_pass

# How many threads suit a pass.
cdef int suitable_workers(const dense_pass *p) noexcept nogil
cdef void run_forward(dense_forward *f, bint is_double) noexcept nogil
cdef size_t backward_workspace_bytes(const dense_backward *g, bint is_double) noexcept nogil
cdef void run_backward(dense_backward *g, bint is_double) noexcept nogil
