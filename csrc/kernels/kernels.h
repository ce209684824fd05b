/* SPDX-License-Identifier: MIT
 * The table of kernels: one for each instruction set and real type, chosen at import.
 *
 * Nothing here allocates, fails or knows of Python. Sizes are counts of elements. A `units`-long
 * row of gates is four strips of `units`: input, forget, candidate, output (i, f, g, o).
 */
#ifndef FASTLSTM_KERNELS_H
#define FASTLSTM_KERNELS_H

#include <stddef.h>

/* In alphabetical order, as fastlstm.activations.ELEMENTWISE. */
enum activation_index {
    ACTIVATION_ELU,
    ACTIVATION_EXPONENTIAL,
    ACTIVATION_GELU,
    ACTIVATION_HARD_SIGMOID,
    ACTIVATION_LEAKY_RELU,
    ACTIVATION_LINEAR,
    ACTIVATION_RELU,
    ACTIVATION_SELU,
    ACTIVATION_SIGMOID,
    ACTIVATION_SILU,
    ACTIVATION_SOFTPLUS,
    ACTIVATION_SOFTSIGN,
    ACTIVATION_TANH,
    ACTIVATION_COUNT
};

/* Input, forget, candidate, output. */
enum { GATES = 4 };

/* The widest vector, and the highest and the widest tile, of any instruction set. */
enum { MOST_WIDTH = 16, MOST_MR = 6, MOST_NR = 4 * MOST_WIDTH };

/* The general gate kernels need this many times `count` of workspace. */
enum { GATE_WORKSPACE_ROWS = 6 };

/* A packed matrix (K, N) is cut into micro-panels of NR columns, each stored row after row, one
 * micro-panel behind the other. The last one is narrower: its columns, filled up to whole vectors.
 * Column j of a run that begins with a micro-panel is thus in the panel at K * (j / NR) * NR.
 *
 * Which columns of C a run of micro-panels makes: */
typedef struct {
    ptrdiff_t first, count;
} column_run;

/* `strips` stretches of `count` units, each given by pointers to its first unit; its four gates
 * follow each other at a distance of `stride`, where they are kept at a distance of `kept_stride`.
 */
typedef struct {
    ptrdiff_t strips, count, stride, kept_stride;
} gate_shape;

/* activation.forward:  y = f(x);  activation.backward:  dx = dy * f'(x);  backward_from_output: the
 *   same from y, NULL where f' is no function of it.  x may be y, dy be dx.
 *
 * gates.forward   (some units of one step)
 *   z      IN pre-activations; may be overwritten
 *   kept   OUT what gates.backward wants to see again, NULL for nothing; may be z
 *   c      IN state before the step, OUT after it               h  OUT
 * gates.backward
 *   kept   IN as forward left them      c_prev, c  IN states before and after the step
 *   dh     IN gradient of h             dc  IN gradient of c after the step, OUT before it
 *   dz     OUT gradient of the pre-activations
 * workspace (GATE_WORKSPACE_ROWS * count) holds nothing before or after. No two may overlap.
 *
 *
 * gemm     out[r] = start[r] + sum over k < depth of a[r][k] * panels[k] + the next term...
 *
 *     for up to `mr` rows r in a run of columns; the terms are added up in their order; start may
 * be NULL for zero, or out
 *
 * gemm_at  c[f * stride + j] += sum over k < depth of a[k * rows + f] * panel[k][j]
 *
 *     f < rows <= mr, j < columns <= nr; what is added is summed from zero, and with `fresh` takes
 *     the place of what was there
 *
 * gemm_bt  out[r][j] = start[j] + sum over k < depth of a[r][k] * b[j * depth + k]
 *
 *     for up to `mr` rows r and j < columns; both factors are read along k: for few columns, and
 * for weights that are not packed; start may be NULL for zero
 *
 * gemv     y[j] += sum over k < depth of a[k] * b[k][j]
 *
 *     j < width: one row times a matrix that is not packed, read once from first to last
 *
 * *_crossentropy   the loss of n predictions p that a softmax or a sigmoid has made of z, and
 *
 *     softmax  -sum t log p                              dz = factor (p sum(t) - t)
 *     label    the same for t 1 at `label`, else 0
 *     sigmoid  -mean(t log p + (1 - t) log(1 - p))       dz = factor (p - t) / n
 *
 *     logarithms, but not gradients, are of probabilities kept a little inside 0 and 1
 *
 * Each sum is taken in the order of k, whatever the number of rows (of gemm_bt in each lane, then
 * over the lanes): a result depends neither on the tile that it is part of, nor, but in gemm_at, on
 * where a long sum is cut in two.
 */
