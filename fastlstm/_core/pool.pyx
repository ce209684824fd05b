"""The threads that do passes together; csrc/base/pool.h says how."""

import ctypes

from fastlstm._core.kernels cimport the_pool


def set_size(int size) -> None:
    """Let passes use up to `size` threads, the calling one among them."""
    the_pool().set_size(size)


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
    the_pool().use_runtime(&runtime)


def oversubscribe(bint whether) -> None:
    """Let passes use more threads than there are CPUs, and never do without one: for tests."""
    the_pool().oversubscribe(whether)


def part_at(int meeting) -> None:
    """Let the caller of every pass go on alone from that meeting of its threads on, as if the
    others had lost their CPUs; 0 for never: for tests."""
    the_pool().part_at(meeting)


def get_size() -> int:
    """The number of threads that a pass may use."""
    return the_pool().get_size()
