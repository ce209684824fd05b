/* SPDX-License-Identifier: MIT
 * How a long pass is stopped in the middle: the thread that called it asks now and then.
 *
 * Work is counted in multiplications. A watch belongs to one call, and a pass that is not watched
 * has NULL in its place. What a stopped pass was to write is undefined.
 */
#ifndef FASTLSTM_WATCH_H
#define FASTLSTM_WATCH_H

#include <pthread.h>
#include <stddef.h>

#include "base/blocks.h"
#include "base/cpu.h"

/* A core does 5 to 50 in a nanosecond: 0.3 to 3 ms from a question to the next. A row of gates
 * takes about as long as so many, and so does a step besides. */
enum { WORK_BEFORE_QUESTION = 1 << 24, WORK_OF_A_UNIT = 256, WORK_OF_A_STEP = 4096 };

typedef struct {
    int (*wants_stop)(void); /* is asked in the calling thread, and by nobody after it said so */
    pthread_t caller;
    fp_mode mode;   /* to ask it in */
    ptrdiff_t work; /* since it was asked */
    /* The calling thread writes above this line all the time, the others read below it. */
    _Alignas(CACHE_LINE) int stopped;
} pass_watch;

static inline pass_watch new_watch(int (*wants_stop)(void))
{
    const fp_mode mode = flush_denormals();
    restore_denormals(mode);
    return (pass_watch){.wants_stop = wants_stop, .caller = pthread_self(), .mode = mode};
}

static inline int is_stopped(const pass_watch *watch)
{
    return watch && __atomic_load_n(&watch->stopped, __ATOMIC_RELAXED);
}

/* For the calling thread, after so much work: whether to stop. */
static inline int stops(pass_watch *watch, ptrdiff_t work)
{
    if (!watch)
        return 0;
    watch->work += work;
    if (watch->work >= WORK_BEFORE_QUESTION && !is_stopped(watch)) {
        const fp_mode here = flush_denormals();
        watch->work = 0;
        restore_denormals(watch->mode);
        if (watch->wants_stop())
            __atomic_store_n(&watch->stopped, 1, __ATOMIC_RELAXED);
        restore_denormals(here);
    }
    return is_stopped(watch);
}

/* What is lost of a pass cannot be made up for: it ends like one that was stopped. */
static inline void give_up(pass_watch *watch)
{
    if (watch)
        __atomic_store_n(&watch->stopped, 1, __ATOMIC_RELAXED);
}

#endif
