"""One optimizer step over all parameters of one dtype, held in one flat buffer.

Every kernel takes, in this order, the parameters (IN/OUT), their gradients (IN), the slots
(IN/OUT, None where the variant has none) and the step's numbers, which are rounded to the
buffers' type first. All buffers are 1-D, contiguous, of one dtype and length, and distinct. The
formulas and their loops are in csrc/kernels/updates_template.h. Denormals count as zero: the means
of a weight whose gradient is zero for long would else take many times as long.
"""

from libc.math cimport sqrt

from fastlstm._core.kernels cimport (
    adam_numbers_f32, adam_numbers_f64, flush_denormals, fp_mode, real, restore_denormals,
    rmsprop_numbers_f32, rmsprop_numbers_f64, table_f32, table_f64,
)


cdef inline Py_ssize_t size_of(real[::1] slot, Py_ssize_t otherwise) noexcept:
    return otherwise if slot is None else slot.shape[0]


cdef inline real *data_of(real[::1] slot) noexcept:
    return NULL if slot is None or slot.shape[0] == 0 else &slot[0]


cdef int check_sizes(Py_ssize_t n, Py_ssize_t a, Py_ssize_t b, Py_ssize_t c,
                     Py_ssize_t d) except -1:
    if a != n or b != n or c != n or d != n:
        raise ValueError(
            f"The buffers of an optimizer step must have one size, got {(n, a, b, c, d)}."
        )
    return 0


def sgd(
    real[::1] parameters not None,  # IN/OUT
    real[::1] gradients not None,  # IN
    real[::1] velocity,  # IN/OUT, None without momentum
    double learning_rate,
    double momentum,
    bint nesterov,
):
    """p -= lr g;  with momentum: v = mu v - lr g, p += v;  nesterov: p += mu v - lr g."""
    cdef Py_ssize_t n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], size_of(velocity, n), n, n)
    cdef real *p = data_of(parameters)
    cdef real *g = data_of(gradients)
    cdef real *v = data_of(velocity)
    cdef real lr = <real>learning_rate, mu = <real>momentum
    cdef fp_mode mode
    with nogil:
        mode = flush_denormals()
        if real is float:
            table_f32().updates.sgd(n, p, g, v, lr, mu, nesterov)
        else:
            table_f64().updates.sgd(n, p, g, v, lr, mu, nesterov)
        restore_denormals(mode)


def rmsprop(
    real[::1] parameters not None,  # IN/OUT
    real[::1] gradients not None,  # IN
    real[::1] mean_square not None,  # IN/OUT
    real[::1] velocity,  # IN/OUT, None without momentum
    real[::1] mean,  # IN/OUT, None unless centered
    double learning_rate,
    double decay,
    double momentum,
    double epsilon,
):
    """s = rho s + (1 - rho) g^2, d = s + eps;  centered: a = rho a + (1 - rho) g, d -= a^2;

    p -= lr g / sqrt(d), or with momentum v = mu v + lr g / sqrt(d), p -= v.
    """
    cdef Py_ssize_t n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], mean_square.shape[0], size_of(velocity, n),
                size_of(mean, n))
    cdef real *p = data_of(parameters)
    cdef real *g = data_of(gradients)
    cdef real *s = data_of(mean_square)
    cdef real *v = data_of(velocity)
    cdef real *a = data_of(mean)
    cdef rmsprop_numbers_f32 numbers_f32
    cdef rmsprop_numbers_f64 numbers_f64
    cdef fp_mode mode
    with nogil:
        mode = flush_denormals()
        if real is float:
            numbers_f32 = rmsprop_numbers_f32(
                learning_rate, decay, 1.0 - decay, momentum, epsilon)
            table_f32().updates.rmsprop(n, p, g, s, v, a, &numbers_f32)
        else:
            numbers_f64 = rmsprop_numbers_f64(
                learning_rate, decay, 1.0 - decay, momentum, epsilon)
            table_f64().updates.rmsprop(n, p, g, s, v, a, &numbers_f64)
        restore_denormals(mode)


def adam(
    real[::1] parameters not None,  # IN/OUT
    real[::1] gradients not None,  # IN
    real[::1] mean not None,  # IN/OUT
    real[::1] mean_square not None,  # IN/OUT
    real[::1] largest,  # IN/OUT the largest mean square so far, None without amsgrad
    double step_size,
    double beta_1,
    double beta_2,
    double epsilon,
):
    """m += (g - m)(1 - b1), v += (g^2 - v)(1 - b2), p -= alpha m / (sqrt(v) + eps).

    alpha (`step_size`) carries the bias corrections: lr sqrt(1 - b2^t) / (1 - b1^t). With
    amsgrad, the largest v so far takes the place of v in the last formula.
    """
    cdef Py_ssize_t n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], mean.shape[0], mean_square.shape[0], size_of(largest, n))
    cdef real *p = data_of(parameters)
    cdef real *g = data_of(gradients)
    cdef real *m = data_of(mean)
    cdef real *v = data_of(mean_square)
    cdef real *w = data_of(largest)
    cdef adam_numbers_f32 numbers_f32
    cdef adam_numbers_f64 numbers_f64
    cdef fp_mode mode
    with nogil:
        mode = flush_denormals()
        if real is float:
            numbers_f32 = adam_numbers_f32(
                step_size, 1.0 - beta_1, 1.0 - beta_2, epsilon, 0, 0, 0)
            table_f32().updates.adam(n, p, g, m, v, w, &numbers_f32)
        else:
            numbers_f64 = adam_numbers_f64(
                step_size, 1.0 - beta_1, 1.0 - beta_2, epsilon, 0, 0, 0)
            table_f64().updates.adam(n, p, g, m, v, w, &numbers_f64)
        restore_denormals(mode)


