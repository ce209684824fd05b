"""Models for Keras: a ``.keras`` file that Keras 3 loads."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastlstm._extras import require
from fastlstm.convert.keras_layout import groups_of, keras_class_name
from fastlstm.layers import Bidirectional, Lambda, Layer, TimeDistributed
from fastlstm.layers.structure import as_list, map_structure
from fastlstm.layers.symbolic import SymbolicTensor
from fastlstm.models import Model, Sequential
from fastlstm.saving.safetensors import atomic_writer

__all__ = ["to_keras"]

# What fastlstm's layers know and Keras's do not; it changes nothing in what they compute.
_OWN_OPTIONS = ("batch_input_shape", "implementation")
_KINDS = ("constraint", "initializer", "regularizer")


def to_keras(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a built model to a ``.keras`` file, which `keras.saving.load_model` reads.

    Layers, options and weights; not what it was compiled with.

    Raises
    ------
    ValueError
        For a model that is not built, another ending, and layers that Keras does not have, all of
        them at once, by name.
    ImportError
        Without h5py, which the extra ``keras`` installs.
    """
    if not os.fspath(path).endswith(".keras"):
        raise ValueError(f"to_keras: `path` must end in '.keras', got {os.fspath(path)!r}.")
    model._require_built("to_keras")
    problems = [problem for layer in _leaves(model) for problem in _problems(layer)]
    if problems:
        raise ValueError("to_keras: these cannot be converted:\n" + "\n".join(problems))
    weights = _hdf5(model)
    with atomic_writer(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("config.json", json.dumps(_described(model)))
        archive.writestr("model.weights.h5", weights)


def _leaves(layer: Layer) -> list[Layer]:
    inner = [leaf for each in layer._layers for leaf in _leaves(each)]
    return inner if isinstance(layer, Model) else [layer, *inner]


def _problems(layer: Layer) -> list[str]:
    if isinstance(layer, Lambda):
        return [f"- {layer.label}: its function cannot be written to a file"]
    if not type(layer).__module__.startswith("fastlstm."):
        return [f"- {layer.label}: Keras does not have this class"]
    return []


# ---- weights -------------------------------------------------------------------------------------


def _hdf5(model: Model) -> bytes:
    buffer = io.BytesIO()
    with require("h5py", "keras").File(buffer, "w") as file:
        for group in groups_of(model, "", lambda each: each.layers):
            place = file.require_group(f"{group.path}vars")
            for number, weight in enumerate(group.weights):
                place[str(number)] = weight.value
            if group.draws:
                # Where Keras's generators of random numbers begin.
                file[f"{group.path}seed_generator/vars/0"] = np.zeros(2, np.int64)
    return buffer.getvalue()


# ---- architecture --------------------------------------------------------------------------------


def _described(layer: Layer) -> dict[str, Any]:
    """A layer or model as Keras 3 describes it."""
    name = keras_class_name(layer)
    if isinstance(layer, Sequential):
        module, config = "keras", _sequential(layer)
    elif isinstance(layer, Model):
        module, config = "keras.src.models.functional", _functional(layer)
    else:
        module, config = "keras.layers", _options(layer)
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def _options(layer: Layer) -> dict[str, Any]:
    options = {k: v for k, v in layer.get_config().items() if k not in _OWN_OPTIONS}
    for key, value in options.items():
        kind = key.rpartition("_")[2]
        if kind in _KINDS and isinstance(value, Mapping):
            options[key] = {**value, "module": f"keras.{kind}s", "registered_name": None}
    if isinstance(layer, Bidirectional):
        options["layer"] = _described(layer.forward_layer)
        options["backward_layer"] = _described(layer.backward_layer)
    elif isinstance(layer, TimeDistributed):
        options["layer"] = _described(layer.layer)
    return options


def _sequential(model: Sequential) -> dict[str, Any]:
    source = model.inputs[0].node
    assert source is not None
    layers = [_described(source.layer), *map(_described, model.layers)]
    return {"name": model.name, "trainable": model._trainable, "layers": layers}


def _functional(model: Model) -> dict[str, Any]:
    layers = []
    for layer in model.layers:
        nodes = [_node(model, step.node) for step in model.graph.steps if step.layer is layer]
        layers.append({**_described(layer), "name": layer.name, "inbound_nodes": nodes})
    return {
        "name": model.name,
        "trainable": model._trainable,
        "layers": layers,
        "input_layers": _places(model, model._input_names, model.inputs),
        "output_layers": _places(model, model._output_names, model.outputs),
    }


def _places(model: Model, names: list[str] | None, tensors: list[SymbolicTensor]) -> Any:
    places = [_place(model, tensor) for tensor in tensors]
    if names is not None:
        return dict(zip(names, places, strict=True))
    return places[0] if len(places) == 1 else places


def _place(model: Model, tensor: SymbolicTensor) -> list[Any]:
    node = tensor.node
    assert node is not None
    index = next(i for i, each in enumerate(as_list(node.outputs)) if each is tensor)
    return [node.layer.name, model.use_of(node), index]


def _node(model: Model, node: Any) -> dict[str, Any]:
    def tensor(each: SymbolicTensor) -> dict[str, Any]:
        config = {
            "shape": list(each.shape),
            "dtype": each.dtype,
            "keras_history": _place(model, each),
        }
        return {"class_name": "__keras_tensor__", "config": config}

    tensors, settings = node.split_keywords()
    keywords = {name: map_structure(tensor, value) for name, value in tensors.items()}
    return {"args": [map_structure(tensor, node.inputs)], "kwargs": {**settings, **keywords}}
