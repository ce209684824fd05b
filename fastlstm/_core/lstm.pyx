"""The LSTM over time: checks and buffers, and which pass runs.

A pass is C and nogil: csrc/layers/lstm.h on packed weights where the instruction set has products
of its own, lstm_blas on the others.
"""


cimport cython
from libc.string cimport memcpy, memset

import numpy as np

from fastlstm._core cimport lstm_blas
from fastlstm._core.arrays cimport Located, data_of, locate, located
from fastlstm._core.kernels cimport (
    GATES, activation_index, lstm_functions_of, packing_kernels, packing_of, select_gates_f32,
    select_gates_f64, table_f32, table_f64,
)
from fastlstm._core.memory cimport Memory
from fastlstm._core.passes cimport (
    lstm_backward, lstm_forward, lstm_functions, lstm_pass, packing_functions,
)
from fastlstm._core.watch cimport (
    WORK_OF_A_STEP, WORK_OF_A_UNIT, begin_watch, can_be_stopped, end_watch, pass_watch,
)
from fastlstm._core import arguments
from fastlstm._core.kernels import isa_name

cdef extern from "base/blocks.h" nogil:
    size_t in_lines(size_t size)

cdef object empty = np.empty
cdef object FLOAT32 = arguments.FLOAT32, FLOAT64 = arguments.FLOAT64


def _resized(who):
    return ValueError(f"{who}: the arrays of an earlier call have been resized since; start anew.")


cdef object state_array(object state, Py_ssize_t batch, Py_ssize_t units, bint is_double,
                        str what, void **data):
    """A fresh (B, H) array of the values of `state`, or of zeros for None, and its data."""
    cdef Located found
    cdef size_t size = batch * units * (sizeof(double) if is_double else sizeof(float))
    fresh = empty((batch, units), FLOAT64 if is_double else FLOAT32)
    data[0] = data_of(fresh)
    if state is None:
        memset(data[0], 0, size)
        return fresh
    state = located(state, is_double, 2, &found, what, "(B, H)")
    if found.shape[0] != batch or found.shape[1] != units:
        raise ValueError(f"{what} must have shape (B, H) = {(batch, units)}, got {state.shape}.")
    memcpy(data[0], found.data, size)
    return fresh


# ---- what stays from call to call ----------------------------------------------------------------

# Packing takes about as long as so many rows (B * T) take to compute.
cdef enum:
    ROWS_WORTH_PACKING = 8


cdef class Panels:
    def __cinit__(self, Py_ssize_t kernel, Py_ssize_t recurrent_kernel, Py_ssize_t bias,
                  bint is_double):
        cdef size_t element = sizeof(double) if is_double else sizeof(float)
        self.memory = Memory((kernel + recurrent_kernel + bias) * element)
        self.kernel = self.memory.data
        self.recurrent_kernel = <char *>self.kernel + kernel * element
        self.bias = <char *>self.recurrent_kernel + recurrent_kernel * element if bias else NULL


