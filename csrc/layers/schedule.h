/* SPDX-License-Identifier: MIT
 * Every threshold of the packed engine: how many threads do a pass, what they share, and in which
 * blocks. None of them changes a bit of a result.
 *
 * Work is shared out in one of two ways. Many rows: each worker runs some rows through everything
 * and never waits. Few rows: each worker has some columns of all rows, so that its part of the
 * weights stays in its own cache; in an LSTM the workers then meet after every step to exchange h
 * (or dz).
 */
#ifndef FASTLSTM_SCHEDULE_H
#define FASTLSTM_SCHEDULE_H

#include "base/caches.h"
#include "layers/dense.h"
#include "kernels/kernels.h"
#include "layers/lstm.h"
#include "base/pool.h"
#include "base/real.h"
#include "base/wavefront.h"

/* In multiplications, of which a core does some 50 in a nanosecond. Threads are worth their while
 * when each has some 5 us of work, and, if they meet after every step, more than a barrier takes
 * (0.2 us): 1,100,64,64 is no faster with two, 1,100,64,128 1.2 times. Waking those that sleep
 * takes some 150 us. Packing is reading and writing: from some 256 KiB on that is worth a second
 * thread, and somewhat later waking it, which the pass would do next anyway. */
enum {
    LEAST_PRODUCTS_PER_WORKER = 1 << 18,
    LEAST_PRODUCTS_PER_BARRIER = 1 << 15,
    LEAST_PRODUCTS_TO_WAKE = 1 << 23,
    LEAST_ELEMENTS_PER_WORKER = 1 << 16,
    LEAST_ELEMENTS_TO_WAKE = 1 << 18,
};

/* Packing takes about as long as so many rows take to compute. */
enum { ROWS_WORTH_PACKING = 8 };

/* ---- LSTM ----------------------------------------------------------------------------------- */

static inline int lstm_wants_packed(double rows) { return rows >= ROWS_WORTH_PACKING; }

static inline double lstm_weight_bytes(const lstm_pass *pass)
{
    return (double)GATES * (double)pass->units * (double)(pass->features + pass->units) *
           (double)sizeof(real);
}

static inline double lstm_products_of_a_step(const lstm_pass *pass)
{
    return (double)GATES * (double)pass->batch * (double)pass->units *
           (double)(pass->features + pass->units);
}

/* With so many rows for each, workers take rows: enough for a tile that reads its weights from
 * second-level cache, or for two that read them from further away. Weights that do not fit into one
 * such cache but into those of all workers together are better shared, until so many rows hide the
 * reading that the barriers weigh more. */
static inline int lstm_shares_rows(const lstm_pass *pass, int workers)
{
    enum { ROWS_OF_A_TILE = 4, ROWS_OF_TWO_TILES = 8, ROWS_THAT_HIDE = 24 };
    const double bytes = lstm_weight_bytes(pass), cache = (double)get_caches().second;
    const int rows = bytes <= cache             ? ROWS_OF_A_TILE
                     : bytes <= workers * cache ? ROWS_THAT_HIDE
                                                : ROWS_OF_TWO_TILES;
    return workers > 1 && pass->batch >= (ptrdiff_t)rows * workers;
}

/* How many threads suit a pass whose units are shared out so many at a time. */
static inline int lstm_workers(const lstm_pass *pass, ptrdiff_t units_at_once)
{
    const double step = lstm_products_of_a_step(pass), all = step * (double)pass->steps;
    if (all < 2 * LEAST_PRODUCTS_PER_WORKER)
        return 1;
    const double most = (double)((pass->units + units_at_once - 1) / units_at_once);
    double workers = pool_threads();
    if (all < workers * LEAST_PRODUCTS_PER_WORKER)
        workers = all / LEAST_PRODUCTS_PER_WORKER;
    if (!lstm_shares_rows(pass, (int)workers)) {
        if (step < workers * LEAST_PRODUCTS_PER_BARRIER)
            workers = step / LEAST_PRODUCTS_PER_BARRIER;
        if (workers > most)
            workers = most;
    }
    return workers < 1 ? 1 : (int)workers;
}

/* `passes` passes of about this size are one task. */
static inline int lstm_wakes(const lstm_pass *pass, int passes)
{
    return passes * lstm_products_of_a_step(pass) * (double)pass->steps >= LEAST_PRODUCTS_TO_WAKE;
}

/* Threads that share the units of a step wait for each other, and threads that share the rows do
 * not; weights that two caches hold together and one does not are better shared. */
