"""The LSTM over time: the loops that call BLAS for products and the gate kernels for the rest.

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

import numpy as np

from fastlstm._core.blas cimport gemm
from fastlstm._core.kernels cimport (
    GATE_SCRATCH_ROWS, activation_index, flush_denormals, fp_mode, gates_f32, gates_f64, real,
    restore_denormals, select_gates_f32, select_gates_f64, table_f32, table_f64,
)
from fastlstm._core import arguments

# Inference projects the inputs of as many steps at once as give this many pre-activations:
# 1 MiB in float32, so that a block stays in the second-level cache.
cdef Py_ssize_t BLOCK_ELEMENTS = 1 << 18


cdef struct Sizes:
    Py_ssize_t batch, steps, features, units


cdef class LSTMCache:
    """What `backward` needs of one `forward`. Holds references to the caller's arrays.

    `path` names the gate kernels that ran, for example ``"avx512 fused tanh"``.
    """

    cdef readonly object x, kernel, recurrent_kernel, h0, c0, has_bias
    cdef readonly object gates      # (B, T, 4H) as the gate kernels left them, in the order of x
    cdef readonly object h, c       # (B, T, H) states after each step, in step order
    cdef readonly object valid      # (B, T) uint8 in step order, or None: steps that count
    cdef readonly object shown      # (B, T) uint8 in step order, or None: outputs that are states
    cdef readonly str path
    cdef bint go_backwards
    cdef gates_f32 gate_kernels_f32
    cdef gates_f64 gate_kernels_f64


cdef inline const real *row_of(const real[:, ::1] array, Py_ssize_t b) noexcept nogil:
    return &array[b, 0]


cdef inline Py_ssize_t place_of(Py_ssize_t step, Py_ssize_t steps,
                                bint go_backwards) noexcept nogil:
    return steps - 1 - step if go_backwards else step


cdef void project(Sizes size, Py_ssize_t first, Py_ssize_t count, const real *x,
                  const real *kernel, const real *bias, real *z) noexcept nogil:
    """z (B, count, 4H) = x[:, first:first+count] kernel + bias; bias may be NULL."""
    cdef Py_ssize_t width = 4 * size.units, row, b, t
    cdef Py_ssize_t stride = size.steps * size.features
    cdef real beta = 0
    if bias != NULL:
        beta = 1
        for row in range(size.batch * count):
            memcpy(z + row * width, bias, width * sizeof(real))
    x += first * size.features
    if count == size.steps:
        gemm(False, False, size.batch * count, width, size.features, x, size.features,
             kernel, width, beta, z, width)
    elif size.batch < count:
        for b in range(size.batch):
            gemm(False, False, count, width, size.features, x + b * stride, size.features,
                 kernel, width, beta, z + b * count * width, width)
    else:
        for t in range(count):
            gemm(False, False, size.batch, width, size.features, x + t * size.features, stride,
                 kernel, width, beta, z + t * width, count * width)


cdef void gates_forward(LSTMCache cache, Py_ssize_t units, real *z, real *c, real *h,
                        real *scratch) noexcept nogil:
    if real is float:
        cache.gate_kernels_f32.forward(&cache.gate_kernels_f32, units, z, c, h, scratch)
    else:
        cache.gate_kernels_f64.forward(&cache.gate_kernels_f64, units, z, c, h, scratch)


cdef void gates_backward(LSTMCache cache, Py_ssize_t units, const real *gates,
                         const real *c_prev, const real *c, const real *dh, real *dc, real *dz,
                         real *scratch) noexcept nogil:
    if real is float:
        cache.gate_kernels_f32.backward(&cache.gate_kernels_f32, units, gates, c_prev, c, dh, dc,
                                        dz, scratch)
    else:
        cache.gate_kernels_f64.backward(&cache.gate_kernels_f64, units, gates, c_prev, c, dh, dc,
                                        dz, scratch)


cdef void run_forward(
    LSTMCache cache, Sizes size, const real *x, const real *kernel, const real *recurrent_kernel,
    const real *bias, real[:, ::1] h, real[:, ::1] c, real[:, :, ::1] y, real[::1] z,
    Py_ssize_t block, real[:, :, ::1] saved_h, real[:, :, ::1] saved_c,
    const unsigned char[:, ::1] valid, const unsigned char[:, ::1] shown, real[::1] scratch,
) noexcept nogil:
    """h, c (B, H) IN initial, OUT final states; z (B * block * 4H) OUT gates of the last block."""
    cdef Py_ssize_t width = 4 * size.units, row_bytes = size.units * sizeof(real)
    cdef Py_ssize_t first, last, count, s, t, b, base
    cdef fp_mode mode = flush_denormals()
    cdef Py_ssize_t number
    for number in range((size.steps + block - 1) // block):
        first = number * block
        last = min(size.steps, first + block)
        count = last - first
        base = place_of(last - 1, size.steps, True) if cache.go_backwards else first
        project(size, base, count, x, kernel, bias, &z[0])
        for s in range(first, last):
            t = place_of(s, size.steps, cache.go_backwards) - base
            gemm(False, False, size.batch, width, size.units, &h[0, 0], size.units,
                 recurrent_kernel, width, <real>1, &z[t * width], count * width)
            for b in range(size.batch):
                if valid is None or valid[b, s]:
                    gates_forward(cache, size.units, &z[(b * count + t) * width], &c[b, 0],
                                  &h[b, 0], &scratch[0])
                if shown is None or shown[b, s]:
                    memcpy(&y[b, s, 0], &h[b, 0], row_bytes)
                else:
                    memset(&y[b, s, 0], 0, row_bytes)
                if saved_c is not None:
                    memcpy(&saved_c[b, s, 0], &c[b, 0], row_bytes)
                if saved_h is not None:
                    memcpy(&saved_h[b, s, 0], &h[b, 0], row_bytes)
    restore_denormals(mode)


cdef void run_backward(
    LSTMCache cache, Sizes size, const real[:, :, ::1] gates, const real[:, :, ::1] saved_c,
    const real[:, ::1] c0, const real *recurrent_kernel, const real[:, :, ::1] dy,
    real[:, ::1] dh, real[:, ::1] dc, real[:, :, ::1] dz,
    const unsigned char[:, ::1] valid, const unsigned char[:, ::1] shown, real[::1] scratch,
) noexcept nogil:
    """dh, dc (B, H) IN gradients of the final, OUT of the initial states; dz OUT."""
    cdef Py_ssize_t width = 4 * size.units, row_bytes = size.units * sizeof(real)
    cdef Py_ssize_t s, t, b, j
    for s in range(size.steps - 1, -1, -1):
        t = place_of(s, size.steps, cache.go_backwards)
        for b in range(size.batch):
            if dy is not None and (shown is None or shown[b, s]):
                for j in range(size.units):
                    dh[b, j] += dy[b, s, j]
            if valid is not None and not valid[b, s]:
                memset(&dz[b, t, 0], 0, width * sizeof(real))
                continue
            gates_backward(cache, size.units, &gates[b, t, 0],
                           &saved_c[b, s - 1, 0] if s > 0 else row_of(c0, b),
                           &saved_c[b, s, 0], &dh[b, 0], &dc[b, 0], &dz[b, t, 0], &scratch[0])
            memset(&dh[b, 0], 0, row_bytes)
        # Rows that took part start from zero, the others keep what they carry.
        gemm(False, True, size.batch, size.units, width, &dz[0, t, 0], size.steps * width,
             recurrent_kernel, width, <real>1, &dh[0, 0], size.units)


cdef void gather_previous_states(LSTMCache cache, Sizes size, const real[:, :, ::1] saved_h,
                                 const real[:, ::1] h0, real[:, :, ::1] h_prev) noexcept nogil:
    """h_prev (B, T, H) OUT the state before each step, in the order of x."""
    cdef Py_ssize_t row_bytes = size.units * sizeof(real), b, s, t
    for b in range(size.batch):
        for s in range(size.steps):
            t = place_of(s, size.steps, cache.go_backwards)
            memcpy(&h_prev[b, t, 0], &saved_h[b, s - 1, 0] if s > 0 else row_of(h0, b), row_bytes)


cdef void sum_rows(const real[:, :, ::1] dz, real[::1] total, real[::1] scratch) noexcept nogil:
    """total (N) = sum of dz (B, T, N), first over each sequence, so that the sum stays short."""
    cdef Py_ssize_t b, t, j
    total[:] = 0
    for b in range(dz.shape[0]):
        scratch[:] = 0
        for t in range(dz.shape[1]):
            for j in range(dz.shape[2]):
                scratch[j] += dz[b, t, j]
        for j in range(dz.shape[2]):
            total[j] += scratch[j]


cdef _forward(LSTMCache cache, Sizes size, bias, bint training, const real[:, :, ::1] x,
              const real[:, ::1] kernel, const real[:, ::1] recurrent_kernel):
    """The typed half of `forward`: buffers, then the loop without the GIL."""
    cdef const real[::1] bias_view = bias
    cdef const real *bias_data = NULL if bias is None else &bias_view[0]
    cdef const unsigned char[:, ::1] valid = cache.valid, shown = cache.shown
    cdef real[:, :, ::1] saved_h = None, saved_c = None
    cdef Py_ssize_t width = 4 * size.units
    cdef Py_ssize_t block = max(1, size.steps)
    dtype = cache.kernel.dtype
    y = np.empty((size.batch, size.steps, size.units), dtype)
    h = _state(cache.h0, size, dtype)
    c = _state(cache.c0, size, dtype)
    if training:
        z = np.empty((size.batch, size.steps, width), dtype)
        cache.gates = z
        cache.c = saved_c = np.empty_like(y)
        # With a mask the outputs are not the states.
        cache.h = y
        if cache.valid is not None:
            cache.h = saved_h = np.empty_like(y)
        z = z.reshape(-1)
    else:
        block = max(1, min(block, BLOCK_ELEMENTS // max(1, size.batch * width)))
        z = np.empty(size.batch * block * width, dtype)
    cdef real[:, ::1] h_view = h, c_view = c
    cdef real[:, :, ::1] y_view = y
    cdef real[::1] z_view = z, scratch = np.empty(GATE_SCRATCH_ROWS * size.units, dtype)
    if size.batch > 0 and size.steps > 0:
        with nogil:
            run_forward(cache, size, &x[0, 0, 0], &kernel[0, 0], &recurrent_kernel[0, 0],
                        bias_data, h_view, c_view, y_view, z_view, block, saved_h, saved_c,
                        valid, shown, scratch)
    return y, h, c, cache if training else None


cdef _backward(LSTMCache cache, Sizes size, dy, dh, dc, const real[:, :, ::1] gates,
               const real[:, :, ::1] x, const real[:, ::1] kernel,
               const real[:, ::1] recurrent_kernel):
    """The typed half of `backward`."""
    cdef Py_ssize_t width = 4 * size.units, rows = size.batch * size.steps
    cdef const unsigned char[:, ::1] valid = cache.valid, shown = cache.shown
    cdef const real[:, :, ::1] saved_h = cache.h, saved_c = cache.c, dy_view = dy
    dtype = cache.kernel.dtype
    cdef const real[:, ::1] h0 = _state(cache.h0, size, dtype), c0 = _state(cache.c0, size, dtype)
    dh, dc = _state(dh, size, dtype), _state(dc, size, dtype)
    dx = np.empty((size.batch, size.steps, size.features), dtype)
    dkernel = np.zeros((size.features, width), dtype)
    drecurrent_kernel = np.zeros((size.units, width), dtype)
    dbias = np.zeros(width, dtype)
    cdef real[:, ::1] dh_view = dh, dc_view = dc
    cdef real[:, ::1] dkernel_view = dkernel, drecurrent_view = drecurrent_kernel
    cdef real[::1] dbias_view = dbias, scratch = np.empty(GATE_SCRATCH_ROWS * size.units, dtype)
    cdef real[:, :, ::1] dx_view = dx, dz = np.empty((size.batch, size.steps, width), dtype)
    cdef real[:, :, ::1] h_prev = np.empty((size.batch, size.steps, size.units), dtype)
    cdef fp_mode mode
    if rows > 0:
        with nogil:
            mode = flush_denormals()
            run_backward(cache, size, gates, saved_c, c0, &recurrent_kernel[0, 0], dy_view,
                         dh_view, dc_view, dz, valid, shown, scratch)
            gather_previous_states(cache, size, saved_h, h0, h_prev)
            gemm(False, True, rows, size.features, width, &dz[0, 0, 0], width, &kernel[0, 0],
                 width, <real>0, &dx_view[0, 0, 0], size.features)
            gemm(True, False, size.features, width, rows, &x[0, 0, 0], size.features,
                 &dz[0, 0, 0], width, <real>0, &dkernel_view[0, 0], width)
            gemm(True, False, size.units, width, rows, &h_prev[0, 0, 0], size.units,
                 &dz[0, 0, 0], width, <real>0, &drecurrent_view[0, 0], width)
            sum_rows(dz, dbias_view, scratch[:width])
            restore_denormals(mode)
    return dx, dkernel, drecurrent_kernel, dbias if cache.has_bias else None, dh, dc


cdef _state(value, Sizes size, dtype):
    """A fresh (B, H) array of the values of a checked state, or of zeros."""
    if value is None:
        return np.zeros((size.batch, size.units), dtype)
    return value.copy()


cdef Sizes _sizes_of(x, recurrent_kernel):
    cdef Sizes size
    size.batch, size.steps, size.features = x.shape
    size.units = recurrent_kernel.shape[0]
    return size


cdef _require_intact(LSTMCache cache, Sizes size):
    """Refuse a cache whose arrays were resized in place since, as `ndarray.resize` can."""
    width = 4 * size.units
    if (
        cache.gates.shape != (size.batch, size.steps, width)
        or cache.h.shape != (size.batch, size.steps, size.units)
        or cache.c.shape != cache.h.shape
        or cache.kernel.shape != (size.features, width)
        or cache.recurrent_kernel.shape != (size.units, width)
    ):
        raise ValueError(
            "lstm_backward: the arrays that `cache` refers to have been resized since "
            "lstm_forward; run it again."
        )


def forward(x, kernel, recurrent_kernel, bias, h0, c0, *, mask, str activation,
            str recurrent_activation, bint go_backwards, bint zero_output_for_mask,
            bint training):
    """See `fastlstm.functional.lstm_forward`."""
    cdef LSTMCache cache = LSTMCache.__new__(LSTMCache)
    cdef int act = activation_index(activation, "lstm_forward: `activation`", True)
    cdef int recurrent_act = activation_index(
        recurrent_activation, "lstm_forward: `recurrent_activation`", True)
    dtype = arguments.real_dtype_of(kernel, "lstm_forward: `kernel`")
    kernel = arguments.array_of_rank(kernel, dtype, 2, "lstm_forward: `kernel`", "(F, 4*H)")
    features, width = kernel.shape
    if width == 0 or width % 4 or features == 0:
        raise ValueError(
            f"lstm_forward: `kernel` must have shape (F, 4*H) with F and H at least 1, "
            f"got {kernel.shape}."
        )
    units = width // 4
    recurrent_kernel = arguments.array_of_shape(
        recurrent_kernel, dtype, (units, width), "lstm_forward: `recurrent_kernel`", "(H, 4*H)")
    if bias is not None:
        bias = arguments.array_of_shape(bias, dtype, (width,), "lstm_forward: `bias`", "(4*H,)")
    x = arguments.array_of_rank(x, dtype, 3, "lstm_forward: `x`", "(B, T, F)")
    batch, steps = x.shape[:2]
    if x.shape[2] != features:
        raise ValueError(
            f"lstm_forward: `x` must have shape (B, T, F) with F = {features} as in `kernel`, "
            f"got {x.shape}."
        )
    arguments.check_strides(batch, steps, max(features, width), "lstm_forward")
    if h0 is not None:
        h0 = arguments.array_of_shape(h0, dtype, (batch, units), "lstm_forward: `h0`", "(B, H)")
    if c0 is not None:
        c0 = arguments.array_of_shape(c0, dtype, (batch, units), "lstm_forward: `c0`", "(B, H)")
    if training:
        # The states belong to the caller, who may well reuse their memory for the next call.
        h0 = None if h0 is None else h0.copy()
        c0 = None if c0 is None else c0.copy()
    cache.x, cache.kernel, cache.recurrent_kernel = x, kernel, recurrent_kernel
    cache.h0, cache.c0, cache.has_bias = h0, c0, bias is not None
    cache.go_backwards = go_backwards
    if mask is not None:
        cache.valid = arguments.mask_in_step_order(
            mask, (batch, steps), go_backwards, "lstm_forward: `mask`")
        cache.shown = (
            cache.valid if zero_output_for_mask
            else np.maximum.accumulate(cache.valid, axis=1) if steps else cache.valid
        )
    cdef Sizes size = _sizes_of(x, recurrent_kernel)
    if dtype == arguments.FLOAT32:
        cache.gate_kernels_f32 = select_gates_f32(table_f32(), act, recurrent_act)
        cache.path = cache.gate_kernels_f32.name.decode()
        return _forward[float](cache, size, bias, training, x, kernel, recurrent_kernel)
    cache.gate_kernels_f64 = select_gates_f64(table_f64(), act, recurrent_act)
    cache.path = cache.gate_kernels_f64.name.decode()
    return _forward[double](cache, size, bias, training, x, kernel, recurrent_kernel)


def backward(LSTMCache cache not None, dy, dh, dc):
    """See `fastlstm.functional.lstm_backward`."""
    if cache.gates is None:
        raise ValueError(
            "lstm_backward: `cache` must come from lstm_forward(..., training=True)."
        )
    cdef Sizes size = _sizes_of(cache.x, cache.recurrent_kernel)
    _require_intact(cache, size)
    dtype = cache.kernel.dtype
    if dy is not None:
        dy = arguments.array_of_shape(
            dy, dtype, cache.h.shape, "lstm_backward: `dy`", "(B, T, H)")
    state_shape = (size.batch, size.units)
    if dh is not None:
        dh = arguments.array_of_shape(dh, dtype, state_shape, "lstm_backward: `dh`", "(B, H)")
    if dc is not None:
        dc = arguments.array_of_shape(dc, dtype, state_shape, "lstm_backward: `dc`", "(B, H)")
    if dtype == arguments.FLOAT32:
        return _backward[float](cache, size, dy, dh, dc, cache.gates, cache.x, cache.kernel,
                                cache.recurrent_kernel)
    return _backward[double](cache, size, dy, dh, dc, cache.gates, cache.x, cache.kernel,
                             cache.recurrent_kernel)
