/* SPDX-License-Identifier: MIT
 * The passes of csrc/ shared out over teams of several sizes, in every way that they share work
 * out: each result must be that of one thread, to the bit. tools/check_csrc.sh runs it under
 * ThreadSanitizer where the compiler has it. Define FASTLSTM_DOUBLE.
 */
#include "lstm_common.h"
#include "problems.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

enum { LARGEST_TEAM = 3, CALLERS = 3 };

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
    for (int team = 0; team < 2; team++) {
        pool_set_size(team ? workers : 1);
        packed[team][0] = packed_gates(kernels, n.units, n.units, p->recurrent_kernel);
        packed[team][1] = packed_columns(kernels, n.units, n.units, p->recurrent_kernel);
    }
    compare("gate panels", workers, packed[1][0], packed[0][0],
            functions->gate_panels_size(kernels, n.units, n.units));
    compare("column panels", workers, packed[1][1], packed[0][1],
            functions->column_panels_size(kernels, 4 * n.units, n.units));
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

static void check(const void *kernels, shape n, int masked)
{
    const problem p = random_case(n, masked), other = random_case(n, masked);
    pool_set_size(1);
    const lstm_forward want = run_forward(&p, kernels, 1);
    const lstm_backward want_back = run_backward(&p, &want);
    for (int workers = 2; workers <= LARGEST_TEAM; workers++) {
        pool_set_size(workers);
        const lstm_forward got = run_forward(&p, kernels, workers);
        const lstm_backward back = run_backward(&p, &got);
        compare_forward(workers, &p, &got, &want);
        compare_backward(workers, &p, &back, &want_back);
        check_pair(&p, &other, kernels, workers, &want);
        check_packing(&p, kernels, workers);
    }
}

static int wakes(shape n)
{
    const lstm_pass pass = {.batch = n.batch, .features = n.features, .units = n.units};
    return products_of_a_step(&pass) * (double)n.steps >= LEAST_PRODUCTS_TO_WAKE;
}

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
        const lstm_forward got = run_forward(&all->p, all->kernels, LARGEST_TEAM);
        const lstm_backward back = run_backward(&all->p, &got);
        compare_forward(LARGEST_TEAM, &all->p, &got, &all->want);
        compare_backward(LARGEST_TEAM, &all->p, &back, &all->want_back);
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
    pool_set_size(LARGEST_TEAM);
    for (int i = 0; i < CALLERS; i++)
        if (pthread_create(&callers[i], 0, call, &all))
            return 0;
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], 0);
    return 1;
}

int main(void)
{
    for (int i = 0; i < ISAS; i++) {
        const void *const kernels = TYPED(find_kernels)(isas[i].isa);
        if (!kernels)
            continue;
        for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
            way = cases[n].way;
            if (!wakes(cases[n].n))
                return printf("%s: too small a shape to wake anybody\n", way), 2;
            check(kernels, cases[n].n, cases[n].masked);
        }
        way = "several callers";
        if (!check_callers(kernels, cases[2].n))
            return 2;
    }
    printf("%d of %d results of several threads wrong\n", failures, runs);
    return failures > 0 || runs == 0;
}
