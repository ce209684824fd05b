/* SPDX-License-Identifier: MIT
 * How many threads suit a pass of lstm.h, and the table of all its functions; compiled once for
 * each real type.
 */
#include "layers/lstm_common.h"

static int forward_workers(const lstm_pass *pass)
{
    return lstm_workers(pass, width_of(pass->kernels));
}

static int backward_workers(const lstm_pass *pass)
{
    return lstm_workers(pass, ((const TYPED(kernels) *)pass->kernels)->nr);
}

static void store_whole_step(const lstm_forward *f, ptrdiff_t b, ptrdiff_t step, const void *h,
                             const void *c)
{
    store_step(f, b, step, (range){0, f->pass.units}, h, c);
}

const lstm_functions TYPED(lstm_functions) = {
    .wants_packed = lstm_wants_packed,
    .forward_workers = forward_workers,
    .backward_workers = backward_workers,
    .forward_workspace_bytes = TYPED(lstm_forward_workspace_bytes),
    .backward_workspace_bytes = TYPED(lstm_backward_workspace_bytes),
    .run_forward = TYPED(lstm_run_forward),
    .run_forward_unpacked = TYPED(lstm_run_forward_unpacked),
    .store_step = store_whole_step,
    .run_backward = TYPED(lstm_run_backward),
    .prefers_company = lstm_prefers_company,
    .run_forward_pair = TYPED(lstm_run_forward_pair),
    .prefers_wavefront = lstm_prefers_wavefront,
    .run_forward_stack = TYPED(lstm_run_forward_stack),
};
