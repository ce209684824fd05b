/* SPDX-License-Identifier: MIT
 * The backward pass of dense.h; compiled once for each real type.
 *
 *     dz = dy f'(z)      dx = dz kernel'      dkernel = x' dz      dbias = sum over rows of dz
 *
 * Some rows at a time, so that dz is in cache for the products. Each weight gradient is one sum in
 * the order of the rows, block by block, so it does not depend on the number of workers.
 */
#include "base/cpu.h"
#include "layers/dense_common.h"

/* A block's weight gradient is a product of two matrices of so many columns: one is packed in tiles
 * of its columns, the other in micro-panels. */
typedef struct {
    ptrdiff_t tiled, panelled;
} gradient_shape;

typedef struct {
    ptrdiff_t block; /* rows */
    int swapped;     /* dkernel' = dz' x, dz in tiles, instead of dkernel = x' dz, x in tiles */
    gradient_shape shape; /* F, U or, swapped, U, F */
    real *dz;             /* (block, U), or NULL where dy is dz */
    real *tiles;          /* one factor of a block's weight gradient, as pack_tiles leaves it */
    real **panels;        /* for each worker a micro-panel (block, NR) of the other */
    real *transposed;     /* dkernel' (U, F) if swapped */
} dense_backward_buffers;

static gradient_shape shape_of(const dense_pass *pass, int swapped)
{
    return swapped ? (gradient_shape){pass->units, pass->features}
                   : (gradient_shape){pass->features, pass->units};
}

/* Elements of the weight gradient with what fills its last micro-panel up. */
static ptrdiff_t padded_size(gradient_shape shape, ptrdiff_t nr)
{
    return divide_up(shape.panelled, nr) * nr * shape.tiled;
}

static size_t lay_out_dense_backward(const dense_backward *g, dense_backward_buffers *buffers)
{
    const dense_pass *const pass = &g->pass;
    const ptrdiff_t nr = ((const TYPED(kernels) *)pass->kernels)->nr;
    workspace memory = {pass->workspace, 0};
    buffers->block = dense_backward_rows(pass);
    buffers->swapped = dense_turns_gradient(padded_size(shape_of(pass, 1), nr),
                                            padded_size(shape_of(pass, 0), nr));
    buffers->shape = shape_of(pass, buffers->swapped);
    buffers->dz = pass->activation == ACTIVATION_LINEAR
                      ? 0
                      : take(&memory, buffers->block * pass->units, sizeof(real));
    buffers->tiles = take(&memory, buffers->block * buffers->shape.tiled, sizeof(real));
    buffers->transposed =
        take(&memory, buffers->swapped ? pass->units * pass->features : 0, sizeof(real));
    buffers->panels = take(&memory, pass->workers, sizeof(real *));
    for (int worker = 0; worker < pass->workers; worker++) {
        real *const panel = take(&memory, buffers->block * nr, sizeof(real));
        if (buffers->panels)
            buffers->panels[worker] = panel;
    }
    return memory.used;
}

size_t TYPED(dense_backward_workspace_bytes)(const dense_backward *g)
{
    dense_backward_buffers buffers;
    dense_backward counted = *g;
    counted.pass.workspace = 0;
    return lay_out_dense_backward(&counted, &buffers);
}

typedef struct {
    dense_backward *g;
    const dense_backward_buffers *buffers;
} dense_backward_task;

typedef struct {
    const dense_backward *g;
    const dense_backward_buffers *buffers;
    const TYPED(kernels) * kernels;
    real *panel;
    int worker, workers;
    watcher watcher;
    range panels, tiles; /* of the weight gradient */
    range packed_tiles;
    const_row x[MOST_BACKWARD_ROWS], dz[MOST_BACKWARD_ROWS]; /* of a block */
    row dx[MOST_BACKWARD_ROWS];
} dense_backward_share;

/* dz for some rows of the block that begins with row `first`. */
static void activation_gradient(const dense_backward_share *my, ptrdiff_t first, range rows)
{
    const dense_backward *const g = my->g;
    const ptrdiff_t units = g->pass.units, at = (first + rows.begin) * units;
    const real *const dy = (const real *)g->dy + at, *const y = (const real *)g->y + at;
    real *const dz = my->buffers->dz + rows.begin * units;
    if (g->pass.activation == ACTIVATION_LINEAR)
        return;
    if (g->pass.activation == ACTIVATION_COUNT) {
        my->kernels->softmax_backward(rows.end - rows.begin, units, y, dy, dz);
        return;
    }
    const TYPED(activation) *const f = &my->kernels->activations[g->pass.activation];
    const ptrdiff_t count = (rows.end - rows.begin) * units;
    if (f->backward_from_output)
        f->backward_from_output(count, y, dy, dz);
    else
        f->backward(count, (const real *)g->z + at, dy, dz);
}

static void list_dense_block(dense_backward_share *my, range block)
{
    const dense_backward *const g = my->g;
    const ptrdiff_t features = g->pass.features, units = g->pass.units;
    for (ptrdiff_t r = block.begin, i = 0; r < block.end; r++, i++) {
        my->x[i] = (const real *)g->pass.x + r * features;
        my->dx[i] = g->dx ? (real *)g->dx + r * features : 0;
        my->dz[i] = my->buffers->dz ? my->buffers->dz + i * units : (const real *)g->dy + r * units;
    }
}

