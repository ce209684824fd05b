/* SPDX-License-Identifier: MIT
 * Problems for the passes of csrc/, and a pass over one; for the checks beside. Memory is not given
 * back: the programs are short. Define FASTLSTM_DOUBLE.
 */
#ifndef FASTLSTM_TESTS_PROBLEMS_H
#define FASTLSTM_TESTS_PROBLEMS_H

#include "blocks.h"
#include "dispatch.h"
#include "lstm.h"
#include "real.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    ptrdiff_t batch, steps, features, units;
} shape;

typedef struct {
    shape n;
    real *x, *kernel, *recurrent_kernel, *bias, *h0, *c0, *dy;
    unsigned char *valid, *shown; /* NULL: all */
} problem;

static inline double uniform(void) { return rand() / (RAND_MAX + 1.0) - 0.5; }

/* Memory as the passes want it; random numbers in it. */
static inline real *numbers(size_t count)
{
    real *const p = block_take(count * sizeof(real)).data;
    for (size_t i = 0; i < count; i++)
        p[i] = (real)uniform();
    return p;
}

static inline problem random_problem(shape n)
{
    const problem p = {
        n,
        numbers(n.batch * n.steps * n.features),
        numbers(n.features * 4 * n.units),
        numbers(n.units * 4 * n.units),
        numbers(4 * n.units),
        numbers(n.batch * n.units),
        numbers(n.batch * n.units),
        numbers(n.batch * n.steps * n.units),
        0,
        0,
    };
    return p;
}

/* ---- the passes ----------------------------------------------------------------------------- */

static const lstm_functions *const functions = &TYPED(lstm_functions);

static inline real *packed_gates(const void *kernels, ptrdiff_t depth, ptrdiff_t units,
                                 const real *weights)
{
    real *const panels = numbers(functions->gate_panels_size(kernels, depth, units));
    functions->pack_gates(kernels, depth, units, weights, panels);
    return panels;
}

static inline real *packed_columns(const void *kernels, ptrdiff_t columns, ptrdiff_t units,
                                   const real *weights)
{
    real *const panels = numbers(functions->column_panels_size(kernels, 4 * units, columns));
    functions->pack_columns(kernels, 4 * units, columns, weights, panels);
    return panels;
}

static inline real *copy(const real *from, size_t count)
{
    real *const to = numbers(count);
    memcpy(to, from, count * sizeof(real));
    return to;
}

static inline lstm_forward prepared_forward(const problem *p, const void *kernels, int workers)
{
    const shape n = p->n;
    lstm_forward f = {.pass = {.kernels = kernels,
                               .activation = ACTIVATION_TANH,
                               .recurrent_activation = ACTIVATION_SIGMOID,
                               .workers = workers,
                               .batch = n.batch,
                               .steps = n.steps,
                               .features = n.features,
                               .units = n.units,
                               .valid = p->valid,
                               .shown = p->shown,
                               .x = p->x}};
    f.kernel = packed_gates(kernels, n.features, n.units, p->kernel);
    f.recurrent_kernel = packed_gates(kernels, n.units, n.units, p->recurrent_kernel);
    f.bias = packed_gates(kernels, 1, n.units, p->bias);
    f.h = copy(p->h0, n.batch * n.units);
    f.c = copy(p->c0, n.batch * n.units);
    f.y = numbers(n.batch * n.steps * n.units);
    f.gates = numbers(n.batch * n.steps * 4 * n.units);
    f.saved_c = numbers(n.batch * n.steps * n.units);
    f.pass.scratch = numbers(functions->forward_scratch_bytes(&f) / sizeof(real));
    return f;
}

static inline lstm_forward run_forward(const problem *p, const void *kernels, int workers)
{
    lstm_forward f = prepared_forward(p, kernels, workers);
    functions->run_forward(&f);
    return f;
}

static inline lstm_backward run_backward(const problem *p, const lstm_forward *f)
{
    const shape n = p->n;
    lstm_backward g = {.pass = f->pass,
                       .gates = f->gates,
                       .saved_c = f->saved_c,
                       .saved_h = f->y,
                       .h0 = p->h0,
                       .c0 = p->c0,
                       .dy = p->dy};
    g.kernel = packed_columns(f->pass.kernels, n.features, n.units, p->kernel);
    g.recurrent_kernel = packed_columns(f->pass.kernels, n.units, n.units, p->recurrent_kernel);
    g.dh = calloc(n.batch * n.units, sizeof(real));
    g.dc = calloc(n.batch * n.units, sizeof(real));
    g.dx = numbers(n.batch * n.steps * n.features);
    g.dkernel = numbers(n.features * 4 * n.units);
    g.drecurrent_kernel = numbers(n.units * 4 * n.units);
    g.dbias = numbers(4 * n.units);
    g.pass.scratch = numbers(functions->backward_scratch_bytes(&g) / sizeof(real));
    functions->run_backward(&g);
    return g;
}

/* ---- instruction sets ----------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum isa isa;
} isas[] = {
    {"baseline", ISA_BASELINE}, {"neon", ISA_NEON}, {"avx2", ISA_AVX2}, {"avx512", ISA_AVX512}};

enum { ISAS = sizeof isas / sizeof *isas };

#endif
