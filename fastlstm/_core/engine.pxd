"""Which code computes a layer: the one place where that is decided."""

from fastlstm._core.kernels cimport ENGINE_OF_CHOICE, Engine
from fastlstm._core.plan cimport Plan

cdef Engine forward_engine(Plan plan, double rows) except? ENGINE_OF_CHOICE
cdef Engine backward_engine(Engine forward) noexcept nogil
cdef str engine_word(Engine engine)
