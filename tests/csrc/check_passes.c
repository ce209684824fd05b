/* SPDX-License-Identifier: MIT
 * The passes of csrc/ on every instruction set of this machine, against plain loops in double.
 *
 * For where Python cannot go, such as an emulator; tools/check_csrc.sh builds and runs it. Outputs
 * must equal those of the loops, gradients of the LSTM the differences of their outputs. And a pass
 * asks whether to stop wherever it works. Define FASTLSTM_DOUBLE.
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

/* ---- the dense layer ------------------------------------------------------------------------ */

static double plain_activation(int activation, double z)
{
    switch (activation) {
    case ACTIVATION_TANH:
        return tanh(z);
    case ACTIVATION_RELU:
        return z > 0 ? z : 0;
    case ACTIVATION_GELU:
        return z * 0.5 * erfc(-z * sqrt(0.5));
    default:
        return z;
    }
}

static double plain_slope(int activation, double z)
{
    switch (activation) {
    case ACTIVATION_TANH:
        return 1 - tanh(z) * tanh(z);
    case ACTIVATION_RELU:
        return z > 0;
    case ACTIVATION_GELU:
        return 0.5 * erfc(-z * sqrt(0.5)) + z * exp(-0.5 * z * z) * 0.3989422804014327;
    default:
        return 1;
    }
}

/* y and dz of one row from its z. */
static void plain_row(const dense_problem *p, const double *z, const real *dy, double *y,
                      double *dz)
{
    double largest = z[0], sum = 0, dot = 0;
    for (ptrdiff_t j = 0; j < p->units; j++) {
        largest = fmax(largest, z[j]);
        y[j] = plain_activation(p->activation, z[j]);
        dz[j] = dy[j] * plain_slope(p->activation, z[j]);
    }
    if (p->activation != ACTIVATION_COUNT)
        return;
    for (ptrdiff_t j = 0; j < p->units; j++)
        sum += y[j] = exp(z[j] - largest);
    for (ptrdiff_t j = 0; j < p->units; j++)
        dot += (y[j] /= sum) * dy[j];
    for (ptrdiff_t j = 0; j < p->units; j++)
        dz[j] = y[j] * (dy[j] - dot);
}

typedef struct {
    double *y, *dx, *dkernel, *dbias;
} dense_results;

static dense_results plain_dense(const dense_problem *p, const real *bias)
{
    const ptrdiff_t features = p->features, units = p->units;
    const dense_results want = {
        calloc(p->rows * units, sizeof(double)), calloc(p->rows * features, sizeof(double)),
        calloc(features * units, sizeof(double)), calloc(units, sizeof(double))};
    double *const z = calloc(2 * units, sizeof(double)), *const dz = z + units;
    for (ptrdiff_t r = 0; r < p->rows; r++) {
        const real *const x = p->x + r * features;
        for (ptrdiff_t j = 0; j < units; j++)
            z[j] = bias ? bias[j] : 0;
        for (ptrdiff_t f = 0; f < features; f++)
            for (ptrdiff_t j = 0; j < units; j++)
                z[j] += (double)x[f] * p->kernel[f * units + j];
        plain_row(p, z, p->dy + r * units, want.y + r * units, dz);
        for (ptrdiff_t f = 0; f < features; f++)
            for (ptrdiff_t j = 0; j < units; j++) {
                want.dx[r * features + f] += dz[j] * p->kernel[f * units + j];
                want.dkernel[f * units + j] += dz[j] * x[f];
            }
        for (ptrdiff_t j = 0; j < units; j++)
            want.dbias[j] += dz[j];
    }
    free(z);
    return want;
}

static double worst_of(const void *got, const double *want, ptrdiff_t count)
{
    double worst = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        const double error = fabs(((const real *)got)[i] - want[i]);
        worst = error <= worst ? worst : error; /* NaN is the worst */
    }
    return worst;
}

/* By how much sums over `count` numbers below 1 may differ. */
static int is_too_far(double error, ptrdiff_t count)
{
    return !(error <= (sizeof(real) == 4 ? 3e-7 : 6e-16) * (4 + (double)count));
}

