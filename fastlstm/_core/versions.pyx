"""See versions.pxd."""

cimport cython


@cython.auto_pickle(False)
cdef class Versioned:
    """Something whose `version` is another object after every change, None while it changes."""


cdef bint are_as_seen(list things, list seen) except -1:
    cdef Py_ssize_t k
    cdef object version
    for k in range(len(things)):
        version = (<Versioned>things[k]).version
        if version is None or version is not seen[k]:
            return False
    return True


cdef list versions_of(list things):
    return [(<Versioned>each).version for each in things]


cdef bint are_values_of(list weights, tuple arrays) except -1:
    cdef Py_ssize_t k
    for k in range(len(weights)):
        if (None if weights[k] is None else weights[k].value) is not arrays[k]:
            return False
    return True


cdef long long changes = 0


cdef long long version_of_settings() noexcept:
    return changes


def settings_version() -> int:
    """Another number after every change of a setting of any layer."""
    return changes


def note_change_of_settings() -> None:
    """Whatever was compiled of layers has to look at them again."""
    global changes
    changes += 1
