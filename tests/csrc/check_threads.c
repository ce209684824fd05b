/* SPDX-License-Identifier: MIT
 * Blocks and the pool in the hands of several threads at once: no block has two owners, every part
 * of every task is done once, by as many workers as it was told, who meet where they say, while
 * other threads change what the pool is, and workers come late. tools/check_csrc.sh runs it, under
 * ThreadSanitizer where the compiler has it, and without.
 */
#include "base/blocks.h"
#include "base/pool.h"
#include "base/wavefront.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CALLERS = 4, ROUNDS = 1200, BLOCKS = 6, MEETINGS = 3, FORKS = 12 };

/* ThreadSanitizer does not let the child of several threads make any; Windows has no children. */
#if defined(_WIN32)
#define NO_FORKS
#endif
#if !defined(NO_FORKS)
#include <sys/wait.h>
#endif

static void pause_for(long nanoseconds)
{
    nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, 0);
}

static double seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---- tasks that know what was done of them -------------------------------------------------- */

/* Plain numbers, which ThreadSanitizer watches. */
typedef struct {
    pool_parts parts;
    int is_slow; /* parts take so long that others come, and not all the same time */
    int calls[POOL_LARGEST], workers[POOL_LARGEST];
    int said[POOL_LARGEST], strangers; /* what others are to have said when they have met */
    barrier meeting;
} tally;

static void meet(tally *t, int worker, int workers)
{
    for (int time = 1; time <= MEETINGS; time++) {
        t->said[worker] = time;
        barrier_wait(&t->meeting, worker, workers, 0);
        if (worker == 0)
            for (int other = 0; other < workers; other++)
                t->strangers += t->said[other] != time;
        barrier_wait(&t->meeting, worker, workers, 0);
    }
}

static void count_part(void *argument, int worker, int workers)
{
    tally *const t = argument;
    if (t->is_slow)
        pause_for(worker % 2 ? 300000 : 100000);
    if (t->parts == PARTS_TOGETHER && workers > 1)
        meet(t, worker, workers);
    t->workers[worker] = workers;
    t->calls[worker]++; /* when all of it is done */
}

/* Each of the parts that the first one knows of was done once, and told the same. */
static int is_wrong(const tally *t)
{
    const int workers = t->workers[0];
    for (int worker = 0; worker < POOL_LARGEST; worker++)
        if (t->calls[worker] != (worker < workers) ||
            t->workers[worker] != (worker < workers ? workers : 0))
            return 1;
    return t->strangers > 0 || workers < 1;
}

static int runs_wrong(int workers, pool_parts parts, int wakes, int is_slow, int *had)
{
    tally t;
    memset(&t, 0, sizeof t);
    t.parts = parts, t.is_slow = is_slow;
    pool_run(workers, parts, wakes, count_part, &t);
    if (had)
        *had = t.workers[0];
    return is_wrong(&t);
}

/* ---- many callers --------------------------------------------------------------------------- */

static void *call(void *argument)
{
    const int caller = (int)(intptr_t)argument;
    intptr_t wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        block taken[BLOCKS];
        for (int i = 0; i < BLOCKS; i++) {
            taken[i] = block_take((size_t)1 << (4 + (round + i) % 12));
            wrong += (uintptr_t)taken[i].data % 64 != 0;
            *(int *)taken[i].data = CALLERS * i + caller;
        }
        wrong += runs_wrong(1 + (round + caller) % 5, round % 3 ? PARTS_ALONE : PARTS_TOGETHER,
                            round % 16 == 0, round % 50 == 0, 0);
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
    static const pool_runtime runtimes[] = {{run_alone, zero, one, one}, {0}, {0}, {0}};
    static const int sizes[] = {POOL_LARGEST, 2, 5, 1, 3};
    const int *const done = argument;
    for (int round = 0; !__atomic_load_n(done, __ATOMIC_RELAXED); round++) {
        pool_use_runtime(&runtimes[round % 4]);
        pool_set_size(sizes[round % 5]);
        pool_oversubscribe(round % 7 > 3);
        pause_for(50000);
    }
    return 0;
}

