/* SPDX-License-Identifier: MIT
 * A model of include/fastlstm.h, and what each real type has for it.
 */
#ifndef FASTLSTM_MODEL_H
#define FASTLSTM_MODEL_H

#include <stddef.h>

#include "include/fastlstm.h"
#include "kernels/dispatch.h"
#include "model/flat.h"

/* `flat` stands before its first layer, here and below; its real type is that of the functions. */
typedef struct {
    /* NULL as in dispatch.h. */
    const void *(*find_kernels)(enum isa isa);
    size_t (*bytes)(flat_reader flat, const void *kernels);
    /* In memory at a multiple of a cache line, states undefined. */
    fastlstm_model *(*make)(void *memory, flat_reader flat, const void *kernels);
    void (*reset)(fastlstm_model *model);
    /* x (inputs) and y (outputs) may overlap. */
    void (*step)(fastlstm_model *model, const void *x, void *y);
} model_functions;

extern const model_functions model_functions_f32, model_functions_f64;

struct fastlstm_model {
    const model_functions *functions;
    int is_double;
    ptrdiff_t inputs, outputs, layer_count;
    void *layers;
    void *x, *y; /* of the model's real type, for callers who have the other one */
};

/* As those of fastlstm.h, on an instruction set; 0 and NULL where this machine does not have it. */
size_t model_bytes_on(enum isa isa, const void *flat, size_t size);
fastlstm_model *model_init_on(enum isa isa, void *memory, const void *flat, size_t size);

#endif
