/* SPDX-License-Identifier: MIT
 * What the CPU and the operating system offer, and the mode in which a pass computes.
 */
#ifndef FASTLSTM_CPU_H
#define FASTLSTM_CPU_H

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum isa { ISA_BASELINE, ISA_AVX2, ISA_AVX512, ISA_NEON, ISA_COUNT };

/* The compiler's own checks look at CPUID and at XCR0, so a kernel that has not enabled the ZMM
 * state hides AVX-512. AVX2 does not imply FMA: both are asked for. */
static inline int cpu_has(enum isa isa)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == ISA_AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == ISA_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512cd");
#elif defined(__aarch64__)
    if (isa == ISA_NEON)
        return 1;
#endif
    return isa == ISA_BASELINE;
}

/* The family of an AMD CPU (0x19: Zen 3 and 4, 0x1a: Zen 5), 0 for any other maker. */
static inline int cpu_amd_family(void)
{
#if defined(__x86_64__)
    unsigned int eax, ebx, ecx, edx;
    __builtin_cpu_init();
    if (__builtin_cpu_is("amd") && __get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return (int)((eax >> 8 & 0xf) + (eax >> 20 & 0xff));
#endif
    return 0;
}

/* Denormal numbers cost up to a hundred cycles each, and states decay into them. A pass treats
 * them as zero: flush_denormals() returns the mode to give back to restore_denormals(). */
#if defined(__x86_64__)
#include <xmmintrin.h>
typedef unsigned int fp_mode;
static inline fp_mode flush_denormals(void)
{
    const fp_mode before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); /* flush to zero, denormals are zero */
    return before;
}
static inline void restore_denormals(fp_mode before) { _mm_setcsr(before); }
#elif defined(__aarch64__)
typedef unsigned long fp_mode;
static inline fp_mode flush_denormals(void)
{
    fp_mode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    const fp_mode flushing = before | (1ul << 24); /* FZ */
    __asm__ volatile("msr fpcr, %0" ::"r"(flushing));
    return before;
}
static inline void restore_denormals(fp_mode before)
{
    __asm__ volatile("msr fpcr, %0" ::"r"(before));
}
#else
typedef int fp_mode;
static inline fp_mode flush_denormals(void) { return 0; }
static inline void restore_denormals(fp_mode before) { (void)before; }
#endif

#endif
