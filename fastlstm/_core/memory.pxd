"""Bytes for panels and workspace: aligned, and used again rather than given back."""

cdef class Memory:
    cdef void *data
    cdef size_t size
