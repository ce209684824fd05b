/* SPDX-License-Identifier: MIT
 * See pack.h; compiled once for each real type.
 */
#include "layers/pack.h"

#include <string.h>

#include "layers/schedule.h"
#include "layers/tiles.h"

static ptrdiff_t packed_size(const void *kernels, ptrdiff_t depth, ptrdiff_t columns)
{
    const ptrdiff_t width = width_of(kernels);
    return divide_up(columns, width) * width * depth;
}

typedef struct {
    ptrdiff_t width, nr;    /* of a vector and of a micro-panel */
    ptrdiff_t depth, count; /* of the sums; columns of a group */
    int groups;
    const real *weights;
    real *packed;
} packing;

static void run_packing(packing *all, pool_task task)
{
    const ptrdiff_t elements = all->depth * all->count * all->groups;
    const ptrdiff_t workers = at_most(POOL_LARGEST, elements / LEAST_ELEMENTS_PER_WORKER);
    pool_run((int)workers, PARTS_ALONE, elements >= LEAST_ELEMENTS_TO_WAKE, task, all);
}

/* ---- groups --------------------------------------------------------------------------------- */

/* memcpy of a vector, without a call. */
static inline void copy_vector(real *to, const real *from, ptrdiff_t width)
{
    if (width == MOST_WIDTH)
        memcpy(to, from, MOST_WIDTH * sizeof(real));
    else if (width == MOST_WIDTH / 2)
        memcpy(to, from, MOST_WIDTH / 2 * sizeof(real));
    else
        memcpy(to, from, width * sizeof(real));
}

/* The packed columns: whole strips, then what is left of each group. */
static ptrdiff_t total_columns(const packing *all)
{
    return divide_up(all->groups * all->count, all->width) * all->width;
}

/* Where row k of a packed column is, and how far it is to the next row. */
typedef struct {
    real *at;
    ptrdiff_t stride;
} packed_column;

static inline packed_column find_column(const packing *all, ptrdiff_t k, ptrdiff_t column)
{
    const ptrdiff_t first = column / all->nr * all->nr;
    const ptrdiff_t stride = at_most(all->nr, total_columns(all) - first);
    return (packed_column){all->packed + first * all->depth + k * stride + column - first, stride};
}

/* Some rows of the matrix at a time: from a row to the next it is far. */
static void pack_strips(const packing *all, range strips)
{
    enum { ROWS_AT_ONCE = 8 };
    const ptrdiff_t width = all->width, row_width = all->groups * all->count;
    for (ptrdiff_t first = 0; first < all->depth; first += ROWS_AT_ONCE)
        for (ptrdiff_t strip = strips.begin; strip < strips.end; strip++)
            for (int group = 0; group < all->groups; group++) {
                packed_column to = find_column(all, first, (strip * all->groups + group) * width);
                const real *from =
                    all->weights + first * row_width + group * all->count + strip * width;
                for (ptrdiff_t k = first; k < at_most(all->depth, first + ROWS_AT_ONCE); k++) {
                    copy_vector(to.at, from, width);
                    to.at += to.stride;
                    from += row_width;
                }
            }
}

/* What is left of each group follows each other just as closely, and is filled up with zeros. */
static void pack_rest(const packing *all, ptrdiff_t strips)
{
    const ptrdiff_t width = all->width, done = strips * width, left = all->count - done;
    real row[GATES * MOST_WIDTH] = {0};
    for (ptrdiff_t k = 0; k < all->depth; k++) {
        const real *const from = all->weights + k * all->groups * all->count + done;
        for (int group = 0; group < all->groups; group++)
            memcpy(row + group * left, from + group * all->count, left * sizeof(real));
        for (ptrdiff_t column = 0; column < all->groups * left; column += width)
            copy_vector(find_column(all, k, done * all->groups + column).at, row + column, width);
    }
}

static void pack_groups_worker(void *argument, int worker, int workers)
{
    const packing *const all = argument;
    const ptrdiff_t strips = all->count / all->width;
    pack_strips(all, share(strips, worker, workers));
    if (worker == 0 && strips * all->width < all->count)
        pack_rest(all, strips);
}

static void pack_groups(const void *kernels, ptrdiff_t depth, int groups, ptrdiff_t count,
                        const void *weights, void *packed)
{
    const TYPED(kernels) *const table = kernels;
    packing all = {table->width, table->nr, depth, count, groups, weights, packed};
    run_packing(&all, pack_groups_worker);
}

/* ---- transposed ---------------------------------------------------------------------------- */

/* A micro-panel is transposed by blocks of BLOCK rows by BLOCK columns: whole cache lines of both
 * sides.
 */
enum { BLOCK = 16, LANES = 16 / sizeof(real) };

