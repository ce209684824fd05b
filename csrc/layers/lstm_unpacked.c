/* SPDX-License-Identifier: MIT
 * The forward pass of lstm.h on plain weights, a row at a time and by one thread; compiled once for
 * each real type.
 *
 * For so few rows that packing the weights would take longer than the pass: each matrix is read
 * once a step, from first to last.
 */
#include "base/cpu.h"
#include "layers/lstm_common.h"

/* One step of one row, on h and c in the caller's arrays. */
static void advance_unpacked(const lstm_forward *f, const TYPED(gates) * gates, ptrdiff_t b,
                             ptrdiff_t step)
{
    const lstm_pass *const pass = &f->pass;
    const TYPED(kernels) *const kernels = pass->kernels;
    const ptrdiff_t units = pass->units, width = GATES * units;
    row z = f->gates ? (real *)f->gates + (b * pass->steps + place_of(pass, step)) * width
                     : pass->workspace;
    row h = (real *)f->h + b * units, c = (real *)f->c + b * units;
    if (f->bias)
        memcpy(z, f->bias, width * sizeof(real));
    else
        memset(z, 0, width * sizeof(real));
    kernels->gemv(pass->features, width, input_row(pass, b, step), f->kernel, z);
    kernels->gemv(units, width, h, f->recurrent_kernel, z);
    for (ptrdiff_t first = 0; first < units; first += MOST_WIDTH) {
        const gate_shape shape = {1, at_most(MOST_WIDTH, units - first), units, units};
        real workspace[GATE_WORKSPACE_ROWS * MOST_WIDTH];
        row z_strip = z + first, c_strip = c + first, h_strip = h + first;
        gates->forward(gates, shape, &z_strip, f->gates ? &z_strip : 0, &c_strip, &h_strip,
                       workspace);
    }
}

void TYPED(lstm_run_forward_unpacked)(lstm_forward *f)
{
    lstm_pass *const pass = &f->pass;
    const TYPED(gates) gates =
        TYPED(select_gates)(pass->kernels, pass->activation, pass->recurrent_activation);
    const range units = {0, pass->units};
    const ptrdiff_t work = GATES * pass->units * (pass->features + pass->units);
    const fp_mode mode = flush_denormals();
    for (ptrdiff_t b = 0; b < pass->batch; b++)
        for (ptrdiff_t step = 0; step < pass->steps && !stops(pass->watch, work); step++) {
            const ptrdiff_t state = b * pass->units;
            if (is_set(pass->valid, pass, b, step))
                advance_unpacked(f, &gates, b, step);
            store_step(f, b, step, units, (real *)f->h + state, (real *)f->c + state);
        }
    restore_denormals(mode);
}
