/* SPDX-License-Identifier: MIT
 * The kernels for any CPU: plain C, the portable truth.
 */
#define ISA baseline
#include <stddef.h>

#include "real.h"

#include "vec_baseline.h"

#include "kernels_template.h"
