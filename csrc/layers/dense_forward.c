/* SPDX-License-Identifier: MIT
 * The forward pass of dense.h; compiled once for each real type.
 *
 *     z = x kernel + bias      y = f(z)
 *
 * Some rows at a time, so that z is in cache for the activation. Workers share the rows, or, where
 * there are few, the columns.
 */
#include "base/cpu.h"
#include "layers/dense_common.h"

/* The columns of a worker's share of the micro-panels of `units`. */
static column_run share_columns(ptrdiff_t units, ptrdiff_t nr, int worker, int workers)
{
    const range panels = share(divide_up(units, nr), worker, workers);
    const ptrdiff_t first = at_most(units, panels.begin * nr);
    return (column_run){first, at_most(units, panels.end * nr) - first};
}

static void multiply(const dense_forward *f, range rows, column_run columns, watcher my)
{
    const dense_pass *const pass = &f->pass;
    const TYPED(kernels) *const kernels = pass->kernels;
    const ptrdiff_t count = rows.end - rows.begin;
    const_row x[FORWARD_ROWS], bias[FORWARD_ROWS];
    row z[FORWARD_ROWS];
    for (ptrdiff_t i = 0; i < count; i++) {
        x[i] = (const real *)pass->x + (rows.begin + i) * pass->features;
        bias[i] = f->bias;
        z[i] = (real *)f->z + (rows.begin + i) * pass->units;
    }
    if (dense_is_narrow(pass->units))
        gemm_bt_rows(kernels, count, columns.count, pass->features, x, f->kernel, f->bias, z, my);
    else
        gemm_rows(kernels, count, pass->features, x,
                  (const real *)f->kernel + columns.first * pass->features, f->bias ? bias : 0, z,
                  columns, my);
}

static void activate(const dense_forward *f, range rows, column_run columns)
{
    const TYPED(kernels) *const kernels = f->pass.kernels;
    const ptrdiff_t units = f->pass.units;
    const int activation = f->pass.activation;
    const int whole = columns.count == units;
    if (activation == ACTIVATION_LINEAR)
        return;
    const ptrdiff_t runs = whole ? 1 : rows.end - rows.begin;
    const ptrdiff_t count = whole ? (rows.end - rows.begin) * units : columns.count;
    for (ptrdiff_t run = 0; run < runs; run++) {
        const ptrdiff_t first = (rows.begin + run) * units + columns.first;
        const real *const z = (const real *)f->z + first;
        real *const y = (real *)f->y + first;
        if (activation == ACTIVATION_COUNT)
            kernels->softmax_forward(count / units, units, z, y);
        else
            kernels->activations[activation].forward(count, z, y);
    }
}

static void dense_forward_worker(void *argument, int worker, int workers)
{
    dense_forward *const f = argument;
    const dense_pass *const pass = &f->pass;
    const column_run all = {0, pass->units};
    const int by_rows = dense_shares_rows(pass, workers);
    const int needs_row = !by_rows && pass->activation == ACTIVATION_COUNT;
    const range rows = by_rows ? share(pass->rows, worker, workers) : (range){0, pass->rows};
    const column_run columns =
        by_rows ? all
                : share_columns(pass->units, ((const TYPED(kernels) *)pass->kernels)->nr, worker,
                                workers);
    const watcher my = watcher_of(pass->watch);
    const fp_mode mode = flush_denormals();
    for (ptrdiff_t first = rows.begin; first < rows.end; first += FORWARD_ROWS) {
        const range block = {first, at_most(rows.end, first + FORWARD_ROWS)};
        multiply(f, block, columns, my);
        if (!needs_row)
            activate(f, block, columns);
        if (worker_stops(my, (block.end - block.begin) * columns.count * WORK_OF_A_UNIT))
            break;
    }
    if (needs_row) {
        const next_step next = meet(pass->watch, &f->pass.barrier, worker, workers);
        if (next == GO_ON)
            activate(f, share(pass->rows, worker, workers), all);
        else if (next == GO_ON_ALONE)
            activate(f, (range){0, pass->rows}, all);
    }
    restore_denormals(mode);
}

void TYPED(dense_run_forward)(dense_forward *f)
{
    const dense_pass *const pass = &f->pass;
    const int alone =
        dense_shares_rows(pass, pass->workers) || pass->activation != ACTIVATION_COUNT;
    run_pass(pass->watch, pass->workers, alone ? PARTS_ALONE : PARTS_TOGETHER, dense_wakes(pass, 1),
             dense_forward_worker, f);
}

void TYPED(dense_run_forward_unpacked)(dense_forward *f)
{
    const dense_pass *const pass = &f->pass;
    const TYPED(kernels) *const kernels = pass->kernels;
    const ptrdiff_t features = pass->features, units = pass->units;
    const fp_mode mode = flush_denormals();
    for (ptrdiff_t r = 0; r < pass->rows && !stops(pass->watch, features * units); r++) {
        real *const z = (real *)f->z + r * units;
        if (f->bias)
            memcpy(z, f->bias, units * sizeof(real));
        else
            memset(z, 0, units * sizeof(real));
        kernels->gemv(features, units, (const real *)pass->x + r * features, f->kernel, z);
    }
    activate(f, (range){0, pass->rows}, (column_run){0, units});
    restore_denormals(mode);
}
