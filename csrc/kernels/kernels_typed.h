/* SPDX-License-Identifier: MIT
 * The kernels of one real type. kernels.h includes this once for each, with `real` and TYPE
 * defined, and has what does not depend on them.
 *
 * IN is read, OUT written, IN/OUT both. Arrays may overlap, or be NULL, only where it says so;
 * where one may be another, it is the same from its first element on. Counts may be 0 where it does
 * not say otherwise.
 */

/* ---- activations ---------------------------------------------------------------------------- */

/* On n elements, for dy the gradient of y = f(x) and dx that of x. */
typedef struct {
    /* x IN, y OUT: f(x). y may be x. */
    void (*forward)(ptrdiff_t n, const real *x, real *y);
    /* x, dy IN, dx OUT: dy f'(x). dx may be dy. */
    void (*backward)(ptrdiff_t n, const real *x, const real *dy, real *dx);
    /* The same from y: NULL where f' is no function of it. */
    void (*backward_from_output)(ptrdiff_t n, const real *y, const real *dy, real *dx);
} TYPED(activation);

/* ---- gates ---------------------------------------------------------------------------------- */

/* What a step does between its products, for shape.strips rows or parts of them, each an entry of
 * every list of pointers. `workspace` (GATE_WORKSPACE_ROWS * shape.count) holds nothing before or
 * after. */
typedef struct TYPED(gates) {
    const char *name;
    TYPED(activation) activation, recurrent_activation; /* of gates_general, else unused */
    /* z          IN      pre-activations, at a distance of shape.stride; may be overwritten
     * kept       OUT     what backward wants to see again, at a distance of shape.kept_stride; or
     *                    NULL; kept[r] may be z[r] where the two distances are the same
     * c          IN/OUT  state before the step and after it
     * h          OUT */
    void (*forward)(const struct TYPED(gates) * self, gate_shape shape, real *const *z,
                    real *const *kept, real *const *c, real *const *h, real *workspace);
    /* kept       IN      as forward left it, at a distance of shape.stride, as dz
     * c_prev, c  IN      states before and after the step
     * dh         IN      gradient of h
     * dc         IN/OUT  gradient of c after the step, then before it
     * dz         OUT     gradient of the pre-activations */
    void (*backward)(const struct TYPED(gates) * self, gate_shape shape, const real *const *kept,
                     const real *const *c_prev, const real *const *c, const real *const *dh,
                     real *const *dc, real *const *dz, real *workspace);
} TYPED(gates);

/* ---- products ------------------------------------------------------------------------------- */

/* Rows a[r] (depth) times micro-panels of that depth (layers/pack.h), from the first of a run on.
 */
typedef struct {
    ptrdiff_t depth;
    const real *const *a;
    const real *panels;
} TYPED(gemm_term);

/* ---- updates -------------------------------------------------------------------------------- */

typedef struct {
    real learning_rate, decay, rest, momentum, epsilon; /* rest: 1 - decay */
} TYPED(rmsprop_numbers);

typedef struct {
    real step_size, rest_1, rest_2, epsilon;          /* rest: 1 - beta */
    real mean_factor, gradient_factor, square_factor; /* of nadam */
} TYPED(adam_numbers);

/* One step of an optimizer over n parameters: p IN/OUT, their gradients g IN, and IN/OUT the slots
 * of fastlstm/_core/optimizers.pyx, of which each may be NULL that a variant does without. The
 * formulas are in updates_template.h. */
typedef struct {
    /* v: with momentum. */
    void (*sgd)(ptrdiff_t n, real *p, const real *g, real *v, real lr, real mu, int nesterov);
    /* v: with momentum; a: centered. */
    void (*rmsprop)(ptrdiff_t n, real *p, const real *g, real *s, real *v, real *a,
                    const TYPED(rmsprop_numbers) * numbers);
    /* largest: with amsgrad. */
    void (*adam)(ptrdiff_t n, real *p, const real *g, real *m, real *v, real *largest,
                 const TYPED(adam_numbers) * numbers);
    void (*nadam)(ptrdiff_t n, real *p, const real *g, real *m, real *v,
                  const TYPED(adam_numbers) * numbers);
    void (*adagrad)(ptrdiff_t n, real *p, const real *g, real *s, real lr, real eps);
} TYPED(updates);

