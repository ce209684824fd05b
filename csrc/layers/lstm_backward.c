/* SPDX-License-Identifier: MIT
 * The backward pass of lstm.h; compiled once for each real type.
 *
 *     dh += dy[s] where the output was shown
 *     dz, dc = gates_backward(...)             for the rows that count
 *     dh = dz recurrent_kernel'                the others keep theirs
 * from the last step to the first, and after each block of steps, while it is in cache,
 *     dx = dz kernel'      dkernel += x' dz      drecurrent_kernel += h[s-1]' dz      dbias += dz
 * Each weight gradient is summed by one worker, from the last step to the first and in each step
 * by row, so that the sums do not depend on the number of workers; in stretches of rows, each from
 * zero, since one long running sum loses what is small beside it.
 */
#include "base/cpu.h"
#include "layers/lstm_common.h"

/* The valid rows of a block, in the order in which weight gradients are summed: from the last step
 * to the first, in each by row. */
typedef struct {
    const_row *x, *h_before, *dz;
    row *dx;
    const_row *gates, *c_before, *c_after, *dh;
    row *dc, *dz_out, *dh_out;
} backward_lists;

typedef struct {
    ptrdiff_t block;
    real *dz;      /* (B, block, 4H) */
    real *inputs;  /* x and h of a block's rows, as pack_tiles leaves them */
    real **panels; /* for each worker a micro-panel (rows of a block, NR) of dz */
    real **gate_workspaces;
    backward_lists *lists;
} lstm_backward_buffers;

static size_t lay_out_lstm_backward(const lstm_backward *g, lstm_backward_buffers *buffers)
{
    const lstm_pass *const pass = &g->pass;
    const ptrdiff_t rows = pass->batch, width = GATES * pass->units;
    const ptrdiff_t nr = ((const TYPED(kernels) *)pass->kernels)->nr;
    workspace memory = {pass->workspace, 0};
    buffers->block =
        at_least(1, at_most(pass->steps, lstm_backward_rows(pass) / at_least(1, rows)));
    const size_t longest = rows * buffers->block;
    buffers->dz = take(&memory, longest * width, sizeof(real));
    buffers->inputs = take(&memory, longest * (pass->features + pass->units), sizeof(real));
    buffers->panels = take(&memory, pass->workers, sizeof(real *));
    buffers->gate_workspaces = take(&memory, pass->workers, sizeof(real *));
    buffers->lists = take(&memory, pass->workers, sizeof(backward_lists));
    for (int worker = 0; worker < pass->workers; worker++) {
        real *const panel = take(&memory, longest * nr, sizeof(real));
        real *const gates = take(&memory, GATE_WORKSPACE_ROWS * pass->units, sizeof(real));
        const backward_lists lists = {
            take(&memory, longest, sizeof(row)), take(&memory, longest, sizeof(row)),
            take(&memory, longest, sizeof(row)), take(&memory, longest, sizeof(row)),
            take(&memory, rows, sizeof(row)),    take(&memory, rows, sizeof(row)),
            take(&memory, rows, sizeof(row)),    take(&memory, rows, sizeof(row)),
            take(&memory, rows, sizeof(row)),    take(&memory, rows, sizeof(row)),
            take(&memory, rows, sizeof(row)),
        };
        if (buffers->lists) {
            buffers->panels[worker] = panel;
            buffers->gate_workspaces[worker] = gates;
            buffers->lists[worker] = lists;
        }
    }
    return memory.used;
}

size_t TYPED(lstm_backward_workspace_bytes)(const lstm_backward *g)
{
    lstm_backward_buffers buffers;
    lstm_backward counted = *g;
    counted.pass.workspace = 0;
    return lay_out_lstm_backward(&counted, &buffers);
}

typedef struct {
    lstm_backward *g;
    const lstm_backward_buffers *buffers;
} lstm_backward_task;

typedef struct {
    const lstm_backward *g;
    const lstm_backward_buffers *buffers;
    const TYPED(kernels) * kernels;
    TYPED(gates) gates;
    backward_lists lists;
    real *panel, *gate_workspace;
    int worker, workers, by_rows;
    watcher watcher;
    range rows;    /* of the batch, in the loop over time */
    range units;   /* of dh, in whole micro-panels */
    range columns; /* of dz, in micro-panels, for the weight gradients */
} lstm_backward_share;

static real *dz_row(const lstm_backward_share *my, ptrdiff_t b, ptrdiff_t first, ptrdiff_t step)
{
    return my->buffers->dz + (b * my->buffers->block + step - first) * GATES * my->g->pass.units;
}

/* (b, step) of an array (B, T, H) in step order; before the first step the initial state. */
static const real *state_row(const lstm_pass *pass, const void *states, const void *initial,
                             ptrdiff_t b, ptrdiff_t step)
{
    return step < 0 ? (const real *)initial + b * pass->units
                    : (const real *)states + (b * pass->steps + step) * pass->units;
}

