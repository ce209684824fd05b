"""The LSTM and the dense layer in plain NumPy: slow, obviously right, and what tests compare with.

The functions have the signatures of `fastlstm.functional`. One step of the LSTM
(Hochreiter & Schmidhuber 1997, forget gate of Gers, Schmidhuber & Cummins 2000) is ::

    z = x[t] @ kernel + h @ recurrent_kernel + bias        zi, zf, zg, zo = split(z, 4)
    i = r(zi)    f = r(zf)    g = a(zg)    o = r(zo)        a: activation, r: recurrent_activation
    c = f * c + i * g
    h = o * a(c)

and the backward pass is the chain rule applied to these lines from the last step to the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "ACTIVATIONS",
    "DERIVATIVES",
    "dense_backward",
    "dense_forward",
    "lstm_backward",
    "lstm_forward",
]

# Klambauer et al. 2017, "Self-Normalizing Neural Networks", equation 14.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
LEAKY_SLOPE = 0.2

_erf = np.vectorize(math.erf, otypes=[float])


def _sigmoid(z: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _elu(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + _erf(z / math.sqrt(2)))


def _normal_pdf(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_backward(z: np.ndarray, dy: np.ndarray) -> np.ndarray:
    y = _softmax(z)
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda z: np.clip(z + 3, 0, 6) / 6,
    "relu": lambda z: np.maximum(z, 0),
    "elu": _elu,
    "selu": lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))),
    "softsign": lambda z: z / (1 + np.abs(z)),
    "exponential": np.exp,
    "linear": lambda z: z,
    "leaky_relu": lambda z: np.where(z > 0, z, LEAKY_SLOPE * z),
    "gelu": lambda z: z * _normal_cdf(z),
    "silu": lambda z: z * _sigmoid(z),
}

# d activation(z) / dz, at a kink the derivative that Keras takes: zero, or the left one.
DERIVATIVES: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "sigmoid": lambda z: _sigmoid(z) * _sigmoid(-z),
    "hard_sigmoid": lambda z: np.where((z > -3) & (z < 3), 1 / 6, 0.0),
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "elu": lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))),
    "selu": lambda z: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0))),
    "softplus": _sigmoid,
    "softsign": lambda z: 1 / (1 + np.abs(z)) ** 2,
    "exponential": np.exp,
    "linear": lambda z: np.ones_like(z),
    "leaky_relu": lambda z: np.where(z > 0, 1.0, LEAKY_SLOPE),
    "gelu": lambda z: _normal_cdf(z) + z * _normal_pdf(z),
    "silu": lambda z: _sigmoid(z) * (1 + z * _sigmoid(-z)),
}


class LSTMCache(NamedTuple):
    """What `lstm_backward` needs; arrays over time are in the order in which steps were done."""

    x: np.ndarray
    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    has_bias: bool
    activation: str
    recurrent_activation: str
    go_backwards: bool
    z: np.ndarray  # (B, T, 4H) pre-activations
    h: np.ndarray  # (B, T + 1, H) states, the initial one first
    c: np.ndarray  # (B, T + 1, H)
    valid: np.ndarray  # (B, T) steps that count
    shown: np.ndarray  # (B, T) steps whose output is the state rather than zero


def _in_step_order(array: np.ndarray, go_backwards: bool) -> np.ndarray:
    return array[:, ::-1] if go_backwards else array


def lstm_forward(
    x: np.ndarray,
    kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: np.ndarray | None = None,
    h0: np.ndarray | None = None,
    c0: np.ndarray | None = None,
    *,
    mask: np.ndarray | None = None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    training: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, LSTMCache | None]:
    """Run an LSTM over x (B, T, F); see `fastlstm.functional.lstm_forward`.

    Examples
    --------
    >>> y, h, c, cache = lstm_forward(np.ones((2, 3, 1)), np.ones((1, 8)), np.ones((2, 8)))
    >>> y.shape, h.shape, c.shape, cache
    ((2, 3, 2), (2, 2), (2, 2), None)
    """
    a, r = ACTIVATIONS[activation], ACTIVATIONS[recurrent_activation]
    batch, steps, _ = x.shape
    units = recurrent_kernel.shape[0]
    x = _in_step_order(x, go_backwards)
    valid = np.ones((batch, steps), bool) if mask is None else np.array(mask, bool)
    valid = _in_step_order(valid, go_backwards)
    # Whatever a masked step holds, NaN included, it counts for nothing.
    x = np.where(valid[:, :, None], x, x.dtype.type(0))
    # Before the first valid step the output is zero; after it the last one is repeated, and
    # that one is the carried state.
    shown = valid if zero_output_for_mask else np.logical_or.accumulate(valid, axis=1)

    z = np.empty((batch, steps, 4 * units), x.dtype)
    h = np.zeros((batch, steps + 1, units), x.dtype)
    c = np.zeros((batch, steps + 1, units), x.dtype)
    if h0 is not None:
        h[:, 0] = h0
    if c0 is not None:
        c[:, 0] = c0
    for t in range(steps):
        z[:, t] = x[:, t] @ kernel + h[:, t] @ recurrent_kernel
        if bias is not None:
            z[:, t] += bias
        zi, zf, zg, zo = np.split(z[:, t], 4, axis=-1)
        i, f, g, o = r(zi), r(zf), a(zg), r(zo)
        counts = valid[:, t, None]
        c[:, t + 1] = np.where(counts, f * c[:, t] + i * g, c[:, t])
        h[:, t + 1] = np.where(counts, o * a(c[:, t + 1]), h[:, t])
    y = np.where(shown[:, :, None], h[:, 1:], x.dtype.type(0))

    cache = None
    if training:
        cache = LSTMCache(
            x, kernel, recurrent_kernel, bias is not None, activation, recurrent_activation,
            go_backwards, z, h, c, valid, shown,
        )  # fmt: skip
    return y, h[:, -1].copy(), c[:, -1].copy(), cache


def lstm_backward(
    cache: LSTMCache,
    dy: np.ndarray | None = None,
    dh: np.ndarray | None = None,
    dc: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients (dx, dkernel, drecurrent_kernel, dbias, dh0, dc0) of `lstm_forward`.

    Examples
    --------
    >>> x, kernel, recurrent_kernel = np.ones((2, 3, 1)), np.ones((1, 8)), np.ones((2, 8))
    >>> y, h, c, cache = lstm_forward(x, kernel, recurrent_kernel, training=True)
    >>> [g if g is None else g.shape for g in lstm_backward(cache, dy=np.ones_like(y))]
    [(2, 3, 1), (1, 8), (2, 8), None, (2, 2), (2, 2)]
    """
    a, r = ACTIVATIONS[cache.activation], ACTIVATIONS[cache.recurrent_activation]
    da, dr = DERIVATIVES[cache.activation], DERIVATIVES[cache.recurrent_activation]
    batch, steps, _ = cache.x.shape
    units = cache.recurrent_kernel.shape[0]
    zero_state = np.zeros((batch, units), cache.x.dtype)
    dh = zero_state if dh is None else dh
    dc = zero_state if dc is None else dc
    dz = np.zeros_like(cache.z)
    for t in reversed(range(steps)):
        if dy is not None:
            dh = dh + np.where(cache.shown[:, t, None], dy[:, t], 0)
        zi, zf, zg, zo = np.split(cache.z[:, t], 4, axis=-1)
        c_prev, c = cache.c[:, t], cache.c[:, t + 1]
        counts = cache.valid[:, t, None]
        dc_step = dc + dh * r(zo) * da(c)
        dz_step = np.concatenate(
            [
                dc_step * a(zg) * dr(zi),
                dc_step * c_prev * dr(zf),
                dc_step * r(zi) * da(zg),
                dh * a(c) * dr(zo),
            ],
            axis=-1,
        )
        dz[:, t] = np.where(counts, dz_step, 0)
        dh = np.where(counts, dz[:, t] @ cache.recurrent_kernel.T, dh)
        dc = np.where(counts, dc_step * r(zf), dc)
    dx = _in_step_order(dz @ cache.kernel.T, cache.go_backwards)
    dkernel = np.einsum("btf,btz->fz", cache.x, dz)
    h_before = np.where(cache.valid[:, :, None], cache.h[:, :-1], 0)
    drecurrent_kernel = np.einsum("bth,btz->hz", h_before, dz)
    dbias = dz.sum(axis=(0, 1)) if cache.has_bias else None
    return dx, dkernel, drecurrent_kernel, dbias, dh, dc


