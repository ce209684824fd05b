/* SPDX-License-Identifier: MIT
 * What the two passes of dense.h share.
 */
#ifndef FASTLSTM_DENSE_COMMON_H
#define FASTLSTM_DENSE_COMMON_H

#include <string.h>

#include "layers/dense.h"
#include "layers/schedule.h"
#include "layers/tiles.h"

/* In dense_pack.c, dense_forward.c and dense_backward.c. */
ptrdiff_t TYPED(dense_packed_size)(const void *kernels, ptrdiff_t features, ptrdiff_t units);
void TYPED(dense_pack)(const void *kernels, ptrdiff_t features, ptrdiff_t units, const void *kernel,
                       void *packed);
void TYPED(dense_run_forward)(dense_forward *f);
void TYPED(dense_run_forward_unpacked)(dense_forward *f);
size_t TYPED(dense_backward_workspace_bytes)(const dense_backward *g);
void TYPED(dense_run_backward)(dense_backward *g);

#endif
