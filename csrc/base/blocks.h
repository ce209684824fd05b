/* SPDX-License-Identifier: MIT
 * Bytes for panels and workspace: aligned, and used again rather than given back.
 *
 * Every pass needs some memory for as long as it runs. What the system has taken back comes with a
 * page fault for every 4 KiB next time, which can take longer than the pass. So a few freed blocks
 * are kept for whoever asks next for about as much: at most 16, and 256 MiB. Any thread may call.
 */
#ifndef FASTLSTM_BLOCKS_H
#define FASTLSTM_BLOCKS_H

#include <stddef.h>

enum { CACHE_LINE = 64 };

/* `size` bytes in whole cache lines. */
static inline size_t in_lines(size_t size)
{
    return (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

typedef struct {
    void *data;
    size_t size;
} block;

/* At least `size` bytes at a multiple of a cache line, contents undefined; data is NULL where the
 * system has no more. */
block block_take(size_t size);
void block_give(block given);

/* Gives the blocks that are kept back to the system; returns how many bytes that were. */
size_t blocks_release(void);

#endif