typedef real lanes __attribute__((vector_size(16)));

/* GCC has __builtin_shufflevector from 12 on, Clang never had __builtin_shuffle. */
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#if FASTLSTM_DOUBLE
typedef long long places __attribute__((vector_size(16)));
#else
typedef int places __attribute__((vector_size(16)));
#endif
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (places){__VA_ARGS__})
#endif

static inline lanes load_lanes(const real *from)
{
    lanes value;
    memcpy(&value, from, sizeof value);
    return value;
}
static inline void store_lanes(real *to, lanes value) { memcpy(to, &value, sizeof value); }

/* LANES columns of `from` into LANES rows of `to`. */
static inline void transpose_lanes(const real *from, ptrdiff_t depth, real *to,
                                   ptrdiff_t panel_width)
{
#if FASTLSTM_DOUBLE
    const lanes a = load_lanes(from), b = load_lanes(from + depth);
    store_lanes(to, SHUFFLE(a, b, 0, 2));
    store_lanes(to + panel_width, SHUFFLE(a, b, 1, 3));
#else
    const lanes a = load_lanes(from), b = load_lanes(from + depth);
    const lanes c = load_lanes(from + 2 * depth), d = load_lanes(from + 3 * depth);
    const lanes ab_low = SHUFFLE(a, b, 0, 4, 1, 5);
    const lanes ab_high = SHUFFLE(a, b, 2, 6, 3, 7);
    const lanes cd_low = SHUFFLE(c, d, 0, 4, 1, 5);
    const lanes cd_high = SHUFFLE(c, d, 2, 6, 3, 7);
    store_lanes(to, SHUFFLE(ab_low, cd_low, 0, 1, 4, 5));
    store_lanes(to + panel_width, SHUFFLE(ab_low, cd_low, 2, 3, 6, 7));
    store_lanes(to + 2 * panel_width, SHUFFLE(ab_high, cd_high, 0, 1, 4, 5));
    store_lanes(to + 3 * panel_width, SHUFFLE(ab_high, cd_high, 2, 3, 6, 7));
#endif
}

static void transpose_block(const real *from, ptrdiff_t depth, real *to, ptrdiff_t panel_width)
{
    for (ptrdiff_t column = 0; column < BLOCK; column += LANES)
        for (ptrdiff_t k = 0; k < BLOCK; k += LANES)
            transpose_lanes(from + column * depth + k, depth, to + k * panel_width + column,
                            panel_width);
}

/* The same for a block of fewer rows and columns, with zeros in the columns from there to
 * `filled`. */
static void transpose_part(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t filled, const real *from,
                           ptrdiff_t depth, real *to, ptrdiff_t panel_width)
{
    for (ptrdiff_t k = 0; k < rows; k++)
        for (ptrdiff_t column = 0; column < filled; column++)
            to[k * panel_width + column] = column < columns ? from[column * depth + k] : 0;
}

static void pack_column_panel(const packing *all, ptrdiff_t first)
{
    const ptrdiff_t width = all->width, depth = all->depth;
    const ptrdiff_t count = at_most(all->nr, all->count - first);
    const ptrdiff_t panel_width = divide_up(count, width) * width;
    const real *const from = all->weights + first * depth;
    real *const panel = all->packed + first * depth;
    for (ptrdiff_t column = 0; column < panel_width; column += BLOCK)
        for (ptrdiff_t k = 0; k < depth; k += BLOCK) {
            const real *const block = from + column * depth + k;
            real *const to = panel + k * panel_width + column;
            const ptrdiff_t rows = at_most(BLOCK, depth - k);
            const ptrdiff_t columns = at_most(BLOCK, count - column);
            const ptrdiff_t filled = at_most(BLOCK, panel_width - column);
            if (rows == BLOCK && columns == BLOCK)
                transpose_block(block, depth, to, panel_width);
            else
                transpose_part(rows, columns, filled, block, depth, to, panel_width);
        }
}

static void pack_transposed_worker(void *argument, int worker, int workers)
{
    const packing *const all = argument;
    const range panels = share(divide_up(all->count, all->nr), worker, workers);
    for (ptrdiff_t panel = panels.begin; panel < panels.end; panel++)
        pack_column_panel(all, panel * all->nr);
}

static void pack_transposed(const void *kernels, ptrdiff_t depth, ptrdiff_t columns,
                            const void *weights, void *packed)
{
    const TYPED(kernels) *const table = kernels;
    packing all = {table->width, table->nr, depth, columns, 1, weights, packed};
    run_packing(&all, pack_transposed_worker);
}

const packing_functions TYPED(packing) = {
    .size = packed_size,
    .groups = pack_groups,
    .transposed = pack_transposed,
};
