"""The instruction set in use, and activations over whole arrays."""

import ctypes
import os

import numpy as np

from fastlstm.errors import one_of

cdef extern from "kernels/dispatch.h" nogil:
    cdef enum isa:
        ISA_BASELINE
        ISA_AVX2
        ISA_AVX512
        ISA_NEON
    const kernels_f32 *find_kernels_f32(isa)
    const kernels_f64 *find_kernels_f64(isa)
    int cpu_amd_family()

cdef extern from "base/pool.h" nogil:
    void pool_set_size(int size)
    int pool_get_size()
    void pool_oversubscribe(int whether)
    ctypedef struct pool_runtime:
        void *parallel
        void *thread_number
        void *thread_count
        void *most_threads
    void pool_use_runtime(const pool_runtime *runtime)

cdef extern from "base/caches.h" nogil:
    ctypedef struct cache_sizes:
        Py_ssize_t first, second, third
    cache_sizes get_caches()
    void set_caches(cache_sizes sizes)

from fastlstm._core.passes cimport (
    dense_f32, dense_f64, dense_functions, lstm_functions, lstm_functions_f32, lstm_functions_f64,
    packing_f32, packing_f64, packing_functions,
)

# From the plainest to the widest: the last available one is the default.
_ISA_INDICES = {
    "baseline": ISA_BASELINE, "neon": ISA_NEON, "avx2": ISA_AVX2, "avx512": ISA_AVX512,
}
# In alphabetical order, as in enum activation_index; softmax works on rows and comes last.
_ACTIVATION_INDICES = {
    name: index
    for index, name in enumerate((
        "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "relu", "selu",
        "sigmoid", "silu", "softplus", "softsign", "tanh", "softmax",
    ))
}

cdef const kernels_f32 *chosen_f32 = NULL
cdef const kernels_f64 *chosen_f64 = NULL
_chosen_name = ""


def available_isas() -> tuple[str, ...]:
    """The instruction sets that were built and that this machine can run, the widest last."""
    return tuple(
        name for name, index in _ISA_INDICES.items() if find_kernels_f32(<isa><int>index) != NULL
    )


def isa_name() -> str:
    """The instruction set in use."""
    return _chosen_name


def amd_family() -> int:
    """The family of an AMD CPU (0x19: Zen 3 and 4, 0x1a: Zen 5), 0 for any other maker."""
    return cpu_amd_family()


def use_isa(name: str) -> None:
    """Use the kernels of one instruction set from the next call on, in the whole process.

    Raises ``ValueError`` where it is unknown or not available. For tests and comparisons;
    users set ``FASTLSTM_ISA`` before the import.
    """
    global chosen_f32, chosen_f64, _chosen_name
    known = available_isas()
    if name not in known:
        why = "this machine cannot run it" if name in _ISA_INDICES else "it is unknown"
        raise ValueError(
            f"FASTLSTM_ISA must be one of {', '.join(known)} on this machine; "
            f"got {name!r}: {why}."
        )
    cdef isa index = <isa><int>_ISA_INDICES[name]
    chosen_f32 = find_kernels_f32(index)
    chosen_f64 = find_kernels_f64(index)
    _chosen_name = name


use_isa(os.environ.get("FASTLSTM_ISA") or list(reversed(available_isas()))[0])


def caches() -> tuple[int, int, int]:
    """The sizes in bytes that decisions are made by: a core's first and second level, the third."""
    cdef cache_sizes sizes = get_caches()
    return sizes.first, sizes.second, sizes.third


def use_caches(sizes) -> None:
    """Decide as on a machine with caches of these sizes, from the next pass on; no pass may run.

    Raises ``ValueError`` for anything but three positive integers. No result depends on it.
    """
    try:
        numbers = [int(size) for size in sizes]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or min(numbers) < 1:
        raise ValueError(
            f"FASTLSTM_CACHES must be the bytes of three levels, such as 32768,524288,33554432; "
            f"got {sizes!r}."
        )
    set_caches(cache_sizes(numbers[0], numbers[1], numbers[2]))


if os.environ.get("FASTLSTM_CACHES"):
    use_caches(os.environ["FASTLSTM_CACHES"].split(","))


cdef const kernels_f32 *table_f32() noexcept nogil:
    return chosen_f32


cdef const kernels_f64 *table_f64() noexcept nogil:
    return chosen_f64


cdef const lstm_functions *lstm_functions_of(bint is_double) noexcept nogil:
    return &lstm_functions_f64 if is_double else &lstm_functions_f32


cdef const dense_functions *dense_functions_of(bint is_double) noexcept nogil:
    return &dense_f64 if is_double else &dense_f32


cdef const packing_functions *packing_of(bint is_double) noexcept nogil:
    return &packing_f64 if is_double else &packing_f32


cdef const void *packing_kernels(bint is_double) noexcept nogil:
    if chosen_f32 == find_kernels_f32(ISA_BASELINE):
        return NULL
    return <const void *>chosen_f64 if is_double else <const void *>chosen_f32


def set_pool_size(int size) -> None:
    """Let passes use up to `size` threads, the calling one among them."""
    pool_set_size(size)


def use_openmp(library) -> None:
    """Let the threads of the OpenMP runtime that a `ctypes.CDLL` has run the passes, in the whole
    process.

    Raises ``AttributeError`` where it has none, or one with other names than GNU's.
    """
    addresses = [
        ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        for name in ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads",
                     "omp_get_max_threads")
    ]
    cdef pool_runtime runtime
    runtime.parallel = <void *><size_t>addresses[0]
    runtime.thread_number = <void *><size_t>addresses[1]
    runtime.thread_count = <void *><size_t>addresses[2]
    runtime.most_threads = <void *><size_t>addresses[3]
    pool_use_runtime(&runtime)


