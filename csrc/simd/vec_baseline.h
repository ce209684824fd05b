/* SPDX-License-Identifier: MIT
 * The vector vocabulary in plain C: a vector of one element, on any CPU.
 *
 * Every vec_*.h defines the same words. max(a, b) and min(a, b) are b when either
 * is NaN; reciprocal errs by at most one ULP; the size of copysign is not negative; sum and largest
 * are taken over the lanes of a vector. load_tail and store_tail touch only the first n elements,
 * with n from 1 to VEC_WIDTH - 1; in the other lanes is 0 or, with load_tail_or, what is in `rest`.
 * in_register(a) is a, once and for all loaded, so that no operation that uses it
 * loads it again. MR, NR_VECTORS and WIDE_ROWS are the shape of the micro-kernel (gemm_template.h)
 * as VEC_REGISTERS registers allow; GATE_ROWS rows of gates are computed side by side.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef MR /* tools/check_csrc.sh tries every height */
#define MR 3
#endif
#define NR_VECTORS 4
#define WIDE_ROWS 0
#define GATE_ROWS MR
#define VEC_REGISTERS 16
enum { VEC_WIDTH = 1 };
typedef real vec;
typedef int vec_mask;
#if FASTLSTM_DOUBLE
typedef uint64_t real_bits;
#else
typedef uint32_t real_bits;
#endif

static inline vec vec_load(const real *p) { return *p; }
static inline void vec_store(real *p, vec a) { *p = a; }
static inline vec vec_load_tail(const real *p, ptrdiff_t n) { return n > 0 ? *p : 0; }
static inline vec vec_load_tail_or(const real *p, ptrdiff_t n, vec rest)
{
    return n > 0 ? *p : rest;
}
static inline void vec_store_tail(real *p, ptrdiff_t n, vec a)
{
    if (n > 0)
        *p = a;
}
static inline vec vec_in_register(vec a) { return a; }
static inline vec vec_set1(real a) { return a; }
static inline vec vec_add(vec a, vec b) { return a + b; }
static inline vec vec_sub(vec a, vec b) { return a - b; }
static inline vec vec_mul(vec a, vec b) { return a * b; }
static inline vec vec_div(vec a, vec b) { return a / b; }
static inline vec vec_fma(vec a, vec b, vec c) { return a * b + c; }
static inline vec vec_fnma(vec a, vec b, vec c) { return c - a * b; }
static inline vec vec_max(vec a, vec b) { return a > b ? a : b; }
static inline vec vec_min(vec a, vec b) { return a < b ? a : b; }
static inline real vec_sum(vec a) { return a; }
static inline real vec_largest(vec a) { return a; }
/* Denormal results are zero, as everywhere; a compiler that divides constants does not know. */
static inline vec vec_reciprocal(vec a)
{
    return a > 1 / (FASTLSTM_DOUBLE ? (real)DBL_MIN : (real)FLT_MIN) ? 0 : 1 / a;
}
static inline vec_mask vec_less(vec a, vec b) { return a < b; }
static inline vec vec_select(vec_mask m, vec yes, vec no) { return m ? yes : no; }
static inline vec vec_abs(vec a) { return LIBM(fabs)(a); }
static inline vec vec_copysign(vec size, vec sign) { return LIBM(copysign)(size, sign); }
static inline vec vec_shift_bits_left(vec a, int count)
{
    real_bits bits;
    memcpy(&bits, &a, sizeof bits);
    bits <<= count;
    memcpy(&a, &bits, sizeof a);
    return a;
}
