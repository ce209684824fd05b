/* SPDX-License-Identifier: MIT
 * The backward pass of lstm.h; compiled once for each real type.
 *
 *     dh += dy[s] where the output was shown
 *     dz, dc = gates_backward(...)             for the rows that count
 *     dh = dz recurrent_kernel'                the others keep theirs
 * from the last step to the first, and after each block of steps, while it is in cache,
 *     dx = dz kernel'      dkernel += x' dz      drecurrent_kernel += h[s-1]' dz      dbias += dz
 * Each weight gradient is summed by one member, from the last step to the first and in each step
 * by row, so that the sums do not depend on the number of members; in stretches of rows, each from
 * zero, since one long running sum loses what is small beside it.
 */
#include "cpu.h"
#include "lstm_common.h"

/* Rows of a block: few enough that dz stays in second-level cache. Weight gradients that do not,
 * and are loaded and stored once a block, weigh more. */
enum { BLOCK_ROWS = 256, BLOCK_ROWS_OF_MANY_WEIGHTS = 1024, MANY_WEIGHTS = 1 << 20 };

/* Rows of a stretch. */
enum { STRETCH = 256 };

/* Columns from panel `number` on of a row of `columns` elements. */
static panel_columns plain_columns(ptrdiff_t width, ptrdiff_t columns, ptrdiff_t number)
{
    const ptrdiff_t first = number * PANEL_VECTORS * width;
    return (panel_columns){first, at_most(PANEL_VECTORS * width, columns - first)};
}

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
    real *dz;   /* (B, block, 4H) */
    real *sums; /* (columns of dz in panels, F + H + 1, panel width): dkernel, drecurrent, dbias */
    real *inputs;  /* x and h of a block's rows, as pack_rows leaves them */
    real **panels; /* for each member (rows of a block, panel width) of dz */
    real **gate_scratch;
    backward_lists *lists;
} backward_scratch;

static size_t plan_backward(const lstm_backward *g, backward_scratch *scratch)
{
    const lstm_pass *const pass = &g->pass;
    const ptrdiff_t rows = pass->batch, width = PANEL_VECTORS * pass->units;
    const ptrdiff_t panel_width = PANEL_VECTORS * width_of(pass->kernels);
    const ptrdiff_t block_rows = weight_bytes(pass) > (double)sizeof(real) * MANY_WEIGHTS
                                     ? BLOCK_ROWS_OF_MANY_WEIGHTS
                                     : BLOCK_ROWS;
    arena memory = {pass->scratch, 0};
    scratch->block = at_least(1, at_most(pass->steps, block_rows / at_least(1, rows)));
    const size_t longest = rows * scratch->block;
    scratch->dz = take(&memory, longest * width, sizeof(real));
    scratch->sums = take(
        &memory, divide_up(width, panel_width) * (pass->features + pass->units + 1) * panel_width,
        sizeof(real));
    scratch->inputs = take(&memory, longest * (pass->features + pass->units), sizeof(real));
    scratch->panels = take(&memory, pass->members, sizeof(real *));
    scratch->gate_scratch = take(&memory, pass->members, sizeof(real *));
    scratch->lists = take(&memory, pass->members, sizeof(backward_lists));
    for (int member = 0; member < pass->members; member++) {
        real *const panel = take(&memory, longest * panel_width, sizeof(real));
        real *const gates = take(&memory, GATE_SCRATCH_ROWS * pass->units, sizeof(real));
        const backward_lists lists = {
            take(&memory, longest, sizeof(row)), take(&memory, longest, sizeof(row)),
            take(&memory, longest, sizeof(row)), take(&memory, longest, sizeof(row)),
            take(&memory, rows, sizeof(row)),    take(&memory, rows, sizeof(row)),
            take(&memory, rows, sizeof(row)),    take(&memory, rows, sizeof(row)),
            take(&memory, rows, sizeof(row)),    take(&memory, rows, sizeof(row)),
            take(&memory, rows, sizeof(row)),
        };
        if (scratch->lists) {
            scratch->panels[member] = panel;
            scratch->gate_scratch[member] = gates;
            scratch->lists[member] = lists;
        }
    }
    return memory.used;
}

size_t TYPED(lstm_backward_scratch_bytes)(const lstm_backward *g)
{
    backward_scratch scratch;
    lstm_backward counted = *g;
    counted.pass.scratch = 0;
    return plan_backward(&counted, &scratch);
}

