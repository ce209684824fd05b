/* SPDX-License-Identifier: MIT
 * The kernels for any CPU: plain C, the portable truth.
 */
#define ISA baseline
#include <stddef.h>

#include "base/real.h"

#include "simd/vec_baseline.h"

#include "kernels/kernels_template.h"
