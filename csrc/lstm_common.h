/* SPDX-License-Identifier: MIT
 * What the two passes of lstm.h share: who does what, rows and steps.
 *
 * Work is shared out in one of two ways. Many rows: each worker runs some rows through all steps
 * and never waits. Few rows: each worker has some units of all rows, so that its part of the
 * weights stays in its own cache, and the workers meet after every step to exchange h (or dz).
 */
#ifndef FASTLSTM_LSTM_COMMON_H
#define FASTLSTM_LSTM_COMMON_H

#include <string.h>

#include "lstm.h"
#include "tiles.h"

/* With so many rows for each, workers take rows rather than units: enough for a tile that reads its
 * weights from second-level cache, or for two that read them from further away. */
enum { ROWS_OF_A_TILE = 4, ROWS_OF_TWO_TILES = 8, SECOND_LEVEL_BYTES = 1 << 20 };

/* In lstm_forward.c and lstm_backward.c. */
size_t TYPED(lstm_forward_scratch_bytes)(const lstm_forward *f);
size_t TYPED(lstm_backward_scratch_bytes)(const lstm_backward *g);
void TYPED(lstm_run_forward)(lstm_forward *f);
void TYPED(lstm_run_forward_pair)(lstm_forward *const *passes);
void TYPED(lstm_run_forward_plain)(lstm_forward *f);
void TYPED(lstm_run_backward)(lstm_backward *g);

/* ---- who does what -------------------------------------------------------------------------- */

static inline double weight_bytes(const lstm_pass *pass)
{
    return 4.0 * (double)pass->units * (double)(pass->features + pass->units) *
           (double)sizeof(real);
}

static inline int shares_rows(const lstm_pass *pass, int workers)
{
    const ptrdiff_t rows =
        weight_bytes(pass) <= SECOND_LEVEL_BYTES ? ROWS_OF_A_TILE : ROWS_OF_TWO_TILES;
    return workers > 1 && pass->batch >= rows * workers;
}

/* Threads are worth their while when each has some 5 us of work, and, if they meet after every
 * step, more than a barrier takes (0.2 us); waking those that sleep, some 150 us. In
 * multiplications, of which a core does some 50 in a nanosecond. */
enum {
    LEAST_PRODUCTS_PER_WORKER = 1 << 18,
    LEAST_PRODUCTS_PER_BARRIER = 1 << 13,
    LEAST_PRODUCTS_TO_WAKE = 1 << 23,
};

static inline double products_of_a_step(const lstm_pass *pass)
{
    return 4.0 * (double)pass->batch * (double)pass->units * (double)(pass->features + pass->units);
}

/* How many threads suit a pass whose units are shared out in strips of `strip_width`. */
static inline int workers_for(const lstm_pass *pass, ptrdiff_t strip_width)
{
    const double step = products_of_a_step(pass), all = step * (double)pass->steps;
    if (all < 2 * LEAST_PRODUCTS_PER_WORKER)
        return 1;
    double workers = pool_threads();
    if (all < workers * LEAST_PRODUCTS_PER_WORKER)
        workers = all / LEAST_PRODUCTS_PER_WORKER;
    if (!shares_rows(pass, (int)workers)) {
        if (step < workers * LEAST_PRODUCTS_PER_BARRIER)
            workers = step / LEAST_PRODUCTS_PER_BARRIER;
        if (workers > (double)divide_up(pass->units, strip_width))
            workers = (double)divide_up(pass->units, strip_width);
    }
    return (int)at_least(1, (ptrdiff_t)workers);
}

/* `passes` passes of about this size are one task. */
static inline void run_on_pool(int workers, pool_parts parts, int passes, const lstm_pass *pass,
                               pool_task task, void *argument)
{
    const double all = passes * products_of_a_step(pass) * (double)pass->steps;
    pool_run(workers, parts, all >= LEAST_PRODUCTS_TO_WAKE, task, argument);
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

#endif
