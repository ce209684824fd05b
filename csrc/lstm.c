/* SPDX-License-Identifier: MIT
 * See lstm.h; compiled once for each real type.
 *
 * Work is shared in one of two ways. Many rows: each member runs some rows through all steps and
 * never waits. Few rows: each member has some units of all rows, so that its part of the weights
 * stays in its own cache, and the members meet after every step to exchange h (or dz).
 *
 * Only blocks of steps are looked at at a time, so that what is computed for all steps at once (the
 * input projection; dx and the weight gradients) is still in cache when the other half wants it.
 */
#include "lstm.h"

#include <stdint.h>
#include <string.h>

#include "cpu.h"
#include "kernels.h"
#include "real.h"

/* The widest vector and the highest tile of any instruction set. */
enum { MOST_WIDTH = 16, MOST_TILE_ROWS = 6 };

/* The pre-activations of a block of the forward pass, in elements: 512 KiB of float, half of a
 * second-level cache of 1 MiB. Rows of a block of the backward pass: enough that loading and
 * storing the sums of the weight gradients costs below 1 % of the products. */
enum { FORWARD_BLOCK_ELEMENTS = 1 << 17, BACKWARD_BLOCK_ROWS = 256 };

/* From this many rows on, each member takes rows rather than units. */
enum { ROWS_PER_MEMBER = 8 };

typedef const real *const_row;
typedef real *row;

