/* SPDX-License-Identifier: MIT
 * Blocks and the pool in the hands of several threads at once: no block has two owners, and every
 * task is done once by each of its workers, while another thread changes what the pool is.
 * tools/check_csrc.sh runs it, under ThreadSanitizer where the compiler has it.
 */
#include "blocks.h"
#include "pool.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { CALLERS = 4, ROUNDS = 2000, BLOCKS = 6, WORKERS = 3 };

typedef struct {
    int calls[WORKERS], workers;
} tally;

static void count_worker(void *argument, int worker, int workers)
{
    tally *const t = argument;
    t->calls[worker]++;
    if (worker == 0)
        t->workers = workers;
}

static int is_wrong(const tally *t)
{
    for (int worker = 0; worker < WORKERS; worker++)
        if (t->calls[worker] != (worker < t->workers))
            return 1;
    return 0;
}

static void *call(void *argument)
{
    const int caller = (int)(intptr_t)argument;
    intptr_t wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        block taken[BLOCKS];
        tally t = {{0}, 0};
        for (int i = 0; i < BLOCKS; i++) {
            taken[i] = block_take((size_t)1 << (4 + (round + i) % 12));
            wrong += (uintptr_t)taken[i].data % 64 != 0;
            *(int *)taken[i].data = CALLERS * i + caller;
        }
        pool_run(WORKERS, round % 2 ? PARTS_ALONE : PARTS_TOGETHER, round % 64 == 0, count_worker, &t);
        wrong += is_wrong(&t);
        for (int i = 0; i < BLOCKS; i++) {
            wrong += *(int *)taken[i].data != CALLERS * i + caller;
            block_give(taken[i]);
        }
    }
    return (void *)wrong;
}

/* A runtime with no thread but the caller's, as OpenMP's is inside of another region. */
static void run_alone(void (*function)(void *), void *argument, unsigned threads, unsigned flags)
{
    (void)threads, (void)flags;
    function(argument);
}
static int zero(void) { return 0; }
static int one(void) { return 1; }

static void *change_pool(void *argument)
{
    static const pool_runtime runtimes[] = {{run_alone, zero, one, one}, {0}};
    const int *const done = argument;
    for (int round = 0; !__atomic_load_n(done, __ATOMIC_RELAXED); round++) {
        pool_use_runtime(&runtimes[round % 2]);
        pool_set_size(round % 4 ? POOL_LARGEST : 2);
        nanosleep(&(struct timespec){.tv_nsec = 50000}, 0);
    }
    return 0;
}

int main(void)
{
    pthread_t callers[CALLERS], changer;
    int wrong = 0, done = 0;
    pool_set_size(WORKERS);
    if (pthread_create(&changer, 0, change_pool, &done))
        return 2;
    for (intptr_t i = 0; i < CALLERS; i++)
        if (pthread_create(&callers[i], 0, call, (void *)i))
            return 2;
    for (int i = 0; i < CALLERS; i++) {
        void *found;
        pthread_join(callers[i], &found);
        wrong += (int)(intptr_t)found;
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
    pthread_join(changer, 0);
    printf("%d of %d rounds of threads wrong\n", wrong, CALLERS * ROUNDS);
    return wrong != 0;
}
