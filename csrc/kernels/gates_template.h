/* SPDX-License-Identifier: MIT
 * The gates of an LSTM, forward and backward, of one instruction set and one real type (see
 * kernels.h), part of kernels_template.h.
 */

/* One row of one LSTM step (Hochreiter & Schmidhuber 1997, Gers et al. 2000):
 *   i = sigmoid(zi)  f = sigmoid(zf)  g = act(zg)  o = sigmoid(zo)
 *   c = f * c + i * g     h = o * act(c)
 * and backwards, with dh and dc the gradients after the step:
 *   dc += dh * o * act'(c)
 *   dzi = dc * g * i'     dzf = dc * c_prev * f'     dzg = dc * i * g'     dzo = dh * act(c) * o'
 *   dc *= f
 * The activated i, f, g, o are kept. */

/* Stretches given by their rows: what gates.forward takes. */
typedef struct {
    real *const *z, *const *kept, *const *c, *const *h;
    ptrdiff_t stride, kept_stride;
} forward_rows;

/* A gate times act(x), and both by themselves, for where they are kept. */
typedef struct {
    vec product, gate, act;
} gated;

/* The gate is 1 / below, and tanh a fraction too: one division does for the product. Where that is
 * below the normal numbers all three are 0. */
ALWAYS_INLINE gated gated_tanh(vec below, vec x, vec_fraction size)
{
    const vec both = vec_reciprocal(vec_mul(below, size.below));
    return (gated){.product = vec_copysign(vec_mul(size.above, both), x),
                   .gate = vec_mul(size.below, both),
                   .act = vec_copysign(vec_mul(size.above, vec_mul(below, both)), x)};
}

ALWAYS_INLINE gated gated_relu(vec below, vec x)
{
    const vec gate = vec_reciprocal(below), act = vec_relu(x);
    return (gated){vec_mul(gate, act), gate, act};
}

/* `n` units from `first` on of `strips` rows from r0 on; the exponentials of a row's gates side by
 * side, then those of all rows' states. */
ALWAYS_INLINE void gates_forward_strips(const int is_tanh, const int strips, ptrdiff_t n,
                                        ptrdiff_t first, ptrdiff_t r0, const forward_rows *rows)
{
    enum { I, F, O, G };
    vec c_new[GATE_ROWS], below_o[GATE_ROWS];
    vec a[GATE_ROWS], scale[GATE_ROWS], s[GATE_ROWS], tail[GATE_ROWS];
    VEC_UNROLL for (int r = 0; r < strips; r++)
    {
        const real *const z = rows->z[r0 + r] + first;
        real *const c = rows->c[r0 + r] + first;
        const vec zg = load(z + 2 * rows->stride, n);
        const vec z_parts[4] = {[I] = vec_sigmoid_begin(load(z, n)),
                                [F] = vec_sigmoid_begin(load(z + rows->stride, n)),
                                [O] = vec_sigmoid_begin(load(z + 3 * rows->stride, n)),
                                [G] = vec_tanh_begin(zg)};
        vec z_scale[4], z_s[4], z_tail[4];
        vec_exp_parts(is_tanh ? 4 : 3, z_parts, z_scale, z_s, z_tail);
        const vec f = vec_reciprocal(vec_sigmoid_below(z_scale[F], z_s[F], z_tail[F]));
        const vec below_i = vec_sigmoid_below(z_scale[I], z_s[I], z_tail[I]);
        const gated ig = is_tanh
                             ? gated_tanh(below_i, zg, vec_tanh_size(z_scale[G], z_s[G], z_tail[G]))
                             : gated_relu(below_i, zg);
        below_o[r] = vec_sigmoid_below(z_scale[O], z_s[O], z_tail[O]);
        c_new[r] = vec_fma(f, load(c, n), ig.product);
        store(c, n, c_new[r]);
        if (rows->kept) {
            real *const kept = rows->kept[r0 + r] + first;
            store(kept, n, ig.gate);
            store(kept + rows->kept_stride, n, f);
            store(kept + 2 * rows->kept_stride, n, ig.act);
        }
        a[r] = vec_tanh_begin(c_new[r]);
    }
    if (is_tanh)
        vec_exp_parts(strips, a, scale, s, tail);
    VEC_UNROLL for (int r = 0; r < strips; r++)
    {
        const gated oc =
            is_tanh ? gated_tanh(below_o[r], c_new[r], vec_tanh_size(scale[r], s[r], tail[r]))
                    : gated_relu(below_o[r], c_new[r]);
        store(rows->h[r0 + r] + first, n, oc.product);
        if (rows->kept)
            store(rows->kept[r0 + r] + first + 3 * rows->kept_stride, n, oc.gate);
    }
}

