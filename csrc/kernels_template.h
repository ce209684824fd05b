/* SPDX-License-Identifier: MIT
 * The kernels of one instruction set and one real type: activations, gates, softmax.
 *
 * The includer defines ISA and includes a vec_*.h file. Vector bodies and tails share
 * one formula, so a value does not depend on its place in the array.
 */
#include "kernels.h"
#include "vec_math.h"

#include <math.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

typedef vec (*vec_function)(vec);

/* A strip is VEC_WIDTH elements, or the fewer that are left at the end of a row. Constant `n`
 * makes the choice when the caller is compiled. */
ALWAYS_INLINE vec load(const real *p, ptrdiff_t n)
{
    return n == VEC_WIDTH ? vec_load(p) : vec_load_tail(p, n);
}
ALWAYS_INLINE void store(real *p, ptrdiff_t n, vec a)
{
    if (n == VEC_WIDTH)
        vec_store(p, a);
    else
        vec_store_tail(p, n, a);
}

#include "products_template.h"

/* ---- activations ---------------------------------------------------------------------------- */

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

#define VECTOR_ACTIVATION(name)                                                       \
    static void name##_forward(ptrdiff_t n, const real *x, real *y)                   \
    {                                                                                 \
        apply(vec_##name, n, x, y);                                                   \
    }                                                                                 \
    static void name##_backward(ptrdiff_t n, const real *x, const real *dy, real *dx) \
    {                                                                                 \
        apply_chain(vec_##name, name##_slope, n, x, dy, dx);                          \
    }

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

/* ---- gates ---------------------------------------------------------------------------------- */

/* One row of one LSTM step (Hochreiter & Schmidhuber 1997, Gers et al. 2000):
 *   i = sigmoid(zi)  f = sigmoid(zf)  g = act(zg)  o = sigmoid(zo)
 *   c = f * c + i * g     h = o * act(c)
 * and backwards, with dh and dc the gradients after the step:
 *   dc += dh * o * act'(c)
 *   dzi = dc * g * i'     dzf = dc * c_prev * f'     dzg = dc * i * g'     dzo = dh * act(c) * o'
 *   dc *= f
 * `gates` keeps the activated i, f, g, o. */
ALWAYS_INLINE void gates_forward_strip(vec_function act, ptrdiff_t n, ptrdiff_t units, real *gates,
                                       real *c, real *h)
{
    const vec i = vec_sigmoid(load(gates, n));
    const vec f = vec_sigmoid(load(gates + units, n));
    const vec g = act(load(gates + 2 * units, n));
    const vec o = vec_sigmoid(load(gates + 3 * units, n));
    const vec c_new = vec_fma(f, load(c, n), vec_mul(i, g));
    store(gates, n, i);
    store(gates + units, n, f);
    store(gates + 2 * units, n, g);
    store(gates + 3 * units, n, o);
    store(c, n, c_new);
    store(h, n, vec_mul(o, act(c_new)));
}

ALWAYS_INLINE void gates_backward_strip(vec_function act, vec_function slope, ptrdiff_t n,
                                        ptrdiff_t units, const real *gates, const real *c_prev,
                                        const real *c, const real *dh, real *dc, real *dz)
{
    const vec i = load(gates, n), f = load(gates + units, n);
    const vec g = load(gates + 2 * units, n), o = load(gates + 3 * units, n);
    const vec act_c = act(load(c, n)), dh_step = load(dh, n);
    const vec dc_step = vec_fma(vec_mul(dh_step, o), slope(act_c), load(dc, n));
    store(dz, n, vec_mul(vec_mul(dc_step, g), sigmoid_slope(i)));
    store(dz + units, n, vec_mul(vec_mul(dc_step, load(c_prev, n)), sigmoid_slope(f)));
    store(dz + 2 * units, n, vec_mul(vec_mul(dc_step, i), slope(g)));
    store(dz + 3 * units, n, vec_mul(vec_mul(dh_step, act_c), sigmoid_slope(o)));
    store(dc, n, vec_mul(dc_step, f));
}

#define FUSED_GATES(act)                                                                           \
    static void gates_##act##_forward(const TYPED(gates) * self, gate_range range,                 \
                                      real *const *gates, real *const *c, real *const *h,          \
                                      real *scratch)                                               \
    {                                                                                              \
        (void)self, (void)scratch;                                                                 \
        const ptrdiff_t end = range.first + range.count;                                           \
        for (ptrdiff_t r = 0; r < range.rows; r++) {                                               \
            ptrdiff_t p = range.first;                                                             \
            for (; p + VEC_WIDTH <= end; p += VEC_WIDTH)                                           \
                gates_forward_strip(vec_##act, VEC_WIDTH, range.units, gates[r] + p, c[r] + p,     \
                                    h[r] + p);                                                     \
            if (p < end)                                                                           \
                gates_forward_strip(vec_##act, end - p, range.units, gates[r] + p, c[r] + p,       \
                                    h[r] + p);                                                     \
        }                                                                                          \
    }                                                                                              \
    static void gates_##act##_backward(const TYPED(gates) * self, gate_range range,                \
                                       const real *const *gates, const real *const *c_prev,        \
                                       const real *const *c, const real *const *dh,                \
                                       real *const *dc, real *const *dz, real *scratch)            \
    {                                                                                              \
        (void)self, (void)scratch;                                                                 \
        const ptrdiff_t end = range.first + range.count;                                           \
        for (ptrdiff_t r = 0; r < range.rows; r++) {                                               \
            ptrdiff_t p = range.first;                                                             \
            for (; p + VEC_WIDTH <= end; p += VEC_WIDTH)                                           \
                gates_backward_strip(vec_##act, act##_slope, VEC_WIDTH, range.units, gates[r] + p, \
                                     c_prev[r] + p, c[r] + p, dh[r] + p, dc[r] + p, dz[r] + p);    \
            if (p < end)                                                                           \
                gates_backward_strip(vec_##act, act##_slope, end - p, range.units, gates[r] + p,   \
                                     c_prev[r] + p, c[r] + p, dh[r] + p, dc[r] + p, dz[r] + p);    \
        }                                                                                          \
    }

