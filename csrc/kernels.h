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

/* Rows of the general gate kernels need this many times `units` of scratch. */
enum { GATE_SCRATCH_ROWS = 6 };

/* activation.forward:  y = f(x);  activation.backward:  dx = dy * f'(x).  x may be y, dy be dx.
 *
 * gates.forward   (one row of one step)
 *   gates (4*units)  IN pre-activations; OUT what gates.backward wants to see again
 *   c (units)        IN state before the step, OUT after it        h (units)  OUT
 * gates.backward
 *   gates  IN as forward left them      c_prev, c (units)  IN states before and after the step
 *   dh     IN gradient of h             dc  IN gradient of c after the step, OUT before it
 *   dz (4*units)  OUT gradient of the pre-activations
 * scratch (GATE_SCRATCH_ROWS * units) holds nothing before or after. No two may overlap.
 */
#define DECLARE_KERNELS(real, type)                                                             \
    typedef struct {                                                                            \
        void (*forward)(ptrdiff_t n, const real *x, real *y);                                   \
        void (*backward)(ptrdiff_t n, const real *x, const real *dy, real *dx);                 \
    } activation_##type;                                                                        \
                                                                                                \
    typedef struct gates_##type {                                                               \
        const char *name;                                                                       \
        activation_##type activation, recurrent_activation;                                     \
        void (*forward)(const struct gates_##type *self, ptrdiff_t units, real *gates, real *c, \
                        real *h, real *scratch);                                                \
        void (*backward)(const struct gates_##type *self, ptrdiff_t units, const real *gates,   \
                         const real *c_prev, const real *c, const real *dh, real *dc, real *dz, \
                         real *scratch);                                                        \
    } gates_##type;                                                                             \
                                                                                                \
    typedef struct {                                                                            \
        activation_##type activations[ACTIVATION_COUNT];                                        \
        gates_##type gates_tanh, gates_relu, gates_general;                                     \
        void (*softmax_forward)(ptrdiff_t n, const real *x, real *y);                           \
        void (*softmax_backward)(ptrdiff_t n, const real *x, const real *dy, real *dx,          \
                                 real *scratch);                                                \
    } kernels_##type;                                                                           \
                                                                                                \
    extern const kernels_##type kernels_baseline_##type;                                        \
    extern const kernels_##type kernels_avx2_##type;                                            \
    extern const kernels_##type kernels_avx512_##type;                                          \
    extern const kernels_##type kernels_neon_##type;                                            \
                                                                                                \
    /* The gate kernels for a pair of activations, the fused ones where there are any. */       \
    static inline gates_##type select_gates_##type(const kernels_##type *table, int activation, \
                                                   int recurrent_activation)                    \
    {                                                                                           \
        if (recurrent_activation == ACTIVATION_SIGMOID && activation == ACTIVATION_TANH)        \
            return table->gates_tanh;                                                           \
        if (recurrent_activation == ACTIVATION_SIGMOID && activation == ACTIVATION_RELU)        \
            return table->gates_relu;                                                           \
        gates_##type gates = table->gates_general;                                              \
        gates.activation = table->activations[activation];                                      \
        gates.recurrent_activation = table->activations[recurrent_activation];                  \
        return gates;                                                                           \
    }

DECLARE_KERNELS(float, f32)
DECLARE_KERNELS(double, f64)

#endif
