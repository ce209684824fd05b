/* SPDX-License-Identifier: MIT
 * The vector vocabulary (see vec_baseline.h) for NEON on aarch64.
 */
#include <arm_neon.h>
#include <string.h>

/* 32 registers: 6 * 4 sums, 4 vectors of weights, broadcast elements. */
#define MR 6
#define NR_VECTORS 4
#define WIDE_ROWS 0
#define GATE_ROWS 6
#define VEC_REGISTERS 32

#if FASTLSTM_DOUBLE
enum { VEC_WIDTH = 2 };
typedef float64x2_t vec;
typedef uint64x2_t vec_mask;
#define OP(name) name##q_f64
#define OP_N(name) name##q_n_f64
static inline vec vec_shift_bits_left(vec a, int count)
{
    return vreinterpretq_f64_s64(vshlq_s64(vreinterpretq_s64_f64(a), vdupq_n_s64(count)));
}
static inline vec vec_copysign(vec size, vec sign)
{
    return vbslq_f64(vdupq_n_u64(UINT64_C(1) << 63), sign, size);
}
#else
enum { VEC_WIDTH = 4 };
typedef float32x4_t vec;
typedef uint32x4_t vec_mask;
#define OP(name) name##q_f32
#define OP_N(name) name##q_n_f32
static inline vec vec_shift_bits_left(vec a, int count)
{
    return vreinterpretq_f32_s32(vshlq_s32(vreinterpretq_s32_f32(a), vdupq_n_s32(count)));
}
static inline vec vec_copysign(vec size, vec sign)
{
    return vbslq_f32(vdupq_n_u32(UINT32_C(1) << 31), sign, size);
}
#endif

static inline vec vec_load(const real *p) { return OP(vld1)(p); }
static inline void vec_store(real *p, vec a) { OP(vst1)(p, a); }
static inline vec vec_load_tail_or(const real *p, ptrdiff_t n, vec rest)
{
    real lanes[VEC_WIDTH];
    vec_store(lanes, rest);
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vec_load(lanes);
}
static inline vec vec_load_tail(const real *p, ptrdiff_t n)
{
    return vec_load_tail_or(p, n, OP_N(vdup)(0));
}
static inline void vec_store_tail(real *p, ptrdiff_t n, vec a)
{
    real lanes[VEC_WIDTH];
    vec_store(lanes, a);
    memcpy(p, lanes, (size_t)n * sizeof *p);
}
static inline vec vec_in_register(vec a)
{
    __asm__("" : "+w"(a));
    return a;
}
static inline vec vec_set1(real a) { return OP_N(vdup)(a); }
static inline vec vec_add(vec a, vec b) { return OP(vadd)(a, b); }
static inline vec vec_sub(vec a, vec b) { return OP(vsub)(a, b); }
static inline vec vec_mul(vec a, vec b) { return OP(vmul)(a, b); }
static inline vec vec_div(vec a, vec b) { return OP(vdiv)(a, b); }
static inline vec vec_fma(vec a, vec b, vec c) { return OP(vfma)(c, a, b); }
static inline vec vec_fnma(vec a, vec b, vec c) { return OP(vfms)(c, a, b); }
static inline vec_mask vec_less(vec a, vec b) { return OP(vclt)(a, b); }
static inline vec vec_select(vec_mask m, vec yes, vec no) { return OP(vbsl)(m, yes, no); }
static inline vec vec_max(vec a, vec b) { return vec_select(OP(vcgt)(a, b), a, b); }
static inline vec vec_min(vec a, vec b) { return vec_select(OP(vclt)(a, b), a, b); }
static inline real vec_sum(vec a) { return OP(vaddv)(a); }
static inline real vec_largest(vec a) { return OP(vmaxv)(a); }
static inline vec vec_reciprocal(vec a) { return OP(vdiv)(vec_set1(1), a); }
static inline vec vec_abs(vec a) { return OP(vabs)(a); }