typedef struct {
    lstm_backward *g;
    const backward_scratch *scratch;
} backward_task;

typedef struct {
    const lstm_backward *g;
    const backward_scratch *scratch;
    const TYPED(kernels) * kernels;
    TYPED(gates) gates;
    backward_lists lists;
    real *panel, *gate_scratch;
    int member, members; /* member 0 is the calling thread */
    range rows;          /* of the batch, in the loop over time */
    range strips;        /* of dh, in panels */
    range units;         /* of the same strips */
    range columns;       /* of dz, in panels, for the weight gradients */
} backward_share;

static real *dz_row(const backward_share *my, ptrdiff_t b, ptrdiff_t first, ptrdiff_t step)
{
    return my->scratch->dz +
           (b * my->scratch->block + step - first) * PANEL_VECTORS * my->g->pass.units;
}

/* (b, step) of an array (B, T, H) in step order; before the first step the initial state. */
static const real *state_row(const lstm_pass *pass, const void *states, const void *initial,
                             ptrdiff_t b, ptrdiff_t step)
{
    return step < 0 ? (const real *)initial + b * pass->units
                    : (const real *)states + (b * pass->steps + step) * pass->units;
}

/* dh += dy for this member's units where the output was shown. */
static void add_output_gradient(const backward_share *my, ptrdiff_t step)
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
 * member's units. */
static ptrdiff_t list_step(const backward_share *my, ptrdiff_t first, ptrdiff_t step)
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
        lists->gates[count] = (const real *)g->gates + place * PANEL_VECTORS * units + begin;
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

/* One step back: dz from dh and dc, then dh = dz recurrent_kernel'. */
static void step_back(const backward_share *my, ptrdiff_t first, ptrdiff_t step,
                      team_meeting *meeting, int members)
{
    const ptrdiff_t units = my->g->pass.units, width = my->kernels->products.width;
    const backward_lists *const lists = &my->lists;
    if (my->g->dy)
        add_output_gradient(my, step);
    const ptrdiff_t count = list_step(my, first, step);
    const gate_shape shape = {count, my->units.end - my->units.begin, units, units};
    if (!is_stopped(my->g->pass.watch))
        my->gates.backward(&my->gates, shape, lists->gates, lists->c_before, lists->c_after,
                           lists->dh, lists->dc, lists->dz_out, my->gate_scratch);
    if (members)
        team_meet(meeting, members);
    const ptrdiff_t depth = PANEL_VECTORS * units;
    for (ptrdiff_t strip = my->strips.begin; strip < my->strips.end; strip++) {
        const panel_columns columns = plain_columns(width, units, strip);
        const ptrdiff_t panel_size = depth * PANEL_VECTORS * width;
        const real *const panel = (const real *)my->g->recurrent_kernel + strip * panel_size;
        multiply_rows(my->kernels, count, depth, lists->dz, panel, lists->dh_out, &columns);
        const ptrdiff_t work = columns.count * (depth + WORK_OF_A_UNIT);
        if (member_stops(&my->g->pass, my->member == 0, WORK_OF_A_STEP + count * work))
            return;
    }
}

/* All valid rows of a block, those of other members too; returns how many. */
static ptrdiff_t list_block(const backward_share *my, range steps)
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

/* dx = dz kernel' for this member's part of a block's rows. */
static void input_gradient(const backward_share *my, range rows)
{
    const lstm_pass *const pass = &my->g->pass;
    const ptrdiff_t width = my->kernels->products.width, depth = PANEL_VECTORS * pass->units;
    const ptrdiff_t strips = divide_up(pass->features, PANEL_VECTORS * width);
    for (ptrdiff_t strip = 0; strip < strips; strip++) {
        const panel_columns columns = plain_columns(width, pass->features, strip);
        const ptrdiff_t panel_size = depth * PANEL_VECTORS * width;
        const real *const panel = (const real *)my->g->kernel + strip * panel_size;
        multiply_rows(my->kernels, rows.end - rows.begin, depth, my->lists.dz + rows.begin, panel,
                      my->lists.dx + rows.begin, &columns);
        if (member_stops(pass, my->member == 0, (rows.end - rows.begin) * depth * columns.count))
            return;
    }
}

/* This member's part of the columns of x or h, for accumulate_rows: a tile after the other, in each
 * its few columns row by row. Every panel of dz reads them, and rows far apart would share few
 * places in the cache. Some rows at a time, since neighbouring tiles are in the same cache lines.
 */