cdef class LSTMPlan:
    """The weights of an LSTM with its activations and direction, checked once; the weights are
    packed when a pass first needs them, so their contents must not change.

    Parameters are those of `fastlstm.functional.lstm_forward`.
    """

    def __cinit__(self, kernel, recurrent_kernel, bias, str activation not None,
                  str recurrent_activation not None, bint go_backwards,
                  bint zero_output_for_mask):
        cdef Located found
        self.activation = activation_index(activation, "lstm_forward: `activation`", True)
        self.recurrent_activation = activation_index(
            recurrent_activation, "lstm_forward: `recurrent_activation`", True)
        self.go_backwards = go_backwards
        self.zero_output_for_mask = zero_output_for_mask
        self.kernel = kernel
        if not locate(kernel, False, 2, &found):
            self.is_double = arguments.real_dtype_of(kernel, "lstm_forward: `kernel`") == FLOAT64
            self.kernel = located(kernel, self.is_double, 2, &found, "lstm_forward: `kernel`",
                                  "(F, 4*H)")
        self.dtype = FLOAT64 if self.is_double else FLOAT32
        cdef Py_ssize_t width = found.shape[1]
        self.features, self.units = found.shape[0], width // 4
        if width == 0 or width % 4 or self.features == 0:
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
        if bias is not None:
            self.bias = located(bias, self.is_double, 1, &found, "lstm_forward: `bias`", "(4*H,)")
            if found.shape[0] != width:
                raise ValueError(
                    f"lstm_forward: `bias` must have shape (4*H,) = {(width,)}, "
                    f"got {self.bias.shape}."
                )

    cdef int run(self, const void *x, void *h, void *c, void *y, Py_ssize_t batch,
                 Py_ssize_t steps) except -1:
        cdef lstm_forward f
        if batch < 0 or steps < 0:
            raise ValueError(f"LSTMPlan.run: there cannot be {batch} rows of {steps} steps.")
        memset(&f, 0, sizeof(f))
        f.base = prepared(self, batch, steps)
        f.base.x, f.h, f.c, f.y = x, h, c, y
        if batch > 0 and steps > 0:
            _run_forward_or_restore(self, &f)
        return 0


cdef lstm_pass prepared(LSTMPlan plan, Py_ssize_t batch, Py_ssize_t steps):
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
    """About how many multiplications take as long as a pass."""
    cdef double row = 4.0 * (p.features + p.units) + WORK_OF_A_UNIT
    return p.steps * (WORK_OF_A_STEP + <double>p.batch * p.units * row)


cdef int plain_weights(LSTMPlan plan, const void **plain) except -1:
    """Where kernel, recurrent kernel and bias or NULL are, as they were given.

    Refuses what was resized in place since, as `ndarray.resize` can.
    """
    cdef Located kernel, recurrent_kernel, bias
    cdef Py_ssize_t width = 4 * plan.units
    cdef bint fits = (
        locate(plan.kernel, plan.is_double, 2, &kernel)
        and kernel.shape[0] == plan.features and kernel.shape[1] == width
        and locate(plan.recurrent_kernel, plan.is_double, 2, &recurrent_kernel)
        and recurrent_kernel.shape[0] == plan.units and recurrent_kernel.shape[1] == width
    )
    bias.data = NULL
    if fits and plan.bias is not None:
        fits = locate(plan.bias, plan.is_double, 1, &bias) and bias.shape[0] == width
    if not fits:
        raise _resized("lstm")
    plain[0], plain[1], plain[2] = kernel.data, recurrent_kernel.data, bias.data
    return 0


# A plan may run in several threads at once, which pack for each other: where there is no GIL, its
# own lock guards what changes in it.

cdef Panels panels_for(LSTMPlan plan, const void *kernels):
    """The weights packed for a forward pass."""
    cdef Panels panels
    with cython.critical_section(plan):
        if plan.panels is None or plan.panels.kernels != kernels:
            plan.panels = _packed_panels(plan, kernels)
        panels = plan.panels
    return panels


cdef Panels _packed_panels(LSTMPlan plan, const void *kernels):
    cdef const packing_functions *packing = packing_of(plan.is_double)
    cdef Panels panels
    cdef Py_ssize_t kernel, recurrent, bias
    cdef const void *plain[3]
    plain_weights(plan, plain)
    kernel = packing.size(kernels, plan.features, GATES * plan.units)
    recurrent = packing.size(kernels, plan.units, GATES * plan.units)
    bias = 0 if plan.bias is None else packing.size(kernels, 1, GATES * plan.units)
    panels = Panels(kernel, recurrent, bias, plan.is_double)
    panels.kernels = kernels
    with nogil:
        packing.groups(kernels, plan.features, GATES, plan.units, plain[0], panels.kernel)
        packing.groups(kernels, plan.units, GATES, plan.units, plain[1],
                       panels.recurrent_kernel)
        if plain[2] != NULL:
            packing.groups(kernels, 1, GATES, plan.units, plain[2], panels.bias)
    return panels