def oversubscribe(bint whether) -> None:
    """Let passes use more threads than there are CPUs, and never do without one: for tests."""
    pool_oversubscribe(whether)


def get_pool_size() -> int:
    """The number of threads that a pass may use."""
    return pool_get_size()


cdef int activation_index(str name, str what, bint elementwise) except -1:
    """The place of an activation in the tables; softmax is no choice where `elementwise`."""
    index = _ACTIVATION_INDICES.get(name)
    if index is None or elementwise and index >= ACTIVATION_COUNT:
        known = list(_ACTIVATION_INDICES)
        raise one_of(what, name, known[:ACTIVATION_COUNT] if elementwise else known)
    return index


cdef bint has_gradient_from_output(int index) noexcept nogil:
    return (index == ACTIVATION_COUNT or index == ACTIVATION_LINEAR
            or chosen_f32.activations[index].backward_from_output != NULL)


cdef void activate(int index, Py_ssize_t rows, Py_ssize_t width, const real *x,
                   real *y) noexcept nogil:
    """y = f(x) for x, y (rows, width), which may be one array unless f is softmax."""
    if index < ACTIVATION_COUNT:
        if real is float:
            chosen_f32.activations[index].forward(rows * width, x, y)
        else:
            chosen_f64.activations[index].forward(rows * width, x, y)
        return
    if real is float:
        chosen_f32.softmax_forward(rows, width, x, y)
    else:
        chosen_f64.softmax_forward(rows, width, x, y)


cdef void activate_backward(int index, Py_ssize_t rows, Py_ssize_t width, const real *z,
                            const real *y, const real *dy, real *dz) noexcept nogil:
    """dz from dy and y = f(z), all (rows, width); z is read only unless
    `has_gradient_from_output`."""
    if index == ACTIVATION_COUNT:
        if real is float:
            chosen_f32.softmax_backward(rows, width, y, dy, dz)
        else:
            chosen_f64.softmax_backward(rows, width, y, dy, dz)
    elif real is float:
        if chosen_f32.activations[index].backward_from_output != NULL:
            chosen_f32.activations[index].backward_from_output(rows * width, y, dy, dz)
        else:
            chosen_f32.activations[index].backward(rows * width, z, dy, dz)
    elif chosen_f64.activations[index].backward_from_output != NULL:
        chosen_f64.activations[index].backward_from_output(rows * width, y, dy, dz)
    else:
        chosen_f64.activations[index].backward(rows * width, z, dy, dz)


cdef void _activate_array(const real[:, ::1] x, real[:, ::1] y, int index) noexcept nogil:
    cdef fp_mode mode
    if x.shape[0] == 0 or x.shape[1] == 0:
        return
    mode = flush_denormals()
    activate(index, x.shape[0], x.shape[1], &x[0, 0], &y[0, 0])
    restore_denormals(mode)


cdef void _activate_array_backward(const real[:, ::1] x, const real[:, ::1] dy, real[:, ::1] dx,
                                   real[:, ::1] y, int index) noexcept nogil:
    cdef fp_mode mode
    if x.shape[0] == 0 or x.shape[1] == 0:
        return
    mode = flush_denormals()
    activate(index, x.shape[0], x.shape[1], &x[0, 0], &y[0, 0])
    activate_backward(index, x.shape[0], x.shape[1], &x[0, 0], &y[0, 0], &dy[0, 0], &dx[0, 0])
    restore_denormals(mode)


def _as_rows(x):
    """x (..., U) as (rows, U), or a scalar as (1, 1), without a copy."""
    if x.ndim == 0 or x.size == 0:
        return x.reshape(x.size, 1)
    width = x.shape[x.ndim - 1]
    return x.reshape(x.size // width, width)


def activation_forward(x, str activation):
    """f(x) for a C-contiguous array x of float32 or float64."""
    cdef int index = activation_index(activation, "`activation`", False)
    cdef const float[:, ::1] x_f32
    cdef const double[:, ::1] x_f64
    cdef float[:, ::1] y_f32
    cdef double[:, ::1] y_f64
    y = np.empty_like(x)
    if x.dtype == np.float32:
        x_f32, y_f32 = _as_rows(x), _as_rows(y)
        with nogil:
            _activate_array(x_f32, y_f32, index)
    else:
        x_f64, y_f64 = _as_rows(x), _as_rows(y)
        with nogil:
            _activate_array(x_f64, y_f64, index)
    return y


def activation_backward(x, dy, str activation):
    """dy * f'(x) for C-contiguous arrays x and dy of one shape and one real type."""
    cdef int index = activation_index(activation, "`activation`", False)
    cdef const float[:, ::1] x_f32, dy_f32
    cdef const double[:, ::1] x_f64, dy_f64
    cdef float[:, ::1] dx_f32
    cdef double[:, ::1] dx_f64
    cdef float[:, ::1] y_f32
    cdef double[:, ::1] y_f64
    dx = np.empty_like(x)
    rows = _as_rows(x)
    y = np.empty_like(rows)
    if x.dtype == np.float32:
        x_f32, dy_f32, dx_f32, y_f32 = rows, _as_rows(dy), _as_rows(dx), y
        with nogil:
            _activate_array_backward(x_f32, dy_f32, dx_f32, y_f32, index)
    else:
        x_f64, dy_f64, dx_f64, y_f64 = rows, _as_rows(dy), _as_rows(dx), y
        with nogil:
            _activate_array_backward(x_f64, dy_f64, dx_f64, y_f64, index)
    return dx
