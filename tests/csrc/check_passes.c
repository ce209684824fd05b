/* SPDX-License-Identifier: MIT
 * The passes of csrc/ on every instruction set of this machine, against plain loops in double.
 *
 * For where Python cannot go, such as an emulator; tools/check_csrc.sh builds and runs it. Outputs
 * must equal those of the loops, gradients the differences of their outputs. Define
 * FASTLSTM_DOUBLE.
 */
#include "blocks.h"
#include "dispatch.h"
#include "lstm.h"
#include "real.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the differences: their error is its square, and the rounding of an input over it. */
#define STEP (sizeof(real) == 4 ? 1e-3 : 1e-4)

typedef struct {
    ptrdiff_t batch, steps, features, units;
} shape;

typedef struct {
    shape n;
    real *x, *kernel, *recurrent_kernel, *bias, *h0, *c0, *dy;
} problem;

static double uniform(void) { return rand() / (RAND_MAX + 1.0) - 0.5; }

/* Memory as the passes want it; random numbers in it. */
static real *numbers(size_t count)
{
    real *const p = block_take(count * sizeof(real)).data;
    for (size_t i = 0; i < count; i++)
        p[i] = (real)uniform();
    return p;
}

static problem random_problem(shape n)
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
    };
    return p;
}

/* ---- the plain loops ------------------------------------------------------------------------ */

static double logistic(double z) { return 1 / (1 + exp(-z)); }

static double pre_activation(const problem *p, const real *x, const double *h, ptrdiff_t column)
{
    const ptrdiff_t width = 4 * p->n.units;
    double z = p->bias[column];
    for (ptrdiff_t k = 0; k < p->n.features; k++)
        z += (double)x[k] * p->kernel[k * width + column];
    for (ptrdiff_t k = 0; k < p->n.units; k++)
        z += h[k] * p->recurrent_kernel[k * width + column];
    return z;
}

/* y (B, T, H); returns the sum of y * dy, whose gradients the backward pass must find. */
static double plain_forward(const problem *p, double *y)
{
    const shape n = p->n;
    double *const h = calloc(2 * n.units, sizeof(double)), *const c =
                                                               calloc(n.units, sizeof(double));
    double sum = 0;
    for (ptrdiff_t b = 0; b < n.batch; b++) {
        double *before = h, *after = h + n.units;
        for (ptrdiff_t j = 0; j < n.units; j++) {
            before[j] = p->h0[b * n.units + j];
            c[j] = p->c0[b * n.units + j];
        }
        for (ptrdiff_t t = 0; t < n.steps; t++) {
            const real *const x = p->x + (b * n.steps + t) * n.features;
            for (ptrdiff_t j = 0; j < n.units; j++) {
                double z[4];
                for (ptrdiff_t gate = 0; gate < 4; gate++)
                    z[gate] = pre_activation(p, x, before, gate * n.units + j);
                c[j] = logistic(z[1]) * c[j] + logistic(z[0]) * tanh(z[2]);
                after[j] = logistic(z[3]) * tanh(c[j]);
                const ptrdiff_t place = (b * n.steps + t) * n.units + j;
                y[place] = after[j];
                sum += after[j] * p->dy[place];
            }
            double *const swap = before;
            before = after, after = swap;
        }
    }
    free(h);
    free(c);
    return sum;
}

/* ---- the passes ----------------------------------------------------------------------------- */

static const lstm_functions *const functions = &TYPED(lstm_functions);

static real *packed_gates(const void *kernels, ptrdiff_t depth, ptrdiff_t units,
                          const real *weights)
{
    real *const panels = numbers(functions->gate_panels_size(kernels, depth, units));
    functions->pack_gates(kernels, depth, units, weights, panels);
    return panels;
}

static real *packed_columns(const void *kernels, ptrdiff_t columns, ptrdiff_t units,
                            const real *weights)
{
    real *const panels = numbers(functions->column_panels_size(kernels, 4 * units, columns));
    functions->pack_columns(kernels, 4 * units, columns, weights, panels);
    return panels;
}

static real *copy(const real *from, size_t count)
{
    real *const to = numbers(count);
    memcpy(to, from, count * sizeof(real));
    return to;
}

