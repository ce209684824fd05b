/* SPDX-License-Identifier: MIT
 * See team.h. Threads are made when they are first needed and live as long as the process.
 */
#if defined(__linux__)
#define _GNU_SOURCE /* the affinity of threads */
#endif
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

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

/* How often to look before giving the CPU away at a meeting, and between two looks at the clock of
 * a member that is about to sleep: a look takes 10 to 50 ns. */
enum { LOOKS_BEFORE_YIELD = 2000, LOOKS_BEFORE_CLOCK = 100 };

/* Tasks nearer to each other than this, in nanoseconds, are a row of tasks: so long members stay
 * awake. Waking them for a small task costs more than they do, tens of microseconds; it pays once a
 * row is long enough to have a long rest, too. */
enum { CLOSE = 100000, ROW_WORTH_WAKING = 8 };

static struct {
    pthread_mutex_t busy;  /* held by the caller whose task is being done */
    pthread_mutex_t sleep; /* guards sleepers falling asleep and being woken */
    pthread_cond_t wake;
    int size, started; /* most members wanted; threads made so far, without the caller */
    int ticket;        /* counts tasks: members wait for it to change */
    int working;       /* members other than the caller that have yet to finish the task */
    long long ended;   /* when the last task that several members could do was done */
    int row;           /* how many tasks have followed closely on each other */
    int sleepers;
    int members;
    team_task task;
    void *argument;
    team_runtime runtime; /* whose threads do the tasks, if it has any; changed holding `busy` */
} team = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .sleep = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .size = 1};

/* What is read without holding the mutex that guards its changes. */
#define READ(field) __atomic_load_n(&(field), __ATOMIC_SEQ_CST)
#define WRITE(field, value) __atomic_store_n(&(field), value, __ATOMIC_SEQ_CST)
#define ADD(field, value) __atomic_add_fetch(&(field), value, __ATOMIC_SEQ_CST)

/* What a member knows of itself; the task that it is made for has the ticket after `seen`. */
typedef struct {
    pthread_t thread;
    int member, seen;
    int asleep; /* guarded by team.sleep */
} recruit;
static recruit recruits[TEAM_LARGEST]; /* from 1 on: 0 is whoever calls */

/* ---- where members run ---------------------------------------------------------------------- */

/* A scheduler may well wake a member on the CPU of its caller, who does not leave it before the
 * member has done its share: both then wait, for milliseconds, until the load is balanced. So
 * members are woken off the caller's CPU; once they run they may use all CPUs that the caller may.
 */
#if defined(__linux__)
static cpu_set_t allowed; /* the caller's CPUs; guarded by team.sleep */

static void keep_sleepers_off_callers_cpu(void)
{
    const int here = sched_getcpu();
    if (sched_getaffinity(0, sizeof allowed, &allowed) || here < 0 || here >= CPU_SETSIZE)
        CPU_ZERO(&allowed);
    cpu_set_t others = allowed;
    if (CPU_COUNT(&allowed) < 2)
        return;
    CPU_CLR(here, &others);
    for (int member = 1; member <= team.started; member++)
        if (recruits[member].asleep)
            pthread_setaffinity_np(recruits[member].thread, sizeof others, &others);
}

static void run_anywhere(void)
{
    if (CPU_COUNT(&allowed) >= 2)
        pthread_setaffinity_np(pthread_self(), sizeof allowed, &allowed);
}
#else
static void keep_sleepers_off_callers_cpu(void) {}
static void run_anywhere(void) {}
#endif

/* ---- members -------------------------------------------------------------------------------- */

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1000000000LL * time.tv_sec + time.tv_nsec;
}

static void wait_for_ticket(recruit *self, int seen)
{
    for (const long long start = now(); now() - start < CLOSE;)
        for (int look = 0; look < LOOKS_BEFORE_CLOCK; look++) {
            if (READ(team.ticket) != seen)
                return;
            PAUSE();
        }
    pthread_mutex_lock(&team.sleep);
    ADD(team.sleepers, 1);
    self->asleep = 1;
    while (READ(team.ticket) == seen)
        pthread_cond_wait(&team.wake, &team.sleep);
    self->asleep = 0;
    ADD(team.sleepers, -1);
    run_anywhere();
    pthread_mutex_unlock(&team.sleep);
}

static void *serve(void *argument)
{
    recruit *const self = argument;
    int seen = self->seen;
    for (;;) {
        wait_for_ticket(self, seen);
        seen = READ(team.ticket);
        if (self->member < team.members)
            team.task(team.argument, self->member, team.members);
        ADD(team.working, -1);
    }
    return 0;
}

