/* SPDX-License-Identifier: MIT
 * Losses that are means over elements, part of losses_template.h: blocks of elements in plain
 * words, which the compiler turns into vectors.
 *
 * A function of a row returns its loss, in double, and writes what `gradient`, unless it is NULL,
 * holds of it: `scale` times the derivative of the loss by each prediction.
 */

/* What a pass computes with, in its own precision. Targets t stand for keep t + shift. */
typedef struct {
    real keep, shift, parameter;
} loss_numbers;

typedef double (*loss_of_row)(ptrdiff_t n, const void *targets, const real *p,
                              const loss_numbers *numbers, double scale, real *gradient);

#define LOSS_OF_ROW(name)                                                        \
    static double name(ptrdiff_t n, const void *targets, const real *restrict p, \
                       const loss_numbers *numbers, double scale, real *restrict gradient)

/* So far from 0 and 1 is a probability kept for its logarithm; fastlstm.losses.EPSILON. */
#define LOWEST_PROBABILITY ((real)1e-7)
#define HIGHEST_PROBABILITY ((real)(1 - 1e-7))

ALWAYS_INLINE real kept_inside(real p)
{
    const real above = p < LOWEST_PROBABILITY ? LOWEST_PROBABILITY : p;
    return above > HIGHEST_PROBABILITY ? HIGHEST_PROBABILITY : above;
}
ALWAYS_INLINE int is_inside(real p)
{
    return (LOWEST_PROBABILITY <= p) & (p <= HIGHEST_PROBABILITY);
}

/* The logarithm of a normal number, to about 2 ULP, in words that the compiler makes vectors of.
 *
 *     x = 2^k m, sqrt(1/2) <= m < sqrt(2)     log x = k log 2 + 2 artanh(s), s = (m - 1) / (m + 1)
 *
 * with |s| < 0.172, so that this many terms of the series leave less than a tenth of a rounding. */
#if FASTLSTM_DOUBLE
typedef int64_t bits_of_real;
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcd
#else
typedef int32_t bits_of_real;
#define SQRT_HALF_BITS 0x3f3504f3
#endif

ALWAYS_INLINE real log_of(real x)
{
    enum { TERMS = sizeof(real) == 8 ? 10 : 4 };
    bits_of_real bits;
    memcpy(&bits, &x, sizeof bits);
    const bits_of_real k = (bits - SQRT_HALF_BITS) >> MANTISSA_BITS;
    const bits_of_real of_m = bits - k * ((bits_of_real)1 << MANTISSA_BITS);
    real m;
    memcpy(&m, &of_m, sizeof m);
    const real s = (m - 1) / (m + 1), square = s * s, exponent = (real)(int)k;
    real series = 0;
    VEC_UNROLL for (int term = TERMS; term > 0; term--) series =
        (series + (real)2 / (2 * term + 1)) * square;
    /* x - x is 0, but NaN for NaN. */
    return exponent * LN2_HI + (s * series + (exponent * LN2_LO + 2 * s)) + (x - x);
}

/* log(1 + x) for x > -1: what the sum 1 + x has lost, the quotient brings back. */
ALWAYS_INLINE real log1p_of(real x)
{
    const real sum = 1 + x;
    return log_of(sum) + (x - (sum - 1)) / sum;
}

/* ---- sums over elements --------------------------------------------------------------------- */

/* Of one element: its loss, and the derivative. `ready` is what a vector function has made of what
 * its argument was. */
typedef struct {
    double loss;
    real slope;
} element;

typedef element (*element_loss)(real t, real p, real ready, const loss_numbers *numbers);
typedef real (*element_argument)(real t, real p);

ALWAYS_INLINE real error_of(real t, real p) { return p - t; }
ALWAYS_INLINE real prediction_of(real t, real p)
{
    (void)t;
    return p;
}
ALWAYS_INLINE vec vec_kept_inside(vec p)
{
    return vec_min(vec_set1(HIGHEST_PROBABILITY), vec_max(vec_set1(LOWEST_PROBABILITY), p));
}
ALWAYS_INLINE real size_of_logit(real t, real z)
{
    (void)t;
    return LIBM(fabs)(z);
}

ALWAYS_INLINE element squared(real t, real p, real ready, const loss_numbers *numbers)
{
    (void)ready, (void)numbers;
    const real d = p - t;
    return (element){(double)d * d, 2 * d};
}

ALWAYS_INLINE element absolute(real t, real p, real ready, const loss_numbers *numbers)
{
    (void)ready, (void)numbers;
    const real d = p - t;
    return (element){LIBM(fabs)(d), d > 0 ? 1 : d < 0 ? -1 : d};
}

ALWAYS_INLINE element huber(real t, real p, real ready, const loss_numbers *numbers)
{
    (void)ready, (void)numbers;
    const real d = p - t, size = LIBM(fabs)(d), delta = numbers->parameter;
    const real within = (real)0.5 * size * size, beyond = delta * (size - (real)0.5 * delta);
    return (element){size <= delta ? within : beyond, d < -delta ? -delta : d > delta ? delta : d};
}