/* Memory is not given back: the program is short. */
static lstm_forward run_forward(const problem *p, const void *kernels, int members)
{
    const shape n = p->n;
    lstm_forward f = {.pass = {.kernels = kernels,
                               .activation = ACTIVATION_TANH,
                               .recurrent_activation = ACTIVATION_SIGMOID,
                               .members = members,
                               .batch = n.batch,
                               .steps = n.steps,
                               .features = n.features,
                               .units = n.units,
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
    functions->run_forward(&f);
    return f;
}

static lstm_backward run_backward(const problem *p, const lstm_forward *f)
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

/* ---- the checks ----------------------------------------------------------------------------- */

static double worst_output(const problem *p, const lstm_forward *f)
{
    const ptrdiff_t count = p->n.batch * p->n.steps * p->n.units;
    double *const want = calloc(count, sizeof(double)), worst = 0;
    plain_forward(p, want);
    for (ptrdiff_t i = 0; i < count; i++)
        worst = fmax(worst, fabs(want[i] - ((const real *)f->y)[i]));
    free(want);
    return worst;
}

/* How far an element of a gradient is from the difference of the sums on both sides of it. */
static double gradient_error(const problem *p, real *values, const void *gradient, ptrdiff_t place)
{
    double *const y = calloc(p->n.batch * p->n.steps * p->n.units, sizeof(double)), sums[2];
    const real kept = values[place], step = (real)STEP;
    values[place] = kept + step;
    const real above = values[place];
    sums[1] = plain_forward(p, y);
    values[place] = kept - step;
    sums[0] = plain_forward(p, y);
    const double width = (double)above - values[place];
    values[place] = kept;
    free(y);
    const double want = (sums[1] - sums[0]) / width;
    return fabs(want - ((const real *)gradient)[place]) / (1 + fabs(want));
}

static int check(const char *isa, const void *kernels, shape n, int members)
{
    const problem p = random_problem(n);
    const lstm_forward f = run_forward(&p, kernels, members);
    const lstm_backward g = run_backward(&p, &f);
    const double output = worst_output(&p, &f);
    double gradient = 0;
    const struct {
        real *values;
        const void *gradient;
        ptrdiff_t count;
    } pairs[] = {
        {p.x, g.dx, n.batch * n.steps * n.features},
        {p.kernel, g.dkernel, n.features * 4 * n.units},
        {p.recurrent_kernel, g.drecurrent_kernel, n.units * 4 * n.units},
        {p.bias, g.dbias, 4 * n.units},
        {p.h0, g.dh, n.batch * n.units},
        {p.c0, g.dc, n.batch * n.units},
    };
    for (size_t pair = 0; pair < sizeof pairs / sizeof *pairs; pair++)
        for (ptrdiff_t place = 0; place < pairs[pair].count; place += 1 + pairs[pair].count / 5)
            gradient =
                fmax(gradient, gradient_error(&p, pairs[pair].values, pairs[pair].gradient, place));
    const int fails =
        output > (sizeof(real) == 4 ? 2e-6 : 1e-14) || gradient > (sizeof(real) == 4 ? 2e-4 : 1e-7);
    printf("%-8s f%zu %td,%td,%td,%td x%d: output %.1e gradient %.1e%s\n", isa, 8 * sizeof(real),
           n.batch, n.steps, n.features, n.units, members, output, gradient,
           fails ? "  WRONG" : "");
    return fails;
}

int main(void)
{
    static const struct {
        const char *name;
        enum isa isa;
    } isas[] = {
        {"baseline", ISA_BASELINE}, {"neon", ISA_NEON}, {"avx2", ISA_AVX2}, {"avx512", ISA_AVX512}};
    static const shape shapes[] = {{1, 7, 3, 5}, {3, 4, 5, 17},  {7, 9, 11, 20},
                                   {2, 3, 1, 1}, {5, 6, 33, 35}, {19, 4, 6, 70}};
    int failures = 0, runs = 0;
    team_set_size(2);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        const void *const kernels = TYPED(find_kernels)(isas[i].isa);
        for (size_t n = 0; kernels && n < sizeof shapes / sizeof *shapes; n++)
            for (int members = 1; members <= 2; members++, runs++)
                failures += check(isas[i].name, kernels, shapes[n], members);
    }
    printf("%d of %d wrong\n", failures, runs);
    return failures > 0 || runs == 0;
}
