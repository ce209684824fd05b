"""See dense_passes.pxd.

A pass is nogil: C on a packed or on the plain kernel (csrc/layers/dense.h), or dense_blas.
"""

from libc.string cimport memset

from fastlstm._core cimport dense_blas
from fastlstm._core.dense_plan cimport DensePlan, plain_weights
from fastlstm._core.engine cimport backward_engine, forward_engine
from fastlstm._core.kernels cimport (
    ENGINE_BLAS, ENGINE_OF_CHOICE, ENGINE_PACKED, Engine, dense_functions_of, table_of,
)
from fastlstm._core.memory cimport Memory
from fastlstm._core.passes cimport dense_backward, dense_forward, dense_functions, dense_pass
from fastlstm._core.plan cimport PackedWeights, packed_for, transposed_for
from fastlstm._core.watch cimport WORK_OF_A_UNIT, begin_watch, end_watch, pass_watch


cdef dense_pass prepared(DensePlan plan, Py_ssize_t rows):
    cdef dense_pass base
    memset(&base, 0, sizeof(base))
    base.kernels = table_of(plan.is_double)
    base.activation, base.workers = plan.activation, 1
    base.rows, base.features, base.units = rows, plan.features, plan.units
    return base


cdef double work_of(const dense_pass *base) noexcept nogil:
    return <double>base.rows * base.units * (base.features + WORK_OF_A_UNIT)


# ---- forward -------------------------------------------------------------------------------------

cdef PackedWeights ready_forward(Engine engine, DensePlan plan, dense_forward *f):
    cdef PackedWeights packed = None
    cdef const void *plain[2]
    plain_weights(plan, plain)
    f.kernel, f.bias = plain[0], plain[1]
    f.base.workers = 1
    if engine == ENGINE_PACKED:
        packed = packed_for(plan, f.base.kernels)
        f.kernel = packed.kernel
        f.base.workers = dense_functions_of(plan.is_double).workers(&f.base, 1)
    elif engine == ENGINE_BLAS:
        f.base.workers = dense_blas.suitable_workers(&f.base)
    return packed


cdef void compute_forward(Engine engine, dense_forward *f, bint is_double) noexcept nogil:
    cdef const dense_functions *functions = dense_functions_of(is_double)
    if engine == ENGINE_PACKED:
        functions.run_forward(f)
    elif engine == ENGINE_BLAS:
        dense_blas.run_forward(f, is_double)
    else:
        functions.run_forward_unpacked(f)


cdef Engine run_forward(DensePlan plan, dense_forward *f) except? ENGINE_OF_CHOICE:
    cdef Engine engine = forward_engine(plan, f.base.rows)
    cdef bint is_double = plan.is_double
    cdef pass_watch memory
    _kept = ready_forward(engine, plan, f)
    f.base.watch = begin_watch(&memory, work_of(&f.base))
    with nogil:
        compute_forward(engine, f, is_double)
    end_watch(f.base.watch)
    return engine


# ---- backward ------------------------------------------------------------------------------------

cdef tuple ready_backward(Engine engine, DensePlan plan, dense_backward *g):
    cdef const dense_functions *functions = dense_functions_of(plan.is_double)
    cdef PackedWeights transposed = None
    cdef Memory workspace
    cdef const void *plain[2]
    plain_weights(plan, plain)
    g.kernel = plain[0]
    if engine == ENGINE_BLAS:
        g.base.workers = dense_blas.suitable_workers(&g.base)
        workspace = Memory(dense_blas.backward_workspace_bytes(g, plan.is_double))
    else:
        if g.dx != NULL and functions.wants_transposed(&g.base):
            transposed = transposed_for(plan, g.base.kernels, True)
            g.kernel = transposed.kernel
        g.base.workers = functions.workers(&g.base, 3)
        workspace = Memory(functions.backward_workspace_bytes(g))
    g.base.workspace = workspace.data
    return transposed, workspace


cdef void compute_backward(Engine engine, dense_backward *g, bint is_double) noexcept nogil:
    if engine == ENGINE_BLAS:
        dense_blas.run_backward(g, is_double)
    else:
        dense_functions_of(is_double).run_backward(g)


cdef int run_backward(DensePlan plan, dense_backward *g, Engine forward) except -1:
    cdef Engine engine = backward_engine(forward)
    cdef bint is_double = plan.is_double
    cdef pass_watch memory
    _kept = ready_backward(engine, plan, g)
    g.base.watch = begin_watch(&memory, 2 * work_of(&g.base))
    with nogil:
        compute_backward(engine, g, is_double)
    return end_watch(g.base.watch)
