/* SPDX-License-Identifier: MIT
 * The forward pass of lstm.h; compiled once for each real type.
 *
 *     z = bias + x[s] kernel + h recurrent_kernel        summed in this order
 *     c, h = gates(z, c)                                 rows that the mask skips keep theirs
 *     y[s] = h, or zero where the output is not shown
 *
 * z never leaves the first-level cache: a tile of it, some rows by one strip (pack.h), goes from
 * the products straight to the gates. With many rows a step does both products. With few rows they
 * would read `kernel` for too little work: then x kernel is made for a block of steps at a time, in
 * whole tiles, and kept in second-level cache until its step comes.
 */
#include "base/cpu.h"
#include "layers/lstm_forward.h"

/* ---- buffers -------------------------------------------------------------------------------- */

size_t TYPED(lay_out_lstm_forward)(const lstm_forward *f, forward_buffers *buffers)
{
    const lstm_pass *const pass = &f->pass;
    const ptrdiff_t rows = pass->batch, width = width_of(pass->kernels);
    workspace memory = {pass->workspace, 0};
    buffers->z_width = divide_up(pass->units, width) * GATES * width;
    buffers->block =
        lstm_does_both_products(pass)
            ? 0
            : at_least(1, at_most(pass->steps, lstm_block_elements() / (rows * buffers->z_width)));
    buffers->state_width = divide_up(pass->units, MOST_WIDTH) * MOST_WIDTH;
    for (int i = 0; i < 2; i++)
        buffers->states[i] = take(&memory, rows * buffers->state_width, sizeof(real));
    buffers->projected = take(&memory, rows * buffers->block * buffers->z_width, sizeof(real));
    buffers->lists = take(&memory, pass->workers, sizeof(row_lists));
    for (int worker = 0; worker < pass->workers; worker++) {
        const size_t longest = rows * at_least(1, buffers->block);
        const row_lists lists = {
            take(&memory, longest, sizeof(row)), take(&memory, rows, sizeof(row)),
            take(&memory, longest, sizeof(row)), take(&memory, rows, sizeof(row)),
            take(&memory, rows, sizeof(row)),    take(&memory, rows, sizeof(row)),
        };
        if (buffers->lists)
            buffers->lists[worker] = lists;
    }
    return memory.used;
}

size_t TYPED(lstm_forward_workspace_bytes)(const lstm_forward *f)
{
    forward_buffers buffers;
    lstm_forward counted = *f;
    counted.pass.workspace = 0;
    return TYPED(lay_out_lstm_forward)(&counted, &buffers);
}

typedef struct {
    lstm_forward *f;
    const forward_buffers *buffers;
} forward_task;

/* What one worker does of it. */
typedef struct {
    const lstm_forward *f;
    const lstm_pass *pass;
    const forward_buffers *buffers;
    const TYPED(kernels) * kernels;
    TYPED(gates) gates;
    row_lists lists;
    int worker, workers_to_meet;
    range rows, strips, units;
    watcher watcher;
} forward_share;

/* ---- products ------------------------------------------------------------------------------- */

/* The packed weights of a strip. */
static const real *weights_of(const forward_share *my, const void *packed, ptrdiff_t depth,
                              ptrdiff_t strip)
{
    return (const real *)packed + strip * depth * GATES * my->kernels->width;
}

/* The units of a strip. */
static ptrdiff_t units_of(const forward_share *my, ptrdiff_t strip)
{
    const ptrdiff_t width = my->kernels->width;
    return at_most(width, my->pass->units - strip * width);
}

/* The columns of a tile of z: the gates of a strip, one behind the other, and the filling. */
static column_run tile_columns(const forward_share *my, ptrdiff_t strip)
{
    const ptrdiff_t width = my->kernels->width;
    return (column_run){0, divide_up(GATES * units_of(my, strip), width) * width};
}