def nadam(
    real[::1] parameters not None,  # IN/OUT
    real[::1] gradients not None,  # IN
    real[::1] mean not None,  # IN/OUT
    real[::1] mean_square not None,  # IN/OUT
    double learning_rate,
    double beta_1,
    double beta_2,
    double epsilon,
    double mean_factor,
    double gradient_factor,
    double square_factor,
):
    """m += (g - m)(1 - b1), v += (g^2 - v)(1 - b2), p -= lr (a m + b g) / (sqrt(c v) + eps).

    a (`mean_factor`) = u' / (1 - U u'), b (`gradient_factor`) = (1 - u) / (1 - U) and
    c (`square_factor`) = 1 / (1 - b2^t); u and u' are the momenta of this step and the next, U the
    product of those so far.
    """
    cdef Py_ssize_t n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], mean.shape[0], mean_square.shape[0], n)
    cdef real *p = data_of(parameters)
    cdef real *g = data_of(gradients)
    cdef real *m = data_of(mean)
    cdef real *v = data_of(mean_square)
    cdef adam_numbers_f32 numbers_f32
    cdef adam_numbers_f64 numbers_f64
    cdef fp_mode mode
    with nogil:
        mode = flush_denormals()
        if real is float:
            numbers_f32 = adam_numbers_f32(
                learning_rate, 1.0 - beta_1, 1.0 - beta_2, epsilon, mean_factor, gradient_factor,
                square_factor)
            table_f32().updates.nadam(n, p, g, m, v, &numbers_f32)
        else:
            numbers_f64 = adam_numbers_f64(
                learning_rate, 1.0 - beta_1, 1.0 - beta_2, epsilon, mean_factor, gradient_factor,
                square_factor)
            table_f64().updates.nadam(n, p, g, m, v, &numbers_f64)
        restore_denormals(mode)


def adagrad(
    real[::1] parameters not None,  # IN/OUT
    real[::1] gradients not None,  # IN
    real[::1] square_sum not None,  # IN/OUT
    double learning_rate,
    double epsilon,
):
    """s += g^2, p -= lr g / sqrt(s + eps)."""
    cdef Py_ssize_t n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], square_sum.shape[0], n, n)
    cdef real *p = data_of(parameters)
    cdef real *g = data_of(gradients)
    cdef real *s = data_of(square_sum)
    cdef real lr = <real>learning_rate, eps = <real>epsilon
    cdef fp_mode mode
    with nogil:
        mode = flush_denormals()
        if real is float:
            table_f32().updates.adagrad(n, p, g, s, lr, eps)
        else:
            table_f64().updates.adagrad(n, p, g, s, lr, eps)
        restore_denormals(mode)


cdef double sum_of_squares(const real *x, Py_ssize_t n) noexcept nogil:
    """In double, by eight running sums: one alone would wait for its own addition every time."""
    cdef double[8] sums = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    cdef double total = 0.0
    cdef Py_ssize_t i, j, whole = n - n % 8
    for i in range(0, whole, 8):
        for j in range(8):
            sums[j] += <double>x[i + j] * <double>x[i + j]
    for j in range(8):
        total += sums[j]
    for i in range(whole, n):
        total += <double>x[i] * <double>x[i]
    return total


def squared_norm(real[::1] x not None):
    """The sum of squares of `x`, taken in double."""
    cdef double total
    with nogil:
        total = sum_of_squares(&x[0], x.shape[0])
    return total


def clip_norm(
    real[::1] gradients not None,  # IN/OUT
    const Py_ssize_t[::1] bounds not None,  # IN, ascending
    double limit,
):
    """Scale every segment [bounds[k], bounds[k + 1]) down to a Euclidean norm of at most `limit`.

    A segment with an infinite or NaN element becomes NaN there, as in Keras.
    """
    cdef Py_ssize_t i, k, n = gradients.shape[0], segments = bounds.shape[0] - 1
    cdef real *g = &gradients[0]
    cdef real scale
    cdef double norm
    for k in range(segments + 1):
        if bounds[k] < 0 or bounds[k] > n or (k > 0 and bounds[k] < bounds[k - 1]):
            raise ValueError(f"Bound {k} is {bounds[k]}: it must ascend within 0 to {n}.")
    with nogil:
        for k in range(segments):
            norm = sqrt(sum_of_squares(g + bounds[k], bounds[k + 1] - bounds[k]))
            if norm <= limit:
                continue
            scale = <real>(limit / norm)
            for i in range(bounds[k], bounds[k + 1]):
                g[i] *= scale
