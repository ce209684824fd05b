/* SPDX-License-Identifier: MIT
 * The kernels of one instruction set and one real type: activations, gates, softmax.
 *
 * The includer defines ISA and includes a vec_*.h file. Vector bodies and tails share
 * one formula, so a value does not depend on its place in the array.
 */
#include "kernels/kernels.h"
#include "simd/vec_math.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

_Static_assert((int)VEC_WIDTH <= (int)MOST_WIDTH && MR <= MOST_MR &&
                   NR_VECTORS * VEC_WIDTH <= MOST_NR,
               "the passes have room for so much");
_Static_assert(WIDE_ROWS <= MR && GATE_ROWS <= MR, "both are numbers of a tile's rows");

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

/* A case for every number of a tile's rows, which must be a constant for its sums to stay in
 * registers. */
#define ROWS_1(x) x(1)
#define ROWS_2(x) ROWS_1(x) x(2)
#define ROWS_3(x) ROWS_2(x) x(3)
#define ROWS_4(x) ROWS_3(x) x(4)
#define ROWS_5(x) ROWS_4(x) x(5)
#define ROWS_6(x) ROWS_5(x) x(6)
#define FOR_EACH_ROW_COUNT PASTE2(ROWS, MR)
#define FOR_EACH_GATE_ROW_COUNT PASTE2(ROWS, GATE_ROWS)
_Static_assert(1 <= MR && MR <= 6, "ROWS_n for every height of a tile");

#include "kernels/gemm_template.h"

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

/* ---- gates ---------------------------------------------------------------------------------- */

/* One row of one LSTM step (Hochreiter & Schmidhuber 1997, Gers et al. 2000):
 *   i = sigmoid(zi)  f = sigmoid(zf)  g = act(zg)  o = sigmoid(zo)
 *   c = f * c + i * g     h = o * act(c)
 * and backwards, with dh and dc the gradients after the step:
 *   dc += dh * o * act'(c)
 *   dzi = dc * g * i'     dzf = dc * c_prev * f'     dzg = dc * i * g'     dzo = dh * act(c) * o'
 *   dc *= f
 * The activated i, f, g, o are kept. */

/* i, f, o and, where the activation is tanh, g: the exponentials side by side. */
ALWAYS_INLINE void activate_strip(const int is_tanh, ptrdiff_t n, const real *z, ptrdiff_t units,
                                  vec *i, vec *f, vec *g, vec *o)
{
    const vec zg = load(z + 2 * units, n);
    const vec a[4] = {vec_sigmoid_begin(load(z, n)), vec_sigmoid_begin(load(z + units, n)),
                      vec_sigmoid_begin(load(z + 3 * units, n)), vec_tanh_begin(zg)};
    vec scale[4], s[4], tail[4];
    vec_exp_parts(is_tanh ? 4 : 3, a, scale, s, tail);
    *i = vec_sigmoid_end(scale[0], s[0], tail[0]);
    *f = vec_sigmoid_end(scale[1], s[1], tail[1]);
    *o = vec_sigmoid_end(scale[2], s[2], tail[2]);
    *g = is_tanh ? vec_tanh_end(zg, scale[3], s[3], tail[3]) : vec_relu(zg);
}

/* Stretches given by their rows: what gates.forward takes. */
typedef struct {
    real *const *z, *const *kept, *const *c, *const *h;
    ptrdiff_t stride, kept_stride;
} forward_rows;