cdef Panels columns_for(LSTMPlan plan, const void *kernels, const void **plain, bint wants_dx):
    """The transposed weights packed for a backward pass; `kernel` only if dx is wanted.

    `plain` is what `plain_weights` found.
    """
    cdef Panels columns
    with cython.critical_section(plan):
        columns = plan.columns
        if columns is None or columns.kernels != kernels or wants_dx and not columns.has_kernel:
            plan.columns = columns = _packed_columns(plan, kernels, plain, wants_dx)
    return columns


cdef Panels _packed_columns(LSTMPlan plan, const void *kernels, const void **plain,
                            bint wants_dx):
    cdef const packing_functions *packing = packing_of(plan.is_double)
    cdef Panels columns
    cdef Py_ssize_t depth = 4 * plan.units, kernel_size = 0
    if wants_dx:
        kernel_size = packing.size(kernels, depth, plan.features)
    columns = Panels(kernel_size, packing.size(kernels, depth, plan.units), 0,
                     plan.is_double)
    columns.kernels, columns.has_kernel = kernels, wants_dx
    with nogil:
        if wants_dx:
            packing.transposed(kernels, depth, plan.features, plain[0], columns.kernel)
        packing.transposed(kernels, depth, plan.units, plain[1], columns.recurrent_kernel)
    return columns


cdef bint _wants_packing(LSTMPlan plan, double rows):
    """Whether the rows of a pass and of those before it are worth packed weights."""
    cdef bint wanted
    with cython.critical_section(plan):
        plan.rows_run += rows
        wanted = plan.rows_run >= ROWS_WORTH_PACKING or plan.panels is not None
    return wanted


cdef str gates_name(LSTMPlan plan):
    if plan.is_double:
        return select_gates_f64(
            table_f64(), plan.activation, plan.recurrent_activation).name.decode()
    return select_gates_f32(
        table_f32(), plan.activation, plan.recurrent_activation).name.decode()


cdef class LSTMCache:
    """What `backward` needs of one `forward`. Holds references to the caller's arrays.

    `path` names the kernels that ran: the instruction set; whether the products read weights that
    are ``packed``, ``plain`` ones, or are those of ``BLAS``; the gates, for ``tanh``, ``relu`` or
    any (``general``). It is empty where there was nothing to run.
    """

    cdef readonly LSTMPlan plan
    cdef readonly object x
    cdef Py_ssize_t batch, steps    # as they were
    cdef Memory memory              # holds these:
    cdef void *h0                   # (B, H)
    cdef void *c0                   # (B, H)
    cdef void *gates                # (B, T, 4H) as the gate kernels left them, in the order of x
    cdef void *c                    # (B, T, H) states after each step, in step order
    cdef void *h                    # the same; NULL where they are the outputs
    cdef readonly object y
    cdef object valid               # (B, T) uint8 in step order, or None: steps that count
    cdef object shown               # (B, T) uint8 in step order, or None: outputs that are states
    cdef readonly str path
    # What the gates hold depends on the kernels that computed them.
    cdef const void *kernels


# ---- forward -------------------------------------------------------------------------------------

def forward(LSTMPlan plan not None, x, h0=None, c0=None, mask=None, bint training=False,
            bint sequences=True):
    """Run a plan: y (B, T, H), h, c (B, H) and the cache, None unless `training`.

    y is None unless `sequences` or `training`. See `fastlstm.functional.lstm_forward`.
    """
    cdef LSTMCache cache = None
    cdef lstm_forward f
    cdef Py_ssize_t batch, steps
    x, y, h, c = _begin_forward(plan, &f, x, h0, c0, sequences or training)
    batch, steps = f.base.batch, f.base.steps
    valid = shown = None
    if mask is not None:
        valid = arguments.mask_in_step_order(
            mask, (batch, steps), plan.go_backwards, "lstm_forward: `mask`")
        shown = (valid if plan.zero_output_for_mask
                 else np.maximum.accumulate(valid, axis=1) if steps else valid)
        f.base.valid = <const unsigned char *>data_of(valid)
        f.base.shown = <const unsigned char *>data_of(shown)
    if training:
        cache = LSTMCache.__new__(LSTMCache)
        cache.plan, cache.x, cache.valid, cache.shown, cache.y = plan, x, valid, shown, y
        _keep_for_backward(cache, &f)
    if batch > 0 and steps > 0:
        products = _run_forward(plan, &f)
        if training:
            cache.path = f"{isa_name()} {products} {gates_name(plan)}"
    return y, h, c, cache


