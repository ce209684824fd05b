/* SPDX-License-Identifier: MIT
 * See blocks.h.
 */
#include "base/blocks.h"

#include <stdlib.h>

#if defined(_WIN32)
#include <malloc.h>
#elif defined(__linux__)
#include <malloc.h>
#include <sys/mman.h>
#endif

enum {
    /* Blocks of at least this size start at a multiple of it, and are asked for as such pages:
     * panels are walked through again and again, and a product over hundreds of small pages waits
     * for address translations. */
    HUGE_PAGE = 1 << 21,
    /* A hypervisor may take away what the system has back: 2 MiB then cost not 0.2 ms but 2. */
    MOST_KEPT_BLOCKS = 16,
    MOST_KEPT_BYTES = 1 << 28,
    /* Some milliseconds: nobody stays for longer but where a fork has left him behind. */
    LOOKS_BEFORE_GIVING_UP = 1 << 20,
};

static struct {
    int taken; /* by the thread that looks into it */
    size_t bytes;
    block blocks[MOST_KEPT_BLOCKS];
} kept;

/* Nobody waits: who finds another thread here asks the system. So a fork in the middle can do no
 * more harm than leave the child without kept blocks. */
static int enter(void) { return !__atomic_exchange_n(&kept.taken, 1, __ATOMIC_ACQUIRE); }

static void leave(void) { __atomic_store_n(&kept.taken, 0, __ATOMIC_RELEASE); }

/* ---- the system's ---------------------------------------------------------------------------- */

static void *allocate(size_t size)
{
    const size_t alignment = size >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE;
#if defined(_WIN32)
    return _aligned_malloc(size, alignment);
#else
    void *data = 0;
    if (posix_memalign(&data, alignment, size))
        return 0;
#if defined(__linux__)
    if (size >= HUGE_PAGE)
        madvise(data, size, MADV_HUGEPAGE); /* the system may decline */
#endif
    return data;
#endif
}

static void release(void *data)
{
#if defined(_WIN32)
    _aligned_free(data);
#else
    free(data);
#endif
}

/* ---- kept ones ------------------------------------------------------------------------------- */

/* A kept block that fits without much waste, the tightest; data is NULL if there is none. */
static block take_kept(size_t size)
{
    block *best = 0;
    for (block *b = kept.blocks; b < kept.blocks + MOST_KEPT_BLOCKS; b++)
        if (b->data && b->size >= size && b->size / 2 <= size && (!best || b->size < best->size))
            best = b;
    if (!best)
        return (block){0, 0};
    const block found = *best;
    best->data = 0;
    kept.bytes -= found.size;
    return found;
}

/* Whether there was room for it. */
static int keep(block given)
{
    if (kept.bytes + given.size > MOST_KEPT_BYTES)
        return 0;
    for (block *b = kept.blocks; b < kept.blocks + MOST_KEPT_BLOCKS; b++)
        if (!b->data) {
            *b = given;
            kept.bytes += given.size;
            return 1;
        }
    return 0;
}

block block_take(size_t size)
{
    block found = {0, 0};
    if (enter()) {
        found = take_kept(size);
        leave();
    }
    if (!found.data) {
        found.size = size > CACHE_LINE ? size : CACHE_LINE;
        found.data = allocate(found.size);
    }
    return found;
}

size_t blocks_release(void)
{
    block found[MOST_KEPT_BLOCKS] = {{0, 0}};
    size_t bytes = 0;
    int looks = 0;
    while (!enter())
        if (++looks == LOOKS_BEFORE_GIVING_UP)
            return 0;
    for (int i = 0; i < MOST_KEPT_BLOCKS; i++) {
        found[i] = kept.blocks[i];
        kept.blocks[i].data = 0;
    }
    bytes = kept.bytes;
    kept.bytes = 0;
    leave();
    for (int i = 0; i < MOST_KEPT_BLOCKS; i++)
        if (found[i].data)
            release(found[i].data);
#if defined(__GLIBC__)
    malloc_trim(0); /* or the library keeps what the system could have */
#endif
    return bytes;
}

void block_give(block given)
{
    int is_kept = 0;
    if (enter()) {
        is_kept = keep(given);
        leave();
    }
    if (!is_kept)
        release(given.data);
}
