/* SPDX-License-Identifier: MIT
 * Losses and metrics of rows of predictions: which there are, and what a pass over rows gets.
 */
#ifndef FASTLSTM_LOSSES_H
#define FASTLSTM_LOSSES_H

#include <stddef.h>

/* For targets t and predictions p of a row of n; *losses_template.h have the formulas. Losses have
 * gradients, of p or, as *_FUSED, of what a sigmoid or softmax has made p of; metrics have none. */
enum loss_kind {
    /* Means over the elements of a row. */
    LOSS_SQUARED,
    LOSS_ABSOLUTE,
    LOSS_HUBER, /* parameter: delta */
    LOSS_LOG_COSH,
    LOSS_BINARY,
    LOSS_BINARY_LOGITS,
    LOSS_BINARY_FUSED,
    METRIC_BINARY_ACCURACY, /* parameter: the threshold */
    /* Of whole rows. */
    LOSS_ROWS,
    LOSS_CATEGORICAL = LOSS_ROWS,
    LOSS_CATEGORICAL_LOGITS,
    LOSS_CATEGORICAL_FUSED,
    LOSS_KL_DIVERGENCE,
    LOSS_COSINE,
    METRIC_CATEGORICAL_ACCURACY,
    METRIC_TOP_K, /* parameter: k */
    /* Of whole rows whose target is the number of a class, from 0 to n - 1. */
    LOSS_LABELS,
    LOSS_SPARSE = LOSS_LABELS,
    LOSS_SPARSE_LOGITS,
    LOSS_SPARSE_FUSED,
    METRIC_SPARSE_ACCURACY, /* of any number */
    METRIC_SPARSE_TOP_K,    /* parameter: k */
    LOSS_COUNT
};

/* What happens to every row r: with w = weights[r], and l its loss,
 *
 *     losses[r] = w l     gradient[r] = w / divisor dl/dp[r]     total += w l
 *
 * A row that weighs 0 is not looked at, whatever it holds: its loss and gradient are 0. The total
 * is taken in double and in one order. `real` is the type of the kernels. */
typedef struct {
    int kind;
    ptrdiff_t rows, n;       /* n > 0 for kinds from LOSS_ROWS on */
    const void *targets;     /* real (rows, n); from LOSS_LABELS on ptrdiff_t (rows) */
    const void *predictions; /* real (rows, n) */
    const double *weights;   /* (rows); NULL: 1 for each */
    double divisor;
    double parameter;
    double label_smoothing; /* of the binary and categorical cross-entropies */
    void *losses;           /* OUT real (rows), or NULL */
    void *gradient;         /* OUT real (rows, n), or NULL; neither targets nor predictions */
    double total;           /* OUT */
} loss_pass;

#endif
