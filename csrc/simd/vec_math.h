/* SPDX-License-Identifier: MIT
 * sigmoid and tanh of a vector, each from one exponential and one reciprocal.
 *
 * The includer has defined `real` and the vocabulary of a vec_*.h file. For e^-a, a = x or 2|x|:
 *   n = round(-a / ln 2)     s = a + n ln 2, |s| <= ln(2)/2     e^-a = 2^n e^-s
 *   sigmoid(x) = 1 / (1 + e^-x)
 *   tanh|x|    = m / (2 - m) with m = 1 - e^(-2|x|) = (1 - 2^n) + 2^n (1 - e^-s)
 * 1 - e^-s is computed as s times a polynomial, so tanh keeps all digits near zero.
 *
 * Constants: (e^-s - 1 + s) / s^2 is a near-minimax polynomial Q on |s| <= ln(2)/2, the Chebyshev
 * fit of mpmath.chebyfit(lambda r: (expm1(r) - r) / r**2, [-a, a], N) with a = 1.0001 ln(2)/2 and
 * N = 5 (float) or 10 (double), its odd coefficients negated; e^-s then errs by at most 1.2e-8 and
 * 1.8e-17, a fifth and a sixth of the rounding. ln 2 is split in two parts of which the upper has
 * 16 (float) or 40 (double) bits, so that n times it is exact (Cody & Waite 1980).
 *
 * Accuracy: at most 3 ULP in both types wherever the result is normal (tests/test_vec_math.py
 * sweeps all exponents). NaN gives NaN; sigmoid(-inf) = 0, where denormals are flushed,
 * sigmoid(inf) = 1, tanh(+-inf) = +-1; tanh keeps the sign of zero and never exceeds 1.
 */

#if FASTLSTM_DOUBLE
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define SIGMOID_LOWEST (-709.0)
#define SIGMOID_HIGHEST 708.0
#define TANH_HIGHEST 20.0
#define ROUNDER (0x1.8p52 + EXPONENT_BIAS)
#define LN2_HI 0x1.62e42fefa4p-1
#define LN2_LO (-0x1.8432a1b0e2634p-43)
#else
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define SIGMOID_LOWEST (-87.9f)
#define SIGMOID_HIGHEST 87.3f
#define TANH_HIGHEST 10.0f
#define ROUNDER (0x1.8p23f + EXPONENT_BIAS)
#define LN2_HI 0x1.62e4p-1f
#define LN2_LO 0x1.7f7d1cp-20f
#endif
#define LOG2_E ((real)1.4426950408889634)
#define VEC_UNROLL _Pragma("GCC unroll 16")

enum { MOST_AT_ONCE = 4 }; /* vectors of vec_exp_minus_of */

/* e^-a = scale * e^-s and tail = Q(s), for `count` vectors in step: each is a long chain of
 * dependent operations, and only several chains side by side keep the CPU busy. NaN comes out in s.
 */
static inline __attribute__((always_inline)) void vec_exp_parts(const int count, const vec *a,
                                                                vec *scale, vec *s, vec *tail)
{
    static const real coefficients[] = {
#if FASTLSTM_DOUBLE
        -0x1.af38a9b0ec855p-26, 0x1.289185613a3d6p-22,  -0x1.71de0dae63bb3p-19,
        0x1.a019b90d2ae7ap-16,  -0x1.a01a01a7c41d5p-13, 0x1.6c16c1788bd90p-10,
        -0x1.11111111109b3p-7,  0x1.5555555553d63p-5,   -0x1.5555555555556p-3,
        0x1.0000000000001p-1,
#else
        0.0013926183587713494f,
        -0.008363179052722578f,
        0.041666554617204574f,
        -0.16666576989698775f,
        0.5f,
#endif
    };
    enum { COUNT = sizeof coefficients / sizeof *coefficients };
    VEC_UNROLL for (int i = 0; i < count; i++)
    {
        /* Adding ROUNDER leaves n + EXPONENT_BIAS in the low bits of the mantissa. */
        const vec shifted = vec_fma(a[i], vec_set1(-LOG2_E), vec_set1(ROUNDER));
        const vec n = vec_sub(shifted, vec_set1(ROUNDER));
        scale[i] = vec_shift_bits_left(shifted, MANTISSA_BITS);
        s[i] = vec_fma(n, vec_set1(LN2_LO), vec_fma(n, vec_set1(LN2_HI), a[i]));
        tail[i] = vec_set1(coefficients[0]);
    }
    VEC_UNROLL for (int k = 1; k < COUNT; k++) VEC_UNROLL for (int i = 0; i < count; i++) tail[i] =
        vec_fma(tail[i], s[i], vec_set1(coefficients[k]));
}

