/* SPDX-License-Identifier: MIT
 * How large the caches of this machine are: what schedule.h decides by.
 */
#ifndef FASTLSTM_CACHES_H
#define FASTLSTM_CACHES_H

#include <stddef.h>

/* In bytes: the first two levels of one core, for data; the third, which cores share. */
typedef struct {
    ptrdiff_t first, second, third;
} cache_sizes;

/* As the CPU says, or the C library; where neither knows, as most machines have. */
cache_sizes find_caches(void);

/* What is in use: found when the library is loaded, or set, as tests do, while no pass runs. */
cache_sizes get_caches(void);
void set_caches(cache_sizes sizes);

#endif