static inline int lstm_prefers_company(const lstm_pass *pass)
{
    return !lstm_shares_rows(pass, 2) && lstm_weight_bytes(pass) <= (double)get_caches().second &&
           lstm_products_of_a_step(pass) * (double)pass->steps >= LEAST_PRODUCTS_PER_WORKER &&
           pool_threads() > 1;
}

/* Steps of a block of a stack of passes: enough to hide what finding the next one takes, and what
 * its weights take that come back from another core's cache, but blocks enough that the first and
 * the last ones, which some threads wait for, do not weigh. */
static inline ptrdiff_t lstm_stack_block(const lstm_pass *pass)
{
    enum { MOST = 16, LEAST = 4, BLOCKS = 8 };
    const ptrdiff_t block = pass->steps / BLOCKS;
    return block > MOST ? MOST : block < LEAST ? LEAST : block;
}

/* Passes that run side by side meet once a block and not once a step, and need not have units
 * enough for all threads; but every thread reads the weights of every pass. While a core's cache
 * holds these together, that wins; with more of them each thread had better have a part of every
 * layer that stays in its own cache. T = 200, F = 64, two threads, in times as fast as one thread,
 * sharing the units of a layer and side by side (AVX-512, 2 MiB of second-level cache):
 *
 *     layers, H, B    2,64,1     3,64,1     3,64,4     2,128,1    3,128,1    3,128,4    4,128,4
 *     by units        1.0        1.0        1.1        1.3        1.4        1.5        1.4
 *     side by side    1.7        1.8        1.9        1.7        1.8        1.9        1.8
 *
 *     layers, H, B    2,256,1    3,256,1    4,256,1    2,256,4    3,256,4    2,512,1    3,512,1
 *     by units        1.7        1.75       1.75       2.1        2.4        3.2        3.2
 *     side by side    1.5        1.6        1.6        1.5        1.9        1.6        1.8
 *
 * With more threads for a layer than there are layers, some would have nothing to do. */
static inline int lstm_prefers_wavefront(lstm_forward *const *passes, int count)
{
    enum { LEAST_BLOCKS = 4 };
    const int threads = pool_threads();
    double bytes = 0, products = 0;
    if (threads < 2 || count < 2 || count > WAVEFRONT_MOST_ROWS ||
        passes[0]->pass.steps < LEAST_BLOCKS * lstm_stack_block(&passes[0]->pass))
        return 0;
    for (int i = 0; i < count; i++) {
        const lstm_pass *const pass = &passes[i]->pass;
        const ptrdiff_t width = ((const TYPED(kernels) *)pass->kernels)->width;
        if (lstm_shares_rows(pass, threads) || lstm_workers(pass, width) > count)
            return 0;
        bytes += lstm_weight_bytes(pass);
        products += lstm_products_of_a_step(pass) * (double)pass->steps;
    }
    return bytes <= (double)get_caches().second && products >= 2.0 * LEAST_PRODUCTS_PER_WORKER;
}

/* Whether a step does both products, or x kernel is made for blocks of steps at a time. With a tile
 * of rows a step has work enough for each weight that it reads from a worker's own cache. Weights
 * from further away are better read once a block: in every step, 4,25,512,512 takes 1.3 (AVX2) to
 * 1.5 times (AVX-512) as long. With AVX2 24 rows hide the reading; what AVX-512 does in the same
 * time hides it never: 32,100,512,512 takes 1.15 times as long, 64,50,512,512 1.07 times. */
static inline int lstm_does_both_products(const lstm_pass *pass)
{
    enum { ROWS_OF_A_TILE = 4, ROWS_THAT_HIDE_READING = 24, WIDE_VECTOR = 64 };
    const int workers = pass->workers, by_rows = lstm_shares_rows(pass, workers);
    const ptrdiff_t rows = by_rows ? pass->batch / workers : pass->batch;
    const double bytes = lstm_weight_bytes(pass) / (by_rows ? 1 : workers);
    const size_t vector = (size_t)((const TYPED(kernels) *)pass->kernels)->width * sizeof(real);
    if (bytes <= (double)get_caches().second)
        return rows >= ROWS_OF_A_TILE;
    return rows >= ROWS_THAT_HIDE_READING && vector < WIDE_VECTOR;
}

/* Elements of x kernel of a block. Written and read once each, they need not stay in second-level
 * cache; longer blocks read x kernel's weights less often. */
static inline ptrdiff_t lstm_block_elements(void)
{
    return 2 * get_caches().second / (ptrdiff_t)sizeof(real);
}

