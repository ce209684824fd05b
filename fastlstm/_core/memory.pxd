"""Bytes for panels and scratch: aligned, and used again rather than given back."""

cdef inline size_t in_lines(size_t size) noexcept nogil:
    """`size` bytes in whole cache lines."""
    return (size + 63) // 64 * 64


cdef class Memory:
    cdef void *data
    cdef size_t size
