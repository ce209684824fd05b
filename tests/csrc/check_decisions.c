/* SPDX-License-Identifier: MIT
 * What the pool decides where CPUs are scarce, on a clock and with losses of its own: when a caller
 * goes on alone, and for how long its next tasks stay alone.
 */
#if defined(__linux__)
#define _GNU_SOURCE /* as the pool's other parts */
#endif
#include <time.h>

static long long clock_of_test; /* nanoseconds */

static int time_of_test(struct timespec *time)
{
    time->tv_sec = clock_of_test / 1000000000;
    time->tv_nsec = clock_of_test % 1000000000;
    return 0;
}
#define clock_gettime(clock, time) time_of_test(time)

#include "base/pool.c"

#include <stdio.h>

enum { US = 1000, MS = 1000 * US };

static int failures = 0, runs = 0;

static void expect(const char *what, int is_so)
{
    runs++;
    if (!is_so)
        failures++, printf("not so: %s\n", what);
}

/* A task whose workers were there at 1 s, at its meeting so much later, of which it has waited. */
static int parts(int workers, long long elapsed, long long waited)
{
    pool.met = 1000 * MS;
    clock_of_test = pool.met + elapsed;
    pool.waited = waited;
    pool.parted = 0;
    const int answer = pool_better_alone(workers);
    expect("what was answered is remembered", pool.parted == answer);
    return answer;
}

static void check_parting(void)
{
    expect("two of which one is never there part", parts(2, 9 * MS, 8 * MS));
    expect("a wait of a scheduler's slice at the beginning parts two", parts(2, 4100 * US, 4 * MS));
    expect("a hiccup at the beginning does not", !parts(2, 500 * US, 400 * US));
    expect("a slice in a long task does not", !parts(2, 50 * MS, 4 * MS));
    expect("two that wait half of the time are as fast as one", !parts(2, 40 * MS, 20 * MS));
    expect("eight still are faster", !parts(8, 40 * MS, 30 * MS));
    expect("until seven eighths are lost", parts(8, 40 * MS, 39 * MS));
    pool_oversubscribe(1);
    expect("more threads than CPUs part never", !parts(2, 9 * MS, 8 * MS));
    pool_oversubscribe(0);
    pool_part_at(2);
    pool.meetings = 0;
    expect("tests choose the meeting: not the first", !pool_better_alone(2));
    expect("but the second", pool_better_alone(2));
    expect("and no other", !pool_better_alone(2));
    pool_part_at(0);
}

/* A task that ends so long after what the last one led to, and loses `lost` of `took`; returns how
 * long the next ones stay alone. */
static long long alone_after(long long later, int was_left, long long lost, long long took)
{
    clock_of_test = pool.alone_until + later;
    pool.lost = lost;
    learn(was_left, took);
    return pool.alone_until > clock_of_test ? pool.alone_until - clock_of_test : 0;
}

static void check_learning(void)
{
    const long long lost = 4 * MS, took = 5 * MS;
    pool.alone_until = pool.penalty = 0;
    expect("a first loss is forgiven", alone_after(1000 * MS, 0, lost, took) == 0);
    expect("a second one soon is not", alone_after(1 * MS, 0, lost, took) == 2 * lost);
    expect("each is worse than the one before", alone_after(1 * MS, 0, lost, took) == 4 * lost);
    expect("a good task changes nothing",
           alone_after(1 * MS, 0, 0, took) == 0 && pool.penalty == 4 * lost);
    expect("nor does one that lost little", alone_after(1 * MS, 0, lost, 20 * lost) == 0);
    expect("one that was left alone lost, however long it then took",
           alone_after(1 * MS, 1, lost, 20 * lost) == 8 * lost);
    for (int i = 0; i < 20; i++)
        alone_after(1 * MS, 0, lost, took);
    expect("there is an end to it", pool.penalty == MOST_FOR_LOST * lost);
    expect("what costs little is tried again soon",
           alone_after(1 * MS, 1, 10 * US, took) == MOST_FOR_LOST * 10 * US);
    expect("after a while all is forgiven", alone_after(2 * (long long)SOON, 0, lost, took) == 0);
}

int main(void)
{
    check_parting();
    check_learning();
    printf("%d of %d decisions wrong\n", failures, runs);
    return failures > 0;
}
