"""The other operators of ONNX graphs around an LSTM, in NumPy.

Each is a function of (attributes, inputs), absent inputs being None, that returns the outputs.
Their definitions are those of https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastlstm import functional
from fastlstm.convert.onnx.lstm_node import lstm_node

__all__ = ["OPERATORS"]

Array = np.ndarray
Attributes = Mapping[str, Any]
Inputs = Sequence[Any]
Operator = Callable[[Attributes, Inputs], list[Array]]


def _plain(function: Callable[..., Array]) -> Operator:
    """A function of the inputs alone."""
    return lambda attributes, inputs: [function(*inputs)]


def _activation(name: str) -> Operator:
    return lambda attributes, inputs: [functional.activation_forward(inputs[0], name)]


def _relu(x: Array) -> Array:
    return functional.activation_forward(x, "relu") if x.dtype.kind == "f" else np.maximum(x, 0)


def _axes(attributes: Attributes, inputs: Inputs, place: int) -> tuple[int, ...] | None:
    """Axes, which later versions give as an input and earlier ones as an attribute."""
    given = inputs[place] if len(inputs) > place else attributes.get("axes")
    return None if given is None else tuple(int(axis) for axis in given)


def _gemm(attributes: Attributes, inputs: Inputs) -> list[Array]:
    a, b, *c = inputs
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"A and B must be matrices, got the shapes {a.shape} and {b.shape}.")
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    y = attributes.get("alpha", 1.0) * (a @ b)
    if c and c[0] is not None:
        y += attributes.get("beta", 1.0) * c[0]
    return [y.astype(a.dtype)]


def _softmax(attributes: Attributes, inputs: Inputs) -> list[Array]:
    if attributes["version"] < 13:  # over all axes from this one on
        axis = attributes.get("axis", 1)
        rows = _flatten({"axis": axis}, inputs)
        return [functional.activation_forward(rows[0], "softmax").reshape(inputs[0].shape)]
    moved = np.moveaxis(inputs[0], attributes.get("axis", -1), -1)
    y = functional.activation_forward(np.ascontiguousarray(moved), "softmax")
    return [np.moveaxis(y, -1, attributes.get("axis", -1))]


def _hard_sigmoid(attributes: Attributes, inputs: Inputs) -> list[Array]:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return [np.clip(alpha * inputs[0] + beta, 0, 1).astype(inputs[0].dtype)]


def _selu(attributes: Attributes, inputs: Inputs) -> list[Array]:
    (x,) = inputs
    alpha = attributes.get("alpha", 1.67326319217681884765625)
    gamma = attributes.get("gamma", 1.05070102214813232421875)
    return [(gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))).astype(x.dtype)]


def _leaky_relu(attributes: Attributes, inputs: Inputs) -> list[Array]:
    (x,) = inputs
    return [np.where(x >= 0, x, attributes.get("alpha", 0.01) * x).astype(x.dtype)]


def _elu(attributes: Attributes, inputs: Inputs) -> list[Array]:
    (x,) = inputs
    below = attributes.get("alpha", 1.0) * np.expm1(np.minimum(x, 0))
    return [np.where(x > 0, x, below).astype(x.dtype)]


def _transpose(attributes: Attributes, inputs: Inputs) -> list[Array]:
    return [inputs[0].transpose(attributes.get("perm"))]


def _squeeze(attributes: Attributes, inputs: Inputs) -> list[Array]:
    return [np.squeeze(inputs[0], _axes(attributes, inputs, 1))]


def _unsqueeze(attributes: Attributes, inputs: Inputs) -> list[Array]:
    return [np.expand_dims(inputs[0], _axes(attributes, inputs, 1) or ())]


def _reshape(attributes: Attributes, inputs: Inputs) -> list[Array]:
    x, shape = inputs
    sizes = [int(size) for size in shape]
    if min(sizes, default=0) < -1:  # NumPy would take it for a size that is left open
        raise ValueError(f"a size must be -1 or more, got {sizes}.")
    if not attributes.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return [x.reshape(sizes)]


def _flatten(attributes: Attributes, inputs: Inputs) -> list[Array]:
    axis = attributes.get("axis", 1)
    shape = inputs[0].shape
    if not -len(shape) <= axis <= len(shape):
        raise ValueError(f"`axis` must be within the {len(shape)} axes, got {axis}.")
    axis = axis + len(shape) if axis < 0 else axis
    return [inputs[0].reshape(prod(shape[:axis]), prod(shape[axis:]))]


def _concat(attributes: Attributes, inputs: Inputs) -> list[Array]:
    return [np.concatenate(inputs, axis=attributes["axis"])]


def _slice(attributes: Attributes, inputs: Inputs) -> list[Array]:
    x, *given = inputs
    if given:
        padded: list[Any] = [*given, None, None]
        starts, ends, axes, steps = padded[:4]
    else:  # as in versions before 10
        starts, ends = attributes["starts"], attributes["ends"]
        axes, steps = attributes.get("axes"), None
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    chosen = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen[int(axis)] = _sliced(int(start), int(end), int(step), x.shape[int(axis)])
    return [x[tuple(chosen)]]


def _sliced(start: int, end: int, step: int, size: int) -> slice:
    """The slice of an axis; ONNX brings a place before the first element to it, Python does not."""
    start, end = (place + size if place < 0 else place for place in (start, end))
    if step > 0:
        return slice(max(start, 0), max(end, 0), step)
    return slice(max(start, 0), None if end < 0 else end, step)


def _split(attributes: Attributes, inputs: Inputs) -> list[Array]:
    x, axis, count = inputs[0], attributes.get("axis", 0), attributes["outputs"]
    sizes = inputs[1] if len(inputs) > 1 and inputs[1] is not None else attributes.get("split")
    size = x.shape[axis]
    if sizes is None:
        share = -(-size // count)  # the last one may be smaller
        sizes = [min(share, size - share * place) for place in range(count)]
        if count > size or (attributes["version"] < 18 and sizes[-1] != share):
            raise ValueError(f"an axis of {size} cannot be split into {count} equal parts.")
    if len(sizes) != count or min(sizes) < 0 or sum(sizes) != size:
        raise ValueError(
            f"the sizes must be {count} that sum up to {size}, got {[int(each) for each in sizes]}."
        )
    return list(np.split(x, np.cumsum(sizes)[:-1], axis))


def _reverse_sequence(attributes: Attributes, inputs: Inputs) -> list[Array]:
    x, lengths = inputs
    time, batch = attributes.get("time_axis", 0), attributes.get("batch_axis", 1)
    if {time, batch} != {0, 1}:
        raise ValueError(f"`time_axis` and `batch_axis` must be 0 and 1, got {time} and {batch}.")
    if lengths.shape != (x.shape[batch],) or (lengths < 0).any() or (lengths > x.shape[time]).any():
        raise ValueError(
            f"sequence_lens must be {x.shape[batch]} lengths of 0 to {x.shape[time]}, got "
            f"{lengths.tolist()}."
        )
    y = x.copy()
    source, target = (np.moveaxis(each, (batch, time), (0, 1)) for each in (x, y))
    for row, length in enumerate(lengths):
        target[row, :length] = source[row, :length][::-1]
    return [y]


def _gather(attributes: Attributes, inputs: Inputs) -> list[Array]:
    data, places = inputs
    axis = attributes.get("axis", 0)
    size = data.shape[axis]
    if places.size and not ((-size <= places) & (places < size)).all():
        raise ValueError(f"Gather: an index is not within {size} entries.")
    return [np.take(data, places, axis=axis)]


def _cast(attributes: Attributes, inputs: Inputs) -> list[Array]:
    return [inputs[0].astype(attributes["to"])]


def _constant(attributes: Attributes, inputs: Inputs) -> list[Array]:
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, f"{name}s"):
            if key in attributes:
                return [np.asarray(attributes[key], dtype)]
    return [attributes["value"]]


def _constant_of_shape(attributes: Attributes, inputs: Inputs) -> list[Array]:
    value = attributes.get("value", np.zeros(1, np.float32))
    return [np.full([int(size) for size in inputs[0]], value[0], value.dtype)]


def _expand(attributes: Attributes, inputs: Inputs) -> list[Array]:
    x, shape = inputs
    return [np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(n) for n in shape)))]


def _shape(attributes: Attributes, inputs: Inputs) -> list[Array]:
    sizes = inputs[0].shape[attributes.get("start", 0) : attributes.get("end")]
    return [np.array(sizes, np.int64)]


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    if not b.all():
        raise ValueError("a whole number is divided by 0.")
    down = a // b
    # Whole numbers are rounded towards 0.
    return down + ((down < 0) & (down * b != a)).astype(a.dtype)


def _dropout(attributes: Attributes, inputs: Inputs) -> list[Array]:
    """The input and its mask, as always but in training."""
    x, *given = inputs
    if len(given) > 1 and given[1] is not None and given[1].any():
        raise ValueError("`training_mode` must be false.")
    return [x, np.ones(x.shape, bool if attributes["version"] >= 10 else x.dtype)]


def _tile(x: Array, repeats: Array) -> Array:
    if repeats.shape != (x.ndim,):
        raise ValueError(f"`repeats` must have the shape ({x.ndim},), got {repeats.shape}.")
    return np.tile(x, [int(n) for n in repeats])


def _reduced(function: Callable[..., Array]) -> Operator:
    def run(attributes: Attributes, inputs: Inputs) -> list[Array]:
        (x, *_), axes = inputs, _axes(attributes, inputs, 1)
        if not axes and attributes.get("noop_with_empty_axes", 0):
            return [x]
        keep = bool(attributes.get("keepdims", 1))
        return [np.asarray(function(x, axis=axes or None, keepdims=keep)).astype(x.dtype)]

    return run


OPERATORS: dict[str, Operator] = {
    "Add": _plain(np.add),
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _plain(_divide),
    "Dropout": _dropout,
    "Elu": _elu,
    "Exp": _activation("exponential"),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _activation("gelu"),
    "Gemm": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "Identity": lambda attributes, inputs: [inputs[0]],
    "LSTM": lstm_node,
    "LeakyRelu": _leaky_relu,
    "MatMul": _plain(np.matmul),
    "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative),
    "Pow": _plain(lambda x, power: (x**power).astype(x.dtype)),
    "ReduceMax": _reduced(np.max),
    "ReduceMean": _reduced(np.mean),
    "ReduceSum": _reduced(np.sum),
    "Relu": _plain(_relu),
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Selu": _selu,
    "Shape": _shape,
    "Sigmoid": _activation("sigmoid"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"),
    "Split": _split,
    "Sqrt": _plain(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(np.subtract),
    "Tanh": _activation("tanh"),
    "Tile": _plain(_tile),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
