/* SPDX-License-Identifier: MIT
 * One step of each kind of layer, on packed weights in the model's own memory; compiled once for
 * each real type.
 *
 * The same kernels take the same sums in the same order as in the passes of layers/, which run many
 * rows by many steps: so the results are the same, and there is nothing here of what those do for
 * blocks, threads and masks.
 */
#include "base/cpu.h"
#include "layers/dense_common.h"
#include "layers/pack.h"
#include "layers/tiles.h"
#include "model/model.h"

typedef struct layer {
    const real *(*step)(struct layer *my, const real *x); /* returns y (units) */
    const TYPED(kernels) * kernels;
    ptrdiff_t features, units;
    int activation;
    TYPED(gates) gates;
    real *kernel, *recurrent_kernel, *bias; /* packed; the bias or NULL */
    real *h[2], *c;                         /* h before and after a step, in turn */
    int turn;
    real *y; /* of what is no LSTM */
} layer;

/* ---- steps ---------------------------------------------------------------------------------- */

/* As in lstm_forward.c: a tile of z, the gates of a strip, goes from the products to the gates. */
static const real *step_lstm(layer *my, const real *x)
{
    const TYPED(kernels) *const kernels = my->kernels;
    const ptrdiff_t width = kernels->width, units = my->units;
    const real *const before = my->h[my->turn];
    real *const after = my->h[!my->turn];
    _Alignas(64) real values[GATES * MOST_WIDTH];
    real workspace[GATE_WORKSPACE_ROWS * MOST_WIDTH];
    const row z = values;
    for (ptrdiff_t first = 0; first < units; first += width) {
        const ptrdiff_t count = at_most(width, units - first), column = GATES * first;
        const column_run columns = {0, divide_up(GATES * count, width) * width};
        const TYPED(gemm_term) terms[2] = {
            {my->features, &x, my->kernel + column * my->features},
            {units, &before, my->recurrent_kernel + column * units},
        };
        const_row bias = my->bias ? my->bias + column : 0;
        const row c = my->c + first, h = after + first;
        kernels->gemm(1, 2, terms, bias ? &bias : 0, &z, columns);
        my->gates.forward(&my->gates, (gate_shape){1, count, count, units}, &z, 0, &c, &h,
                          workspace);
    }
    my->turn = !my->turn;
    return after;
}

static void activate(const layer *my, const real *x, real *y)
{
    if (my->activation == ACTIVATION_COUNT)
        my->kernels->softmax_forward(1, my->units, x, y);
    else
        my->kernels->activations[my->activation].forward(my->units, x, y);
}

static const real *step_dense(layer *my, const real *x)
{
    const TYPED(kernels) *const kernels = my->kernels;
    const TYPED(gemm_term) term = {my->features, &x, my->kernel};
    const const_row bias = my->bias;
    if (dense_is_narrow(my->units))
        kernels->gemm_bt(1, my->units, my->features, &x, my->kernel, bias, &my->y);
    else
        kernels->gemm(1, 1, &term, bias ? &bias : 0, &my->y, (column_run){0, my->units});
    if (my->activation != ACTIVATION_LINEAR)
        activate(my, my->y, my->y);
    return my->y;
}

static const real *step_activation(layer *my, const real *x)
{
    activate(my, x, my->y);
    return my->y;
}

static void step(fastlstm_model *model, const void *x, void *y)
{
    layer *const layers = model->layers;
    const real *values = x;
    const fp_mode mode = flush_denormals();
    for (ptrdiff_t i = 0; i < model->layer_count; i++)
        values = layers[i].step(&layers[i], values);
    restore_denormals(mode);
    memcpy(y, values, (size_t)model->outputs * sizeof(real));
}

static void reset(fastlstm_model *model)
{
    layer *const layers = model->layers;
    for (ptrdiff_t i = 0; i < model->layer_count; i++) {
        layer *const my = &layers[i];
        if (my->step != step_lstm)
            continue;
        memset(my->h[my->turn], 0, (size_t)my->units * sizeof(real));
        memset(my->c, 0, (size_t)my->units * sizeof(real));
    }
}

