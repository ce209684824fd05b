/* SPDX-License-Identifier: MIT
 * sigmoid and tanh of a vector, from one exponential.
 *
 * The includer has defined `real` and the vocabulary of a vec_*.h file. With t <= 0,
 *   n = round(t / ln 2)    r = t - n ln 2, |r| <= ln(2)/2    e^t = 2^n + 2^n (e^r - 1)
 *   sigmoid(x) = 1 / (1 + e^-|x|) for x >= 0, else e^-|x| / (1 + e^-|x|)
 *   tanh(|x|)  = -m / (2 + m) with m = e^(-2|x|) - 1
 * Working with e^r - 1 keeps all digits of m near zero, so tanh needs no second formula there.
 *
 * Constants: Taylor coefficients 1/k! up to r^7 (float) and r^13 (double); for |r| <= ln(2)/2 the
 * first omitted term is below 1.5e-8 and 1.2e-17 of r, a quarter and a ninth of the rounding. ln 2
 * is split in two parts of which the upper has 16 (float) or 40 (double) bits, so that n times it
 * is exact (Cody & Waite 1980).
 *
 * Accuracy: at most 3 ULP in both types wherever the result is normal (tests/test_vec_math.py
 * sweeps all float exponents). NaN gives NaN; sigmoid(-inf) = 0, sigmoid(inf) = 1,
 * tanh(+-inf) = +-1; tanh keeps the sign of zero. Below LOWEST e^t counts as zero.
 */

#if FASTLSTM_DOUBLE
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define LOWEST (-708.0)
#define ROUNDER (0x1.8p52 + EXPONENT_BIAS)
#define LN2_HI 0x1.62e42fefa4p-1
#define LN2_LO (-0x1.8432a1b0e2634p-43)
#else
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define LOWEST (-87.0f)
#define ROUNDER (0x1.8p23f + EXPONENT_BIAS)
#define LN2_HI 0x1.62e4p-1f
#define LN2_LO 0x1.7f7d1cp-20f
#endif
#define LOG2_E ((real)1.4426950408889634)

/* (e^r - 1) for |r| <= ln(2)/2: r + r^2 (1/2! + r/3! + ...). */
static inline vec vec_expm1_reduced(vec r)
{
    static const real inverse_factorials[] = {
#if FASTLSTM_DOUBLE
        1.0 / 6227020800.0,   1.0 / 479001600.0,   1.0 / 39916800.0,
        1.0 / 3628800.0,      1.0 / 362880.0,      1.0 / 40320.0,
#endif
        (real)(1.0 / 5040.0), (real)(1.0 / 720.0), (real)(1.0 / 120.0),
        (real)(1.0 / 24.0),   (real)(1.0 / 6.0),   (real)0.5,
    };
    enum { COUNT = sizeof inverse_factorials / sizeof *inverse_factorials };
    vec sum = vec_set1(inverse_factorials[0]);
#pragma GCC unroll 16
    for (int k = 1; k < COUNT; k++)
        sum = vec_fma(sum, r, vec_set1(inverse_factorials[k]));
    return vec_fma(vec_mul(r, r), sum, r);
}

/* e^t = scale * (1 + expm1) for LOWEST <= t <= 0; NaN comes out in expm1. */
static inline vec vec_exp_parts(vec t, vec *scale)
{
    /* Adding ROUNDER leaves n + EXPONENT_BIAS in the low bits of the mantissa. */
    const vec shifted = vec_fma(t, vec_set1(LOG2_E), vec_set1(ROUNDER));
    const vec n = vec_sub(shifted, vec_set1(ROUNDER));
    const vec r = vec_fma(n, vec_set1(-LN2_LO), vec_fma(n, vec_set1(-LN2_HI), t));
    *scale = vec_shift_bits_left(shifted, MANTISSA_BITS);
    return vec_expm1_reduced(r);
}

static inline vec vec_sigmoid(vec x)
{
    const vec zero = vec_set1(0), one = vec_set1(1), lowest = vec_set1(LOWEST);
    const vec t = vec_sub(zero, vec_abs(x));
    vec scale;
    const vec expm1 = vec_exp_parts(vec_max(lowest, t), &scale);
    const vec e = vec_select(vec_less(t, lowest), zero, vec_mul(scale, vec_add(one, expm1)));
    return vec_div(vec_select(vec_less(x, zero), e, one), vec_add(one, e));
}

static inline vec vec_tanh(vec x)
{
    const vec one = vec_set1(1), two = vec_set1(2);
    const vec t = vec_mul(vec_set1(-2), vec_abs(x));
    vec scale;
    const vec expm1 = vec_exp_parts(vec_max(vec_set1(LOWEST), t), &scale);
    const vec m = vec_fma(scale, expm1, vec_sub(scale, one));
    return vec_copysign(vec_div(m, vec_add(two, m)), x);
}

static inline vec vec_relu(vec x) { return vec_max(vec_set1(0), x); }
