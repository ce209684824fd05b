"""The passes of csrc/layers/lstm.h over BLAS, for any CPU: the portable truth, and what the packed
kernels are compared with. `kernel` and `recurrent_kernel` are plain (F, 4H) and (H, 4H).

Arrays stay batch-major, so step t of z (B, T, 4H) is a matrix whose rows lie T*4H apart; BLAS
takes that distance as it is and nothing is transposed.

Forward, steps s in the order done, t the place of step s in x (T-1-s when going backwards):

    z[:, t] = x[:, t] kernel + bias            for a block of steps at once
    z[:, t] += h recurrent_kernel              one product a step
    c, h = gates(z[:, t], c)                   rows that the mask skips keep theirs
    y[:, s] = h, or zero where the output is not shown

Backward, from the last step to the first, with dz the gradient of z:

    dh += dy[:, s] where the output was shown
    dz[:, t], dc = gates_backward(...)         zero in rows that the mask skipped
    dh = dz[:, t] recurrent_kernel'            (skipped rows keep theirs)
    dkernel = x' dz     drecurrent_kernel = h_prev' dz     dbias = sum dz     dx = dz kernel'
"""

from libc.string cimport memcpy, memset

from fastlstm._core.blas cimport gemm, rows_of_a_piece
from fastlstm._core.blas_pieces cimport (
    bias_gradient_piece, blas_task, gradient_piece, pieces_of_gradient, pieces_of_rows, share_out,
    start_of_piece, workers_for,
)
from fastlstm._core.kernels cimport (
    GATE_WORKSPACE_ROWS, gate_shape, gates_f32, gates_f64, kernels_f32, kernels_f64,
    lstm_functions_of, real, select_gates_f32, select_gates_f64,
)
from fastlstm._core.passes cimport lstm_backward, lstm_forward, lstm_functions, lstm_pass
from fastlstm._core.watch cimport WORK_OF_A_STEP, WORK_OF_A_UNIT, is_stopped, stops

cdef extern from "base/blocks.h" nogil:
    size_t in_lines(size_t size)

# Inference projects the inputs of as many steps at once as give this many pre-activations:
# 1 MiB in float32, so that a block stays in the second-level cache.
cdef enum:
    BLOCK_ELEMENTS = 1 << 18


cdef inline Py_ssize_t place_of(const lstm_pass *p, Py_ssize_t step) noexcept nogil:
    return p.steps - 1 - step if p.go_backwards else step


cdef inline bint is_set(const unsigned char *flags, const lstm_pass *p, Py_ssize_t b,
                        Py_ssize_t step) noexcept nogil:
    return flags == NULL or flags[b * p.steps + step]


