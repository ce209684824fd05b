"""csrc/base/pool.h for Cython: its state is in the module that links it, `kernels`."""

cdef extern from "base/pool.h" nogil:
    ctypedef struct pool_runtime:
        void *parallel
        void *thread_number
        void *thread_count
        void *most_threads
    ctypedef enum pool_parts:
        PARTS_ALONE
    ctypedef void (*pool_task)(void *argument, int worker, int workers) noexcept nogil
    Py_ssize_t share_start(Py_ssize_t count, int worker, int workers)


cdef struct pool_functions:
    void (*set_size)(int size) noexcept nogil
    int (*get_size)() noexcept nogil
    void (*oversubscribe)(int whether) noexcept nogil
    void (*part_at)(int meeting) noexcept nogil
    void (*use_runtime)(const pool_runtime *runtime) noexcept nogil
    int (*threads)() noexcept nogil
    # Whether all of it was done: see pool_run.
    bint (*run)(int workers, pool_parts parts, int wakes, pool_task task,
                void *argument) noexcept nogil