/* `n` units from `first` on of `strips` rows from r0 on. */
ALWAYS_INLINE void gates_forward_strips(const int is_tanh, const int strips, ptrdiff_t n,
                                        ptrdiff_t first, ptrdiff_t r0, const forward_rows *rows)
{
    vec c_new[GATE_ROWS], o[GATE_ROWS];
    vec a[GATE_ROWS], scale[GATE_ROWS], s[GATE_ROWS], tail[GATE_ROWS];
    VEC_UNROLL for (int r = 0; r < strips; r++)
    {
        real *const c = rows->c[r0 + r] + first;
        vec i, f, g;
        activate_strip(is_tanh, n, rows->z[r0 + r] + first, rows->stride, &i, &f, &g, &o[r]);
        c_new[r] = vec_fma(f, load(c, n), vec_mul(i, g));
        store(c, n, c_new[r]);
        if (rows->kept) {
            real *const kept = rows->kept[r0 + r] + first;
            store(kept, n, i);
            store(kept + rows->kept_stride, n, f);
            store(kept + 2 * rows->kept_stride, n, g);
            store(kept + 3 * rows->kept_stride, n, o[r]);
        }
        a[r] = vec_tanh_begin(c_new[r]);
    }
    if (is_tanh)
        vec_exp_parts(strips, a, scale, s, tail);
    VEC_UNROLL for (int r = 0; r < strips; r++)
    {
        const vec act_c =
            is_tanh ? vec_tanh_end(c_new[r], scale[r], s[r], tail[r]) : vec_relu(c_new[r]);
        store(rows->h[r0 + r] + first, n, vec_mul(o[r], act_c));
    }
}

/* As many strips side by side as the registers hold. */
ALWAYS_INLINE void gates_forward_all(const int is_tanh, gate_shape shape, const forward_rows *rows)
{
    for (ptrdiff_t r0 = 0; r0 < shape.strips; r0 += GATE_ROWS) {
        const ptrdiff_t left = shape.strips - r0, strips = left < GATE_ROWS ? left : GATE_ROWS;
        ptrdiff_t first = 0;
        for (; first + VEC_WIDTH <= shape.count; first += VEC_WIDTH)
            switch (strips) {
#define CASE(n)                                                       \
    case n:                                                           \
        gates_forward_strips(is_tanh, n, VEC_WIDTH, first, r0, rows); \
        break;
                FOR_EACH_GATE_ROW_COUNT(CASE)
#undef CASE
            default:
                assert(!"rows of a tile");
            }
        for (ptrdiff_t r = r0; r < r0 + strips && first < shape.count; r++)
            gates_forward_strips(is_tanh, 1, shape.count - first, first, r, rows);
    }
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

#define FUSED_GATES(act, is_tanh)                                                                  \
    static void gates_##act##_forward(const TYPED(gates) * self, gate_shape shape, real *const *z, \
                                      real *const *kept, real *const *c, real *const *h,           \
                                      real *workspace)                                             \
    {                                                                                              \
        (void)self, (void)workspace;                                                               \
        const forward_rows rows = {z, kept, c, h, shape.stride, shape.kept_stride};                \
        gates_forward_all(is_tanh, shape, &rows);                                                  \
    }                                                                                              \
    static void gates_##act##_backward(const TYPED(gates) * self, gate_shape shape,                \
                                       const real *const *gates, const real *const *c_prev,        \
                                       const real *const *c, const real *const *dh,                \
                                       real *const *dc, real *const *dz, real *workspace)          \
    {                                                                                              \
        (void)self, (void)workspace;                                                               \
        for (ptrdiff_t r = 0; r < shape.strips; r++) {                                             \
            ptrdiff_t p = 0;                                                                       \
            for (; p + VEC_WIDTH <= shape.count; p += VEC_WIDTH)                                   \
                gates_backward_strip(vec_##act, act##_slope, VEC_WIDTH, shape.stride,              \
                                     gates[r] + p, c_prev[r] + p, c[r] + p, dh[r] + p, dc[r] + p,  \
                                     dz[r] + p);                                                   \
            if (p < shape.count)                                                                   \
                gates_backward_strip(vec_##act, act##_slope, shape.count - p, shape.stride,        \
                                     gates[r] + p, c_prev[r] + p, c[r] + p, dh[r] + p, dc[r] + p,  \
                                     dz[r] + p);                                                   \
        }                                                                                          \
    }

FUSED_GATES(tanh, 1)
FUSED_GATES(relu, 0)

/* The same for any pair of activations. The pre-activations are kept, since not every
 * derivative is a function of the output. */
typedef struct {
    real *i, *f, *g, *o;
} gate_values;

