/* SPDX-License-Identifier: MIT
 * One step of an optimizer over n parameters, part of kernels_template.h: plain loops, which the
 * compiler turns into vectors.
 *
 * p parameters IN/OUT, g their gradients IN, the slots of fastlstm/_core/optimizers.pyx IN/OUT,
 * NULL where a variant has none; no two overlap. The formulas are Keras 3's, which differ from the
 * papers in where epsilon stands. A NaN or infinite gradient goes through to the parameters.
 */

/* p -= lr g;  with momentum: v = mu v - lr g, p += v;  nesterov: p += mu v - lr g */
static void update_sgd(ptrdiff_t n, real *restrict p, const real *restrict g, real *restrict v,
                       real lr, real mu, int nesterov)
{
    for (ptrdiff_t i = 0; !v && i < n; i++)
        p[i] -= lr * g[i];
    for (ptrdiff_t i = 0; v && i < n; i++)
        v[i] = mu * v[i] - lr * g[i];
    for (ptrdiff_t i = 0; v && i < n; i++)
        p[i] += nesterov ? mu * v[i] - lr * g[i] : v[i];
}

/* s = rho s + (1 - rho) g^2, d = s + eps;  centered: a = rho a + (1 - rho) g, d -= a^2;
 * p -= lr g / sqrt(d), or with momentum v = mu v + lr g / sqrt(d), p -= v */
ALWAYS_INLINE void update_rmsprop_variant(const int moves, const int centers, ptrdiff_t n,
                                          real *restrict p, const real *restrict g,
                                          real *restrict s, real *restrict v, real *restrict a,
                                          const TYPED(rmsprop_numbers) * numbers)
{
    const real lr = numbers->learning_rate, mu = numbers->momentum, eps = numbers->epsilon;
    const real rho = numbers->decay, rest = numbers->rest;
    for (ptrdiff_t i = 0; i < n; i++) {
        s[i] = rho * s[i] + rest * (g[i] * g[i]);
        real d = s[i] + eps;
        if (centers) {
            a[i] = rho * a[i] + rest * g[i];
            d = s[i] - a[i] * a[i] + eps;
        }
        real step = lr * g[i] / LIBM(sqrt)(d);
        if (moves)
            step = v[i] = mu * v[i] + step;
        p[i] -= step;
    }
}
static void update_rmsprop(ptrdiff_t n, real *p, const real *g, real *s, real *v, real *a,
                           const TYPED(rmsprop_numbers) * numbers)
{
    if (v && a)
        update_rmsprop_variant(1, 1, n, p, g, s, v, a, numbers);
    else if (v)
        update_rmsprop_variant(1, 0, n, p, g, s, v, 0, numbers);
    else if (a)
        update_rmsprop_variant(0, 1, n, p, g, s, 0, a, numbers);
    else
        update_rmsprop_variant(0, 0, n, p, g, s, 0, 0, numbers);
}

/* m += (g - m)(1 - b1), v += (g^2 - v)(1 - b2), p -= alpha m / (sqrt(v) + eps); with amsgrad the
 * largest v so far takes the place of v in the last formula */
static void update_adam(ptrdiff_t n, real *restrict p, const real *restrict g, real *restrict m,
                        real *restrict v, real *restrict largest,
                        const TYPED(adam_numbers) * numbers)
{
    const real alpha = numbers->step_size, eps = numbers->epsilon;
    const real rest_1 = numbers->rest_1, rest_2 = numbers->rest_2;
    for (ptrdiff_t i = 0; !largest && i < n; i++) {
        m[i] += (g[i] - m[i]) * rest_1;
        v[i] += (g[i] * g[i] - v[i]) * rest_2;
        p[i] -= m[i] * alpha / (LIBM(sqrt)(v[i]) + eps);
    }
    for (ptrdiff_t i = 0; largest && i < n; i++) {
        m[i] += (g[i] - m[i]) * rest_1;
        v[i] += (g[i] * g[i] - v[i]) * rest_2;
        largest[i] = largest[i] >= v[i] ? largest[i] : v[i];
        p[i] -= m[i] * alpha / (LIBM(sqrt)(largest[i]) + eps);
    }
}

/* m and v as in adam; p -= lr (a m + b g) / (sqrt(c v) + eps) */
static void update_nadam(ptrdiff_t n, real *restrict p, const real *restrict g, real *restrict m,
                         real *restrict v, const TYPED(adam_numbers) * numbers)
{
    const real lr = numbers->step_size, eps = numbers->epsilon;
    const real rest_1 = numbers->rest_1, rest_2 = numbers->rest_2;
    const real a = numbers->mean_factor, b = numbers->gradient_factor;
    const real c = numbers->square_factor;
    for (ptrdiff_t i = 0; i < n; i++) {
        m[i] += (g[i] - m[i]) * rest_1;
        v[i] += (g[i] * g[i] - v[i]) * rest_2;
        p[i] -= lr * (a * m[i] + b * g[i]) / (LIBM(sqrt)(c * v[i]) + eps);
    }
}

/* s += g^2, p -= lr g / sqrt(s + eps) */
static void update_adagrad(ptrdiff_t n, real *restrict p, const real *restrict g, real *restrict s,
                           real lr, real eps)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        s[i] += g[i] * g[i];
        p[i] -= lr * g[i] / LIBM(sqrt)(s[i] + eps);
    }
}
