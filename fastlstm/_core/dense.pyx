"""The dense layer over the last axis: checks and buffers, and which pass runs.

A pass is C and nogil: csrc/layers/dense.h on packed weights where the instruction set has products
of its own, dense_blas on the others.
"""

cimport cython
from libc.string cimport memset

import numpy as np

from fastlstm._core cimport dense_blas
from fastlstm._core.arrays cimport Located, data_of, locate, located
from fastlstm._core.kernels cimport (
    ACTIVATION_LINEAR, activation_index, dense_functions_of, has_gradient_from_output,
    packing_kernels, packing_of, table_f32, table_f64,
)
from fastlstm._core.memory cimport Memory
from fastlstm._core.passes cimport (
    dense_backward, dense_forward, dense_functions, dense_pass, packing_functions,
)
from fastlstm._core.watch cimport WORK_OF_A_UNIT, begin_watch, end_watch, pass_watch
from fastlstm._core import arguments

cdef object empty = np.empty
cdef object FLOAT32 = arguments.FLOAT32, FLOAT64 = arguments.FLOAT64

# ---- what stays from call to call ----------------------------------------------------------------

cdef class PackedKernel:
    """A kernel laid out for the kernels of one instruction set."""

    cdef Memory memory
    cdef const void *kernels

    def __cinit__(self, Py_ssize_t size, bint is_double):
        self.memory = Memory(size * (sizeof(double) if is_double else sizeof(float)))


cdef class DensePlan:
    """The weights of a dense layer with its activation, checked once; the kernel is packed when a
    pass first needs it, so its contents must not change.

    Parameters are those of `fastlstm.functional.dense_forward`.
    """

    cdef readonly object kernel, bias, dtype
    cdef readonly Py_ssize_t features, units
    cdef bint is_double
    cdef int activation
    cdef PackedKernel packed, transposed
    cdef double rows_run

    def __cinit__(self, kernel, bias, str activation not None):
        cdef Located found
        self.activation = activation_index(activation, "dense_forward: `activation`", False)
        self.kernel = kernel
        if not locate(kernel, False, 2, &found):
            self.is_double = arguments.real_dtype_of(kernel, "dense_forward: `kernel`") == FLOAT64
            self.kernel = located(kernel, self.is_double, 2, &found, "dense_forward: `kernel`",
                                  "(F, U)")
        self.dtype = FLOAT64 if self.is_double else FLOAT32
        self.features, self.units = found.shape[0], found.shape[1]
        if self.features == 0 or self.units == 0:
            raise ValueError(
                f"dense_forward: `kernel` must have shape (F, U) with F and U at least 1, "
                f"got {self.kernel.shape}."
            )
        if bias is not None:
            self.bias = located(bias, self.is_double, 1, &found, "dense_forward: `bias`", "(U,)")
            if found.shape[0] != self.units:
                raise ValueError(
                    f"dense_forward: `bias` must have shape (U,) = {(self.units,)}, "
                    f"got {self.bias.shape}."
                )


cdef int plain_weights(DensePlan plan, const void **plain) except -1:
    """Where the kernel and the bias or NULL are; refuses what was resized in place since."""
    cdef Located kernel, bias
    cdef bint fits = (
        locate(plan.kernel, plan.is_double, 2, &kernel)
        and kernel.shape[0] == plan.features and kernel.shape[1] == plan.units
    )
    bias.data = NULL
    if fits and plan.bias is not None:
        fits = locate(plan.bias, plan.is_double, 1, &bias) and bias.shape[0] == plan.units
    if not fits:
        raise _resized("dense")
    plain[0], plain[1] = kernel.data, bias.data
    return 0


def _resized(who):
    return ValueError(f"{who}: the arrays of an earlier call have been resized since; start anew.")


# A plan may run in several threads at once, which pack for each other: where there is no GIL, its
# own lock guards what changes in it.

cdef PackedKernel packed_for(DensePlan plan, const void *kernels, const void *kernel):
    """The kernel packed for a forward pass."""
    cdef const dense_functions *functions = dense_functions_of(plan.is_double)
    cdef PackedKernel packed
    with cython.critical_section(plan):
        packed = plan.packed
        if packed is None or packed.kernels != kernels:
            packed = PackedKernel(
                functions.packed_size(kernels, plan.features, plan.units), plan.is_double)
            packed.kernels = kernels
            with nogil:
                functions.pack(kernels, plan.features, plan.units, kernel, packed.memory.data)
            plan.packed = packed
    return packed


