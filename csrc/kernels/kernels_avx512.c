/* SPDX-License-Identifier: MIT
 * The kernels for AVX-512.
 */
#if !(defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && \
      defined(__AVX512VL__))
#error "compile this file with the flags of AVX-512"
#endif
#define ISA avx512
#include <stddef.h>

#include "base/real.h"

#include "simd/vec_avx512.h"

#include "kernels/kernels_template.h"
