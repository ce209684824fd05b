/* SPDX-License-Identifier: MIT
 * The matrix products of one instruction set and one real type (see kernels.h), part of
 * kernels_template.h.
 *
 * The micro-kernel updates a tile of C, up to MR rows by NR columns, that stays in registers over
 * the whole depth K:
 *
 *          NR               K                   NR
 *        +----+       +-----------+           +----+
 *     MR | C  |  +=   |     A     | MR   *    |    |
 *        +----+       +-----------+           | B  | K     a micro-panel: row after row, NR
 *                                             |    |       elements each, in one piece
 *                                             +----+
 *
 * For each k one element of every row of A is broadcast, and one row of the micro-panel loaded for
 * all of them. The shape belongs to the instruction set (vec_*.h): C's sums fill the registers, and
 * with enough rows one row of the micro-panel is worth so many multiplications that the panel may
 * come from second-level cache. Few rows leave registers free: with at most WIDE_ROWS of them a
 * tile is two micro-panels wide, so that enough sums are independent of each other.
 *
 * What is left of VEC_REGISTERS registers holds one row of the micro-panels and one element at a
 * time, or, where that is too much, all elements and one vector: a sum that has to leave its
 * register halves the speed.
 */

#define UNROLL _Pragma("GCC unroll 8")

enum {
    NR = NR_VECTORS * VEC_WIDTH,
    MOST_VECTORS = WIDE_ROWS > 0 ? 2 * NR_VECTORS : NR_VECTORS, /* of a tile's rows */
};

typedef vec tile_sums[MR][MOST_VECTORS];

/* Where row k of a tile's micro-panels is. */
typedef struct {
    const real *first, *second;
} panel_row;

ALWAYS_INLINE const real *vector_of(panel_row row, const int v)
{
    return v < NR_VECTORS ? row.first + v * VEC_WIDTH : row.second + (v - NR_VECTORS) * VEC_WIDTH;
}

/* sums[r] += a[r][k * stride] * row k of the micro-panels, for k in order. */
ALWAYS_INLINE void add_products(const int rows, const int vectors, const ptrdiff_t stride,
                                ptrdiff_t depth, const real *const *a, const real *panels,
                                tile_sums sums)
{
    const int of_first = vectors < NR_VECTORS ? vectors : NR_VECTORS;
    const real *row[MR];
    UNROLL for (int r = 0; r < rows; r++) row[r] = a[r];
    panel_row b = {panels, panels + depth * NR};
    for (ptrdiff_t k = 0; k < depth; k++) {
        if (rows * vectors + vectors + 1 > VEC_REGISTERS) {
            vec value[MR];
            UNROLL for (int r = 0; r < rows; r++) value[r] = vec_set1(row[r][k * stride]);
            UNROLL for (int v = 0; v < vectors; v++)
            {
                const vec weights = vec_in_register(vec_load(vector_of(b, v)));
                UNROLL for (int r = 0; r < rows; r++) sums[r][v] =
                    vec_fma(value[r], weights, sums[r][v]);
            }
        } else {
            vec weights[MOST_VECTORS];
            UNROLL for (int v = 0; v < vectors; v++) weights[v] =
                rows > 1 ? vec_in_register(vec_load(vector_of(b, v))) : vec_load(vector_of(b, v));
            UNROLL for (int r = 0; r < rows; r++)
            {
                const vec value = vec_set1(row[r][k * stride]);
                UNROLL for (int v = 0; v < vectors; v++) sums[r][v] =
                    vec_fma(value, weights[v], sums[r][v]);
            }
        }
        b.first += of_first * VEC_WIDTH;
        b.second += (vectors - of_first) * VEC_WIDTH;
    }
}

