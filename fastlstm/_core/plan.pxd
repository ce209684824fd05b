"""What the plans of both layers have in common: weights that are packed when a pass wants that."""

from fastlstm._core.memory cimport Memory


cdef class PackedWeights:
    """Weights laid out for the kernels of one instruction set: sizes in elements, one behind the
    other; `has_kernel` where the kernel is among them."""

    cdef Memory memory
    cdef const void *kernels
    cdef bint has_kernel
    cdef void *kernel
    cdef void *recurrent_kernel
    cdef void *bias


cdef class Plan:
    cdef readonly object kernel, bias, dtype
    cdef readonly Py_ssize_t features, units
    cdef bint is_double
    cdef int activation
    # For the forward pass and for the backward pass.
    cdef PackedWeights packed, transposed
    cdef double rows_run

    # What a layer defines: its weights packed, and whether `rows_run` is worth packing them.
    cdef PackedWeights pack(self, const void *kernels)
    cdef PackedWeights pack_transposed(self, const void *kernels, bint with_kernel)
    cdef bint is_worth_packing(self) noexcept


cdef int use_kernel(Plan plan, object kernel, str what, str symbols) except -1
cdef int use_bias(Plan plan, object bias, Py_ssize_t width, str what, str symbols) except -1
cdef bint locate_bias(Plan plan, Py_ssize_t width, const void **data) except -1
cdef PackedWeights packed_for(Plan plan, const void *kernels)
cdef PackedWeights transposed_for(Plan plan, const void *kernels, bint with_kernel)
cdef bint wants_packing(Plan plan, double rows) except -1
# Have a plan that nobody else runs forget what it has packed: the contents of its arrays have
# changed.
cdef void forget_packed(Plan plan)