cdef PackedKernel transposed_for(DensePlan plan, const void *kernels, const void *kernel):
    """The transposed kernel packed for a backward pass."""
    cdef const packing_functions *packing = packing_of(plan.is_double)
    cdef PackedKernel packed
    with cython.critical_section(plan):
        packed = plan.transposed
        if packed is None or packed.kernels != kernels:
            packed = PackedKernel(packing.size(kernels, plan.units, plan.features), plan.is_double)
            packed.kernels = kernels
            with nogil:
                packing.transposed(kernels, plan.units, plan.features, kernel, packed.memory.data)
            plan.transposed = packed
    return packed


cdef bint _wants_packing(DensePlan plan, Py_ssize_t rows):
    """Whether the rows of a pass and of those before it are worth a packed kernel."""
    cdef const dense_functions *functions = dense_functions_of(plan.is_double)
    cdef bint wanted
    with cython.critical_section(plan):
        plan.rows_run += rows
        wanted = plan.packed is not None or functions.wants_packed(
            plan.units, plan.rows_run)
    return wanted


cdef class DenseCache:
    """What `backward` needs of one `forward`. Holds references to the caller's `x` and to `y`.

    `path` names what the products read: a kernel that is ``packed``, the ``plain`` one, or that
    one through ``BLAS``. It is empty where there was nothing to run.
    """

    cdef readonly DensePlan plan
    cdef readonly object x, z, y
    cdef readonly str path
    cdef Py_ssize_t rows
    cdef const void *kernels


# ---- forward -------------------------------------------------------------------------------------

cdef dense_pass prepared(DensePlan plan, Py_ssize_t rows):
    """A pass with the fields that a plan knows."""
    cdef dense_pass base
    memset(&base, 0, sizeof(base))
    base.kernels = packing_kernels(plan.is_double)
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
    path = _run_forward(plan, &f) if rows > 0 else ""
    if not training:
        return y, None
    cache = DenseCache.__new__(DenseCache)
    cache.plan, cache.x, cache.z, cache.y, cache.rows = plan, x, z, y, rows
    cache.path, cache.kernels = path, packing_kernels(plan.is_double)
    return y, cache


cdef str _run_forward(DensePlan plan, dense_forward *f):
    """Run `f`; returns what the products read, as `DenseCache.path` names it."""
    cdef const dense_functions *functions = dense_functions_of(plan.is_double)
    cdef bint is_double = plan.is_double
    cdef bint blas = f.base.kernels == NULL, pack
    cdef PackedKernel packed
    cdef pass_watch memory
    cdef const void *plain[2]
    plain_weights(plan, plain)
    f.kernel, f.bias = plain[0], plain[1]
    pack = not blas and _wants_packing(plan, f.base.rows)
    if blas:
        f.base.kernels = <const void *>table_f64() if is_double else <const void *>table_f32()
    elif pack:
        packed = packed_for(plan, f.base.kernels, plain[0])
        f.kernel = packed.memory.data
        f.base.workers = functions.workers(&f.base, 1)
    f.base.watch = begin_watch(&memory, work_of(&f.base))
    with nogil:
        if blas:
            dense_blas.run_forward(f, is_double)
        elif pack:
            functions.run_forward(f)
        else:
            functions.run_forward_plain(f)
    end_watch(f.base.watch)
    return "BLAS" if blas else "packed" if pack else "plain"


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
        raise _resized("dense_backward")
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
        _run_backward(plan, &g)
    else:
        dkernel.fill(0)
        dbias.fill(0)
    return dx, dkernel, dbias if plan.bias is not None else None


cdef _run_backward(DensePlan plan, dense_backward *g):
    cdef const dense_functions *functions = dense_functions_of(plan.is_double)
    cdef bint is_double = plan.is_double, packed = g.base.kernels != NULL
    cdef PackedKernel transposed
    cdef Memory workspace
    cdef pass_watch memory
    cdef const void *plain[2]
    plain_weights(plan, plain)
    g.kernel = plain[0]
    if packed:
        if g.dx != NULL and functions.wants_transposed(&g.base):
            transposed = transposed_for(plan, g.base.kernels, plain[0])
            g.kernel = transposed.memory.data
        g.base.workers = functions.workers(&g.base, 3)
        workspace = Memory(functions.backward_workspace_bytes(g))
    else:
        workspace = Memory(dense_blas.backward_workspace_bytes(g, is_double))
    g.base.workspace = workspace.data
    g.base.watch = begin_watch(&memory, 2 * work_of(&g.base))
    with nogil:
        if packed:
            functions.run_backward(g)
        else:
            dense_blas.run_backward(g, is_double)
    end_watch(g.base.watch)
