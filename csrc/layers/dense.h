/* SPDX-License-Identifier: MIT
 * The dense layer on packed weights: y = f(x kernel + bias), forward and backward, shared out over
 * the pool.
 *
 * Letters: R rows (all axes but the last, in C order), F features, U units. One struct serves both
 * real types: `void *` is float in the functions for f32, double in f64. Nothing is allocated:
 * `workspace` is memory of at least *_workspace_bytes(pass), aligned to 64. Outputs may not overlap
 * inputs or each other.
 */
#ifndef FASTLSTM_DENSE_H
#define FASTLSTM_DENSE_H

#include <stddef.h>

#include "base/pool.h"
#include "base/watch.h"

typedef struct {
    const void *kernels; /* the table of kernels.h */
    int activation;      /* an activation_index, or ACTIVATION_COUNT for softmax over a row */
    int workers;         /* how many threads, from dense_functions.workers */
    ptrdiff_t rows, features, units;
    const void *x; /* (R, F) */
    void *workspace;
    pass_watch *watch; /* or NULL */
    barrier barrier;
} dense_pass;

typedef struct {
    dense_pass pass;
    const void *kernel; /* as dense_functions.pack leaves it */
    const void *bias;   /* (U) or NULL */
    void *z;            /* (R, U) OUT x kernel + bias; y where the backward pass does not want it */
    void *y;            /* (R, U) OUT */
} dense_forward;

typedef struct {
    dense_pass pass;
    const void *kernel; /* transposed and packed where wants_transposed, else plain (F, U) */
    const void *z, *y;  /* (R, U) as the forward pass left them */
    const void *dy;     /* (R, U) */
    void *dx;           /* (R, F) OUT or NULL */
    void *dkernel;      /* (F, U) OUT */
    void *dbias;        /* (U) OUT */
} dense_backward;

typedef struct {
    /* The kernel (F, U) for the forward pass, and how many elements it then has. */
    ptrdiff_t (*packed_size)(const void *kernels, ptrdiff_t features, ptrdiff_t units);
    void (*pack)(const void *kernels, ptrdiff_t features, ptrdiff_t units, const void *kernel,
                 void *packed);
    /* Whether a forward pass is worth packing for, if the kernel has served `rows` rows so far. */
    int (*wants_packed)(ptrdiff_t units, double rows);
    /* Whether a backward pass reads the transposed and packed kernel, or the plain one. */
    int (*wants_transposed)(const dense_pass *pass);
    /* How many threads suit a pass that does so many products (forward 1, backward 3 of R F U). */
    int (*workers)(const dense_pass *pass, int products);
    void (*run_forward)(dense_forward *pass);
    /* The same on a plain kernel (F, U), for so few rows that packing would take longer. */
    void (*run_forward_unpacked)(dense_forward *pass);
    size_t (*backward_workspace_bytes)(const dense_backward *pass);
    void (*run_backward)(dense_backward *pass);
} dense_functions;

extern const dense_functions dense_f32, dense_f64;

#endif
