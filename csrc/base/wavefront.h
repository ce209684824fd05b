/* SPDX-License-Identifier: MIT
 * Rows of blocks, each of which needs the block before it and the one above it:
 *
 *     row 0    0 1 2 3        done by two workers, in turn:    A  A  A  A  -  .
 *     row 1    0 1 2 3                                            B  B  B  A
 *     row 2    0 1 2 3                                               ...
 *
 * Whoever is free does the next block that is ready, so the workers of a task wait for each other
 * once a block at most, one that comes late finds less to do, and one alone does all of them.
 */
#ifndef FASTLSTM_WAVEFRONT_H
#define FASTLSTM_WAVEFRONT_H

enum { WAVEFRONT_MOST_ROWS = 64 };

/* The first four are the caller's, the others start as zero. */
typedef struct {
    int rows, blocks;
    /* Does a block of a row; returns whether the others go on. */
    int (*run)(void *argument, int row, int block);
    void *argument;
    int changes, stopped;            /* blocks done so far; whether one said so */
    int states[WAVEFRONT_MOST_ROWS]; /* of rows: twice the blocks done, and 1 where one is running
                                      */
} wavefront;

/* What a worker of a task does: returns when no block is left for it. */
void wavefront_work(wavefront *all, int worker);

#endif
