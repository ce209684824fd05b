/* SPDX-License-Identifier: MIT
 * See caches.h.
 */
#include "base/caches.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#elif !defined(_WIN32)
#include <unistd.h>
#endif

/* Of a level that nobody tells. */
static const cache_sizes usual = {32 << 10, 512 << 10, 8 << 20};

#if defined(__x86_64__)
/* Leaf 4 of Intel and leaf 0x8000001d of AMD have one form: a cache for each subleaf, until the
 * type is 0. Types: 1 data, 3 for everything. */
static void ask_cpu(unsigned leaf, cache_sizes *found)
{
    unsigned a, b, c, d;
    for (unsigned number = 0; number < 16 && __get_cpuid_count(leaf, number, &a, &b, &c, &d);
         number++) {
        const unsigned type = a & 31, level = a >> 5 & 7;
        const ptrdiff_t line = (b & 0xfff) + 1, parts = (b >> 12 & 0x3ff) + 1, ways = (b >> 22) + 1;
        const ptrdiff_t size = line * parts * ways * ((ptrdiff_t)c + 1);
        if (type == 0)
            return;
        if (type == 2)
            continue;
        if (level == 1)
            found->first = size;
        else if (level == 2)
            found->second = size;
        else if (level == 3)
            found->third = size;
    }
}
#else
static void ask_cpu(unsigned leaf, cache_sizes *found) { (void)leaf, (void)found; }
#endif

#if defined(__APPLE__)
static void ask_system(cache_sizes *found)
{
    const struct {
        const char *name;
        ptrdiff_t *size;
    } levels[] = {{"hw.l1dcachesize", &found->first},
                  {"hw.l2cachesize", &found->second},
                  {"hw.l3cachesize", &found->third}};
    for (int i = 0; i < 3; i++) {
        long long value = 0;
        size_t length = sizeof value;
        if (!*levels[i].size && !sysctlbyname(levels[i].name, &value, &length, 0, 0))
            *levels[i].size = (ptrdiff_t)value;
    }
}
#elif defined(_SC_LEVEL2_CACHE_SIZE)
static void ask_system(cache_sizes *found)
{
    if (!found->first)
        found->first = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    if (!found->second)
        found->second = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (!found->third)
        found->third = sysconf(_SC_LEVEL3_CACHE_SIZE);
}
#else
static void ask_system(cache_sizes *found) { (void)found; }
#endif

cache_sizes find_caches(void)
{
    cache_sizes found = {0, 0, 0};
    ask_cpu(4, &found);
    if (!found.second)
        ask_cpu(0x8000001d, &found);
    ask_system(&found);
    return (cache_sizes){found.first > 0 ? found.first : usual.first,
                         found.second > 0 ? found.second : usual.second,
                         found.third > 0 ? found.third : usual.third};
}

static cache_sizes in_use;

__attribute__((constructor)) static void find_at_load(void) { in_use = find_caches(); }

cache_sizes get_caches(void) { return in_use; }

void set_caches(cache_sizes sizes) { in_use = sizes; }
