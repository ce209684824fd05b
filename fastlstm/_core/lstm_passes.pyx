"""See lstm_passes.pxd.

A pass is C and nogil: csrc/layers/lstm.h on packed weights where the instruction set has products
of its own, lstm_blas on the others.
"""

from libc.string cimport memcpy, memset

from fastlstm._core cimport lstm_blas
from fastlstm._core.kernels cimport (
    GATES, lstm_functions_of, packing_kernels, table_f32, table_f64,
)
from fastlstm._core.lstm_weights cimport LSTMWeights, plain_weights
from fastlstm._core.memory cimport Memory
from fastlstm._core.passes cimport lstm_backward, lstm_forward, lstm_functions, lstm_pass
from fastlstm._core.plan cimport PackedWeights, packed_for, transposed_for, wants_packing
from fastlstm._core.watch cimport (
    WORK_OF_A_STEP, WORK_OF_A_UNIT, begin_watch, can_be_stopped, end_watch, pass_watch,
)
from fastlstm._core import arguments


cdef lstm_pass prepared(LSTMWeights plan, Py_ssize_t batch, Py_ssize_t steps):
    """A pass with the fields that a plan knows."""
    cdef lstm_pass base
    memset(&base, 0, sizeof(base))
    base.kernels = packing_kernels(plan.is_double)
    base.activation, base.recurrent_activation = plan.activation, plan.recurrent_activation
    base.go_backwards, base.workers = plan.go_backwards, 1
    base.batch, base.steps = batch, steps
    base.features, base.units = plan.features, plan.units
    return base


cdef double work_of(const lstm_pass *p) noexcept nogil:
    """About how many multiplications take as long as a forward pass."""
    cdef double row = <double>GATES * (p.features + p.units) + WORK_OF_A_UNIT
    return p.steps * (WORK_OF_A_STEP + <double>p.batch * p.units * row)


cdef tuple _use_packed(LSTMWeights plan, lstm_forward *f, int workers):
    """Have `f` run on packed weights; as many workers as suit it if 0.

    Returns what `f` then refers to, to be kept while it runs.
    """
    cdef const lstm_functions *functions = lstm_functions_of(plan.is_double)
    cdef PackedWeights packed = packed_for(plan, f.base.kernels)
    cdef Memory workspace
    f.kernel, f.recurrent_kernel, f.bias = packed.kernel, packed.recurrent_kernel, packed.bias
    f.base.workers = workers or functions.forward_workers(&f.base)
    workspace = Memory(functions.forward_workspace_bytes(f))
    f.base.workspace = workspace.data
    return packed, workspace


cdef str run_forward(LSTMWeights plan, lstm_forward *f):
    """Run `f`; returns what the products read, as `LSTMCache.path` names it.

    Raises what a signal's handler raises in the meantime.
    """
    cdef const lstm_functions *functions = lstm_functions_of(plan.is_double)
    cdef bint is_double = plan.is_double, blas = f.base.kernels == NULL
    cdef Memory workspace
    cdef const void *plain[3]
    cdef pass_watch memory
    f.base.watch = begin_watch(&memory, work_of(&f.base))
    if not blas and wants_packing(plan, <double>f.base.batch * f.base.steps):
        _kept = _use_packed(plan, f, 0)
        with nogil:
            functions.run_forward(f)
        end_watch(f.base.watch)
        return "packed"
    plain_weights(plan, plain)
    f.kernel, f.recurrent_kernel, f.bias = plain[0], plain[1], plain[2]
    if blas:
        arguments.check_strides(f.base.batch, f.base.steps,
                                max(plan.features, GATES * plan.units), "lstm_forward")
        f.base.kernels = <const void *>table_f64() if is_double else <const void *>table_f32()
        workspace = Memory(lstm_blas.forward_workspace_bytes(f, is_double))
    else:
        workspace = Memory(GATES * plan.units * sizeof(double))
    f.base.workspace = workspace.data
    with nogil:
        if blas:
            lstm_blas.run_forward(f, is_double)
        else:
            functions.run_forward_plain(f)
    end_watch(f.base.watch)
    return "BLAS" if blas else "plain"


cdef int run_forward_or_restore(LSTMWeights plan, lstm_forward *f) except -1:
    """Run `f` on states of a caller's, which are as they were if it is stopped."""
    cdef size_t size = f.base.batch * f.base.units * (
        sizeof(double) if plan.is_double else sizeof(float))
    cdef Memory before
    if not can_be_stopped(work_of(&f.base)):
        run_forward(plan, f)
        return 0
    before = Memory(2 * size)
    memcpy(before.data, f.h, size)
    memcpy(<char *>before.data + size, f.c, size)
    try:
        run_forward(plan, f)
    except BaseException:
        memcpy(f.h, before.data, size)
        memcpy(f.c, <char *>before.data + size, size)
        raise
    return 0


cdef int run_forward_pair(LSTMWeights first, lstm_forward *f, LSTMWeights second,
                          lstm_forward *g) except -1:
    """Run two passes of one length side by side if that wins, else one after the other."""
    cdef const lstm_functions *functions = lstm_functions_of(first.is_double)
    cdef lstm_forward *both[2]
    cdef pass_watch memory
    if not (
        f.base.kernels != NULL
        and first.is_double == second.is_double
        and functions.prefers_company(&f.base)
        and functions.prefers_company(&g.base)
    ):
        run_forward(first, f)
        run_forward(second, g)
        return 0
    _kept = _use_packed(first, f, 1), _use_packed(second, g, 1)
    both[0], both[1] = f, g
    f.base.watch = begin_watch(&memory, work_of(&f.base) + work_of(&g.base))
    g.base.watch = f.base.watch
    with nogil:
        functions.run_forward_pair(both)
    return end_watch(f.base.watch)


cdef int run_backward(LSTMWeights plan, lstm_backward *g) except -1:
    cdef const lstm_functions *functions = lstm_functions_of(plan.is_double)
    cdef bint is_double = plan.is_double, is_packed = g.base.kernels != NULL
    cdef PackedWeights packed
    cdef Memory workspace
    cdef const void *plain[3]
    cdef pass_watch memory
    g.base.watch = begin_watch(&memory, 3 * work_of(&g.base))
    plain_weights(plan, plain)
    if is_packed:
        packed = transposed_for(plan, g.base.kernels, g.dx != NULL)
        g.kernel, g.recurrent_kernel = packed.kernel, packed.recurrent_kernel
        g.base.workers = functions.backward_workers(&g.base)
        workspace = Memory(functions.backward_workspace_bytes(g))
    else:
        g.base.kernels = <const void *>table_f64() if is_double else <const void *>table_f32()
        g.kernel, g.recurrent_kernel = plain[0], plain[1]
        workspace = Memory(lstm_blas.backward_workspace_bytes(g, is_double))
    g.base.workspace = workspace.data
    with nogil:
        if is_packed:
            functions.run_backward(g)
        else:
            lstm_blas.run_backward(g, is_double)
    return end_watch(g.base.watch)
