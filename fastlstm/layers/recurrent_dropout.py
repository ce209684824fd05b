"""An LSTM whose recurrent product sees a randomly thinned state, forward and backward.

With `recurrent_dropout` Keras draws one set of factors for each gate, for the state and for the
inputs, and keeps them over time (Gal & Ghahramani 2016, section 4; gates i, f, c, o)::

    z_gate = (x[t] * input_factors[gate]) @ kernel_gate
           + (h * state_factors[gate]) @ recurrent_kernel_gate + bias_gate

The factors differ from row to row, so they cannot be folded into the weights. They can be folded
into the inputs: with u = the eight products side by side (B, 4 * (F + H)) and the eight blocks of
weights in one sparse matrix (4 * (F + H), 4H), z = u @ blocks + bias. So every step is a run of
`functional.lstm_forward` over one time step with u as its input and no recurrent weights, while
the states, which a masked step carries over, go the usual way. It costs four times the products:
the price of a rarely used option.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastlstm import functional

__all__ = ["Cache", "Factors", "lstm_backward", "lstm_forward", "shown_steps"]

GATES = 4


class Factors(NamedTuple):
    """The dropout factors of one call, constant over time."""

    inputs: np.ndarray  # (B, 4, F)
    state: np.ndarray  # (B, 4, H)


class Cache(NamedTuple):
    """What `lstm_backward` needs, the steps in the order in which they were done."""

    factors: Factors
    order: range
    steps: list[Any]
    shown: np.ndarray  # (B, T)
    x_shape: tuple[int, ...]


def shown_steps(mask: np.ndarray, go_backwards: bool, zero_output_for_mask: bool) -> np.ndarray:
    """Which outputs are states rather than zeros: bool (B, T) in the order of the steps.

    A masked step repeats the last output, which is zero before the first valid step; with
    `zero_output_for_mask` it is zero.
    """
    valid = mask[:, ::-1] if go_backwards else mask
    return valid if zero_output_for_mask else np.logical_or.accumulate(valid, axis=1)


def lstm_forward(
    x: np.ndarray,
    kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: np.ndarray | None,
    h0: np.ndarray | None,
    c0: np.ndarray | None,
    factors: Factors,
    *,
    mask: np.ndarray | None,
    activation: str,
    recurrent_activation: str,
    go_backwards: bool,
    zero_output_for_mask: bool,
    training: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Cache | None]:
    """`functional.lstm_forward` with `factors`: y (B, T, H), h (B, H), c (B, H), cache."""
    batch, length, _ = x.shape
    units = recurrent_kernel.shape[0]
    blocks = _weight_blocks(kernel, recurrent_kernel)
    no_recurrence = np.zeros_like(recurrent_kernel)
    valid = np.ones((batch, length), bool) if mask is None else mask
    shown = shown_steps(valid, go_backwards, zero_output_for_mask)
    order = range(length - 1, -1, -1) if go_backwards else range(length)
    zeros = np.zeros((batch, units), x.dtype)
    h, c = zeros if h0 is None else h0, zeros if c0 is None else c0
    y = np.empty((batch, length, units), x.dtype)
    steps = []
    for done, t in enumerate(order):
        u = np.concatenate(
            [x[:, t, None] * factors.inputs, h[:, None] * factors.state], axis=-1
        ).reshape(batch, 1, len(blocks))
        _, h, c, step = functional.lstm_forward(
            u,
            blocks,
            no_recurrence,
            bias,
            h,
            c,
            mask=None if mask is None else mask[:, t : t + 1],
            activation=activation,
            recurrent_activation=recurrent_activation,
            training=training,
        )
        steps.append(step)
        y[:, done] = np.where(shown[:, done, None], h, x.dtype.type(0))
    return y, h, c, Cache(factors, order, steps, shown, x.shape) if training else None


def lstm_backward(
    cache: Cache,
    dy: np.ndarray | None = None,
    dh: np.ndarray | None = None,
    dc: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients (dx, dkernel, drecurrent_kernel, dbias, dh0, dc0) of `lstm_forward`."""
    batch, _, features = cache.x_shape
    units = cache.factors.state.shape[-1]
    dtype = cache.factors.state.dtype
    dh = np.zeros((batch, units), dtype) if dh is None else dh
    dc = np.zeros((batch, units), dtype) if dc is None else dc
    dx = np.zeros(cache.x_shape, dtype)
    dblocks = np.zeros((GATES * (features + units), GATES * units), dtype)
    dbias = np.zeros(GATES * units, dtype)
    for done in reversed(range(len(cache.steps))):
        if dy is not None:
            dh = dh + np.where(cache.shown[:, done, None], dy[:, done], dtype.type(0))
        du, dblocks_step, _, dbias_step, dh, dc = functional.lstm_backward(
            cache.steps[done], dh=dh, dc=dc
        )
        du = du.reshape(batch, GATES, features + units)
        dx[:, cache.order[done]] = (du[..., :features] * cache.factors.inputs).sum(axis=1)
        dh = dh + (du[..., features:] * cache.factors.state).sum(axis=1)
        dblocks += dblocks_step
        if dbias_step is not None:
            dbias += dbias_step
    dkernel, drecurrent_kernel = _weights_of_blocks(dblocks, features, units)
    return dx, dkernel, drecurrent_kernel, dbias, dh, dc


def _weight_blocks(kernel: np.ndarray, recurrent_kernel: np.ndarray) -> np.ndarray:
    features, units = len(kernel), len(recurrent_kernel)
    blocks = np.zeros((GATES, features + units, GATES, units), kernel.dtype)
    for gate in range(GATES):
        blocks[gate, :features, gate] = kernel.reshape(features, GATES, units)[:, gate]
        blocks[gate, features:, gate] = recurrent_kernel.reshape(units, GATES, units)[:, gate]
    return blocks.reshape(GATES * (features + units), GATES * units)


def _weights_of_blocks(
    blocks: np.ndarray, features: int, units: int
) -> tuple[np.ndarray, np.ndarray]:
    by_gate = blocks.reshape(GATES, features + units, GATES, units)
    own = np.stack([by_gate[gate, :, gate] for gate in range(GATES)], axis=1)
    weights = own.reshape(features + units, GATES * units)
    return weights[:features].copy(), weights[features:].copy()
