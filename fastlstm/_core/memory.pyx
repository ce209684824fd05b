"""Bytes for panels and scratch: aligned, and used again rather than given back.

Every pass needs some memory for as long as it runs. What the system has taken back comes with a
page fault for every 4 KiB next time, which can take longer than the pass. So a few freed blocks are
kept for whoever asks next for about as much.
"""

from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

cdef extern from "pages.h" nogil:
    const size_t HUGE_PAGE
    void prefer_huge_pages(void *memory, size_t size)

cdef enum:
    CACHE_LINE = 64
    MOST_KEPT_BLOCKS = 16
    MOST_KEPT_BYTES = 1 << 27


cdef struct Block:
    void *data
    size_t size

# Guarded by the GIL.
cdef Block kept[MOST_KEPT_BLOCKS]
cdef size_t kept_bytes = 0
memset(kept, 0, sizeof(kept))


cdef Block take_kept(size_t size) noexcept:
    """A kept block that fits without much waste, the tightest; data is NULL if there is none."""
    global kept_bytes
    cdef Block *best = NULL
    cdef Block found
    cdef int i
    found.data, found.size = NULL, 0
    for i in range(MOST_KEPT_BLOCKS):
        if (kept[i].data != NULL and size <= kept[i].size <= 2 * size
                and (best == NULL or kept[i].size < best.size)):
            best = &kept[i]
    if best != NULL:
        found = best[0]
        best.data = NULL
        kept_bytes -= found.size
    return found


cdef void keep(Block block) noexcept:
    """Keep a block; one that would be too much is given back."""
    global kept_bytes
    cdef int i
    if kept_bytes + block.size <= MOST_KEPT_BYTES:
        for i in range(MOST_KEPT_BLOCKS):
            if kept[i].data == NULL:
                kept[i] = block
                kept_bytes += block.size
                return
    free(block.data)


cdef class Memory:
    """At least `size` bytes at an address that is a multiple of a cache line; contents undefined.

    Raises ``MemoryError`` where the system has no more.
    """

    def __cinit__(self, size_t size):
        cdef Block block = take_kept(size)
        cdef size_t alignment = HUGE_PAGE if size >= HUGE_PAGE else CACHE_LINE
        if block.data == NULL:
            block.size = max(<size_t>CACHE_LINE, size)
            if posix_memalign(&block.data, alignment, block.size) != 0:
                raise MemoryError(f"There are no {size} bytes of memory for this pass.")
            if size >= HUGE_PAGE:
                prefer_huge_pages(block.data, block.size)
        self.data, self.size = block.data, block.size

    def __dealloc__(self):
        if self.data != NULL:
            keep(Block(self.data, self.size))
