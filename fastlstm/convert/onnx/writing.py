"""fastlstm models as ONNX files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastlstm._extras import require
from fastlstm.convert.onnx.lstm_node import OURS, THEIRS, reordered
from fastlstm.layers import (
    LSTM,
    Activation,
    Add,
    Average,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    InputLayer,
    Layer,
    Multiply,
    Permute,
    RepeatVector,
    Reshape,
    TimeDistributed,
)
from fastlstm.layers.structure import as_list
from fastlstm.layers.symbolic import SymbolicTensor
from fastlstm.models import Model
from fastlstm.saving.safetensors import atomic_writer

__all__ = ["to_onnx"]

OPSET = 17

# What ONNX calls the activations, as a node and within its LSTM, with their parameters; not all are
# activations of its LSTM, and the identity is a node of none.
_NODES: dict[str, tuple[str, dict[str, float]]] = {
    "elu": ("Elu", {"alpha": 1.0}),
    "exponential": ("Exp", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {}),
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
}
_OF_LSTM = {
    **{
        name: node
        for name, node in _NODES.items()
        if name not in ("exponential", "selu", "softmax")
    },
    "linear": ("Affine", {"alpha": 1.0, "beta": 0.0}),
}


def to_onnx(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a built model to an ONNX file, batch first, with batch and time left open.

    Sequential and functional models of LSTM, Bidirectional, Dense, TimeDistributed(Dense),
    Embedding, RepeatVector, Dropout, Activation, Reshape, Flatten, Permute and the merging layers.

    Raises
    ------
    ValueError
        For a model that is not built, and for layers and options that are not converted, all of
        them at once, by name. Masks are among these.
    ImportError
        Without ``onnx``, which the extra of that name installs.
    """
    model._require_built("to_onnx")
    onnx = require("onnx", "onnx")
    problems = _problems(model)
    if problems:
        raise ValueError("to_onnx: these cannot be converted:\n" + "\n".join(problems))
    proto = _Graph(onnx).model(model)
    onnx.checker.check_model(proto)
    with atomic_writer(path) as file:
        file.write(proto.SerializeToString())


# ---- what is refused -----------------------------------------------------------------------------


def _problems(model: Model) -> list[str]:
    found = []
    for layer in dict.fromkeys(step.layer for step in model.graph.steps):
        if isinstance(layer, Model):
            found += _problems(layer)
        elif (reason := _lacks(layer)) is not None:
            found.append(f"- {layer.label}: {reason}")
    for step in model.graph.steps:
        if "mask" in step.node.keywords:
            found.append(f"- {step.layer.label}: its call with `mask`")
    return found


def _lacks(layer: Layer) -> str | None:
    """Why a layer is not converted; None if it is."""
    if type(layer) not in _WRITERS:
        return "there is no such layer here"
    if isinstance(layer, TimeDistributed):
        return None if type(layer.layer) is Dense else "its layer is not a Dense"
    if isinstance(layer, Embedding):
        return "`mask_zero`: masks are not converted" if layer.mask_zero else None
    if isinstance(layer, Bidirectional):
        both = [_lacks(each) for each in (layer.forward_layer, layer.backward_layer)]
        if type(layer.forward_layer) is not type(layer.backward_layer) or both[0] or both[1]:
            return both[0] or both[1] or "its layers are of two kinds"
    if isinstance(layer, LSTM):
        if layer.stateful:
            return "`stateful`"
        for option in ("activation", "recurrent_activation"):
            if getattr(layer, option) not in _OF_LSTM:
                return f"`{option}` is {getattr(layer, option)!r}"
    if isinstance(layer, Dense | Activation):
        name = _activation_name(layer)
        return None if name in (*_NODES, "linear") else f"`activation` is {name!r}"
    return None


def _activation_name(layer: Any) -> str:
    name: str = layer.activation or "linear"
    return name


# ---- the graph -----------------------------------------------------------------------------------