/* ---- layers in memory ----------------------------------------------------------------------- */

/* These take memory that has no base, and count; otherwise they pack what `flat` has into it. */

static real *take_reals(workspace *memory, ptrdiff_t count)
{
    return take(memory, (size_t)count, sizeof(real));
}

static real *pack_gates(workspace *memory, const layer *my, ptrdiff_t depth, const void *weights)
{
    real *const packed =
        take_reals(memory, TYPED(packing).size(my->kernels, depth, GATES * my->units));
    if (packed)
        TYPED(packing).groups(my->kernels, depth, GATES, my->units, weights, packed);
    return packed;
}

static void place_lstm(workspace *memory, layer *my, const flat_layer *from)
{
    my->step = step_lstm;
    my->gates = TYPED(select_gates)(my->kernels, from->activation, from->recurrent_activation);
    my->kernel = pack_gates(memory, my, my->features, from->kernel);
    my->recurrent_kernel = pack_gates(memory, my, my->units, from->recurrent_kernel);
    my->bias = from->bias ? pack_gates(memory, my, 1, from->bias) : 0;
    my->h[0] = take_reals(memory, my->units);
    my->h[1] = take_reals(memory, my->units);
    my->c = take_reals(memory, my->units);
}

static void place_dense(workspace *memory, layer *my, const flat_layer *from)
{
    const ptrdiff_t features = my->features, units = my->units;
    my->step = step_dense;
    my->kernel = take_reals(memory, TYPED(dense_packed_size)(my->kernels, features, units));
    my->bias = from->bias ? take_reals(memory, units) : 0;
    my->y = take_reals(memory, units);
    if (my->kernel)
        TYPED(dense_pack)(my->kernels, features, units, from->kernel, my->kernel);
    if (my->bias)
        memcpy(my->bias, from->bias, (size_t)units * sizeof(real));
}

static void place_activation(workspace *memory, layer *my)
{
    my->step = step_activation;
    my->y = take_reals(memory, my->units);
}

static layer placed(workspace *memory, const flat_layer *from, const void *kernels)
{
    layer my = {.kernels = kernels,
                .features = from->features,
                .units = from->units,
                .activation = from->activation};
    if (from->kind == FLAT_LSTM)
        place_lstm(memory, &my, from);
    else if (from->kind == FLAT_DENSE)
        place_dense(memory, &my, from);
    else
        place_activation(memory, &my);
    return my;
}

static fastlstm_model *place_model(workspace *memory, flat_reader flat, const void *kernels)
{
    fastlstm_model *const model = take(memory, 1, sizeof *model);
    layer *const layers = take(memory, flat.layers, sizeof(layer));
    void *const x = take_reals(memory, (ptrdiff_t)flat.inputs);
    flat_layer from = {0};
    for (ptrdiff_t i = 0; flat_next(&flat, &from); i++) {
        const layer my = placed(memory, &from, kernels);
        if (layers)
            layers[i] = my;
    }
    void *const y = take_reals(memory, from.units);
    if (model)
        *model = (fastlstm_model){.functions = &TYPED(model_functions),
                                  .is_double = FASTLSTM_DOUBLE,
                                  .inputs = (ptrdiff_t)flat.inputs,
                                  .outputs = from.units,
                                  .layer_count = (ptrdiff_t)flat.layers,
                                  .layers = layers,
                                  .x = x,
                                  .y = y};
    return model;
}

static size_t model_bytes(flat_reader flat, const void *kernels)
{
    workspace counted = {0, 0};
    place_model(&counted, flat, kernels);
    return counted.used;
}

static fastlstm_model *make_model(void *memory, flat_reader flat, const void *kernels)
{
    workspace from = {memory, 0};
    return place_model(&from, flat, kernels);
}

static const void *find_kernels(enum isa isa) { return TYPED(find_kernels)(isa); }

const model_functions TYPED(model_functions) = {
    .find_kernels = find_kernels,
    .bytes = model_bytes,
    .make = make_model,
    .reset = reset,
    .step = step,
};
