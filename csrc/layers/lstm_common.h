/* SPDX-License-Identifier: MIT
 * What the two passes of lstm.h share: rows and steps.
 */
#ifndef FASTLSTM_LSTM_COMMON_H
#define FASTLSTM_LSTM_COMMON_H

#include <string.h>

#include "layers/lstm.h"
#include "layers/schedule.h"
#include "layers/tiles.h"

/* In lstm_forward.c and lstm_backward.c. */
size_t TYPED(lstm_forward_workspace_bytes)(const lstm_forward *f);
size_t TYPED(lstm_backward_workspace_bytes)(const lstm_backward *g);
void TYPED(lstm_run_forward)(lstm_forward *f);
void TYPED(lstm_run_forward_pair)(lstm_forward *const *passes);
void TYPED(lstm_run_forward_plain)(lstm_forward *f);
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

#endif
