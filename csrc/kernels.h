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

/* A panel is a slice of a weight matrix, at most so many vectors wide, packed row after row: the
 * four gates of a strip of units, or neighbouring columns. Only the last panel of a matrix is
 * narrower. */
enum { PANEL_VECTORS = 4 };

/* The widest vector and the highest tile of any instruction set. */
enum { MOST_WIDTH = 16, MOST_TILE_ROWS = 6 };

/* The general gate kernels need this many times `count` of scratch. */
enum { GATE_SCRATCH_ROWS = 6 };

/* The columns of a row of the result that a panel makes; the panel has just as many, filled up to
 * whole vectors. */
typedef struct {
    ptrdiff_t first, count;
} panel_columns;

/* `strips` stretches of `count` units, each given by pointers to its first unit; its four gates
 * follow each other at a distance of `stride`, where they are kept at a distance of `kept_stride`.
 */
typedef struct {
    ptrdiff_t strips, count, stride, kept_stride;
} gate_shape;

/* activation.forward:  y = f(x);  activation.backward:  dx = dy * f'(x).  x may be y, dy be dx.
 *
 * gates.forward   (some units of one step)
 *   z      IN pre-activations; may be overwritten
 *   kept   OUT what gates.backward wants to see again, NULL for nothing; may be z
 *   c      IN state before the step, OUT after it               h  OUT
 * gates.backward
 *   kept   IN as forward left them      c_prev, c  IN states before and after the step
 *   dh     IN gradient of h             dc  IN gradient of c after the step, OUT before it
 *   dz     OUT gradient of the pre-activations
 * scratch (GATE_SCRATCH_ROWS * count) holds nothing before or after. No two may overlap.
 *
 * products.multiply    out[r] = start[r] + sum over k < depth of a[r][k] * panel[k] + the next...
 *   for up to tile_rows rows r, in some columns; the sums of `count` products are added up in
 *   their order; start may be NULL for zero, or out
 * products.stream      sums[j] += sum over k < depth of a[k] * weights[k][j]     j < width
 *   one row times a plain matrix, which is read once from its first element to its last
 * products.accumulate  sums[f] += sum over k < depth of a[k * count + f] * panel[k]     f < count
 *   sums and panel are rows of PANEL_VECTORS * width elements; what is added is summed from zero,
 *   and with `fresh` takes the place of what was there
 * Each sum is taken in the order of k, whatever the number of rows: a result depends neither on
 * the tile that it is part of, nor, but in accumulate, on where a long sum is cut in two.
 */
#define DECLARE_KERNELS(real, type)                                                                \
    typedef struct {                                                                               \
        void (*forward)(ptrdiff_t n, const real *x, real *y);                                      \
        void (*backward)(ptrdiff_t n, const real *x, const real *dy, real *dx);                    \
    } activation_##type;                                                                           \
                                                                                                   \
    typedef struct gates_##type {                                                                  \
        const char *name;                                                                          \
        activation_##type activation, recurrent_activation;                                        \
        void (*forward)(const struct gates_##type *self, gate_shape shape, real *const *z,         \
                        real *const *kept, real *const *c, real *const *h, real *scratch);         \
        void (*backward)(const struct gates_##type *self, gate_shape shape,                        \
                         const real *const *kept, const real *const *c_prev, const real *const *c, \
                         const real *const *dh, real *const *dc, real *const *dz, real *scratch);  \
    } gates_##type;                                                                                \
                                                                                                   \
    typedef struct {                                                                               \
        ptrdiff_t depth;                                                                           \
        const real *const *a;                                                                      \
        const real *panel;                                                                         \
    } product_##type;                                                                              \
                                                                                                   \
    typedef struct {                                                                               \
        ptrdiff_t width, tile_rows;                                                                \
        void (*multiply)(ptrdiff_t rows, int count, const product_##type *products,                \
                         const real *const *start, real *const *out,                               \
                         const panel_columns *columns);                                            \
        void (*stream)(ptrdiff_t depth, ptrdiff_t width, const real *a, const real *weights,       \
                       real *sums);                                                                \
        void (*accumulate)(ptrdiff_t count, ptrdiff_t depth, const real *a, const real *panel,     \
                           int fresh, real *sums);                                                 \
    } products_##type;                                                                             \
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
        products_##type products;                                                                  \
        updates_##type updates;                                                                    \
        double (*squared_error)(ptrdiff_t n, const real *y_true, const real *y_pred, real factor,  \
                                real *gradient);                                                   \
        void (*softmax_forward)(ptrdiff_t n, const real *x, real *y);                              \
        void (*softmax_backward)(ptrdiff_t n, const real *x, const real *dy, real *dx,             \
                                 real *scratch);                                                   \
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