static gate_values activate_gates(const TYPED(gates) * self, gate_shape shape, const real *gates,
                                  real *workspace)
{
    const ptrdiff_t n = shape.count, stride = shape.stride;
    const gate_values y = {workspace, workspace + n, workspace + 2 * n, workspace + 3 * n};
    self->recurrent_activation.forward(n, gates, y.i);
    self->recurrent_activation.forward(n, gates + stride, y.f);
    self->activation.forward(n, gates + 2 * stride, y.g);
    self->recurrent_activation.forward(n, gates + 3 * stride, y.o);
    return y;
}

static void gates_general_forward(const TYPED(gates) * self, gate_shape shape, real *const *z,
                                  real *const *kept, real *const *c, real *const *h,
                                  real *workspace)
{
    for (ptrdiff_t r = 0; r < shape.strips; r++) {
        const gate_values y = activate_gates(self, shape, z[r], workspace);
        for (ptrdiff_t v = 0; kept && kept[r] != z[r] && v < GATES; v++)
            memcpy(kept[r] + v * shape.kept_stride, z[r] + v * shape.stride,
                   shape.count * sizeof(real));
        for (ptrdiff_t p = 0; p < shape.count; p++)
            c[r][p] = y.f[p] * c[r][p] + y.i[p] * y.g[p];
        self->activation.forward(shape.count, c[r], h[r]);
        for (ptrdiff_t p = 0; p < shape.count; p++)
            h[r][p] *= y.o[p];
    }
}

static void gates_general_backward(const TYPED(gates) * self, gate_shape shape,
                                   const real *const *gates, const real *const *c_prev,
                                   const real *const *c, const real *const *dh, real *const *dc,
                                   real *const *dz, real *workspace)
{
    const ptrdiff_t n = shape.count, stride = shape.stride;
    real *const act_c = workspace + 4 * n, *const dact_c = act_c + n;
    for (ptrdiff_t r = 0; r < shape.strips; r++) {
        const gate_values y = activate_gates(self, shape, gates[r], workspace);
        const real *const z = gates[r];
        real *const dzi = dz[r], *const dzf = dzi + stride, *const dzg = dzf + stride,
                    *const dzo = dzg + stride;
        self->activation.forward(n, c[r], act_c);
        for (ptrdiff_t p = 0; p < n; p++)
            dact_c[p] = dh[r][p] * y.o[p];
        self->activation.backward(n, c[r], dact_c, dact_c);
        for (ptrdiff_t p = 0; p < n; p++) {
            const real dc_step = dc[r][p] + dact_c[p];
            dzi[p] = dc_step * y.g[p];
            dzf[p] = dc_step * c_prev[r][p];
            dzg[p] = dc_step * y.i[p];
            dzo[p] = dh[r][p] * act_c[p];
            dc[r][p] = dc_step * y.f[p];
        }
        self->recurrent_activation.backward(n, z, dzi, dzi);
        self->recurrent_activation.backward(n, z + stride, dzf, dzf);
        self->activation.backward(n, z + 2 * stride, dzg, dzg);
        self->recurrent_activation.backward(n, z + 3 * stride, dzo, dzo);
    }
}

/* ---- softmax -------------------------------------------------------------------------------- */

static real largest_of(ptrdiff_t n, const real *x)
{
    real largest = x[0];
    ptrdiff_t p = 0;
    if (n >= VEC_WIDTH) {
        vec lanes = vec_load(x);
        for (p = VEC_WIDTH; p + VEC_WIDTH <= n; p += VEC_WIDTH)
            lanes = vec_max(lanes, vec_load(x + p));
        largest = vec_largest(lanes);
    }
    for (; p < n; p++)
        largest = x[p] > largest ? x[p] : largest;
    return largest;
}

