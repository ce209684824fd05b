/* SPDX-License-Identifier: MIT
 * Models of include/fastlstm.h on every instruction set of this machine.
 *
 * Steps must equal the rows of the passes, bit for bit. And whatever bytes are given, a model is
 * refused, or made and run inside of the memory that it asked for, which the address sanitizer
 * watches; tools/check_csrc.sh builds and runs it. Define FASTLSTM_DOUBLE.
 */
#include "problems.h"

#include <stdio.h>

#include "model/model.h"

/* ---- a flat file ---------------------------------------------------------------------------- */

typedef struct {
    unsigned char *bytes;
    size_t size;
} flat_file;

static void put(flat_file *file, const void *from, size_t size)
{
    const size_t filled = (size + FLAT_RECORD - 1) / FLAT_RECORD * FLAT_RECORD;
    file->bytes = realloc(file->bytes, file->size + filled);
    if (!file->bytes)
        abort();
    memcpy(file->bytes + file->size, from, size);
    memset(file->bytes + file->size + size, 0, filled - size);
    file->size += filled;
}

static void put_header(flat_file *file, uint32_t inputs, uint32_t layers)
{
    unsigned char header[FLAT_RECORD] = "FASTLSTM";
    const uint32_t fields[] = {FLAT_VERSION, sizeof(real), inputs, layers};
    memcpy(header + 8, fields, sizeof fields);
    put(file, header, sizeof header);
}

static void put_layer(flat_file *file, flat_kind kind, ptrdiff_t units, int has_bias,
                      const char *activation, const char *recurrent_activation)
{
    unsigned char record[FLAT_RECORD] = {0};
    const uint32_t fields[] = {kind, (uint32_t)units, (uint32_t)has_bias};
    memcpy(record, fields, sizeof fields);
    memcpy(record + 16, activation, strlen(activation));
    memcpy(record + 32, recurrent_activation, strlen(recurrent_activation));
    put(file, record, sizeof record);
}

/* LSTM, its activation once more, dense with softmax. */
static flat_file written(const problem *lstm, const dense_problem *last, int has_bias)
{
    const shape n = lstm->n;
    flat_file file = {0};
    put_header(&file, (uint32_t)n.features, 3);
    put_layer(&file, FLAT_LSTM, n.units, 1, "tanh", "sigmoid");
    put_layer(&file, FLAT_ACTIVATION, n.units, 0, "relu", "");
    put_layer(&file, FLAT_DENSE, last->units, has_bias, "softmax", "");
    put(&file, lstm->kernel, n.features * 4 * n.units * sizeof(real));
    put(&file, lstm->recurrent_kernel, n.units * 4 * n.units * sizeof(real));
    put(&file, lstm->bias, 4 * n.units * sizeof(real));
    put(&file, last->kernel, last->features * last->units * sizeof(real));
    if (has_bias)
        put(&file, last->bias, last->units * sizeof(real));
    return file;
}

/* ---- the checks ----------------------------------------------------------------------------- */

static void step_real(fastlstm_model *model, const real *x, real *y)
{
    if (sizeof(real) == sizeof(double))
        fastlstm_step_double(model, (const void *)x, (void *)y);
    else
        fastlstm_step(model, (const void *)x, (void *)y);
}

/* Whether all steps, twice, are the rows of `want`. */
static int equals(fastlstm_model *model, const problem *p, const real *want, ptrdiff_t outputs)
{
    int same = 1;
    real *const y = numbers(outputs);
    for (int twice = 0; twice < 2; twice++, fastlstm_reset(model))
        for (ptrdiff_t t = 0; t < p->n.steps; t++) {
            step_real(model, p->x + t * p->n.features, y);
            same &= !memcmp(y, want + t * outputs, outputs * sizeof(real));
        }
    return same;
}

static int check_steps(enum isa isa, const char *name, const void *kernels, shape n,
                       ptrdiff_t outputs, int has_bias)
{
    problem p = random_problem(n);
    memset(p.h0, 0, n.units * sizeof(real));
    memset(p.c0, 0, n.units * sizeof(real));
    lstm_forward f = run_forward(&p, kernels, 1);
    dense_problem last = random_dense(n.steps, n.units, outputs, ACTIVATION_COUNT);
    const TYPED(kernels) *const table = kernels;
    table->activations[ACTIVATION_RELU].forward(n.steps * n.units, f.y, last.x);
    const dense_forward want = run_dense_forward(&last, kernels, 1, has_bias ? last.bias : 0, 0);
    const flat_file file = written(&p, &last, has_bias);
    const size_t size = model_bytes_on(isa, file.bytes, file.size);
    char *const memory = malloc(size + 1); /* at an odd place */
    fastlstm_model *const model = model_init_on(isa, memory + 1, file.bytes, file.size);
    const int fails = !size || !model || fastlstm_inputs(model) != (size_t)n.features ||
                      fastlstm_outputs(model) != (size_t)outputs ||
                      !equals(model, &p, want.y, outputs);
    if (fails)
        printf("%-8s f%zu %td,%td,%td -> %td: other bits than the passes  WRONG\n", name,
               8 * sizeof(real), n.steps, n.features, n.units, outputs);
    free(memory);
    free(file.bytes);
    give_back_numbers();
    return fails;
}

