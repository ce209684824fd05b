/* SPDX-License-Identifier: MIT
 * The LSTM over time on packed weights: a forward and a backward pass, shared out over the pool.
 *
 * Letters as everywhere: B batch, T steps, F features, H units; rows are in C order. Steps s count
 * in the order done, places t in the order of x; t = T-1-s going backwards. Arrays marked "step"
 * are in step order, "place" in the order of x.
 *
 * One struct serves both real types: `void *` is float in the functions for f32, double in f64.
 * Nothing is allocated here: `workspace` is memory of at least *_workspace_bytes(pass), aligned
 * to 64.
 */
#ifndef FASTLSTM_LSTM_H
#define FASTLSTM_LSTM_H

#include <stddef.h>

#include "base/pool.h"
#include "base/watch.h"

/* What both passes know. */
typedef struct {
    const void *kernels; /* the table of kernels.h */
    int activation, recurrent_activation;
    int workers; /* how many threads, from lstm_functions.*_workers */
    int go_backwards;
    ptrdiff_t batch, steps, features, units;
    const unsigned char *valid; /* (B, T) step, or NULL: steps that count */
    const unsigned char *shown; /* (B, T) step, or NULL: outputs that are states */
    const void *x;              /* (B, T, F) place */
    void *workspace;
    pass_watch *watch; /* or NULL */
    barrier barrier;
} lstm_pass;

typedef struct {
    lstm_pass pass;
    const void *kernel, *recurrent_kernel; /* packed by gates: packing_functions.groups */
    const void *bias;                      /* the same, of depth 1, or NULL */
    void *h, *c;                           /* (B, H) IN initial, OUT final states */
    void *y;                               /* (B, T, H) step OUT, or NULL */
    void *gates;   /* (B, T, 4H) place OUT, or NULL: what the backward pass wants to see again */
    void *saved_c; /* (B, T, H) step OUT, or NULL */
    void *saved_h; /* (B, T, H) step OUT, or NULL */
} lstm_forward;

typedef struct {
    lstm_pass pass;
    const void *kernel, *recurrent_kernel; /* packed transposed */
    const void *gates, *saved_c, *saved_h; /* as the forward pass left them */
    const void *h0, *c0;                   /* (B, H) */
    const void *dy;                        /* (B, T, H) step, or NULL */
    void *dh, *dc; /* (B, H) IN gradients of the final, OUT of the initial states */
    void *dx;      /* (B, T, F) place OUT where a step counts, or NULL */
    void *dkernel, *drecurrent_kernel, *dbias; /* (F, 4H), (H, 4H), (4H) OUT */
} lstm_backward;

/* The functions of one real type. */
typedef struct {
    /* Whether a forward pass is worth packing for, if the weights have served `rows` rows, each of
     * a step, so far. */
    int (*wants_packed)(double rows);
    /* How many threads suit a pass. */
    int (*forward_workers)(const lstm_pass *pass);
    int (*backward_workers)(const lstm_pass *pass);
    size_t (*forward_workspace_bytes)(const lstm_forward *pass);
    size_t (*backward_workspace_bytes)(const lstm_backward *pass);
    void (*run_forward)(lstm_forward *pass);
    /* The same on plain weights (F, 4H), (H, 4H), (4H), for so few rows that packing would take
     * longer. workspace: 4H elements. */
    void (*run_forward_unpacked)(lstm_forward *pass);
    /* For a loop over time of the caller's own: puts the states h and c (H) of row b after a step
     * into y, zero where it is not shown, saved_h and saved_c, those that are not NULL. h and c may
     * be rows of pass->h and pass->c, but not overlap what is written. A row that the step skips
     * has the states that it had. */
    void (*store_step)(const lstm_forward *pass, ptrdiff_t b, ptrdiff_t step, const void *h,
                       const void *c);
    void (*run_backward)(lstm_backward *pass);
    /* Whether two passes like this one had better run side by side, each by a thread of its own,
     * than one after the other, each by all; and to do it, with one worker for each. */
    int (*prefers_company)(const lstm_pass *pass);
    void (*run_forward_pair)(lstm_forward *const *passes);
    /* Whether `count` passes, each on the outputs of the one before, had better run side by side,
     * each some steps behind the one before, than one after the other; and to do it, for 2 to
     * WAVEFRONT_MOST_ROWS of one batch and as many steps, each with one worker and a workspace of
     * its own: from the second on, x is the y of the one before, and none goes backwards. They have
     * the watch of the first. */
    int (*prefers_wavefront)(lstm_forward *const *passes, int count);
    void (*run_forward_stack)(lstm_forward *const *passes, int count);
} lstm_functions;

extern const lstm_functions lstm_functions_f32, lstm_functions_f64;

#endif
