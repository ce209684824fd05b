"""Models of Keras: from the objects themselves and from the files that Keras writes."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastlstm.convert.keras_hdf5 import MOST_EXPANSION, Group, opened
from fastlstm.convert.keras_layout import LayersOf, first_use, groups_of, repeats_in
from fastlstm.convert.keras_masks import (
    IGNORED_MASK,
    each_place,
    nodes_with_ignored_masks,
    replaced_places,
    uses_with_masks,
    without_masks,
)
from fastlstm.layers import LSTM, Bidirectional, InputLayer, Layer, deserialize
from fastlstm.layers.structure import as_list
from fastlstm.layers.symbolic import Node
from fastlstm.layers.weight import Weight, weights_to_load
from fastlstm.models import Model, Sequential
from fastlstm.saving.blame import blaming, raised_by_program
from fastlstm.saving.descriptions import require_backed

__all__ = ["from_keras", "load_keras_weights"]

_MODELS = ("Functional", "Model", "Sequential")
# An HDF5 file needs more than this for a weight, were it of one number.
_BYTES_PER_WEIGHT = 256

FilePath = str | bytes | os.PathLike[str]


def from_keras(source: Any, custom_objects: Mapping[str, Any] | None = None) -> Model:
    """A Keras model as a fastlstm model, with its weights; not compiled.

    Parameters
    ----------
    source : str, path or Keras model
        A ``.keras`` file of Keras 3, an ``.h5`` file of Keras 2 or 3 with the whole model, or a
        built Sequential or functional Keras model. A ``.weights.h5`` file holds no model: see
        `load_keras_weights`. Nor does Keras write the further uses of a layer that a Sequential
        has several times: such a model is refused, its files cannot be told from others.
    custom_objects : dict, optional
        Layers of your own by class name.

    Raises
    ------
    ValueError
        For layers and options that fastlstm does not have, all of them at once, by name; for
        files of another kind.
    ImportError
        Without h5py, which the extra ``keras`` installs.
    """
    if hasattr(source, "to_json") and hasattr(source, "layers"):
        _require_no_repeats(source)
        size = sum(array.nbytes for array in source.get_weights())
        reader = _Reader(json.loads(source.to_json()), "3", size, custom_objects)
        _copy_from_object(reader.model, source, reader.layers_of)
        return reader.model
    path = Path(os.fsdecode(source))
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        with blaming(path):
            if start.startswith(b"PK"):
                return _from_archive(file, custom_objects)
            if start == b"\x89HDF\r\n\x1a\n":
                return _from_hdf5(file, custom_objects)
    raise ValueError(f"from_keras: {os.fspath(path)!r} is neither a .keras nor an .h5 file.")


def _require_no_repeats(source: Any) -> None:
    """Raise ``ValueError`` for models of Keras whose description has less layers than they."""
    waiting, problems = [source], []
    while waiting:
        part = waiting.pop()
        inner = list(getattr(part, "layers", ()))
        if repeats := repeats_in(inner):
            problems.append(f"- {type(part).__name__} {part.name!r}: {repeats}")
        waiting += inner
        if hasattr(part, "layer"):
            waiting.append(part.layer)
    if problems:
        raise _refusal(problems)


def _refusal(problems: Iterable[str]) -> ValueError:
    return ValueError("from_keras: these cannot be converted:\n" + "\n".join(problems))


def load_keras_weights(model: Model, path: FilePath) -> None:
    """Copy the weights of a ``.weights.h5`` or ``.h5`` file into a model of the same layers.

    All of them or, on an error, none. Raises ``ValueError`` where layers or shapes differ.
    """
    with Path(os.fsdecode(path)).open("rb") as file, blaming(path), opened(file) as root:
        _assign(_stored(root, model, lambda each: each.layers))


def _from_archive(file: BinaryIO, custom_objects: Mapping[str, Any] | None) -> Model:
    with zipfile.ZipFile(file) as archive:
        config = json.loads(_member(archive, "config.json"))
        weights = _member(archive, "model.weights.h5")
        about = json.loads(_member(archive, "metadata.json", b"{}"))
    version = about.get("keras_version", "3") if isinstance(about, Mapping) else "3"
    require_backed("it", config, len(weights) // _BYTES_PER_WEIGHT)
    reader = _Reader(config, str(version), MOST_EXPANSION * len(weights), custom_objects)
    with opened(io.BytesIO(weights)) as root:
        _assign(_stored(root, reader.model, reader.layers_of))
    return reader.model


def _member(archive: zipfile.ZipFile, name: str, default: bytes | None = None) -> bytes:
    """What an archive holds under a name; ``ValueError`` for nothing, and for too much."""
    if name not in archive.namelist():
        if default is None:
            raise ValueError(f"it has no {name!r} in it")
        return default
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} in it is packed in another way than Keras does")
    if info.file_size > MOST_EXPANSION * max(1, info.compress_size):
        raise ValueError(f"{name!r} in it is too large")
    with archive.open(info) as member:
        # With a size, for otherwise all is unpacked, however much more than was announced.
        return member.read(info.file_size)


def _from_hdf5(file: BinaryIO, custom_objects: Mapping[str, Any] | None) -> Model:
    with opened(file) as root:
        if not root.has("model_config"):
            raise ValueError(
                "it holds weights alone: make the model and call "
                "`fastlstm.convert.load_keras_weights`"
            )
        config = json.loads(root.text("model_config"))
        version = root.text("keras_version", "2")
        size = file.seek(0, os.SEEK_END)
        require_backed("it", config, size // _BYTES_PER_WEIGHT)
        reader = _Reader(config, version, MOST_EXPANSION * size, custom_objects)
        _assign(_stored(root, reader.model, reader.layers_of))
    return reader.model


# ---- weights -------------------------------------------------------------------------------------

# Weights and what is stored of them, an array or what can be read as one: not read before its shape
# is known to fit.
Stored = list[tuple[Weight, Any]]


def _assign(stored: Stored) -> None:
    for weight, array in stored:
        if array.shape != weight.shape:
            raise ValueError(f"{weight.path!r} must have shape {weight.shape}, got {array.shape}.")
    arrays = [np.asarray(array) for _, array in stored]
    for (weight, _), array in zip(stored, arrays, strict=True):
        weight.restore(array)


def _paired(where: str, weights: Sequence[Weight], arrays: Sequence[Any]) -> Stored:
    if len(weights) != len(arrays):
        raise ValueError(f"{where} has {len(arrays)} weights where {len(weights)} are needed.")
    return list(zip(weights, arrays, strict=True))


def _stored(file: Group, model: Model, layers_of: LayersOf) -> Stored:
    """The weights of a model and what an HDF5 file, of Keras 3's layout or of 2's, has for them."""
    root = file.group("model_weights") if "model_weights" in file else file
    if root.has("layer_names"):
        return _stored_by_name(root, model, layers_of)
    found: Stored = []
    for group in groups_of(model, "", layers_of):
        if group.weights:
            place = f"{group.path}vars"
            count = len(file.group(place)) if place in file else 0
            arrays = [file.array(f"{place}/{number}") for number in range(count)]
            found += _paired(f"{group.layer.label}: {place!r}", group.weights, arrays)
    return found


def _stored_by_name(root: Group, model: Model, layers_of: LayersOf) -> Stored:
    """Keras 2's layout: a group for each layer, with the names of its weights in their order."""
    groups = [root.group(name) for name in root.names("layer_names")]
    groups = [group for group in groups if group.names("weight_names")]
    layers = [layer for layer in layers_of(model) if layer.weights]
    if len(groups) != len(layers):
        raise ValueError(
            f"{model.label} has {len(layers)} layers with weights, the file has {len(groups)}."
        )
    found: Stored = []
    for layer, group in zip(layers, groups, strict=True):
        arrays = [group.array(name) for name in group.names("weight_names")]
        order = [*layer.trainable_weights, *layer.non_trainable_weights]
        found += _paired(layer.label, order, arrays)
    return found


