/* SPDX-License-Identifier: MIT
 * Problems for the passes of csrc/, and a pass over one; for the checks beside, which give the
 * arrays back by give_back_numbers. Define FASTLSTM_DOUBLE.
 */
#ifndef FASTLSTM_TESTS_PROBLEMS_H
#define FASTLSTM_TESTS_PROBLEMS_H

#include "base/blocks.h"
#include "layers/dense.h"
#include "kernels/dispatch.h"
#include "layers/lstm.h"
#include "layers/pack.h"
#include "base/real.h"

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

enum { MOST_ARRAYS = 1 << 12 };
static block arrays[MOST_ARRAYS];
static int array_count;

/* Memory as the passes want it; random numbers in it. */
static inline real *numbers(size_t count)
{
    const block taken = block_take(count * sizeof(real));
    const int place = __atomic_fetch_add(&array_count, 1, __ATOMIC_RELAXED);
    if (!taken.data || place >= MOST_ARRAYS)
        abort();
    arrays[place] = taken;
    real *const p = taken.data;
    for (size_t i = 0; i < count; i++)
        p[i] = (real)uniform();
    return p;
}

/* Of all arrays since the last time, when nobody reads them any more. */
static inline void give_back_numbers(void)
{
    for (int i = 0; i < array_count; i++)
        block_give(arrays[i]);
    array_count = 0;
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
static const packing_functions *const packing = &TYPED(packing);
static const dense_functions *const dense = &TYPED(dense);

/* weights (depth, groups * count) and (columns, depth). */
static inline real *packed_groups(const void *kernels, ptrdiff_t depth, int groups, ptrdiff_t count,
                                  const real *weights)
{
    real *const packed = numbers(packing->size(kernels, depth, groups * count));
    packing->groups(kernels, depth, groups, count, weights, packed);
    return packed;
}

static inline real *packed_transposed(const void *kernels, ptrdiff_t depth, ptrdiff_t columns,
                                      const real *weights)
{
    real *const packed = numbers(packing->size(kernels, depth, columns));
    packing->transposed(kernels, depth, columns, weights, packed);
    return packed;
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
    f.kernel = packed_groups(kernels, n.features, GATES, n.units, p->kernel);
    f.recurrent_kernel = packed_groups(kernels, n.units, GATES, n.units, p->recurrent_kernel);
    f.bias = packed_groups(kernels, 1, GATES, n.units, p->bias);
    f.h = copy(p->h0, n.batch * n.units);
    f.c = copy(p->c0, n.batch * n.units);
    f.y = numbers(n.batch * n.steps * n.units);
    f.gates = numbers(n.batch * n.steps * 4 * n.units);
    f.saved_c = numbers(n.batch * n.steps * n.units);
    f.pass.workspace = numbers(functions->forward_workspace_bytes(&f) / sizeof(real));
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
    g.pass.barrier = (barrier){0};
    g.kernel = packed_transposed(f->pass.kernels, 4 * n.units, n.features, p->kernel);
    g.recurrent_kernel =
        packed_transposed(f->pass.kernels, 4 * n.units, n.units, p->recurrent_kernel);
    g.dh = calloc(n.batch * n.units, sizeof(real));
    g.dc = calloc(n.batch * n.units, sizeof(real));
    g.dx = numbers(n.batch * n.steps * n.features);
    g.dkernel = numbers(n.features * 4 * n.units);
    g.drecurrent_kernel = numbers(n.units * 4 * n.units);
    g.dbias = numbers(4 * n.units);
    g.pass.workspace = numbers(functions->backward_workspace_bytes(&g) / sizeof(real));
    functions->run_backward(&g);
    return g;
}

/* ---- the dense layer ------------------------------------------------------------------------ */

typedef struct {
    ptrdiff_t rows, features, units;
    int activation; /* ACTIVATION_COUNT is softmax */
    real *x, *kernel, *bias, *dy;
} dense_problem;

static inline dense_problem random_dense(ptrdiff_t rows, ptrdiff_t features, ptrdiff_t units,
                                         int activation)
{
    return (dense_problem){rows,
                           features,
                           units,
                           activation,
                           numbers(rows * features),
                           numbers(features * units),
                           numbers(units),
                           numbers(rows * units)};
}

static inline dense_pass prepared_dense(const dense_problem *p, const void *kernels, int workers)
{
    return (dense_pass){.kernels = kernels,
                        .activation = p->activation,
                        .workers = workers,
                        .rows = p->rows,
                        .features = p->features,
                        .units = p->units,
                        .x = p->x};
}

/* On packed weights where there are `workers`, on the plain kernel for 0. */
static inline dense_forward run_dense_forward(const dense_problem *p, const void *kernels,
                                              int workers, const real *bias, pass_watch *watch)
{
    dense_forward f = {.pass = prepared_dense(p, kernels, workers ? workers : 1), .bias = bias};
    f.pass.watch = watch;
    f.z = numbers(p->rows * p->units);
    f.y = p->activation == ACTIVATION_LINEAR ? f.z : numbers(p->rows * p->units);
    if (workers) {
        real *const packed = numbers(dense->packed_size(kernels, p->features, p->units));
        dense->pack(kernels, p->features, p->units, p->kernel, packed);
        f.kernel = packed;
        dense->run_forward(&f);
    } else {
        f.kernel = p->kernel;
        dense->run_forward_unpacked(&f);
    }
    return f;
}

static inline dense_backward run_dense_backward(const dense_problem *p, const dense_forward *f,
                                                int workers, int wants_dx, pass_watch *watch)
{
    dense_backward g = {.pass = prepared_dense(p, f->pass.kernels, workers),
                        .kernel = p->kernel,
                        .z = f->z,
                        .y = f->y,
                        .dy = p->dy};
    g.pass.watch = watch;
    if (wants_dx && dense->wants_transposed(&g.pass))
        g.kernel = packed_transposed(f->pass.kernels, p->units, p->features, p->kernel);
    g.dx = wants_dx ? numbers(p->rows * p->features) : 0;
    g.dkernel = numbers(p->features * p->units);
    g.dbias = numbers(p->units);
    g.pass.workspace = numbers(dense->backward_workspace_bytes(&g) / sizeof(real));
    dense->run_backward(&g);
    return g;
}

/* ---- instruction sets ----------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum isa isa;
} isas[] = {
    {"baseline", ISA_BASELINE},
#if !defined(ONLY_BASELINE)
    {"neon", ISA_NEON},
    {"avx2", ISA_AVX2},
    {"avx512", ISA_AVX512},
#endif
};

enum { ISAS = sizeof isas / sizeof *isas };

#endif
