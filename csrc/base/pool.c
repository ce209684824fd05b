/* SPDX-License-Identifier: MIT
 * See pool.h. Threads are made when they are first needed and live as long as the process.
 *
 * A task is an offer of parts. Each part is claimed by one thread, through a single atomic number
 * in which the offer's epoch stands beside the next free part: a worker that comes late finds
 * another epoch, or no part left, and leaves everything alone. Nobody waits for a worker that has
 * claimed nothing.
 */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <time.h>

#include "base/affinity.h"

#if !defined(_WIN32)
#include <signal.h>
#endif

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

/* How often to look before giving the CPU away, and between two looks at the clock: a look takes 10
 * to 50 ns. */
enum { LOOKS_BEFORE_YIELD = 2000, LOOKS_BEFORE_CLOCK = 100 };

/* In nanoseconds. Tasks nearer to each other than CLOSE are a row of tasks: so long workers stay
 * awake. Waking them for a small task costs more than they do, tens of microseconds; it pays once a
 * row is long enough to have a long rest, too. */
enum { CLOSE = 100000, ROW_WORTH_WAKING = 8 };

/* A worker that is awake comes in well under a microsecond, one that sleeps or has just been made
 * in 50 to 100, unless somebody else has its CPU. */
enum { PATIENCE_AWAKE = 10000, PATIENCE_ASLEEP = 300000 };

/* A task has lost time if workers did not come, or if it waited for them longer than LEAST_LOSS and
 * for more than a quarter of what it took. That may happen once, as where the threads of another
 * library still look for work, or a CPU is away for a moment. If it happens again soon, the pool's
 * callers stay alone, each time for twice as long, up to some times what was lost. */
enum { LEAST_LOSS = 50000, SOON = 100000000, MOST_FOR_LOST = 256 };

/* A moment without a CPU at the beginning of a task is no reason to do the rest of it alone. */
enum { GRACE = 1000000 };

/* How old what is known of the caller's CPUs may be. */
enum { AFFINITY_AGE = 1000000 };

static struct {
    pthread_mutex_t busy;  /* held by the caller whose task is being done */
    pthread_mutex_t sleep; /* guards sleepers falling asleep and being woken */
    pthread_cond_t wake;
    int size, started; /* most threads wanted; workers made so far */
    int oversubscribed;
    int sleepers;

    uint64_t offer;   /* see offer_of */
    int epoch;        /* of the last offer */
    int agreed;       /* the epoch whose `count` of PARTS_TOGETHER holds */
    int count;        /* parts of the task */
    int done;         /* parts that workers have done */
    pool_parts parts; /* these three: of the task */
    pool_task task;
    void *argument;

    long long ended;       /* when the last task that several threads could do was done */
    int row;               /* how many tasks have followed closely on each other */
    long long alone_until; /* tasks are done alone until then */
    long long penalty;     /* how long they were, the last time, or what was lost the first time */

    /* Of the running task. */
    long long lost;        /* how long its caller has waited for others, and for them to come */
    long long met, waited; /* when they were there, and how long it has waited for them since */
    int parted;            /* whether it went on alone from a meeting on */
    int meetings;          /* how many there were; counted for tests: */
    int part_at;           /* the one from which on it goes on alone */

    long long affinity_asked; /* when, and the answer */
    int affinity;

    pool_runtime runtime; /* whose threads do the tasks, if it has any; changed holding `busy` */
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .sleep = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .size = 1};

/* What is read without holding the mutex that guards its changes. */
#define READ(field) __atomic_load_n(&(field), __ATOMIC_SEQ_CST)
#define WRITE(field, value) __atomic_store_n(&(field), value, __ATOMIC_SEQ_CST)
#define ADD(field, value) __atomic_add_fetch(&(field), value, __ATOMIC_SEQ_CST)

typedef struct {
    pthread_t thread;
    int seen;   /* the epoch of the offer that it has dealt with */
    int asleep; /* guarded by pool.sleep */
} worker;
static worker workers_of_pool[POOL_LARGEST]; /* from 1 on: 0 is whoever calls */

/* Whether the calling thread is in a task that it shares with others, or was so before a fork. */
static _Thread_local enum { NO_TASK, TASK, TASK_BEFORE_FORK } my_task;

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1000000000LL * time.tv_sec + time.tv_nsec;
}

/* ---- offers --------------------------------------------------------------------------------- */

