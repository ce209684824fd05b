"""The LSTM operator of ONNX, with everything that its specification knows.

https://onnx.ai/onnx/operators/onnx__LSTM.html, with the gates in ONNX's order i, o, f, c. What
fastlstm's kernels can do they do; peepholes, clip, `input_forget` and other activations go step by
step in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastlstm import functional
from fastlstm._core import lstm

__all__ = ["OURS", "THEIRS", "directions_of", "lstm_node", "lstm_problems", "reordered"]

# The orders of the gates.
OURS, THEIRS = "ifco", "iofc"

Array = np.ndarray
Function = Callable[[Array], Array]

# The parameters alpha and beta that the specification gives each activation.
_DEFAULTS = {
    "affine": (1.0, 0.0),
    "elu": (1.0, None),
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01, None),
    "relu": (None, None),
    "scaledtanh": (1.0, 1.0),
    "sigmoid": (None, None),
    "softplus": (None, None),
    "softsign": (None, None),
    "tanh": (None, None),
    "thresholdedrelu": (1.0, None),
}

# Those that the kernels have, with the parameters that they have there.
_OURS = {
    ("affine", 1.0, 0.0): "linear",
    ("elu", 1.0, None): "elu",
    ("leakyrelu", 0.2, None): "leaky_relu",
    ("relu", None, None): "relu",
    ("sigmoid", None, None): "sigmoid",
    ("softplus", None, None): "softplus",
    ("softsign", None, None): "softsign",
    ("tanh", None, None): "tanh",
}


class _Activation(NamedTuple):
    """A name in lower case and its parameters, None where it has none."""

    name: str
    alpha: float | None
    beta: float | None

    @property
    def kernel(self) -> str | None:
        """What the kernels call it; None if they do not have it."""
        return _OURS.get((self.name, self.alpha, self.beta))

    def __call__(self, x: Array) -> Array:
        if self.kernel is not None:
            return functional.activation_forward(x, self.kernel)
        alpha, beta = self.alpha or 0.0, self.beta or 0.0
        if self.name == "affine":
            return alpha * x + beta
        if self.name == "elu":
            return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
        if self.name == "hardsigmoid":
            return np.clip(alpha * x + beta, 0, 1)
        if self.name == "leakyrelu":
            return np.where(x >= 0, x, alpha * x)
        if self.name == "scaledtanh":
            return alpha * np.tanh(beta * x)
        assert self.name == "thresholdedrelu"
        return np.where(x >= alpha, x, 0)


class _Direction(NamedTuple):
    """One direction: weights as fastlstm has them, and what else the node says."""

    kernel: Array  # (F, 4H), gates i, f, c, o
    recurrent_kernel: Array  # (H, 4H)
    bias: Array | None  # (4H,)
    peepholes: Array | None  # (3, H): i, f, o
    gate: _Activation
    candidate: _Activation
    output: _Activation
    clip: float | None
    input_forget: bool
    go_backwards: bool

    def plan(self) -> lstm.LSTMPlan | None:
        """For fastlstm's kernels; None if they cannot compute it."""
        gate, candidate = self.gate.kernel, self.candidate.kernel
        more = self.peepholes is not None or self.clip is not None or self.input_forget
        if more or gate is None or candidate is None or self.candidate != self.output:
            return None
        return lstm.LSTMPlan(
            self.kernel, self.recurrent_kernel, self.bias, candidate, gate, self.go_backwards, True
        )


Directions = list[tuple[_Direction, lstm.LSTMPlan | None]]


def directions_of(attributes: Mapping[str, Any], w: Array, r: Array, b: Any, p: Any) -> Directions:
    """The directions of a node, ready to run; made once where the weights are constants."""
    found = [_direction(attributes, number, w, r, b, p) for number in range(len(w))]
    return [(direction, direction.plan()) for direction in found]


def lstm_problems(attributes: Mapping[str, Any]) -> list[str]:
    """What of a node's attributes the specification does not know."""
    names = attributes.get("activations", [])
    problems = [f"activation {name}" for name in names if name.lower() not in _DEFAULTS]
    if attributes.get("direction", "forward") not in ("forward", "reverse", "bidirectional"):
        problems.append(f"direction {attributes['direction']}")
    return problems


