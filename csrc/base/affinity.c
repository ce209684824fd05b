/* SPDX-License-Identifier: MIT
 * See affinity.h.
 */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include "base/affinity.h"

#include <limits.h>
#include <sched.h>

#if defined(__linux__)
/* The CPUs of whoever looked last, and those but its own. */
static cpu_set_t allowed, others;

int affinity_count(void)
{
    cpu_set_t cpus;
    return sched_getaffinity(0, sizeof cpus, &cpus) ? INT_MAX : CPU_COUNT(&cpus);
}

int affinity_look(void)
{
    const int here = sched_getcpu();
    if (sched_getaffinity(0, sizeof allowed, &allowed) || here < 0 || here >= CPU_SETSIZE)
        CPU_ZERO(&allowed);
    others = allowed;
    if (CPU_COUNT(&allowed) < 2)
        return 0;
    CPU_CLR(here, &others);
    return 1;
}

void affinity_keep_off(pthread_t sleeper)
{
    pthread_setaffinity_np(sleeper, sizeof others, &others);
}

void affinity_spread(void)
{
    if (CPU_COUNT(&allowed) >= 2)
        pthread_setaffinity_np(pthread_self(), sizeof allowed, &allowed);
}
#else
int affinity_count(void) { return INT_MAX; }
int affinity_look(void) { return 0; }
void affinity_keep_off(pthread_t sleeper) { (void)sleeper; }
void affinity_spread(void) {}
#endif