FUSED_GATES(tanh)
FUSED_GATES(relu)

/* The same for any pair of activations. `gates` keeps the pre-activations, since not every
 * derivative is a function of the output. */
typedef struct {
    real *i, *f, *g, *o;
} gate_values;

static gate_values activate_gates(const TYPED(gates) * self, gate_range range, const real *gates,
                                  real *scratch)
{
    const ptrdiff_t n = range.count, units = range.units;
    const gate_values y = {scratch, scratch + n, scratch + 2 * n, scratch + 3 * n};
    gates += range.first;
    self->recurrent_activation.forward(n, gates, y.i);
    self->recurrent_activation.forward(n, gates + units, y.f);
    self->activation.forward(n, gates + 2 * units, y.g);
    self->recurrent_activation.forward(n, gates + 3 * units, y.o);
    return y;
}

static void gates_general_forward(const TYPED(gates) * self, gate_range range, real *const *gates,
                                  real *const *c, real *const *h, real *scratch)
{
    for (ptrdiff_t r = 0; r < range.rows; r++) {
        const gate_values y = activate_gates(self, range, gates[r], scratch);
        real *const c_row = c[r] + range.first, *const h_row = h[r] + range.first;
        for (ptrdiff_t p = 0; p < range.count; p++)
            c_row[p] = y.f[p] * c_row[p] + y.i[p] * y.g[p];
        self->activation.forward(range.count, c_row, h_row);
        for (ptrdiff_t p = 0; p < range.count; p++)
            h_row[p] *= y.o[p];
    }
}