/* Rows of a block of the backward pass: few enough that dz stays in second-level cache; weight
 * gradients that do not, and are loaded and stored once a block, weigh more. Sums begin with
 * blocks, so this is the same on every machine. */
static inline ptrdiff_t lstm_backward_rows(const lstm_pass *pass)
{
    enum { ROWS = 256, ROWS_OF_MANY_WEIGHTS = 1024, MANY_WEIGHTS = 1 << 20 };
    return lstm_weight_bytes(pass) > (double)sizeof(real) * MANY_WEIGHTS ? ROWS_OF_MANY_WEIGHTS
                                                                         : ROWS;
}

/* ---- dense ---------------------------------------------------------------------------------- */

/* Kernels of so few columns would leave most of a micro-panel empty: each output is a product of
 * two rows instead, of x and of the transposed kernel. */
enum { NARROW = 4 };

static inline int dense_is_narrow(ptrdiff_t units) { return units <= NARROW; }

/* Whether a forward pass is worth packing for, if the kernel has served `rows` rows so far. */
static inline int dense_wants_packed(ptrdiff_t units, double rows)
{
    return dense_is_narrow(units) || rows >= ROWS_WORTH_PACKING;
}

/* Whether a backward pass wants the kernel packed, by its rows alone: the two sums differ in their
 * order. */
static inline int dense_wants_transposed(const dense_pass *pass)
{
    return dense_is_narrow(pass->units) || pass->rows >= ROWS_WORTH_PACKING;
}

/* Rows of a forward block, which share what they read of the weights. */
enum { FORWARD_ROWS = 96 };

/* Rows of a backward block: as many as leave dz and the inputs in second-level cache, but not so
 * few that loading and storing the weight gradients once a block weighs, and with many weights,
 * which come from further away, all of them, so that they come once. Sums begin with blocks, so
 * this is the same on every machine. */
enum {
    LEAST_BACKWARD_ROWS = 48,
    MOST_BACKWARD_ROWS = 256,
    BACKWARD_BYTES = 1 << 19,
    MANY_DENSE_WEIGHTS = 1 << 18,
};

static inline ptrdiff_t dense_backward_rows(const dense_pass *pass)
{
    const ptrdiff_t row_bytes = (pass->features + pass->units) * (ptrdiff_t)sizeof(real);
    const ptrdiff_t fit = BACKWARD_BYTES / row_bytes;
    const int many = (double)pass->features * (double)pass->units > MANY_DENSE_WEIGHTS;
    const ptrdiff_t rows = many || fit > MOST_BACKWARD_ROWS ? MOST_BACKWARD_ROWS
                           : fit < LEAST_BACKWARD_ROWS      ? LEAST_BACKWARD_ROWS
                                                            : fit;
    return rows < pass->rows ? rows : pass->rows;
}

/* Whether a weight gradient that fills micro-panels with so many elements less, turned, is worth
 * turning it back. */
static inline int dense_turns_gradient(ptrdiff_t turned, ptrdiff_t straight)
{
    return turned < straight - straight / 4;
}

/* By what they take: of a narrow kernel, each twice as long. */
static inline double dense_products(const dense_pass *pass, int products)
{
    const double all = (double)pass->rows * (double)pass->features * (double)pass->units;
    return (dense_is_narrow(pass->units) ? 2 : 1) * products * all;
}

/* With so many rows for each, workers take rows rather than columns. */
static inline int dense_shares_rows(const dense_pass *pass, int workers)
{
    enum { ROWS_OF_A_TILE = 4 };
    return pass->rows >= (ptrdiff_t)ROWS_OF_A_TILE * workers;
}

/* How many threads suit a pass of so many products. */
static inline int dense_workers(const dense_pass *pass, int products)
{
    const ptrdiff_t nr = ((const TYPED(kernels) *)pass->kernels)->nr;
    const double most = dense_products(pass, products) / LEAST_PRODUCTS_PER_WORKER;
    if (most < 2)
        return 1;
    const ptrdiff_t panels = (pass->units + nr - 1) / nr;
    int workers = pool_threads();
    if (workers > most)
        workers = (int)most;
    if (!dense_shares_rows(pass, workers) && workers > panels)
        workers = (int)panels;
    return workers < 1 ? 1 : workers;
}

static inline int dense_wakes(const dense_pass *pass, int products)
{
    return dense_products(pass, products) >= LEAST_PRODUCTS_TO_WAKE;
}

#endif
