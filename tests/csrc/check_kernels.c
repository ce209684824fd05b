/* SPDX-License-Identifier: MIT
 * Products, packing and softmax of csrc/ on every instruction set of this machine, in every shape
 * of a tile, against plain loops.
 *
 * A product is one sum in the order of k, so it must be the loop's to the bit; that of gemm_bt, and
 * those of softmax, which are sums over lanes, nearly. Every array is just as long as it must be,
 * and behind each output stand numbers that nobody may touch: tools/check_csrc.sh runs it under the
 * address and undefined-behaviour sanitizers, where the compiler has them. Define FASTLSTM_DOUBLE.
 */
#include "kernels/dispatch.h"
#include "layers/pack.h"
#include "problems.h"

#include <math.h>
#include <stdio.h>

typedef TYPED(kernels) table_of_kernels;
typedef TYPED(gemm_term) term_of_gemm;

enum { GUARD = 2 * MOST_WIDTH };
#define GUARD_VALUE ((real)12345)

static const table_of_kernels *kernels;
static const char *isa_name;
static int is_fused, failures, runs;

static void report(int is_wrong, const char *what, ptrdiff_t rows, ptrdiff_t columns,
                   ptrdiff_t depth)
{
    if (is_wrong)
        printf("%s f%zu %s, %td rows, %td columns, depth %td  WRONG\n", isa_name, 8 * sizeof(real),
               what, rows, columns, depth);
    failures += is_wrong;
    runs++;
}

/* a * b + c as the instruction set rounds it. */
static real add_product(real a, real b, real c)
{
    const real product = a * b;
    return is_fused ? LIBM(fma)(a, b, c) : product + c;
}

/* ---- arrays of exactly that length ---------------------------------------------------------- */

static real *exact(size_t count)
{
    real *const p = malloc(count * sizeof(real));
    for (size_t i = 0; i < count; i++)
        p[i] = (real)uniform();
    return p;
}

/* With numbers behind that must stay. */
static real *guarded(size_t count)
{
    real *const p = exact(count + GUARD);
    for (size_t i = count; i < count + GUARD; i++)
        p[i] = GUARD_VALUE;
    return p;
}

static int is_touched(const real *p, size_t count)
{
    for (size_t i = count; i < count + GUARD; i++)
        if (p[i] != GUARD_VALUE)
            return 1;
    return 0;
}

static int differ(const real *got, const real *want, size_t count)
{
    return memcmp(got, want, count * sizeof(real)) != 0;
}

static int is_far(double got, double want, double size)
{
    return !(fabs(got - want) <= (sizeof(real) == 4 ? 4e-7 : 1e-15) * size);
}

/* ---- packing -------------------------------------------------------------------------------- */

static ptrdiff_t padded(ptrdiff_t columns)
{
    return (columns + kernels->width - 1) / kernels->width * kernels->width;
}

/* Where element (k, column) of a packed matrix is, as kernels.h tells. */
static ptrdiff_t place_in_panels(ptrdiff_t depth, ptrdiff_t columns, ptrdiff_t k, ptrdiff_t column)
{
    const ptrdiff_t first = column / kernels->nr * kernels->nr, left = padded(columns) - first;
    return first * depth + k * (left < kernels->nr ? left : kernels->nr) + column - first;
}

/* The plain matrix (depth, columns) in micro-panels, filled up with zeros. */
static real *panels_of(const real *plain, ptrdiff_t depth, ptrdiff_t columns)
{
    real *const panels = calloc(padded(columns) * depth, sizeof(real));
    for (ptrdiff_t k = 0; k < depth; k++)
        for (ptrdiff_t j = 0; j < columns; j++)
            panels[place_in_panels(depth, columns, k, j)] = plain[k * columns + j];
    return panels;
}

/* Of `groups` groups, a vector's worth of columns of each in turn, then what is left of each. */
static real *in_turn(const real *plain, ptrdiff_t depth, int groups, ptrdiff_t count)
{
    const ptrdiff_t columns = groups * count, width = kernels->width;
    real *const mixed = malloc(depth * columns * sizeof(real));
    for (ptrdiff_t k = 0; k < depth; k++)
        for (ptrdiff_t first = 0, to = 0; first < count; first += width) {
            const ptrdiff_t wide = count - first < width ? count - first : width;
            for (int group = 0; group < groups; group++)
                for (ptrdiff_t j = 0; j < wide; j++)
                    mixed[k * columns + to++] = plain[k * columns + group * count + first + j];
        }
    return mixed;
}

static void check_packing(ptrdiff_t depth, int groups, ptrdiff_t count)
{
    const ptrdiff_t columns = groups * count, size = padded(columns) * depth;
    real *const plain = exact(depth * columns), *const packed = guarded(size);
    real *const mixed = in_turn(plain, depth, groups, count);
    real *const want = panels_of(mixed, depth, columns);
    packing->groups(kernels, depth, groups, count, plain, packed);
    report(packing->size(kernels, depth, columns) != size || differ(packed, want, size) ||
               is_touched(packed, size),
           groups == 1 ? "columns packed" : "gates packed", depth, count, depth);
    free(plain), free(packed), free(mixed), free(want);
}

