/* SPDX-License-Identifier: MIT
 * Weights laid out for the micro-kernel (gemm_template.h): packed once, multiplied with many times.
 *
 * A matrix (K, N) is cut into micro-panels of NR columns, and these are stored one behind the
 * other, each row after row: the micro-kernel reads one from its first byte to its last. The last
 * one is narrower, the columns that are left, filled up with zeros to whole vectors:
 *
 *          NR    NR                          NR
 *        +-----+-----+--+                  +-----+          0
 *        |  0  |  1  | 2|                  |  0  | K
 *     K  |     |     |  |       ->         |     |
 *        |     |     |  |                  +-----+          K NR
 *        +-----+-----+--+                  |  1  | K
 *               N                          |     |
 *                                          +--+--+        2 K NR
 *                                          | 2|0|  K
 *                                          |  |0|
 *                                          +--+-+
 *
 * So the micro-panel of column j begins at K * (j / NR) * NR.
 *
 * The columns of an LSTM's weights are its gates i, f, g, o, H units each. They are packed in
 * another order, by strips: a strip is one vector of units, W of them, in all their gates. Here i0
 * is W columns, gate i of strip 0, and i2 what is left of gate i, fewer than W columns:
 *
 *     weights    i0 i1 i2   f0 f1 f2   g0 g1 g2   o0 o1 o2
 *     packed     i0 f0 g0 o0   i1 f1 g1 o1   i2f2g2o2 0
 *
 * A tile of z, some rows by one strip, is thus all that W units need to do their step. What is left
 * of the gates has no filling but at its end.
 *
 * `weights` are plain matrices in C order. Packing shares the work out over the pool.
 */
#ifndef FASTLSTM_PACK_H
#define FASTLSTM_PACK_H

#include <stddef.h>

#include "base/names.h"

typedef struct {
    /* Elements of a packed matrix (depth, columns). */
    ptrdiff_t (*size)(const void *kernels, ptrdiff_t depth, ptrdiff_t columns);
    /* weights (depth, groups * count), in strips. The groups are the gates of a cell; 1 keeps the
     * order of the columns. */
    void (*groups)(const void *kernels, ptrdiff_t depth, int groups, ptrdiff_t count,
                   const void *weights, void *packed);
    /* weights (columns, depth), transposed. */
    void (*transposed)(const void *kernels, ptrdiff_t depth, ptrdiff_t columns, const void *weights,
                       void *packed);
} packing_functions;

extern const packing_functions packing_f32, packing_f64;

#endif
