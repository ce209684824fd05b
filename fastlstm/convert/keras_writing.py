"""Models for Keras: a ``.keras`` file that Keras 3 loads."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastlstm._extras import require
from fastlstm.convert.keras_layout import first_use, groups_of, keras_class_name, repeats_in
from fastlstm.convert.keras_masks import (
    IGNORED_MASK,
    names_of_operations,
    nodes_with_ignored_masks,
)
from fastlstm.layers import Bidirectional, Lambda, Layer, TimeDistributed
from fastlstm.layers.structure import as_list, map_structure
from fastlstm.layers.symbolic import SymbolicTensor
from fastlstm.models import Model, Sequential
from fastlstm.saving.safetensors import atomic_writer

__all__ = ["to_keras"]

# What fastlstm's layers know and Keras's do not; it changes nothing in what they compute.
_OWN_OPTIONS = ("batch_input_shape", "implementation")
_KINDS = ("constraint", "initializer", "regularizer")


def to_keras(model: Model, path: str | bytes | os.PathLike[str]) -> None:
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
    name = os.fsdecode(path)
    if not name.endswith(".keras"):
        raise ValueError(f"to_keras: `path` must end in '.keras', got {name!r}.")
    model._require_built("to_keras")
    problems = [problem for layer in _parts(model) for problem in _problems(layer)]
    ignored = [f"- {node.layer.label}: {IGNORED_MASK}" for node in nodes_with_ignored_masks(model)]
    problems += dict.fromkeys(ignored)
    if problems:
        raise ValueError("to_keras: these cannot be converted:\n" + "\n".join(problems))
    weights = _hdf5(model)
    with atomic_writer(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0"}))
        archive.writestr("config.json", json.dumps(_described(model)))
        archive.writestr("model.weights.h5", weights)


def _parts(layer: Layer) -> list[Layer]:
    return [layer, *(part for each in layer._layers for part in _parts(each))]


def _problems(layer: Layer) -> list[str]:
    if isinstance(layer, Model):
        repeats = repeats_in(layer.layers)
        return [f"- {layer.label}: {repeats}"] if repeats else []
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
    places = _Places(model)
    layers = []
    for layer in model.layers:
        described = _described(layer)
        name = places.name_of(layer)
        described = {**described, "config": {**described["config"], "name": name}}
        nodes = [places.node(node) for node in places.uses[layer]]
        layers.append({**described, "name": name, "inbound_nodes": nodes})
    return {
        "name": model.name,
        "trainable": model._trainable,
        "layers": layers,
        "input_layers": places.of_all(model._input_names, model.inputs),
        "output_layers": places.of_all(model._output_names, model.outputs),
    }


class _Places:
    """Where tensors come from, as Keras writes it: a layer's name, which use, which output."""

    def __init__(self, model: Model) -> None:
        self.uses: defaultdict[Layer, list[Any]] = defaultdict(list)
        self._numbers: dict[Any, int] = {}
        for step in model.graph.steps:
            self._numbers[step.node] = len(self.uses[step.layer])
            self.uses[step.layer].append(step.node)
        taken = {layer.name for layer in model.layers}
        operations = names_of_operations(model)
        # Keras refuses two operations of one name, and its own for the masks are named by itself.
        self._names = {}
        for layer in model.layers:
            name = layer.name
            while name in operations or (name != layer.name and name in taken):
                name += "_layer"
            self._names[layer] = name

    def name_of(self, layer: Layer) -> str:
        """What the layer is called in the file."""
        return self._names[layer]

    def of(self, tensor: SymbolicTensor) -> list[Any]:
        """The place of a tensor."""
        node = tensor.node
        assert node is not None
        index = next(i for i, each in enumerate(as_list(node.outputs)) if each is tensor)
        return [self.name_of(node.layer), self._numbers.get(node, 0), index]

    def of_all(self, names: list[str] | None, tensors: list[SymbolicTensor]) -> Any:
        """Those of a model's inputs or outputs."""
        places = [self.of(tensor) for tensor in tensors]
        for place, tensor in zip(places, tensors, strict=True):
            assert tensor.node is not None
            place[1] += first_use(tensor.node.layer)
        if names is not None:
            return dict(zip(names, places, strict=True))
        return places[0] if len(places) == 1 else places

    def node(self, node: Any) -> dict[str, Any]:
        """One use of a layer."""

        def tensor(each: SymbolicTensor) -> dict[str, Any]:
            config = {
                "shape": list(each.shape),
                "dtype": each.dtype,
                "keras_history": self.of(each),
            }
            return {"class_name": "__keras_tensor__", "config": config}

        tensors, settings = node.split_keywords()
        keywords = {name: map_structure(tensor, value) for name, value in tensors.items()}
        return {"args": [map_structure(tensor, node.inputs)], "kwargs": {**settings, **keywords}}