def forward_pair(LSTMPlan first not None, LSTMPlan second not None, x, bint sequences=True):
    """y, h, c of two plans on one x, as by two calls of `forward`: side by side if that wins."""
    cdef const lstm_functions *functions = lstm_functions_of(first.is_double)
    cdef lstm_forward f, g
    cdef lstm_forward *both[2]
    cdef pass_watch memory
    x, y, h, c = _begin_forward(first, &f, x, None, None, sequences)
    _, y2, h2, c2 = _begin_forward(second, &g, x, None, None, sequences)
    if f.base.batch > 0 and f.base.steps > 0:
        if (
            f.base.kernels != NULL
            and first.is_double == second.is_double
            and functions.prefers_company(&f.base)
            and functions.prefers_company(&g.base)
        ):
            _kept = _use_panels(first, &f, 1), _use_panels(second, &g, 1)
            both[0], both[1] = &f, &g
            f.base.watch = begin_watch(&memory, work_of(&f.base) + work_of(&g.base))
            g.base.watch = f.base.watch
            with nogil:
                functions.run_forward_pair(both)
            end_watch(f.base.watch)
        else:
            _run_forward(first, &f)
            _run_forward(second, &g)
    return (y, h, c), (y2, h2, c2)


cdef tuple _begin_forward(LSTMPlan plan, lstm_forward *f, x, h0, c0, bint wants_y):
    """Begin to fill `f` in: returns x as an array of the right type, fresh y or None, h, c."""
    cdef Located found
    x = located(x, plan.is_double, 3, &found, "lstm_forward: `x`", "(B, T, F)")
    cdef Py_ssize_t batch = found.shape[0], steps = found.shape[1]
    if found.shape[2] != plan.features:
        raise ValueError(
            f"lstm_forward: `x` must have shape (B, T, F) with F = {plan.features} as in "
            f"`kernel`, got {x.shape}."
        )
    memset(f, 0, sizeof(lstm_forward))
    f.base = prepared(plan, batch, steps)
    f.base.x = found.data
    h = state_array(h0, batch, plan.units, plan.is_double, "lstm_forward: `h0`", &f.h)
    c = state_array(c0, batch, plan.units, plan.is_double, "lstm_forward: `c0`", &f.c)
    y = None
    if wants_y:
        y = empty((batch, steps, plan.units), plan.dtype)
        f.y = data_of(y)
    return x, y, h, c


cdef _keep_for_backward(LSTMCache cache, lstm_forward *f):
    """Memory for what the pass must leave behind."""
    cdef size_t size = f.base.batch * f.base.units * (
        sizeof(double) if cache.plan.is_double else sizeof(float))
    # Each part begins in a cache line of its own.
    cdef size_t of_states = in_lines(size), of_sequence = in_lines(size * f.base.steps)
    cdef size_t of_gates = in_lines(4 * size * f.base.steps)
    # With a mask the outputs are not the states.
    cdef bint keeps_h = cache.valid is not None
    cache.batch, cache.steps = f.base.batch, f.base.steps
    cache.kernels, cache.path = f.base.kernels, ""
    cache.memory = Memory(2 * of_states + of_gates + (1 + keeps_h) * of_sequence)
    cache.h0 = cache.memory.data
    cache.c0 = <char *>cache.h0 + of_states
    cache.gates = <char *>cache.c0 + of_states
    cache.c = <char *>cache.gates + of_gates
    cache.h = <char *>cache.c + of_sequence if keeps_h else NULL
    # The states belong to the caller, who may well reuse their memory for the next call.
    memcpy(cache.h0, f.h, size)
    memcpy(cache.c0, f.c, size)
    f.gates, f.saved_c, f.saved_h = cache.gates, cache.c, cache.h


