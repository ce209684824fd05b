/* SPDX-License-Identifier: MIT
 * A small team of threads: one task at a time, done by the caller and the members together.
 *
 * Members spin for a moment after a task, since the next one often follows at once, and then sleep:
 * an idle program uses no CPU. Whoever finds the team busy does the task alone, so callers from
 * several threads never wait for each other; tasks must therefore give the same result for any
 * number of members. A child made by fork starts with an empty team.
 */
#ifndef FASTLSTM_TEAM_H
#define FASTLSTM_TEAM_H

#include <stddef.h>

enum { TEAM_LARGEST = 64 };

/* Member `member` of `members` does its share; member 0 is the caller. */
typedef void (*team_task)(void *argument, int member, int members);

/* The most members that later tasks get, the caller among them: 1 to TEAM_LARGEST. */
void team_set_size(int size);
int team_get_size(void);

/* The threads of an OpenMP runtime instead of the team's own: where that runtime's threads look for
 * work all the time, ours would have to share the CPUs with them. As GNU's runtime, and those that
 * stand in for it, define them. */
typedef struct {
    void (*parallel)(void (*function)(void *), void *argument, unsigned threads, unsigned flags);
    int (*thread_number)(void); /* of the caller, and how many there are, in a parallel region */
    int (*thread_count)(void);
    int (*most_threads)(void); /* that a region can have */
} team_runtime;

/* In the whole process, from the next task on; children made by fork have the team's own again. */
void team_use_runtime(const team_runtime *runtime);

/* Do the task with at most `members` members; returns when all of them are done. Members that sleep
 * take part only if it `wakes` them, which takes some 50 us, or if the task is one of many that
 * follow closely on each other. */
void team_run(int members, int wakes, team_task task, void *argument);

/* A place where the members of one task wait for each other; starts as zero. */
typedef struct {
    int arrived, round;
} team_meeting;

void team_meet(team_meeting *meeting, int members);

/* The part of `count` things that falls to a member: from share_start(m) to share_start(m + 1); the
 * first ones have one more where it does not come out even. */
static inline ptrdiff_t share_start(ptrdiff_t count, int member, int members)
{
    const ptrdiff_t left = count % members;
    return count / members * member + (member < left ? member : left);
}

#endif
