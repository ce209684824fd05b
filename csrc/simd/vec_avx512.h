/* SPDX-License-Identifier: MIT
 * The vector vocabulary (see vec_baseline.h) for AVX-512 F, DQ, BW, VL.
 */
#include <immintrin.h>

/* 32 registers: 6 * 4 sums, 4 vectors of weights, broadcast elements. */
#define MR 6
#define NR_VECTORS 4
#define WIDE_ROWS 0
#define GATE_ROWS 6
#define VEC_REGISTERS 32

#if FASTLSTM_DOUBLE
enum { VEC_WIDTH = 8 };
typedef __m512d vec;
typedef __mmask8 vec_mask;
#define OP(name) _mm512_##name##_pd
#define COMPARE_LESS _mm512_cmp_pd_mask
static inline vec vec_shift_bits_left(vec a, unsigned count)
{
    return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a), count));
}
#else
enum { VEC_WIDTH = 16 };
typedef __m512 vec;
typedef __mmask16 vec_mask;
#define OP(name) _mm512_##name##_ps
#define COMPARE_LESS _mm512_cmp_ps_mask
static inline vec vec_shift_bits_left(vec a, unsigned count)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), count));
}
#endif
#define TAIL_MASK(n) ((vec_mask)((1u << (n)) - 1u))

static inline vec vec_load(const real *p) { return OP(loadu)(p); }
static inline void vec_store(real *p, vec a) { OP(storeu)(p, a); }
static inline vec vec_load_tail(const real *p, ptrdiff_t n)
{
    return OP(maskz_loadu)(TAIL_MASK(n), p);
}
static inline vec vec_load_tail_or(const real *p, ptrdiff_t n, vec rest)
{
    return OP(mask_loadu)(rest, TAIL_MASK(n), p);
}
static inline void vec_store_tail(real *p, ptrdiff_t n, vec a)
{
    OP(mask_storeu)(p, TAIL_MASK(n), a);
}
static inline vec vec_in_register(vec a)
{
    __asm__("" : "+v"(a));
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
static inline real vec_sum(vec a) { return OP(reduce_add)(a); }
static inline real vec_largest(vec a) { return OP(reduce_max)(a); }
/* 14 bits from the CPU's table, doubled by each step of Newton's. */
static inline vec vec_reciprocal(vec a)
{
    vec guess = OP(rcp14)(a);
    for (int digits = 14; digits < (FASTLSTM_DOUBLE ? 53 : 24); digits *= 2)
        guess = OP(fmadd)(guess, OP(fnmadd)(a, guess, vec_set1(1)), guess);
    return guess;
}
static inline vec_mask vec_less(vec a, vec b) { return COMPARE_LESS(a, b, _CMP_LT_OQ); }
static inline vec vec_select(vec_mask m, vec yes, vec no) { return OP(mask_blend)(m, no, yes); }
static inline vec vec_abs(vec a) { return OP(andnot)(vec_set1(-0.0f), a); }
static inline vec vec_copysign(vec size, vec sign)
{
    return OP(or)(size, OP(and)(vec_set1(-0.0f), sign));
}
