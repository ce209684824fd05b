"""See plan.pxd."""

cimport cython

from fastlstm._core.arrays cimport Located, locate, located
from fastlstm._core.memory cimport Memory
from fastlstm._core import arguments

cdef object FLOAT32 = arguments.FLOAT32, FLOAT64 = arguments.FLOAT64


cdef class PackedWeights:
    def __cinit__(self, Py_ssize_t kernel, Py_ssize_t recurrent_kernel, Py_ssize_t bias,
                  bint is_double):
        cdef size_t element = sizeof(double) if is_double else sizeof(float)
        self.memory = Memory((kernel + recurrent_kernel + bias) * element)
        self.has_kernel = kernel > 0
        self.kernel = self.memory.data
        self.recurrent_kernel = <char *>self.kernel + kernel * element
        self.bias = <char *>self.recurrent_kernel + recurrent_kernel * element if bias else NULL


cdef class Plan:
    """The weights of a layer, checked once and packed when a pass first needs that."""

    cdef PackedWeights pack(self, const void *kernels):
        raise NotImplementedError

    cdef PackedWeights pack_transposed(self, const void *kernels, bint with_kernel):
        raise NotImplementedError

    cdef bint is_worth_packing(self) noexcept:
        return True


# ---- checks --------------------------------------------------------------------------------------

cdef int use_kernel(Plan plan, object kernel, str what, str symbols) except -1:
    """Have `plan` compute with a kernel of two axes, in its real type."""
    cdef Located found
    plan.kernel = kernel
    if not locate(kernel, False, 2, &found):
        plan.is_double = arguments.real_dtype_of(kernel, what) == FLOAT64
        plan.kernel = located(kernel, plan.is_double, 2, &found, what, symbols)
    plan.dtype = FLOAT64 if plan.is_double else FLOAT32
    plan.features, plan.units = found.shape[0], found.shape[1]
    return 0


cdef int use_bias(Plan plan, object bias, Py_ssize_t width, str what, str symbols) except -1:
    """Have `plan` add a bias of so many elements, or none for None."""
    cdef Located found
    if bias is None:
        return 0
    plan.bias = located(bias, plan.is_double, 1, &found, what, symbols)
    if found.shape[0] != width:
        raise ValueError(
            f"{what} must have shape {symbols} = {(width,)}, got {plan.bias.shape}."
        )
    return 0


cdef bint locate_bias(Plan plan, Py_ssize_t width, const void **data) except -1:
    """Whether the bias still has so many elements, and where it is, NULL for none."""
    cdef Located found
    data[0] = NULL
    if plan.bias is None:
        return True
    if not locate(plan.bias, plan.is_double, 1, &found) or found.shape[0] != width:
        return False
    data[0] = found.data
    return True


# ---- packed once ---------------------------------------------------------------------------------

# A plan may run in several threads at once, which pack for each other: where there is no GIL, its
# own lock guards what changes in it.

cdef PackedWeights packed_for(Plan plan, const void *kernels):
    """The weights packed for a forward pass."""
    cdef PackedWeights packed
    with cython.critical_section(plan):
        packed = plan.packed
        if packed is None or packed.kernels != kernels:
            plan.packed = packed = plan.pack(kernels)
            packed.kernels = kernels
    return packed


cdef PackedWeights transposed_for(Plan plan, const void *kernels, bint with_kernel):
    """The transposed weights packed for a backward pass; the kernel where it is asked for."""
    cdef PackedWeights packed
    with cython.critical_section(plan):
        packed = plan.transposed
        if packed is None or packed.kernels != kernels or with_kernel and not packed.has_kernel:
            plan.transposed = packed = plan.pack_transposed(kernels, with_kernel)
            packed.kernels = kernels
    return packed


cdef bint wants_packing(Plan plan, double rows) except -1:
    """Whether the rows of a pass and of those before it are worth packed weights."""
    cdef bint wanted
    with cython.critical_section(plan):
        plan.rows_run += rows
        wanted = plan.packed is not None or plan.is_worth_packing()
    return wanted


cdef void forget_packed(Plan plan):
    plan.packed = plan.transposed = None
    plan.rows_run = 0
