"""The LSTM for other Cython code: ``from fastlstm cimport LSTMPlan``."""

from fastlstm._core.memory cimport Memory


cdef class Panels:
    """Packed weights: sizes in elements, one behind the other."""

    cdef Memory memory
    cdef const void *kernels
    cdef bint has_kernel
    cdef void *kernel
    cdef void *recurrent_kernel
    cdef void *bias


cdef class LSTMPlan:
    cdef readonly object kernel, recurrent_kernel, bias, dtype
    cdef readonly Py_ssize_t features, units
    cdef readonly bint go_backwards, zero_output_for_mask
    cdef bint is_double
    cdef int activation, recurrent_activation
    # Panels for the forward pass, columns for the backward pass, and for which kernels they are.
    cdef Panels panels, columns
    cdef double rows_run

    # Run the plan on memory of the caller's, of the plan's real type, C-contiguous: x (B, T, F);
    # h and c (B, H), which come in as the initial and go out as the final states; y (B, T, H) or
    # NULL. Needs the GIL, and releases it for the length of the pass. What the handler of a signal
    # raises stops a long pass in the main thread: h and c are then as they were.
    cdef int run(self, const void *x, void *h, void *c, void *y, Py_ssize_t batch,
                 Py_ssize_t steps) except -1
