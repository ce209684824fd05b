"""Long passes that answer signals: Ctrl-C need not wait until a pass has ended.

Python runs the handlers of signals in the main thread alone, so only there passes are watched, and
only those that take milliseconds. A watched pass takes the GIL every now and then, and has the
handlers run that are due. What one raises stops the pass and stays set until `end_watch`.
"""

from threading import get_ident, main_thread

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept
    void *PyErr_Occurred() noexcept

cdef extern from "time.h" nogil:
    ctypedef long time_t
    ctypedef int clockid_t
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    clockid_t CLOCK_MONOTONIC
    int clock_gettime(clockid_t clock, timespec *found)

cdef extern from "base/watch.h" nogil:
    pass_watch new_watch(int (*wants_stop)() noexcept nogil)

# A millisecond at the least; and how often the GIL is taken, in nanoseconds.
cdef enum:
    LEAST_WORK = 1 << 26
    BETWEEN_LOOKS = 30_000_000

# Of the main thread, which alone looks.
cdef long long last_look = 0


cdef long long now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return 1_000_000_000 * <long long>time.tv_sec + time.tv_nsec


cdef int wants_stop() noexcept nogil:
    global last_look
    cdef int raised
    if now() - last_look < BETWEEN_LOOKS:
        return 0
    with gil:
        raised = PyErr_CheckSignals()
    last_look = now()
    return raised


cdef bint can_be_stopped(double work) except -1:
    return work >= LEAST_WORK and get_ident() == main_thread().ident


cdef pass_watch *begin_watch(pass_watch *memory, double work) except? NULL:
    global last_look
    if not can_be_stopped(work):
        return NULL
    last_look = now()
    memory[0] = new_watch(wants_stop)
    return memory


cdef int end_watch(const pass_watch *watch) except -1:
    if is_stopped(watch) and PyErr_Occurred() == NULL:
        raise RuntimeError(
            "this process was forked in the middle of a pass of fastlstm, and has none of the "
            "threads that were doing it: call it again")
    # The exception is set already.
    return -1 if is_stopped(watch) else 0