/* Forks at any moment of the others' tasks; the child's pool is a new one. */
#if defined(NO_FORKS)
static int wrong_forks(void) { return 0; }
#else
static int wrong_in_child(void)
{
    int wrong = 0, had = 0;
    pool_use_runtime(&(pool_runtime){0});
    pool_set_size(3);
    pool_oversubscribe(1);
    for (int round = 0; round < 20; round++)
        wrong += runs_wrong(3, round % 2 ? PARTS_ALONE : PARTS_TOGETHER, 1, 0, &had) || had != 3;
    return wrong;
}

static int wrong_forks(void)
{
    int wrong = 0;
    for (int i = 0; i < FORKS; i++) {
        int status = 1;
        const pid_t child = fork();
        if (child == 0) {
            alarm(60);
            _exit(wrong_in_child() > 0);
        }
        if (child > 0)
            waitpid(child, &status, 0);
        wrong += status != 0;
        pause_for(3000000);
    }
    return wrong;
}
#endif

/* The first part forks in the middle of a task: the child has to do without the others, and knows.
 */
#if defined(NO_FORKS)
static int wrong_forks_within(void) { return 0; }
#else
typedef struct {
    tally tally;
    pid_t child;
} forking_tally;

static void fork_in_part(void *argument, int worker, int workers)
{
    forking_tally *const t = argument;
    if (worker == 0) {
        t->child = fork();
        if (t->child == 0)
            alarm(60);
    } else
        pause_for(20000000);
    count_part(&t->tally, worker, workers);
}

static int wrong_forks_within(void)
{
    int wrong = 0;
    pool_oversubscribe(1);
    pool_set_size(3);
    for (int i = 0; i < FORKS; i++) {
        forking_tally t;
        int status = 1;
        memset(&t, 0, sizeof t);
        t.tally.parts = i % 2 ? PARTS_ALONE : PARTS_TOGETHER;
        wrong += runs_wrong(3, PARTS_TOGETHER, 1, 0, 0); /* all are awake */
        const int is_done = pool_run(3, t.tally.parts, 1, fork_in_part, &t);
        if (t.child == 0)
            _exit(is_done || wrong_in_child() > 0);
        if (t.child > 0)
            waitpid(t.child, &status, 0);
        wrong += status != 0 || !is_done || is_wrong(&t.tally);
    }
    pool_oversubscribe(0);
    return wrong;
}
#endif

/* ---- rows of blocks ------------------------------------------------------------------------- */

enum { ROWS = 5, BLOCKS_OF_A_ROW = 9 };

/* Plain numbers again. */
typedef struct {
    wavefront all;
    int is_slow, stop_at; /* the row and block, as one number, that ends it; -1: none */
    pthread_t caller;
    int fork_at, blocks_of_caller; /* after how many of its own the caller forks; -1: never */
    pid_t child;
    int done[ROWS][BLOCKS_OF_A_ROW], too_early[ROWS];
} front;

static int do_block(void *argument, int row, int block)
{
    front *const f = argument;
    const int number = row * BLOCKS_OF_A_ROW + block;
    if (f->is_slow)
        pause_for(1000 * (1 + (7 * row + block) % 5));
    f->too_early[row] +=
        (block > 0 && f->done[row][block - 1] != 1) || (row > 0 && f->done[row - 1][block] != 1);
    f->done[row][block]++;
#if !defined(NO_FORKS)
    if (pthread_equal(f->caller, pthread_self()) && f->blocks_of_caller++ == f->fork_at) {
        f->child = fork();
        if (f->child == 0)
            alarm(60);
    }
#endif
    return number != f->stop_at;
}

static void work_on_front(void *argument, int worker, int workers)
{
    front *const f = argument;
    (void)workers;
    wavefront_work(&f->all, worker);
}

static front new_front(int rows, int blocks)
{
    return (front){.all = {.rows = rows, .blocks = blocks, .run = do_block},
                   .stop_at = -1,
                   .caller = pthread_self(),
                   .fork_at = -1};
}

static int runs_front(front *f, int workers)
{
    f->all.argument = f;
    return pool_run(workers, PARTS_ALONE, 1, work_on_front, f);
}

