/* SPDX-License-Identifier: MIT
 * The panels of lstm.h, and the table of all its functions; compiled once for each real type.
 */
#include "lstm_common.h"

static ptrdiff_t column_panels_size(const void *kernels, ptrdiff_t depth, ptrdiff_t columns)
{
    const ptrdiff_t width = width_of(kernels);
    return divide_up(columns, width) * width * depth;
}

static ptrdiff_t gate_panels_size(const void *kernels, ptrdiff_t depth, ptrdiff_t units)
{
    return column_panels_size(kernels, depth, PANEL_VECTORS * units);
}

/* Strips of as many units as a vector has elements; in the last, narrower one the gates follow each
 * other just as closely, and need fewer vectors. */
static void pack_gates(const void *kernels, ptrdiff_t depth, ptrdiff_t units, const void *weights,
                       void *panels)
{
    const ptrdiff_t width = width_of(kernels);
    real *panel = panels;
    for (ptrdiff_t first = 0; first < units; first += width) {
        const ptrdiff_t count = at_most(width, units - first);
        const ptrdiff_t filling =
            divide_up(PANEL_VECTORS * count, width) * width - PANEL_VECTORS * count;
        const real *from = (const real *)weights + first;
        for (ptrdiff_t k = 0; k < depth; k++, from += PANEL_VECTORS * units) {
            for (int v = 0; v < PANEL_VECTORS; v++, panel += count)
                memcpy(panel, from + v * units, count * sizeof(real));
            memset(panel, 0, filling * sizeof(real));
            panel += filling;
        }
    }
}

/* Transposes a block of a panel, at most BLOCK rows by BLOCK columns, of which some may be filling.
 * It is copied first: reading each cache line once and at once does not depend on how many lines of
 * the matrix share a place in the cache. */
enum { BLOCK = 16 };

static void transpose_block(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t filled, const real *from,
                            ptrdiff_t depth, real *to, ptrdiff_t panel_width)
{
    real block[BLOCK][BLOCK] = {{0}};
    for (ptrdiff_t column = 0; column < columns; column++)
        memcpy(block[column], from + column * depth, rows * sizeof(real));
    for (ptrdiff_t k = 0; k < rows; k++)
        for (ptrdiff_t column = 0; column < filled; column++)
            to[k * panel_width + column] = block[column][k];
}

static void pack_columns(const void *kernels, ptrdiff_t depth, ptrdiff_t columns,
                         const void *weights, void *panels)
{
    const ptrdiff_t width = width_of(kernels), widest = PANEL_VECTORS * width;
    real *panel = panels;
    for (ptrdiff_t first = 0; first < columns; first += widest) {
        const real *const from = (const real *)weights + first * depth;
        const ptrdiff_t count = at_most(widest, columns - first);
        const ptrdiff_t panel_width = divide_up(count, width) * width;
        for (ptrdiff_t column = 0; column < panel_width; column += BLOCK)
            for (ptrdiff_t k = 0; k < depth; k += BLOCK)
                transpose_block(at_most(BLOCK, depth - k),
                                at_least(0, at_most(BLOCK, count - column)),
                                at_most(BLOCK, panel_width - column), from + column * depth + k,
                                depth, panel + k * panel_width + column, panel_width);
        panel += depth * panel_width;
    }
}

static int forward_members(const lstm_pass *pass)
{
    return members_for(pass, width_of(pass->kernels));
}

static int backward_members(const lstm_pass *pass)
{
    return members_for(pass, PANEL_VECTORS * width_of(pass->kernels));
}

const lstm_functions TYPED(lstm_functions) = {
    .gate_panels_size = gate_panels_size,
    .column_panels_size = column_panels_size,
    .pack_gates = pack_gates,
    .pack_columns = pack_columns,
    .forward_members = forward_members,
    .backward_members = backward_members,
    .forward_scratch_bytes = TYPED(lstm_forward_scratch_bytes),
    .backward_scratch_bytes = TYPED(lstm_backward_scratch_bytes),
    .run_forward = TYPED(lstm_run_forward),
    .run_forward_plain = TYPED(lstm_run_forward_plain),
    .run_backward = TYPED(lstm_run_backward),
};
