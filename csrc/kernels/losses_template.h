/* SPDX-License-Identifier: MIT
 * Losses of whole rows and their gradients in one pass over memory, and the pass over all rows,
 * part of kernels_template.h. What a function of a row does, element_losses_template.h says.
 */
#include "kernels/element_losses_template.h"

/* ---- cross-entropies of whole rows ---------------------------------------------------------- */

ALWAYS_INLINE double sum_of(ptrdiff_t n, const real *x)
{
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* -sum t log s for the shares s = p / sum p.
 *
 * The loss comes first, with a logarithm for each target that is not 0, one a row where targets are
 * one-hot; the gradient then finds the row in cache. Of s it is -t / s, which leaves -t of the
 * product with s that the division asks for. */
LOSS_OF_ROW(categorical)
{
    const real *restrict t = targets;
    const real total = (real)sum_of(n, p), factor = (real)scale;
    double loss = 0, counted = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const real target = numbers->keep * t[i] + numbers->shift, share = p[i] / total;
        if (target != 0) {
            loss -= target * log_of(kept_inside(share));
            counted += is_inside(share) ? target : 0;
        }
    }
    for (ptrdiff_t i = 0; gradient && i < n; i++) {
        const real target = numbers->keep * t[i] + numbers->shift, share = p[i] / total;
        const real slope = is_inside(share) ? -target / share : 0;
        gradient[i] = factor * ((slope + (real)counted) / total);
    }
    return loss;
}

LOSS_OF_ROW(sparse)
{
    (void)numbers;
    const ptrdiff_t label = *(const ptrdiff_t *)targets;
    const real total = (real)sum_of(n, p), share = p[label] / total, factor = (real)scale;
    if (gradient) {
        const real counted = is_inside(share) ? 1 : 0 * share;
        const real each = factor * (counted / total);
        for (ptrdiff_t i = 0; i < n; i++)
            gradient[i] = each;
        gradient[label] = factor * ((counted - (is_inside(share) ? 1 / share : 0)) / total);
    }
    return -log_of(kept_inside(share));
}

/* For p that a softmax has made of z: -sum t log p, dz = p sum(t) - t. */
LOSS_OF_ROW(categorical_fused)
{
    const real *restrict t = targets;
    const real keep = numbers->keep, shift = numbers->shift, factor = (real)scale;
    double loss = 0, sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const real target = keep * t[i] + shift;
        if (target != 0) {
            loss -= target * log_of(kept_inside(p[i]));
            sum += target;
        }
    }
    const real total = (real)sum;
    for (ptrdiff_t i = 0; gradient && i < n; i++)
        gradient[i] = factor * (total * p[i] - (keep * t[i] + shift));
    return loss;
}

LOSS_OF_ROW(sparse_fused)
{
    (void)numbers;
    const ptrdiff_t label = *(const ptrdiff_t *)targets;
    const real factor = (real)scale;
    for (ptrdiff_t i = 0; gradient && i < n; i++)
        gradient[i] = factor * p[i];
    if (gradient)
        gradient[label] = factor * (p[label] - 1);
    return -log_of(kept_inside(p[label]));
}

ALWAYS_INLINE real largest_of(ptrdiff_t n, const real *x)
{
    real largest = x[0];
    for (ptrdiff_t i = 1; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

/* The sum of e^(z - largest), each of which is left in `e` unless that is NULL. */
ALWAYS_INLINE real sum_of_exponentials(ptrdiff_t n, const real *z, real largest, real *e)
{
    const vec highest = vec_set1(largest), lowest = vec_set1(-(real)INFINITY);
    vec sums = vec_set1(0);
    for (ptrdiff_t i = 0; i < n; i += VEC_WIDTH) {
        const ptrdiff_t count = n - i < VEC_WIDTH ? n - i : VEC_WIDTH;
        const vec x = count == VEC_WIDTH ? vec_load(z + i) : vec_load_tail_or(z + i, count, lowest);
        const vec found = vec_exp_minus(vec_sub(highest, x));
        sums = vec_add(sums, found);
        if (e)
            store(e + i, count, found);
    }
    return vec_sum(sums);
}

LOSS_OF_ROW(categorical_logits)
{
    const real *restrict t = targets;
    const real keep = numbers->keep, shift = numbers->shift, factor = (real)scale;
    const real largest = largest_of(n, p), sum = sum_of_exponentials(n, p, largest, gradient);
    const real log_sum = log_of(sum);
    double loss = 0, total = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const real target = keep * t[i] + shift;
        if (target != 0) {
            loss -= target * ((p[i] - largest) - log_sum);
            total += target;
        }
    }
    const real share = (real)total / sum;
    for (ptrdiff_t i = 0; gradient && i < n; i++)
        gradient[i] = factor * (share * gradient[i] - (keep * t[i] + shift));
    return loss;
}

LOSS_OF_ROW(sparse_logits)
{
    (void)numbers;
    const ptrdiff_t label = *(const ptrdiff_t *)targets;
    const real factor = (real)scale;
    const real largest = largest_of(n, p), sum = sum_of_exponentials(n, p, largest, gradient);
    const real share = 1 / sum;
    if (gradient) {
        const real at_label = share * gradient[label];
        for (ptrdiff_t i = 0; i < n; i++)
            gradient[i] = factor * (share * gradient[i]);
        gradient[label] = factor * (at_label - 1);
    }
    return -((p[label] - largest) - log_of(sum));
}

/* ---- others --------------------------------------------------------------------------------- */

/* sum t log(t / p), both kept within 1e-7 and 1. */
LOSS_OF_ROW(kl_divergence)
{
    (void)numbers;
    const real *restrict t = targets;
    const real factor = (real)scale;
    double loss = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const real low = LOWEST_PROBABILITY;
        const real target = t[i] < low ? low : t[i] > 1 ? 1 : t[i];
        const real within = p[i] < low ? low : p[i] > 1 ? 1 : p[i];
        loss += target * log_of(target / within);
        if (gradient)
            gradient[i] = within == p[i] ? -factor * (target / within) : 0;
    }
    return loss;
}

