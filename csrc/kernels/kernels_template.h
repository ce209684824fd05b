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

#include "kernels/gates_template.h"

/* ---- softmax -------------------------------------------------------------------------------- */

/* y = e^(x - max x) / sum, row by row; y may be x. The largest term is 1, so the sum is at least 1.
 *
 * A row is mostly a chain of dependent operations, so the CPU must work on the next ones meanwhile.
 * It does not where they seem to load what was just stored, as beside every masked store. */
enum { SHORT_ROWS = MOST_AT_ONCE };

/* From later_lanes + k on: 1 in the last k lanes. */
static const real later_lanes[2 * VEC_WIDTH] = {[VEC_WIDTH... 2 * VEC_WIDTH - 1] = 1};

/* A row of at least one vector: the last one takes part in the one before if it must to be whole.
 */
static void softmax_long_row(ptrdiff_t n, const real *x, real *y)
{
    const ptrdiff_t rest = n % VEC_WIDTH, whole = n - rest, last = n - VEC_WIDTH;
    const vec last_x = vec_load(x + last);
    vec lanes = last_x, sums = vec_set1(0);
    for (ptrdiff_t p = 0; p < whole; p += VEC_WIDTH)
        lanes = vec_max(lanes, vec_load(x + p));
    const vec largest = vec_set1(vec_largest(lanes));
    for (ptrdiff_t p = 0; p < whole; p += VEC_WIDTH) {
        const vec e = vec_exp_minus(vec_sub(largest, vec_load(x + p)));
        vec_store(y + p, e);
        sums = vec_add(sums, e);
    }
    const vec last_e = vec_exp_minus(vec_sub(largest, last_x));
    sums = vec_fma(last_e, vec_load(later_lanes + rest), sums);
    const vec sum = vec_set1(vec_sum(sums));
    for (ptrdiff_t p = 0; p < whole; p += VEC_WIDTH)
        vec_store(y + p, vec_div(vec_load(y + p), sum));
    vec_store(y + last, vec_div(last_e, sum));
}

/* Some rows of less than one vector, side by side. */
ALWAYS_INLINE void softmax_short_rows(const int rows, ptrdiff_t n, const real *x, real *y)
{
    vec e[SHORT_ROWS];
    VEC_UNROLL for (int r = 0; r < rows; r++) e[r] =
        vec_load_tail_or(x + r * n, n, vec_set1(-(real)INFINITY));
    VEC_UNROLL for (int r = 0; r < rows; r++) e[r] = vec_sub(vec_set1(vec_largest(e[r])), e[r]);
    vec_exp_minus_of(rows, e, e);
    VEC_UNROLL for (int r = 0; r < rows; r++)
        vec_store_tail(y + r * n, n, vec_div(e[r], vec_set1(vec_sum(e[r]))));
}

static void softmax_forward(ptrdiff_t rows, ptrdiff_t n, const real *x, real *y)
{
    const ptrdiff_t at_once = n < VEC_WIDTH ? SHORT_ROWS : 1;
    ptrdiff_t r = 0;
    for (; r + at_once <= rows; r += at_once)
        if (n < VEC_WIDTH)
            softmax_short_rows(SHORT_ROWS, n, x + r * n, y + r * n);
        else
            softmax_long_row(n, x + r * n, y + r * n);
    for (; r < rows; r++)
        softmax_short_rows(1, n, x + r * n, y + r * n);
}

/* dx = y * (dy - sum(y * dy)), one row. */
static void softmax_backward_row(ptrdiff_t n, const real *y, const real *dy, real *dx)
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

static void softmax_backward(ptrdiff_t rows, ptrdiff_t n, const real *y, const real *dy, real *dx)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        softmax_backward_row(n, y + r * n, dy + r * n, dx + r * n);
}

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
    .softmax_forward = softmax_forward,
    .softmax_backward = softmax_backward,
};
