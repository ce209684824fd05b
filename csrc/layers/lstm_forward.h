/* SPDX-License-Identifier: MIT
 * The forward pass of lstm_forward.c, some steps at a time, for those that run several.
 */
#ifndef FASTLSTM_LSTM_FORWARD_H
#define FASTLSTM_LSTM_FORWARD_H

#include "layers/lstm_common.h"

/* One worker's lists of rows. */
typedef struct {
    const_row *x, *h_before;
    row *projected, *h_after, *c, *gates;
} row_lists;

typedef struct {
    ptrdiff_t block;       /* steps projected at a time; 0: none, a step does both products */
    ptrdiff_t state_width; /* units, padded to whole cache lines */
    ptrdiff_t z_width;     /* the strips of a row side by side */
    real *states[2];       /* (B, state_width): h before and after a step, in turn */
    real *projected;       /* (B, block, z_width): bias + x kernel */
    row_lists *lists;
} forward_buffers;

/* Lays them out in pass->workspace; returns how many bytes they take. Shorter blocks fit into the
 * same memory. */
size_t TYPED(lay_out_lstm_forward)(const lstm_forward *f, forward_buffers *buffers);

/* Does all of these steps, after those before them: as many as to the end, or some blocks. Returns
 * whether the pass goes on. */
int TYPED(lstm_run_forward_steps)(lstm_forward *f, const forward_buffers *buffers, range steps);

#endif