static uint64_t offer_of(int epoch, int parts, int next)
{
    return (uint64_t)(unsigned)epoch << 32 | (uint64_t)parts << 16 | (uint64_t)next;
}
static int epoch_of(uint64_t offer) { return (int)(offer >> 32); }
static int parts_of(uint64_t offer) { return (int)(offer >> 16 & 0xffff); }
static int next_of(uint64_t offer) { return (int)(offer & 0xffff); }

static int change_offer(uint64_t *from, uint64_t to)
{
    return __atomic_compare_exchange_n(&pool.offer, from, to, 0, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

/* The number of a part of that epoch that is now the caller's, or -1 where there is none left. */
static int claim(int epoch)
{
    uint64_t offer = READ(pool.offer);
    while (epoch_of(offer) == epoch && next_of(offer) < parts_of(offer))
        if (change_offer(&offer, offer + 1))
            return next_of(offer);
    return -1;
}

/* No more parts are given out; returns how many were. */
static int close_offer(int epoch)
{
    uint64_t offer = READ(pool.offer);
    while (!change_offer(&offer, offer_of(epoch, next_of(offer), next_of(offer))))
        ;
    return next_of(offer);
}

/* ---- waiting for others --------------------------------------------------------------------- */

/* Waits until *value `is` the number, or for 0 until it is not any more; the CPU is given away to
 * whom it may be that it waits for, if that one is not in another process. Returns how long a long
 * wait took, in nanoseconds, 0 for a short one. */
static long long wait_until(const int *value, int is, int number)
{
    if ((READ(*value) == number) == is || my_task == TASK_BEFORE_FORK)
        return 0;
    for (int look = 0; look < LOOKS_BEFORE_YIELD; look++) {
        PAUSE();
        if ((READ(*value) == number) == is)
            return 0;
    }
    const long long start = now();
    while ((READ(*value) == number) != is)
        sched_yield();
    return now() - start;
}

/* Waits a while for the parts of an offer to be claimed; returns how many were. */
static int gather(int epoch, int parts, int some_come_late)
{
    const int for_ever = READ(pool.oversubscribed);
    const long long patience = some_come_late ? PATIENCE_ASLEEP : PATIENCE_AWAKE;
    for (const long long start = now(); for_ever || now() - start < patience;) {
        for (int look = 0; look < LOOKS_BEFORE_CLOCK; look++) {
            if (next_of(READ(pool.offer)) == parts)
                return parts;
            PAUSE();
        }
        if (for_ever)
            sched_yield();
    }
    const int came = close_offer(epoch);
    if (came < parts)
        pool.lost += patience;
    return came;
}

/* ---- workers -------------------------------------------------------------------------------- */

static void wait_for_offer(worker *self)
{
    for (const long long start = now(); now() - start < CLOSE;)
        for (int look = 0; look < LOOKS_BEFORE_CLOCK; look++) {
            if (READ(pool.epoch) != self->seen)
                return;
            PAUSE();
        }
    pthread_mutex_lock(&pool.sleep);
    ADD(pool.sleepers, 1);
    self->asleep = 1;
    while (READ(pool.epoch) == self->seen)
        pthread_cond_wait(&pool.wake, &pool.sleep);
    self->asleep = 0;
    ADD(pool.sleepers, -1);
    affinity_spread();
    pthread_mutex_unlock(&pool.sleep);
}

/* What a claimed part belongs to cannot change before it is done. */
static void take_part(int epoch)
{
    for (int part; (part = claim(epoch)) >= 0; ADD(pool.done, 1)) {
        if (pool.parts == PARTS_TOGETHER)
            wait_until(&pool.agreed, 1, epoch);
        pool.task(pool.argument, part, pool.count);
    }
}

static void *serve(void *argument)
{
    worker *const self = argument;
    for (;;) {
        wait_for_offer(self);
        self->seen = READ(pool.epoch);
        take_part(self->seen);
    }
    return 0;
}

static void start_threads(int wanted)
{
    while (pool.started < wanted) {
        pthread_attr_t attributes;
        worker *const made = &workers_of_pool[pool.started + 1];
        *made = (worker){.seen = READ(pool.epoch)};
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        const int failed = pthread_create(&made->thread, &attributes, serve, made);
        pthread_attr_destroy(&attributes);
        if (failed)
            break;
        ADD(pool.started, 1);
    }
}

#if defined(_WIN32)
static void start_workers(int wanted) { start_threads(wanted); }
#else
/* Signals are for the program's own threads: the new ones inherit a mask that keeps them all off.
 */
static void start_workers(int wanted)
{
    sigset_t all, before;
    if (pool.started >= wanted)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    start_threads(wanted);
    pthread_sigmask(SIG_SETMASK, &before, 0);
}

/* The child of a fork has none of the threads, and must not inherit a mutex that one of them or
 * another caller held. */
static void begin_anew(void)
{
    pthread_mutex_init(&pool.busy, 0);
    pthread_mutex_init(&pool.sleep, 0);
    pthread_cond_init(&pool.wake, 0);
    pool.started = pool.sleepers = 0;
    pool.runtime.parallel = 0; /* its threads are gone too */
    if (my_task == TASK)
        my_task = TASK_BEFORE_FORK;
}

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(0, 0, begin_anew); }
#endif

/* ---- tasks ---------------------------------------------------------------------------------- */

static void wake_sleepers(void)
{
    pthread_mutex_lock(&pool.sleep);
    if (affinity_look())
        for (int number = 1; number <= pool.started; number++)
            if (workers_of_pool[number].asleep)
                affinity_keep_off(workers_of_pool[number].thread);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.sleep);
}