class DenseCache(NamedTuple):
    """What `dense_backward` needs: the inputs and the pre-activations z (..., U)."""

    x: np.ndarray
    kernel: np.ndarray
    has_bias: bool
    activation: str
    z: np.ndarray


def dense_forward(
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    activation: str | None = None,
    training: bool = False,
) -> tuple[np.ndarray, DenseCache | None]:
    """activation(x @ kernel + bias) for x (..., F); see `fastlstm.functional.dense_forward`.

    Examples
    --------
    >>> dense_forward(np.ones((2, 3)), np.ones((3, 1)), np.zeros(1))[0]
    array([[3.],
           [3.]])
    """
    activation = activation or "linear"
    z = x @ kernel
    if bias is not None:
        z = z + bias
    y = _softmax(z) if activation == "softmax" else ACTIVATIONS[activation](z)
    cache = DenseCache(x, kernel, bias is not None, activation, z) if training else None
    return y, cache


def dense_backward(
    cache: DenseCache, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients (dx, dkernel, dbias) of `dense_forward`.

    Examples
    --------
    >>> y, cache = dense_forward(np.ones((2, 3)), np.ones((3, 1)), np.zeros(1), training=True)
    >>> dense_backward(cache, np.ones_like(y))[2]
    array([2.])
    """
    if cache.activation == "softmax":
        dz = _softmax_backward(cache.z, dy)
    else:
        dz = dy * DERIVATIVES[cache.activation](cache.z)
    inputs, units = cache.kernel.shape
    rows_x, rows_dz = cache.x.reshape(-1, inputs), dz.reshape(-1, units)
    dbias = rows_dz.sum(axis=0) if cache.has_bias else None
    return dz @ cache.kernel.T, rows_x.T @ rows_dz, dbias