static ptrdiff_t at_most(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static ptrdiff_t at_least(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
static ptrdiff_t divide_up(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }

typedef struct {
    ptrdiff_t begin, end;
} range;

static range share(ptrdiff_t count, int member, int members)
{
    return (range){share_start(count, member, members), share_start(count, member + 1, members)};
}

/* ---- panels --------------------------------------------------------------------------------- */

static ptrdiff_t width_of(const void *kernels)
{
    return ((const TYPED(kernels) *)kernels)->products.width;
}

/* Strip `number` of the four gates of `units`, or `columns` of a plain matrix from PANEL_VECTORS
 * vectors on. */
static panel_columns gate_columns(ptrdiff_t width, ptrdiff_t units, ptrdiff_t number)
{
    const ptrdiff_t first = number * width, count = at_most(width, units - first);
    return (panel_columns){first, units, {count, count, count, count}};
}

static panel_columns plain_columns(ptrdiff_t width, ptrdiff_t columns, ptrdiff_t number)
{
    panel_columns found = {number * PANEL_VECTORS * width, width, {0}};
    for (ptrdiff_t v = 0; v < PANEL_VECTORS; v++)
        found.counts[v] = at_least(0, at_most(width, columns - found.first - v * width));
    return found;
}

static ptrdiff_t gate_panels_size(const void *kernels, ptrdiff_t depth, ptrdiff_t units)
{
    const ptrdiff_t width = width_of(kernels);
    return divide_up(units, width) * depth * PANEL_VECTORS * width;
}

static ptrdiff_t column_panels_size(const void *kernels, ptrdiff_t depth, ptrdiff_t columns)
{
    const ptrdiff_t panel_width = PANEL_VECTORS * width_of(kernels);
    return divide_up(columns, panel_width) * depth * panel_width;
}

static void pack_gates(const void *kernels, ptrdiff_t depth, ptrdiff_t units, const void *weights,
                       void *panels)
{
    const ptrdiff_t width = width_of(kernels);
    real *panel = panels;
    for (ptrdiff_t strip = 0; strip < divide_up(units, width); strip++) {
        const panel_columns columns = gate_columns(width, units, strip);
        const real *from = (const real *)weights + columns.first;
        for (ptrdiff_t k = 0; k < depth; k++, from += PANEL_VECTORS * units)
            for (int v = 0; v < PANEL_VECTORS; v++, panel += width) {
                memcpy(panel, from + v * units, columns.counts[v] * sizeof(real));
                memset(panel + columns.counts[v], 0, (width - columns.counts[v]) * sizeof(real));
            }
    }
}

static void pack_columns(const void *kernels, ptrdiff_t depth, ptrdiff_t columns,
                         const void *weights, void *panels)
{
    enum { BLOCK = 16 };
    const ptrdiff_t panel_width = PANEL_VECTORS * width_of(kernels);
    real *panel = panels;
    for (ptrdiff_t first = 0; first < columns; first += panel_width, panel += depth * panel_width) {
        const ptrdiff_t count = at_most(panel_width, columns - first);
        const real *from = (const real *)weights + first * depth;
        /* Block by block, so that both sides stay in cache. */
        for (ptrdiff_t k = 0; k < depth; k += BLOCK)
            for (ptrdiff_t column = 0; column < panel_width; column++)
                for (ptrdiff_t i = k; i < at_most(k + BLOCK, depth); i++)
                    panel[i * panel_width + column] = column < count ? from[column * depth + i] : 0;
    }
}

/* ---- rows ----------------------------------------------------------------------------------- */

static ptrdiff_t place_of(const lstm_pass *pass, ptrdiff_t step)
{
    return pass->go_backwards ? pass->steps - 1 - step : step;
}

/* Whether row b takes part in a step. */
static int is_set(const unsigned char *flags, const lstm_pass *pass, ptrdiff_t b, ptrdiff_t step)
{
    return !flags || flags[b * pass->steps + step];
}

static int shares_rows(const lstm_pass *pass, int members)
{
    return members > 1 && pass->batch >= (ptrdiff_t)ROWS_PER_MEMBER * members;
}

/* Threads are worth their while when each has tens of microseconds of work to wake up for, and, if
 * they meet after every step, more than a meeting takes (below 1 us): in multiplications, of which
 * a core does some 50 in a nanosecond. */
enum { LEAST_PRODUCTS_PER_MEMBER = 1 << 21, LEAST_PRODUCTS_PER_MEETING = 1 << 16 };

static int members_for(const lstm_pass *pass, ptrdiff_t strip_width)
{
    const double step =
        4.0 * (double)pass->batch * (double)pass->units * (double)(pass->features + pass->units);
    ptrdiff_t members = team_get_size();
    if (step * (double)pass->steps < (double)members * LEAST_PRODUCTS_PER_MEMBER)
        members = (ptrdiff_t)(step * (double)pass->steps / LEAST_PRODUCTS_PER_MEMBER);
    if (!shares_rows(pass, (int)members)) {
        if (step < (double)members * LEAST_PRODUCTS_PER_MEETING)
            members = (ptrdiff_t)(step / LEAST_PRODUCTS_PER_MEETING);
        members = at_most(members, divide_up(pass->units, strip_width));
    }
    return (int)at_least(1, members);
}

static int forward_members(const lstm_pass *pass)
{
    return members_for(pass, width_of(pass->kernels));
}

static int backward_members(const lstm_pass *pass)
{
    return members_for(pass, PANEL_VECTORS * width_of(pass->kernels));
}

/* out[i] = start[i] + a[i] * panel for any number of rows, tile by tile. */
static void multiply_rows(const TYPED(kernels) * kernels, ptrdiff_t rows, ptrdiff_t depth,
                          const const_row *a, const real *panel, const const_row *start,
                          const row *out, const panel_columns *columns)
{
    const int tiles = (int)divide_up(rows, kernels->products.tile_rows);
    for (int tile = 0; tile < tiles; tile++) {
        const range r = share(rows, tile, tiles);
        kernels->products.multiply(r.end - r.begin, depth, a + r.begin, panel,
                                   start ? start + r.begin : 0, out + r.begin, columns);
    }
}

/* Memory handed out piece by piece, each aligned to a cache line. Counting with a NULL base tells
 * how much is needed. */
typedef struct {
    char *base;
    size_t used;
} arena;

static void *take(arena *from, size_t count, size_t size)
{
    void *const piece = from->base ? from->base + from->used : 0;
    from->used += (count * size + 63) / 64 * 64;
    return piece;
}

/* ---- forward -------------------------------------------------------------------------------- */

/* One member's lists of rows. */
typedef struct {
    const_row *a, *start;
    row *z, *c, *h;
} forward_lists;

typedef struct {
    ptrdiff_t block, state_width;
    real *states[2]; /* (B, state_width): h before and after a step, in turn */
    real *z;         /* (B, block, 4H), unless the gates are kept */
    forward_lists *lists;
} forward_scratch;

static size_t plan_forward(const lstm_forward *f, forward_scratch *scratch)
{
    const lstm_pass *const pass = &f->pass;
    const ptrdiff_t rows = pass->batch, width = PANEL_VECTORS * pass->units;
    arena memory = {pass->scratch, 0};
    scratch->block =
        at_least(1, at_most(pass->steps, FORWARD_BLOCK_ELEMENTS / at_least(1, rows * width)));
    scratch->state_width = divide_up(pass->units, MOST_WIDTH) * MOST_WIDTH;
    for (int i = 0; i < 2; i++)
        scratch->states[i] = take(&memory, rows * scratch->state_width, sizeof(real));
    scratch->z = f->gates ? 0 : take(&memory, rows * scratch->block * width, sizeof(real));
    scratch->lists = take(&memory, pass->members, sizeof(forward_lists));
    for (int member = 0; member < pass->members; member++) {
        const size_t longest = rows * scratch->block;
        const forward_lists lists = {
            take(&memory, longest, sizeof(const_row)), take(&memory, longest, sizeof(const_row)),
            take(&memory, longest, sizeof(row)),       take(&memory, rows, sizeof(row)),
            take(&memory, rows, sizeof(row)),
        };
        if (scratch->lists)
            scratch->lists[member] = lists;
    }
    return memory.used;
}

static size_t forward_scratch_bytes(const lstm_forward *f)
{
    forward_scratch scratch;
    lstm_forward counted = *f;
    counted.pass.scratch = 0;
    return plan_forward(&counted, &scratch);
}

typedef struct {
    lstm_forward *f;
    const forward_scratch *scratch;
} forward_task;

/* What one member does of it. */
typedef struct {
    const lstm_forward *f;
    const forward_scratch *scratch;
    const TYPED(kernels) * kernels;
    TYPED(gates) gates;
    forward_lists lists;
    range rows, strips, units;
} forward_share;

static real *z_row(const forward_share *my, ptrdiff_t b, ptrdiff_t first, ptrdiff_t step)
{
    const lstm_pass *const pass = &my->f->pass;
    const ptrdiff_t width = PANEL_VECTORS * pass->units;
    return my->f->gates ? (real *)my->f->gates + (b * pass->steps + place_of(pass, step)) * width
                        : my->scratch->z + (b * my->scratch->block + step - first) * width;
}

/* z = x kernel + bias for the valid rows of the steps of a block. */
static void project(const forward_share *my, range steps)
{
    const lstm_pass *const pass = &my->f->pass;
    const forward_lists *const lists = &my->lists;
    const ptrdiff_t width = my->kernels->products.width;
    ptrdiff_t count = 0;
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++)
        for (ptrdiff_t s = steps.begin; s < steps.end; s++) {
            if (!is_set(pass->valid, pass, b, s))
                continue;
            const ptrdiff_t t = place_of(pass, s);
            lists->a[count] = (const real *)pass->x + (b * pass->steps + t) * pass->features;
            lists->start[count] = my->f->bias;
            lists->z[count++] = z_row(my, b, steps.begin, s);
        }
    for (ptrdiff_t strip = my->strips.begin; strip < my->strips.end; strip++) {
        const panel_columns columns = gate_columns(width, pass->units, strip);
        const real *const panel =
            (const real *)my->f->kernel + strip * pass->features * PANEL_VECTORS * width;
        multiply_rows(my->kernels, count, pass->features, lists->a, panel,
                      my->f->bias ? lists->start : 0, lists->z, &columns);
    }
}

/* z += h recurrent_kernel, then the gates, for the rows in the lists. */
static void advance(const forward_share *my, ptrdiff_t count)
{
    const forward_lists *const lists = &my->lists;
    const ptrdiff_t units = my->f->pass.units, width = my->kernels->products.width;
    const int tiles = (int)divide_up(count, my->kernels->products.tile_rows);
    real scratch[GATE_SCRATCH_ROWS * MOST_WIDTH];
    for (ptrdiff_t strip = my->strips.begin; strip < my->strips.end; strip++) {
        const panel_columns columns = gate_columns(width, units, strip);
        const real *const panel =
            (const real *)my->f->recurrent_kernel + strip * units * PANEL_VECTORS * width;
        for (int tile = 0; tile < tiles; tile++) {
            const range r = share(count, tile, tiles);
            const gate_range some = {r.end - r.begin, units, columns.first, columns.counts[0]};
            row *const z = lists->z + r.begin;
            my->kernels->products.multiply(some.rows, units, lists->a + r.begin, panel,
                                           (const const_row *)z, z, &columns);
            my->gates.forward(&my->gates, some, z, lists->c + r.begin, lists->h + r.begin, scratch);
        }
    }
}

/* The states after a step go where the caller wants them; rows that it skips carry theirs. */
static void hand_out(const forward_share *my, ptrdiff_t step, const real *h_before, real *h_after)
{
    const lstm_forward *const f = my->f;
    const lstm_pass *const pass = &f->pass;
    const size_t bytes = (my->units.end - my->units.begin) * sizeof(real);
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++) {
        const ptrdiff_t state = b * my->scratch->state_width + my->units.begin;
        const ptrdiff_t out = (b * pass->steps + step) * pass->units + my->units.begin;
        if (!is_set(pass->valid, pass, b, step))
            memcpy(h_after + state, h_before + state, bytes);
        if (f->y && is_set(pass->shown, pass, b, step))
            memcpy((real *)f->y + out, h_after + state, bytes);
        else if (f->y)
            memset((real *)f->y + out, 0, bytes);
        if (f->saved_h)
            memcpy((real *)f->saved_h + out, h_after + state, bytes);
        if (f->saved_c)
            memcpy((real *)f->saved_c + out, (real *)f->c + b * pass->units + my->units.begin,
                   bytes);
    }
}