/* A tile of C from column `first` of the run on; `last` is what its last vector has of elements. */
ALWAYS_INLINE void gemm_tile(const int rows, const int vectors, int count,
                             const TYPED(gemm_term) * terms, const real *const *start,
                             real *const *out, ptrdiff_t run, ptrdiff_t first, ptrdiff_t last)
{
    tile_sums sums;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) sums[r][v] =
        start ? load(start[r] + run + first + v * VEC_WIDTH, v == vectors - 1 ? last : VEC_WIDTH)
              : vec_set1(0);
    for (const TYPED(gemm_term) *t = terms; t < terms + count; t++)
        add_products(rows, vectors, 1, t->depth, t->a, t->panels + t->depth * first, sums);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) store(
        out[r] + run + first + v * VEC_WIDTH, v == vectors - 1 ? last : VEC_WIDTH, sums[r][v]);
}

_Static_assert(NR_VECTORS == 4 || (NR_VECTORS == 2 && WIDE_ROWS > 0),
               "every number of vectors up to that of the widest tile has its case");

static void gemm(ptrdiff_t rows, int count, const TYPED(gemm_term) * terms,
                 const real *const *start, real *const *out, column_run columns)
{
    enum { CASES = 8 };
    const ptrdiff_t widest = rows <= WIDE_ROWS ? 2 * NR : NR;
    for (ptrdiff_t first = 0; first < columns.count; first += widest) {
        const ptrdiff_t left = columns.count - first, wide = left < widest ? left : widest;
        const ptrdiff_t vectors = (wide + VEC_WIDTH - 1) / VEC_WIDTH;
        const ptrdiff_t last = wide - (vectors - 1) * VEC_WIDTH;
        switch (CASES * rows + vectors) {
#define TILE(n, v)                                                                 \
    case CASES *n + v:                                                             \
        if (v <= (n <= WIDE_ROWS ? 2 * NR_VECTORS : NR_VECTORS))                   \
            gemm_tile(n, v, count, terms, start, out, columns.first, first, last); \
        break;
#define ROWS(n) TILE(n, 1) TILE(n, 2) TILE(n, 3) TILE(n, 4)
            FOR_EACH_ROW_COUNT(ROWS)
#undef ROWS
#undef TILE
        default:
            assert(!"a tile of this shape");
        }
    }
}

ALWAYS_INLINE void gemm_at_tile(const int rows, const int vectors, ptrdiff_t depth, const real *a,
                                const real *panel, int fresh, real *c, ptrdiff_t stride,
                                ptrdiff_t last)
{
    tile_sums sums;
    const real *row[MR];
    UNROLL for (int r = 0; r < rows; r++) row[r] = a + r;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++) sums[r][v] =
        vec_set1(0);
    add_products(rows, vectors, rows, depth, row, panel, sums);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < vectors; v++)
    {
        real *const to = c + r * stride + v * VEC_WIDTH;
        const ptrdiff_t n = v == vectors - 1 ? last : VEC_WIDTH;
        store(to, n, fresh ? sums[r][v] : vec_add(load(to, n), sums[r][v]));
    }
}

static void gemm_at(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const real *a,
                    const real *panel, int fresh, real *c, ptrdiff_t stride)
{
    enum { CASES = 8 };
    const ptrdiff_t vectors = (columns + VEC_WIDTH - 1) / VEC_WIDTH;
    const ptrdiff_t last = columns - (vectors - 1) * VEC_WIDTH;
    switch (CASES * rows + vectors) {
#define TILE(n, v)                                                       \
    case CASES *n + v:                                                   \
        if (v <= NR_VECTORS)                                             \
            gemm_at_tile(n, v, depth, a, panel, fresh, c, stride, last); \
        break;
#define ROWS(n) TILE(n, 1) TILE(n, 2) TILE(n, 3) TILE(n, 4)
        FOR_EACH_ROW_COUNT(ROWS)
#undef ROWS
#undef TILE
    default:
        assert(!"a tile of this shape");
    }
}

/* Columns of a tile of gemm_bt: enough for sums that are independent of each other. */
#define BT_COLUMNS(rows) ((rows) == 1 ? 8 : (rows) <= 3 ? 4 : 2)