/* As many strips side by side as the registers hold. */
ALWAYS_INLINE void gates_forward_all(const int is_tanh, gate_shape shape, const forward_rows *rows)
{
    for (ptrdiff_t r0 = 0; r0 < shape.strips; r0 += GATE_ROWS) {
        const ptrdiff_t left = shape.strips - r0, strips = left < GATE_ROWS ? left : GATE_ROWS;
        ptrdiff_t first = 0;
        for (; first + VEC_WIDTH <= shape.count; first += VEC_WIDTH)
            switch (strips) {
#define CASE(n)                                                       \
    case n:                                                           \
        gates_forward_strips(is_tanh, n, VEC_WIDTH, first, r0, rows); \
        break;
                FOR_EACH_GATE_ROW_COUNT(CASE)
#undef CASE
            default:
                assert(!"rows of a tile");
            }
        for (ptrdiff_t r = r0; r < r0 + strips && first < shape.count; r++)
            gates_forward_strips(is_tanh, 1, shape.count - first, first, r, rows);
    }
}

ALWAYS_INLINE void gates_backward_strip(vec_function act, vec_function slope, ptrdiff_t n,
                                        ptrdiff_t units, const real *gates, const real *c_prev,
                                        const real *c, const real *dh, real *dc, real *dz)
{
    const vec i = load(gates, n), f = load(gates + units, n);
    const vec g = load(gates + 2 * units, n), o = load(gates + 3 * units, n);
    const vec act_c = act(load(c, n)), dh_step = load(dh, n);
    const vec dc_step = vec_fma(vec_mul(dh_step, o), slope(act_c), load(dc, n));
    store(dz, n, vec_mul(vec_mul(dc_step, g), sigmoid_slope(i)));
    store(dz + units, n, vec_mul(vec_mul(dc_step, load(c_prev, n)), sigmoid_slope(f)));
    store(dz + 2 * units, n, vec_mul(vec_mul(dc_step, i), slope(g)));
    store(dz + 3 * units, n, vec_mul(vec_mul(dh_step, act_c), sigmoid_slope(o)));
    store(dc, n, vec_mul(dc_step, f));
}

#define FUSED_GATES(act, is_tanh)                                                                  \
    static void gates_##act##_forward(const TYPED(gates) * self, gate_shape shape, real *const *z, \
                                      real *const *kept, real *const *c, real *const *h,           \
                                      real *workspace)                                             \
    {                                                                                              \
        (void)self, (void)workspace;                                                               \
        const forward_rows rows = {z, kept, c, h, shape.stride, shape.kept_stride};                \
        gates_forward_all(is_tanh, shape, &rows);                                                  \
    }                                                                                              \
    static void gates_##act##_backward(const TYPED(gates) * self, gate_shape shape,                \
                                       const real *const *gates, const real *const *c_prev,        \
                                       const real *const *c, const real *const *dh,                \
                                       real *const *dc, real *const *dz, real *workspace)          \
    {                                                                                              \
        (void)self, (void)workspace;                                                               \
        for (ptrdiff_t r = 0; r < shape.strips; r++) {                                             \
            ptrdiff_t p = 0;                                                                       \
            for (; p + VEC_WIDTH <= shape.count; p += VEC_WIDTH)                                   \
                gates_backward_strip(vec_##act, act##_slope, VEC_WIDTH, shape.stride,              \
                                     gates[r] + p, c_prev[r] + p, c[r] + p, dh[r] + p, dc[r] + p,  \
                                     dz[r] + p);                                                   \
            if (p < shape.count)                                                                   \
                gates_backward_strip(vec_##act, act##_slope, shape.count - p, shape.stride,        \
                                     gates[r] + p, c_prev[r] + p, c[r] + p, dh[r] + p, dc[r] + p,  \
                                     dz[r] + p);                                                   \
        }                                                                                          \
    }