cdef tuple _use_panels(LSTMPlan plan, lstm_forward *f, int workers):
    """Have `f` run on packed weights; as many workers as suit it if 0.

    Returns what `f` then refers to, to be kept while it runs.
    """
    cdef const lstm_functions *functions = lstm_functions_of(plan.is_double)
    cdef Panels panels = panels_for(plan, f.base.kernels)
    cdef Memory workspace
    f.kernel, f.recurrent_kernel, f.bias = panels.kernel, panels.recurrent_kernel, panels.bias
    f.base.workers = workers or functions.forward_workers(&f.base)
    workspace = Memory(functions.forward_workspace_bytes(f))
    f.base.workspace = workspace.data
    return panels, workspace


cdef int _run_forward_or_restore(LSTMPlan plan, lstm_forward *f) except -1:
    """Run `f` on states of a caller's, which are as they were if it is stopped."""
    cdef size_t size = f.base.batch * f.base.units * (
        sizeof(double) if plan.is_double else sizeof(float))
    cdef Memory before
    if not can_be_stopped(work_of(&f.base)):
        _run_forward(plan, f)
        return 0
    before = Memory(2 * size)
    memcpy(before.data, f.h, size)
    memcpy(<char *>before.data + size, f.c, size)
    try:
        _run_forward(plan, f)
    except BaseException:
        memcpy(f.h, before.data, size)
        memcpy(f.c, <char *>before.data + size, size)
        raise
    return 0


cdef str _run_forward(LSTMPlan plan, lstm_forward *f):
    """Run `f`; returns what the products read, as `LSTMCache.path` names it.

    Raises what a signal's handler raises in the meantime.
    """
    cdef const lstm_functions *functions = lstm_functions_of(plan.is_double)
    cdef bint is_double = plan.is_double, blas = f.base.kernels == NULL
    cdef Memory workspace
    cdef const void *plain[3]
    cdef pass_watch memory
    f.base.watch = begin_watch(&memory, work_of(&f.base))
    if not blas and _wants_packing(plan, <double>f.base.batch * f.base.steps):
        _kept = _use_panels(plan, f, 0)
        with nogil:
            functions.run_forward(f)
        end_watch(f.base.watch)
        return "packed"
    plain_weights(plan, plain)
    f.kernel, f.recurrent_kernel, f.bias = plain[0], plain[1], plain[2]
    if blas:
        arguments.check_strides(f.base.batch, f.base.steps,
                                max(plan.features, 4 * plan.units), "lstm_forward")
        f.base.kernels = <const void *>table_f64() if is_double else <const void *>table_f32()
        workspace = Memory(lstm_blas.forward_workspace_bytes(f, is_double))
    else:
        workspace = Memory(4 * plan.units * sizeof(double))
    f.base.workspace = workspace.data
    with nogil:
        if blas:
            lstm_blas.run_forward(f, is_double)
        else:
            functions.run_forward_plain(f)
    end_watch(f.base.watch)
    return "BLAS" if blas else "plain"


# ---- backward ------------------------------------------------------------------------------------

cdef bint _has_shape(object sequence, LSTMCache cache, Py_ssize_t width, Located *found) except -1:
    """Whether it still is (B, T, width), as when `cache` was made, and where it is."""
    return (
        locate(sequence, cache.plan.is_double, 3, found)
        and found.shape[0] == cache.batch
        and found.shape[1] == cache.steps
        and found.shape[2] == width
    )


