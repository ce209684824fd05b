"""The dense layer over the last axis: checks and buffers, and which pass runs.

A pass is nogil: C on a packed or on the plain kernel (csrc/layers/dense.h), or dense_blas.
"""

from libc.string cimport memset

import numpy as np

from fastlstm._core cimport dense_blas
from fastlstm._core.activations cimport activation_index, has_gradient_from_output
from fastlstm._core.arrays cimport Located, data_of, locate, locate_matrix, located
from fastlstm._core.engine cimport backward_engine, engine_word, forward_engine
from fastlstm._core.kernels cimport (
    ACTIVATION_LINEAR, ENGINE_BLAS, ENGINE_OF_CHOICE, ENGINE_PACKED, Engine, dense_functions_of,
    packing_of, table_of,
)
from fastlstm._core.memory cimport Memory
from fastlstm._core.passes cimport (
    dense_backward, dense_forward, dense_functions, dense_pass, packing_functions,
)
from fastlstm._core.plan cimport (
    PackedWeights, Plan, locate_bias, packed_for, transposed_for, use_bias, use_kernel,
)
from fastlstm._core.watch cimport WORK_OF_A_UNIT, begin_watch, end_watch, pass_watch
from fastlstm._core import arguments

cdef object empty = np.empty

# ---- what stays from call to call ----------------------------------------------------------------

cdef class DensePlan(Plan):
    """The weights of a dense layer with its activation, checked once; the kernel is packed when a
    pass first needs it, so its contents must not change.

    Parameters are those of `fastlstm.functional.dense_forward`.
    """

    def __cinit__(self, kernel, bias, str activation not None):
        self.activation = activation_index(activation, "dense_forward: `activation`", False)
        use_kernel(self, kernel, "dense_forward: `kernel`", "(F, U)")
        if self.features == 0 or self.units == 0:
            raise ValueError(
                f"dense_forward: `kernel` must have shape (F, U) with F and U at least 1, "
                f"got {self.kernel.shape}."
            )
        use_bias(self, bias, self.units, "dense_forward: `bias`", "(U,)")

    cdef bint is_worth_packing(self) noexcept:
        return dense_functions_of(self.is_double).wants_packed(self.units, self.rows_run)

    cdef PackedWeights pack(self, const void *kernels):
        cdef const dense_functions *functions = dense_functions_of(self.is_double)
        cdef Py_ssize_t features = self.features, units = self.units
        cdef const void *plain[2]
        cdef PackedWeights packed
        plain_weights(self, plain)
        packed = PackedWeights(
            functions.packed_size(kernels, features, units), 0, 0, self.is_double)
        with nogil:
            functions.pack(kernels, features, units, plain[0], packed.kernel)
        return packed

    cdef PackedWeights pack_transposed(self, const void *kernels, bint with_kernel):
        cdef const packing_functions *packing = packing_of(self.is_double)
        cdef Py_ssize_t features = self.features, units = self.units
        cdef const void *plain[2]
        cdef PackedWeights packed
        plain_weights(self, plain)
        packed = PackedWeights(packing.size(kernels, units, features), 0, 0, self.is_double)
        with nogil:
            packing.transposed(kernels, units, features, plain[0], packed.kernel)
        return packed


cdef int plain_weights(DensePlan plan, const void **plain) except -1:
    """Where the kernel and the bias or NULL are; refuses what was resized in place since."""
    if not (
        locate_matrix(plan.kernel, plan.is_double, plan.features, plan.units, &plain[0])
        and locate_bias(plan, plan.units, &plain[1])
    ):
        raise arguments.resized("dense")
    return 0


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

cdef dense_pass prepared(DensePlan plan, Py_ssize_t rows):
    """A pass with the fields that a plan knows."""
    cdef dense_pass base
    memset(&base, 0, sizeof(base))
    base.kernels = table_of(plan.is_double)
    base.activation, base.workers = plan.activation, 1
    base.rows, base.features, base.units = rows, plan.features, plan.units
    return base


cdef double work_of(const dense_pass *base) noexcept nogil:
    """About how many multiplications take as long as a forward pass."""
    return <double>base.rows * base.units * (base.features + WORK_OF_A_UNIT)


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
    engine = _run_forward(plan, &f) if rows > 0 else ENGINE_OF_CHOICE
    if not training:
        return y, None
    cache = DenseCache.__new__(DenseCache)
    cache.plan, cache.x, cache.z, cache.y, cache.rows = plan, x, z, y, rows
    cache.path = engine_word(engine) if rows > 0 else ""
    cache.engine, cache.kernels = engine, f.base.kernels
    return y, cache


cdef Engine _run_forward(DensePlan plan, dense_forward *f) except? ENGINE_OF_CHOICE:
    """Run `f` on the engine that suits it, and return which that was."""
    cdef const dense_functions *functions = dense_functions_of(plan.is_double)
    cdef Engine engine = forward_engine(plan, f.base.rows)
    cdef bint is_double = plan.is_double
    cdef PackedWeights packed
    cdef pass_watch memory
    cdef const void *plain[2]
    plain_weights(plan, plain)
    f.kernel, f.bias = plain[0], plain[1]
    if engine == ENGINE_PACKED:
        packed = packed_for(plan, f.base.kernels)
        f.kernel = packed.kernel
        f.base.workers = functions.workers(&f.base, 1)
    elif engine == ENGINE_BLAS:
        f.base.workers = dense_blas.suitable_workers(&f.base)
    f.base.watch = begin_watch(&memory, work_of(&f.base))
    with nogil:
        if engine == ENGINE_PACKED:
            functions.run_forward(f)
        elif engine == ENGINE_BLAS:
            dense_blas.run_forward(f, is_double)
        else:
            functions.run_forward_unpacked(f)
    end_watch(f.base.watch)
    return engine


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
        _run_backward(plan, &g, cache.engine)
    else:
        dkernel.fill(0)
        dbias.fill(0)
    return dx, dkernel, dbias if plan.bias is not None else None


cdef _run_backward(DensePlan plan, dense_backward *g, Engine forward):
    cdef const dense_functions *functions = dense_functions_of(plan.is_double)
    cdef bint is_double = plan.is_double, over_blas = backward_engine(forward) == ENGINE_BLAS
    cdef PackedWeights transposed
    cdef Memory workspace
    cdef pass_watch memory
    cdef const void *plain[2]
    plain_weights(plan, plain)
    g.kernel = plain[0]
    if over_blas:
        g.base.workers = dense_blas.suitable_workers(&g.base)
        workspace = Memory(dense_blas.backward_workspace_bytes(g, is_double))
    else:
        if g.dx != NULL and functions.wants_transposed(&g.base):
            transposed = transposed_for(plan, g.base.kernels, True)
            g.kernel = transposed.kernel
        g.base.workers = functions.workers(&g.base, 3)
        workspace = Memory(functions.backward_workspace_bytes(g))
    g.base.workspace = workspace.data
    g.base.watch = begin_watch(&memory, 2 * work_of(&g.base))
    with nogil:
        if over_blas:
            dense_blas.run_backward(g, is_double)
        else:
            functions.run_backward(g)
    end_watch(g.base.watch)