static real *projected_row(const forward_share *my, ptrdiff_t b, ptrdiff_t first, ptrdiff_t step)
{
    return my->buffers->projected + (b * my->buffers->block + step - first) * my->buffers->z_width;
}

/* bias + x kernel for the valid rows of a block of steps. */
static void project(const forward_share *my, range steps)
{
    const row_lists *const lists = &my->lists;
    const ptrdiff_t strip_width = GATES * my->kernels->width;
    const ptrdiff_t depth = my->pass->features;
    ptrdiff_t count = 0;
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++)
        for (ptrdiff_t step = steps.begin; step < steps.end; step++) {
            if (!is_set(my->pass->valid, my->pass, b, step))
                continue;
            lists->x[count] = input_row(my->pass, b, step);
            lists->projected[count++] =
                projected_row(my, b, steps.begin, step) + my->strips.begin * strip_width;
        }
    const int tiles = tiles_of(my->kernels, count);
    for (ptrdiff_t strip = my->strips.begin; strip < my->strips.end; strip++) {
        const column_run columns = tile_columns(my, strip);
        const real *bias[MOST_MR];
        for (int r = 0; r < MOST_MR; r++)
            bias[r] = my->f->bias ? (const real *)my->f->bias + strip * strip_width : 0;
        for (int tile = 0; tile < tiles; tile++) {
            const range r = share(count, tile, tiles);
            const TYPED(gemm_term)
                term = {depth, lists->x + r.begin, weights_of(my, my->f->kernel, depth, strip)};
            my->kernels->gemm(r.end - r.begin, 1, &term, my->f->bias ? bias : 0,
                              lists->projected + r.begin, columns);
        }
        for (ptrdiff_t i = 0; i < count; i++)
            lists->projected[i] += strip_width;
        if (worker_stops(my->watcher, count * depth * strip_width))
            return;
    }
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* The rows that take part in a step; returns how many. */
static ptrdiff_t list_forward_step(const forward_share *my, ptrdiff_t first, ptrdiff_t step,
                                   real *before, real *after)
{
    const row_lists *const lists = &my->lists;
    const ptrdiff_t units = my->pass->units, width = my->buffers->state_width;
    ptrdiff_t count = 0;
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++) {
        if (!is_set(my->pass->valid, my->pass, b, step))
            continue;
        const ptrdiff_t place = b * my->pass->steps + place_of(my->pass, step);
        if (my->buffers->block)
            lists->projected[count] = projected_row(my, b, first, step);
        else
            lists->x[count] = input_row(my->pass, b, step);
        lists->h_before[count] = before + b * width;
        lists->h_after[count] = after + b * width;
        lists->c[count] = (real *)my->f->c + b * units;
        lists->gates[count] = my->f->gates ? (real *)my->f->gates + place * GATES * units : 0;
        count++;
    }
    return count;
}

/* A tile of z: some rows by one strip. */
typedef struct {
    range rows;
    ptrdiff_t strip;
    row z[MOST_MR];
    _Alignas(64) real values[MOST_MR][GATES * MOST_WIDTH];
} z_tile;

static void multiply_tile(const forward_share *my, z_tile *tile)
{
    const ptrdiff_t units = my->pass->units, features = my->pass->features;
    const ptrdiff_t first = tile->rows.begin, count = tile->rows.end - first;
    const ptrdiff_t offset = tile->strip * GATES * my->kernels->width;
    const column_run columns = tile_columns(my, tile->strip);
    const int done = my->buffers->block > 0; /* the first product, for a block of steps */
    const TYPED(gemm_term) terms[2] = {
        {features, my->lists.x + first, weights_of(my, my->f->kernel, features, tile->strip)},
        {units, my->lists.h_before + first,
         weights_of(my, my->f->recurrent_kernel, units, tile->strip)},
    };
    const real *start[MOST_MR];
    for (ptrdiff_t r = 0; r < count; r++) {
        tile->z[r] = tile->values[r];
        if (done)
            start[r] = my->lists.projected[first + r] + offset;
        else
            start[r] = my->f->bias ? (const real *)my->f->bias + offset : 0;
    }
    my->kernels->gemm(count, 2 - done, terms + done, start[0] ? start : 0, tile->z, columns);
}

