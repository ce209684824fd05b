"""ONNX files as models that fastlstm runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastlstm._extras import require
from fastlstm.convert.onnx.checking import check_model
from fastlstm.convert.onnx.lstm_node import directions_of, lstm_problems
from fastlstm.convert.onnx.operators import OPERATORS
from fastlstm.convert.onnx.tensors import array_of, dtype_of, load_external_data
from fastlstm.errors import as_real_array, shape_text

__all__ = ["OnnxModel", "from_onnx"]

# What ONNX's own operators are known by.
_DOMAINS = ("", "ai.onnx")

# Attributes that switch something on; which of the other numbers do is not specified.
_SWITCHES = ("allowzero", "keepdims", "noop_with_empty_axes", "transA", "transB")

Kind = tuple[np.dtype, Sequence[int | None] | None]


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
        inputs: dict[str, Kind],
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
        with np.errstate(all="ignore"):  # infinities and NaN go through a graph as everywhere
            for node in self._nodes:
                values.update(_results(node, values))
        # Copies: a graph may hand on its inputs, or constants of its own.
        outputs = [np.array(values[name], order="C") for name in self.output_names]
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
        return {name: _fitting(x[name], name, *kind) for name, kind in self._inputs.items()}


def _results(node: _Node, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a node makes, by name."""
    given = [values[name] if name else None for name in node.inputs]
    try:
        found = OPERATORS[node.operator](node.attributes, given)
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise ValueError(f"{node.operator} {node.name!r}: {error}") from error
    return {name: y for name, y in zip(node.outputs, found, strict=False) if name}


def _fitting(value: Any, name: str, dtype: np.dtype, shape: Sequence[int | None] | None) -> Any:
    """`value` as an array for that input."""
    what = f"The input {name!r}"
    if dtype.kind == "f":
        array = as_real_array(value, dtype, what)
    else:
        given = np.asarray(value)
        array = given.astype(dtype) if given.dtype.kind in "biu" else given
        if array.dtype != dtype or (array != given).any():
            raise ValueError(f"{what} must hold values of {dtype}, got an array of {given.dtype}.")
    if shape is not None and (
        array.ndim != len(shape)
        or any(want not in (None, size) for size, want in zip(array.shape, shape, strict=True))
    ):
        raise ValueError(
            f"{what} must have the shape {shape_text(shape)} of the graph, got {array.shape}."
        )
    return array


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
        For operators and attributes that it does not have, all of them by name; for what is no
        valid ONNX model, and for one whose data lie outside the folder of its file. Of bytes and a
        ``ModelProto`` all data must be in them.
    OSError
        For files that cannot be read.
    ImportError
        Without ``onnx``, which the extra of that name installs.
    """
    onnx = require("onnx", "onnx")
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else type(source).__name__
    try:
        return _converted(onnx, *_loaded(onnx, source))
    except ValueError as error:
        raise ValueError(f"from_onnx: {name}: {error}") from error


def _loaded(onnx: Any, source: Any) -> tuple[Any, Path | None]:
    """The ``ModelProto``, and the folder that it is from."""
    if isinstance(source, onnx.ModelProto):
        return source, None
    path = None if isinstance(source, bytes) else Path(source)
    try:
        if path is None:
            return onnx.load_from_string(source), None
        return onnx.load(str(path), load_external_data=False), path.parent
    except OSError:
        raise
    except Exception as error:  # of the library that parses it, whichever that is
        raise ValueError(f"this is no ONNX model: {error}") from error


def _converted(onnx: Any, model: Any, folder: Path | None) -> OnnxModel:
    graph = model.graph
    if not graph.output:
        raise ValueError("the graph has no outputs.")
    load_external_data(onnx, model, folder)
    versions = [each.version for each in model.opset_import if each.domain in _DOMAINS]
    version = max(versions, default=1)
    nodes = [_node(onnx, number, node, version) for number, node in enumerate(graph.node)]
    problems = [problem for node in nodes for problem in _problems(node)]
    if problems:
        raise ValueError("these cannot be converted:\n" + "\n".join(problems))
    constants = {each.name: array_of(onnx, each) for each in graph.initializer}
    inputs = {each.name: each for each in graph.input if each.name not in constants}
    check_model(onnx, model, version)
    kinds = {name: _declared(onnx, each) for name, each in inputs.items()}
    return OnnxModel(nodes, constants, kinds, [each.name for each in graph.output])


def _declared(onnx: Any, value: Any) -> Kind:
    """Dtype and shape that the graph gives an input; None for sizes and ranks that are open."""
    kind = value.type.tensor_type
    shape = [each.dim_value if each.HasField("dim_value") else None for each in kind.shape.dim]
    return (
        dtype_of(onnx, kind.elem_type, f"the input {value.name!r}"),
        shape if kind.HasField("shape") else None,
    )


def _node(onnx: Any, number: int, node: Any, version: int) -> _Node:
    operator = node.op_type if node.domain in _DOMAINS else f"{node.domain}.{node.op_type}"
    attributes = {each.name: _attribute(onnx, each) for each in node.attribute}
    attributes["version"] = version
    if operator == "Split":
        attributes["outputs"] = len(node.output)
    return _Node(
        node.name or str(number), operator, attributes, list(node.input), list(node.output)
    )


def _attribute(onnx: Any, attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if value is None or isinstance(value, onnx.SparseTensorProto | onnx.TypeProto):
        raise ValueError(f"the attribute {attribute.name!r} has a type that there is not here.")
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return array_of(onnx, value)
    if attribute.name == "to" and isinstance(value, int):
        return dtype_of(onnx, value, "`to`")
    if isinstance(value, int | float | onnx.GraphProto):
        return value
    return [each.decode() if isinstance(each, bytes) else each for each in value]


def _problems(node: _Node) -> list[str]:
    if node.operator not in OPERATORS:
        return [f"- {node.operator} {node.name!r}: there is no such operator here"]
    attributes = {name: value for name, value in node.attributes.items() if name != "version"}
    found = lstm_problems(attributes) if node.operator == "LSTM" else []
    found += [
        f"`{name}` must be 0 or 1, got {attributes[name]!r}"
        for name in _SWITCHES
        if attributes.get(name, 0) not in (0, 1)
    ]
    if node.operator == "Gelu" and attributes.get("approximate", "none") != "none":
        found.append("there is no approximation by tanh")
    return [f"- {node.operator} {node.name!r}: {problem}" for problem in found]


def _prepared(node: _Node, constants: Mapping[str, np.ndarray]) -> _Node:
    """With the weights in fastlstm's form, if it is an LSTM and they are constants."""
    if node.operator != "LSTM":
        return node
    names = [*node.inputs, *[""] * (8 - len(node.inputs))]
    weights = [names[place] for place in (1, 2, 3, 7)]
    if not all(not name or name in constants for name in weights):
        return node
    w, r = (constants[name] for name in weights[:2])
    b, p = (constants.get(name) for name in weights[2:])
    try:
        directions = directions_of(node.attributes, w, r, b, p)
    except ValueError as error:
        raise ValueError(f"LSTM {node.name!r}: {error}") from error
    return node._replace(attributes={**node.attributes, "directions": directions})
