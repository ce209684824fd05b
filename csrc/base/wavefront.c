/* SPDX-License-Identifier: MIT
 * See wavefront.h.
 */
#include "base/wavefront.h"

#include "base/pool.h"

#define READ(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define ADD(field, value) __atomic_add_fetch(&(field), value, __ATOMIC_ACQ_REL)

/* Whether a row's next block can be done now; `state` is set to that of the row. */
static int is_ready(wavefront *all, int row, int *state)
{
    *state = READ(all->states[row]);
    return *state % 2 == 0 && *state < 2 * all->blocks &&
           (row == 0 || READ(all->states[row - 1]) > *state + 1);
}

/* The ready row on the first diagonal, which most of what is left waits for: of several the one
 * that the worker did last, whose data it has. Returns -1 where there is none. */
static int best_row(wavefront *all, int last, int *state)
{
    int best = -1, first = 0;
    for (int row = 0; row < all->rows; row++) {
        int here;
        if (!is_ready(all, row, &here))
            continue;
        const int diagonal = here / 2 + row;
        if (best < 0 || diagonal < first || (diagonal == first && row == last))
            best = row, first = diagonal, *state = here;
    }
    return best;
}

static int claim(int *place, int state)
{
    return __atomic_compare_exchange_n(place, &state, state + 1, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* Whether somebody has or had the last block of all. */
static int is_given_out(wavefront *all)
{
    return READ(all->states[all->rows - 1]) >= 2 * all->blocks - 1;
}

void wavefront_work(wavefront *all, int worker)
{
    long long longest = 0; /* of the worker's blocks, in nanoseconds */
    int last = -1, state = 0;
    for (;;) {
        /* First of all: whatever changes after this look ends the wait. */
        const int changes = READ(all->changes);
        if (READ(all->stopped) || is_given_out(all))
            return;
        const int row = best_row(all, last, &state);
        if (row < 0) {
            if (!pool_wait_while(&all->changes, changes, worker, longest))
                return;
        } else if (claim(&all->states[row], state)) {
            const long long start = pool_clock();
            const int goes_on = all->run(all->argument, row, state / 2);
            const long long took = pool_clock() - start;
            longest = took > longest ? took : longest;
            last = row;
            if (goes_on)
                ADD(all->states[row], 1);
            else
                __atomic_store_n(&all->stopped, 1, __ATOMIC_RELEASE);
            ADD(all->changes, 1);
        }
    }
}
