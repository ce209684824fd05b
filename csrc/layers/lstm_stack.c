/* SPDX-License-Identifier: MIT
 * Forward passes of lstm.h side by side, each by one thread: two of which neither needs the other,
 * and a stack of them, where each has the outputs of the one before; compiled once for each real
 * type.
 */
#include "base/cpu.h"
#include "base/wavefront.h"
#include "layers/lstm_forward.h"

typedef struct {
    lstm_forward *f;
    forward_buffers buffers;
} forward_work;

/* ---- two ------------------------------------------------------------------------------------ */

static void pair_worker(void *argument, int worker, int workers)
{
    const forward_work *const both = argument;
    const fp_mode mode = flush_denormals();
    for (int i = worker; i < 2; i += workers)
        TYPED(lstm_run_forward_steps)(both[i].f, &both[i].buffers,
                                      (range){0, both[i].f->pass.steps});
    restore_denormals(mode);
}

void TYPED(lstm_run_forward_pair)(lstm_forward *const *passes)
{
    forward_work both[2];
    for (int i = 0; i < 2; i++) {
        both[i].f = passes[i];
        TYPED(lay_out_lstm_forward)(passes[i], &both[i].buffers);
    }
    run_pass(passes[0]->pass.watch, 2, PARTS_ALONE, lstm_wakes(&passes[0]->pass, 2), pair_worker,
             both);
}

/* ---- a stack -------------------------------------------------------------------------------- */

typedef struct {
    forward_work passes[WAVEFRONT_MOST_ROWS];
    ptrdiff_t block; /* steps of a pass that are done at a time */
} forward_stack;

static int run_forward_block(void *argument, int number, int block)
{
    const forward_stack *const stack = argument;
    const forward_work *const my = &stack->passes[number];
    const ptrdiff_t begin = block * stack->block;
    const range steps = {begin, at_most(my->f->pass.steps, begin + stack->block)};
    return TYPED(lstm_run_forward_steps)(my->f, &my->buffers, steps);
}

static void stack_worker(void *argument, int worker, int workers)
{
    (void)workers;
    const fp_mode mode = flush_denormals();
    wavefront_work(argument, worker);
    restore_denormals(mode);
}

void TYPED(lstm_run_forward_stack)(lstm_forward *const *passes, int count)
{
    const lstm_pass *const first = &passes[0]->pass;
    forward_stack stack = {.block = lstm_stack_block(first)};
    for (int i = 0; i < count; i++) {
        forward_work *const work = &stack.passes[i];
        work->f = passes[i];
        TYPED(lay_out_lstm_forward)(passes[i], &work->buffers);
        if (work->buffers.block)
            stack.block = at_most(stack.block, work->buffers.block);
    }
    for (int i = 0; i < count; i++)
        stack.passes[i].buffers.block = at_most(stack.passes[i].buffers.block, stack.block);
    wavefront all = {.rows = count,
                     .blocks = (int)divide_up(first->steps, stack.block),
                     .run = run_forward_block,
                     .argument = &stack};
    run_pass(first->watch, count, PARTS_ALONE, lstm_wakes(first, count), stack_worker, &all);
}