/* Offers the parts of a task after the first; returns the offer's epoch. */
static int offer_task(int count, pool_parts parts, pool_task task, void *argument)
{
    const int epoch = (int)((unsigned)pool.epoch + 1);
    pool.task = task;
    pool.argument = argument;
    pool.parts = parts;
    pool.count = count;
    WRITE(pool.done, 0);
    WRITE(pool.offer, offer_of(epoch, count, 1));
    WRITE(pool.epoch, epoch);
    return epoch;
}

/* The caller and the workers do the task; the caller holds pool.busy. Returns whether workers were
 * waited for that did not come. */
static int run_together(int count, pool_parts parts, pool_task task, void *argument)
{
    const int before = pool.started;
    start_workers(count - 1);
    const int most = pool.started + 1, wanted = count < most ? count : most;
    const int epoch = offer_task(wanted, parts, task, argument);
    const int sleepers = READ(pool.sleepers);
    int by_workers = 0;
    if (sleepers)
        wake_sleepers();
    if (parts == PARTS_TOGETHER) {
        const int came = gather(epoch, wanted, sleepers > 0 || pool.started > before);
        pool.count = came;
        WRITE(pool.agreed, epoch);
        pool.met = now();
        task(argument, 0, came);
        by_workers = came - 1;
        pool.lost += wait_until(&pool.done, 1, by_workers);
        return came < wanted;
    }
    task(argument, 0, wanted);
    by_workers = wanted - 1;
    for (int part; (part = claim(epoch)) >= 0; by_workers--)
        task(argument, part, wanted);
    pool.lost += wait_until(&pool.done, 1, by_workers);
    return 0;
}

/* What is lent to the threads of another runtime. */
typedef struct {
    pool_task task;
    void *argument;
    int workers;
} lent_task;

/* There may be fewer threads than were asked for, one alone inside of another region. */
static void lend(void *argument)
{
    const lent_task *const lent = argument;
    const int number = pool.runtime.thread_number(), count = pool.runtime.thread_count();
    const int workers = count < lent->workers ? count : lent->workers;
    if (number < workers)
        lent->task(lent->argument, number, workers);
}

/* Always with as many threads as the runtime has: with fewer it would give the others up. */
static void run_on_runtime(int workers, pool_task task, void *argument)
{
    lent_task lent = {task, argument, workers};
    const int threads = pool.runtime.most_threads();
    pool.runtime.parallel(lend, &lent, (unsigned)(threads > workers ? threads : workers), 0);
}

/* ---- a busy machine ------------------------------------------------------------------------- */

/* Somebody else may need the CPUs. */
static void learn(int was_left, long long took)
{
    if (!was_left && (pool.lost <= LEAST_LOSS || 4 * pool.lost <= took))
        return;
    const long long time = now(), most = MOST_FOR_LOST * pool.lost;
    const long long longer = 2 * pool.penalty < most ? 2 * pool.penalty : most;
    const long long alone = time - READ(pool.alone_until) < SOON ? longer : 0;
    pool.penalty = alone > pool.lost ? alone : pool.lost;
    WRITE(pool.alone_until, time + alone);
}

/* ---- as pool.h says ------------------------------------------------------------------------- */

void pool_set_size(int size)
{
    WRITE(pool.size, size < 1 ? 1 : size > POOL_LARGEST ? POOL_LARGEST : size);
}

int pool_get_size(void) { return READ(pool.size); }

void pool_oversubscribe(int whether) { WRITE(pool.oversubscribed, whether); }

