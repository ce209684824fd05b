"""The weights of a dense layer."""

from fastlstm._core.plan cimport Plan


cdef class DensePlan(Plan):
    pass


# Where the kernel and the bias or NULL are; refuses what was resized in place since.
cdef int plain_weights(DensePlan plan, const void **plain) except -1