cdef int _use_cache(LSTMCache cache, lstm_backward *g) except -1:
    """Have `g` read what the forward pass left, and what it got.

    Refuses arrays that were resized in place since, as `ndarray.resize` can.
    """
    cdef LSTMPlan plan = cache.plan
    cdef Located x, y
    cdef bint fits = (
        _has_shape(cache.x, cache, plan.features, &x)
        and _has_shape(cache.y, cache, plan.units, &y)
    )
    if not fits:
        raise _resized("lstm_backward")
    memset(g, 0, sizeof(lstm_backward))
    g.base = prepared(plan, cache.batch, cache.steps)
    g.base.kernels = cache.kernels
    g.base.x = x.data
    g.base.valid = <const unsigned char *>data_of(cache.valid)
    g.base.shown = <const unsigned char *>data_of(cache.shown)
    g.gates, g.saved_c = cache.gates, cache.c
    g.saved_h = y.data if cache.h == NULL else cache.h
    g.h0, g.c0 = cache.h0, cache.c0
    return 0


def backward(LSTMCache cache not None, dy=None, dh=None, dc=None, bint wants_dx=True):
    """See `fastlstm.functional.lstm_backward`; dx is None unless `wants_dx`."""
    cdef LSTMPlan plan = cache.plan
    cdef Located found
    cdef lstm_backward g
    if plan is None or cache.memory is None:
        raise ValueError(
            "lstm_backward: `cache` must come from lstm_forward(..., training=True)."
        )
    _use_cache(cache, &g)
    cdef Py_ssize_t batch = g.base.batch, steps = g.base.steps, width = 4 * plan.units
    if dy is not None:
        dy = located(dy, plan.is_double, 3, &found, "lstm_backward: `dy`", "(B, T, H)")
        if (found.shape[0], found.shape[1], found.shape[2]) != (batch, steps, plan.units):
            raise ValueError(
                f"lstm_backward: `dy` must have shape (B, T, H) = {(batch, steps, plan.units)}, "
                f"got {dy.shape}."
            )
        g.dy = found.data
    dh = state_array(dh, batch, plan.units, plan.is_double, "lstm_backward: `dh`", &g.dh)
    dc = state_array(dc, batch, plan.units, plan.is_double, "lstm_backward: `dc`", &g.dc)
    dx = None
    if wants_dx:
        # Steps that do not count are passed over.
        make = empty if cache.valid is None else np.zeros
        dx = make((batch, steps, plan.features), plan.dtype)
    dkernel = empty((plan.features, width), plan.dtype)
    drecurrent_kernel = empty((plan.units, width), plan.dtype)
    dbias = empty(width, plan.dtype)
    g.dx = data_of(dx)
    g.dkernel, g.drecurrent_kernel = data_of(dkernel), data_of(drecurrent_kernel)
    g.dbias = data_of(dbias)
    if batch > 0 and steps > 0:
        _run_backward(plan, &g)
    else:
        for gradient in (dkernel, drecurrent_kernel, dbias):
            gradient.fill(0)
    return dx, dkernel, drecurrent_kernel, None if plan.bias is None else dbias, dh, dc


cdef _run_backward(LSTMPlan plan, lstm_backward *g):
    cdef const lstm_functions *functions = lstm_functions_of(plan.is_double)
    cdef bint is_double = plan.is_double, packed = g.base.kernels != NULL
    cdef Panels columns
    cdef Memory workspace
    cdef const void *plain[3]
    cdef pass_watch memory
    g.base.watch = begin_watch(&memory, 3 * work_of(&g.base))
    plain_weights(plan, plain)
    if packed:
        columns = columns_for(plan, g.base.kernels, plain, g.dx != NULL)
        g.kernel, g.recurrent_kernel = columns.kernel, columns.recurrent_kernel
        g.base.workers = functions.backward_workers(&g.base)
        workspace = Memory(functions.backward_workspace_bytes(g))
    else:
        g.base.kernels = <const void *>table_f64() if is_double else <const void *>table_f32()
        g.kernel, g.recurrent_kernel = plain[0], plain[1]
        workspace = Memory(lstm_blas.backward_workspace_bytes(g, is_double))
    g.base.workspace = workspace.data
    with nogil:
        if packed:
            functions.run_backward(g)
        else:
            lstm_blas.run_backward(g, is_double)
    end_watch(g.base.watch)
