"""See lstm_passes.pxd.

A pass is nogil: C on packed or on unpacked weights (csrc/layers/lstm.h), or lstm_blas.
"""

from libc.string cimport memcpy, memset

from fastlstm._core cimport lstm_blas
from fastlstm._core.engine cimport backward_engine, forward_engine
from fastlstm._core.kernels cimport (
    ENGINE_BLAS, ENGINE_OF_CHOICE, ENGINE_PACKED, GATES, Engine, lstm_functions_of, table_of,
)
from fastlstm._core.lstm_weights cimport LSTMWeights, plain_weights
from fastlstm._core.memory cimport Memory
from fastlstm._core.passes cimport (
    WAVEFRONT_MOST_ROWS, lstm_backward, lstm_forward, lstm_functions, lstm_pass,
)
from fastlstm._core.plan cimport PackedWeights, packed_for, transposed_for
from fastlstm._core.watch cimport (
    WORK_OF_A_STEP, WORK_OF_A_UNIT, begin_watch, can_be_stopped, end_watch, pass_watch,
)
from fastlstm._core import arguments


cdef lstm_pass prepared(LSTMWeights plan, Py_ssize_t batch, Py_ssize_t steps):
    """A pass with the fields that a plan knows."""
    cdef lstm_pass base
    memset(&base, 0, sizeof(base))
    base.kernels = table_of(plan.is_double)
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


cdef tuple _use_plain(LSTMWeights plan, lstm_forward *f, bint over_blas):
    """Have `f` run on the weights as they are; returns memory to be kept while it runs."""
    cdef const void *plain[3]
    cdef Memory workspace
    plain_weights(plan, plain)
    f.kernel, f.recurrent_kernel, f.bias = plain[0], plain[1], plain[2]
    if over_blas:
        arguments.check_strides(f.base.batch, f.base.steps,
                                max(plan.features, GATES * plan.units), "lstm_forward")
        f.base.workers = lstm_blas.suitable_workers(&f.base)
        workspace = Memory(lstm_blas.forward_workspace_bytes(f, plan.is_double))
    else:
        workspace = Memory(GATES * plan.units * sizeof(double))
    f.base.workspace = workspace.data
    return (workspace,)


cdef Engine run_forward(LSTMWeights plan, lstm_forward *f) except? ENGINE_OF_CHOICE:
    """Run `f` on the engine that suits it, and return which that was.

    Raises what a signal's handler raises in the meantime.
    """
    cdef Engine engine = forward_engine(plan, <double>f.base.batch * f.base.steps)
    run_forward_on(engine, plan, f)
    return engine


cdef tuple ready_forward(Engine engine, LSTMWeights plan, lstm_forward *f):
    return (_use_packed(plan, f, 0) if engine == ENGINE_PACKED
            else _use_plain(plan, f, engine == ENGINE_BLAS))


cdef void compute_forward(Engine engine, lstm_forward *f, bint is_double) noexcept nogil:
    cdef const lstm_functions *functions = lstm_functions_of(is_double)
    if engine == ENGINE_PACKED:
        functions.run_forward(f)
    elif engine == ENGINE_BLAS:
        lstm_blas.run_forward(f, is_double)
    else:
        functions.run_forward_unpacked(f)


cdef int run_forward_on(Engine engine, LSTMWeights plan, lstm_forward *f) except -1:
    cdef bint is_double = plan.is_double
    cdef pass_watch memory
    f.base.watch = begin_watch(&memory, work_of(&f.base))
    _kept = ready_forward(engine, plan, f)
    with nogil:
        compute_forward(engine, f, is_double)
    return end_watch(f.base.watch)


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


cdef tuple ready_pair(LSTMWeights first, lstm_forward *f, Engine engine, LSTMWeights second,
                      lstm_forward *g, Engine other):
    """What two passes on these engines refer to side by side, or None if that does not win."""
    cdef const lstm_functions *functions = lstm_functions_of(first.is_double)
    if not (
        engine == ENGINE_PACKED
        and other == ENGINE_PACKED
        and first.is_double == second.is_double
        and functions.prefers_company(&f.base)
        and functions.prefers_company(&g.base)
    ):
        return None
    return _use_packed(first, f, 1), _use_packed(second, g, 1)


cdef void compute_pair(lstm_forward *f, lstm_forward *g, bint is_double) noexcept nogil:
    cdef lstm_forward *both[2]
    both[0], both[1] = f, g
    lstm_functions_of(is_double).run_forward_pair(both)


cdef list ready_stack(list plans, lstm_forward **passes, list engines):
    """What passes refer to side by side, each on the outputs of the one before; None if that does
    not win."""
    cdef const lstm_functions *functions = lstm_functions_of((<LSTMWeights>plans[0]).is_double)
    cdef int k, count = len(plans)
    if count > WAVEFRONT_MOST_ROWS or engines != count * [ENGINE_PACKED] or (
        not functions.prefers_wavefront(passes, count)
    ):
        return None
    return [_use_packed(plans[k], passes[k], 1) for k in range(count)]


cdef void compute_stack(lstm_forward **passes, int count, bint is_double) noexcept nogil:
    lstm_functions_of(is_double).run_forward_stack(passes, count)


cdef tuple ready_backward(Engine engine, LSTMWeights plan, lstm_backward *g):
    cdef const lstm_functions *functions = lstm_functions_of(plan.is_double)
    cdef PackedWeights packed = None
    cdef Memory workspace
    cdef const void *plain[3]
    plain_weights(plan, plain)
    if engine == ENGINE_BLAS:
        g.kernel, g.recurrent_kernel = plain[0], plain[1]
        g.base.workers = lstm_blas.suitable_workers(&g.base)
        workspace = Memory(lstm_blas.backward_workspace_bytes(g, plan.is_double))
    else:
        packed = transposed_for(plan, g.base.kernels, g.dx != NULL)
        g.kernel, g.recurrent_kernel = packed.kernel, packed.recurrent_kernel
        g.base.workers = functions.backward_workers(&g.base)
        workspace = Memory(functions.backward_workspace_bytes(g))
    g.base.workspace = workspace.data
    return packed, workspace


cdef void compute_backward(Engine engine, lstm_backward *g, bint is_double) noexcept nogil:
    if engine == ENGINE_BLAS:
        lstm_blas.run_backward(g, is_double)
    else:
        lstm_functions_of(is_double).run_backward(g)


cdef int run_backward(LSTMWeights plan, lstm_backward *g, Engine forward) except -1:
    """Run `g` after a pass on the engine `forward`."""
    cdef Engine engine = backward_engine(forward)
    cdef bint is_double = plan.is_double
    cdef pass_watch memory
    g.base.watch = begin_watch(&memory, 3 * work_of(&g.base))
    _kept = ready_backward(engine, plan, g)
    with nogil:
        compute_backward(engine, g, is_double)
    return end_watch(g.base.watch)
