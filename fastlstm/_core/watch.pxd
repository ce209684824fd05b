"""Long passes that answer signals; csrc/base/watch.h says how a pass is stopped."""

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_t:
        pass
    pthread_t pthread_self()
    bint pthread_equal(pthread_t one, pthread_t other)

cdef extern from "base/watch.h" nogil:
    const Py_ssize_t WORK_OF_A_UNIT, WORK_OF_A_STEP
    ctypedef struct pass_watch:
        pthread_t caller
    bint is_stopped(const pass_watch *watch)
    void give_up(pass_watch *watch)
    bint caller_stops "stops" (pass_watch *watch, Py_ssize_t work)


cdef inline bint stops(pass_watch *watch, Py_ssize_t work) noexcept nogil:
    """For any thread of a pass, after so much work: whether to stop. The calling one asks."""
    if watch != NULL and pthread_equal(watch.caller, pthread_self()):
        return caller_stops(watch, work)
    return is_stopped(watch)

# Whether so much work, in multiplications, may be stopped when it is done in this thread.
cdef bint can_be_stopped(double work) except -1
# A watch over so much work in `memory`, or NULL where it cannot be stopped; to be ended.
cdef pass_watch *begin_watch(pass_watch *memory, double work) except? NULL
# Raises what a signal's handler raised, if that has stopped the work.
cdef int end_watch(const pass_watch *watch) except -1