/* The plain kernel for no workers; `wants` says whether there are a bias (1) and a dx (2). */
static int check_dense(const char *isa, const void *kernels, const dense_problem *p, int workers,
                       int wants)
{
    const real *const bias = wants & 1 ? p->bias : 0;
    const dense_results want = plain_dense(p, bias);
    const dense_forward f = run_dense_forward(p, kernels, workers, bias, 0);
    const dense_backward g = run_dense_backward(p, &f, workers ? workers : 1, wants & 2, 0);
    const ptrdiff_t of_kernel = p->features * p->units;
    const double y = worst_of(f.y, want.y, p->rows * p->units);
    const double dx = g.dx ? worst_of(g.dx, want.dx, p->rows * p->features) : 0;
    const double dkernel = worst_of(g.dkernel, want.dkernel, of_kernel);
    const double dbias = worst_of(g.dbias, want.dbias, p->units);
    const ptrdiff_t depth = p->features;
    const int fails = is_too_far(y, depth) || is_too_far(dx, depth + p->units) ||
                      is_too_far(dkernel, depth + p->rows) || is_too_far(dbias, depth + p->rows);
    if (fails)
        printf("%-8s f%zu dense %td,%td,%td activation %d x%d: y %.1e dx %.1e dkernel %.1e "
               "dbias %.1e  WRONG\n",
               isa, 8 * sizeof(real), p->rows, p->features, p->units, p->activation, workers, y, dx,
               dkernel, dbias);
    free(want.y), free(want.dx), free(want.dkernel), free(want.dbias);
    return fails;
}

/* Every class of shapes: few rows, some, more than a block's; narrow kernels, whole micro-panels
 * and what is left of one; weight gradients that are swapped and not. */
static int check_dense_layers(const char *isa, const void *kernels, int *runs)
{
    static const ptrdiff_t rows[] = {1, 3, 7, 8, 97, 300, 523};
    static const ptrdiff_t sizes[][2] = {{1, 1},   {40, 2},  {5, 3},    {33, 4}, {7, 5},
                                         {64, 64}, {3, 131}, {70, 129}, {129, 6}};
    static const int activations[] = {ACTIVATION_LINEAR, ACTIVATION_TANH, ACTIVATION_RELU,
                                      ACTIVATION_GELU, ACTIVATION_COUNT};
    int failures = 0, number = 0;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int a = 0; a < 5; a++, number++) {
                const dense_problem p =
                    random_dense(rows[r], sizes[s][0], sizes[s][1], activations[a]);
                const int plain = p.units > 4 && p.rows < 8;
                for (int workers = !plain; workers <= 3; workers += 2, ++*runs)
                    failures += check_dense(isa, kernels, &p, workers, number % 4);
                give_back_numbers();
            }
    return failures;
}

/* ---- stopping ------------------------------------------------------------------------------- */

#if !defined(ONLY_BASELINE) /* the same for a tile of any shape */
static int part_of_now, questions[2], stop_at;

static int question(void)
{
    questions[part_of_now]++;
    return stop_at && questions[0] + questions[1] >= stop_at;
}

/* A runtime whose parts are all done by the thread that calls, one after the other. */
static void one_by_one(void (*function)(void *), void *argument, unsigned threads, unsigned flags)
{
    (void)threads, (void)flags;
    for (part_of_now = 0; part_of_now < 2; part_of_now++)
        function(argument);
    part_of_now = 0;
}
static int part_number(void) { return part_of_now; }
static int two(void) { return 2; }

/* Whoever is free does the next part of a task: the thread that calls asks in each that it does. */
static int check_questions_of_all_parts(const void *kernels)
{
    const dense_problem p = random_dense(1024, 600, 300, ACTIVATION_TANH);
    pass_watch watch = new_watch(question);
    stop_at = questions[0] = questions[1] = 0;
    pool_use_runtime(&(pool_runtime){one_by_one, part_number, two, two});
    run_dense_forward(&p, kernels, 2, p.bias, &watch);
    const problem lstm = random_problem((shape){64, 30, 100, 100});
    lstm_forward f = prepared_forward(&lstm, kernels, 2);
    f.pass.watch = &watch;
    const int of_dense[2] = {questions[0], questions[1]};
    functions->run_forward(&f);
    pool_use_runtime(&(pool_runtime){0});
    const int fails =
        !of_dense[0] || !of_dense[1] || questions[0] == of_dense[0] || questions[1] == of_dense[1];
    printf("questions in parts: dense %d, %d, LSTM %d, %d%s\n", of_dense[0], of_dense[1],
           questions[0] - of_dense[0], questions[1] - of_dense[1], fails ? "  WRONG" : "");
    return fails;
}

