/* SPDX-License-Identifier: MIT
 * How large memory is laid out: panels are walked through again and again, and a product over
 * hundreds of small pages waits for address translations.
 */
#ifndef FASTLSTM_PAGES_H
#define FASTLSTM_PAGES_H

#include <stddef.h>

/* Memory of at least this size starts at a multiple of it. */
enum { HUGE_PAGE = 1 << 21 };

#if defined(__linux__)
#include <sys/mman.h>
/* Ask for huge pages; the system may decline. */
static inline void prefer_huge_pages(void *memory, size_t size)
{
    madvise(memory, size, MADV_HUGEPAGE);
}
#else
static inline void prefer_huge_pages(void *memory, size_t size) { (void)memory, (void)size; }
#endif

#endif
