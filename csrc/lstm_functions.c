/* SPDX-License-Identifier: MIT
 * How many threads suit a pass of lstm.h, and the table of all its functions; compiled once for
 * each real type.
 */
#include "lstm_common.h"

static int forward_workers(const lstm_pass *pass)
{
    return workers_for(pass, width_of(pass->kernels));
}

static int backward_workers(const lstm_pass *pass)
{
    return workers_for(pass, ((const TYPED(kernels) *)pass->kernels)->nr);
}

/* Threads that share the units of a step wait for each other, and threads that share the rows do
 * not; weights that two caches hold together and one does not are better shared. */
static int prefers_company(const lstm_pass *pass)
{
    return !shares_rows(pass, 2) && weight_bytes(pass) <= SECOND_LEVEL_BYTES &&
           products_of_a_step(pass) * (double)pass->steps >= LEAST_PRODUCTS_PER_WORKER &&
           pool_threads() > 1;
}

const lstm_functions TYPED(lstm_functions) = {
    .forward_workers = forward_workers,
    .backward_workers = backward_workers,
    .forward_scratch_bytes = TYPED(lstm_forward_scratch_bytes),
    .backward_scratch_bytes = TYPED(lstm_backward_scratch_bytes),
    .run_forward = TYPED(lstm_run_forward),
    .run_forward_plain = TYPED(lstm_run_forward_plain),
    .run_backward = TYPED(lstm_run_backward),
    .prefers_company = prefers_company,
    .run_forward_pair = TYPED(lstm_run_forward_pair),
};