def _copy_from_object(model: Model, source: Any, layers_of: LayersOf) -> None:
    theirs = {layer.name: layer for layer in source.layers}
    found: Stored = []
    for layer in layers_of(model):
        if isinstance(layer, Model):
            _copy_from_object(layer, theirs[layer.name], layers_of)
        elif not isinstance(layer, InputLayer):
            found += _paired(layer.label, layer.weights, theirs[layer.name].get_weights())
    _assign(found)


# ---- architecture --------------------------------------------------------------------------------


class _Reader:
    """A model made from what Keras writes of one; refuses all that cannot be converted at once."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        version: str,
        most_bytes: int,
        custom_objects: Mapping[str, Any] | None,
    ) -> None:
        self._is_old = version.split(".")[0] in ("1", "2")
        self._custom_objects = custom_objects
        self._problems: list[str] = []
        self._orders: dict[Model, list[Layer]] = {}
        self._told_masks: set[Node] = set()
        if not isinstance(spec, Mapping) or spec.get("class_name") not in _MODELS:
            kind = spec.get("class_name") if isinstance(spec, Mapping) else spec
            raise ValueError(
                f"from_keras: the model must be Sequential or functional, got {kind!r}."
            )
        try:
            with weights_to_load(most_bytes):
                made = self._made(spec)
        except (AttributeError, LookupError, RecursionError, TypeError) as error:
            if raised_by_program(error):
                raise
            raise ValueError(f"from_keras: the configuration is damaged: {error!r}.") from error
        if made is None:
            raise _refusal(self._problems)
        self.model: Model = made
        if not self._is_old:
            ignored = set(nodes_with_ignored_masks(made)) - self._told_masks
            self._problems += {f"- {node.layer.label}: {IGNORED_MASK}": None for node in ignored}
        if self._problems:
            raise _refusal(self._problems)

    def layers_of(self, model: Model) -> list[Layer]:
        """The layers of a model in Keras's order."""
        return self._orders[model]

    def _made(self, spec: Mapping[str, Any]) -> Any:
        """The layer or model of a description; None if something in it is a problem."""
        if spec["class_name"] not in _MODELS:
            return self._layer(spec)
        config = spec["config"]
        if isinstance(config, list):  # Sequential, before Keras 2.2.3
            config = {"name": None, "layers": config}
        try:
            if spec["class_name"] != "Sequential":
                with_masks = uses_with_masks(config)
                config = without_masks(config)
        except ValueError as error:
            self._problems.append(f"- {config['name']}: {error}")
        layers = [self._made(inner) for inner in config["layers"]]
        if None in layers or self._problems:
            return None
        try:
            if spec["class_name"] == "Sequential":
                model: Model = self._sequential(spec, config, layers)
            else:
                graph = _graph_of(config, layers)
                self._told_masks |= graph.nodes_of(with_masks)
                model = graph.model(config, self._is_old)
        except (TypeError, ValueError) as error:
            if raised_by_program(error):
                raise
            self._problems.append(f"- {config['name']}: {error}")
            return None
        kept = layers if spec["class_name"] != "Sequential" else model.layers
        self._orders[model] = list(kept)
        return model

    def _layer(self, spec: Mapping[str, Any]) -> Layer | None:
        name = spec["config"].get("name", spec["class_name"])
        try:
            self._refuse_old_hard_sigmoid(spec["config"])
            return deserialize(spec, self._custom_objects)
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            if raised_by_program(error):
                raise
            self._problems.append(f"- {spec['class_name']} {name!r}: {error}")
            return None

    def _refuse_old_hard_sigmoid(self, config: Mapping[str, Any]) -> None:
        inner = [config[key]["config"] for key in ("layer", "backward_layer") if config.get(key)]
        for each in [config, *inner]:
            for option in ("activation", "recurrent_activation"):
                if self._is_old and each.get(option) == "hard_sigmoid":
                    raise ValueError(
                        f"`{option}`: Keras 2's hard_sigmoid, max(0, min(1, 0.2 x + 0.5)), is "
                        f"not that of Keras 3 and fastlstm, with x / 6."
                    )

    def _sequential(
        self, spec: Mapping[str, Any], config: Mapping[str, Any], layers: list[Layer]
    ) -> Sequential:
        model = Sequential(layers, name=config["name"])
        if not model.built:
            shape = (spec.get("build_config") or {}).get("input_shape")
            shape = shape or config.get("build_input_shape")
            if shape is None:
                raise ValueError("it has never been built, so it has no weights")
            model.build(tuple(shape))
        return model


