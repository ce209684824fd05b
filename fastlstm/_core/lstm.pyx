"""The LSTM over time: checks of what comes in, and arrays for what goes out."""

from libc.string cimport memcpy, memset

import numpy as np

from fastlstm._core.arrays cimport Located, data_of, located
from fastlstm._core.engine cimport engine_word
from fastlstm._core.kernels cimport (
    Engine, select_gates_f32, select_gates_f64, table_f32, table_f64,
)
from fastlstm._core.lstm_cache cimport LSTMCache, cache_for, use_cache
from fastlstm._core.lstm_passes cimport (
    prepared, run_backward, run_forward, run_forward_or_restore, run_forward_pair,
    run_forward_stack,
)
from fastlstm._core.lstm_weights cimport LSTMWeights
from fastlstm._core.passes cimport WAVEFRONT_MOST_ROWS, lstm_backward, lstm_forward
from fastlstm._core import arguments
from fastlstm._core.kernels import isa_name

cdef object empty = np.empty
cdef object FLOAT32 = arguments.FLOAT32, FLOAT64 = arguments.FLOAT64


cdef class LSTMPlan(LSTMWeights):
    """The weights of an LSTM with its activations and direction, checked once; the weights are
    packed when a pass first needs them, so their contents must not change.

    Parameters are those of `fastlstm.functional.lstm_forward`.
    """

    cdef int run(self, const void *x, void *h, void *c, void *y, Py_ssize_t batch,
                 Py_ssize_t steps) except -1:
        cdef lstm_forward f
        if batch < 0 or steps < 0:
            raise ValueError(f"LSTMPlan.run: there cannot be {batch} rows of {steps} steps.")
        memset(&f, 0, sizeof(f))
        f.base = prepared(self, batch, steps)
        f.base.x, f.h, f.c, f.y = x, h, c, y
        if batch > 0 and steps > 0:
            run_forward_or_restore(self, &f)
        return 0


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


cdef str gates_name(LSTMWeights plan):
    if plan.is_double:
        return select_gates_f64(
            table_f64(), plan.activation, plan.recurrent_activation).name.decode()
    return select_gates_f32(
        table_f32(), plan.activation, plan.recurrent_activation).name.decode()


# ---- forward -------------------------------------------------------------------------------------

def forward(LSTMPlan plan not None, x, h0=None, c0=None, mask=None, bint training=False,
            bint sequences=True):
    """Run a plan: y (B, T, H), h, c (B, H) and the cache, None unless `training`.

    y is None unless `sequences` or `training`. See `fastlstm.functional.lstm_forward`.
    """
    cdef LSTMCache cache = None
    cdef lstm_forward f
    cdef Engine engine
    x, y, h, c = _begin_forward(plan, &f, x, h0, c0, sequences or training)
    valid = shown = None
    if mask is not None:
        valid, shown = _use_mask(plan, &f, mask)
    if training:
        cache = cache_for(plan, &f, x, y, valid, shown)
    if f.base.batch > 0 and f.base.steps > 0:
        engine = run_forward(plan, &f)
        if training:
            cache.engine = engine
            cache.path = f"{isa_name()} {engine_word(engine)} {gates_name(plan)}"
    return y, h, c, cache


def forward_pair(LSTMPlan first not None, LSTMPlan second not None, x, bint sequences=True):
    """y, h, c of two plans on one x, as by two calls of `forward`: side by side if that wins."""
    cdef lstm_forward f, g
    x, y, h, c = _begin_forward(first, &f, x, None, None, sequences)
    _, y2, h2, c2 = _begin_forward(second, &g, x, None, None, sequences)
    if f.base.batch > 0 and f.base.steps > 0:
        run_forward_pair(first, &f, second, &g)
    return (y, h, c), (y2, h2, c2)


def forward_stack(list plans not None, x, mask=None):
    """y of the last of some plans, each on the outputs of the one before, and h and c of each, as
    by calls of `forward`: side by side if that wins. None but the first may go backwards."""
    cdef lstm_forward passes[WAVEFRONT_MOST_ROWS]
    cdef lstm_forward *pointers[WAVEFRONT_MOST_ROWS]
    cdef LSTMPlan plan
    cdef Py_ssize_t i, count = len(plans)
    if not 0 < count <= WAVEFRONT_MOST_ROWS:
        raise ValueError(
            f"forward_stack: there must be 1 to {WAVEFRONT_MOST_ROWS} plans, got {count}.")
    kept = []
    states = []
    for i in range(count):
        plan = plans[i]
        if i > 0 and (plan.go_backwards or plan.dtype != plans[0].dtype):
            raise ValueError(
                f"forward_stack: plan {i} must be of the real type of the first, "
                f"{plans[0].dtype}, and not go backwards.")
        pointers[i] = &passes[i]
        x, y, h, c = _begin_forward(plan, pointers[i], x, None, None, True)
        kept.append((x, None if mask is None else _use_mask(plan, pointers[i], mask)))
        states.append((h, c))
        x = y
    if passes[0].base.batch > 0 and passes[0].base.steps > 0:
        run_forward_stack(plans, pointers, count)
    return x, states


cdef tuple _use_mask(LSTMPlan plan, lstm_forward *f, mask):
    """Have `f` heed a mask (B, T); returns which steps count and which outputs are shown, in step
    order, to be kept while it runs."""
    valid = arguments.mask_in_step_order(
        mask, (f.base.batch, f.base.steps), plan.go_backwards, "lstm_forward: `mask`")
    shown = (valid if plan.zero_output_for_mask
             else np.maximum.accumulate(valid, axis=1) if f.base.steps else valid)
    f.base.valid = <const unsigned char *>data_of(valid)
    f.base.shown = <const unsigned char *>data_of(shown)
    return valid, shown


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


# ---- backward ------------------------------------------------------------------------------------

def backward(LSTMCache cache not None, dy=None, dh=None, dc=None, bint wants_dx=True):
    """See `fastlstm.functional.lstm_backward`; dx is None unless `wants_dx`."""
    cdef LSTMWeights plan = cache.plan
    cdef Located found
    cdef lstm_backward g
    if plan is None or cache.memory is None:
        raise ValueError(
            "lstm_backward: `cache` must come from lstm_forward(..., training=True)."
        )
    use_cache(cache, &g)
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
        run_backward(plan, &g, cache.engine)
    else:
        for gradient in (dkernel, drecurrent_kernel, dbias):
            gradient.fill(0)
    return dx, dkernel, drecurrent_kernel, None if plan.bias is None else dbias, dh, dc
