/* SPDX-License-Identifier: MIT
 * See flat.h.
 */
#include "model/flat.h"

#include <string.h>

#include "kernels/kernels.h"

/* Larger layers, and more of them, are damage. With these bounds no product overflows 64 bits. */
enum { MOST_SIZE = 1 << 24, MOST_LAYERS = 1 << 16 };

/* A model in memory takes at most so many times its bytes in a file and those of its outputs: a
 * matrix of one column is packed into vectors of 16. */
enum { MOST_GROWTH = 64 };

static const char *const names[ACTIVATION_COUNT + 1] = {
    [ACTIVATION_ELU] = "elu",
    [ACTIVATION_EXPONENTIAL] = "exponential",
    [ACTIVATION_GELU] = "gelu",
    [ACTIVATION_HARD_SIGMOID] = "hard_sigmoid",
    [ACTIVATION_LEAKY_RELU] = "leaky_relu",
    [ACTIVATION_LINEAR] = "linear",
    [ACTIVATION_RELU] = "relu",
    [ACTIVATION_SELU] = "selu",
    [ACTIVATION_SIGMOID] = "sigmoid",
    [ACTIVATION_SILU] = "silu",
    [ACTIVATION_SOFTPLUS] = "softplus",
    [ACTIVATION_SOFTSIGN] = "softsign",
    [ACTIVATION_TANH] = "tanh",
    [ACTIVATION_COUNT] = "softmax",
};

static uint32_t number_at(const unsigned char *at)
{
    uint32_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

static int is_zero(const unsigned char *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (from[i])
            return 0;
    return 1;
}

/* The activation whose name stands there, filled up with zeros; -1 for none. */
static int activation_at(const unsigned char *at)
{
    for (int i = 0; i <= ACTIVATION_COUNT; i++) {
        const size_t length = strlen(names[i]);
        if (!memcmp(at, names[i], length) && is_zero(at + length, FLAT_NAME - length))
            return i;
    }
    return -1;
}

/* The next weights, of so many elements; NULL where they and zeros are not what stands there. */
static const void *take_weights(flat_reader *reader, uint64_t count)
{
    const uint64_t bytes = count * (reader->is_double ? sizeof(double) : sizeof(float));
    const uint64_t begin = reader->position;
    const uint64_t end = begin + (bytes + FLAT_RECORD - 1) / FLAT_RECORD * FLAT_RECORD;
    if (end > reader->size || !is_zero(reader->bytes + begin + bytes, end - begin - bytes))
        return 0;
    reader->position = end;
    return reader->bytes + begin;
}

/* Reads the weights, whose sizes the layer knows; returns whether they are all there. */
static int take_all_weights(flat_reader *reader, flat_layer *layer, int has_bias)
{
    const uint64_t features = (uint64_t)layer->features, units = (uint64_t)layer->units;
    const uint64_t columns = layer->kind == FLAT_LSTM ? GATES * units : units;
    if (layer->kind == FLAT_ACTIVATION)
        return 1;
    layer->kernel = take_weights(reader, features * columns);
    if (layer->kind == FLAT_LSTM)
        layer->recurrent_kernel = take_weights(reader, units * columns);
    if (has_bias)
        layer->bias = take_weights(reader, columns);
    return layer->kernel && (layer->recurrent_kernel || layer->kind != FLAT_LSTM) &&
           (layer->bias || !has_bias);
}

int flat_next(flat_reader *reader, flat_layer *layer)
{
    enum { UNITS = 4, BIAS = 8, ZERO = 12, ACTIVATION = 16, RECURRENT = 32, REST = 48 };
    if (reader->next >= reader->layers)
        return 0;
    const unsigned char *const record = reader->bytes + FLAT_RECORD * (1 + (size_t)reader->next++);
    const uint32_t kind = number_at(record), units = number_at(record + UNITS);
    const uint32_t has_bias = number_at(record + BIAS);
    *layer = (flat_layer){.kind = (flat_kind)kind,
                          .activation = activation_at(record + ACTIVATION),
                          .features = reader->width,
                          .units = (ptrdiff_t)units};
    const int is_lstm = kind == FLAT_LSTM;
    if (is_lstm)
        layer->recurrent_activation = activation_at(record + RECURRENT);
    else if (!is_zero(record + RECURRENT, FLAT_NAME))
        return 0;
    const int most = is_lstm ? ACTIVATION_COUNT - 1 : ACTIVATION_COUNT;
    if (kind < FLAT_LSTM || kind > FLAT_ACTIVATION || units < 1 || units > MOST_SIZE ||
        has_bias > 1 || (kind == FLAT_ACTIVATION && (has_bias || layer->units != reader->width)) ||
        layer->activation < 0 || layer->activation > most || layer->recurrent_activation < 0 ||
        layer->recurrent_activation > most || !is_zero(record + ZERO, ACTIVATION - ZERO) ||
        !is_zero(record + REST, FLAT_RECORD - REST))
        return 0;
    reader->width = layer->units;
    return take_all_weights(reader, layer, (int)has_bias);
}

int flat_open(flat_reader *reader, const void *flat, size_t size)
{
    enum { VERSION = 8, REAL_BYTES = 12, INPUTS = 16, LAYERS = 20, REST = 24 };
    const unsigned char *const bytes = flat;
    if (!flat || (uintptr_t)flat % sizeof(double) || size < FLAT_RECORD ||
        memcmp(bytes, "FASTLSTM", VERSION) || number_at(bytes + VERSION) != FLAT_VERSION ||
        !is_zero(bytes + REST, FLAT_RECORD - REST))
        return 0;
    const uint32_t real_bytes = number_at(bytes + REAL_BYTES);
    const uint32_t inputs = number_at(bytes + INPUTS), layers = number_at(bytes + LAYERS);
    if ((real_bytes != sizeof(float) && real_bytes != sizeof(double)) || inputs < 1 ||
        inputs > MOST_SIZE || layers < 1 || layers > MOST_LAYERS ||
        (size_t)layers > size / FLAT_RECORD - 1)
        return 0;
    const flat_reader start = {.bytes = bytes,
                               .size = size,
                               .is_double = real_bytes == sizeof(double),
                               .inputs = inputs,
                               .layers = layers,
                               .width = (ptrdiff_t)inputs,
                               .position = FLAT_RECORD * (1 + (uint64_t)layers)};
    flat_layer layer;
    uint64_t outputs = inputs, found = 0;
    for (*reader = start; flat_next(reader, &layer); found++)
        outputs += (uint64_t)layer.units;
    const int is_whole = found == layers && reader->position == size;
    *reader = start;
    return is_whole && size + sizeof(double) * outputs <= SIZE_MAX / MOST_GROWTH;
}