def _graph_of(config: Mapping[str, Any], layers: list[Layer]) -> _Graph:
    """Call the layers on each other as the nodes of the graph say."""
    graph = _Graph(layers)
    for layer, index, node in _in_order(layers, config, graph):
        graph.call(layer, index, node)
    return graph


Call = tuple[Layer, int, Any]


def _in_order(layers: Sequence[Layer], config: Mapping[str, Any], graph: _Graph) -> Iterator[Call]:
    """The nodes of all layers, each after those whose tensors it reads."""
    missing: dict[int, set[tuple[str, int]]] = {}
    readers: defaultdict[tuple[str, int], list[Call]] = defaultdict(list)
    ready: deque[Call] = deque()
    for layer, spec in zip(layers, config["layers"], strict=True):
        for index, node in enumerate(spec["inbound_nodes"]):
            call = (layer, index, node)
            missing[id(node)] = graph.missing(node)
            for place in missing[id(node)]:
                readers[place].append(call)
            if not missing[id(node)]:
                ready.append(call)
    while ready:
        layer, index, node = ready.popleft()
        yield layer, index, node
        del missing[id(node)]
        for call in readers[layer.name, index]:
            missing[id(call[2])].remove((layer.name, index))
            if not missing[id(call[2])]:
                ready.append(call)
    if missing:
        name, number = next(iter(missing.values())).pop()
        raise ValueError(f"use {number} of the layer {name!r} is missing from the graph")


