/* SPDX-License-Identifier: MIT
 * The table of kernels: one for each instruction set and real type, chosen at import.
 *
 * Nothing here allocates, fails or knows of Python. Sizes are counts of elements. What the kernels
 * do, and with what, stands beside their declarations, in kernels_typed.h.
 */
#ifndef FASTLSTM_KERNELS_H
#define FASTLSTM_KERNELS_H

#include <stddef.h>

#include "base/typed.h"
#include "kernels/losses.h"

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

/* Input, forget, candidate, output: i, f, g, o. */
enum { GATES = 4 };

/* The widest vector, and the highest and the widest tile, of any instruction set. */
enum { MOST_WIDTH = 16, MOST_MR = 6, MOST_NR = 4 * MOST_WIDTH };

/* The general gate kernels need this many times `count` of workspace. */
enum { GATE_WORKSPACE_ROWS = 6 };

/* Which columns of C some micro-panels side by side make: from the first one of a micro-panel on.
 * layers/pack.h shows how they lie in memory. */
typedef struct {
    ptrdiff_t first, count;
} column_run;

/* `strips` stretches of `count` units of a row, each given by pointers to its first unit. Its four
 * gates, i, f, g, o, begin at a distance of `stride` from each other, and where they are kept at a
 * distance of `kept_stride`. */
typedef struct {
    ptrdiff_t strips, count, stride, kept_stride;
} gate_shape;

/* kernels_f32, gates_f32, ... and kernels_f64, ...; the includer may have a TYPE of its own. */
#pragma push_macro("TYPE")
#undef TYPE

#define real float
#define TYPE f32
#include "kernels/kernels_typed.h"
#undef real
#undef TYPE

#define real double
#define TYPE f64
#include "kernels/kernels_typed.h"
#undef real
#undef TYPE

#pragma pop_macro("TYPE")

#endif
