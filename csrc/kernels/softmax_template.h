/* SPDX-License-Identifier: MIT
 * Softmax over rows and its gradient, part of kernels_template.h.
 */

/* y = e^(x - max x) / sum, row by row; y may be x. The largest term is 1, so the sum is at least 1.
 *
 * A row is mostly a chain of dependent operations, so the CPU must work on the next ones meanwhile.
 * It does not where they seem to load what was just stored, as beside every masked store. */
enum { SHORT_ROWS = MOST_AT_ONCE };

/* From later_lanes + k on: 1 in the last k lanes. */
static const real later_lanes[2 * VEC_WIDTH] = {[VEC_WIDTH... 2 * VEC_WIDTH - 1] = 1};

/* A row of at least one vector: the last one takes part in the one before if it must to be whole.
 */
static void softmax_long_row(ptrdiff_t n, const real *x, real *y)
{
    const ptrdiff_t rest = n % VEC_WIDTH, whole = n - rest, last = n - VEC_WIDTH;
    const vec last_x = vec_load(x + last);
    vec lanes = last_x, sums = vec_set1(0);
    for (ptrdiff_t p = 0; p < whole; p += VEC_WIDTH)
        lanes = vec_max(lanes, vec_load(x + p));
    const vec largest = vec_set1(vec_largest(lanes));
    for (ptrdiff_t p = 0; p < whole; p += VEC_WIDTH) {
        const vec e = vec_exp_minus(vec_sub(largest, vec_load(x + p)));
        vec_store(y + p, e);
        sums = vec_add(sums, e);
    }
    const vec last_e = vec_exp_minus(vec_sub(largest, last_x));
    sums = vec_fma(last_e, vec_load(later_lanes + rest), sums);
    const vec sum = vec_set1(vec_sum(sums));
    for (ptrdiff_t p = 0; p < whole; p += VEC_WIDTH)
        vec_store(y + p, vec_div(vec_load(y + p), sum));
    vec_store(y + last, vec_div(last_e, sum));
}

/* Some rows of less than one vector, side by side. */
ALWAYS_INLINE void softmax_short_rows(const int rows, ptrdiff_t n, const real *x, real *y)
{
    vec e[SHORT_ROWS];
    VEC_UNROLL for (int r = 0; r < rows; r++) e[r] =
        vec_load_tail_or(x + r * n, n, vec_set1(-(real)INFINITY));
    VEC_UNROLL for (int r = 0; r < rows; r++) e[r] = vec_sub(vec_set1(vec_largest(e[r])), e[r]);
    vec_exp_minus_of(rows, e, e);
    VEC_UNROLL for (int r = 0; r < rows; r++)
        vec_store_tail(y + r * n, n, vec_div(e[r], vec_set1(vec_sum(e[r]))));
}

static void softmax_forward(ptrdiff_t rows, ptrdiff_t n, const real *x, real *y)
{
    const ptrdiff_t at_once = n < VEC_WIDTH ? SHORT_ROWS : 1;
    ptrdiff_t r = 0;
    for (; r + at_once <= rows; r += at_once)
        if (n < VEC_WIDTH)
            softmax_short_rows(SHORT_ROWS, n, x + r * n, y + r * n);
        else
            softmax_long_row(n, x + r * n, y + r * n);
    for (; r < rows; r++)
        softmax_short_rows(1, n, x + r * n, y + r * n);
}

/* dx = y * (dy - sum(y * dy)), one row. */
static void softmax_backward_row(ptrdiff_t n, const real *y, const real *dy, real *dx)
{
    vec sums = vec_set1(0);
    for (ptrdiff_t p = 0; p < n; p += VEC_WIDTH) {
        const ptrdiff_t count = n - p < VEC_WIDTH ? n - p : VEC_WIDTH;
        sums = vec_fma(load(y + p, count), load(dy + p, count), sums);
    }
    const vec dot = vec_set1(vec_sum(sums));
    for (ptrdiff_t p = 0; p < n; p += VEC_WIDTH) {
        const ptrdiff_t count = n - p < VEC_WIDTH ? n - p : VEC_WIDTH;
        store(dx + p, count, vec_mul(load(y + p, count), vec_sub(load(dy + p, count), dot)));
    }
}

static void softmax_backward(ptrdiff_t rows, ptrdiff_t n, const real *y, const real *dy, real *dx)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        softmax_backward_row(n, y + r * n, dy + r * n, dx + r * n);
}
