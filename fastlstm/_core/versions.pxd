"""Versions of weights and of settings, at the price of comparing pointers and numbers."""


cdef class Versioned:
    cdef public object version


# Whether none of them has changed since its version was seen, and none is changing.
cdef bint are_as_seen(list things, list seen) except -1
cdef list versions_of(list things)
# Whether these arrays are still where the weights have their values; None is that of None.
cdef bint are_values_of(list weights, tuple arrays) except -1

# Another number after every change of a setting of any layer.
cdef long long version_of_settings() noexcept