/* Copies this member's part of h between the caller's array and a buffer of states. */
static void copy_states(const forward_share *my, real *states, int into_states)
{
    const lstm_pass *const pass = &my->f->pass;
    const size_t bytes = (my->units.end - my->units.begin) * sizeof(real);
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++) {
        real *const state = states + b * my->scratch->state_width + my->units.begin;
        real *const h = (real *)my->f->h + b * pass->units + my->units.begin;
        memcpy(into_states ? state : h, into_states ? h : state, bytes);
    }
}

static void forward_member(void *argument, int member, int members)
{
    const forward_task *const task = argument;
    lstm_pass *const pass = &task->f->pass;
    const ptrdiff_t units = pass->units;
    const TYPED(kernels) *const kernels = pass->kernels;
    const ptrdiff_t width = kernels->products.width, strips = divide_up(units, width);
    const int by_rows = shares_rows(pass, members);
    const int meeting = members > 1 && !by_rows ? members : 0;
    forward_share my = {.f = task->f, .scratch = task->scratch, .kernels = kernels};
    my.gates = TYPED(select_gates)(kernels, pass->activation, pass->recurrent_activation);
    my.lists = task->scratch->lists[member];
    my.rows = by_rows ? share(pass->batch, member, members) : (range){0, pass->batch};
    my.strips = by_rows ? (range){0, strips} : share(strips, member, members);
    my.units =
        (range){at_most(units, my.strips.begin * width), at_most(units, my.strips.end * width)};
    const fp_mode mode = flush_denormals();
    real *before = task->scratch->states[0], *after = task->scratch->states[1];
    copy_states(&my, before, 1);
    if (meeting)
        team_meet(&pass->meeting, meeting);
    for (ptrdiff_t first = 0; first < pass->steps; first += task->scratch->block) {
        const range steps = {first, at_most(pass->steps, first + task->scratch->block)};
        project(&my, steps);
        for (ptrdiff_t step = steps.begin; step < steps.end; step++) {
            ptrdiff_t count = 0;
            for (ptrdiff_t b = my.rows.begin; b < my.rows.end; b++) {
                if (!is_set(pass->valid, pass, b, step))
                    continue;
                my.lists.a[count] = before + b * task->scratch->state_width;
                my.lists.h[count] = after + b * task->scratch->state_width;
                my.lists.c[count] = (real *)task->f->c + b * units;
                my.lists.z[count++] = z_row(&my, b, first, step);
            }
            advance(&my, count);
            hand_out(&my, step, before, after);
            real *const swap = before;
            before = after, after = swap;
            if (meeting)
                team_meet(&pass->meeting, meeting);
        }
    }
    copy_states(&my, before, 0);
    restore_denormals(mode);
}