/* dh += dy for this worker's units where the output was shown. */
static void add_output_gradient(const lstm_backward_share *my, ptrdiff_t step)
{
    const lstm_pass *const pass = &my->g->pass;
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++) {
        if (!is_set(pass->shown, pass, b, step))
            continue;
        const real *const dy = (const real *)my->g->dy + (b * pass->steps + step) * pass->units;
        real *const dh = (real *)my->g->dh + b * pass->units;
        for (ptrdiff_t j = my->units.begin; j < my->units.end; j++)
            dh[j] += dy[j];
    }
}

/* The rows that take part in a step; returns how many. What the gates work on begins at this
 * worker's units. */
static ptrdiff_t list_backward_step(const lstm_backward_share *my, ptrdiff_t first, ptrdiff_t step)
{
    const lstm_backward *const g = my->g;
    const lstm_pass *const pass = &g->pass;
    const backward_lists *const lists = &my->lists;
    const ptrdiff_t units = pass->units, begin = my->units.begin;
    ptrdiff_t count = 0;
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++) {
        if (!is_set(pass->valid, pass, b, step))
            continue;
        const ptrdiff_t place = b * pass->steps + place_of(pass, step);
        real *const dz = dz_row(my, b, first, step), *const dh = (real *)g->dh + b * units;
        lists->gates[count] = (const real *)g->gates + place * GATES * units + begin;
        lists->c_before[count] = state_row(pass, g->saved_c, g->c0, b, step - 1) + begin;
        lists->c_after[count] = state_row(pass, g->saved_c, g->c0, b, step) + begin;
        lists->dh[count] = dh + begin;
        lists->dc[count] = (real *)g->dc + b * units + begin;
        lists->dz_out[count] = dz + begin;
        lists->dz[count] = dz;
        lists->dh_out[count++] = dh;
    }
    return count;
}

/* Half a step back: dz from dh and dc for this worker's units; returns how many rows take part. */
static ptrdiff_t step_back_gates(const lstm_backward_share *my, ptrdiff_t first, ptrdiff_t step)
{
    const ptrdiff_t units = my->g->pass.units;
    const backward_lists *const lists = &my->lists;
    if (my->g->dy)
        add_output_gradient(my, step);
    const ptrdiff_t count = list_backward_step(my, first, step);
    const gate_shape shape = {count, my->units.end - my->units.begin, units, units};
    if (!is_stopped(my->g->pass.watch))
        my->gates.backward(&my->gates, shape, lists->gates, lists->c_before, lists->c_after,
                           lists->dh, lists->dc, lists->dz_out, my->gate_workspace);
    return count;
}

/* The other half: dh = dz recurrent_kernel' for this worker's units of the rows. */
static void step_back_states(const lstm_backward_share *my, ptrdiff_t count)
{
    const backward_lists *const lists = &my->lists;
    const ptrdiff_t depth = GATES * my->g->pass.units;
    const column_run columns = {my->units.begin, my->units.end - my->units.begin};
    gemm_rows(my->kernels, count, depth, lists->dz,
              (const real *)my->g->recurrent_kernel + columns.first * depth, 0, lists->dh_out,
              columns, my->watcher);
    worker_stops(my->watcher, WORK_OF_A_STEP + count * columns.count * WORK_OF_A_UNIT);
}

/* All valid rows of a block, those of other workers too; returns how many. */
static ptrdiff_t list_backward_block(const lstm_backward_share *my, range steps)
{
    const lstm_backward *const g = my->g;
    const lstm_pass *const pass = &g->pass;
    const backward_lists *const lists = &my->lists;
    ptrdiff_t count = 0;
    for (ptrdiff_t step = steps.end - 1; step >= steps.begin; step--)
        for (ptrdiff_t b = 0; b < pass->batch; b++) {
            const ptrdiff_t place = (b * pass->steps + place_of(pass, step)) * pass->features;
            if (!is_set(pass->valid, pass, b, step))
                continue;
            lists->x[count] = (const real *)pass->x + place;
            lists->dx[count] = g->dx ? (real *)g->dx + place : 0;
            lists->h_before[count] = state_row(pass, g->saved_h, g->h0, b, step - 1);
            lists->dz[count++] = dz_row(my, b, steps.begin, step);
        }
    return count;
}

/* dx = dz kernel' for this worker's part of a block's rows. */
static void lstm_input_gradient(const lstm_backward_share *my, range rows)
{
    const lstm_pass *const pass = &my->g->pass;
    const column_run columns = {0, pass->features};
    gemm_rows(my->kernels, rows.end - rows.begin, GATES * pass->units, my->lists.dz + rows.begin,
              my->g->kernel, 0, my->lists.dx + rows.begin, columns, my->watcher);
}

static void pack_inputs(const lstm_backward_share *my, ptrdiff_t rows)
{
    const lstm_pass *const pass = &my->g->pass;
    real *const inputs = my->buffers->inputs;
    const struct {
        ptrdiff_t columns;
        const const_row *rows;
        real *packed;
    } both[] = {{pass->features, my->lists.x, inputs},
                {pass->units, my->lists.h_before, inputs + pass->features * rows}};
    for (int i = 0; i < 2; i++) {
        const range mine = share(tiles_of(my->kernels, both[i].columns), my->worker, my->workers);
        pack_tiles(my->kernels, both[i].columns, mine, rows, both[i].rows, both[i].packed);
    }
}

