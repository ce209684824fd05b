"""ONNX files as models that fastlstm runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastlstm._extras import require
from fastlstm.convert.onnx.lstm_node import directions_of, lstm_problems
from fastlstm.convert.onnx.operators import OPERATORS

__all__ = ["OnnxModel", "from_onnx"]


class _Node(NamedTuple):
    name: str
    operator: str
    attributes: dict[str, Any]
    inputs: list[str]
    outputs: list[str]


class OnnxModel:
    """An ONNX graph on fastlstm's kernels, for inference; see `from_onnx`.

    Attributes
    ----------
    input_names, output_names : list of str
        As the graph calls them.
    """

    def __init__(
        self,
        nodes: list[_Node],
        constants: dict[str, np.ndarray],
        inputs: dict[str, np.dtype],
        output_names: list[str],
    ) -> None:
        self._arguments = (nodes, constants, inputs, output_names)
        self._nodes = [_prepared(node, constants) for node in nodes]
        self._constants = constants
        self._inputs = inputs
        self.input_names = list(inputs)
        self.output_names = output_names

    def __reduce__(self) -> Any:
        return OnnxModel, self._arguments

    def __repr__(self) -> str:
        return f"<OnnxModel {', '.join(self.input_names)} -> {', '.join(self.output_names)}>"

    def predict(self, x: Any) -> Any:
        """The outputs, an array or a list of them, as the graph lays them out.

        `x` is an array, a list of arrays in the order of `input_names`, or a dict by name. All of
        it is computed at once: in ONNX the first axis may be time.

        Raises ``ValueError`` for missing inputs, and for data that do not fit the graph.
        """
        values = {**self._constants, **self._named(x)}
        for node in self._nodes:
            given = [values[name] if name else None for name in node.inputs]
            try:
                found = OPERATORS[node.operator](node.attributes, given)
            except (IndexError, TypeError, ValueError) as error:
                raise ValueError(f"{node.operator} {node.name!r}: {error}") from error
            values.update((n, y) for n, y in zip(node.outputs, found, strict=False) if n)
        outputs = [np.ascontiguousarray(values[name]) for name in self.output_names]
        return outputs[0] if len(outputs) == 1 else outputs

    __call__ = predict

    def _named(self, x: Any) -> dict[str, np.ndarray]:
        if not isinstance(x, Mapping):
            parts = x if isinstance(x, list | tuple) else [x]
            if len(parts) != len(self._inputs):
                raise ValueError(
                    f"The model has the inputs {self.input_names}, got {len(parts)} arrays."
                )
            x = dict(zip(self._inputs, parts, strict=True))
        if x.keys() != self._inputs.keys():
            raise ValueError(f"The model has the inputs {self.input_names}, got {sorted(x)}.")
        return {name: np.asarray(x[name], dtype) for name, dtype in self._inputs.items()}


def from_onnx(source: Any) -> OnnxModel:
    """An ONNX model for inference on fastlstm's kernels.

    LSTM nodes with everything that ONNX knows, and the operators that PyTorch and tf2onnx write
    around them: products, elementwise functions, changes of shape.

    Parameters
    ----------
    source : str, path, bytes or onnx.ModelProto

    Returns
    -------
    OnnxModel
        With `predict`, on arrays as the graph lays them out: time first unless `layout` is 1.

    Raises
    ------
    ValueError
        For operators and attributes that it does not have, all of them by name, and for files that
        are no ONNX model.
    ImportError
        Without ``onnx``, which the extra of that name installs.
    """
    onnx = require("onnx", "onnx")
    try:
        if isinstance(source, bytes):
            source = onnx.load_from_string(source)
        elif isinstance(source, str | os.PathLike):
            source = onnx.load(os.fspath(source))
    except FileNotFoundError:
        raise
    except Exception as error:  # of the library that parses it, whichever that is
        raise ValueError(f"from_onnx: this is no ONNX model: {error}") from error
    graph = source.graph
    versions = [each.version for each in source.opset_import if each.domain in ("", "ai.onnx")]
    nodes = [
        _node(onnx, number, node, max(versions, default=1))
        for number, node in enumerate(graph.node)
    ]
    problems = [problem for node in nodes for problem in _problems(node)]
    if problems:
        raise ValueError("from_onnx: these cannot be converted:\n" + "\n".join(problems))
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    inputs = {
        each.name: onnx.helper.tensor_dtype_to_np_dtype(each.type.tensor_type.elem_type)
        for each in graph.input
        if each.name not in constants
    }
    _require_order(nodes, {*constants, *inputs}, [each.name for each in graph.output])
    return OnnxModel(nodes, constants, inputs, [each.name for each in graph.output])


def _node(onnx: Any, number: int, node: Any, version: int) -> _Node:
    operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    attributes = {each.name: _attribute(onnx, each) for each in node.attribute}
    attributes["version"] = version
    if operator == "Split":
        attributes["outputs"] = len(node.output)
    return _Node(
        node.name or str(number), operator, attributes, list(node.input), list(node.output)
    )


def _attribute(onnx: Any, attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if attribute.name == "to":
        return onnx.helper.tensor_dtype_to_np_dtype(value)
    if isinstance(value, int | float | onnx.GraphProto):
        return value
    return [each.decode() if isinstance(each, bytes) else each for each in value]


def _problems(node: _Node) -> list[str]:
    if node.operator not in OPERATORS:
        return [f"- {node.operator} {node.name!r}: there is no such operator here"]
    found = lstm_problems(node.attributes) if node.operator == "LSTM" else []
    if node.operator == "Gelu" and node.attributes.get("approximate", "none") != "none":
        found.append("the approximation by tanh")
    return [f"- {node.operator} {node.name!r}: there is no {problem}" for problem in found]


def _prepared(node: _Node, constants: Mapping[str, np.ndarray]) -> _Node:
    """With the weights in fastlstm's form, if it is an LSTM and they are constants."""
    if node.operator != "LSTM":
        return node
    names = [*node.inputs, *[""] * (8 - len(node.inputs))]
    weights = [names[place] for place in (1, 2, 3, 7)]
    if not all(not name or name in constants for name in weights):
        return node
    w, r, b, p = (constants.get(name) for name in weights)
    if w is None or r is None:
        raise ValueError(f"from_onnx: LSTM {node.name!r} lacks its weights W and R.")
    directions = directions_of(node.attributes, w, r, b, p)
    return node._replace(attributes={**node.attributes, "directions": directions})


def _require_order(nodes: list[_Node], known: set[str], outputs: list[str]) -> None:
    """Refuse a graph whose nodes read what no node before them makes."""
    for node in nodes:
        missing = [name for name in node.inputs if name and name not in known]
        if missing:
            raise ValueError(
                f"from_onnx: {node.operator} {node.name!r} reads {missing[0]!r}, which nothing "
                f"before it makes."
            )
        known.update(node.outputs)
    missing = [name for name in outputs if name not in known]
    if missing:
        raise ValueError(f"from_onnx: nothing makes the output {missing[0]!r}.")