static void check_transposed(ptrdiff_t depth, ptrdiff_t columns)
{
    const ptrdiff_t size = padded(columns) * depth;
    real *const plain = exact(depth * columns), *const packed = guarded(size);
    real *const turned = malloc(depth * columns * sizeof(real));
    for (ptrdiff_t k = 0; k < depth; k++)
        for (ptrdiff_t j = 0; j < columns; j++)
            turned[k * columns + j] = plain[j * depth + k];
    real *const want = panels_of(turned, depth, columns);
    packing->transposed(kernels, depth, columns, plain, packed);
    report(differ(packed, want, size) || is_touched(packed, size), "transposed", depth, columns,
           depth);
    free(plain), free(packed), free(turned), free(want);
}

/* ---- products ------------------------------------------------------------------------------- */

enum start_of_sums { FROM_ZERO, FROM_START, FROM_OUTPUT };

/* One or two terms of different depths, beginning with column `first` of what they write. */
static void check_gemm(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t first, ptrdiff_t depth,
                       int terms, enum start_of_sums from)
{
    const ptrdiff_t width = first + columns, depths[2] = {depth, depth + 2};
    real *a[2], *plain[2], *panels[2], *const start = exact(rows * width);
    real *const out = guarded(rows * width), *const want = malloc(rows * width * sizeof(real));
    const real *a_rows[2][MOST_MR], *start_rows[MOST_MR];
    real *out_rows[MOST_MR];
    term_of_gemm all[2];
    for (int t = 0; t < 2; t++) {
        a[t] = exact(rows * depths[t]);
        plain[t] = exact(depths[t] * columns);
        panels[t] = panels_of(plain[t], depths[t], columns);
        for (ptrdiff_t r = 0; r < rows; r++)
            a_rows[t][r] = a[t] + r * depths[t];
        all[t] = (term_of_gemm){depths[t], a_rows[t], panels[t]};
    }
    memcpy(want, out, rows * width * sizeof(real));
    for (ptrdiff_t r = 0; r < rows; r++) {
        out_rows[r] = out + r * width;
        start_rows[r] = from == FROM_OUTPUT ? out_rows[r] : start + r * width;
        for (ptrdiff_t j = 0; j < columns; j++) {
            real sum = from == FROM_ZERO ? 0 : start_rows[r][first + j];
            for (int t = 0; t < terms; t++)
                for (ptrdiff_t k = 0; k < depths[t]; k++)
                    sum = add_product(a_rows[t][r][k], plain[t][k * columns + j], sum);
            want[r * width + first + j] = sum;
        }
    }
    kernels->gemm(rows, terms, all, from == FROM_ZERO ? 0 : start_rows, out_rows,
                  (column_run){first, columns});
    report(differ(out, want, rows * width) || is_touched(out, rows * width), "gemm", rows, columns,
           depth);
    for (int t = 0; t < 2; t++)
        free(a[t]), free(plain[t]), free(panels[t]);
    free(start), free(out), free(want);
}

static void check_gemm_at(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, int fresh)
{
    const ptrdiff_t stride = columns + 3;
    real *const a = exact(depth * rows), *const plain = exact(depth * columns);
    real *const panel = panels_of(plain, depth, columns), *const c = guarded(rows * stride);
    real *const want = malloc(rows * stride * sizeof(real));
    memcpy(want, c, rows * stride * sizeof(real));
    for (ptrdiff_t f = 0; f < rows; f++)
        for (ptrdiff_t j = 0; j < columns; j++) {
            real sum = 0;
            for (ptrdiff_t k = 0; k < depth; k++)
                sum = add_product(a[k * rows + f], plain[k * columns + j], sum);
            want[f * stride + j] = fresh ? sum : want[f * stride + j] + sum;
        }
    kernels->gemm_at(rows, columns, depth, a, panel, fresh, c, stride);
    report(differ(c, want, rows * stride) || is_touched(c, rows * stride), "gemm_at", rows, columns,
           depth);
    free(a), free(plain), free(panel), free(c), free(want);
}