static void run_forward(lstm_forward *f)
{
    forward_scratch scratch;
    plan_forward(f, &scratch);
    forward_task task = {f, &scratch};
    team_run(f->pass.members, forward_member, &task);
}

/* ---- backward ------------------------------------------------------------------------------- */

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
    real **panels; /* for each member (rows of a block, panel width) of dz */
    backward_lists *lists;
} backward_scratch;

static size_t plan_backward(const lstm_backward *g, backward_scratch *scratch)
{
    const lstm_pass *const pass = &g->pass;
    const ptrdiff_t rows = pass->batch, width = PANEL_VECTORS * pass->units;
    const ptrdiff_t panel_width = PANEL_VECTORS * width_of(pass->kernels);
    arena memory = {pass->scratch, 0};
    scratch->block = at_least(1, at_most(pass->steps, BACKWARD_BLOCK_ROWS / at_least(1, rows)));
    const size_t longest = rows * scratch->block;
    scratch->dz = take(&memory, longest * width, sizeof(real));
    scratch->sums = take(
        &memory, divide_up(width, panel_width) * (pass->features + pass->units + 1) * panel_width,
        sizeof(real));
    scratch->panels = take(&memory, pass->members, sizeof(real *));
    scratch->lists = take(&memory, pass->members, sizeof(backward_lists));
    for (int member = 0; member < pass->members; member++) {
        real *const panel = take(&memory, longest * panel_width, sizeof(real));
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
            scratch->lists[member] = lists;
        }
    }
    return memory.used;
}