int pool_threads(void)
{
    const int size = READ(pool.size);
    if (size == 1 || READ(pool.oversubscribed))
        return size;
    const long long time = now();
    if (time - READ(pool.affinity_asked) > AFFINITY_AGE) {
        WRITE(pool.affinity, affinity_count());
        WRITE(pool.affinity_asked, time);
    }
    const int cpus = READ(pool.affinity);
    return cpus < size ? cpus : size;
}

void pool_use_runtime(const pool_runtime *runtime)
{
    pthread_mutex_lock(&pool.busy);
    pool.runtime.thread_number = runtime->thread_number;
    pool.runtime.thread_count = runtime->thread_count;
    pool.runtime.most_threads = runtime->most_threads;
    WRITE(pool.runtime.parallel, runtime->parallel);
    pthread_mutex_unlock(&pool.busy);
}

/* The caller holds pool.busy, and gives it back; not in the child of a fork, which has another one.
 * Returns whether the task was done. */
static int run_shared(int workers, pool_parts parts, pool_task task, void *argument,
                      long long start)
{
    const int outer = my_task; /* a handler of signals in the midst of a task may do another */
    int too_few = 0;
    my_task = TASK;
    pool.met = start;
    pool.lost = pool.waited = pool.parted = pool.meetings = 0;
    if (pool.runtime.parallel)
        run_on_runtime(workers, task, argument);
    else
        too_few = run_together(workers, parts, task, argument);
    const int is_done = my_task == TASK;
    my_task = outer;
    if (is_done) {
        learn(too_few || pool.parted, now() - start);
        pthread_mutex_unlock(&pool.busy);
    }
    return is_done;
}

int pool_run(int workers, pool_parts parts, int wakes, pool_task task, void *argument)
{
    int is_done = 1;
    const int size = workers > 1 ? pool_threads() : 1;
    if (workers > size)
        workers = size;
    const long long start = workers > 1 ? now() : 0;
    if (workers <= 1 || (!READ(pool.oversubscribed) && start < READ(pool.alone_until))) {
        task(argument, 0, 1);
        return 1;
    }
    const int asleep =
        READ(pool.runtime.parallel) || READ(pool.sleepers) > 0 || READ(pool.started) < workers - 1;
    const int close = start - READ(pool.ended) < CLOSE, before = READ(pool.row);
    const int row = !close ? 0 : before < ROW_WORTH_WAKING ? before + 1 : before;
    const int together = wakes || !asleep || row >= ROW_WORTH_WAKING;
    WRITE(pool.row, row);
    if (together && !pthread_mutex_trylock(&pool.busy))
        is_done = run_shared(workers, parts, task, argument, start);
    else
        task(argument, 0, 1);
    WRITE(pool.ended, now());
    return is_done;
}

/* `arrived` counts, `epoch` counts meetings; both above the word, which so takes no write of its
 * own: each is another journey of a cache line. */
int barrier_wait(barrier *at, int worker, int workers, int word)
{
    enum { ONE = 1 << 8, WORDS = ONE - 1 };
    const int epoch = __atomic_load_n(&at->epoch, __ATOMIC_RELAXED);
    const int bring = worker == 0 ? ONE + word : ONE;
    const int arrived = __atomic_add_fetch(&at->arrived, bring, __ATOMIC_ACQ_REL);
    if (arrived / ONE == workers) {
        const unsigned next = ((unsigned)epoch & ~(unsigned)WORDS) + ONE;
        __atomic_store_n(&at->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&at->epoch, (int)(next + (unsigned)(arrived % ONE)), __ATOMIC_RELEASE);
        return worker == 0 ? word : arrived % ONE;
    }
    const long long waited = wait_until(&at->epoch, 0, epoch);
    if (worker == 0) {
        pool.lost += waited;
        pool.waited += waited;
        return word;
    }
    return READ(at->epoch) & WORDS;
}

int pool_better_alone(int workers)
{
    if (pool.part_at)
        return ++pool.meetings == pool.part_at;
    if (pool.waited <= LEAST_LOSS || READ(pool.oversubscribed))
        return 0;
    pool.parted = workers * pool.waited > (workers - 1) * (now() - pool.met + GRACE);
    return pool.parted;
}

int pool_wait_while(const int *value, int seen, int worker, long long usual)
{
    const long long waited = wait_until(value, 0, seen);
    if (worker == 0 && waited > usual)
        pool.lost += waited - usual;
    return my_task != TASK_BEFORE_FORK;
}

long long pool_clock(void) { return now(); }

void pool_part_at(int meeting) { pool.part_at = meeting; }
