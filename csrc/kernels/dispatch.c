/* SPDX-License-Identifier: MIT
 * The table of kernel tables.
 */
#include "kernels/dispatch.h"

/* By instruction set; BUILT(f32) names kernels_baseline_f32, kernels_avx2_f32, ... */
#if defined(__x86_64__)
#define BUILT(type)                                \
    {                                              \
        [ISA_BASELINE] = &kernels_baseline_##type, \
        [ISA_AVX2] = &kernels_avx2_##type,         \
        [ISA_AVX512] = &kernels_avx512_##type,     \
    }
#elif defined(__aarch64__)
#define BUILT(type)                                \
    {                                              \
        [ISA_BASELINE] = &kernels_baseline_##type, \
        [ISA_NEON] = &kernels_neon_##type,         \
    }
#else
#define BUILT(type) {[ISA_BASELINE] = &kernels_baseline_##type}
#endif

static const kernels_f32 *const built_f32[ISA_COUNT] = BUILT(f32);
static const kernels_f64 *const built_f64[ISA_COUNT] = BUILT(f64);

const kernels_f32 *find_kernels_f32(enum isa isa) { return cpu_has(isa) ? built_f32[isa] : 0; }

const kernels_f64 *find_kernels_f64(enum isa isa) { return cpu_has(isa) ? built_f64[isa] : 0; }