static void activate_tile(const forward_share *my, z_tile *tile)
{
    const ptrdiff_t width = my->kernels->width, units = my->pass->units;
    const ptrdiff_t first = tile->strip * width;
    const ptrdiff_t count = units_of(my, tile->strip);
    const gate_shape shape = {tile->rows.end - tile->rows.begin, count, count, units};
    row kept[MOST_MR], c[MOST_MR], h[MOST_MR];
    real workspace[GATE_WORKSPACE_ROWS * MOST_WIDTH];
    for (ptrdiff_t r = 0; r < shape.strips; r++) {
        const ptrdiff_t i = tile->rows.begin + r;
        kept[r] = my->f->gates ? my->lists.gates[i] + first : 0;
        c[r] = my->lists.c[i] + first;
        h[r] = my->lists.h_after[i] + first;
    }
    my->gates.forward(&my->gates, shape, tile->z, my->f->gates ? kept : 0, c, h, workspace);
}

/* What other workers have just made of h is in their caches: all of its lines come at once, and not
 * one after the other when a product reaches them. Two threads are 1.75 times as fast as one on
 * three layers of 256 units, and would be 1.7 times. */
static void fetch_states(const forward_share *my, ptrdiff_t count)
{
    for (ptrdiff_t r = 0; r < count; r++)
        for (ptrdiff_t k = 0; k < my->pass->units; k += CACHE_LINE / (ptrdiff_t)sizeof(real))
            __builtin_prefetch(my->lists.h_before[r] + k);
}

/* One step of the rows in the lists, in this worker's strips: from the first to the last and back
 * in turn, so that a step begins with the weights that are still in cache from the one before. */
static void advance(const forward_share *my, ptrdiff_t step, ptrdiff_t count)
{
    const int tiles = tiles_of(my->kernels, count);
    const ptrdiff_t strips = my->strips.end - my->strips.begin;
    const ptrdiff_t depth = my->pass->units + (my->buffers->block ? 0 : my->pass->features);
    const ptrdiff_t work = my->kernels->width * (GATES * depth + WORK_OF_A_UNIT);
    z_tile tile;
    if (my->workers_to_meet > 1)
        fetch_states(my, count);
    for (ptrdiff_t i = 0; i < strips; i++) {
        tile.strip = step % 2 ? my->strips.end - 1 - i : my->strips.begin + i;
        for (int number = 0; number < tiles; number++) {
            tile.rows = share(count, number, tiles);
            multiply_tile(my, &tile);
            activate_tile(my, &tile);
        }
        if (worker_stops(my->watcher, WORK_OF_A_STEP + count * work))
            return;
    }
}

/* Rows that the step skips carry their h over to the buffer of the next; then all of this worker's
 * go where the caller wants them. */
static void finish_step(const forward_share *my, ptrdiff_t step, const real *before, real *after)
{
    const lstm_pass *const pass = my->pass;
    const ptrdiff_t begin = my->units.begin;
    const size_t bytes = (my->units.end - begin) * sizeof(real);
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++) {
        const ptrdiff_t state = b * my->buffers->state_width + begin;
        if (!is_set(pass->valid, pass, b, step))
            memcpy(after + state, before + state, bytes);
        store_step(my->f, b, step, my->units, after + state,
                   (real *)my->f->c + b * pass->units + begin);
    }
}

/* Copies this worker's part of h between the caller's array and a buffer of states. */
static void copy_states(const forward_share *my, real *states, int into_states)
{
    const size_t bytes = (my->units.end - my->units.begin) * sizeof(real);
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++) {
        real *const state = states + b * my->buffers->state_width + my->units.begin;
        real *const h = (real *)my->f->h + b * my->pass->units + my->units.begin;
        memcpy(into_states ? state : h, into_states ? h : state, bytes);
    }
}