static void gates_general_backward(const TYPED(gates) * self, gate_range range,
                                   const real *const *gates, const real *const *c_prev,
                                   const real *const *c, const real *const *dh, real *const *dc,
                                   real *const *dz, real *scratch)
{
    const ptrdiff_t n = range.count, units = range.units;
    real *const act_c = scratch + 4 * n, *const dact_c = act_c + n;
    for (ptrdiff_t r = 0; r < range.rows; r++) {
        const gate_values y = activate_gates(self, range, gates[r], scratch);
        const real *const z = gates[r] + range.first, *const dh_row = dh[r] + range.first;
        const real *const c_prev_row = c_prev[r] + range.first;
        real *const dc_row = dc[r] + range.first, *const dzi = dz[r] + range.first;
        real *const dzf = dzi + units, *const dzg = dzf + units, *const dzo = dzg + units;
        self->activation.forward(n, c[r] + range.first, act_c);
        for (ptrdiff_t p = 0; p < n; p++)
            dact_c[p] = dh_row[p] * y.o[p];
        self->activation.backward(n, c[r] + range.first, dact_c, dact_c);
        for (ptrdiff_t p = 0; p < n; p++) {
            const real dc_step = dc_row[p] + dact_c[p];
            dzi[p] = dc_step * y.g[p];
            dzf[p] = dc_step * c_prev_row[p];
            dzg[p] = dc_step * y.i[p];
            dzo[p] = dh_row[p] * act_c[p];
            dc_row[p] = dc_step * y.f[p];
        }
        self->recurrent_activation.backward(n, z, dzi, dzi);
        self->recurrent_activation.backward(n, z + units, dzf, dzf);
        self->activation.backward(n, z + 2 * units, dzg, dzg);
        self->recurrent_activation.backward(n, z + 3 * units, dzo, dzo);
    }
}

/* ---- softmax -------------------------------------------------------------------------------- */

/* One row: y = e^(x - max x) / sum. The largest term is 1, so the sum is at least 1. */
static void softmax_forward(ptrdiff_t n, const real *x, real *y)
{
    real largest = x[0];
    for (ptrdiff_t p = 1; p < n; p++)
        largest = x[p] > largest ? x[p] : largest;
    real sum = 0;
    for (ptrdiff_t p = 0; p < n; p++) {
        y[p] = LIBM(exp)(x[p] - largest);
        sum += y[p];
    }
    for (ptrdiff_t p = 0; p < n; p++)
        y[p] /= sum;
}

/* One row: dx = y * (dy - sum(y * dy)); scratch (n). */
static void softmax_backward(ptrdiff_t n, const real *x, const real *dy, real *dx, real *scratch)
{
    softmax_forward(n, x, scratch);
    real dot = 0;
    for (ptrdiff_t p = 0; p < n; p++)
        dot += scratch[p] * dy[p];
    for (ptrdiff_t p = 0; p < n; p++)
        dx[p] = scratch[p] * (dy[p] - dot);
}

/* ---- the table ------------------------------------------------------------------------------ */

#define ACTIVATION(name) {name##_forward, name##_backward}

const TYPED(kernels) NAMED(kernels) = {
    .activations =
        {
            [ACTIVATION_ELU] = ACTIVATION(elu),
            [ACTIVATION_EXPONENTIAL] = ACTIVATION(exponential),
            [ACTIVATION_GELU] = ACTIVATION(gelu),
            [ACTIVATION_HARD_SIGMOID] = ACTIVATION(hard_sigmoid),
            [ACTIVATION_LEAKY_RELU] = ACTIVATION(leaky_relu),
            [ACTIVATION_LINEAR] = ACTIVATION(linear),
            [ACTIVATION_RELU] = ACTIVATION(relu),
            [ACTIVATION_SELU] = ACTIVATION(selu),
            [ACTIVATION_SIGMOID] = ACTIVATION(sigmoid),
            [ACTIVATION_SILU] = ACTIVATION(silu),
            [ACTIVATION_SOFTPLUS] = ACTIVATION(softplus),
            [ACTIVATION_SOFTSIGN] = ACTIVATION(softsign),
            [ACTIVATION_TANH] = ACTIVATION(tanh),
        },
    .gates_tanh = {.name = "tanh", .forward = gates_tanh_forward, .backward = gates_tanh_backward},
    .gates_relu = {.name = "relu", .forward = gates_relu_forward, .backward = gates_relu_backward},
    .gates_general = {.name = "general",
                      .forward = gates_general_forward,
                      .backward = gates_general_backward},
    .products = {.width = VEC_WIDTH,
                 .tile_rows = TILE_ROWS,
                 .multiply = multiply,
                 .accumulate = accumulate},
    .softmax_forward = softmax_forward,
    .softmax_backward = softmax_backward,
};