class _Graph:
    """An ONNX graph in the making. Tensors are known by their names."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}
        self._names: set[str] = set()
        # What the model calls symbolic, by the names here.
        self._symbols: dict[str, SymbolicTensor] = {}

    def constant(self, wanted: str, value: Any, dtype: Any = None) -> str:
        """The name of a tensor of that value, the one wanted if it is free; each is kept once."""
        array = np.asarray(value, dtype, order="C")
        name = next(
            each
            for each in _names_like(wanted)
            if each not in self._names or _same(self._constants.get(each), array)
        )
        self._names.add(name)
        self._constants[name] = array
        return name

    def new_name(self, wanted: str) -> str:
        """A name that no tensor has yet, the one wanted if it is free."""
        name = next(each for each in _names_like(wanted) if each not in self._names)
        self._names.add(name)
        return name

    def node(
        self, operator: str, inputs: Sequence[str], count: int = 1, **attributes: Any
    ) -> list[str]:
        """Add a node; the names of its outputs."""
        name = f"{operator}_{len(self._nodes)}"
        outputs = [self.new_name(f"{name}_{place}") for place in range(count)]
        self._nodes.append(
            self._onnx.helper.make_node(operator, inputs, outputs, name=name, **attributes)
        )
        return outputs

    def one(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.node(operator, inputs, **attributes)[0]

    def activated(self, x: str, name: str) -> str:
        """The activation of that name."""
        if name == "linear":
            return x
        operator, attributes = _NODES[name]
        return self.one(operator, x, **attributes)

    def reshaped(self, x: str, shape: Sequence[int]) -> str:
        """Another shape; 0 keeps a size, -1 is what is left."""
        sizes = self.constant(f"shape_{'_'.join(map(str, shape))}", shape, np.int64)
        return self.one("Reshape", x, sizes)

    def indices(self, x: str) -> str:
        """Whole numbers of a type that Gather takes."""
        if self._symbols[x].dtype in ("int32", "int64"):
            return x
        return self.one("Cast", x, to=self._onnx.TensorProto.INT64)

    def aligned(self, inputs: Sequence[str]) -> list[str]:
        """Inputs of one rank, by sizes of 1 behind the batch, where ONNX has them before it."""
        ranks = [len(self._symbols[x].shape) for x in inputs]
        return [self._of_rank(x, rank, max(ranks)) for x, rank in zip(inputs, ranks, strict=True)]

    def _of_rank(self, x: str, rank: int, wanted: int) -> str:
        if rank == wanted:
            return x
        axes = range(1, 1 + wanted - rank)
        return self.one("Unsqueeze", x, self.constant("new_axes", axes, np.int64))

    def written(self, model: Model, inputs: Sequence[str]) -> list[str]:
        """Add the nodes of a model; the names of its outputs."""
        self._symbols.update(zip(inputs, model.inputs, strict=True))
        names = dict(zip(map(id, model.inputs), inputs, strict=True))
        for step in model.graph.steps:
            node = step.node
            given = [names[id(tensor)] for tensor in as_list(node.inputs)]
            states = [names[id(t)] for t in as_list(node.keywords.get("initial_state", []))]
            if isinstance(step.layer, Model):
                made = self.written(step.layer, given)
            else:
                made = _WRITERS[type(step.layer)](self, step.layer, [*given, *states])
            self._symbols.update(zip(made, as_list(node.outputs), strict=True))
            names.update(zip(map(id, as_list(node.outputs)), made, strict=True))
        return [names[id(tensor)] for tensor in model.outputs]

    def model(self, model: Model) -> Any:
        """The whole model."""
        helper = self._onnx.helper
        inputs = [self.new_name(_plain(name)) for name in model.input_names]
        outputs = [self.new_name(f"{_plain(name)}_output") for name in model.output_names]
        for made, output in zip(self.written(model, inputs), outputs, strict=True):
            self._nodes.append(helper.make_node("Identity", [made], [output]))
        constants = [
            self._onnx.numpy_helper.from_array(array, name)
            for name, array in self._constants.items()
        ]
        graph = helper.make_graph(
            self._nodes,
            model.name,
            [self._declared(*pair) for pair in zip(inputs, model.inputs, strict=True)],
            [self._declared(*pair) for pair in zip(outputs, model.outputs, strict=True)],
            constants,
        )
        proto = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="fastlstm"
        )
        proto.ir_version = 8
        return proto

    def _declared(self, name: str, tensor: SymbolicTensor) -> Any:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        shape = [
            (f"{name}_axis_{axis}" if axis else "batch") if size is None else size
            for axis, size in enumerate(tensor.shape)
        ]
        return self._onnx.helper.make_tensor_value_info(name, kind, shape)


def _plain(name: str) -> str:
    return name.replace("/", "_")


def _names_like(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(1))


def _same(known: np.ndarray | None, array: np.ndarray) -> bool:
    return (
        known is not None
        and (known.dtype, known.shape) == (array.dtype, array.shape)
        and known.tobytes() == array.tobytes()
    )


# ---- layers --------------------------------------------------------------------------------------

Writer = Callable[[_Graph, Any, list[str]], list[str]]


def _as_before(graph: _Graph, layer: Layer, inputs: list[str]) -> list[str]:
    return inputs


def _dense(graph: _Graph, layer: Any, inputs: list[str]) -> list[str]:
    dense: Any = layer.layer if isinstance(layer, TimeDistributed) else layer
    kernel = graph.constant(f"{dense.name}.kernel", dense.kernel.value)
    y = graph.one("MatMul", inputs[0], kernel)
    if dense.bias is not None:
        y = graph.one("Add", y, graph.constant(f"{dense.name}.bias", dense.bias.value))
    return [graph.activated(y, _activation_name(dense))]


def _activation(graph: _Graph, layer: Activation, inputs: list[str]) -> list[str]:
    return [graph.activated(inputs[0], _activation_name(layer))]


def _embedding(graph: _Graph, layer: Embedding, inputs: list[str]) -> list[str]:
    table = graph.constant(f"{layer.name}.embeddings", layer.embeddings.value)
    return [graph.one("Gather", table, graph.indices(inputs[0]))]


def _repeat(graph: _Graph, layer: RepeatVector, inputs: list[str]) -> list[str]:
    axes = graph.constant("axis_1", [1], np.int64)
    shape = graph.constant(f"{layer.name}.shape", [1, layer.n, 1], np.int64)
    return [graph.one("Expand", graph.one("Unsqueeze", inputs[0], axes), shape)]


def _reshape(graph: _Graph, layer: Reshape, inputs: list[str]) -> list[str]:
    return [graph.reshaped(inputs[0], [0, *layer.target_shape])]


def _flatten(graph: _Graph, layer: Flatten, inputs: list[str]) -> list[str]:
    return [graph.one("Flatten", inputs[0], axis=1)]


def _permute(graph: _Graph, layer: Permute, inputs: list[str]) -> list[str]:
    return [graph.one("Transpose", inputs[0], perm=[0, *layer.dims])]


def _concatenate(graph: _Graph, layer: Concatenate, inputs: list[str]) -> list[str]:
    return [graph.one("Concat", *inputs, axis=layer.axis)]


def _merged(operator: str) -> Writer:
    def write(graph: _Graph, layer: Layer, inputs: list[str]) -> list[str]:
        total = inputs[0]
        for other in inputs[1:]:
            total = graph.one(operator, total, other)
        return [total]

    return write


def _broadcast(write: Writer) -> Writer:
    """What merges arrays of one rank, for those of several."""
    return lambda graph, layer, inputs: write(graph, layer, graph.aligned(inputs))


def _average(graph: _Graph, layer: Layer, inputs: list[str]) -> list[str]:
    (total,) = _merged("Add")(graph, layer, inputs)
    share = graph.constant(f"{layer.name}.share", 1 / len(inputs), layer.dtype)
    return [graph.one("Mul", total, share)]


def _side_by_side(graph: _Graph, layer: Layer, inputs: list[str]) -> list[str]:
    return [graph.one("Concat", *inputs, axis=-1)]


# By the `merge_mode` of Bidirectional.
_MERGES: dict[str | None, Writer] = {
    None: _as_before,
    "ave": _average,
    "concat": _side_by_side,
    "mul": _merged("Mul"),
    "sum": _merged("Add"),
}


def _lstm(graph: _Graph, layer: LSTM, inputs: list[str]) -> list[str]:
    y, h, c = _recurrent(graph, layer, inputs)
    last = graph.one("Squeeze", h, graph.constant("axis_0", [0], np.int64))
    output = last
    if layer.return_sequences:
        output = graph.one("Squeeze", y, graph.constant("axis_2", [2], np.int64))
        if layer.go_backwards:
            output = _turned(graph, output)
    cell = graph.one("Squeeze", c, graph.constant("axis_0", [0], np.int64))
    return [output, last, cell] if layer.return_state else [output]


def _bidirectional(graph: _Graph, layer: Bidirectional, inputs: list[str]) -> list[str]:
    x, *starts = inputs
    half = len(starts) // 2
    forward: Any = layer.forward_layer
    backward: Any = layer.backward_layer
    y, *states_1 = _lstm(graph, forward, [x, *starts[:half]])
    y_back, *states_2 = _lstm(graph, backward, [x, *starts[half:]])
    if layer.return_sequences:
        y_back = _turned(graph, y_back)
    merged = _MERGES[layer.merge_mode](graph, layer, [y, y_back])
    return [*merged, *states_1, *states_2]


def _turned(graph: _Graph, x: str) -> str:
    """A sequence (B, T, ...) in reverse."""
    begin = graph.constant("last", [-1], np.int64)
    end = graph.constant("before_the_first", [-(2**62)], np.int64)
    axis = graph.constant("axis_1", [1], np.int64)
    return graph.one("Slice", x, begin, end, axis, begin)


def _recurrent(graph: _Graph, layer: LSTM, inputs: list[str]) -> tuple[str, str, str]:
    """Y as (B, T, 1, H), Y_h and Y_c as (1, B, H), of a node that reads time first."""
    x = graph.one("Transpose", inputs[0], perm=[1, 0, 2])
    name = layer.name
    w = graph.constant(f"{name}.W", reordered(layer.kernel.value.T, OURS, THEIRS)[None])
    r = graph.constant(f"{name}.R", reordered(layer.recurrent_kernel.value.T, OURS, THEIRS)[None])
    given = [x, w, r, ""]
    if layer.bias is not None:
        bias = reordered(layer.bias.value, OURS, THEIRS)
        given[3] = graph.constant(f"{name}.B", np.concatenate([bias, 0 * bias])[None])
    if len(inputs) > 1:
        axis = graph.constant("axis_0", [0], np.int64)
        given += ["", *(graph.one("Unsqueeze", state, axis) for state in inputs[1:])]
    names = (layer.recurrent_activation, layer.activation, layer.activation)
    chosen = [_OF_LSTM[activation] for activation in names]
    attributes: dict[str, Any] = {"activations": [operator for operator, _ in chosen]}
    for parameter in ("alpha", "beta"):
        values = [given_to[parameter] for _, given_to in chosen if parameter in given_to]
        if values:
            attributes[f"activation_{parameter}"] = values
    y, h, c = graph.node(
        "LSTM",
        given,
        3,
        hidden_size=layer.units,
        direction="reverse" if layer.go_backwards else "forward",
        **attributes,
    )
    # (T, 1, B, H)
    return graph.one("Transpose", y, perm=[2, 0, 1, 3]), h, c


_WRITERS: dict[type, Writer] = {
    Activation: _activation,
    Add: _broadcast(_merged("Add")),
    Average: _broadcast(_average),
    Bidirectional: _bidirectional,
    Concatenate: _concatenate,
    Dense: _dense,
    Dropout: _as_before,
    Embedding: _embedding,
    Flatten: _flatten,
    InputLayer: _as_before,
    LSTM: _lstm,
    Multiply: _broadcast(_merged("Mul")),
    Permute: _permute,
    RepeatVector: _repeat,
    Reshape: _reshape,
    TimeDistributed: _dense,
}