/* One row: y = e^(x - max x) / sum; y may be x. The largest term is 1, so the sum is at least 1. */
static void softmax_forward(ptrdiff_t n, const real *x, real *y)
{
    const vec largest = vec_set1(largest_of(n, x));
    vec sums = vec_set1(0);
    for (ptrdiff_t p = 0; p < n; p += VEC_WIDTH) {
        const ptrdiff_t count = n - p < VEC_WIDTH ? n - p : VEC_WIDTH;
        store(y + p, count, vec_exp_minus(vec_sub(largest, load(x + p, count))));
        sums = vec_add(sums, load(y + p, count));
    }
    const vec sum = vec_set1(vec_sum(sums));
    for (ptrdiff_t p = 0; p < n; p += VEC_WIDTH) {
        const ptrdiff_t count = n - p < VEC_WIDTH ? n - p : VEC_WIDTH;
        store(y + p, count, vec_div(load(y + p, count), sum));
    }
}

/* One row: dx = y * (dy - sum(y * dy)). */
static void softmax_backward(ptrdiff_t n, const real *y, const real *dy, real *dx)
{
    vec sums = vec_set1(0);
    for (ptrdiff_t p = 0; p < n; p += VEC_WIDTH) {
        const ptrdiff_t count = n - p < VEC_WIDTH ? n - p : VEC_WIDTH;
        sums = vec_fma(load(y + p, count), load(dy + p, count), sums);
    }
    const vec dot = vec_set1(vec_sum(sums));
    for (ptrdiff_t p = 0; p < n; p += VEC_WIDTH) {
        const ptrdiff_t count = n - p < VEC_WIDTH ? n - p : VEC_WIDTH;
        store(dx + p, count, vec_mul(load(y + p, count), vec_sub(load(dy + p, count), dot)));
    }
}

#include "kernels/losses_template.h"
#include "kernels/updates_template.h"

/* ---- the table ------------------------------------------------------------------------------ */

#define ACTIVATION(name) {name##_forward, name##_backward, 0}
#define VECTOR_ENTRY(name) {name##_forward, name##_backward, name##_backward_from_output}

const TYPED(kernels) NAMED(kernels) = {
    .activations =
        {
            [ACTIVATION_ELU] = ACTIVATION(elu),
            [ACTIVATION_EXPONENTIAL] = ACTIVATION(exponential),
            [ACTIVATION_GELU] = ACTIVATION(gelu),
            [ACTIVATION_HARD_SIGMOID] = ACTIVATION(hard_sigmoid),
            [ACTIVATION_LEAKY_RELU] = ACTIVATION(leaky_relu),
            [ACTIVATION_LINEAR] = ACTIVATION(linear),
            [ACTIVATION_RELU] = VECTOR_ENTRY(relu),
            [ACTIVATION_SELU] = ACTIVATION(selu),
            [ACTIVATION_SIGMOID] = VECTOR_ENTRY(sigmoid),
            [ACTIVATION_SILU] = ACTIVATION(silu),
            [ACTIVATION_SOFTPLUS] = ACTIVATION(softplus),
            [ACTIVATION_SOFTSIGN] = ACTIVATION(softsign),
            [ACTIVATION_TANH] = VECTOR_ENTRY(tanh),
        },
    .gates_tanh = {.name = "tanh", .forward = gates_tanh_forward, .backward = gates_tanh_backward},
    .gates_relu = {.name = "relu", .forward = gates_relu_forward, .backward = gates_relu_backward},
    .gates_general = {.name = "general",
                      .forward = gates_general_forward,
                      .backward = gates_general_backward},
    .width = VEC_WIDTH,
    .mr = MR,
    .nr = NR,
    .gemm = gemm,
    .gemm_at = gemm_at,
    .gemm_bt = gemm_bt,
    .gemv = gemv,
    .updates = {.sgd = update_sgd,
                .rmsprop = update_rmsprop,
                .adam = update_adam,
                .nadam = update_nadam,
                .adagrad = update_adagrad},
    .squared_error = squared_error,
    .softmax_crossentropy = softmax_crossentropy,
    .label_crossentropy = label_crossentropy,
    .sigmoid_crossentropy = sigmoid_crossentropy,
    .softmax_forward = softmax_forward,
    .softmax_backward = softmax_backward,
};
