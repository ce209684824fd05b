/* SPDX-License-Identifier: MIT
 * The passes of dense.h; compiled once for each real type.
 *
 *     z = x kernel + bias      y = f(z)
 *     dz = dy f'(z)      dx = dz kernel'      dkernel = x' dz      dbias = sum over rows of dz
 *
 * Some rows at a time, so that what one product makes is in cache for the next. Members share the
 * rows, or, where there are few, the columns. Each weight gradient is one sum in the order of the
 * rows, block by block, so it does not depend on the number of members.
 */
#include "dense.h"

#include "cpu.h"
#include "tiles.h"

/* Rows of a forward block, which share what they read of the weights. */
enum { FORWARD_ROWS = 96 };

/* Rows of a backward block: as many as leave dz and the inputs in second-level cache, but not so
 * few that loading and storing the weight gradients once a block weighs. */
enum { LEAST_BACKWARD_ROWS = 48, MOST_BACKWARD_ROWS = 256, BLOCK_BYTES = 1 << 19 };

/* ---- who does what -------------------------------------------------------------------------- */

/* Threads are worth their while from some 5 us of work for each on, waking them from some 150; in
 * multiplications, of which a core does some 50 in a nanosecond. */
enum { LEAST_PRODUCTS_PER_MEMBER = 1 << 18, LEAST_PRODUCTS_TO_WAKE = 1 << 23 };

/* So many rows for each, and members take rows rather than columns. */
enum { ROWS_OF_A_MEMBER = 4 };

static int shares_rows(const dense_pass *pass, int members)
{
    return pass->rows >= (ptrdiff_t)ROWS_OF_A_MEMBER * members;
}

static double products_of(const dense_pass *pass, int products)
{
    return (double)products * (double)pass->rows * (double)pass->features * (double)pass->units;
}

static int members_for(const dense_pass *pass, int products)
{
    const double most = products_of(pass, products) / LEAST_PRODUCTS_PER_MEMBER;
    const ptrdiff_t panels = divide_up(pass->units, ((const TYPED(kernels) *)pass->kernels)->nr);
    int members = team_get_size();
    if (members > most)
        members = (int)most;
    if (!shares_rows(pass, members) && members > panels)
        members = (int)panels;
    return members < 1 ? 1 : members;
}

static void run_on_team(const dense_pass *pass, int products, team_task task, void *argument)
{
    team_run(pass->members, products_of(pass, products) >= LEAST_PRODUCTS_TO_WAKE, task, argument);
}

/* The columns of a member's share of the micro-panels of `units`. */
static column_run share_columns(ptrdiff_t units, ptrdiff_t nr, int member, int members)
{
    const range panels = share(divide_up(units, nr), member, members);
    return (column_run){panels.begin * nr, at_most(units, panels.end * nr) - panels.begin * nr};
}

/* ---- forward -------------------------------------------------------------------------------- */

static void multiply(const dense_forward *f, range rows, column_run columns)
{
    const dense_pass *const pass = &f->pass;
    const_row x[FORWARD_ROWS], bias[FORWARD_ROWS];
    row z[FORWARD_ROWS];
    for (ptrdiff_t r = rows.begin; r < rows.end; r++) {
        x[r - rows.begin] = (const real *)pass->x + r * pass->features;
        bias[r - rows.begin] = f->bias;
        z[r - rows.begin] = (real *)f->z + r * pass->units;
    }
    gemm_rows(pass->kernels, rows.end - rows.begin, pass->features, x,
              (const real *)f->kernel + columns.first * pass->features, f->bias ? bias : 0, z,
              columns);
}

static void activate(const dense_forward *f, range rows, column_run columns)
{
    const TYPED(kernels) *const kernels = f->pass.kernels;
    const ptrdiff_t units = f->pass.units;
    const int activation = f->pass.activation;
    const int whole = columns.count == units && activation != ACTIVATION_COUNT;
    if (activation == ACTIVATION_LINEAR)
        return;
    const ptrdiff_t count = whole ? (rows.end - rows.begin) * units : columns.count;
    for (ptrdiff_t r = rows.begin; r < (whole ? rows.begin + 1 : rows.end); r++) {
        const ptrdiff_t first = r * units + columns.first;
        const real *const z = (const real *)f->z + first;
        real *const y = (real *)f->y + first;
        if (activation == ACTIVATION_COUNT)
            kernels->softmax_forward(count, z, y);
        else
            kernels->activations[activation].forward(count, z, y);
    }
}

