"""Blocks of memory (csrc/base/blocks.h) that go back when nothing refers to them any more."""

cdef extern from "base/blocks.h" nogil:
    ctypedef struct block:
        void *data
        size_t size
    block block_take(size_t size)
    void block_give(block given)
    size_t blocks_release()


cdef class Memory:
    """At least `size` bytes at an address that is a multiple of a cache line; contents undefined.

    Raises ``MemoryError`` where the system has no more.
    """

    def __cinit__(self, size_t size):
        cdef block taken = block_take(size)
        if taken.data == NULL:
            raise MemoryError(f"There are no {size} bytes of memory for this pass.")
        self.data, self.size = taken.data, taken.size

    def __dealloc__(self):
        if self.data != NULL:
            block_give(block(self.data, self.size))


def release() -> int:
    """Give what is kept back to the system; returns how many bytes that were."""
    cdef size_t bytes
    with nogil:
        bytes = blocks_release()
    return bytes
