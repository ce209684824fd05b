/* SPDX-License-Identifier: MIT
 * What all layers are made of: ranges and who has which part, rows, tiles, memory.
 */
#ifndef FASTLSTM_TILES_H
#define FASTLSTM_TILES_H

#include <string.h>

#include "base/blocks.h"
#include "kernels/kernels.h"
#include "base/real.h"
#include "base/pool.h"
#include "base/watch.h"

typedef const real *const_row;
typedef real *row;

static inline ptrdiff_t at_most(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t at_least(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static inline ptrdiff_t divide_up(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }

typedef struct {
    ptrdiff_t begin, end;
} range;

static inline range share(ptrdiff_t count, int worker, int workers)
{
    return (range){share_start(count, worker, workers), share_start(count, worker + 1, workers)};
}

/* ---- stopping ------------------------------------------------------------------------------- */

/* Who does a part of a pass that may be stopped, and whether it is the calling thread, which asks:
 * that one may do any of the parts. */
typedef struct {
    pass_watch *watch; /* or NULL */
    int is_caller;
} watcher;

static inline watcher watcher_of(pass_watch *watch)
{
    return (watcher){watch, watch && pthread_equal(watch->caller, pthread_self())};
}

/* Whether the pass is stopped; the worker has done so much work. */
static inline int worker_stops(watcher my, ptrdiff_t work)
{
    return my.is_caller ? stops(my.watch, work) : is_stopped(my.watch);
}

/* What a worker does after the workers of a pass have met, as the caller says: all go on; all
 * leave, since the pass is stopped; or the others leave, and the caller takes over what was theirs.
 */
typedef enum { LEAVE, GO_ON, GO_ON_ALONE } next_step;

static inline next_step meet(const pass_watch *watch, barrier *barrier, int worker, int workers)
{
    const next_step mine = is_stopped(watch) ? LEAVE : GO_ON;
    if (workers <= 1)
        return mine;
    const int parts = worker == 0 && mine == GO_ON && pool_better_alone(workers);
    const int said = barrier_wait(barrier, worker, workers, parts ? GO_ON_ALONE : mine);
    return said == GO_ON_ALONE && worker > 0 ? LEAVE : (next_step)said;
}

/* The workers of a pass. */
static inline void run_pass(pass_watch *watch, int workers, pool_parts parts, int wakes,
                            pool_task task, void *argument)
{
    if (!pool_run(workers, parts, wakes, task, argument))
        give_up(watch);
}

/* ---- tiles ---------------------------------------------------------------------------------- */

static inline ptrdiff_t width_of(const void *kernels)
{
    return ((const TYPED(kernels) *)kernels)->width;
}

/* How many tiles `rows` rows make, of equal height or nearly so. */
static inline int tiles_of(const TYPED(kernels) * kernels, ptrdiff_t rows)
{
    return (int)divide_up(rows, kernels->mr);
}

/* So much of the depth at a time that what a few tiles read of it stays in first-level cache. */
enum { DEPTH_AT_ONCE = 512 };

/* out[i] = start[i] + a[i] * panels for any number of rows, tile by tile, each micro-panel for all
 * rows before the next; `start` may be NULL for zero. Ends early where the pass is stopped. */
static inline void gemm_rows(const TYPED(kernels) * kernels, ptrdiff_t rows, ptrdiff_t depth,
                             const const_row *a, const real *panels, const const_row *start,
                             const row *out, column_run columns, watcher my)
{
    const int tiles = tiles_of(kernels, rows);
    /* A single tile reads all that there is once. */
    const ptrdiff_t nr = tiles > 1 ? kernels->nr : at_least(1, columns.count);
    const ptrdiff_t piece = tiles > 1 ? DEPTH_AT_ONCE : at_least(1, depth);
    for (ptrdiff_t k = 0; k < at_least(1, depth); k += piece)
        for (ptrdiff_t first = 0; first < columns.count; first += nr) {
            const column_run run = {columns.first + first, at_most(nr, columns.count - first)};
            const ptrdiff_t stride = divide_up(run.count, kernels->width) * kernels->width;
            for (int tile = 0; tile < tiles; tile++) {
                const range r = share(rows, tile, tiles);
                const_row part[MOST_MR];
                for (ptrdiff_t i = r.begin; i < r.end; i++)
                    part[i - r.begin] = a[i] + k;
                const TYPED(gemm_term)
                    term = {at_most(piece, depth - k), part, panels + first * depth + k * stride};
                const const_row *const so_far = k ? (const const_row *)out : start;
                kernels->gemm(r.end - r.begin, 1, &term, so_far ? so_far + r.begin : 0,
                              out + r.begin, run);
            }
            if (worker_stops(my, rows * run.count * at_most(piece, depth)))
                return;
        }
}

/* out[i] = start + a[i] * b' for any number of rows; b (columns, depth). Ends early where the pass
 * is stopped. */
static inline void gemm_bt_rows(const TYPED(kernels) * kernels, ptrdiff_t rows, ptrdiff_t columns,
                                ptrdiff_t depth, const const_row *a, const real *b,
                                const real *start, const row *out, watcher my)
{
    const int tiles = tiles_of(kernels, rows);
    for (int tile = 0; tile < tiles; tile++) {
        const range r = share(rows, tile, tiles);
        kernels->gemm_bt(r.end - r.begin, columns, depth, a + r.begin, b, start, out + r.begin);
        if (worker_stops(my, (r.end - r.begin) * columns * depth))
            return;
    }
}

/* Columns `mine` (in tiles) of `rows` rows for gemm_at_rows: a tile after the other, in each its
 * few columns row by row. Every micro-panel reads them, and rows far apart would share few places
 * in the cache. Some rows at a time, since neighbouring tiles are in the same cache lines. */
static inline void pack_tiles(const TYPED(kernels) * kernels, ptrdiff_t columns, range mine,
                              ptrdiff_t rows, const const_row *a, real *packed)
{
    enum { ROWS_AT_ONCE = 64 };
    const int tiles = tiles_of(kernels, columns);
    for (ptrdiff_t first = 0; first < rows; first += ROWS_AT_ONCE) {
        const range few = {first, at_most(rows, first + ROWS_AT_ONCE)};
        for (ptrdiff_t tile = mine.begin; tile < mine.end; tile++) {
            const range f = share(columns, (int)tile, tiles);
            const ptrdiff_t count = f.end - f.begin;
            real *to = packed + f.begin * rows + first * count;
            for (ptrdiff_t i = few.begin; i < few.end; i++, to += count)
                for (ptrdiff_t j = 0; j < count; j++)
                    to[j] = a[i][f.begin + j];
        }
    }
}

/* Rows of one sum in a weight gradient: longer ones lose what is small beside them. */
enum { STRETCH = 256 };

/* c (tiled, panelled) += a' b, or = where `fresh`, for the tiles `mine` of pack_tiles and a
 * micro-panel of copy_panel; c points to the first of its columns. */
static inline void gemm_at_rows(const TYPED(kernels) * kernels, ptrdiff_t tiled, range mine,
                                ptrdiff_t rows, const real *packed, ptrdiff_t columns,
                                const real *panel, int fresh, real *c, ptrdiff_t stride)
{
    const int tiles = tiles_of(kernels, tiled);
    const ptrdiff_t nr = divide_up(columns, kernels->width) * kernels->width;
    for (ptrdiff_t tile = mine.begin; tile < mine.end; tile++) {
        const range f = share(tiled, (int)tile, tiles);
        const ptrdiff_t count = f.end - f.begin;
        const real *const a = packed + f.begin * rows;
        for (ptrdiff_t first = 0; first < at_least(1, rows); first += STRETCH)
            kernels->gemm_at(count, columns, at_most(STRETCH, rows - first), a + first * count,
                             panel + first * nr, fresh && first == 0, c + f.begin * stride, stride);
    }
}

/* A micro-panel of `count` columns from `first` on, filled up to whole vectors with zeros. */
static inline void copy_panel(const TYPED(kernels) * kernels, ptrdiff_t rows, const const_row *from,
                              ptrdiff_t first, ptrdiff_t count, real *panel)
{
    const ptrdiff_t nr = divide_up(count, kernels->width) * kernels->width;
    for (ptrdiff_t i = 0; i < rows; i++) {
        memcpy(panel + i * nr, from[i] + first, count * sizeof(real));
        memset(panel + i * nr + count, 0, (nr - count) * sizeof(real));
    }
}

/* total (count) += the rows of such a micro-panel, each stretch summed by itself, or = where
 * `fresh`. */
static inline void add_panel_rows(const TYPED(kernels) * kernels, ptrdiff_t rows, ptrdiff_t count,
                                  const real *panel, int fresh, real *total)
{
    const ptrdiff_t nr = divide_up(count, kernels->width) * kernels->width;
    if (fresh)
        memset(total, 0, count * sizeof(real));
    for (ptrdiff_t first = 0; first < rows; first += STRETCH) {
        real sums[MOST_NR] = {0};
        for (ptrdiff_t i = first; i < at_most(rows, first + STRETCH); i++)
            for (ptrdiff_t j = 0; j < nr; j++)
                sums[j] += panel[i * nr + j];
        for (ptrdiff_t j = 0; j < count; j++)
            total[j] += sums[j];
    }
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Memory handed out piece by piece, each aligned to a cache line. With a NULL base it only counts.
 */
typedef struct {
    char *base;
    size_t used;
} workspace;

static inline void *take(workspace *from, size_t count, size_t size)
{
    void *const piece = from->base ? from->base + from->used : 0;
    from->used += in_lines(count * size);
    return piece;
}

#endif