/* The weight gradients of a block's rows in this worker's columns. */
static void add_lstm_weight_gradients(const lstm_backward_share *my, ptrdiff_t rows, int fresh)
{
    const lstm_backward *const g = my->g;
    const lstm_pass *const pass = &g->pass;
    const ptrdiff_t nr = my->kernels->nr, total = GATES * pass->units;
    const real *const x = my->buffers->inputs, *const h = x + pass->features * rows;
    const range of_x = {0, tiles_of(my->kernels, pass->features)};
    const range of_h = {0, tiles_of(my->kernels, pass->units)};
    for (ptrdiff_t column = my->columns.begin; column < my->columns.end; column++) {
        const ptrdiff_t first = column * nr, count = at_most(nr, total - first);
        copy_panel(my->kernels, rows, my->lists.dz, first, count, my->panel);
        gemm_at_rows(my->kernels, pass->features, of_x, rows, x, count, my->panel, fresh,
                     (real *)g->dkernel + first, total);
        gemm_at_rows(my->kernels, pass->units, of_h, rows, h, count, my->panel, fresh,
                     (real *)g->drecurrent_kernel + first, total);
        add_panel_rows(my->kernels, rows, count, my->panel, fresh, (real *)g->dbias + first);
        if (worker_stops(my->watcher, rows * count * (pass->features + pass->units)))
            return;
    }
}

static lstm_backward_share lstm_backward_share_of(const lstm_backward_task *task, int worker,
                                                  int workers)
{
    const lstm_pass *const pass = &task->g->pass;
    const TYPED(kernels) *const kernels = pass->kernels;
    const ptrdiff_t nr = kernels->nr, units = pass->units;
    const ptrdiff_t panels = divide_up(units, nr);
    const int by_rows = lstm_shares_rows(pass, workers);
    const range mine = by_rows ? (range){0, panels} : share(panels, worker, workers);
    return (lstm_backward_share){
        .g = task->g,
        .buffers = task->buffers,
        .kernels = kernels,
        .gates = TYPED(select_gates)(kernels, pass->activation, pass->recurrent_activation),
        .lists = task->buffers->lists[worker],
        .panel = task->buffers->panels[worker],
        .gate_workspace = task->buffers->gate_workspaces[worker],
        .worker = worker,
        .workers = workers,
        .by_rows = by_rows,
        .watcher = watcher_of(pass->watch),
        .rows = by_rows ? share(pass->batch, worker, workers) : (range){0, pass->batch},
        .units = {at_most(units, mine.begin * nr), at_most(units, mine.end * nr)},
        .columns = share(divide_up(GATES * units, nr), worker, workers),
    };
}

/* Where the workers meet: whether this one goes on, be it alone. */
static int lstm_goes_on_back(const lstm_backward_task *task, lstm_backward_share *my)
{
    const next_step next = meet(my->g->pass.watch, &task->g->pass.barrier, my->worker, my->workers);
    if (next == GO_ON_ALONE)
        *my = lstm_backward_share_of(task, 0, 1);
    return next != LEAVE;
}

static void run_backward_share(const lstm_backward_task *task, int worker, int workers)
{
    lstm_backward *const g = task->g;
    lstm_backward_share my = lstm_backward_share_of(task, worker, workers);
    int fresh = 1;
    const ptrdiff_t blocks = divide_up(g->pass.steps, task->buffers->block);
    for (ptrdiff_t block = blocks - 1; block >= 0; block--) {
        const ptrdiff_t first = block * task->buffers->block;
        const range steps = {first, at_most(g->pass.steps, first + task->buffers->block)};
        for (ptrdiff_t step = steps.end - 1; step >= steps.begin; step--) {
            const ptrdiff_t count = step_back_gates(&my, first, step);
            if (!my.by_rows && !lstm_goes_on_back(task, &my))
                return;
            step_back_states(&my, count);
        }
        const ptrdiff_t rows = list_backward_block(&my, steps);
        pack_inputs(&my, rows);
        if (!lstm_goes_on_back(task, &my))
            return;
        if (g->dx)
            lstm_input_gradient(&my, share(rows, my.worker, my.workers));
        if (rows > 0 || (fresh && block == 0)) {
            add_lstm_weight_gradients(&my, rows, fresh);
            fresh = 0;
        }
        if (!lstm_goes_on_back(task, &my))
            return;
    }
}

static void lstm_backward_worker(void *argument, int worker, int workers)
{
    const fp_mode mode = flush_denormals();
    run_backward_share(argument, worker, workers);
    restore_denormals(mode);
}

void TYPED(lstm_run_backward)(lstm_backward *g)
{
    lstm_backward_buffers buffers;
    lay_out_lstm_backward(g, &buffers);
    lstm_backward_task task = {g, &buffers};
    run_pass(g->pass.watch, g->pass.workers, PARTS_TOGETHER, lstm_wakes(&g->pass, 1),
             lstm_backward_worker, &task);
}