/* Some questions for so much work, wherever it is done. */
static int check_questions_of_dense(const void *kernels)
{
    static const ptrdiff_t shapes[][3] = {{2000, 30000, 2}, {3000, 100, 600}, {7, 3000, 3000}};
    int failures = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const dense_problem p =
            random_dense(shapes[s][0], shapes[s][1], shapes[s][2], ACTIVATION_LINEAR);
        const double work = (double)p.rows * (double)p.features * (double)p.units;
        const int least = (int)(work / (2.0 * WORK_BEFORE_QUESTION));
        pass_watch watch = new_watch(question);
        questions[0] = 0;
        const dense_forward f = run_dense_forward(&p, kernels, 1, p.bias, &watch);
        const int forward = questions[0];
        run_dense_backward(&p, &f, 1, 1, &watch);
        const int backward = questions[0] - forward, fails = forward < least || backward < least;
        printf("questions: %d forward, %d backward of at least %d%s\n", forward, backward, least,
               fails ? "  WRONG" : "");
        failures += fails;
    }
    return failures;
}

/* A pass that is stopped at any question returns, with all of its threads. */
static int check_stops(const void *kernels)
{
    const dense_problem rows = random_dense(900, 300, 300, ACTIVATION_COUNT);
    const dense_problem columns = random_dense(7, 3000, 2000, ACTIVATION_COUNT);
    const dense_forward ran[2] = {run_dense_forward(&rows, kernels, 1, 0, 0),
                                  run_dense_forward(&columns, kernels, 1, 0, 0)};
    int failures = 0;
    for (int workers = 1; workers <= 3; workers++)
        for (stop_at = 1; stop_at <= 3; stop_at++) {
            const dense_problem *const both[] = {&rows, &columns};
            for (int i = 0; i < 2; i++)
                for (int backward = 0; backward < 2; backward++) {
                    pass_watch watch = new_watch(question);
                    questions[0] = questions[1] = 0;
                    if (backward)
                        run_dense_backward(both[i], &ran[i], workers, 1, &watch);
                    else
                        run_dense_forward(both[i], kernels, workers, 0, &watch);
                    failures +=
                        questions[0] > stop_at || is_stopped(&watch) != (questions[0] == stop_at);
                }
        }
    stop_at = 0;
    printf("%d of %d stopped passes wrong\n", failures, 36);
    return failures;
}

static int check_stopping(const void *kernels)
{
    return check_questions_of_all_parts(kernels) + check_questions_of_dense(kernels) +
           check_stops(kernels);
}
#else
static int check_stopping(const void *kernels) { return !kernels; }
#endif

/* ---- all of them ---------------------------------------------------------------------------- */

int main(void)
{
    static const shape shapes[] = {{1, 7, 3, 5}, {3, 4, 5, 17},  {7, 9, 11, 20},
                                   {2, 3, 1, 1}, {5, 6, 33, 35}, {19, 4, 6, 70}};
    int failures = 0, runs = 0;
    const void *last = 0;
    pool_set_size(3);
    pool_oversubscribe(1);
    for (int i = 0; i < ISAS; i++) {
        const void *const kernels = TYPED(find_kernels)(isas[i].isa);
        if (!kernels)
            continue;
        for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++)
            for (int workers = 1; workers <= 2; workers++, runs++) {
                failures += check(isas[i].name, kernels, shapes[n], workers);
                give_back_numbers();
            }
        failures += check_dense_layers(isas[i].name, kernels, &runs);
        last = kernels;
    }
    failures += check_stopping(last);
    printf("%d of %d wrong\n", failures, runs);
    return failures > 0 || runs == 0;
}
