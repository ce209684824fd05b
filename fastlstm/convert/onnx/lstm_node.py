"""The LSTM operator of ONNX, with everything that its specification knows.

https://onnx.ai/onnx/operators/onnx__LSTM.html, with the gates in ONNX's order i, o, f, c. What
fastlstm's kernels can do they do; peepholes, clip, `input_forget` and other activations go step by
step in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan, nan
from typing import Any, NamedTuple

import numpy as np

from fastlstm import functional
from fastlstm._core import lstm

__all__ = ["OURS", "THEIRS", "directions_of", "lstm_node", "lstm_problems", "reordered"]

# The orders of the gates.
OURS, THEIRS = "ifco", "iofc"

Array = np.ndarray
Function = Callable[[Array], Array]

# The parameters alpha and beta that each activation has where the node gives none: None for one
# that does not exist, nan for one that the node must give, since the specification has no value, or
# ONNX Runtime another one.
_DEFAULTS = {
    "affine": (nan, 0.0),
    "elu": (1.0, None),
    "hardsigmoid": (0.2, 0.5),
    "leakyrelu": (0.01, None),
    "relu": (None, None),
    "scaledtanh": (nan, nan),
    "sigmoid": (None, None),
    "softplus": (None, None),
    "softsign": (None, None),
    "tanh": (None, None),
    "thresholdedrelu": (nan, None),
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
    count, units = _count_of(attributes), attributes["hidden_size"]
    features = w.shape[-1] if w.ndim else 0
    _require_shape("W", w, (count, 4 * units, features))
    _require_shape("R", r, (count, 4 * units, units))
    _require_shape("B", b, (count, 8 * units))
    _require_shape("P", p, (count, 3 * units))
    found = [_direction(attributes, number, w, r, b, p) for number in range(count)]
    return [(direction, direction.plan()) for direction in found]


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(each, kind) for each in value)


# What the values of the attributes must be.
_ATTRIBUTES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "activation_alpha": ("floats", _is_list_of(float)),
    "activation_beta": ("floats", _is_list_of(float)),
    "activations": ("names", _is_list_of(str)),
    "clip": ("a float greater than 0", lambda value: isinstance(value, float) and value > 0),
    "direction": (
        "'forward', 'reverse' or 'bidirectional'",
        lambda value: value in ("forward", "reverse", "bidirectional"),
    ),
    "hidden_size": ("a positive integer", lambda value: isinstance(value, int) and value > 0),
    "input_forget": ("0 or 1", lambda value: value in (0, 1)),
    "layout": ("0 or 1", lambda value: value in (0, 1)),
}


def lstm_problems(attributes: Mapping[str, Any]) -> list[str]:
    """What of a node's attributes is not as the specification has it."""
    problems = []
    for name, value in attributes.items():
        if name not in _ATTRIBUTES:
            problems.append(f"there is no attribute `{name}`")
        elif not _ATTRIBUTES[name][1](value):
            problems.append(f"`{name}` must be {_ATTRIBUTES[name][0]}, got {value!r}")
    if "hidden_size" not in attributes:
        problems.append("the attribute `hidden_size` is missing")
    return problems or _problems_of_activations(attributes)


def _problems_of_activations(attributes: Mapping[str, Any]) -> list[str]:
    names, count = _activation_names(attributes), 3 * _count_of(attributes)
    unknown = [f"there is no activation {name}" for name in names if name.lower() not in _DEFAULTS]
    if unknown:
        return unknown
    problems = []
    if len(names) != count:
        problems.append(f"`activations` must be {count} names, got {len(names)}")
    for place, parameter in enumerate(("alpha", "beta")):
        given = attributes.get(f"activation_{parameter}", [])
        takers = [name for name in names if _DEFAULTS[name.lower()][place] is not None]
        if len(given) > len(takers):
            problems.append(
                f"`activation_{parameter}` must have a number for each of the {len(takers)} "
                f"activations that take one, got {len(given)}"
            )
        problems += [
            f"`activation_{parameter}` lacks a number for {name}, which has no default"
            for name in takers[len(given) :]
            if isnan(_DEFAULTS[name.lower()][place] or 0.0)
        ]
    return list(dict.fromkeys(problems))