/* Makes and runs what is in exactly these bytes, unless it is refused. Returns whether it was. */
static int is_refused(const unsigned char *bytes, size_t size)
{
    unsigned char *const flat = malloc(size ? size : 1); /* so that reading on is noticed */
    memcpy(flat, bytes, size);
    const size_t needed = fastlstm_model_bytes(flat, size);
    if (needed) {
        void *const memory = malloc(needed);
        fastlstm_model *const model = fastlstm_model_init(memory, flat, size);
        float *const x = calloc(fastlstm_inputs(model), sizeof *x);
        float *const y = calloc(fastlstm_outputs(model), sizeof *y);
        fastlstm_step(model, x, y);
        fastlstm_step(model, x, y);
        free(x), free(y), free(memory);
    }
    free(flat);
    return !needed;
}

/* Every byte of what is not weights changed, in several ways, of which none leaves a model of this
 * size; several of them; and the file ending anywhere. */
static int check_damage(int *runs)
{
    const problem p = random_problem((shape){1, 1, 2, 3});
    const dense_problem last = random_dense(1, 3, 5, ACTIVATION_COUNT);
    const flat_file file = written(&p, &last, 1);
    unsigned char *const bytes = malloc(file.size);
    int failures = is_refused(file.bytes, file.size), accepted = 0;
    for (size_t size = 0; size < file.size; size++, ++*runs)
        failures += !is_refused(file.bytes, size);
    for (size_t at = 0; at < (size_t)4 * FLAT_RECORD; at++)
        for (int value = 0; value < 256; value += value < 8 || value > 246 ? 1 : 17, ++*runs) {
            memcpy(bytes, file.bytes, file.size);
            if (bytes[at] == value)
                continue;
            bytes[at] = (unsigned char)value;
            accepted += !is_refused(bytes, file.size);
        }
    for (int round = 0; round < 20000; round++, ++*runs) {
        memcpy(bytes, file.bytes, file.size);
        for (int i = 0; i < 3; i++)
            bytes[rand() % (4 * FLAT_RECORD)] = (unsigned char)(rand() >> 7);
        is_refused(bytes, file.size);
    }
    printf("%d damaged models accepted\n", accepted);
    free(bytes), free(file.bytes);
    return failures + accepted;
}

/* Sizes whose products overflow, or that a small file has memory asked for by. */
static int check_large_sizes(void)
{
    static const uint32_t sizes[] = {1u << 16, 1u << 24, (1u << 24) + 1, 1u << 31, ~0u};
    int failures = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int kind = FLAT_LSTM; kind <= FLAT_DENSE; kind++) {
            flat_file file = {0};
            put_header(&file, sizes[i], 1);
            put_layer(&file, (flat_kind)kind, sizes[i], 1, "tanh", kind == FLAT_LSTM ? "tanh" : "");
            failures += !is_refused(file.bytes, file.size);
            free(file.bytes);
        }
    return failures;
}

int main(void)
{
    static const shape shapes[] = {{1, 5, 1, 1}, {1, 4, 3, 5}, {1, 7, 9, 17}, {1, 3, 65, 70}};
    static const ptrdiff_t outputs[] = {1, 4, 5, 33};
    int failures = 0, runs = 0;
    for (int i = 0; i < ISAS; i++) {
        const void *const kernels = TYPED(find_kernels)(isas[i].isa);
        if (!kernels)
            continue;
        for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++)
            for (size_t o = 0; o < sizeof outputs / sizeof *outputs; o++, runs++)
                failures += check_steps(isas[i].isa, isas[i].name, kernels, shapes[n], outputs[o],
                                        (n + o) % 2);
    }
    failures += check_damage(&runs);
    failures += check_large_sizes();
    printf("%d of %d models wrong\n", failures, runs);
    return failures > 0;
}
