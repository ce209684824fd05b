/* SPDX-License-Identifier: MIT
 * Weights laid out for the micro-kernel (see kernels.h): packed once, multiplied with many times.
 *
 * `weights` are plain matrices in C order. Packing shares the work out over the pool.
 */
#ifndef FASTLSTM_PACK_H
#define FASTLSTM_PACK_H

#include <stddef.h>

typedef struct {
    /* Elements of a packed matrix (depth, columns). */
    ptrdiff_t (*size)(const void *kernels, ptrdiff_t depth, ptrdiff_t columns);
    /* weights (depth, groups * count): a vector's worth of columns of each group side by side, then
     * the next of each. The groups are the gates of a cell; 1 keeps the order of the columns. */
    void (*groups)(const void *kernels, ptrdiff_t depth, int groups, ptrdiff_t count,
                   const void *weights, void *packed);
    /* weights (columns, depth), transposed. */
    void (*transposed)(const void *kernels, ptrdiff_t depth, ptrdiff_t columns, const void *weights,
                       void *packed);
} packing_functions;

extern const packing_functions packing_f32, packing_f64;

#endif