def lstm_node(attributes: Mapping[str, Any], inputs: Sequence[Array | None]) -> list[Array]:
    """Y, Y_h and Y_c of a node; its attribute `directions` stands for constant weights."""
    x, w, r, b, lengths, h0, c0, p = [*inputs, *[None] * (8 - len(inputs))][:8]
    if x is None or w is None or r is None:
        raise ValueError("it needs X, W and R")
    directions = attributes.get("directions") or directions_of(attributes, w, r, b, p)
    batch_first = attributes.get("layout", 0) == 1
    if not batch_first:
        x = x.swapaxes(0, 1)
        h0, c0 = (None if s is None else s.swapaxes(0, 1) for s in (h0, c0))
    mask = None if lengths is None else np.arange(x.shape[1])[None, :] < lengths[:, None]
    found = []
    for number, (direction, plan) in enumerate(directions):
        start = [None if s is None else s[:, number] for s in (h0, c0)]
        if plan is None:
            found.append(_run_by_step(direction, x, start, mask))
        else:
            found.append(_run_plan(plan, x, start, mask))
    y, h, c = (np.stack(parts, axis=-2) for parts in zip(*found, strict=True))
    if batch_first:
        return [y, h, c]
    return [y.transpose(1, 2, 0, 3), h.swapaxes(0, 1), c.swapaxes(0, 1)]


def _direction(
    attributes: Mapping[str, Any], number: int, w: Array, r: Array, b: Any, p: Any
) -> _Direction:
    gate, candidate, output = _activations(attributes)[3 * number : 3 * number + 3]
    bias = None
    if b is not None:
        of_inputs, of_states = np.split(b[number], 2)
        bias = reordered(of_inputs + of_states, THEIRS, OURS)
    peepholes = None
    if p is not None and p[number].any():
        i, o, f = np.split(p[number], 3)
        peepholes = np.stack([i, f, o])
    clip = attributes.get("clip", 0.0)
    return _Direction(
        np.ascontiguousarray(reordered(w[number], THEIRS, OURS).T),
        np.ascontiguousarray(reordered(r[number], THEIRS, OURS).T),
        bias,
        peepholes,
        gate,
        candidate,
        output,
        clip if clip > 0 else None,
        bool(attributes.get("input_forget", 0)),
        number == 1 or attributes.get("direction") == "reverse",
    )


def reordered(weights: Array, order: str, wanted: str) -> Array:
    """Gates that follow each other along the first axis, in another order."""
    gates = dict(zip(order, np.split(weights, 4), strict=True))
    return np.concatenate([gates[gate] for gate in wanted])


def _activations(attributes: Mapping[str, Any]) -> list[_Activation]:
    """Three for each direction; those that take parameters take them from the lists in turn."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    names = attributes.get("activations") or ["Sigmoid", "Tanh", "Tanh"] * directions
    alphas = list(attributes.get("activation_alpha") or [])
    betas = list(attributes.get("activation_beta") or [])
    found = []
    for name in map(str.lower, names):
        alpha, beta = _DEFAULTS[name]
        if alpha is not None and alphas:
            alpha = float(alphas.pop(0))
        if beta is not None and betas:
            beta = float(betas.pop(0))
        found.append(_Activation(name, alpha, beta))
    return found


def _run_plan(
    plan: lstm.LSTMPlan, x: Array, start: Sequence[Array | None], mask: Array | None
) -> tuple[Array, Array, Array]:
    """The outputs (B, T, H) in the order of x, and the last h and c (B, H)."""
    h0, c0 = start
    y, h, c, _ = lstm.forward(plan, x, h0, c0, mask)
    return (y[:, ::-1] if plan.go_backwards else y), h, c


def _run_by_step(
    d: _Direction, x: Array, start: Sequence[Array | None], mask: Array | None
) -> tuple[Array, Array, Array]:
    """The same for what the kernels do not have."""
    batch, steps, _ = x.shape
    h, c = (
        np.zeros((batch, len(d.recurrent_kernel)), x.dtype) if state is None else state
        for state in start
    )
    y = np.zeros((batch, steps, h.shape[1]), x.dtype)
    z_inputs = x @ d.kernel
    if d.bias is not None:
        z_inputs = z_inputs + d.bias
    for step in reversed(range(steps)) if d.go_backwards else range(steps):
        new_h, new_c = _step(d, z_inputs[:, step] + h @ d.recurrent_kernel, c)
        counts = np.ones((batch, 1), bool) if mask is None else mask[:, step, None]
        h, c = np.where(counts, new_h, h), np.where(counts, new_c, c)
        y[:, step] = np.where(counts, new_h, 0)
    return y, h, c


def _step(d: _Direction, z: Array, c: Array) -> tuple[Array, Array]:
    def clipped(z: Array) -> Array:
        return z if d.clip is None else np.clip(z, -d.clip, d.clip)

    zi, zf, zc, zo = np.split(z, 4, axis=1)
    to_i, to_f, to_o = (0.0, 0.0, 0.0) if d.peepholes is None else d.peepholes
    i = d.gate(clipped(zi + to_i * c))
    f = 1 - i if d.input_forget else d.gate(clipped(zf + to_f * c))
    c = f * c + i * d.candidate(clipped(zc))
    o = d.gate(clipped(zo + to_o * c))
    return o * d.output(c), c
