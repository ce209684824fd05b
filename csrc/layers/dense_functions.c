/* SPDX-License-Identifier: MIT
 * The kernel of a dense layer as its forward pass wants it, and the table of all functions of
 * dense.h; compiled once for each real type.
 */
#include "layers/dense_common.h"
#include "layers/pack.h"

static ptrdiff_t packed_kernel_size(const void *kernels, ptrdiff_t features, ptrdiff_t units)
{
    return dense_is_narrow(units) ? features * units
                                  : TYPED(packing).size(kernels, features, units);
}

static void pack_kernel(const void *kernels, ptrdiff_t features, ptrdiff_t units,
                        const void *kernel, void *packed)
{
    if (!dense_is_narrow(units)) {
        TYPED(packing).groups(kernels, features, 1, units, kernel, packed);
        return;
    }
    for (ptrdiff_t f = 0; f < features; f++)
        for (ptrdiff_t u = 0; u < units; u++)
            ((real *)packed)[u * features + f] = ((const real *)kernel)[f * units + u];
}

const dense_functions TYPED(dense) = {
    .packed_size = packed_kernel_size,
    .pack = pack_kernel,
    .wants_packed = dense_wants_packed,
    .wants_transposed = dense_wants_transposed,
    .workers = dense_workers,
    .run_forward = TYPED(dense_run_forward),
    .run_forward_unpacked = TYPED(dense_run_forward_unpacked),
    .backward_workspace_bytes = TYPED(dense_backward_workspace_bytes),
    .run_backward = TYPED(dense_run_backward),
};
