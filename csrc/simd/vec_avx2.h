/* SPDX-License-Identifier: MIT
 * The vector vocabulary (see vec_baseline.h) for AVX2 with FMA.
 */
#include <immintrin.h>

/* 16 registers: 6 * 2 sums, 2 vectors of weights, 1 broadcast element; or 3 * 4 sums, 3 elements,
 * 1 vector. */
#define MR 6
#define NR_VECTORS 2
#define WIDE_ROWS 3
#define GATE_ROWS 3
#define VEC_REGISTERS 16

#if FASTLSTM_DOUBLE
enum { VEC_WIDTH = 4 };
typedef __m256d vec;
/* join (add or max) over the lanes: halves, then neighbours. */
#define JOIN_LANES(a, join)                                                                       \
    const __m128d half = _mm_##join##_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1)); \
    return _mm_cvtsd_f64(_mm_##join##_sd(half, _mm_unpackhi_pd(half, half)))
#define OP(name) _mm256_##name##_pd
#define TAIL_MASK(n) _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3))
static inline vec vec_shift_bits_left(vec a, int count)
{
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a), count));
}
#else
enum { VEC_WIDTH = 8 };
typedef __m256 vec;
#define JOIN_LANES(a, join)                                                                      \
    const __m128 half = _mm_##join##_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)); \
    const __m128 quarter = _mm_##join##_ps(half, _mm_movehl_ps(half, half));                     \
    return _mm_cvtss_f32(_mm_##join##_ss(quarter, _mm_movehdup_ps(quarter)))
#define OP(name) _mm256_##name##_ps
#define TAIL_MASK(n) \
    _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
static inline vec vec_shift_bits_left(vec a, int count)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), count));
}
#endif
typedef vec vec_mask;

static inline vec vec_load(const real *p) { return OP(loadu)(p); }
static inline void vec_store(real *p, vec a) { OP(storeu)(p, a); }
static inline vec vec_load_tail(const real *p, ptrdiff_t n)
{
    return OP(maskload)(p, TAIL_MASK(n));
}
static inline vec vec_load_tail_or(const real *p, ptrdiff_t n, vec rest)
{
    return OP(blendv)(rest, vec_load_tail(p, n), OP(castsi256)(TAIL_MASK(n)));
}
static inline void vec_store_tail(real *p, ptrdiff_t n, vec a)
{
    OP(maskstore)(p, TAIL_MASK(n), a);
}
static inline vec vec_in_register(vec a)
{
    __asm__("" : "+x"(a));
    return a;
}
static inline vec vec_set1(real a) { return OP(set1)(a); }
static inline vec vec_add(vec a, vec b) { return OP(add)(a, b); }
static inline vec vec_sub(vec a, vec b) { return OP(sub)(a, b); }
static inline vec vec_mul(vec a, vec b) { return OP(mul)(a, b); }
static inline vec vec_div(vec a, vec b) { return OP(div)(a, b); }
static inline vec vec_fma(vec a, vec b, vec c) { return OP(fmadd)(a, b, c); }
static inline vec vec_fnma(vec a, vec b, vec c) { return OP(fnmadd)(a, b, c); }
static inline vec vec_max(vec a, vec b) { return OP(max)(a, b); }
static inline vec vec_min(vec a, vec b) { return OP(min)(a, b); }
static inline real vec_sum(vec a) { JOIN_LANES(a, add); }
static inline real vec_largest(vec a) { JOIN_LANES(a, max); }
static inline vec vec_reciprocal(vec a) { return OP(div)(OP(set1)(1), a); }
static inline vec_mask vec_less(vec a, vec b) { return OP(cmp)(a, b, _CMP_LT_OQ); }
static inline vec vec_select(vec_mask m, vec yes, vec no) { return OP(blendv)(no, yes, m); }
static inline vec vec_abs(vec a) { return OP(andnot)(vec_set1(-0.0f), a); }
static inline vec vec_copysign(vec size, vec sign)
{
    return OP(or)(size, OP(and)(vec_set1(-0.0f), sign));
}