typedef vec bt_sums[MR][8];

/* sums += the vector at k of every row of a and b, or the `n` elements of it that there are. */
ALWAYS_INLINE void gemm_bt_step(const int rows, const int columns, ptrdiff_t n, ptrdiff_t depth,
                                ptrdiff_t k, const real *const *a, const real *b, bt_sums sums)
{
    vec value[MR];
    UNROLL for (int r = 0; r < rows; r++) value[r] = load(a[r] + k, n);
    UNROLL for (int j = 0; j < columns; j++)
    {
        const vec weights = load(b + j * depth + k, n);
        UNROLL for (int r = 0; r < rows; r++) sums[r][j] = vec_fma(value[r], weights, sums[r][j]);
    }
}

ALWAYS_INLINE void gemm_bt_tile(const int rows, const int columns, ptrdiff_t depth,
                                const real *const *a, const real *b, const real *start,
                                real *const *out, ptrdiff_t first)
{
    bt_sums sums;
    const real *const from = b + first * depth;
    ptrdiff_t k = 0;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int j = 0; j < columns; j++) sums[r][j] =
        vec_set1(0);
    for (; k + VEC_WIDTH <= depth; k += VEC_WIDTH)
        gemm_bt_step(rows, columns, VEC_WIDTH, depth, k, a, from, sums);
    if (k < depth)
        gemm_bt_step(rows, columns, depth - k, depth, k, a, from, sums);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int j = 0; j < columns; j++)
        out[r][first + j] = (start ? start[first + j] : 0) + vec_sum(sums[r][j]);
}

static void gemm_bt(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const real *const *a,
                    const real *b, const real *start, real *const *out)
{
    enum { CASES = 16 };
    for (ptrdiff_t first = 0; first < columns;) {
        ptrdiff_t wide = BT_COLUMNS(rows);
        while (wide > columns - first)
            wide /= 2;
        switch (CASES * rows + wide) {
#define TILE(n, c)                                              \
    case CASES *n + c:                                          \
        if (c <= BT_COLUMNS(n))                                 \
            gemm_bt_tile(n, c, depth, a, b, start, out, first); \
        break;
#define ROWS(n) TILE(n, 1) TILE(n, 2) TILE(n, 4) TILE(n, 8)
            FOR_EACH_ROW_COUNT(ROWS)
#undef ROWS
#undef TILE
        default:
            assert(!"a tile of this shape");
        }
        first += wide;
    }
}

/* y[j] for the vector at j, or the `n` elements of it that there are. */
ALWAYS_INLINE void gemv_vector(const int rows, ptrdiff_t n, ptrdiff_t width, const real *a,
                               const real *b, real *y)
{
    vec sum = load(y, n);
    UNROLL for (int k = 0; k < rows; k++) sum =
        vec_fma(vec_set1(a[k]), load(b + k * width, n), sum);
    store(y, n, sum);
}

ALWAYS_INLINE void gemv_rows(const int rows, ptrdiff_t width, const real *a, const real *b, real *y)
{
    ptrdiff_t j = 0;
    for (; j + VEC_WIDTH <= width; j += VEC_WIDTH)
        gemv_vector(rows, VEC_WIDTH, width, a, b + j, y + j);
    if (j < width)
        gemv_vector(rows, width - j, width, a, b + j, y + j);
}

/* Some rows of the matrix at a time, so that the sums are not loaded and stored for each. */
static void gemv(ptrdiff_t depth, ptrdiff_t width, const real *a, const real *b, real *y)
{
    enum { ROWS = 8 };
    ptrdiff_t k = 0;
    for (; k + ROWS <= depth; k += ROWS)
        gemv_rows(ROWS, width, a + k, b + k * width, y);
    for (; k < depth; k++)
        gemv_rows(1, width, a + k, b + k * width, y);
}