/* dx = dz kernel' for this worker's part of a block. */
static void dense_input_gradient(const dense_backward_share *my, ptrdiff_t rows)
{
    const dense_pass *const pass = &my->g->pass;
    const ptrdiff_t features = pass->features, units = pass->units;
    const range mine = share(rows, my->worker, my->workers);
    const ptrdiff_t count = mine.end - mine.begin;
    if (dense_wants_transposed(pass))
        gemm_rows(my->kernels, count, units, my->dz + mine.begin, my->g->kernel, 0,
                  my->dx + mine.begin, (column_run){0, features}, my->watcher);
    else
        gemm_bt_rows(my->kernels, count, features, units, my->dz + mine.begin, my->g->kernel, 0,
                     my->dx + mine.begin, my->watcher);
}

/* This worker's part of the weight gradient of a block. */
static void add_dense_weight_gradient(const dense_backward_share *my, ptrdiff_t rows, int fresh)
{
    const dense_backward_buffers *const buffers = my->buffers;
    const dense_backward *const g = my->g;
    const ptrdiff_t nr = my->kernels->nr, panelled = buffers->shape.panelled;
    real *const c = buffers->swapped ? buffers->transposed : g->dkernel;
    for (ptrdiff_t panel = my->panels.begin; panel < my->panels.end; panel++) {
        const ptrdiff_t first = panel * nr, count = at_most(nr, panelled - first);
        copy_panel(my->kernels, rows, buffers->swapped ? my->x : my->dz, first, count, my->panel);
        gemm_at_rows(my->kernels, buffers->shape.tiled, my->tiles, rows, buffers->tiles, count,
                     my->panel, fresh, c + first, panelled);
        if (!buffers->swapped && my->tiles.begin == 0)
            add_panel_rows(my->kernels, rows, count, my->panel, fresh, (real *)g->dbias + first);
        if (worker_stops(my->watcher, rows * count * buffers->shape.tiled))
            return;
    }
    if (buffers->swapped && my->worker == 0)
        for (ptrdiff_t first = 0; first < g->pass.units; first += nr) {
            const ptrdiff_t count = at_most(nr, g->pass.units - first);
            copy_panel(my->kernels, rows, my->dz, first, count, my->panel);
            add_panel_rows(my->kernels, rows, count, my->panel, fresh, (real *)g->dbias + first);
        }
}

static void transpose_back(const dense_backward_share *my)
{
    const ptrdiff_t features = my->g->pass.features, units = my->g->pass.units;
    const range mine = share(features, my->worker, my->workers);
    for (ptrdiff_t f = mine.begin; f < mine.end; f++)
        for (ptrdiff_t u = 0; u < units; u++)
            ((real *)my->g->dkernel)[f * units + u] = my->buffers->transposed[u * features + f];
}

static dense_backward_share dense_backward_share_of(const dense_backward_task *task, int worker,
                                                    int workers)
{
    const dense_backward_buffers *const buffers = task->buffers;
    const TYPED(kernels) *const kernels = task->g->pass.kernels;
    const ptrdiff_t panels = divide_up(buffers->shape.panelled, kernels->nr);
    const ptrdiff_t tiles = tiles_of(kernels, buffers->shape.tiled);
    const int few = panels < workers; /* then workers share the tiles instead */
    return (dense_backward_share){
        .g = task->g,
        .buffers = buffers,
        .kernels = kernels,
        .panel = buffers->panels[worker],
        .worker = worker,
        .workers = workers,
        .watcher = watcher_of(task->g->pass.watch),
        .panels = few ? (range){0, panels} : share(panels, worker, workers),
        .tiles = few ? share(tiles, worker, workers) : (range){0, tiles},
        .packed_tiles = share(tiles, worker, workers),
    };
}

/* Where the workers meet: whether this one goes on, be it alone. */
static int dense_goes_on_back(const dense_backward_task *task, dense_backward_share *my,
                              range block)
{
    const next_step next = meet(my->g->pass.watch, &task->g->pass.barrier, my->worker, my->workers);
    if (next == GO_ON_ALONE) {
        *my = dense_backward_share_of(task, 0, 1);
        list_dense_block(my, block);
    }
    return next != LEAVE;
}

static void run_dense_backward_share(const dense_backward_task *task, int worker, int workers)
{
    const dense_backward_buffers *const buffers = task->buffers;
    dense_backward_share my = dense_backward_share_of(task, worker, workers);
    for (ptrdiff_t first = 0; first < task->g->pass.rows; first += buffers->block) {
        const range block = {first, at_most(task->g->pass.rows, first + buffers->block)};
        const ptrdiff_t rows = block.end - block.begin;
        list_dense_block(&my, block);
        activation_gradient(&my, first, share(rows, my.worker, my.workers));
        if (task->g->dx)
            dense_input_gradient(&my, rows);
        if (!dense_goes_on_back(task, &my, block))
            return;
        pack_tiles(my.kernels, buffers->shape.tiled, my.packed_tiles, rows,
                   buffers->swapped ? my.dz : my.x, buffers->tiles);
        if (!dense_goes_on_back(task, &my, block))
            return;
        add_dense_weight_gradient(&my, rows, first == 0);
        if (!dense_goes_on_back(task, &my, block))
            return;
    }
    if (buffers->swapped)
        transpose_back(&my);
}

static void dense_backward_worker(void *argument, int worker, int workers)
{
    const fp_mode mode = flush_denormals();
    run_dense_backward_share(argument, worker, workers);
    restore_denormals(mode);
}

void TYPED(dense_run_backward)(dense_backward *g)
{
    dense_backward_buffers buffers;
    lay_out_dense_backward(g, &buffers);
    dense_backward_task task = {g, &buffers};
    run_pass(g->pass.watch, g->pass.workers, PARTS_TOGETHER, dense_wakes(&g->pass, 3),
             dense_backward_worker, &task);
}
