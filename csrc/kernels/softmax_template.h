/* SPDX-License-Identifier: MIT
 * Softmax over a row, part of kernels_template.h.
 */

static real largest_of(ptrdiff_t n, const real *x)
{
    real largest = x[0];
    ptrdiff_t p = 0;
    if (n >= VEC_WIDTH) {
        vec lanes = vec_load(x);
        for (p = VEC_WIDTH; p + VEC_WIDTH <= n; p += VEC_WIDTH)
            lanes = vec_max(lanes, vec_load(x + p));
        largest = vec_largest(lanes);
    }
    for (; p < n; p++)
        largest = x[p] > largest ? x[p] : largest;
    return largest;
}

/* One row: y = e^(x - max x) / sum; y may be x. The largest term is 1, so the sum is at least 1. */
static void softmax_forward(ptrdiff_t n, const real *x, real *y)
{
    const vec largest = vec_set1(largest_of(n, x));
    vec sums = vec_set1(0);
    for (ptrdiff_t p = 0; p < n; p += VEC_WIDTH) {
        const ptrdiff_t count = n - p < VEC_WIDTH ? n - p : VEC_WIDTH;
        store(y + p, count, vec_exp_minus(vec_sub(largest, load(x + p, count))));
        sums = vec_add(sums, load(y + p, count));
    }
    const vec sum = vec_set1(vec_sum(sums));
    for (ptrdiff_t p = 0; p < n; p += VEC_WIDTH) {
        const ptrdiff_t count = n - p < VEC_WIDTH ? n - p : VEC_WIDTH;
        store(y + p, count, vec_div(load(y + p, count), sum));
    }
}

/* One row: dx = y * (dy - sum(y * dy)). */
static void softmax_backward(ptrdiff_t n, const real *y, const real *dy, real *dx)
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
