/* SPDX-License-Identifier: MIT
 * What the passes of lstm.h share: rows and steps.
 */
#ifndef FASTLSTM_LSTM_COMMON_H
#define FASTLSTM_LSTM_COMMON_H

#include <string.h>

#include "layers/lstm.h"
#include "layers/schedule.h"
#include "layers/tiles.h"

/* In lstm_forward.c, lstm_unpacked.c and lstm_backward.c. */
size_t TYPED(lstm_forward_workspace_bytes)(const lstm_forward *f);
size_t TYPED(lstm_backward_workspace_bytes)(const lstm_backward *g);
void TYPED(lstm_run_forward)(lstm_forward *f);
void TYPED(lstm_run_forward_pair)(lstm_forward *const *passes);
void TYPED(lstm_run_forward_stack)(lstm_forward *const *passes, int count);
void TYPED(lstm_run_forward_unpacked)(lstm_forward *f);
void TYPED(lstm_run_backward)(lstm_backward *g);

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

/* What the caller wants of the states h and c of row b after a step, of which these are the units
 * `units`: the output, zero where it is not shown, and what the backward pass wants to see again.
 */
static inline void store_step(const lstm_forward *f, ptrdiff_t b, ptrdiff_t step, range units,
                              const real *h, const real *c)
{
    const lstm_pass *const pass = &f->pass;
    const ptrdiff_t out = (b * pass->steps + step) * pass->units + units.begin;
    const size_t bytes = (units.end - units.begin) * sizeof(real);
    if (f->y && is_set(pass->shown, pass, b, step))
        memcpy((real *)f->y + out, h, bytes);
    else if (f->y)
        memset((real *)f->y + out, 0, bytes);
    if (f->saved_h)
        memcpy((real *)f->saved_h + out, h, bytes);
    if (f->saved_c)
        memcpy((real *)f->saved_c + out, c, bytes);
}

#endif
