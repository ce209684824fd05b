/* SPDX-License-Identifier: MIT
 * The kernels of one instruction set and one real type: what the other files of their name share
 * with each other, and the table.
 *
 * The includer defines ISA and includes a vec_*.h file. Vector bodies and tails share
 * one formula, so a value does not depend on its place in the array.
 */
#include "kernels/kernels.h"
#include "simd/vec_math.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
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

#include "kernels/activations_template.h"
#include "kernels/gemm_template.h"
#include "kernels/gates_template.h"
#include "kernels/losses_template.h"
#include "kernels/softmax_template.h"
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
    .run_losses = run_losses,
    .softmax_forward = softmax_forward,
    .softmax_backward = softmax_backward,
};