static void pack_rows(const backward_share *my, ptrdiff_t columns, ptrdiff_t rows,
                      const const_row *a, real *packed)
{
    enum { ROWS_AT_ONCE = 64 };
    const int tiles = tiles_of(my->kernels, columns);
    const range mine = share(tiles, my->member, my->members);
    for (ptrdiff_t first = 0; first < rows; first += ROWS_AT_ONCE) {
        const range few = {first, at_most(rows, first + ROWS_AT_ONCE)};
        for (ptrdiff_t tile = mine.begin; tile < mine.end; tile++) {
            const range f = share(columns, (int)tile, tiles);
            const ptrdiff_t count = f.end - f.begin;
            real *to = packed + f.begin * rows + first * count;
            for (ptrdiff_t i = few.begin; i < few.end; i++, to += count)
                for (ptrdiff_t j = 0; j < count; j++)
                    to[j] = a[i][f.begin + j];
        }
    }
}

static void pack_inputs(const backward_share *my, ptrdiff_t rows)
{
    const lstm_pass *const pass = &my->g->pass;
    real *const inputs = my->scratch->inputs;
    pack_rows(my, pass->features, rows, my->lists.x, inputs);
    pack_rows(my, pass->units, rows, my->lists.h_before, inputs + pass->features * rows);
}

/* sums (columns, panel width) += rows' panel, for columns of packed rows. */
static void accumulate_rows(const TYPED(kernels) * kernels, ptrdiff_t columns, ptrdiff_t rows,
                            const real *packed, const real *panel, int fresh, real *sums)
{
    const ptrdiff_t panel_width = PANEL_VECTORS * kernels->products.width;
    const int tiles = tiles_of(kernels, columns);
    for (int tile = 0; tile < tiles; tile++) {
        const range f = share(columns, tile, tiles);
        const ptrdiff_t count = f.end - f.begin;
        const real *const a = packed + f.begin * rows;
        for (ptrdiff_t first = 0; first < rows || (fresh && first == 0); first += STRETCH)
            kernels->products.accumulate(count, at_most(STRETCH, rows - first), a + first * count,
                                         panel + first * panel_width, fresh && first == 0,
                                         sums + f.begin * panel_width);
    }
}

/* The rows of a block in some columns of dz, as a panel. */
static void pack_dz(const backward_share *my, ptrdiff_t rows, panel_columns columns)
{
    const ptrdiff_t panel_width = PANEL_VECTORS * my->kernels->products.width;
    for (ptrdiff_t i = 0; i < rows; i++) {
        real *const to = my->panel + i * panel_width;
        memcpy(to, my->lists.dz[i] + columns.first, columns.count * sizeof(real));
        memset(to + columns.count, 0, (panel_width - columns.count) * sizeof(real));
    }
}

/* sums (panel width) += the rows of a panel. */
static void add_rows(ptrdiff_t rows, ptrdiff_t panel_width, const real *panel, int fresh,
                     real *sums)
{
    if (fresh)
        memset(sums, 0, panel_width * sizeof(real));
    for (ptrdiff_t first = 0; first < rows; first += STRETCH) {
        real stretch[PANEL_VECTORS * MOST_WIDTH] = {0};
        for (ptrdiff_t i = first; i < at_most(rows, first + STRETCH); i++)
            for (ptrdiff_t j = 0; j < panel_width; j++)
                stretch[j] += panel[i * panel_width + j];
        for (ptrdiff_t j = 0; j < panel_width; j++)
            sums[j] += stretch[j];
    }
}

static real *sums_of(const backward_share *my, ptrdiff_t column)
{
    const lstm_pass *const pass = &my->g->pass;
    return my->scratch->sums + column * (pass->features + pass->units + 1) * PANEL_VECTORS *
                                   my->kernels->products.width;
}