static forward_share share_of(const forward_task *task, int worker, int workers)
{
    const lstm_pass *const pass = &task->f->pass;
    const TYPED(kernels) *const kernels = pass->kernels;
    const ptrdiff_t width = kernels->width, strips = divide_up(pass->units, width);
    const int by_rows = lstm_shares_rows(pass, workers);
    forward_share my = {.f = task->f,
                        .pass = pass,
                        .buffers = task->buffers,
                        .kernels = kernels,
                        .worker = worker,
                        .workers_to_meet = by_rows ? 1 : workers,
                        .watcher = watcher_of(pass->watch)};
    my.gates = TYPED(select_gates)(kernels, pass->activation, pass->recurrent_activation);
    my.lists = task->buffers->lists[worker];
    my.rows = by_rows ? share(pass->batch, worker, workers) : (range){0, pass->batch};
    my.strips = by_rows ? (range){0, strips} : share(strips, worker, workers);
    my.units = (range){at_most(pass->units, my.strips.begin * width),
                       at_most(pass->units, my.strips.end * width)};
    return my;
}

/* Where the workers meet: whether this one goes on, be it alone. */
static int goes_on_forward(const forward_task *task, forward_share *my)
{
    const next_step next =
        meet(my->pass->watch, &task->f->pass.barrier, my->worker, my->workers_to_meet);
    if (next == GO_ON_ALONE)
        *my = share_of(task, 0, 1);
    return next != LEAVE;
}

/* A step on the states that the one before has left in its buffer. */
static void run_step(const forward_share *my, ptrdiff_t step)
{
    const ptrdiff_t block = my->buffers->block, first = block ? step - step % block : step;
    real *const before = my->buffers->states[step % 2];
    real *const after = my->buffers->states[(step + 1) % 2];
    if (block && step == first)
        project(my, (range){first, at_most(my->pass->steps, first + block)});
    advance(my, step, list_forward_step(my, first, step, before, after));
    finish_step(my, step, before, after);
}

static void run_share(const forward_task *task, int worker, int workers)
{
    forward_share my = share_of(task, worker, workers);
    const ptrdiff_t steps = my.pass->steps;
    copy_states(&my, my.buffers->states[0], 1);
    if (!goes_on_forward(task, &my))
        return;
    for (ptrdiff_t step = 0; step < steps; step++) {
        run_step(&my, step);
        if (!goes_on_forward(task, &my))
            return;
    }
    copy_states(&my, my.buffers->states[steps % 2], 0);
}

int TYPED(lstm_run_forward_steps)(lstm_forward *f, const forward_buffers *buffers, range steps)
{
    const forward_task task = {f, buffers};
    const forward_share my = share_of(&task, 0, 1);
    if (steps.begin == 0)
        copy_states(&my, my.buffers->states[0], 1);
    for (ptrdiff_t step = steps.begin; step < steps.end; step++) {
        run_step(&my, step);
        if (is_stopped(my.pass->watch))
            return 0;
    }
    if (steps.end == my.pass->steps)
        copy_states(&my, my.buffers->states[steps.end % 2], 0);
    return 1;
}

static void lstm_forward_worker(void *argument, int worker, int workers)
{
    const fp_mode mode = flush_denormals();
    run_share(argument, worker, workers);
    restore_denormals(mode);
}

void TYPED(lstm_run_forward)(lstm_forward *f)
{
    forward_buffers buffers;
    TYPED(lay_out_lstm_forward)(f, &buffers);
    forward_task task = {f, &buffers};
    const pool_parts parts =
        lstm_shares_rows(&f->pass, f->pass.workers) ? PARTS_ALONE : PARTS_TOGETHER;
    run_pass(f->pass.watch, f->pass.workers, parts, lstm_wakes(&f->pass, 1), lstm_forward_worker,
             &task);
}