static size_t backward_scratch_bytes(const lstm_backward *g)
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
    real *panel;
    range rows;    /* of the batch, in the loop over time */
    range strips;  /* of dh, in panels */
    range units;   /* of the same strips */
    range columns; /* of dz, in panels, for the weight gradients */
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

/* The rows that take part in a step; returns how many. */
static ptrdiff_t list_step(const backward_share *my, ptrdiff_t first, ptrdiff_t step)
{
    const lstm_backward *const g = my->g;
    const lstm_pass *const pass = &g->pass;
    const backward_lists *const lists = &my->lists;
    ptrdiff_t count = 0;
    for (ptrdiff_t b = my->rows.begin; b < my->rows.end; b++) {
        if (!is_set(pass->valid, pass, b, step))
            continue;
        lists->gates[count] = (const real *)g->gates + (b * pass->steps + place_of(pass, step)) *
                                                           PANEL_VECTORS * pass->units;
        lists->c_before[count] = state_row(pass, g->saved_c, g->c0, b, step - 1);
        lists->c_after[count] = state_row(pass, g->saved_c, g->c0, b, step);
        lists->dh[count] = lists->dh_out[count] = (real *)g->dh + b * pass->units;
        lists->dc[count] = (real *)g->dc + b * pass->units;
        lists->dz_out[count++] = dz_row(my, b, first, step);
    }
    return count;
}