/* ---- the table ------------------------------------------------------------------------------ */

typedef struct {
    TYPED(activation) activations[ACTIVATION_COUNT];
    TYPED(gates) gates_tanh, gates_relu, gates_general; /* see select_gates */

    ptrdiff_t width, mr, nr; /* elements of a vector; rows and columns of the micro-kernel's tile */

    /* The products. Each sum is taken in the order of k, whatever the number of rows (of gemm_bt in
     * each lane, then over the lanes): a result depends neither on the tile that it is part of,
     * nor, but in gemm_at, on where a long sum is cut in two. */

    /* out[r] = start[r] + sum over k < depth of a[r][k] * panels[k] + the next term...
     *
     * 0 < rows <= mr. The terms are added up in their order. From out[r] and start[r] on,
     * columns.first to columns.first + columns.count are written and read. start may be NULL for
     * zero, and start[r] may be out[r]. */
    void (*gemm)(ptrdiff_t rows, int count, const TYPED(gemm_term) * terms,
                 const real *const *start, real *const *out, column_run columns);
    /* c[f * stride + j] += sum over k < depth of a[k * rows + f] * panel[k][j]
     *
     * f < rows, 0 < rows <= mr, j < columns, 0 < columns <= nr; c IN/OUT. What is added is summed
     * from zero, and with `fresh` takes the place of what was there, which is then not read. */
    void (*gemm_at)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const real *a,
                    const real *panel, int fresh, real *c, ptrdiff_t stride);
    /* out[r][j] = start[j] + sum over k < depth of a[r][k] * b[j * depth + k]
     *
     * 0 < rows <= mr, j < columns. Both factors are read along k: for few columns, and for weights
     * that are not packed. start (columns), the same for all rows, may be NULL for zero. */
    void (*gemm_bt)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const real *const *a,
                    const real *b, const real *start, real *const *out);
    /* y[j] += sum over k < depth of a[k] * b[k * width + j]
     *
     * j < width; y IN/OUT. One row times a matrix that is not packed, read once from first to last.
     */
    void (*gemv)(ptrdiff_t depth, ptrdiff_t width, const real *a, const real *b, real *y);

    TYPED(updates) updates;

    /* Losses of rows and their gradients: see losses.h. */
    void (*run_losses)(loss_pass *pass);

    /* (rows, n), n > 0. y OUT: e^x / sum over a row of e^x. y may be x. */
    void (*softmax_forward)(ptrdiff_t rows, ptrdiff_t n, const real *x, real *y);
    /* dx OUT: y * (dy - sum over a row of y * dy). dx may be dy. */
    void (*softmax_backward)(ptrdiff_t rows, ptrdiff_t n, const real *y, const real *dy, real *dx);
} TYPED(kernels);

/* Those that this build has: dispatch.h finds them. */
extern const TYPED(kernels) TYPED(kernels_baseline);
extern const TYPED(kernels) TYPED(kernels_avx2);
extern const TYPED(kernels) TYPED(kernels_avx512);
extern const TYPED(kernels) TYPED(kernels_neon);

/* The gate kernels for a pair of activations, the fused ones where there are any. */
static inline TYPED(gates)
    TYPED(select_gates)(const TYPED(kernels) * table, int activation, int recurrent_activation)
{
    if (recurrent_activation == ACTIVATION_SIGMOID && activation == ACTIVATION_TANH)
        return table->gates_tanh;
    if (recurrent_activation == ACTIVATION_SIGMOID && activation == ACTIVATION_RELU)
        return table->gates_relu;
    TYPED(gates) gates = table->gates_general;
    gates.activation = table->activations[activation];
    gates.recurrent_activation = table->activations[recurrent_activation];
    return gates;
}