static int is_wrong_front(const front *f)
{
    int wrong = 0;
    for (int row = 0; row < ROWS; row++) {
        wrong += f->too_early[row] > 0;
        for (int block = 0; block < BLOCKS_OF_A_ROW; block++) {
            const int is_there = row < f->all.rows && block < f->all.blocks;
            const int done = f->done[row][block];
            wrong += done > is_there || (done < is_there && f->stop_at < 0);
        }
    }
    return wrong > 0;
}

static int wrong_fronts(void)
{
    int wrong = 0;
    pool_oversubscribe(1);
    for (int workers = 1; workers <= 6; workers++) {
        pool_set_size(workers);
        for (int round = 0; round < 200; round++) {
            front f = new_front(1 + round % ROWS, 1 + round % BLOCKS_OF_A_ROW);
            f.is_slow = round % 4 == 0;
            f.stop_at = round % 10 == 9 ? round / 10 : -1;
            wrong += !runs_front(&f, workers) || is_wrong_front(&f);
        }
    }
    pool_oversubscribe(0);
    return wrong;
}

/* The caller forks in one of its blocks: the child has to do without the others, and knows. */
#if defined(NO_FORKS)
static int wrong_forks_in_fronts(void) { return 0; }
#else
static int wrong_forks_in_fronts(void)
{
    int wrong = 0;
    pool_oversubscribe(1);
    pool_set_size(3);
    for (int i = 0; i < FORKS; i++) {
        front f = new_front(ROWS, BLOCKS_OF_A_ROW);
        int status = 0;
        f.is_slow = 1, f.fork_at = i, f.child = -1;
        const int is_done = runs_front(&f, 3);
        if (f.child == 0)
            _exit(is_done || wrong_in_child() > 0);
        if (f.child > 0)
            waitpid(f.child, &status, 0);
        wrong += status != 0 || !is_done || is_wrong_front(&f);
    }
    pool_oversubscribe(0);
    return wrong;
}
#endif

static int wrong_callers(void)
{
    pthread_t callers[CALLERS], changer;
    int wrong = 0, done = 0;
    if (pthread_create(&changer, 0, change_pool, &done))
        return 1;
    for (intptr_t i = 0; i < CALLERS; i++)
        if (pthread_create(&callers[i], 0, call, (void *)i))
            return 1;
    wrong += wrong_forks();
    for (int i = 0; i < CALLERS; i++) {
        void *found;
        pthread_join(callers[i], &found);
        wrong += (int)(intptr_t)found;
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELAXED);
    pthread_join(changer, 0);
    pool_use_runtime(&(pool_runtime){0});
    return wrong;
}

/* ---- one caller ----------------------------------------------------------------------------- */

/* All the workers that were asked for take part, however many more than CPUs they are, after any
 * rest; and nobody takes a part of another's, however many reach for it. */
static int wrong_with_many(int workers, int small_tasks)
{
    int wrong = 0, had;
    pool_oversubscribe(1);
    pool_set_size(workers);
    for (int round = 0; round < 30; round++) {
        wrong += runs_wrong(workers, PARTS_TOGETHER, 1, 0, &had) || had != workers;
        if (round % 5 == 0)
            pause_for(round * 10000);
    }
    for (int task = 0; task < small_tasks; task++)
        wrong += runs_wrong(workers, PARTS_ALONE, 1, 1, 0);
    pool_oversubscribe(0);
    return wrong;
}

int main(void)
{
    const int with_five = wrong_with_many(5, 1000), of_callers = wrong_callers();
    const int within = wrong_forks_within();
    const int fronts = wrong_fronts(), within_fronts = wrong_forks_in_fronts();
    const double start = seconds();
    const int with_most = wrong_with_many(POOL_LARGEST, 100);
    const double took = seconds() - start;
    printf("%d of %d rounds of threads wrong; %d and %d with 5 and %d workers, in %.1f s; %d of %d "
           "forks within a task wrong; %d fronts, %d forks in them\n",
           of_callers, CALLERS * ROUNDS, with_five, with_most, POOL_LARGEST, took, within, FORKS,
           fronts, within_fronts);
    return of_callers || with_five || with_most || within || fronts || within_fronts || took > 60;
}
