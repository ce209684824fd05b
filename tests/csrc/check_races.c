/* SPDX-License-Identifier: MIT
 * The passes of csrc/ shared out over several numbers of threads, in every way that they share work
 * out: each result must be that of one thread, to the bit. tools/check_csrc.sh runs it under
 * ThreadSanitizer where the compiler has it. Define FASTLSTM_DOUBLE.
 */
#include "layers/lstm_common.h"
#include "problems.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

enum { MOST_WORKERS = 3, CALLERS = 3 };

/* Each has work enough that sleeping threads are woken. */
static const struct {
    const char *way;
    shape n;
    int masked;
} cases[] = {
    {"rows", {17, 9, 50, 103}, 0},
    {"rows, masked", {18, 9, 51, 101}, 1},
    {"units, both products in a step", {5, 18, 120, 107}, 0},
    {"units, both products, masked", {6, 17, 110, 107}, 1},
    {"units, blocks of steps projected", {1, 43, 100, 181}, 0},
    {"units, blocks projected, masked", {2, 22, 99, 179}, 1},
    {"fewer strips than workers", {3, 60, 700, 17}, 0},
    {"packing", {2, 5, 160, 420}, 0},
};

static const char *way;
static int failures, runs;

static unsigned char *flags(size_t count)
{
    unsigned char *const p = malloc(count);
    for (size_t i = 0; i < count; i++)
        p[i] = uniform() < 0.3;
    return p;
}

static problem random_case(shape n, int masked)
{
    problem p = random_problem(n);
    if (masked) {
        p.valid = flags(n.batch * n.steps);
        p.shown = flags(n.batch * n.steps);
    }
    return p;
}

static void compare(const char *name, int workers, const void *got, const void *want,
                    ptrdiff_t count)
{
    const int differs = memcmp(got, want, count * sizeof(real)) != 0;
    if (differs)
        printf("f%zu %s x%d: %s  WRONG\n", 8 * sizeof(real), way, workers, name);
    __atomic_add_fetch(&failures, differs, __ATOMIC_RELAXED);
    __atomic_add_fetch(&runs, 1, __ATOMIC_RELAXED);
}

static void compare_forward(int workers, const problem *p, const lstm_forward *got,
                            const lstm_forward *want)
{
    const ptrdiff_t state = p->n.batch * p->n.units;
    compare("y", workers, got->y, want->y, state * p->n.steps);
    compare("h", workers, got->h, want->h, state);
    compare("c", workers, got->c, want->c, state);
}

static void compare_backward(int workers, const problem *p, const lstm_backward *got,
                             const lstm_backward *want)
{
    const shape n = p->n;
    /* Where a step does not count, dx is not written. */
    if (!p->valid)
        compare("dx", workers, got->dx, want->dx, n.batch * n.steps * n.features);
    compare("dkernel", workers, got->dkernel, want->dkernel, n.features * 4 * n.units);
    compare("drecurrent_kernel", workers, got->drecurrent_kernel, want->drecurrent_kernel,
            n.units * 4 * n.units);
    compare("dbias", workers, got->dbias, want->dbias, 4 * n.units);
    compare("dh", workers, got->dh, want->dh, n.batch * n.units);
    compare("dc", workers, got->dc, want->dc, n.batch * n.units);
}

static void check_packing(const problem *p, const void *kernels, int workers)
{
    const shape n = p->n;
    real *packed[2][2];
    for (int several = 0; several < 2; several++) {
        pool_set_size(several ? workers : 1);
        packed[several][0] = packed_groups(kernels, n.units, GATES, n.units, p->recurrent_kernel);
        packed[several][1] = packed_transposed(kernels, 4 * n.units, n.units, p->recurrent_kernel);
    }
    compare("packed gates", workers, packed[1][0], packed[0][0],
            packing->size(kernels, n.units, GATES * n.units));
    compare("packed columns", workers, packed[1][1], packed[0][1],
            packing->size(kernels, 4 * n.units, n.units));
}

static void check_pair(const problem *p, const problem *other, const void *kernels, int workers,
                       const lstm_forward *want)
{
    lstm_forward first = prepared_forward(p, kernels, 1);
    lstm_forward second = prepared_forward(other, kernels, 1);
    second.pass.go_backwards = 1;
    functions->run_forward_pair((lstm_forward *const[]){&first, &second});
    lstm_forward alone = prepared_forward(other, kernels, 1);
    alone.pass.go_backwards = 1;
    functions->run_forward(&alone);
    compare_forward(workers, p, &first, want);
    compare_forward(workers, other, &second, &alone);
}

