/* SPDX-License-Identifier: MIT
 * Which kernel tables this build holds and this machine can run.
 */
#ifndef FASTLSTM_DISPATCH_H
#define FASTLSTM_DISPATCH_H

#include "base/cpu.h"
#include "kernels/kernels.h"

/* NULL where the build has no such kernels or the machine cannot run them. */
const kernels_f32 *find_kernels_f32(enum isa isa);
const kernels_f64 *find_kernels_f64(enum isa isa);

#endif
