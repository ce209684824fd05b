"""The LSTM and the dense layer as functions: arrays in, arrays out, no state.

Everything is computed in the real type of the weights, float32 or float64. Inputs are never
written to; one that is not C-contiguous, not aligned or of another real type is copied once. The
compiled loops run without the GIL and treat denormal numbers as zero. A long call in the main
thread looks for signals every few hundredths of a second, so Ctrl-C ends it.

`fastlstm.reference` has the same functions in plain NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm._core import activations, dense, lstm
from fastlstm._core.arguments import real_array
from fastlstm._core.dense_plan import DensePlan
from fastlstm.errors import as_real_array

__all__ = [
    "activation_backward",
    "activation_forward",
    "dense_backward",
    "dense_forward",
    "lstm_backward",
    "lstm_forward",
]


def lstm_forward(
    x: Any,
    kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: np.ndarray | None = None,
    h0: Any = None,
    c0: Any = None,
    *,
    mask: Any = None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    training: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, lstm.LSTMCache | None]:
    """Run an LSTM over a batch of sequences.

    One step is (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000)::

        zi, zf, zg, zo = split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4)
        c = r(zf) * c + r(zi) * a(zg)        a: activation
        h = r(zo) * a(c)                     r: recurrent_activation

    Parameters
    ----------
    x : (B, T, F)
        The sequences. T = 0 and B = 0 are allowed.
    kernel, recurrent_kernel, bias : (F, 4*H), (H, 4*H), (4*H,)
        Keras's weights, gates in the order input, forget, cell candidate, output.
    h0, c0 : (B, H), optional
        The states to start from; zeros by default.
    mask : (B, T) of booleans, optional
        Steps that count, in the order of `x`. Over a masked step the states and the output are
        carried; before the first valid step the output is zero. What `x` holds at a masked step,
        NaN included, reaches no result.
    activation, recurrent_activation : str
        Any of `fastlstm.activations.ELEMENTWISE`.
    go_backwards : bool
        Run from the last step to the first; `y` is then in that order too.
    zero_output_for_mask : bool
        Put zeros into `y` at masked steps instead of the carried output.
    training : bool
        Keep what `lstm_backward` needs.

    Returns
    -------
    y (B, T, H), h (B, H), c (B, H)
        The outputs, and the states after the last step.
    cache
        For `lstm_backward`, or None unless `training`. It refers to `x`, to the weights and to
        `y`: leave their contents alone until the gradients are taken.

    Raises
    ------
    ValueError
        For arrays whose shapes do not fit together, an unknown activation, or integers that the
        real type cannot hold exactly.
    TypeError
        For arrays that do not hold real numbers, and weights that are not float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> kernel, recurrent_kernel = rng.normal(size=(3, 8)), rng.normal(size=(2, 8))
    >>> y, h, c, cache = lstm_forward(rng.normal(size=(4, 5, 3)), kernel, recurrent_kernel)
    >>> y.shape, bool((y[:, -1] == h).all()), cache
    ((4, 5, 2), True, None)
    """
    plan = lstm.LSTMPlan(
        kernel,
        recurrent_kernel,
        bias,
        activation,
        recurrent_activation,
        go_backwards,
        zero_output_for_mask,
    )
    return lstm.forward(plan, x, h0, c0, mask, training)


def lstm_backward(
    cache: lstm.LSTMCache, dy: Any = None, dh: Any = None, dc: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients of `lstm_forward` by the chain rule, from the last step to the first.

    Parameters
    ----------
    cache
        What ``lstm_forward(..., training=True)`` returned. It stays intact: calling twice gives
        the same answer.
    dy : (B, T, H), optional
        The gradient of `y`; zero by default.
    dh, dc : (B, H), optional
        The gradients of the final states; zero by default.

    Returns
    -------
    dx (B, T, F), dkernel (F, 4*H), drecurrent_kernel (H, 4*H), dbias (4*H,) or None,
    dh0 (B, H), dc0 (B, H)
        All of them fresh arrays. `dbias` is None when there was no bias.

    Raises
    ------
    ValueError
        For gradients of the wrong shape, and a cache that holds nothing.
    TypeError
        For anything but a cache of `lstm_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> kernel, recurrent_kernel = rng.normal(size=(3, 8)), rng.normal(size=(2, 8))
    >>> y, h, c, cache = lstm_forward(
    ...     rng.normal(size=(4, 5, 3)), kernel, recurrent_kernel, training=True)
    >>> dx, dkernel, drecurrent_kernel, dbias, dh0, dc0 = lstm_backward(cache, np.ones_like(y))
    >>> dx.shape, dkernel.shape, drecurrent_kernel.shape, dbias
    ((4, 5, 3), (3, 8), (2, 8), None)
    """
    return lstm.backward(cache, dy, dh, dc)


def dense_forward(
    x: Any,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    activation: str | None = None,
    training: bool = False,
) -> tuple[np.ndarray, dense.DenseCache | None]:
    """``activation(x @ kernel + bias)`` over the last axis.

    Over a sequence (B, T, F) this is the time-distributed dense layer: one product for all steps.

    Parameters
    ----------
    x : (..., F)
    kernel, bias : (F, U), (U,)
    activation : str, optional
        Any of `fastlstm.activations.NAMES`; none by default.
    training : bool
        Keep what `dense_backward` needs.

    Returns
    -------
    y (..., U), and the cache, which is None unless `training`. It refers to `x`, to `kernel` and to
    `y`: leave their contents alone until the gradients are taken.

    Raises
    ------
    ValueError, TypeError
        As `lstm_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = dense_forward(np.ones((2, 3)), np.ones((3, 1)), np.zeros(1), activation="relu")
    >>> y.tolist()
    [[3.0], [3.0]]
    """
    plan = DensePlan(kernel, bias, activation or "linear")
    return dense.forward(plan, x, training)


def dense_backward(
    cache: dense.DenseCache, dy: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients of `dense_forward`: dx (..., F), dkernel (F, U), dbias (U,) or None.

    Raises ``ValueError`` for a `dy` of the wrong shape, ``TypeError`` for anything but a cache.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = dense_forward(np.ones((2, 3)), np.ones((3, 1)), np.zeros(1), training=True)
    >>> dx, dkernel, dbias = dense_backward(cache, np.ones_like(y))
    >>> dkernel.tolist(), dbias.tolist()
    ([[2.0], [2.0], [2.0]], [2.0])
    """
    return dense.backward(cache, dy)


def activation_forward(x: Any, activation: str) -> np.ndarray:
    """The activation of every element of x, softmax over the last axis, in the precision of x.

    tanh and sigmoid are within 3 ULP wherever the result is normal; see ``csrc/simd/vec_math.h``.

    Examples
    --------
    >>> activation_forward([-1.0, 0.0, 2.0], "relu").tolist()
    [0.0, 0.0, 2.0]
    """
    return activations.activation_forward(real_array(x, "`x`"), activation)


def activation_backward(x: Any, dy: Any, activation: str) -> np.ndarray:
    """The gradient of x, given that of ``activation_forward(x, activation)``.

    Examples
    --------
    >>> activation_backward([-1.0, 0.0, 2.0], [1.0, 1.0, 1.0], "relu").tolist()
    [0.0, 0.0, 1.0]
    """
    x = real_array(x, "`x`")
    dy = as_real_array(dy, x.dtype, "`dy`")
    if dy.shape != x.shape:
        raise ValueError(f"`dy` must have the shape of `x`, {x.shape}, got {dy.shape}.")
    return activations.activation_backward(x, dy, activation)
