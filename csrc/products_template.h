/* SPDX-License-Identifier: MIT
 * The products of one instruction set and one real type (see kernels.h), part of
 * kernels_template.h.
 *
 * A tile of `rows` rows by PANEL_VECTORS vectors of sums stays in registers over the whole depth:
 * each element of a row is broadcast, each vector of the panel is loaded once for all rows. With
 * TILE_ROWS rows (vec_*.h) the sums fill the register file and the loads hide behind the
 * multiplications.
 */

#define UNROLL _Pragma("GCC unroll 8")

typedef vec tile_sums[TILE_ROWS][PANEL_VECTORS];

enum { PANEL_WIDTH = PANEL_VECTORS * VEC_WIDTH };

/* sums[r] += element(r, k) * panel[k], for k in order. Element (r, k) lies at a[r][k] where `a` is
 * given by row, at a[k][first + r] otherwise. */
ALWAYS_INLINE void add_products(const int rows, const int by_row, ptrdiff_t depth,
                                const real *const *a, ptrdiff_t first, const real *panel,
                                tile_sums sums)
{
    const real *row[TILE_ROWS];
    UNROLL for (int r = 0; r < rows; r++) row[r] = by_row ? a[r] : 0;
    for (ptrdiff_t k = 0; k < depth; k++, panel += PANEL_WIDTH) {
        const real *const column = by_row ? 0 : a[k] + first;
        vec weights[PANEL_VECTORS];
        UNROLL for (int v = 0; v < PANEL_VECTORS; v++) weights[v] = vec_load(panel + v * VEC_WIDTH);
        UNROLL for (int r = 0; r < rows; r++)
        {
            const vec value = vec_set1(by_row ? row[r][k] : column[r]);
            UNROLL for (int v = 0; v < PANEL_VECTORS; v++) sums[r][v] =
                vec_fma(value, weights[v], sums[r][v]);
        }
    }
}

/* Vector v of a row of the result; at the ragged edge a vector may lack elements, or all of them.
 */
ALWAYS_INLINE vec load_column(const int whole, const panel_columns *columns, int v, const real *row)
{
    row += columns->first + v * columns->stride;
    if (whole)
        return vec_load(row);
    return columns->counts[v] ? load(row, columns->counts[v]) : vec_set1(0);
}
ALWAYS_INLINE void store_column(const int whole, const panel_columns *columns, int v, real *row,
                                vec sum)
{
    row += columns->first + v * columns->stride;
    if (whole)
        vec_store(row, sum);
    else if (columns->counts[v])
        store(row, columns->counts[v], sum);
}

ALWAYS_INLINE void multiply_tile(const int rows, const int whole, ptrdiff_t depth,
                                 const real *const *a, const real *panel, const real *const *start,
                                 real *const *out, const panel_columns *columns)
{
    tile_sums sums;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
        sums[r][v] = start ? load_column(whole, columns, v, start[r]) : vec_set1(0);
    add_products(rows, 1, depth, a, 0, panel, sums);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
        store_column(whole, columns, v, out[r], sums[r][v]);
}

ALWAYS_INLINE void accumulate_tile(const int rows, ptrdiff_t depth, const real *const *a,
                                   ptrdiff_t first, const real *panel, int fresh, real *sums_out)
{
    tile_sums sums;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
        sums[r][v] = fresh ? vec_set1(0) : vec_load(sums_out + r * PANEL_WIDTH + v * VEC_WIDTH);
    add_products(rows, 0, depth, a, first, panel, sums);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
        vec_store(sums_out + r * PANEL_WIDTH + v * VEC_WIDTH, sums[r][v]);
}

/* The number of rows must be a constant for the sums to stay in registers. */
#if TILE_ROWS == 6
#define FOR_EACH_ROW_COUNT(x) x(1) x(2) x(3) x(4) x(5) x(6)
#else
#define FOR_EACH_ROW_COUNT(x) x(1) x(2) x(3)
#endif

static void multiply(ptrdiff_t rows, ptrdiff_t depth, const real *const *a, const real *panel,
                     const real *const *start, real *const *out, const panel_columns *columns)
{
    int whole = 1;
    for (int v = 0; v < PANEL_VECTORS; v++)
        whole &= columns->counts[v] == VEC_WIDTH;
    switch (whole ? rows : -rows) {
#define CASE(n)                                                    \
    case n:                                                        \
        multiply_tile(n, 1, depth, a, panel, start, out, columns); \
        break;                                                     \
    case -n:                                                       \
        multiply_tile(n, 0, depth, a, panel, start, out, columns); \
        break;
        FOR_EACH_ROW_COUNT(CASE)
#undef CASE
    }
}

static void accumulate(ptrdiff_t count, ptrdiff_t depth, const real *const *a, ptrdiff_t first,
                       const real *panel, int fresh, real *sums)
{
    switch (count) {
#define CASE(n)                                                  \
    case n:                                                      \
        accumulate_tile(n, depth, a, first, panel, fresh, sums); \
        break;
        FOR_EACH_ROW_COUNT(CASE)
#undef CASE
    }
}
