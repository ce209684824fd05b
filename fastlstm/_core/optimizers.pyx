"""One optimizer step over all parameters of one dtype, held in one flat buffer.

Every kernel takes, in this order, the parameters (IN/OUT), their gradients (IN), the slots
(IN/OUT, None where the variant has none) and the step's numbers, which are rounded to the
buffers' type first. All buffers are 1-D, contiguous, of one dtype and length, and distinct. The
formulas are Keras 3's, which differ from the papers in where epsilon stands; each is written in
full above its loop. A NaN or infinite gradient goes through to the parameters.
"""

from libc.math cimport sqrt, sqrtf

ctypedef fused real:
    float
    double


cdef inline real root(real x) noexcept nogil:
    if real is float:
        return sqrtf(x)
    else:
        return sqrt(x)


cdef inline Py_ssize_t size_of(real[::1] slot, Py_ssize_t otherwise) noexcept:
    return otherwise if slot is None else slot.shape[0]


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
    cdef Py_ssize_t i, n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], size_of(velocity, n), n, n)
    cdef real *p = &parameters[0]
    cdef const real *g = &gradients[0]
    cdef real *v = NULL
    cdef real lr = <real>learning_rate, mu = <real>momentum
    if velocity is not None:
        v = &velocity[0]
    with nogil:
        if v == NULL:
            for i in range(n):
                p[i] -= lr * g[i]
        elif nesterov:
            for i in range(n):
                v[i] = mu * v[i] - lr * g[i]
                p[i] += mu * v[i] - lr * g[i]
        else:
            for i in range(n):
                v[i] = mu * v[i] - lr * g[i]
                p[i] += v[i]


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
    cdef Py_ssize_t i, n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], mean_square.shape[0], size_of(velocity, n),
                size_of(mean, n))
    cdef real *p = &parameters[0]
    cdef const real *g = &gradients[0]
    cdef real *s = &mean_square[0]
    cdef real *v = NULL
    cdef real *a = NULL
    cdef real lr = <real>learning_rate, mu = <real>momentum, eps = <real>epsilon
    cdef real rho = <real>decay, rest = <real>(1.0 - decay)
    cdef real d, step
    if velocity is not None:
        v = &velocity[0]
    if mean is not None:
        a = &mean[0]
    with nogil:
        for i in range(n):
            s[i] = rho * s[i] + rest * (g[i] * g[i])
            d = s[i] + eps
            if a != NULL:
                a[i] = rho * a[i] + rest * g[i]
                d = s[i] - a[i] * a[i] + eps
            step = lr * g[i] / root(d)
            if v != NULL:
                v[i] = mu * v[i] + step
                step = v[i]
            p[i] -= step


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
    cdef Py_ssize_t i, n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], mean.shape[0], mean_square.shape[0], size_of(largest, n))
    cdef real *p = &parameters[0]
    cdef const real *g = &gradients[0]
    cdef real *m = &mean[0]
    cdef real *v = &mean_square[0]
    cdef real *w = NULL
    cdef real alpha = <real>step_size, eps = <real>epsilon
    cdef real rest_1 = <real>(1.0 - beta_1), rest_2 = <real>(1.0 - beta_2)
    if largest is not None:
        w = &largest[0]
    with nogil:
        if w == NULL:
            for i in range(n):
                m[i] += (g[i] - m[i]) * rest_1
                v[i] += (g[i] * g[i] - v[i]) * rest_2
                p[i] -= m[i] * alpha / (root(v[i]) + eps)
        else:
            for i in range(n):
                m[i] += (g[i] - m[i]) * rest_1
                v[i] += (g[i] * g[i] - v[i]) * rest_2
                if not w[i] >= v[i]:
                    w[i] = v[i]
                p[i] -= m[i] * alpha / (root(w[i]) + eps)


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
    cdef Py_ssize_t i, n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], mean.shape[0], mean_square.shape[0], n)
    cdef real *p = &parameters[0]
    cdef const real *g = &gradients[0]
    cdef real *m = &mean[0]
    cdef real *v = &mean_square[0]
    cdef real lr = <real>learning_rate, eps = <real>epsilon
    cdef real rest_1 = <real>(1.0 - beta_1), rest_2 = <real>(1.0 - beta_2)
    cdef real a = <real>mean_factor, b = <real>gradient_factor, c = <real>square_factor
    with nogil:
        for i in range(n):
            m[i] += (g[i] - m[i]) * rest_1
            v[i] += (g[i] * g[i] - v[i]) * rest_2
            p[i] -= lr * (a * m[i] + b * g[i]) / (root(c * v[i]) + eps)


def adagrad(
    real[::1] parameters not None,  # IN/OUT
    real[::1] gradients not None,  # IN
    real[::1] square_sum not None,  # IN/OUT
    double learning_rate,
    double epsilon,
):
    """s += g^2, p -= lr g / sqrt(s + eps)."""
    cdef Py_ssize_t i, n = parameters.shape[0]
    check_sizes(n, gradients.shape[0], square_sum.shape[0], n, n)
    cdef real *p = &parameters[0]
    cdef const real *g = &gradients[0]
    cdef real *s = &square_sum[0]
    cdef real lr = <real>learning_rate, eps = <real>epsilon
    with nogil:
        for i in range(n):
            s[i] += g[i] * g[i]
            p[i] -= lr * g[i] / root(s[i] + eps)


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
