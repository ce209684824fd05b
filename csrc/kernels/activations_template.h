/* SPDX-License-Identifier: MIT
 * The activations and their gradients, part of kernels_template.h. The macros make name_forward,
 * name_backward and, where the gradient is a function of the output, name_backward_from_output for
 *
 *     tanh sigmoid relu                                           of vectors, in vec_math.h
 *     elu exponential gelu hard_sigmoid leaky_relu linear selu
 *     silu softplus softsign                                      of libm, an element at a time
 */

/* Derivatives in terms of the output y, as tanh, sigmoid and relu allow. */
ALWAYS_INLINE vec tanh_slope(vec y) { return vec_sub(vec_set1(1), vec_mul(y, y)); }
ALWAYS_INLINE vec sigmoid_slope(vec y) { return vec_mul(y, vec_sub(vec_set1(1), y)); }
ALWAYS_INLINE vec relu_slope(vec y)
{
    return vec_select(vec_less(vec_set1(0), y), vec_set1(1), vec_set1(0));
}

ALWAYS_INLINE void apply(vec_function f, ptrdiff_t n, const real *x, real *y)
{
    ptrdiff_t p = 0;
    for (; p + VEC_WIDTH <= n; p += VEC_WIDTH)
        vec_store(y + p, f(vec_load(x + p)));
    if (p < n)
        vec_store_tail(y + p, n - p, f(vec_load_tail(x + p, n - p)));
}

ALWAYS_INLINE vec chain(vec_function f, vec_function slope, vec x, vec dy)
{
    return vec_mul(dy, slope(f(x)));
}
ALWAYS_INLINE void apply_chain(vec_function f, vec_function slope, ptrdiff_t n, const real *x,
                               const real *dy, real *dx)
{
    ptrdiff_t p = 0;
    for (; p + VEC_WIDTH <= n; p += VEC_WIDTH)
        vec_store(dx + p, chain(f, slope, vec_load(x + p), vec_load(dy + p)));
    if (p < n)
        vec_store_tail(dx + p, n - p,
                       chain(f, slope, vec_load_tail(x + p, n - p), vec_load_tail(dy + p, n - p)));
}

#define VECTOR_ACTIVATION(name)                                                                   \
    static void name##_forward(ptrdiff_t n, const real *x, real *y)                               \
    {                                                                                             \
        apply(vec_##name, n, x, y);                                                               \
    }                                                                                             \
    static void name##_backward(ptrdiff_t n, const real *x, const real *dy, real *dx)             \
    {                                                                                             \
        apply_chain(vec_##name, name##_slope, n, x, dy, dx);                                      \
    }                                                                                             \
    static void name##_backward_from_output(ptrdiff_t n, const real *y, const real *dy, real *dx) \
    {                                                                                             \
        apply_chain(vec_itself, name##_slope, n, y, dy, dx);                                      \
    }

ALWAYS_INLINE vec vec_itself(vec a) { return a; }

VECTOR_ACTIVATION(tanh)
VECTOR_ACTIVATION(sigmoid)
VECTOR_ACTIVATION(relu)

/* The others come from libm, an element at a time: f and its derivative at z. */
#define SCALAR_ACTIVATION(name, f, derivative)                                        \
    static void name##_forward(ptrdiff_t n, const real *x, real *y)                   \
    {                                                                                 \
        for (ptrdiff_t p = 0; p < n; p++) {                                           \
            const real z = x[p];                                                      \
            y[p] = (f);                                                               \
        }                                                                             \
    }                                                                                 \
    static void name##_backward(ptrdiff_t n, const real *x, const real *dy, real *dx) \
    {                                                                                 \
        for (ptrdiff_t p = 0; p < n; p++) {                                           \
            const real z = x[p];                                                      \
            (void)z;                                                                  \
            dx[p] = dy[p] * (derivative);                                             \
        }                                                                             \
    }

/* Klambauer et al. 2017, "Self-Normalizing Neural Networks", equation 14. */
#define SELU_ALPHA ((real)1.6732632423543772)
#define SELU_SCALE ((real)1.0507009873554805)
#define LEAKY_SLOPE ((real)0.2)
#define SQRT_HALF ((real)0.7071067811865476)
#define INVERSE_SQRT_2PI ((real)0.3989422804014327)

static inline real logistic(real z)
{
    const real e = LIBM(exp)(-LIBM(fabs)(z));
    return (z < 0 ? e : 1) / (1 + e);
}
static inline real normal_cdf(real z) { return (real)0.5 * LIBM(erfc)(-z * SQRT_HALF); }
static inline real normal_pdf(real z) { return INVERSE_SQRT_2PI * LIBM(exp)((real)-0.5 * z * z); }
static inline real clip_0_6(real z) { return z < 0 ? 0 : z > 6 ? 6 : z; }

SCALAR_ACTIVATION(elu, z > 0 ? z : LIBM(expm1)(z), z > 0 ? 1 : LIBM(exp)(z))
SCALAR_ACTIVATION(exponential, LIBM(exp)(z), LIBM(exp)(z))
SCALAR_ACTIVATION(gelu, z *normal_cdf(z), normal_cdf(z) + z * normal_pdf(z))
SCALAR_ACTIVATION(hard_sigmoid, clip_0_6(z + 3) / 6, (z > -3 && z < 3) ? (real)1 / 6 : 0)
SCALAR_ACTIVATION(leaky_relu, z > 0 ? z : LEAKY_SLOPE * z, z > 0 ? 1 : LEAKY_SLOPE)
SCALAR_ACTIVATION(linear, z, 1)
SCALAR_ACTIVATION(selu, SELU_SCALE *(z > 0 ? z : SELU_ALPHA * LIBM(expm1)(z)),
                  SELU_SCALE *(z > 0 ? 1 : SELU_ALPHA * LIBM(exp)(z)))
SCALAR_ACTIVATION(silu, z *logistic(z), logistic(z) * (1 + z * logistic(-z)))
SCALAR_ACTIVATION(softplus, (z > 0 ? z : 0) + LIBM(log1p)(LIBM(exp)(-LIBM(fabs)(z))), logistic(z))
SCALAR_ACTIVATION(softsign, z / (1 + LIBM(fabs)(z)),
                  1 / ((1 + LIBM(fabs)(z)) * (1 + LIBM(fabs)(z))))
