/* SPDX-License-Identifier: MIT
 * Losses and their gradients in one pass over memory, part of kernels_template.h: plain loops,
 * which the compiler turns into vectors where there is no logarithm in them.
 */

/* The sum of d^2, in one order on every instruction set, and factor d, for d = y_pred - y_true. */
static double squared_error(ptrdiff_t n, const real *restrict y_true, const real *restrict y_pred,
                            real factor, real *restrict gradient)
{
    enum { LANES = 32 };
    double sums[LANES] = {0}, total = 0;
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            const real d = y_pred[i + lane] - y_true[i + lane];
            gradient[i + lane] = d * factor;
            sums[lane] += (double)d * d;
        }
    for (; i < n; i++) {
        const real d = y_pred[i] - y_true[i];
        gradient[i] = d * factor;
        total += (double)d * d;
    }
    for (int lane = 0; lane < LANES; lane++)
        total += sums[lane];
    return total;
}

/* So far from 0 and 1 is a probability kept for its logarithm; fastlstm.losses.EPSILON. */
ALWAYS_INLINE real kept_inside(real p)
{
    const real low = (real)1e-7, high = (real)(1 - 1e-7);
    return p < low ? low : p > high ? high : p;
}

/* The loss comes first, with a logarithm for each target that is not 0, one a row where targets are
 * one-hot; the gradient then finds the row in cache. */
static real softmax_crossentropy(ptrdiff_t n, const real *restrict t, const real *restrict p,
                                 real factor, real *restrict dz)
{
    double loss = 0, sum = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        if (t[i] != 0) {
            loss -= t[i] * LIBM(log)(kept_inside(p[i]));
            sum += t[i];
        }
    const real total = (real)sum;
    for (ptrdiff_t i = 0; i < n; i++)
        dz[i] = factor * (total * p[i] - t[i]);
    return (real)loss;
}

static real label_crossentropy(ptrdiff_t n, ptrdiff_t label, const real *restrict p, real factor,
                               real *restrict dz)
{
    for (ptrdiff_t i = 0; i < n; i++)
        dz[i] = factor * p[i];
    dz[label] = factor * (p[label] - 1);
    return -LIBM(log)(kept_inside(p[label]));
}

static real sigmoid_crossentropy(ptrdiff_t n, const real *restrict t, const real *restrict p,
                                 real factor, real *restrict dz)
{
    double loss = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        if (t[i] != 0)
            loss -= t[i] * LIBM(log)(kept_inside(p[i]));
        if (t[i] != 1)
            loss -= (1 - t[i]) * LIBM(log1p)(-kept_inside(p[i]));
    }
    const real share = factor / (real)n;
    for (ptrdiff_t i = 0; i < n; i++)
        dz[i] = share * (p[i] - t[i]);
    return (real)(loss / (double)n);
}