/* One step back: dz from dh and dc, then dh = dz recurrent_kernel'. */
static void step_back(const backward_share *my, ptrdiff_t first, ptrdiff_t step,
                      team_meeting *meeting, int members)
{
    const ptrdiff_t units = my->g->pass.units, width = my->kernels->products.width;
    const backward_lists *const lists = &my->lists;
    real scratch[GATE_SCRATCH_ROWS * PANEL_VECTORS * MOST_WIDTH];
    if (my->g->dy)
        add_output_gradient(my, step);
    const ptrdiff_t count = list_step(my, first, step);
    for (ptrdiff_t j = my->units.begin; j < my->units.end; j += PANEL_VECTORS * width) {
        const gate_range some = {count, units, j,
                                 at_most(PANEL_VECTORS * width, my->units.end - j)};
        my->gates.backward(&my->gates, some, lists->gates, lists->c_before, lists->c_after,
                           lists->dh, lists->dc, lists->dz_out, scratch);
    }
    if (members)
        team_meet(meeting, members);
    const ptrdiff_t depth = PANEL_VECTORS * units;
    for (ptrdiff_t strip = my->strips.begin; strip < my->strips.end; strip++) {
        const panel_columns columns = plain_columns(width, units, strip);
        const real *const panel =
            (const real *)my->g->recurrent_kernel + strip * depth * PANEL_VECTORS * width;
        multiply_rows(my->kernels, count, depth, (const const_row *)lists->dz_out, panel, 0,
                      lists->dh_out, &columns);
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
    for (ptrdiff_t strip = 0; strip < divide_up(pass->features, PANEL_VECTORS * width); strip++) {
        const panel_columns columns = plain_columns(width, pass->features, strip);
        const real *const panel =
            (const real *)my->g->kernel + strip * depth * PANEL_VECTORS * width;
        multiply_rows(my->kernels, rows.end - rows.begin, depth, my->lists.dz + rows.begin, panel,
                      0, my->lists.dx + rows.begin, &columns);
    }
}

/* sums (features, panel width) += rows' panel. */
static void accumulate_rows(const TYPED(kernels) * kernels, ptrdiff_t features, ptrdiff_t rows,
                            const const_row *a, const real *panel, int fresh, real *sums)
{
    const int tiles = (int)divide_up(features, kernels->products.tile_rows);
    for (int tile = 0; tile < tiles; tile++) {
        const range f = share(features, tile, tiles);
        kernels->products.accumulate(f.end - f.begin, rows, a, f.begin, panel, fresh,
                                     sums + f.begin * PANEL_VECTORS * kernels->products.width);
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
    const ptrdiff_t total = PANEL_VECTORS * pass->units;
    for (ptrdiff_t column = my->columns.begin; column < my->columns.end; column++) {
        real *const dkernel = sums_of(my, column);
        real *const drecurrent = dkernel + pass->features * panel_width;
        real *const dbias = drecurrent + pass->units * panel_width;
        const ptrdiff_t first = column * panel_width, count = at_most(panel_width, total - first);
        if (fresh)
            memset(dbias, 0, panel_width * sizeof(real));
        for (ptrdiff_t i = 0; i < rows; i++) {
            real *const to = my->panel + i * panel_width;
            memcpy(to, my->lists.dz[i] + first, count * sizeof(real));
            memset(to + count, 0, (panel_width - count) * sizeof(real));
            for (ptrdiff_t j = 0; j < panel_width; j++)
                dbias[j] += to[j];
        }
        accumulate_rows(my->kernels, pass->features, rows, my->lists.x, my->panel, fresh, dkernel);
        accumulate_rows(my->kernels, pass->units, rows, my->lists.h_before, my->panel, fresh,
                        drecurrent);
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
    backward_share my = {.g = g, .scratch = task->scratch, .kernels = kernels};
    my.gates = TYPED(select_gates)(kernels, pass->activation, pass->recurrent_activation);
    my.lists = task->scratch->lists[member];
    my.panel = task->scratch->panels[member];
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
        if (by_rows)
            team_meet(&pass->meeting, members);
        const ptrdiff_t rows = list_block(&my, steps);
        if (g->dx)
            input_gradient(&my, share(rows, member, members));
        if (rows > 0 || (fresh && block == 0)) {
            add_weight_gradients(&my, rows, fresh);
            fresh = 0;
        }
        if (members > 1)
            team_meet(&pass->meeting, members);
    }
    hand_out_weight_gradients(&my);
    restore_denormals(mode);
}

static void run_backward(lstm_backward *g)
{
    backward_scratch scratch;
    plan_backward(g, &scratch);
    backward_task task = {g, &scratch};
    team_run(g->pass.members, backward_member, &task);
}

const lstm_functions TYPED(lstm_functions) = {
    .gate_panels_size = gate_panels_size,
    .column_panels_size = column_panels_size,
    .pack_gates = pack_gates,
    .pack_columns = pack_columns,
    .forward_members = forward_members,
    .backward_members = backward_members,
    .forward_scratch_bytes = forward_scratch_bytes,
    .backward_scratch_bytes = backward_scratch_bytes,
    .run_forward = run_forward,
    .run_backward = run_backward,
};
