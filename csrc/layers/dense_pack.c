/* SPDX-License-Identifier: MIT
 * The kernel of a dense layer as its forward pass wants it; compiled once for each real type.
 */
#include "layers/dense_common.h"
#include "layers/pack.h"

ptrdiff_t TYPED(dense_packed_size)(const void *kernels, ptrdiff_t features, ptrdiff_t units)
{
    return dense_is_narrow(units) ? features * units
                                  : TYPED(packing).size(kernels, features, units);
}

void TYPED(dense_pack)(const void *kernels, ptrdiff_t features, ptrdiff_t units, const void *kernel,
                       void *packed)
{
    if (!dense_is_narrow(units)) {
        TYPED(packing).groups(kernels, features, 1, units, kernel, packed);
        return;
    }
    for (ptrdiff_t f = 0; f < features; f++)
        for (ptrdiff_t u = 0; u < units; u++)
            ((real *)packed)[u * features + f] = ((const real *)kernel)[f * units + u];
}
