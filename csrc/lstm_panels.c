/* SPDX-License-Identifier: MIT
 * The panels of lstm.h, and the table of all its functions; compiled once for each real type.
 */
#include "lstm_common.h"

#include <stdint.h>

static ptrdiff_t column_panels_size(const void *kernels, ptrdiff_t depth, ptrdiff_t columns)
{
    const ptrdiff_t width = width_of(kernels);
    return divide_up(columns, width) * width * depth;
}

static ptrdiff_t gate_panels_size(const void *kernels, ptrdiff_t depth, ptrdiff_t units)
{
    return column_panels_size(kernels, depth, PANEL_VECTORS * units);
}

typedef struct {
    ptrdiff_t width, depth, count; /* of a vector; of the sums; units or columns */
    const real *weights;
    real *panels;
} packing;

/* Packing is reading and writing: from some 256 KiB on that is worth a second thread, and somewhat
 * later waking it, which the pass would do next anyway. */
enum { LEAST_ELEMENTS_PER_MEMBER = 1 << 16, LEAST_ELEMENTS_TO_WAKE = 1 << 18 };

static void pack(const void *kernels, ptrdiff_t depth, ptrdiff_t count, ptrdiff_t elements,
                 const void *weights, void *panels, team_task task)
{
    packing all = {width_of(kernels), depth, count, weights, panels};
    const ptrdiff_t members = at_most(TEAM_LARGEST, elements / LEAST_ELEMENTS_PER_MEMBER);
    team_run((int)members, elements >= LEAST_ELEMENTS_TO_WAKE, task, &all);
}

/* ---- gates ---------------------------------------------------------------------------------- */

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

/* Strips of as many units as a vector has elements. Some rows of the matrix at a time: from a row
 * to the next it is far. */
static void pack_whole_strips(const packing *all, range strips)
{
    enum { ROWS_AT_ONCE = 8 };
    const ptrdiff_t width = all->width, depth = all->depth, units = all->count;
    for (ptrdiff_t first = 0; first < depth; first += ROWS_AT_ONCE)
        for (ptrdiff_t strip = strips.begin; strip < strips.end; strip++) {
            real *to = all->panels + (strip * depth + first) * PANEL_VECTORS * width;
            for (ptrdiff_t k = first; k < at_most(depth, first + ROWS_AT_ONCE); k++)
                for (int v = 0; v < PANEL_VECTORS; v++, to += width)
                    copy_vector(to, all->weights + (k * PANEL_VECTORS + v) * units + strip * width,
                                width);
        }
}

/* The last strip, if it is narrower: there the gates follow each other just as closely, and need
 * fewer vectors. */
static void pack_rest(const packing *all, ptrdiff_t strip)
{
    const ptrdiff_t width = all->width, count = all->count - strip * width;
    const ptrdiff_t used = PANEL_VECTORS * count, filling = divide_up(used, width) * width - used;
    const real *from = all->weights + strip * width;
    real *to = all->panels + strip * all->depth * PANEL_VECTORS * width;
    for (ptrdiff_t k = 0; k < all->depth; k++) {
        for (int v = 0; v < PANEL_VECTORS; v++, to += count, from += all->count)
            memcpy(to, from, count * sizeof(real));
        memset(to, 0, filling * sizeof(real));
        to += filling;
    }
}

static void pack_gates_member(void *argument, int member, int members)
{
    const packing *const all = argument;
    const ptrdiff_t whole = all->count / all->width;
    pack_whole_strips(all, share(whole, member, members));
    if (member == 0 && whole * all->width < all->count)
        pack_rest(all, whole);
}

static void pack_gates(const void *kernels, ptrdiff_t depth, ptrdiff_t units, const void *weights,
                       void *panels)
{
    pack(kernels, depth, units, depth * PANEL_VECTORS * units, weights, panels, pack_gates_member);
}

/* ---- columns -------------------------------------------------------------------------------- */

/* A panel is transposed by blocks of BLOCK rows by BLOCK columns: whole cache lines of both sides.
 */
enum { BLOCK = 16, LANES = 16 / sizeof(real) };

typedef real lanes __attribute__((vector_size(16)));

/* The lanes of two vectors, counted through, at the places named. GCC has __builtin_shufflevector
 * from 12 on, Clang never had __builtin_shuffle. */
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#if FASTLSTM_DOUBLE
typedef int64_t lane_numbers __attribute__((vector_size(16)));
#else
typedef int32_t lane_numbers __attribute__((vector_size(16)));
#endif
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (lane_numbers){__VA_ARGS__})
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
    const ptrdiff_t count = at_most(PANEL_VECTORS * width, all->count - first);
    const ptrdiff_t panel_width = divide_up(count, width) * width;
    const real *const from = all->weights + first * depth;
    real *const panel = all->panels + first * depth;
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

static void pack_columns_member(void *argument, int member, int members)
{
    const packing *const all = argument;
    const ptrdiff_t widest = PANEL_VECTORS * all->width;
    const range panels = share(divide_up(all->count, widest), member, members);
    for (ptrdiff_t panel = panels.begin; panel < panels.end; panel++)
        pack_column_panel(all, panel * widest);
}

static void pack_columns(const void *kernels, ptrdiff_t depth, ptrdiff_t columns,
                         const void *weights, void *panels)
{
    pack(kernels, depth, columns, depth * columns, weights, panels, pack_columns_member);
}

/* ---- the table ------------------------------------------------------------------------------ */

static int forward_members(const lstm_pass *pass)
{
    return members_for(pass, width_of(pass->kernels));
}

static int backward_members(const lstm_pass *pass)
{
    return members_for(pass, PANEL_VECTORS * width_of(pass->kernels));
}

/* Threads that share the units of a step wait for each other, and threads that share the rows do
 * not; weights that two caches hold together and one does not are better shared. */
static int prefers_company(const lstm_pass *pass)
{
    return team_get_size() > 1 && !shares_rows(pass, 2) &&
           weight_bytes(pass) <= SECOND_LEVEL_BYTES &&
           products_of_a_step(pass) * (double)pass->steps >= LEAST_PRODUCTS_PER_MEMBER;
}

const lstm_functions TYPED(lstm_functions) = {
    .gate_panels_size = gate_panels_size,
    .column_panels_size = column_panels_size,
    .pack_gates = pack_gates,
    .pack_columns = pack_columns,
    .forward_members = forward_members,
    .backward_members = backward_members,
    .forward_scratch_bytes = TYPED(lstm_forward_scratch_bytes),
    .backward_scratch_bytes = TYPED(lstm_backward_scratch_bytes),
    .run_forward = TYPED(lstm_run_forward),
    .run_forward_plain = TYPED(lstm_run_forward_plain),
    .run_backward = TYPED(lstm_run_backward),
    .prefers_company = prefers_company,
    .run_forward_pair = TYPED(lstm_run_forward_pair),
};
