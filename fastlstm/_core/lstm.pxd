"""The LSTM for other Cython code: ``from fastlstm cimport LSTMPlan``."""

from fastlstm._core.lstm_weights cimport LSTMWeights


# Has the attributes kernel, recurrent_kernel, bias, dtype, features, units, go_backwards and
# zero_output_for_mask, all of them read-only.
cdef class LSTMPlan(LSTMWeights):
    # Run the plan on memory of the caller's, of the plan's real type, C-contiguous: x (B, T, F);
    # h and c (B, H), which come in as the initial and go out as the final states; y (B, T, H) or
    # NULL. Needs the GIL, and releases it for the length of the pass. What the handler of a signal
    # raises stops a long pass in the main thread: h and c are then as they were.
    cdef int run(self, const void *x, void *h, void *c, void *y, Py_ssize_t batch,
                 Py_ssize_t steps) except -1
