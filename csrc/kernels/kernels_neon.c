/* SPDX-License-Identifier: MIT
 * The kernels for NEON.
 */
#if !(defined(__aarch64__))
#error "compile this file with the flags of NEON"
#endif
#define ISA neon
#include <stddef.h>

#include "base/real.h"

#include "simd/vec_neon.h"

#include "kernels/kernels_template.h"
