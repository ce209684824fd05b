/* SPDX-License-Identifier: MIT
 * See include/fastlstm.h.
 */
#include "model/model.h"

#include "base/blocks.h"

static const model_functions *functions_of(int is_double)
{
    return is_double ? &model_functions_f64 : &model_functions_f32;
}

/* The widest one, as Python chooses it. */
static enum isa best_isa(void)
{
    static const enum isa from_widest[] = {ISA_AVX512, ISA_AVX2, ISA_NEON};
    for (size_t i = 0; i < sizeof from_widest / sizeof *from_widest; i++)
        if (find_kernels_f32(from_widest[i]))
            return from_widest[i];
    return ISA_BASELINE;
}

/* Memory may lie anywhere: with room for moving up to the next cache line. */
size_t model_bytes_on(enum isa isa, const void *flat, size_t size)
{
    flat_reader reader;
    if (!flat_open(&reader, flat, size))
        return 0;
    const model_functions *const functions = functions_of(reader.is_double);
    const void *const kernels = functions->find_kernels(isa);
    return kernels ? functions->bytes(reader, kernels) + CACHE_LINE - 1 : 0;
}

fastlstm_model *model_init_on(enum isa isa, void *memory, const void *flat, size_t size)
{
    flat_reader reader;
    if (!memory || !flat_open(&reader, flat, size))
        return 0;
    const model_functions *const functions = functions_of(reader.is_double);
    const void *const kernels = functions->find_kernels(isa);
    if (!kernels)
        return 0;
    char *const aligned = (char *)memory + (-(uintptr_t)memory) % CACHE_LINE;
    fastlstm_model *const model = functions->make(aligned, reader, kernels);
    fastlstm_reset(model);
    return model;
}

size_t fastlstm_model_bytes(const void *flat, size_t size)
{
    return model_bytes_on(best_isa(), flat, size);
}

fastlstm_model *fastlstm_model_init(void *memory, const void *flat, size_t size)
{
    return model_init_on(best_isa(), memory, flat, size);
}

size_t fastlstm_inputs(const fastlstm_model *model) { return (size_t)model->inputs; }

size_t fastlstm_outputs(const fastlstm_model *model) { return (size_t)model->outputs; }

void fastlstm_reset(fastlstm_model *model) { model->functions->reset(model); }

static void widen(ptrdiff_t count, const float *from, double *to)
{
    for (ptrdiff_t i = 0; i < count; i++)
        to[i] = from[i];
}

static void narrow(ptrdiff_t count, const double *from, float *to)
{
    for (ptrdiff_t i = 0; i < count; i++)
        to[i] = (float)from[i];
}

void fastlstm_step(fastlstm_model *model, const float *x, float *y)
{
    if (!model->is_double) {
        model->functions->step(model, x, y);
        return;
    }
    widen(model->inputs, x, model->x);
    model->functions->step(model, model->x, model->y);
    narrow(model->outputs, model->y, y);
}

void fastlstm_step_double(fastlstm_model *model, const double *x, double *y)
{
    if (model->is_double) {
        model->functions->step(model, x, y);
        return;
    }
    narrow(model->inputs, x, model->x);
    model->functions->step(model, model->x, model->y);
    widen(model->outputs, model->y, y);
}