/* What of x goes into the exponential, and the function from what comes out of it; twice what is
 * below the fraction is finite. */
static inline vec vec_sigmoid_begin(vec x)
{
    return vec_min(vec_set1(SIGMOID_HIGHEST), vec_max(vec_set1(SIGMOID_LOWEST), x));
}
/* 1 / sigmoid(x) */
static inline vec vec_sigmoid_below(vec scale, vec s, vec tail)
{
    const vec one = vec_set1(1);
    const vec e = vec_fma(s, vec_fma(s, tail, vec_set1(-1)), one);
    return vec_fma(scale, e, one);
}

static inline vec vec_tanh_begin(vec x)
{
    const vec size = vec_min(vec_set1(TANH_HIGHEST), vec_abs(x));
    return vec_add(size, size);
}
/* above / below, neither of them negative. */
typedef struct {
    vec above, below;
} vec_fraction;

/* |tanh(x)| */
static inline vec_fraction vec_tanh_size(vec scale, vec s, vec tail)
{
    const vec one = vec_set1(1);
    const vec lost = vec_mul(s, vec_fnma(s, tail, one));
    const vec m = vec_fma(scale, lost, vec_sub(one, scale));
    return (vec_fraction){m, vec_sub(vec_set1(2), m)};
}

static inline vec vec_sigmoid(vec x)
{
    const vec a = vec_sigmoid_begin(x);
    vec scale, s, tail;
    vec_exp_parts(1, &a, &scale, &s, &tail);
    return vec_reciprocal(vec_sigmoid_below(scale, s, tail));
}

static inline vec vec_tanh(vec x)
{
    const vec a = vec_tanh_begin(x);
    vec scale, s, tail;
    vec_exp_parts(1, &a, &scale, &s, &tail);
    const vec_fraction size = vec_tanh_size(scale, s, tail);
    return vec_copysign(vec_mul(size.above, vec_reciprocal(size.below)), x);
}

static inline vec vec_relu(vec x) { return vec_max(vec_set1(0), x); }

/* e^-a for `count` vectors a >= 0; what is below the normal numbers is zero. e may be a. */
static inline __attribute__((always_inline)) void vec_exp_minus_of(const int count, const vec *a,
                                                                   vec *e)
{
    const vec one = vec_set1(1), highest = vec_set1(SIGMOID_HIGHEST);
    vec held[MOST_AT_ONCE], scale[MOST_AT_ONCE], s[MOST_AT_ONCE], tail[MOST_AT_ONCE];
    VEC_UNROLL for (int i = 0; i < count; i++) held[i] = vec_min(highest, a[i]);
    vec_exp_parts(count, held, scale, s, tail);
    VEC_UNROLL for (int i = 0; i < count; i++)
    {
        const vec size = vec_fma(s[i], vec_fma(s[i], tail[i], vec_set1(-1)), one);
        e[i] = vec_select(vec_less(highest, a[i]), vec_set1(0), vec_mul(scale[i], size));
    }
}

static inline vec vec_exp_minus(vec a)
{
    vec e;
    vec_exp_minus_of(1, &a, &e);
    return e;
}