FUSED_GATES(tanh, 1)
FUSED_GATES(relu, 0)

/* The same for any pair of activations. The pre-activations are kept, since not every
 * derivative is a function of the output. */
typedef struct {
    real *i, *f, *g, *o;
} gate_values;

static gate_values activate_gates(const TYPED(gates) * self, gate_shape shape, const real *gates,
                                  real *workspace)
{
    const ptrdiff_t n = shape.count, stride = shape.stride;
    const gate_values y = {workspace, workspace + n, workspace + 2 * n, workspace + 3 * n};
    self->recurrent_activation.forward(n, gates, y.i);
    self->recurrent_activation.forward(n, gates + stride, y.f);
    self->activation.forward(n, gates + 2 * stride, y.g);
    self->recurrent_activation.forward(n, gates + 3 * stride, y.o);
    return y;
}

static void gates_general_forward(const TYPED(gates) * self, gate_shape shape, real *const *z,
                                  real *const *kept, real *const *c, real *const *h,
                                  real *workspace)
{
    for (ptrdiff_t r = 0; r < shape.strips; r++) {
        const gate_values y = activate_gates(self, shape, z[r], workspace);
        for (ptrdiff_t v = 0; kept && kept[r] != z[r] && v < GATES; v++)
            memcpy(kept[r] + v * shape.kept_stride, z[r] + v * shape.stride,
                   shape.count * sizeof(real));
        for (ptrdiff_t p = 0; p < shape.count; p++)
            c[r][p] = y.f[p] * c[r][p] + y.i[p] * y.g[p];
        self->activation.forward(shape.count, c[r], h[r]);
        for (ptrdiff_t p = 0; p < shape.count; p++)
            h[r][p] *= y.o[p];
    }
}

static void gates_general_backward(const TYPED(gates) * self, gate_shape shape,
                                   const real *const *gates, const real *const *c_prev,
                                   const real *const *c, const real *const *dh, real *const *dc,
                                   real *const *dz, real *workspace)
{
    const ptrdiff_t n = shape.count, stride = shape.stride;
    real *const act_c = workspace + 4 * n, *const dact_c = act_c + n;
    for (ptrdiff_t r = 0; r < shape.strips; r++) {
        const gate_values y = activate_gates(self, shape, gates[r], workspace);
        const real *const z = gates[r];
        real *const dzi = dz[r], *const dzf = dzi + stride, *const dzg = dzf + stride,
                    *const dzo = dzg + stride;
        self->activation.forward(n, c[r], act_c);
        for (ptrdiff_t p = 0; p < n; p++)
            dact_c[p] = dh[r][p] * y.o[p];
        self->activation.backward(n, c[r], dact_c, dact_c);
        for (ptrdiff_t p = 0; p < n; p++) {
            const real dc_step = dc[r][p] + dact_c[p];
            dzi[p] = dc_step * y.g[p];
            dzf[p] = dc_step * c_prev[r][p];
            dzg[p] = dc_step * y.i[p];
            dzo[p] = dh[r][p] * act_c[p];
            dc[r][p] = dc_step * y.f[p];
        }
        self->recurrent_activation.backward(n, z, dzi, dzi);
        self->recurrent_activation.backward(n, z + stride, dzf, dzf);
        self->activation.backward(n, z + 2 * stride, dzg, dzg);
        self->recurrent_activation.backward(n, z + 3 * stride, dzo, dzo);
    }
}
