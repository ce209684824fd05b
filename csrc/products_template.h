/* SPDX-License-Identifier: MIT
 * The products of one instruction set and one real type (see kernels.h), part of
 * kernels_template.h.
 *
 * A tile of `rows` rows by PANEL_VECTORS vectors of sums stays in registers over the whole depth:
 * each element of a row is broadcast, each vector of the panel is loaded once for all rows. With
 * TILE_ROWS rows (vec_*.h) the sums fill the register file and the loads hide behind the
 * multiplications. What is left of VEC_REGISTERS registers holds all vectors of the panel and one
 * element at a time, or, where those are too many, all elements and one vector: a sum that has to
 * leave its register halves the speed.
 */

#define UNROLL _Pragma("GCC unroll 8")

typedef vec tile_sums[TILE_ROWS][PANEL_VECTORS];

enum { PANEL_WIDTH = PANEL_VECTORS * VEC_WIDTH };

/* sums[r] += a[r][k * stride] * panel[k], for k in order. */
ALWAYS_INLINE void add_products(const int rows, const int vectors, const ptrdiff_t stride,
                                ptrdiff_t depth, const real *const *a, const real *panel,
                                tile_sums sums)
{
    const real *row[TILE_ROWS];
    UNROLL for (int r = 0; r < rows; r++) row[r] = a[r];
    for (ptrdiff_t k = 0; k < depth; k++, panel += vectors * VEC_WIDTH) {
        if (rows * vectors + vectors + 1 > VEC_REGISTERS) {
            vec value[TILE_ROWS];
            UNROLL for (int r = 0; r < rows; r++) value[r] = vec_set1(row[r][k * stride]);
            UNROLL for (int v = 0; v < vectors; v++)
            {
                const vec weights = vec_in_register(vec_load(panel + v * VEC_WIDTH));
                UNROLL for (int r = 0; r < rows; r++) sums[r][v] =
                    vec_fma(value[r], weights, sums[r][v]);
            }
            continue;
        }
        vec weights[PANEL_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) weights[v] =
            rows > 1 ? vec_in_register(vec_load(panel + v * VEC_WIDTH))
                     : vec_load(panel + v * VEC_WIDTH);
        UNROLL for (int r = 0; r < rows; r++)
        {
            const vec value = vec_set1(row[r][k * stride]);
            UNROLL for (int v = 0; v < vectors; v++) sums[r][v] =
                vec_fma(value, weights[v], sums[r][v]);
        }
    }
}

/* `last` is what the last vector has of elements. */
ALWAYS_INLINE void multiply_tile(const int rows, const int vectors, int count,
                                 const TYPED(product) * products, const real *const *start,
                                 real *const *out, ptrdiff_t first, ptrdiff_t last)
{
    tile_sums sums;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) sums[r][v] =
        start ? load(start[r] + first + v * VEC_WIDTH, v == vectors - 1 ? last : VEC_WIDTH)
              : vec_set1(0);
    for (const TYPED(product) *p = products; p < products + count; p++)
        add_products(rows, vectors, 1, p->depth, p->a, p->panel, sums);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++)
        store(out[r] + first + v * VEC_WIDTH, v == vectors - 1 ? last : VEC_WIDTH, sums[r][v]);
}

ALWAYS_INLINE void accumulate_tile(const int rows, ptrdiff_t depth, const real *a,
                                   const real *panel, int fresh, real *sums_out)
{
    tile_sums sums;
    const real *row[TILE_ROWS];
    UNROLL for (int r = 0; r < rows; r++) row[r] = a + r;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
        sums[r][v] = vec_set1(0);
    add_products(rows, PANEL_VECTORS, rows, depth, row, panel, sums);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
    {
        real *const out = sums_out + r * PANEL_WIDTH + v * VEC_WIDTH;
        vec_store(out, fresh ? sums[r][v] : vec_add(vec_load(out), sums[r][v]));
    }
}

/* The numbers of rows and vectors must be constants for the sums to stay in registers. */
#define ROWS_1(x) x(1)
#define ROWS_2(x) ROWS_1(x) x(2)
#define ROWS_3(x) ROWS_2(x) x(3)
#define ROWS_4(x) ROWS_3(x) x(4)
#define ROWS_5(x) ROWS_4(x) x(5)
#define ROWS_6(x) ROWS_5(x) x(6)
#define FOR_EACH_ROW_COUNT PASTE2(ROWS, TILE_ROWS)
_Static_assert(1 <= TILE_ROWS && TILE_ROWS <= 6, "ROWS_n for every tile height");
_Static_assert(PANEL_VECTORS == 4, "multiply has a case for every number of vectors");

static void multiply(ptrdiff_t rows, int count, const TYPED(product) * products,
                     const real *const *start, real *const *out, const panel_columns *columns)
{
    const ptrdiff_t vectors = (columns->count + VEC_WIDTH - 1) / VEC_WIDTH;
    const ptrdiff_t first = columns->first, last = columns->count - (vectors - 1) * VEC_WIDTH;
    assert(1 <= vectors && vectors <= PANEL_VECTORS); /* or another case would be meant */
    switch (PANEL_VECTORS * rows + vectors) {
#define TILE(n, v)                                                     \
    case PANEL_VECTORS *n + v:                                         \
        multiply_tile(n, v, count, products, start, out, first, last); \
        break;
#define CASE(n) TILE(n, 1) TILE(n, 2) TILE(n, 3) TILE(n, 4)
        FOR_EACH_ROW_COUNT(CASE)
#undef CASE
#undef TILE
    default:
        assert(!"rows of a tile");
    }
}

static void accumulate(ptrdiff_t count, ptrdiff_t depth, const real *a, const real *panel,
                       int fresh, real *sums)
{
    switch (count) {
#define CASE(n)                                           \
    case n:                                               \
        accumulate_tile(n, depth, a, panel, fresh, sums); \
        break;
        FOR_EACH_ROW_COUNT(CASE)
#undef CASE
    default:
        assert(!"rows of a tile");
    }
}

/* sums[j] for the vector at j, or the `n` elements of it that there are. */
ALWAYS_INLINE void stream_vector(const int rows, ptrdiff_t n, ptrdiff_t width, const real *a,
                                 const real *weights, real *sums)
{
    vec sum = load(sums, n);
    UNROLL for (int k = 0; k < rows; k++) sum =
        vec_fma(vec_set1(a[k]), load(weights + k * width, n), sum);
    store(sums, n, sum);
}

ALWAYS_INLINE void stream_rows(const int rows, ptrdiff_t width, const real *a, const real *weights,
                               real *sums)
{
    ptrdiff_t j = 0;
    for (; j + VEC_WIDTH <= width; j += VEC_WIDTH)
        stream_vector(rows, VEC_WIDTH, width, a, weights + j, sums + j);
    if (j < width)
        stream_vector(rows, width - j, width, a, weights + j, sums + j);
}

/* Some rows of the matrix at a time, so that the sums are not loaded and stored for each. */
static void stream(ptrdiff_t depth, ptrdiff_t width, const real *a, const real *weights, real *sums)
{
    enum { ROWS = 8 };
    ptrdiff_t k = 0;
    for (; k + ROWS <= depth; k += ROWS)
        stream_rows(ROWS, width, a + k, weights + k * width, sums);
    for (; k < depth; k++)
        stream_rows(1, width, a + k, weights + k * width, sums);
}