/* The weight gradients of a block's rows in this member's columns. */
static void add_weight_gradients(const backward_share *my, ptrdiff_t rows, int fresh)
{
    const lstm_pass *const pass = &my->g->pass;
    const ptrdiff_t panel_width = PANEL_VECTORS * my->kernels->products.width;
    const ptrdiff_t work = rows * panel_width * (pass->features + pass->units);
    for (ptrdiff_t column = my->columns.begin; column < my->columns.end; column++) {
        real *const dkernel = sums_of(my, column);
        real *const drecurrent = dkernel + pass->features * panel_width;
        real *const dbias = drecurrent + pass->units * panel_width;
        pack_dz(my, rows,
                plain_columns(my->kernels->products.width, PANEL_VECTORS * pass->units, column));
        add_rows(rows, panel_width, my->panel, fresh, dbias);
        const real *const x = my->scratch->inputs, *const h = x + pass->features * rows;
        accumulate_rows(my->kernels, pass->features, rows, x, my->panel, fresh, dkernel);
        accumulate_rows(my->kernels, pass->units, rows, h, my->panel, fresh, drecurrent);
        if (member_stops(pass, my->member == 0, work))
            return;
    }
}

static void hand_out_weight_gradients(const backward_share *my)
{
    const lstm_backward *const g = my->g;
    const lstm_pass *const pass = &g->pass;
    const ptrdiff_t panel_width = PANEL_VECTORS * my->kernels->products.width;
    const ptrdiff_t total = PANEL_VECTORS * pass->units;
    for (ptrdiff_t column = my->columns.begin; column < my->columns.end; column++) {
        const real *from = sums_of(my, column);
        const ptrdiff_t first = column * panel_width;
        const size_t bytes = at_most(panel_width, total - first) * sizeof(real);
        for (ptrdiff_t f = 0; f < pass->features; f++, from += panel_width)
            memcpy((real *)g->dkernel + f * total + first, from, bytes);
        for (ptrdiff_t j = 0; j < pass->units; j++, from += panel_width)
            memcpy((real *)g->drecurrent_kernel + j * total + first, from, bytes);
        memcpy((real *)g->dbias + first, from, bytes);
    }
}

static void backward_member(void *argument, int member, int members)
{
    const backward_task *const task = argument;
    lstm_backward *const g = task->g;
    lstm_pass *const pass = &g->pass;
    const TYPED(kernels) *const kernels = pass->kernels;
    const ptrdiff_t panel_width = PANEL_VECTORS * kernels->products.width, units = pass->units;
    const ptrdiff_t strips = divide_up(units, panel_width);
    const int by_rows = shares_rows(pass, members);
    const int meeting = members > 1 && !by_rows ? members : 0;
    backward_share my = {
        .g = g, .scratch = task->scratch, .kernels = kernels, .member = member, .members = members};
    my.gates = TYPED(select_gates)(kernels, pass->activation, pass->recurrent_activation);
    my.lists = task->scratch->lists[member];
    my.panel = task->scratch->panels[member];
    my.gate_scratch = task->scratch->gate_scratch[member];
    my.rows = by_rows ? share(pass->batch, member, members) : (range){0, pass->batch};
    my.strips = by_rows ? (range){0, strips} : share(strips, member, members);
    my.units = (range){at_most(units, my.strips.begin * panel_width),
                       at_most(units, my.strips.end * panel_width)};
    my.columns = share(divide_up(PANEL_VECTORS * units, panel_width), member, members);
    const fp_mode mode = flush_denormals();
    int fresh = 1;
    const ptrdiff_t blocks = divide_up(pass->steps, task->scratch->block);
    for (ptrdiff_t block = blocks - 1; block >= 0; block--) {
        const ptrdiff_t first = block * task->scratch->block;
        const range steps = {first, at_most(pass->steps, first + task->scratch->block)};
        for (ptrdiff_t step = steps.end - 1; step >= steps.begin; step--)
            step_back(&my, first, step, &pass->meeting, meeting);
        const ptrdiff_t rows = is_stopped(pass->watch) ? 0 : list_block(&my, steps);
        pack_inputs(&my, rows);
        if (members > 1)
            team_meet(&pass->meeting, members);
        if (g->dx)
            input_gradient(&my, share(rows, member, members));
        if (rows > 0 || (fresh && block == 0)) {
            add_weight_gradients(&my, rows, fresh);
            fresh = 0;
        }
        if (leaves(pass, member == 0, members > 1, members, block))
            break;
    }
    hand_out_weight_gradients(&my);
    restore_denormals(mode);
}

void TYPED(lstm_run_backward)(lstm_backward *g)
{
    backward_scratch scratch;
    plan_backward(g, &scratch);
    backward_task task = {g, &scratch};
    run_on_team(g->pass.members, 1, &g->pass, backward_member, &task);
}
