"""What computes: the kernels of one instruction set, the engine, the cache sizes that decide how.

The objects of csrc/, but for the kept blocks of `memory`, are linked to this module alone, so that
what they hold, the pool and the cache sizes, is there once in a process. Other modules get their
functions from here.
"""

import os

from fastlstm.errors import one_of

from fastlstm._core.passes cimport (
    dense_f32, dense_f64, dense_functions, lstm_functions, lstm_functions_f32, lstm_functions_f64,
    packing_f32, packing_f64, packing_functions,
)
from fastlstm._core.pool cimport pool_functions, pool_parts, pool_runtime, pool_task

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
    int pool_threads()
    bint pool_run(int workers, pool_parts parts, int wakes, pool_task task, void *argument)
    void pool_oversubscribe(int whether)
    void pool_part_at(int meeting)
    void pool_use_runtime(const pool_runtime *runtime)

cdef extern from "base/caches.h" nogil:
    ctypedef struct cache_sizes:
        Py_ssize_t first, second, third
    cache_sizes get_caches()
    void set_caches(cache_sizes sizes)

# From the plainest to the widest: the last available one is the default.
_ISA_INDICES = {
    "baseline": ISA_BASELINE, "neon": ISA_NEON, "avx2": ISA_AVX2, "avx512": ISA_AVX512,
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


_ENGINES = {"packed": ENGINE_PACKED, "unpacked": ENGINE_UNPACKED, "blas": ENGINE_BLAS}

cdef int asked_engine = ENGINE_OF_CHOICE


def engine_name() -> str | None:
    """The engine that all passes run on, None where each has the one that suits it."""
    return next((name for name, engine in _ENGINES.items() if engine == asked_engine), None)


def use_engine(name: str | None) -> None:
    """Run the forward passes of all layers on one engine from the next on, in the whole process;
    on the one that suits each for None. A backward pass runs on the engine of its forward pass, but
    packed after an unpacked one.

    Raises ``ValueError`` where it is unknown. For tests and comparisons; users set
    ``FASTLSTM_ENGINE`` before the import.
    """
    global asked_engine
    if name is not None and name not in _ENGINES:
        raise one_of("FASTLSTM_ENGINE", name, _ENGINES)
    asked_engine = ENGINE_OF_CHOICE if name is None else _ENGINES[name]


use_engine(os.environ.get("FASTLSTM_ENGINE") or None)


cdef Engine engine_asked_for() noexcept nogil:
    return <Engine>asked_engine


cdef bint has_products() noexcept nogil:
    return chosen_f32 != find_kernels_f32(ISA_BASELINE)


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


cdef const void *table_of(bint is_double) noexcept nogil:
    return <const void *>chosen_f64 if is_double else <const void *>chosen_f32


cdef pool_functions pool_of_process

pool_of_process = pool_functions(
    pool_set_size, pool_get_size, pool_oversubscribe, pool_part_at, pool_use_runtime,
    pool_threads, pool_run)


cdef const pool_functions *the_pool() noexcept nogil:
    return &pool_of_process
