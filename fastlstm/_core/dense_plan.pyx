"""See dense_plan.pxd."""

from fastlstm._core.activations cimport activation_index
from fastlstm._core.arrays cimport locate_matrix
from fastlstm._core.kernels cimport dense_functions_of, packing_of
from fastlstm._core.passes cimport dense_functions, packing_functions
from fastlstm._core.plan cimport PackedWeights, Plan, locate_bias, use_bias, use_kernel
from fastlstm._core import arguments


cdef class DensePlan(Plan):
    """The weights of a dense layer with its activation, checked once; the kernel is packed when a
    pass first needs it, so its contents must not change.

    Parameters are those of `fastlstm.functional.dense_forward`.
    """

    def __cinit__(self, kernel, bias, str activation not None):
        self.activation = activation_index(activation, "dense_forward: `activation`", False)
        use_kernel(self, kernel, "dense_forward: `kernel`", "(F, U)")
        if self.features == 0 or self.units == 0:
            raise ValueError(
                f"dense_forward: `kernel` must have shape (F, U) with F and U at least 1, "
                f"got {self.kernel.shape}."
            )
        use_bias(self, bias, self.units, "dense_forward: `bias`", "(U,)")

    cdef bint is_worth_packing(self) noexcept:
        return dense_functions_of(self.is_double).wants_packed(self.units, self.rows_run)

    cdef PackedWeights pack(self, const void *kernels):
        cdef const dense_functions *functions = dense_functions_of(self.is_double)
        cdef Py_ssize_t features = self.features, units = self.units
        cdef const void *plain[2]
        cdef PackedWeights packed
        plain_weights(self, plain)
        packed = PackedWeights(
            functions.packed_size(kernels, features, units), 0, 0, self.is_double)
        with nogil:
            functions.pack(kernels, features, units, plain[0], packed.kernel)
        return packed

    cdef PackedWeights pack_transposed(self, const void *kernels, bint with_kernel):
        cdef const packing_functions *packing = packing_of(self.is_double)
        cdef Py_ssize_t features = self.features, units = self.units
        cdef const void *plain[2]
        cdef PackedWeights packed
        plain_weights(self, plain)
        packed = PackedWeights(packing.size(kernels, units, features), 0, 0, self.is_double)
        with nogil:
            packing.transposed(kernels, units, features, plain[0], packed.kernel)
        return packed


cdef int plain_weights(DensePlan plan, const void **plain) except -1:
    if not (
        locate_matrix(plan.kernel, plan.is_double, plan.features, plan.units, &plain[0])
        and locate_bias(plan, plan.units, &plain[1])
    ):
        raise arguments.resized("dense")
    return 0