/* Nearly the loop's, and the same bits as row by row and column by column. */
static void check_gemm_bt(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, int has_start)
{
    real *const a = exact(rows * depth), *const b = exact(columns * depth);
    real *const start = exact(columns), *const out = guarded(rows * columns);
    const real *a_rows[MOST_MR];
    real *out_rows[MOST_MR];
    int is_wrong = 0;
    for (ptrdiff_t r = 0; r < rows; r++)
        a_rows[r] = a + r * depth, out_rows[r] = out + r * columns;
    kernels->gemm_bt(rows, columns, depth, a_rows, b, has_start ? start : 0, out_rows);
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t j = 0; j < columns; j++) {
            real alone, *const to = &alone;
            double sum = has_start ? start[j] : 0;
            for (ptrdiff_t k = 0; k < depth; k++)
                sum += (double)a_rows[r][k] * b[j * depth + k];
            kernels->gemm_bt(1, 1, depth, a_rows + r, b + j * depth, has_start ? start + j : 0,
                             &to);
            is_wrong |= is_far(out_rows[r][j], sum, 1 + (double)depth) || alone != out_rows[r][j];
        }
    report(is_wrong || is_touched(out, rows * columns), "gemm_bt", rows, columns, depth);
    free(a), free(b), free(start), free(out);
}

static void check_gemv(ptrdiff_t depth, ptrdiff_t width)
{
    real *const a = exact(depth), *const b = exact(depth * width), *const y = guarded(width);
    real *const want = malloc(width * sizeof(real));
    for (ptrdiff_t j = 0; j < width; j++) {
        want[j] = y[j];
        for (ptrdiff_t k = 0; k < depth; k++)
            want[j] = add_product(a[k], b[k * width + j], want[j]);
    }
    kernels->gemv(depth, width, a, b, y);
    report(differ(y, want, width) || is_touched(y, width), "gemv", 1, width, depth);
    free(a), free(b), free(y), free(want);
}

/* ---- softmax -------------------------------------------------------------------------------- */

/* Of every row the largest one, which would overflow, in another place. */
static void check_softmax(ptrdiff_t rows, ptrdiff_t n)
{
    real *const x = exact(rows * n), *const y = guarded(rows * n);
    real *const dy = exact(rows * n), *const dx = guarded(rows * n);
    int is_wrong = 0;
    for (ptrdiff_t r = 0; r < rows; r++) {
        for (ptrdiff_t p = r * n; p < (r + 1) * n; p++)
            x[p] = 6 * x[p] + 1000;
        x[r * n + r % n] = 1005;
    }
    kernels->softmax_forward(rows, n, x, y);
    kernels->softmax_backward(rows, n, y, dy, dx);
    for (ptrdiff_t r = 0; r < rows; r++) {
        double sum = 0, dot = 0;
        for (ptrdiff_t p = r * n; p < (r + 1) * n; p++)
            sum += exp((double)x[p] - 1005);
        for (ptrdiff_t p = r * n; p < (r + 1) * n; p++) {
            is_wrong |= is_far(y[p], exp((double)x[p] - 1005) / sum, 1);
            dot += (double)y[p] * dy[p];
        }
        for (ptrdiff_t p = r * n; p < (r + 1) * n; p++)
            is_wrong |= is_far(dx[p], y[p] * (dy[p] - dot), 1);
    }
    kernels->softmax_forward(rows, n, x, x);
    is_wrong |= differ(x, y, rows * n);
    report(is_wrong || is_touched(y, rows * n) || is_touched(dx, rows * n), "softmax", rows, n, 0);
    free(x), free(y), free(dy), free(dx);
}

/* ---- all of them ---------------------------------------------------------------------------- */

static void check_all(void)
{
    static const ptrdiff_t depths[] = {1, 2, 9, 37};
    const ptrdiff_t nr = kernels->nr, width = kernels->width;
    for (int i = 0; i < 4; i++) {
        const ptrdiff_t depth = depths[i];
        for (ptrdiff_t rows = 1; rows <= kernels->mr; rows++) {
            for (ptrdiff_t columns = 1; columns <= 2 * nr + width + 1; columns++)
                check_gemm(rows, columns, columns % 5, depth, 1 + (int)(columns + i) % 2,
                           (enum start_of_sums)((columns / 2 + i) % 3));
            for (ptrdiff_t columns = 1; columns <= nr; columns++)
                check_gemm_at(rows, columns, depth, (int)(columns + i) % 2);
            for (ptrdiff_t columns = 1; columns <= 19; columns++)
                check_gemm_bt(rows, columns, depth, (int)(columns + i) % 2);
        }
        for (ptrdiff_t columns = 1; columns <= 2 * nr + width + 1; columns++) {
            check_gemv(depth, columns);
            check_packing(depth, 1, columns);
            check_packing(depth, GATES, columns);
            check_transposed(depth, columns);
        }
    }
    for (ptrdiff_t n = 1; n <= 3 * width + 1; n++)
        for (ptrdiff_t rows = 1; rows <= n + 4; rows++)
            check_softmax(rows, n);
}

int main(void)
{
    for (int i = 0; i < ISAS; i++)
        if ((kernels = TYPED(find_kernels)(isas[i].isa))) {
            isa_name = isas[i].name;
            is_fused = isas[i].isa != ISA_BASELINE;
            check_all();
        }
    printf("%d of %d products, packings and softmaxes wrong\n", failures, runs);
    return failures > 0 || runs == 0;
}