class _Graph:
    """The tensors that the nodes made so far have produced."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = {layer.name: layer for layer in layers}
        self._produced: dict[tuple[str, int], list[Any]] = {
            (layer.name, 0): [layer.output] for layer in layers if isinstance(layer, InputLayer)
        }

    def _at(self, place: Sequence[Any]) -> Any:
        return self._produced[place[0], place[1]][place[2]]

    def _at_end(self, place: Sequence[Any]) -> Any:
        """What is an input or output of the model."""
        name, index, number = place
        return self._at((name, index - first_use(self._layers[name]), number))

    def missing(self, node: Any) -> set[tuple[str, int]]:
        """Which of the calls that a node reads have not been made."""
        return {(name, index) for name, index, _ in each_place(node)} - self._produced.keys()

    def nodes_of(self, uses: Iterable[tuple[str, int]]) -> set[Node]:
        """The nodes that these uses of layers have become."""
        return {self._produced[use][0].node for use in uses}

    def model(self, config: Mapping[str, Any], is_old: bool) -> Model:
        """The model between the inputs and the outputs that the configuration names."""
        at = self._at if is_old else self._at_end
        inputs, outputs = (
            replaced_places(at, config[key]) for key in ("input_layers", "output_layers")
        )
        if is_old:  # Keras 2 wrote lists, and meant a single tensor by a list of one.
            inputs, outputs = (one[0] if len(one) == 1 else one for one in (inputs, outputs))
        return Model(inputs, outputs, name=config["name"])

    def tensors(self, places: Any) -> Any:
        """The tensors at these places, in the structure they were given in."""
        return replaced_places(self._at, places)

    def call(self, layer: Layer, index: int, node: Any) -> None:
        """Make one node."""
        if isinstance(node, Mapping):
            (inputs, *more), keywords = self.tensors(node["args"]), self.tensors(node["kwargs"])
            if more:
                raise ValueError(f"{layer.label} is called with several arguments")
        else:  # Keras 2: for each input its place and the keywords of the call
            inputs = [self._at(entry[:3]) for entry in node]
            keywords = self.tensors(node[0][3]) if len(node[0]) > 3 else {}
            inputs = inputs[0] if len(inputs) == 1 else inputs
        if isinstance(layer, LSTM | Bidirectional) and isinstance(inputs, list):
            inputs, keywords["initial_state"] = inputs[0], inputs[1:]
        keywords = {name: value for name, value in keywords.items() if value is not None}
        self._produced[layer.name, index] = as_list(layer(inputs, **keywords))
