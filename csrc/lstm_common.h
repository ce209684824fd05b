/* SPDX-License-Identifier: MIT
 * What the two passes of lstm.h share: ranges, panels, rows, tiles, memory.
 *
 * Work is shared out in one of two ways. Many rows: each member runs some rows through all steps
 * and never waits. Few rows: each member has some units of all rows, so that its part of the
 * weights stays in its own cache, and the members meet after every step to exchange h (or dz).
 */
#ifndef FASTLSTM_LSTM_COMMON_H
#define FASTLSTM_LSTM_COMMON_H

#include <string.h>

#include "blocks.h"
#include "kernels.h"
#include "lstm.h"
#include "real.h"

/* With so many rows for each, members take rows rather than units: enough for a tile that reads its
 * weights from second-level cache, or for two that read them from further away. */
enum { ROWS_OF_A_TILE = 4, ROWS_OF_TWO_TILES = 8, SECOND_LEVEL_BYTES = 1 << 20 };

typedef const real *const_row;
typedef real *row;

static inline ptrdiff_t at_most(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t at_least(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static inline ptrdiff_t divide_up(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }

typedef struct {
    ptrdiff_t begin, end;
} range;

static inline range share(ptrdiff_t count, int member, int members)
{
    return (range){share_start(count, member, members), share_start(count, member + 1, members)};
}

/* In lstm_forward.c and lstm_backward.c. */
size_t TYPED(lstm_forward_scratch_bytes)(const lstm_forward *f);
size_t TYPED(lstm_backward_scratch_bytes)(const lstm_backward *g);
void TYPED(lstm_run_forward)(lstm_forward *f);
void TYPED(lstm_run_forward_pair)(lstm_forward *const *passes);
void TYPED(lstm_run_forward_plain)(lstm_forward *f);
void TYPED(lstm_run_backward)(lstm_backward *g);

static inline ptrdiff_t width_of(const void *kernels)
{
    return ((const TYPED(kernels) *)kernels)->products.width;
}

/* ---- who does what -------------------------------------------------------------------------- */

static inline double weight_bytes(const lstm_pass *pass)
{
    return 4.0 * (double)pass->units * (double)(pass->features + pass->units) *
           (double)sizeof(real);
}

static inline int shares_rows(const lstm_pass *pass, int members)
{
    const ptrdiff_t rows =
        weight_bytes(pass) <= SECOND_LEVEL_BYTES ? ROWS_OF_A_TILE : ROWS_OF_TWO_TILES;
    return members > 1 && pass->batch >= rows * members;
}

/* Threads are worth their while when each has some 5 us of work, and, if they meet after every
 * step, more than a meeting takes (0.2 us); waking those that sleep, some 150 us. In
 * multiplications, of which a core does some 50 in a nanosecond. */
enum {
    LEAST_PRODUCTS_PER_MEMBER = 1 << 18,
    LEAST_PRODUCTS_PER_MEETING = 1 << 13,
    LEAST_PRODUCTS_TO_WAKE = 1 << 23,
};

static inline double products_of_a_step(const lstm_pass *pass)
{
    return 4.0 * (double)pass->batch * (double)pass->units * (double)(pass->features + pass->units);
}

/* How many threads suit a pass whose units are shared out in strips of `strip_width`. */
static inline int members_for(const lstm_pass *pass, ptrdiff_t strip_width)
{
    const double step = products_of_a_step(pass), all = step * (double)pass->steps;
    double members = team_get_size();
    if (all < members * LEAST_PRODUCTS_PER_MEMBER)
        members = all / LEAST_PRODUCTS_PER_MEMBER;
    if (!shares_rows(pass, (int)members)) {
        if (step < members * LEAST_PRODUCTS_PER_MEETING)
            members = step / LEAST_PRODUCTS_PER_MEETING;
        if (members > (double)divide_up(pass->units, strip_width))
            members = (double)divide_up(pass->units, strip_width);
    }
    return (int)at_least(1, (ptrdiff_t)members);
}

/* `passes` passes of about this size are one task. */
static inline void run_on_team(int members, int passes, const lstm_pass *pass, team_task task,
                               void *argument)
{
    const double all = passes * products_of_a_step(pass) * (double)pass->steps;
    team_run(members, all >= LEAST_PRODUCTS_TO_WAKE, task, argument);
}

/* ---- rows and steps ------------------------------------------------------------------------- */

static inline ptrdiff_t place_of(const lstm_pass *pass, ptrdiff_t step)
{
    return pass->go_backwards ? pass->steps - 1 - step : step;
}

/* Whether row b takes part in a step (pass->valid), or shows its output (pass->shown). */
static inline int is_set(const unsigned char *flags, const lstm_pass *pass, ptrdiff_t b,
                         ptrdiff_t step)
{
    return !flags || flags[b * pass->steps + step];
}

static inline const real *input_row(const lstm_pass *pass, ptrdiff_t b, ptrdiff_t step)
{
    return (const real *)pass->x + (b * pass->steps + place_of(pass, step)) * pass->features;
}

/* ---- stopping ------------------------------------------------------------------------------- */

/* Whether the pass is stopped; the member that is the calling thread has done so much work. */
static inline int member_stops(const lstm_pass *pass, int is_caller, ptrdiff_t work)
{
    return is_caller ? stops(pass->watch, work) : is_stopped(pass->watch);
}

/* The end of a part of the pass, a step or a block, where members meet if they have to: whether
 * this one leaves there. */
static inline int leaves(lstm_pass *pass, int is_caller, int meets, int members, ptrdiff_t part)
{
    if (!meets)
        return is_stopped(pass->watch);
    if (is_caller)
        propose_to_leave(pass->watch, part);
    team_meet(&pass->meeting, members);
    return leaves_after(pass->watch, part);
}

/* ---- tiles ---------------------------------------------------------------------------------- */

/* How many tiles `rows` rows make, of equal height or nearly so. */
static inline int tiles_of(const TYPED(kernels) * kernels, ptrdiff_t rows)
{
    return (int)divide_up(rows, kernels->products.tile_rows);
}

/* out[i] = a[i] * panel for any number of rows, tile by tile. */
static inline void multiply_rows(const TYPED(kernels) * kernels, ptrdiff_t rows, ptrdiff_t depth,
                                 const const_row *a, const real *panel, const row *out,
                                 const panel_columns *columns)
{
    const int tiles = tiles_of(kernels, rows);
    for (int tile = 0; tile < tiles; tile++) {
        const range r = share(rows, tile, tiles);
        const TYPED(product) product = {depth, a + r.begin, panel};
        kernels->products.multiply(r.end - r.begin, 1, &product, 0, out + r.begin, columns);
    }
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Memory handed out piece by piece, each aligned to a cache line. With a NULL base it only counts.
 */
typedef struct {
    char *base;
    size_t used;
} arena;

static inline void *take(arena *from, size_t count, size_t size)
{
    void *const piece = from->base ? from->base + from->used : 0;
    from->used += in_lines(count * size);
    return piece;
}

#endif
