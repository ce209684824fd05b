/* SPDX-License-Identifier: MIT
 * A small pool of threads: one task at a time, done by the caller and the workers together.
 *
 * Workers spin for a moment after a task, since the next one often follows at once, and then sleep:
 * an idle program uses no CPU. Whoever finds the pool busy does the task alone, so callers from
 * several threads never wait for each other; tasks must therefore give the same result for any
 * number of workers. A child made by fork starts with an empty pool.
 *
 * The machine may be busy: a worker that does not come at once, because its CPU has been given to
 * somebody else, is done without, and after that the pool's callers stay alone for a while.
 */
#ifndef FASTLSTM_POOL_H
#define FASTLSTM_POOL_H

#include <stddef.h>

#include "base/blocks.h"
#include "base/names.h"

enum { POOL_LARGEST = 64 };

/* Does part `worker` of `workers` of a task; part 0 is the caller's. */
typedef void (*pool_task)(void *argument, int worker, int workers);

/* The most threads that later tasks get, the caller among them: 1 to POOL_LARGEST. */
void pool_set_size(int size);
int pool_get_size(void);

/* How many threads a task of now can have: no more than the CPUs that the calling thread may use.
 */
int pool_threads(void);

/* For tests of many threads on few CPUs: tasks have as many as were set, and wait for all. */
void pool_oversubscribe(int whether);

/* The threads of an OpenMP runtime instead of the pool's own: where that runtime's threads look for
 * work all the time, ours would have to share the CPUs with them. As GNU's runtime, and those that
 * stand in for it, define them. */
typedef struct {
    void (*parallel)(void (*function)(void *), void *argument, unsigned threads, unsigned flags);
    int (*thread_number)(void); /* of the caller, and how many there are, in a parallel region */
    int (*thread_count)(void);
    int (*most_threads)(void); /* that a region can have */
} pool_runtime;

/* In the whole process, from the next task on; children made by fork have the pool's own again. */
void pool_use_runtime(const pool_runtime *runtime);

/* How the parts of a task depend on each other. */
typedef enum {
    PARTS_ALONE,   /* they do not: whoever is free does the next one */
    PARTS_TOGETHER /* they meet at barriers, so each has a thread of its own */
} pool_parts;

/* Does the task in at most `workers` parts, and returns when all of them are done. Workers that
 * sleep take part only if it `wakes` them, which takes some 50 us, or if the task is one of many
 * that follow closely on each other.
 *
 * Returns whether all of it was done. It was not where the caller's part called fork, and this is
 * the child, which has none of the others that were at work: it waits for nobody any more. That
 * holds for the pool's own threads; an OpenMP runtime waits for its own at the end of a region, and
 * for ever in such a child. */
int pool_run(int workers, pool_parts parts, int wakes, pool_task task, void *argument);

/* A place where the workers of one task wait for each other; starts as zero. Those that arrive
 * write to one cache line, those that wait look at another; and what lies beside it in a struct
 * that all of them read is to be in neither, by this room, since not every stack can be aligned to
 * a line. */
typedef struct {
    char room_before[CACHE_LINE];
    int arrived;
    char room_between[CACHE_LINE - sizeof(int)];
    int epoch;
    char room_after[CACHE_LINE];
} barrier;

/* All wait for all, and get the word, 0 to 255, that worker 0 brings. */
int barrier_wait(barrier *at, int worker, int workers, int word);

/* For worker 0 of a task whose workers meet: whether it had better go on alone, since waiting for
 * those that have lost their CPUs takes more of the time than they save. */
int pool_better_alone(int workers);

/* For a worker of a task: waits while *value is `seen`, which another part of the task changes.
 * What the caller waits longer than `usual` nanoseconds counts as lost to the busy machine. Returns
 * whether that other part may still be at work: in a child of a fork there is none. */
int pool_wait_while(const int *value, int seen, int worker, long long usual);

/* Nanoseconds since some moment. */
long long pool_clock(void);

/* For tests: it had, at so many a meeting of every task; 0 for never. */
void pool_part_at(int meeting);

/* The part of `count` things that falls to a worker: from share_start(w) to share_start(w + 1); the
 * first ones have one more where it does not come out even. */
static inline ptrdiff_t share_start(ptrdiff_t count, int worker, int workers)
{
    const ptrdiff_t left = count % workers;
    return count / workers * worker + (worker < left ? worker : left);
}

#endif
