"""Broken ONNX files: bytes cut and flipped, and graphs that are changed in one place."""

import numpy as np
import onnx
from onnx import TensorProto, helper


def mutated(rng, data):
    """The bytes of a model with one random fault, which may happen to be none."""
    kinds = (_cut, _flipped, _flipped, *_CHANGES, *_CHANGES)
    return kinds[int(rng.integers(len(kinds)))](rng, data)


def _cut(rng, data):
    return data[: int(rng.integers(len(data)))]


def _flipped(rng, data):
    flipped = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        # Most of a file is weights, and what is around them stands at its ends.
        end = len(data) if rng.random() < 0.5 else min(400, len(data))
        place = int(rng.integers(end)) * (-1 if rng.random() < 0.5 else 1)
        flipped[place] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


def _changed(change):
    def run(rng, data):
        model = onnx.load_from_string(data)
        change(rng, model.graph)
        return model.SerializeToString()

    return run


def _one(rng, items):
    return items[int(rng.integers(len(items)))]


def _drop(rng, graph):
    lists = [graph.initializer, graph.node, graph.input, graph.output]
    items = _one(rng, [each for each in lists if len(each)])
    del items[int(rng.integers(len(items)))]


def _rename_edge(rng, graph):
    node = _one(rng, graph.node)
    edges = _one(rng, [each for each in (node.input, node.output) if len(each)])
    edges[int(rng.integers(len(edges)))] = _one(rng, ["nowhere", "", *_names(graph)])


def _names(graph):
    return [name for node in graph.node for name in (*node.input, *node.output)]


def _operator(rng, graph):
    names = [node.op_type for node in graph.node]
    _one(rng, graph.node).op_type = _one(rng, [*names, "Relu", "Add", "Transpose", "GRU", "If", ""])


def _opset(rng, data):
    model = onnx.load_from_string(data)
    model.opset_import[0].version = _one(rng, [-1, 0, 1, 6, 7, 9, 11, 13, 17, 20, 99, 2**40])
    return model.SerializeToString()


def _cycle(rng, graph):
    first, last = graph.node[0], graph.node[-1]
    first.input[int(rng.integers(len(first.input)))] = last.output[0]


def _repeat(rng, graph):
    items = _one(rng, [graph.node, graph.initializer, graph.input, graph.output])
    if len(items):
        items.append(_one(rng, items))


def _swap(rng, graph):
    node = _one(rng, graph.node)
    edges = list(rng.permutation(list(node.input)))
    del node.input[:]
    node.input.extend(map(str, edges))


def _subgraph(rng, graph):
    inner = onnx.GraphProto()
    inner.CopyFrom(graph)
    _one(rng, graph.node).attribute.append(helper.make_attribute("body", inner))


def _attribute(rng, graph):
    node = _one(rng, graph.node)
    if len(node.attribute) and rng.random() < 0.7:
        place = int(rng.integers(len(node.attribute)))
        name = node.attribute[place].name
        del node.attribute[place]
        if rng.random() < 0.4:
            return
    else:
        name = _one(rng, ["axis", "axes", "perm", "keepdims", "hidden_size", "foo"])
    value = _one(rng, [-(2**62), -1, 0, 1, 2, 7, 0.5, float("nan"), "Tanh", [0], [1, 0], [3, 4, 5]])
    node.attribute.append(helper.make_attribute(name, value))


def _sizes(rng, graph):
    if len(graph.initializer):
        tensor = _one(rng, graph.initializer)
        if len(tensor.dims):
            place = int(rng.integers(len(tensor.dims)))
            tensor.dims[place] = _one(rng, [-1, 0, 1, 2, 2**31, 2**62])


def _type(rng, graph):
    if len(graph.initializer):
        _one(rng, graph.initializer).data_type = int(rng.integers(0, 24))


def _values(rng, graph):
    """Other values for a constant, those of shapes and axes among them."""
    if len(graph.initializer):
        tensor = _one(rng, graph.initializer)
        array = np.array(onnx.numpy_helper.to_array(tensor))
        if array.size and array.dtype.kind in "if":
            place = int(rng.integers(array.size))
            array.reshape(-1)[place] = _one(rng, [-9, -2, -1, 0, 1, 2, 3, 7, 100])
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _external(rng, graph):
    if len(graph.initializer):
        tensor = _one(rng, graph.initializer)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=_one(rng, ["weights", "/etc/hostname", ""]))


_CHANGES = [
    _opset,
    *map(
        _changed,
        (_drop, _rename_edge, _operator, _cycle, _repeat, _swap, _subgraph, _attribute, _attribute,
         _sizes, _type, _values, _values, _external),
    ),
]  # fmt: skip
