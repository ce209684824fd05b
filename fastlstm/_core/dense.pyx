"""The dense layer over the last axis: checks of what comes in, and arrays for what goes out."""

from libc.string cimport memset

import numpy as np

from fastlstm._core.activations cimport has_gradient_from_output
from fastlstm._core.arrays cimport Located, data_of, locate, located
from fastlstm._core.dense_passes cimport prepared, run_backward, run_forward
from fastlstm._core.dense_plan cimport DensePlan
from fastlstm._core.engine cimport engine_word
from fastlstm._core.kernels cimport ACTIVATION_LINEAR, ENGINE_OF_CHOICE, Engine
from fastlstm._core.passes cimport dense_backward, dense_forward
from fastlstm._core import arguments

cdef object empty = np.empty

cdef class DenseCache:
    """What `backward` needs of one `forward`. Holds references to the caller's `x` and to `y`.

    `path` names the engine that ran: ``packed``, ``unpacked`` or ``blas``. It is empty where there
    was nothing to run.
    """

    cdef readonly DensePlan plan
    cdef readonly object x, z, y
    cdef readonly str path
    cdef Py_ssize_t rows
    cdef const void *kernels
    cdef Engine engine


# ---- forward -------------------------------------------------------------------------------------


cdef Py_ssize_t rows_of(const Located *at):
    """The product of all axes but the last."""
    cdef Py_ssize_t rows = 1
    cdef int axis
    for axis in range(at.rank - 1):
        rows *= at.shape[axis]
    return rows


def forward(DensePlan plan not None, x, bint training=False):
    """Run a plan: y (..., U) and the cache, None unless `training`.

    See `fastlstm.functional.dense_forward`.
    """
    cdef DenseCache cache
    cdef dense_forward f
    cdef Located at
    cdef Py_ssize_t rows
    cdef Engine engine
    if not locate(x, plan.is_double, -1, &at):
        x = np.array(arguments.as_real_array(x, plan.dtype, "dense_forward: `x`"), order="C")
        locate(x, plan.is_double, -1, &at)
    if at.rank == 0 or at.shape[at.rank - 1] != plan.features:
        raise ValueError(
            f"dense_forward: `x` must have shape (..., F) with F = {plan.features} as in "
            f"`kernel`, got {x.shape}."
        )
    rows = rows_of(&at)
    memset(&f, 0, sizeof(f))
    f.base = prepared(plan, rows)
    f.base.x = at.data
    y = empty((*x.shape[:at.rank - 1], plan.units), plan.dtype)
    z = None
    f.z = f.y = data_of(y)
    if training and not has_gradient_from_output(plan.activation):
        z = empty((rows, plan.units), plan.dtype)
        f.z = data_of(z)
    engine = run_forward(plan, &f) if rows > 0 else ENGINE_OF_CHOICE
    if not training:
        return y, None
    cache = DenseCache.__new__(DenseCache)
    cache.plan, cache.x, cache.z, cache.y, cache.rows = plan, x, z, y, rows
    cache.path = engine_word(engine) if rows > 0 else ""
    cache.engine, cache.kernels = engine, f.base.kernels
    return y, cache


# ---- backward ------------------------------------------------------------------------------------

cdef object _use_cache(DenseCache cache, dense_backward *g, object dy):
    """Have `g` read what the forward pass left, and `dy`; returns `dy` as an array that fits.

    Refuses arrays that were resized in place since, as `ndarray.resize` can.
    """
    cdef DensePlan plan = cache.plan
    cdef Located x, y, z, found
    cdef int axis
    cdef bint fits = (
        locate(cache.x, plan.is_double, -1, &x) and x.shape[x.rank - 1] == plan.features
        and rows_of(&x) == cache.rows
        and locate(cache.y, plan.is_double, -1, &y) and y.shape[y.rank - 1] == plan.units
        and rows_of(&y) == cache.rows
    )
    z.data = NULL
    if fits and cache.z is not None:
        fits = (locate(cache.z, plan.is_double, 2, &z) and z.shape[0] == cache.rows
                and z.shape[1] == plan.units)
    if not fits:
        raise arguments.resized("dense_backward")
    dy = located(dy, plan.is_double, x.rank, &found, "dense_backward: `dy`", "(..., U)")
    fits = found.shape[x.rank - 1] == plan.units
    for axis in range(x.rank - 1):
        fits = fits and found.shape[axis] == x.shape[axis]
    if not fits:
        shape = (*cache.x.shape[:x.rank - 1], plan.units)
        raise ValueError(
            f"dense_backward: `dy` must have shape (..., U) = {shape}, got {dy.shape}.")
    memset(g, 0, sizeof(dense_backward))
    g.base = prepared(plan, cache.rows)
    g.base.kernels = cache.kernels
    g.base.x, g.y, g.z, g.dy = x.data, y.data, z.data, found.data
    return dy


def backward(DenseCache cache not None, dy, bint wants_dx=True, bint is_dz=False):
    """See `fastlstm.functional.dense_backward`; dx is None unless `wants_dx`.

    With `is_dz`, `dy` is the gradient of the pre-activations already.
    """
    cdef DensePlan plan = cache.plan
    cdef dense_backward g
    if plan is None or cache.x is None:
        raise ValueError(
            "dense_backward: `cache` must come from dense_forward(..., training=True)."
        )
    dy = _use_cache(cache, &g, dy)
    if is_dz:
        g.base.activation = ACTIVATION_LINEAR
    dx = empty(cache.x.shape, plan.dtype) if wants_dx else None
    dkernel, dbias = empty((plan.features, plan.units), plan.dtype), empty(plan.units, plan.dtype)
    g.dx, g.dkernel, g.dbias = data_of(dx), data_of(dkernel), data_of(dbias)
    if cache.rows > 0:
        run_backward(plan, &g, cache.engine)
    else:
        dkernel.fill(0)
        dbias.fill(0)
    return dx, dkernel, dbias if plan.bias is not None else None