/* ---- a stack of passes ---------------------------------------------------------------------- */

enum { MOST_LAYERS = 5 };

/* Each has work enough that sleeping threads are woken. */
static const struct {
    const char *way;
    int layers;
    shape n;
    int masked;
} stacks[] = {
    {"stack: blocks projected", 2, {1, 75, 70, 131}, 0},
    {"stack: blocks projected, masked", 3, {2, 41, 99, 103}, 1},
    {"stack: both products in a step", 4, {5, 33, 64, 71}, 0},
    {"stack: both products, masked", 5, {7, 37, 30, 67}, 1},
};

static lstm_forward prepared_layer(const problem *p, const void *kernels, const lstm_forward *below)
{
    lstm_forward f = prepared_forward(p, kernels, 1);
    f.saved_h = numbers(p->n.batch * p->n.steps * p->n.units);
    if (below)
        f.pass.x = below->y;
    else
        f.pass.go_backwards = p->valid != 0;
    return f;
}

static void compare_layer(int workers, const problem *p, const lstm_forward *got,
                          const lstm_forward *want)
{
    const ptrdiff_t states = p->n.batch * p->n.steps * p->n.units;
    compare_forward(workers, p, got, want);
    compare("saved h", workers, got->saved_h, want->saved_h, states);
    compare("saved c", workers, got->saved_c, want->saved_c, states);
    if (!p->valid)
        compare("gates", workers, got->gates, want->gates, states * GATES);
}

static void check_stack(const void *kernels, size_t number)
{
    const int layers = stacks[number].layers;
    problem problems[MOST_LAYERS];
    lstm_forward want[MOST_LAYERS];
    shape n = stacks[number].n;
    way = stacks[number].way;
    pool_set_size(1);
    for (int i = 0; i < layers; i++) {
        problems[i] = random_case(n, stacks[number].masked);
        n.features = n.units;
        want[i] = prepared_layer(&problems[i], kernels, i ? &want[i - 1] : 0);
        functions->run_forward(&want[i]);
    }
    for (int workers = 1; workers <= MOST_WORKERS; workers++) {
        lstm_forward got[MOST_LAYERS], *passes[MOST_LAYERS];
        pool_set_size(workers);
        for (int i = 0; i < layers; i++) {
            got[i] = prepared_layer(&problems[i], kernels, i ? &got[i - 1] : 0);
            passes[i] = &got[i];
        }
        functions->run_forward_stack(passes, layers);
        for (int i = 0; i < layers; i++)
            compare_layer(workers, &problems[i], &got[i], &want[i]);
    }
}

/* ---- all the ways --------------------------------------------------------------------------- */

static void check(const void *kernels, shape n, int masked)
{
    const problem p = random_case(n, masked), other = random_case(n, masked);
    pool_set_size(1);
    const lstm_forward want = run_forward(&p, kernels, 1);
    const lstm_backward want_back = run_backward(&p, &want);
    for (int workers = 2; workers <= MOST_WORKERS; workers++) {
        pool_set_size(workers);
        for (int meeting = 0; meeting <= (workers == 2 ? 3 : 0); meeting += 3) {
            pool_part_at(meeting);
            const lstm_forward got = run_forward(&p, kernels, workers);
            const lstm_backward back = run_backward(&p, &got);
            compare_forward(workers, &p, &got, &want);
            compare_backward(workers, &p, &back, &want_back);
        }
        pool_part_at(0);
        check_pair(&p, &other, kernels, workers, &want);
        check_packing(&p, kernels, workers);
    }
}

static int wakes(shape n)
{
    const lstm_pass pass = {.batch = n.batch, .features = n.features, .units = n.units};
    return lstm_products_of_a_step(&pass) * (double)n.steps >= LEAST_PRODUCTS_TO_WAKE;
}

/* ---- the dense layer ------------------------------------------------------------------------ */

