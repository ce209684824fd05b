/* SPDX-License-Identifier: MIT
 * On which CPUs threads may run. Where the system does not tell, they run anywhere.
 *
 * A scheduler may well wake a worker on the CPU of its caller, who does not leave it before the
 * worker has done its part: both then wait, for milliseconds, until the load is balanced. So
 * workers are woken off the caller's CPU; once they run they may use all CPUs that the caller may.
 */
#ifndef FASTLSTM_AFFINITY_H
#define FASTLSTM_AFFINITY_H

#include <pthread.h>

/* How many CPUs the calling thread may use; INT_MAX where nobody knows. */
int affinity_count(void);

/* For whoever wakes sleeping threads: looks on which CPU the caller is, and on which it may be.
 * Returns whether there is another one; then each sleeper is kept off the caller's, and spreads
 * when it is awake. All three under the lock that guards the sleepers. */
int affinity_look(void);
void affinity_keep_off(pthread_t sleeper);
void affinity_spread(void);

#endif
