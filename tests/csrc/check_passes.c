/* SPDX-License-Identifier: MIT
 * The passes of csrc/ on every instruction set of this machine, against plain loops in double.
 *
 * For where Python cannot go, such as an emulator; tools/check_csrc.sh builds and runs it. Outputs
 * must equal those of the loops, gradients the differences of their outputs. Define
 * FASTLSTM_DOUBLE.
 */
#include "problems.h"

#include <math.h>
#include <stdio.h>

/* Of the differences: their error is its square, and the rounding of an input over it. */
#define STEP (sizeof(real) == 4 ? 1e-3 : 1e-4)

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

static int check(const char *isa, const void *kernels, shape n, int workers)
{
    const problem p = random_problem(n);
    const lstm_forward f = run_forward(&p, kernels, workers);
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
           n.batch, n.steps, n.features, n.units, workers, output, gradient,
           fails ? "  WRONG" : "");
    return fails;
}

int main(void)
{
    static const shape shapes[] = {{1, 7, 3, 5}, {3, 4, 5, 17},  {7, 9, 11, 20},
                                   {2, 3, 1, 1}, {5, 6, 33, 35}, {19, 4, 6, 70}};
    int failures = 0, runs = 0;
    pool_set_size(2);
    for (int i = 0; i < ISAS; i++) {
        const void *const kernels = TYPED(find_kernels)(isas[i].isa);
        for (size_t n = 0; kernels && n < sizeof shapes / sizeof *shapes; n++)
            for (int workers = 1; workers <= 2; workers++, runs++)
                failures += check(isas[i].name, kernels, shapes[n], workers);
    }
    printf("%d of %d wrong\n", failures, runs);
    return failures > 0 || runs == 0;
}