/* Each has work enough that sleeping threads are woken. */
static const struct {
    const char *way;
    ptrdiff_t rows, features, units;
    int activation;
} dense_cases[] = {
    {"dense: rows", 301, 170, 171, ACTIVATION_TANH},
    {"dense: rows, softmax", 301, 170, 171, ACTIVATION_COUNT},
    {"dense: columns", 7, 1100, 1101, ACTIVATION_GELU},
    {"dense: columns, then rows of softmax", 7, 1100, 1101, ACTIVATION_COUNT},
    {"dense: fewer micro-panels than workers", 2600, 1100, 5, ACTIVATION_LINEAR},
    {"dense: gradient in tiles of few columns", 2600, 66, 65, ACTIVATION_RELU},
    {"dense: one feature", 80000, 1, 129, ACTIVATION_LINEAR},
    {"dense: narrow", 2700, 1101, 3, ACTIVATION_TANH},
};

static void compare_dense(int workers, const dense_problem *p, const dense_forward *f,
                          const dense_forward *f_want, const dense_backward *g,
                          const dense_backward *g_want)
{
    compare("y", workers, f->y, f_want->y, p->rows * p->units);
    compare("dx", workers, g->dx, g_want->dx, p->rows * p->features);
    compare("dkernel", workers, g->dkernel, g_want->dkernel, p->features * p->units);
    compare("dbias", workers, g->dbias, g_want->dbias, p->units);
}

static void check_dense(const void *kernels, size_t number)
{
    const dense_problem p = random_dense(dense_cases[number].rows, dense_cases[number].features,
                                         dense_cases[number].units, dense_cases[number].activation);
    way = dense_cases[number].way;
    const dense_forward want = run_dense_forward(&p, kernels, 1, p.bias, 0);
    const dense_backward want_back = run_dense_backward(&p, &want, 1, 1, 0);
    for (int workers = 2; workers <= MOST_WORKERS; workers++) {
        pool_set_size(workers);
        for (int meeting = 0; meeting <= (workers == 2 ? 2 : 0); meeting++) {
            pool_part_at(meeting);
            const dense_forward got = run_dense_forward(&p, kernels, workers, p.bias, 0);
            const dense_backward back = run_dense_backward(&p, &got, workers, 1, 0);
            compare_dense(workers, &p, &got, &want, &back, &want_back);
        }
        pool_part_at(0);
    }
}

/* ---- several callers ------------------------------------------------------------------------ */

/* Passes of several callers at once: one has the pool, the others are alone. */
typedef struct {
    problem p;
    const void *kernels;
    lstm_forward want;
    lstm_backward want_back;
} calls;

static void *call(void *argument)
{
    const calls *const all = argument;
    for (int round = 0; round < 3; round++) {
        const lstm_forward got = run_forward(&all->p, all->kernels, MOST_WORKERS);
        const lstm_backward back = run_backward(&all->p, &got);
        compare_forward(MOST_WORKERS, &all->p, &got, &all->want);
        compare_backward(MOST_WORKERS, &all->p, &back, &all->want_back);
    }
    return 0;
}

static int check_callers(const void *kernels, shape n)
{
    pthread_t callers[CALLERS];
    calls all = {random_problem(n), kernels, {}, {}};
    pool_set_size(1);
    all.want = run_forward(&all.p, kernels, 1);
    all.want_back = run_backward(&all.p, &all.want);
    pool_set_size(MOST_WORKERS);
    for (int i = 0; i < CALLERS; i++)
        if (pthread_create(&callers[i], 0, call, &all))
            return 0;
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], 0);
    return 1;
}

int main(void)
{
    pool_oversubscribe(1);
    for (int i = 0; i < ISAS; i++) {
        const void *const kernels = TYPED(find_kernels)(isas[i].isa);
        if (!kernels)
            continue;
        for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
            way = cases[n].way;
            if (!wakes(cases[n].n))
                return printf("%s: too small a shape to wake anybody\n", way), 2;
            check(kernels, cases[n].n, cases[n].masked);
            give_back_numbers();
        }
        for (size_t n = 0; n < sizeof stacks / sizeof *stacks; n++)
            check_stack(kernels, n), give_back_numbers();
        for (size_t n = 0; n < sizeof dense_cases / sizeof *dense_cases; n++)
            check_dense(kernels, n), give_back_numbers();
        way = "several callers";
        if (!check_callers(kernels, cases[2].n))
            return 2;
        give_back_numbers();
    }
    printf("%d of %d results of several threads wrong\n", failures, runs);
    return failures > 0 || runs == 0;
}