def lstm_node(attributes: Mapping[str, Any], inputs: Sequence[Any]) -> list[Array]:
    """Y, Y_h and Y_c of a node; its attribute `directions` stands for constant weights."""
    x, w, r, b, lengths, h0, c0, p = [*inputs, *[None] * (8 - len(inputs))][:8]
    directions = attributes.get("directions") or directions_of(attributes, w, r, b, p)
    _require_shape("X", x, (*x.shape[:2], w.shape[2]))
    batch_first = attributes.get("layout", 0) == 1
    batch, steps = x.shape[:2] if batch_first else x.shape[1::-1]
    of_states = (batch, len(directions)) if batch_first else (len(directions), batch)
    for name, state in (("initial_h", h0), ("initial_c", c0)):
        _require_shape(name, state, (*of_states, attributes["hidden_size"]))
    if not batch_first:
        x = x.swapaxes(0, 1)
        h0, c0 = (None if s is None else s.swapaxes(0, 1) for s in (h0, c0))
    mask = None if lengths is None else _mask(lengths, batch, steps)
    found = []
    for number, (direction, plan) in enumerate(directions):
        start = [None if s is None else s[:, number] for s in (h0, c0)]
        if plan is None:
            found.append(_run_by_step(direction, x, start, mask))
        else:
            found.append(_run_plan(plan, x, start, mask))
    y, h, c = (np.stack(parts, axis=-2) for parts in zip(*found, strict=True))
    began = np.full(batch, steps > 0) if mask is None else mask.any(axis=1)
    if not began.all():  # ONNX Runtime: the last states of no steps are 0, not the initial ones
        h[~began] = c[~began] = 0
    if batch_first:
        return [y, h, c]
    return [y.transpose(1, 2, 0, 3), h.swapaxes(0, 1), c.swapaxes(0, 1)]


def _require_shape(name: str, array: Array | None, shape: tuple[int, ...]) -> None:
    if array is not None and array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}.")


def _mask(lengths: Array, batch: int, steps: int) -> Array:
    """Which of the steps (B, T) a sequence has."""
    _require_shape("sequence_lens", lengths, (batch,))
    wrong = lengths[(lengths < 0) | (lengths > steps)]
    if wrong.size:
        raise ValueError(f"sequence_lens must be 0 to {steps}, the time steps, got {wrong[0]}.")
    return np.arange(steps) < lengths[:, None]


def _count_of(attributes: Mapping[str, Any]) -> int:
    return 2 if attributes.get("direction") == "bidirectional" else 1


def _activation_names(attributes: Mapping[str, Any]) -> list[str]:
    given: list[str] = attributes.get("activations") or []
    return given or ["Sigmoid", "Tanh", "Tanh"] * _count_of(attributes)


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
    return _Direction(
        np.ascontiguousarray(reordered(w[number], THEIRS, OURS).T),
        np.ascontiguousarray(reordered(r[number], THEIRS, OURS).T),
        bias,
        peepholes,
        gate,
        candidate,
        output,
        attributes.get("clip"),
        bool(attributes.get("input_forget", 0)),
        number == 1 or attributes.get("direction") == "reverse",
    )


def reordered(weights: Array, order: str, wanted: str) -> Array:
    """Gates that follow each other along the first axis, in another order."""
    gates = dict(zip(order, np.split(weights, 4), strict=True))
    return np.concatenate([gates[gate] for gate in wanted])


def _activations(attributes: Mapping[str, Any]) -> list[_Activation]:
    """Three for each direction; those that take parameters take them from the lists in turn."""
    alphas = list(attributes.get("activation_alpha") or [])
    betas = list(attributes.get("activation_beta") or [])
    found = []
    for name in map(str.lower, _activation_names(attributes)):
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
