"""See lstm_weights.pxd."""

from fastlstm._core.activations cimport activation_index
from fastlstm._core.arrays cimport Located, locate_matrix, located
from fastlstm._core.kernels cimport GATES, lstm_functions_of, packing_of
from fastlstm._core.passes cimport packing_functions
from fastlstm._core.plan cimport PackedWeights, Plan, locate_bias, use_bias, use_kernel
from fastlstm._core import arguments

cdef class LSTMWeights(Plan):
    """The weights of an LSTM with its activations and direction, checked once; the weights are
    packed when a pass first needs them, so their contents must not change.

    Parameters are those of `fastlstm.functional.lstm_forward`.
    """

    def __cinit__(self, kernel, recurrent_kernel, bias, str activation not None,
                  str recurrent_activation not None, bint go_backwards,
                  bint zero_output_for_mask):
        cdef Located found
        cdef Py_ssize_t width
        self.activation = activation_index(activation, "lstm_forward: `activation`", True)
        self.recurrent_activation = activation_index(
            recurrent_activation, "lstm_forward: `recurrent_activation`", True)
        self.go_backwards = go_backwards
        self.zero_output_for_mask = zero_output_for_mask
        use_kernel(self, kernel, "lstm_forward: `kernel`", "(F, 4*H)")
        width = self.units
        self.units = width // GATES
        if width == 0 or width % GATES or self.features == 0:
            raise ValueError(
                f"lstm_forward: `kernel` must have shape (F, 4*H) with F and H at least 1, "
                f"got {self.kernel.shape}."
            )
        self.recurrent_kernel = located(
            recurrent_kernel, self.is_double, 2, &found, "lstm_forward: `recurrent_kernel`",
            "(H, 4*H)")
        if found.shape[0] != self.units or found.shape[1] != width:
            raise ValueError(
                f"lstm_forward: `recurrent_kernel` must have shape (H, 4*H) = "
                f"{(self.units, width)}, got {self.recurrent_kernel.shape}."
            )
        use_bias(self, bias, width, "lstm_forward: `bias`", "(4*H,)")

    cdef bint is_worth_packing(self) noexcept:
        return lstm_functions_of(self.is_double).wants_packed(self.rows_run)

    cdef PackedWeights pack(self, const void *kernels):
        cdef const packing_functions *packing = packing_of(self.is_double)
        cdef Py_ssize_t features = self.features, units = self.units, width = GATES * self.units
        cdef const void *plain[3]
        cdef PackedWeights packed
        plain_weights(self, plain)
        packed = PackedWeights(
            packing.size(kernels, features, width), packing.size(kernels, units, width),
            0 if plain[2] == NULL else packing.size(kernels, 1, width), self.is_double)
        with nogil:
            packing.groups(kernels, features, GATES, units, plain[0], packed.kernel)
            packing.groups(kernels, units, GATES, units, plain[1], packed.recurrent_kernel)
            if plain[2] != NULL:
                packing.groups(kernels, 1, GATES, units, plain[2], packed.bias)
        return packed

    cdef PackedWeights pack_transposed(self, const void *kernels, bint with_kernel):
        cdef const packing_functions *packing = packing_of(self.is_double)
        cdef Py_ssize_t features = self.features, units = self.units, depth = GATES * self.units
        cdef const void *plain[3]
        cdef PackedWeights packed
        plain_weights(self, plain)
        packed = PackedWeights(
            packing.size(kernels, depth, features) if with_kernel else 0,
            packing.size(kernels, depth, units), 0, self.is_double)
        with nogil:
            if with_kernel:
                packing.transposed(kernels, depth, features, plain[0], packed.kernel)
            packing.transposed(kernels, depth, units, plain[1], packed.recurrent_kernel)
        return packed


cdef int plain_weights(LSTMWeights plan, const void **plain) except -1:
    """Where kernel, recurrent kernel and bias or NULL are, as they were given.

    Refuses what was resized in place since, as `ndarray.resize` can.
    """
    cdef Py_ssize_t width = GATES * plan.units
    if not (
        locate_matrix(plan.kernel, plan.is_double, plan.features, width, &plain[0])
        and locate_matrix(plan.recurrent_kernel, plan.is_double, plan.units, width, &plain[1])
        and locate_bias(plan, width, &plain[2])
    ):
        raise arguments.resized("lstm")
    return 0