cdef Py_ssize_t block_of(const lstm_forward *f) noexcept nogil:
    """How many steps are projected at once: all where z is kept."""
    cdef Py_ssize_t row = f.base.batch * 4 * f.base.units
    if f.gates != NULL:
        return f.base.steps
    return max(1, min(f.base.steps, BLOCK_ELEMENTS // max(<Py_ssize_t>1, row)))


cdef void project_rows(const lstm_forward *f, Py_ssize_t count, const real *x, Py_ssize_t stride,
                       const real *kernel, real *z, Py_ssize_t z_stride) noexcept nogil:
    """z = x kernel + bias for `count` rows that lie at those distances."""
    cdef Py_ssize_t features = f.base.features, width = 4 * f.base.units
    cdef Py_ssize_t piece = rows_of_a_piece(width, features), start = 0, rows, row
    while start < count and not is_stopped(f.base.watch):
        rows = min(piece, count - start)
        if f.bias != NULL:
            for row in range(start, start + rows):
                memcpy(z + row * z_stride, f.bias, width * sizeof(real))
        gemm(False, False, rows, width, features, x + start * stride, stride, kernel, width,
             <real>(0 if f.bias == NULL else 1), z + start * z_stride, z_stride, f.base.watch)
        start += rows


cdef void project(const lstm_forward *f, Py_ssize_t first, Py_ssize_t count, const real *kernel,
                  real *z) noexcept nogil:
    """z (B, count, 4H) = x[:, first:first+count] kernel + bias."""
    cdef Py_ssize_t batch = f.base.batch, features = f.base.features, width = 4 * f.base.units
    cdef Py_ssize_t b, t, stride = f.base.steps * features
    cdef const real *x = <const real *>f.base.x + first * features
    if count == f.base.steps:
        project_rows(f, batch * count, x, features, kernel, z, width)
    elif batch < count:
        for b in range(batch):
            project_rows(f, count, x + b * stride, features, kernel, z + b * count * width, width)
    else:
        for t in range(count):
            project_rows(f, batch, x + t * features, stride, kernel, z + t * width, count * width)


cdef void gates_forward(const lstm_pass *p, real *z, real *c, real *h, real *workspace
                        ) noexcept nogil:
    cdef gate_shape whole = gate_shape(1, p.units, p.units, p.units)
    cdef gates_f32 gates_single
    cdef gates_f64 gates_double
    if real is float:
        gates_single = select_gates_f32(<const kernels_f32 *>p.kernels, p.activation,
                                        p.recurrent_activation)
        gates_single.forward(&gates_single, whole, &z, &z, &c, &h, workspace)
    else:
        gates_double = select_gates_f64(<const kernels_f64 *>p.kernels, p.activation,
                                        p.recurrent_activation)
        gates_double.forward(&gates_double, whole, &z, &z, &c, &h, workspace)


cdef void gates_backward(const lstm_pass *p, const real *gates, const real *c_prev, const real *c,
                         const real *dh, real *dc, real *dz, real *workspace) noexcept nogil:
    cdef gate_shape whole = gate_shape(1, p.units, p.units, p.units)
    cdef gates_f32 gates_single
    cdef gates_f64 gates_double
    if real is float:
        gates_single = select_gates_f32(<const kernels_f32 *>p.kernels, p.activation,
                                        p.recurrent_activation)
        gates_single.backward(&gates_single, whole, &gates, &c_prev, &c, &dh, &dc, &dz, workspace)
    else:
        gates_double = select_gates_f64(<const kernels_f64 *>p.kernels, p.activation,
                                        p.recurrent_activation)
        gates_double.backward(&gates_double, whole, &gates, &c_prev, &c, &dh, &dc, &dz, workspace)


cdef void _forward(lstm_forward *f, const real *kernel) noexcept nogil:
    cdef const lstm_pass *p = &f.base
    cdef Py_ssize_t units = p.units, width = 4 * p.units
    cdef Py_ssize_t block = block_of(f), number, first, last, count, base, s, t, b
    cdef const lstm_functions *functions = lstm_functions_of(real is double)
    cdef real *workspace = <real *>p.workspace
    cdef real *z = <real *>f.gates if f.gates != NULL else workspace + GATE_WORKSPACE_ROWS * units
    cdef real *h = <real *>f.h
    cdef real *c = <real *>f.c
    for number in range((p.steps + block - 1) // block):
        first = number * block
        last = min(p.steps, first + block)
        count = last - first
        base = place_of(p, last - 1) if p.go_backwards else first
        project(f, base, count, kernel, z)
        for s in range(first, last):
            t = place_of(p, s) - base
            gemm(False, False, p.batch, width, units, h, units, <const real *>f.recurrent_kernel,
                 width, <real>1, z + t * width, count * width, p.watch)
            if stops(p.watch, WORK_OF_A_STEP):
                break
            for b in range(p.batch):
                if stops(p.watch, units * WORK_OF_A_UNIT):
                    break
                if is_set(p.valid, p, b, s):
                    gates_forward(p, z + (b * count + t) * width, c + b * units, h + b * units,
                                  workspace)
                functions.store_step(f, b, s, h + b * units, c + b * units)
        if is_stopped(p.watch):
            break


cdef inline const real *state_row(const lstm_pass *p, const real *states, const void *initial,
                                  Py_ssize_t b, Py_ssize_t step) noexcept nogil:
    """(b, step) of an array (B, T, H) in step order; before the first step the initial state."""
    if step < 0:
        return <const real *>initial + b * p.units
    return states + (b * p.steps + step) * p.units


cdef void step_back(lstm_backward *g, Py_ssize_t s, const real *recurrent_kernel, real *dz,
                    real *workspace) noexcept nogil:
    cdef const lstm_pass *p = &g.base
    cdef Py_ssize_t units = p.units, width = 4 * p.units, t = place_of(p, s), b, j, row
    cdef const real *saved_c = <const real *>g.saved_c
    cdef const real *dy
    cdef real *dh
    for b in range(p.batch):
        if stops(p.watch, units * WORK_OF_A_UNIT):
            return
        dh = <real *>g.dh + b * units
        row = (b * p.steps + t) * width
        if g.dy != NULL and is_set(p.shown, p, b, s):
            dy = <const real *>g.dy + (b * p.steps + s) * units
            for j in range(units):
                dh[j] += dy[j]
        if not is_set(p.valid, p, b, s):
            memset(dz + row, 0, width * sizeof(real))
            continue
        gates_backward(p, <const real *>g.gates + row, state_row(p, saved_c, g.c0, b, s - 1),
                       state_row(p, saved_c, g.c0, b, s), dh, <real *>g.dc + b * units, dz + row,
                       workspace)
        memset(dh, 0, units * sizeof(real))
    # Rows that took part start from zero, the others keep what they carry.
    gemm(False, True, p.batch, units, width, dz + t * width, p.steps * width, recurrent_kernel,
         width, <real>1, <real *>g.dh, units, p.watch)


cdef void copy_if_valid(const lstm_pass *p, Py_ssize_t b, Py_ssize_t step, Py_ssize_t width,
                        const real *row, real *rows) noexcept nogil:
    """rows (B, T, width), in the order of x, at (b, step) OUT `row`, or zeros if it does not count:
    there dz is zero, but zero times NaN would not be.
    """
    cdef real *to = rows + (b * p.steps + place_of(p, step)) * width
    if is_set(p.valid, p, b, step):
        memcpy(to, row, width * sizeof(real))
    else:
        memset(to, 0, width * sizeof(real))


cdef void gather_previous_states(const lstm_backward *g, real *h_prev) noexcept nogil:
    """h_prev (B, T, H) OUT the state before each step that counts, in the order of x."""
    cdef const lstm_pass *p = &g.base
    cdef Py_ssize_t b, s
    for b in range(p.batch):
        for s in range(p.steps):
            copy_if_valid(p, b, s, p.units, state_row(p, <const real *>g.saved_h, g.h0, b, s - 1),
                          h_prev)


cdef void gather_valid_inputs(const lstm_pass *p, real *inputs) noexcept nogil:
    """inputs (B, T, F) OUT x with zeros in the steps that do not count; all do without a mask."""
    cdef const real *x = <const real *>p.x
    cdef Py_ssize_t b, s
    if p.valid == NULL:
        return
    for b in range(p.batch):
        for s in range(p.steps):
            copy_if_valid(p, b, s, p.features, x + (b * p.steps + place_of(p, s)) * p.features,
                          inputs)


# ---- a pass over some rows is a pass -------------------------------------------------------------

cdef inline void *moved(const void *array, Py_ssize_t bytes) noexcept nogil:
    return <char *>array + bytes if array != NULL else NULL


cdef lstm_pass some_rows(const lstm_pass *p, Py_ssize_t first, Py_ssize_t count,
                         Py_ssize_t element) noexcept nogil:
    cdef lstm_pass part = p[0]
    part.batch = count
    part.x = moved(p.x, first * p.steps * p.features * element)
    part.valid = <const unsigned char *>moved(p.valid, first * p.steps)
    part.shown = <const unsigned char *>moved(p.shown, first * p.steps)
    return part


cdef lstm_forward some_rows_forward(const lstm_forward *f, Py_ssize_t first, Py_ssize_t count,
                                    Py_ssize_t element) noexcept nogil:
    cdef lstm_forward part = f[0]
    cdef Py_ssize_t states = first * f.base.units * element, sequences = states * f.base.steps
    part.base = some_rows(&f.base, first, count, element)
    part.h, part.c = moved(f.h, states), moved(f.c, states)
    part.y, part.saved_c = moved(f.y, sequences), moved(f.saved_c, sequences)
    part.saved_h, part.gates = moved(f.saved_h, sequences), moved(f.gates, 4 * sequences)
    return part


cdef lstm_backward some_rows_backward(const lstm_backward *g, Py_ssize_t first, Py_ssize_t count,
                                      Py_ssize_t element) noexcept nogil:
    cdef lstm_backward part = g[0]
    cdef Py_ssize_t states = first * g.base.units * element, sequences = states * g.base.steps
    part.base = some_rows(&g.base, first, count, element)
    part.h0, part.c0 = moved(g.h0, states), moved(g.c0, states)
    part.dh, part.dc = moved(g.dh, states), moved(g.dc, states)
    part.dy, part.saved_c = moved(g.dy, sequences), moved(g.saved_c, sequences)
    part.saved_h, part.gates = moved(g.saved_h, sequences), moved(g.gates, 4 * sequences)
    part.dx = moved(g.dx, first * g.base.steps * g.base.features * element)
    return part


# ---- pieces, and who does them -------------------------------------------------------------------

cdef double work_of(const lstm_pass *p) noexcept nogil:
    return 4.0 * p.batch * p.steps * p.units * (p.features + p.units)


cdef Py_ssize_t pieces_of(const lstm_pass *p) noexcept nogil:
    return pieces_of_rows(p.batch, work_of(p))


cdef int suitable_workers(const lstm_pass *p) noexcept nogil:
    return workers_for(max(
        pieces_of(p), pieces_of_gradient(max(p.features, p.units), 4 * p.units, work_of(p))))


cdef size_t element_of(bint is_double) noexcept nogil:
    return sizeof(double) if is_double else sizeof(float)


cdef size_t worker_bytes(const lstm_forward *f, bint is_double) noexcept nogil:
    """What one worker needs for the forward pass of a piece."""
    cdef lstm_forward part = f[0]
    cdef Py_ssize_t pieces = pieces_of(&f.base), z = 0
    part.base.batch = (f.base.batch + pieces - 1) // pieces
    if f.gates == NULL:
        # A piece of one row less may project more steps at once, but no more elements than this.
        z = max(4 * f.base.units * part.base.batch * block_of(&part), <Py_ssize_t>BLOCK_ELEMENTS)
        z = min(z, 4 * f.base.units * part.base.batch * f.base.steps)
    return in_lines((z + GATE_WORKSPACE_ROWS * f.base.units) * element_of(is_double))


cdef size_t forward_workspace_bytes(const lstm_forward *f, bint is_double) noexcept nogil:
    return f.base.workers * worker_bytes(f, is_double)


cdef size_t backward_workspace_bytes(const lstm_backward *g, bint is_double) noexcept nogil:
    cdef Py_ssize_t rows = g.base.batch * g.base.steps
    cdef Py_ssize_t inputs = 0 if g.base.valid == NULL else rows * g.base.features
    cdef Py_ssize_t gates = g.base.workers * GATE_WORKSPACE_ROWS * g.base.units
    return (gates + 5 * rows * g.base.units + inputs) * element_of(is_double)


cdef void forward_piece(const blas_task *task, Py_ssize_t piece, int worker) noexcept nogil:
    cdef const lstm_forward *f = <const lstm_forward *>task.a_pass
    cdef Py_ssize_t first = start_of_piece(task, f.base.batch, piece)
    cdef Py_ssize_t end = start_of_piece(task, f.base.batch, piece + 1)
    cdef lstm_forward part = some_rows_forward(f, first, end - first, element_of(task.is_double))
    part.base.workspace = moved(f.base.workspace, worker * worker_bytes(f, task.is_double))
    if task.is_double:
        _forward(&part, <const double *>f.kernel)
    else:
        _forward(&part, <const float *>f.kernel)


cdef void run_forward(lstm_forward *f, bint is_double) noexcept nogil:
    cdef blas_task task = blas_task(f, is_double, pieces_of(&f.base), forward_piece)
    share_out(&task, f.base.workers, work_of(&f.base), f.base.watch)


# ---- backward ------------------------------------------------------------------------------------

cdef real *all_dz(const lstm_backward *g, const real *kernel) noexcept nogil:
    """dz (B, T, 4H), behind what each worker needs for gates; then the previous states (B, T, H)
    and, if there is a mask, the valid inputs (B, T, F)."""
    return <real *>g.base.workspace + g.base.workers * GATE_WORKSPACE_ROWS * g.base.units


cdef void backward_rows(const lstm_backward *g, Py_ssize_t first, Py_ssize_t count, int worker,
                        const real *kernel) noexcept nogil:
    """All that some rows can do for themselves: dz, dh, dc, dx, and the factors of dz in the
    gradients of the weights."""
    cdef lstm_backward part = some_rows_backward(g, first, count, sizeof(real))
    cdef const lstm_pass *p = &part.base
    cdef Py_ssize_t features = p.features, units = p.units, width = 4 * p.units, s
    cdef Py_ssize_t start = first * p.steps, rows = g.base.batch * p.steps
    cdef real *whole = all_dz(g, kernel)
    cdef real *dz = whole + start * width
    cdef real *workspace = <real *>g.base.workspace + worker * GATE_WORKSPACE_ROWS * units
    for s in range(p.steps - 1, -1, -1):
        step_back(&part, s, <const real *>g.recurrent_kernel, dz, workspace)
        if stops(p.watch, WORK_OF_A_STEP):
            return
    gather_previous_states(&part, whole + rows * width + start * units)
    gather_valid_inputs(p, whole + rows * (width + units) + start * features)
    if part.dx != NULL:
        gemm(False, True, count * p.steps, features, width, dz, width, kernel, width, <real>0,
             <real *>part.dx, features, p.watch)


cdef void weight_gradients(const lstm_backward *g, Py_ssize_t piece, Py_ssize_t pieces,
                           const real *kernel) noexcept nogil:
    """A piece of each weight gradient."""
    cdef const lstm_pass *p = &g.base
    cdef Py_ssize_t rows = p.batch * p.steps, width = 4 * p.units
    cdef const real *dz = all_dz(g, kernel)
    cdef const real *h_prev = dz + rows * width
    cdef const real *x = <const real *>p.x if p.valid == NULL else h_prev + rows * p.units
    gradient_piece(piece, pieces, p.features, width, rows, x, dz, <real *>g.dkernel, p.watch)
    gradient_piece(piece, pieces, p.units, width, rows, h_prev, dz, <real *>g.drecurrent_kernel,
                   p.watch)
    bias_gradient_piece(piece, pieces, width, rows, dz, <real *>g.dbias, p.watch)


cdef void rows_piece(const blas_task *task, Py_ssize_t piece, int worker) noexcept nogil:
    cdef const lstm_backward *g = <const lstm_backward *>task.a_pass
    cdef Py_ssize_t first = start_of_piece(task, g.base.batch, piece)
    cdef Py_ssize_t count = start_of_piece(task, g.base.batch, piece + 1) - first
    if task.is_double:
        backward_rows(g, first, count, worker, <const double *>g.kernel)
    else:
        backward_rows(g, first, count, worker, <const float *>g.kernel)


cdef void gradients_piece(const blas_task *task, Py_ssize_t piece, int worker) noexcept nogil:
    cdef const lstm_backward *g = <const lstm_backward *>task.a_pass
    if task.is_double:
        weight_gradients(g, piece, task.pieces, <const double *>g.kernel)
    else:
        weight_gradients(g, piece, task.pieces, <const float *>g.kernel)


cdef void run_backward(lstm_backward *g, bint is_double) noexcept nogil:
    cdef const lstm_pass *p = &g.base
    cdef double work = work_of(p)
    cdef blas_task task = blas_task(g, is_double, pieces_of(p), rows_piece)
    share_out(&task, p.workers, 2 * work, p.watch)
    if is_stopped(p.watch):
        return
    task.pieces = pieces_of_gradient(max(p.features, p.units), 4 * p.units, work)
    task.do_piece = gradients_piece
    share_out(&task, p.workers, work, p.watch)