static void start_threads(int wanted)
{
    while (team.started < wanted) {
        pthread_attr_t attributes;
        const int member = team.started + 1;
        recruits[member] = (recruit){.member = member, .seen = READ(team.ticket)};
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        const int failed =
            pthread_create(&recruits[member].thread, &attributes, serve, &recruits[member]);
        pthread_attr_destroy(&attributes);
        if (failed)
            break;
        WRITE(team.started, member);
    }
}

#if defined(_WIN32)
static void start_members(int wanted) { start_threads(wanted); }
#else
/* Signals are for the program's own threads: the new ones inherit a mask that keeps them all off.
 */
static void start_members(int wanted)
{
    sigset_t all, before;
    if (team.started >= wanted)
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
    pthread_mutex_init(&team.busy, 0);
    pthread_mutex_init(&team.sleep, 0);
    pthread_cond_init(&team.wake, 0);
    team.started = team.working = team.sleepers = 0;
    team.runtime.parallel = 0; /* its threads are gone too */
}

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(0, 0, begin_anew); }
#endif

/* ---- tasks ---------------------------------------------------------------------------------- */

/* All members do the task; the caller holds team.busy. */
static void run_together(int members, team_task task, void *argument)
{
    start_members(members - 1);
    if (members > team.started + 1)
        members = team.started + 1;
    team.task = task;
    team.argument = argument;
    team.members = members;
    WRITE(team.working, team.started);
    ADD(team.ticket, 1);
    if (READ(team.sleepers)) {
        pthread_mutex_lock(&team.sleep);
        keep_sleepers_off_callers_cpu();
        pthread_cond_broadcast(&team.wake);
        pthread_mutex_unlock(&team.sleep);
    }
    task(argument, 0, members);
    for (int look = 0; READ(team.working); look++) {
        if (look < LOOKS_BEFORE_YIELD)
            PAUSE();
        else
            sched_yield();
    }
}

/* What is lent to the threads of another runtime. */
typedef struct {
    team_task task;
    void *argument;
    int members;
} lent_task;

/* There may be fewer threads than were asked for, one alone inside of another region. */
static void lend(void *argument)
{
    const lent_task *const lent = argument;
    const int member = team.runtime.thread_number(), count = team.runtime.thread_count();
    const int members = count < lent->members ? count : lent->members;
    if (member < members)
        lent->task(lent->argument, member, members);
}

/* Always with as many threads as the runtime has: with fewer it would give the others up. */
static void run_on_runtime(int members, team_task task, void *argument)
{
    lent_task lent = {task, argument, members};
    const int threads = team.runtime.most_threads();
    team.runtime.parallel(lend, &lent, (unsigned)(threads > members ? threads : members), 0);
}

/* ---- as team.h says ------------------------------------------------------------------------- */

void team_set_size(int size)
{
    WRITE(team.size, size < 1 ? 1 : size > TEAM_LARGEST ? TEAM_LARGEST : size);
}

int team_get_size(void) { return READ(team.size); }

void team_use_runtime(const team_runtime *runtime)
{
    pthread_mutex_lock(&team.busy);
    team.runtime.thread_number = runtime->thread_number;
    team.runtime.thread_count = runtime->thread_count;
    team.runtime.most_threads = runtime->most_threads;
    WRITE(team.runtime.parallel, runtime->parallel);
    pthread_mutex_unlock(&team.busy);
}

void team_run(int members, int wakes, team_task task, void *argument)
{
    const int size = READ(team.size);
    if (members > size)
        members = size;
    if (members <= 1) {
        task(argument, 0, 1);
        return;
    }
    const int asleep =
        READ(team.runtime.parallel) || READ(team.sleepers) > 0 || READ(team.started) < members - 1;
    const int close = now() - READ(team.ended) < CLOSE, before = READ(team.row);
    const int row = !close ? 0 : before < ROW_WORTH_WAKING ? before + 1 : before;
    const int together = wakes || !asleep || row >= ROW_WORTH_WAKING;
    WRITE(team.row, row);
    if (together && !pthread_mutex_trylock(&team.busy)) {
        if (team.runtime.parallel)
            run_on_runtime(members, task, argument);
        else
            run_together(members, task, argument);
        pthread_mutex_unlock(&team.busy);
    } else
        task(argument, 0, 1);
    WRITE(team.ended, now());
}

void team_meet(team_meeting *meeting, int members)
{
    const int round = READ(meeting->round);
    if (ADD(meeting->arrived, 1) == members) {
        WRITE(meeting->arrived, 0);
        WRITE(meeting->round, round + 1);
        return;
    }
    for (int look = 0; READ(meeting->round) == round; look++) {
        if (look < LOOKS_BEFORE_YIELD)
            PAUSE();
        else
            sched_yield();
    }
}