#define DECLARE_KERNELS(real, type)                                                                \
    typedef struct {                                                                               \
        void (*forward)(ptrdiff_t n, const real *x, real *y);                                      \
        void (*backward)(ptrdiff_t n, const real *x, const real *dy, real *dx);                    \
        void (*backward_from_output)(ptrdiff_t n, const real *y, const real *dy, real *dx);        \
    } activation_##type;                                                                           \
                                                                                                   \
    typedef struct gates_##type {                                                                  \
        const char *name;                                                                          \
        activation_##type activation, recurrent_activation;                                        \
        void (*forward)(const struct gates_##type *self, gate_shape shape, real *const *z,         \
                        real *const *kept, real *const *c, real *const *h, real *workspace);       \
        void (*backward)(const struct gates_##type *self, gate_shape shape,                        \
                         const real *const *kept, const real *const *c_prev, const real *const *c, \
                         const real *const *dh, real *const *dc, real *const *dz,                  \
                         real *workspace);                                                         \
    } gates_##type;                                                                                \
                                                                                                   \
    typedef struct {                                                                               \
        ptrdiff_t depth;                                                                           \
        const real *const *a;                                                                      \
        const real *panels;                                                                        \
    } gemm_term_##type;                                                                            \
                                                                                                   \
    typedef struct {                                                                               \
        real learning_rate, decay, rest, momentum, epsilon; /* rest: 1 - decay */                  \
    } rmsprop_numbers_##type;                                                                      \
                                                                                                   \
    typedef struct {                                                                               \
        real step_size, rest_1, rest_2, epsilon;          /* rest: 1 - beta */                     \
        real mean_factor, gradient_factor, square_factor; /* of nadam */                           \
    } adam_numbers_##type;                                                                         \
                                                                                                   \
    typedef struct {                                                                               \
        void (*sgd)(ptrdiff_t n, real *p, const real *g, real *v, real lr, real mu, int nesterov); \
        void (*rmsprop)(ptrdiff_t n, real *p, const real *g, real *s, real *v, real *a,            \
                        const rmsprop_numbers_##type *numbers);                                    \
        void (*adam)(ptrdiff_t n, real *p, const real *g, real *m, real *v, real *largest,         \
                     const adam_numbers_##type *numbers);                                          \
        void (*nadam)(ptrdiff_t n, real *p, const real *g, real *m, real *v,                       \
                      const adam_numbers_##type *numbers);                                         \
        void (*adagrad)(ptrdiff_t n, real *p, const real *g, real *s, real lr, real eps);          \
    } updates_##type;                                                                              \
                                                                                                   \
    typedef struct {                                                                               \
        activation_##type activations[ACTIVATION_COUNT];                                           \
        gates_##type gates_tanh, gates_relu, gates_general;                                        \
        ptrdiff_t width, mr, nr; /* width: elements of a vector */                                 \
        void (*gemm)(ptrdiff_t rows, int count, const gemm_term_##type *terms,                     \
                     const real *const *start, real *const *out, column_run columns);              \
        void (*gemm_at)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const real *a,         \
                        const real *panel, int fresh, real *c, ptrdiff_t stride);                  \
        void (*gemm_bt)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const real *const *a,  \
                        const real *b, const real *start, real *const *out);                       \
        void (*gemv)(ptrdiff_t depth, ptrdiff_t width, const real *a, const real *b, real *y);     \
        updates_##type updates;                                                                    \
        double (*squared_error)(ptrdiff_t n, const real *y_true, const real *y_pred, real factor,  \
                                real *gradient);                                                   \
        real (*softmax_crossentropy)(ptrdiff_t n, const real *t, const real *p, real factor,       \
                                     real *dz);                                                    \
        real (*label_crossentropy)(ptrdiff_t n, ptrdiff_t label, const real *p, real factor,       \
                                   real *dz);                                                      \
        real (*sigmoid_crossentropy)(ptrdiff_t n, const real *t, const real *p, real factor,       \
                                     real *dz);                                                    \
        void (*softmax_forward)(ptrdiff_t n, const real *x, real *y);                              \
        void (*softmax_backward)(ptrdiff_t n, const real *y, const real *dy, real *dx);            \
    } kernels_##type;                                                                              \
                                                                                                   \
    extern const kernels_##type kernels_baseline_##type;                                           \
    extern const kernels_##type kernels_avx2_##type;                                               \
    extern const kernels_##type kernels_avx512_##type;                                             \
    extern const kernels_##type kernels_neon_##type;                                               \
                                                                                                   \
    /* The gate kernels for a pair of activations, the fused ones where there are any. */          \
    static inline gates_##type select_gates_##type(const kernels_##type *table, int activation,    \
                                                   int recurrent_activation)                       \
    {                                                                                              \
        if (recurrent_activation == ACTIVATION_SIGMOID && activation == ACTIVATION_TANH)           \
            return table->gates_tanh;                                                              \
        if (recurrent_activation == ACTIVATION_SIGMOID && activation == ACTIVATION_RELU)           \
            return table->gates_relu;                                                              \
        gates_##type gates = table->gates_general;                                                 \
        gates.activation = table->activations[activation];                                         \
        gates.recurrent_activation = table->activations[recurrent_activation];                     \
        return gates;                                                                              \
    }

DECLARE_KERNELS(float, f32)
DECLARE_KERNELS(double, f64)

#endif