/* log cosh d = |d| - log(1 + tanh |d|), which cannot overflow. */
ALWAYS_INLINE element log_cosh(real t, real p, real ready, const loss_numbers *numbers)
{
    (void)numbers;
    return (element){LIBM(fabs)(p - t) - log_of(1 + LIBM(fabs)(ready)), ready};
}

/* -t log p - (1 - t) log(1 - p) */
ALWAYS_INLINE double binary_crossentropy(real t, real p)
{
    return -(t * log_of(p) + (1 - t) * log1p_of(-p));
}

/* `ready` is p, kept inside. */
ALWAYS_INLINE element binary(real t, real p, real ready, const loss_numbers *numbers)
{
    const real target = numbers->keep * t + numbers->shift;
    const real slope = (ready - target) / (ready * (1 - ready));
    return (element){binary_crossentropy(target, ready), slope * (real)is_inside(p)};
}

ALWAYS_INLINE element binary_fused(real t, real p, real ready, const loss_numbers *numbers)
{
    const real target = numbers->keep * t + numbers->shift;
    return (element){binary_crossentropy(target, ready), p - target};
}

/* For p = sigmoid(z), the loss is max(z, 0) - z t + log(1 + e^-|z|), which cannot overflow. */
ALWAYS_INLINE element binary_logits(real t, real z, real ready, const loss_numbers *numbers)
{
    const real target = numbers->keep * t + numbers->shift;
    const real loss = (z > 0 ? z : 0) - z * target + log1p_of(ready);
    return (element){loss, (z >= 0 ? 1 : ready) / (1 + ready) - target};
}

ALWAYS_INLINE element binary_accuracy(real t, real p, real ready, const loss_numbers *numbers)
{
    (void)ready, (void)numbers;
    return (element){t == (p > numbers->parameter), 0};
}

enum { LANES = 32 };

/* Add the losses of some elements, at most one for each lane. */
ALWAYS_INLINE void add_block(const int has_gradient, const ptrdiff_t count, element_loss function,
                             element_argument argument, vec_function make_ready,
                             const real *restrict t, const real *restrict p, loss_numbers numbers,
                             real factor, real *restrict gradient, double *restrict sums)
{
    real ready[LANES] = {0};
    if (argument) {
        for (ptrdiff_t lane = 0; lane < count; lane++)
            ready[lane] = argument(t[lane], p[lane]);
        for (ptrdiff_t lane = 0; lane < count; lane += VEC_WIDTH)
            vec_store(ready + lane, make_ready(vec_load(ready + lane)));
    }
    for (ptrdiff_t lane = 0; lane < count; lane++) {
        const element found = function(t[lane], p[lane], ready[lane], &numbers);
        if (has_gradient)
            gradient[lane] = found.slope * factor;
        sums[lane] += found.loss;
    }
}

ALWAYS_INLINE double add_elements(const int has_gradient, element_loss function,
                                  element_argument argument, vec_function make_ready, ptrdiff_t n,
                                  const real *restrict t, const real *restrict p,
                                  loss_numbers numbers, real factor, real *restrict gradient)
{
    double total = 0;
    ptrdiff_t i = 0;
    if (n >= LANES) {
        double sums[LANES] = {0};
        for (; i + LANES <= n; i += LANES)
            add_block(has_gradient, LANES, function, argument, make_ready, t + i, p + i, numbers,
                      factor, has_gradient ? gradient + i : NULL, sums);
        for (int lane = 0; lane < LANES; lane++)
            total += sums[lane];
    }
    if (i < n) {
        double sums[LANES] = {0};
        add_block(has_gradient, n - i, function, argument, make_ready, t + i, p + i, numbers,
                  factor, has_gradient ? gradient + i : NULL, sums);
        for (ptrdiff_t lane = 0; lane < n - i; lane++)
            total += sums[lane];
    }
    return total;
}

/* The sum over a row; whoever wants the mean has divided `scale` already. */
#define SUM_OF_READY_ELEMENTS(name, argument, make_ready)                                       \
    LOSS_OF_ROW(name##_sum)                                                                     \
    {                                                                                           \
        const real factor = (real)scale;                                                        \
        if (gradient == NULL)                                                                   \
            return add_elements(0, name, argument, make_ready, n, targets, p, *numbers, factor, \
                                gradient);                                                      \
        return add_elements(1, name, argument, make_ready, n, targets, p, *numbers, factor,     \
                            gradient);                                                          \
    }
#define SUM_OF_ELEMENTS(name) SUM_OF_READY_ELEMENTS(name, NULL, NULL)

SUM_OF_ELEMENTS(squared)
SUM_OF_ELEMENTS(absolute)
SUM_OF_ELEMENTS(huber)
SUM_OF_READY_ELEMENTS(log_cosh, error_of, vec_tanh)
SUM_OF_READY_ELEMENTS(binary, prediction_of, vec_kept_inside)
SUM_OF_READY_ELEMENTS(binary_fused, prediction_of, vec_kept_inside)
SUM_OF_READY_ELEMENTS(binary_logits, size_of_logit, vec_exp_minus)
SUM_OF_ELEMENTS(binary_accuracy)
