/* SPDX-License-Identifier: MIT
 * A model as fastlstm.convert.to_c writes it: little-endian, in one piece, all checked when it is
 * read.
 *
 *     header    64 bytes   "FASTLSTM", and in 32 bits each: version of the format, bytes of a real
 *                          number, inputs, how many layers; zeros
 *     layers    64 each    in 32 bits each: kind, units, whether there is a bias, 0; by name, in 16
 *                          bytes each: activation, recurrent activation; zeros
 *     weights              kernel, recurrent kernel, bias of each layer, those that it has, each
 *                          filled up with zeros to a multiple of 64
 *
 * An LSTM has all three and a dense layer a kernel, with Keras's shapes; an activation has none.
 * No place of anything is stored: whatever can be said twice can be said wrongly.
 */
#ifndef FASTLSTM_FLAT_H
#define FASTLSTM_FLAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/names.h"

enum { FLAT_VERSION = 1, FLAT_RECORD = 64, FLAT_NAME = 16 };

typedef enum { FLAT_LSTM = 1, FLAT_DENSE = 2, FLAT_ACTIVATION = 3 } flat_kind;

typedef struct {
    flat_kind kind;
    int activation, recurrent_activation; /* as in dense.h and lstm.h */
    ptrdiff_t features, units;
    const void *kernel, *recurrent_kernel, *bias; /* NULL where there is none */
} flat_layer;

/* Goes from layer to layer. */
typedef struct {
    const unsigned char *bytes;
    size_t size;
    int is_double;
    uint32_t inputs, layers;
    uint32_t next;     /* layer */
    ptrdiff_t width;   /* of what it reads */
    uint64_t position; /* of its weights */
} flat_reader;

/* Whether all of `flat` is as above; then `reader` stands before its first layer. */
int flat_open(flat_reader *reader, const void *flat, size_t size);

/* The next layer of what has been opened; returns 0 where there is none. */
int flat_next(flat_reader *reader, flat_layer *layer);

#endif
