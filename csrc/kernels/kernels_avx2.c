/* SPDX-License-Identifier: MIT
 * The kernels for AVX2 with FMA.
 */
#if !(defined(__AVX2__) && defined(__FMA__))
#error "compile this file with the flags of AVX2 with FMA"
#endif
#define ISA avx2
#include <stddef.h>

#include "base/real.h"

#include "simd/vec_avx2.h"

#include "kernels/kernels_template.h"