static void forward_member(void *argument, int member, int members)
{
    dense_forward *const f = argument;
    const dense_pass *const pass = &f->pass;
    const column_run all = {0, pass->units};
    const int by_rows = shares_rows(pass, members);
    const int needs_row = !by_rows && pass->activation == ACTIVATION_COUNT;
    const range rows = by_rows ? share(pass->rows, member, members) : (range){0, pass->rows};
    const column_run columns =
        by_rows ? all
                : share_columns(pass->units, ((const TYPED(kernels) *)pass->kernels)->nr, member,
                                members);
    const fp_mode mode = flush_denormals();
    for (ptrdiff_t first = rows.begin; first < rows.end; first += FORWARD_ROWS) {
        const range block = {first, at_most(rows.end, first + FORWARD_ROWS)};
        multiply(f, block, columns);
        if (!needs_row)
            activate(f, block, columns);
    }
    if (needs_row) {
        if (members > 1)
            team_meet(&f->pass.meeting, members);
        activate(f, share(pass->rows, member, members), all);
    }
    restore_denormals(mode);
}

static void run_forward(dense_forward *f) { run_on_team(&f->pass, 1, forward_member, f); }

static void run_forward_plain(dense_forward *f)
{
    const dense_pass *const pass = &f->pass;
    const TYPED(kernels) *const kernels = pass->kernels;
    const ptrdiff_t features = pass->features, units = pass->units;
    const fp_mode mode = flush_denormals();
    for (ptrdiff_t r = 0; r < pass->rows; r++) {
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

/* ---- backward ------------------------------------------------------------------------------- */

typedef struct {
    ptrdiff_t block; /* rows */
    real *dz;        /* (block, U), or NULL where dy is dz */
    real *inputs;    /* x of a block as pack_tiles leaves it */
    real *sums;      /* (micro-panels of dz, F + 1, NR): dkernel, dbias */
    real **panels;   /* for each member (block, NR) of dz */
} backward_workspace;

static size_t plan_backward(const dense_backward *g, backward_workspace *space)
{
    const dense_pass *const pass = &g->pass;
    const ptrdiff_t nr = ((const TYPED(kernels) *)pass->kernels)->nr;
    const ptrdiff_t row_bytes = (pass->features + pass->units) * (ptrdiff_t)sizeof(real);
    arena memory = {pass->scratch, 0};
    space->block = at_most(
        pass->rows, at_least(LEAST_BACKWARD_ROWS,
                             at_most(MOST_BACKWARD_ROWS, BLOCK_BYTES / at_least(1, row_bytes))));
    space->dz = pass->activation == ACTIVATION_LINEAR
                    ? 0
                    : take(&memory, space->block * pass->units, sizeof(real));
    space->inputs = take(&memory, space->block * pass->features, sizeof(real));
    space->sums =
        take(&memory, divide_up(pass->units, nr) * (pass->features + 1) * nr, sizeof(real));
    space->panels = take(&memory, pass->members, sizeof(real *));
    for (int member = 0; member < pass->members; member++) {
        real *const panel = take(&memory, space->block * nr, sizeof(real));
        if (space->panels)
            space->panels[member] = panel;
    }
    return memory.used;
}

static size_t backward_scratch_bytes(const dense_backward *g)
{
    backward_workspace space;
    dense_backward counted = *g;
    counted.pass.scratch = 0;
    return plan_backward(&counted, &space);
}

typedef struct {
    dense_backward *g;
    const backward_workspace *space;
} backward_task;

typedef struct {
    const dense_backward *g;
    const backward_workspace *space;
    const TYPED(kernels) * kernels;
    real *panel;
    int member, members;
    range panels, tiles; /* of the weight gradients: micro-panels of dz, tiles of features */
    const_row x[MOST_BACKWARD_ROWS], dz[MOST_BACKWARD_ROWS]; /* of a block */
    row dx[MOST_BACKWARD_ROWS];
} backward_share;

/* dz of this member's part of a block. */
static void activation_gradient(const backward_share *my, ptrdiff_t first, range rows)
{
    const dense_backward *const g = my->g;
    const ptrdiff_t units = g->pass.units, at = (first + rows.begin) * units;
    const real *const dy = (const real *)g->dy + at, *const y = (const real *)g->y + at;
    real *const dz = my->space->dz + rows.begin * units;
    if (!my->space->dz)
        return;
    if (g->pass.activation == ACTIVATION_COUNT) {
        for (ptrdiff_t r = 0; r < rows.end - rows.begin; r++)
            my->kernels->softmax_backward(units, y + r * units, dy + r * units, dz + r * units);
        return;
    }
    const TYPED(activation) *const f = &my->kernels->activations[g->pass.activation];
    const ptrdiff_t count = (rows.end - rows.begin) * units;
    if (f->backward_from_output)
        f->backward_from_output(count, y, dy, dz);
    else
        f->backward(count, (const real *)g->z + at, dy, dz);
}

static void list_block(backward_share *my, range block)
{
    const dense_backward *const g = my->g;
    const ptrdiff_t features = g->pass.features, units = g->pass.units;
    for (ptrdiff_t r = block.begin, i = 0; r < block.end; r++, i++) {
        my->x[i] = (const real *)g->pass.x + r * features;
        my->dx[i] = g->dx ? (real *)g->dx + r * features : 0;
        my->dz[i] = my->space->dz ? my->space->dz + i * units : (const real *)g->dy + r * units;
    }
}

static real *sums_of(const backward_share *my, ptrdiff_t panel)
{
    return my->space->sums + panel * (my->g->pass.features + 1) * my->kernels->nr;
}

/* This member's part of the weight gradients of a block. */
static void add_weight_gradients(const backward_share *my, ptrdiff_t rows, int fresh)
{
    const ptrdiff_t nr = my->kernels->nr, features = my->g->pass.features;
    for (ptrdiff_t panel = my->panels.begin; panel < my->panels.end; panel++) {
        real *const sums = sums_of(my, panel), *const dbias = sums + features * nr;
        const ptrdiff_t first = panel * nr, count = at_most(nr, my->g->pass.units - first);
        real of_block[MOST_NR];
        copy_panel(my->kernels, rows, my->dz, first, count, my->panel, of_block);
        gemm_at_rows(my->kernels, features, my->tiles, rows, my->space->inputs, my->panel, fresh,
                     sums);
        for (ptrdiff_t j = 0; j < nr && my->tiles.begin == 0; j++)
            dbias[j] = fresh ? of_block[j] : dbias[j] + of_block[j];
    }
}

static void hand_out_weight_gradients(const backward_share *my)
{
    const dense_backward *const g = my->g;
    const ptrdiff_t nr = my->kernels->nr, features = g->pass.features, units = g->pass.units;
    const int tiles = tiles_of(my->kernels, features);
    const range mine = {share_start(features, (int)my->tiles.begin, tiles),
                        share_start(features, (int)my->tiles.end, tiles)};
    for (ptrdiff_t panel = my->panels.begin; panel < my->panels.end; panel++) {
        const real *const sums = sums_of(my, panel);
        const ptrdiff_t first = panel * nr;
        const size_t bytes = at_most(nr, units - first) * sizeof(real);
        for (ptrdiff_t f = mine.begin; f < mine.end; f++)
            memcpy((real *)g->dkernel + f * units + first, sums + f * nr, bytes);
        if (mine.begin == 0)
            memcpy((real *)g->dbias + first, sums + features * nr, bytes);
    }
}

static void backward_member(void *argument, int member, int members)
{
    const backward_task *const task = argument;
    dense_backward *const g = task->g;
    dense_pass *const pass = &g->pass;
    backward_share my = {.g = g,
                         .space = task->space,
                         .kernels = pass->kernels,
                         .panel = task->space->panels[member],
                         .member = member,
                         .members = members};
    const ptrdiff_t panels = divide_up(pass->units, my.kernels->nr);
    const int tiles = tiles_of(my.kernels, pass->features);
    /* Few units: members share the features instead. */
    my.panels = panels >= members ? share(panels, member, members) : (range){0, panels};
    my.tiles = panels >= members ? (range){0, tiles} : share(tiles, member, members);
    const range my_tiles = share(tiles, member, members);
    const fp_mode mode = flush_denormals();
    for (ptrdiff_t first = 0; first < pass->rows; first += my.space->block) {
        const range block = {first, at_most(pass->rows, first + my.space->block)};
        const ptrdiff_t rows = block.end - block.begin;
        const range mine = share(rows, member, members);
        list_block(&my, block);
        activation_gradient(&my, first, mine);
        pack_tiles(my.kernels, pass->features, my_tiles, rows, my.x, my.space->inputs);
        if (g->dx)
            gemm_rows(my.kernels, mine.end - mine.begin, pass->units, my.dz + mine.begin, g->kernel,
                      0, my.dx + mine.begin, (column_run){0, pass->features});
        if (members > 1)
            team_meet(&pass->meeting, members);
        add_weight_gradients(&my, rows, first == 0);
        if (members > 1)
            team_meet(&pass->meeting, members);
    }
    hand_out_weight_gradients(&my);
    restore_denormals(mode);
}

static void run_backward(dense_backward *g)
{
    backward_workspace space;
    plan_backward(g, &space);
    backward_task task = {g, &space};
    run_on_team(&g->pass, 3, backward_member, &task);
}

const dense_functions TYPED(dense) = {
    .members = members_for,
    .run_forward = run_forward,
    .run_forward_plain = run_forward_plain,
    .backward_scratch_bytes = backward_scratch_bytes,
    .run_backward = run_backward,
};
