"""Passes of a dense layer that have their arrays: which code runs them, and on which weights."""

from fastlstm._core.dense_plan cimport DensePlan
from fastlstm._core.kernels cimport ENGINE_OF_CHOICE, Engine
from fastlstm._core.passes cimport dense_backward, dense_forward, dense_pass
from fastlstm._core.plan cimport PackedWeights

# A pass with the fields that a plan knows; and about how many multiplications take as long as it.
cdef dense_pass prepared(DensePlan plan, Py_ssize_t rows)
cdef double work_of(const dense_pass *base) noexcept nogil

# Give a pass what it needs to run on an engine; returns what it then refers to.
cdef PackedWeights ready_forward(Engine engine, DensePlan plan, dense_forward *f)
cdef tuple ready_backward(Engine engine, DensePlan plan, dense_backward *g)
# Run a pass that is ready.
cdef void compute_forward(Engine engine, dense_forward *f, bint is_double) noexcept nogil
cdef void compute_backward(Engine engine, dense_backward *g, bint is_double) noexcept nogil

# Run a pass on the engine that suits it, and return which that was; and one after a pass on
# `forward`. Raise what a signal's handler raises in the meantime.
cdef Engine run_forward(DensePlan plan, dense_forward *f) except? ENGINE_OF_CHOICE
cdef int run_backward(DensePlan plan, dense_backward *g, Engine forward) except -1