ALWAYS_INLINE double inverse_norm(ptrdiff_t n, const real *x)
{
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    const double inverse = 1 / sqrt(sum);
    return inverse > 1e7 ? 1e7 : inverse;
}

/* -cos of the angle between t and p. A norm that is too small to divide by stands for a constant.
 */
LOSS_OF_ROW(cosine)
{
    (void)numbers;
    const real *restrict t = targets;
    const double of_t = inverse_norm(n, t), of_p = inverse_norm(n, p);
    double along = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        along += of_t * t[i] * (of_p * p[i]);
    const double turned = of_p < 1e7 ? along : 0;
    for (ptrdiff_t i = 0; gradient && i < n; i++)
        gradient[i] = (real)(-scale * of_p * (of_t * t[i] - turned * (of_p * p[i])));
    return -along;
}

/* Where the largest is, or the first NaN, as NumPy says. */
ALWAYS_INLINE ptrdiff_t place_of_largest(ptrdiff_t n, const real *x)
{
    ptrdiff_t place = 0;
    for (ptrdiff_t i = 1; i < n && x[place] == x[place]; i++)
        if (!(x[i] <= x[place]))
            place = i;
    return place;
}

ALWAYS_INLINE double is_among(ptrdiff_t n, ptrdiff_t label, const real *p, real k)
{
    ptrdiff_t larger = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        larger += p[i] > p[label];
    return p[label] == p[label] && larger < k;
}

#define METRIC_OF_ROW(name, value)                  \
    LOSS_OF_ROW(name)                               \
    {                                               \
        (void)numbers, (void)scale, (void)gradient; \
        return value;                               \
    }
#define LABEL (*(const ptrdiff_t *)targets)

METRIC_OF_ROW(categorical_accuracy, place_of_largest(n, targets) == place_of_largest(n, p))
METRIC_OF_ROW(sparse_accuracy, LABEL == place_of_largest(n, p))
METRIC_OF_ROW(top_k, is_among(n, place_of_largest(n, targets), p, numbers->parameter))
METRIC_OF_ROW(sparse_top_k, is_among(n, LABEL, p, numbers->parameter))

/* ---- all rows ------------------------------------------------------------------------------- */

static const loss_of_row losses_of_rows[LOSS_COUNT] = {
    [LOSS_SQUARED] = squared_sum,
    [LOSS_ABSOLUTE] = absolute_sum,
    [LOSS_HUBER] = huber_sum,
    [LOSS_LOG_COSH] = log_cosh_sum,
    [LOSS_BINARY] = binary_sum,
    [LOSS_BINARY_LOGITS] = binary_logits_sum,
    [LOSS_BINARY_FUSED] = binary_fused_sum,
    [METRIC_BINARY_ACCURACY] = binary_accuracy_sum,
    [LOSS_CATEGORICAL] = categorical,
    [LOSS_CATEGORICAL_LOGITS] = categorical_logits,
    [LOSS_CATEGORICAL_FUSED] = categorical_fused,
    [LOSS_KL_DIVERGENCE] = kl_divergence,
    [LOSS_COSINE] = cosine,
    [METRIC_CATEGORICAL_ACCURACY] = categorical_accuracy,
    [METRIC_TOP_K] = top_k,
    [LOSS_SPARSE] = sparse,
    [LOSS_SPARSE_LOGITS] = sparse_logits,
    [LOSS_SPARSE_FUSED] = sparse_fused,
    [METRIC_SPARSE_ACCURACY] = sparse_accuracy,
    [METRIC_SPARSE_TOP_K] = sparse_top_k,
};

static void run_losses(loss_pass *pass)
{
    const loss_of_row function = losses_of_rows[pass->kind];
    const int is_mean = pass->kind < LOSS_ROWS, has_labels = pass->kind >= LOSS_LABELS;
    const double *const weights = pass->weights;
    const double length = is_mean && pass->n > 0 ? (double)pass->n : 1;
    const double smoothing = pass->label_smoothing, spread = is_mean ? 2 : (double)pass->n;
    const loss_numbers numbers = {(real)(1 - smoothing),
                                  smoothing > 0 ? (real)(smoothing / spread) : 0,
                                  (real)pass->parameter};
    real *const losses = pass->losses;
    ptrdiff_t rows = pass->rows, n = pass->n;
    if (is_mean && !weights && !losses) {
        /* All elements count alike: they are one long row, which keeps the vectors full. */
        n *= rows;
        rows = 1;
    }
    const size_t of_targets = has_labels ? sizeof(ptrdiff_t) : (size_t)n * sizeof(real);
    const char *targets = pass->targets;
    const real *p = pass->predictions;
    real *gradient = pass->gradient;
    double total = 0;
    for (ptrdiff_t row = 0; row < rows; row++, targets += of_targets, p += n) {
        const double weight = weights ? weights[row] : 1;
        double loss = 0;
        if (weight != 0)
            loss = weight *
                   function(n, targets, p, &numbers, weight / (pass->divisor * length), gradient);
        else if (gradient)
            memset(gradient, 0, (size_t)n * sizeof(real));
        total += loss;
        if (losses)
            losses[row] = (real)(loss / length);
        if (gradient)
            gradient += n;
    }
    pass->total = total / length;
}
