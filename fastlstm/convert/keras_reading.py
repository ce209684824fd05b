"""Models of Keras: from the objects themselves and from the files that Keras writes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastlstm._extras import require
from fastlstm.convert.keras_layout import LayersOf, groups_of
from fastlstm.convert.keras_masks import each_place, replaced_places, without_masks
from fastlstm.layers import LSTM, Bidirectional, InputLayer, Layer, deserialize
from fastlstm.layers.structure import as_list
from fastlstm.layers.weight import Weight, weights_to_load
from fastlstm.models import Model, Sequential

__all__ = ["from_keras", "load_keras_weights"]

_MODELS = ("Functional", "Model", "Sequential")
# The most that a member of an archive, or the weights of a file, may hold for each of its bytes.
_MOST_EXPANSION = 100


def from_keras(source: Any, custom_objects: Mapping[str, Any] | None = None) -> Model:
    """A Keras model as a fastlstm model, with its weights; not compiled.

    Parameters
    ----------
    source : str, path or Keras model
        A ``.keras`` file of Keras 3, an ``.h5`` file of Keras 2 or 3 with the whole model, or a
        built Sequential or functional Keras model. A ``.weights.h5`` file holds no model: see
        `load_keras_weights`.
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
        size = sum(array.nbytes for array in source.get_weights())
        reader = _Reader(json.loads(source.to_json()), "3", size, custom_objects)
        _copy_from_object(reader.model, source, reader.layers_of)
        return reader.model
    path = Path(source)
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        return _from_archive(path, custom_objects)
    if start == b"\x89HDF\r\n\x1a\n":
        return _from_hdf5(path, custom_objects)
    raise ValueError(f"from_keras: {os.fspath(path)!r} is neither a .keras nor an .h5 file.")


def load_keras_weights(model: Model, path: str | os.PathLike[str]) -> None:
    """Copy the weights of a ``.weights.h5`` or ``.h5`` file into a model of the same layers.

    All of them or, on an error, none. Raises ``ValueError`` where layers or shapes differ.
    """
    with _opened(path) as file:
        _assign(_stored(file, model, lambda each: each.layers))


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[Any]:
    """An HDF5 file; ``ValueError`` where it is damaged."""
    h5py = require("h5py", "keras")
    try:
        with h5py.File(source, "r") as file:
            yield file
    except FileNotFoundError:
        raise
    except (KeyError, OSError, RuntimeError) as error:
        raise ValueError(f"The HDF5 file is damaged: {error}.") from error


def _from_archive(path: Path, custom_objects: Mapping[str, Any] | None) -> Model:
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(_member(archive, "config.json"))
            weights = _member(archive, "model.weights.h5")
            about = json.loads(_member(archive, "metadata.json", b"{}"))
    except (EOFError, RecursionError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"from_keras: {os.fspath(path)!r} is damaged: {error}.") from None
    version = about.get("keras_version", "3") if isinstance(about, Mapping) else "3"
    reader = _Reader(config, str(version), _MOST_EXPANSION * len(weights), custom_objects)
    with _opened(io.BytesIO(weights)) as file:
        _assign(_stored(file, reader.model, reader.layers_of))
    return reader.model


def _member(archive: zipfile.ZipFile, name: str, default: bytes | None = None) -> bytes:
    """What an archive holds under a name; ``ValueError`` for nothing, and for too much."""
    if name not in archive.namelist():
        if default is None:
            raise ValueError(f"from_keras: {archive.filename!r} has no {name!r} in it.")
        return default
    info = archive.getinfo(name)
    if info.file_size > _MOST_EXPANSION * max(1, info.compress_size):
        raise ValueError(f"from_keras: {name!r} in {archive.filename!r} is too large.")
    return archive.read(name)


def _from_hdf5(path: Path, custom_objects: Mapping[str, Any] | None) -> Model:
    with _opened(path) as file:
        if "model_config" not in file.attrs:
            raise ValueError(
                f"from_keras: {os.fspath(path)!r} holds weights alone: make the model and call "
                f"`fastlstm.convert.load_keras_weights`."
            )
        config = json.loads(file.attrs["model_config"])
        version = _text(file.attrs.get("keras_version", "2"))
        size = _MOST_EXPANSION * path.stat().st_size
        reader = _Reader(config, version, size, custom_objects)
        _assign(_stored(file, reader.model, reader.layers_of))
    return reader.model


# ---- weights -------------------------------------------------------------------------------------

# Weights and what is stored of them, an array or what can be read as one: not read before its shape
# is known to fit.
Stored = list[tuple[Weight, Any]]


def _assign(stored: Stored) -> None:
    for weight, array in stored:
        if array.shape != weight.shape:
            raise ValueError(f"{weight.path!r} must have shape {weight.shape}, got {array.shape}.")
    arrays = [array[...] for _, array in stored]
    for (weight, _), array in zip(stored, arrays, strict=True):
        weight.restore(array)


def _paired(where: str, weights: Sequence[Weight], arrays: Sequence[Any]) -> Stored:
    if len(weights) != len(arrays):
        raise ValueError(f"{where} has {len(arrays)} weights where {len(weights)} are needed.")
    return list(zip(weights, arrays, strict=True))


def _stored(file: Any, model: Model, layers_of: LayersOf) -> Stored:
    """The weights of a model and what an HDF5 file, of Keras 3's layout or of 2's, has for them."""
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs:
        return _stored_by_name(root, model, layers_of)
    found: Stored = []
    for group in groups_of(model, "", layers_of):
        if group.weights:
            place = f"{group.path}vars"
            arrays = file.get(place, {})
            found += _paired(
                f"{group.layer.label}: {place!r}",
                group.weights,
                [arrays[str(number)] for number in range(len(arrays))],
            )
    return found


def _stored_by_name(root: Any, model: Model, layers_of: LayersOf) -> Stored:
    """Keras 2's layout: a group for each layer, with the names of its weights in their order."""
    groups = [root[_text(name)] for name in root.attrs["layer_names"]]
    groups = [group for group in groups if len(group.attrs["weight_names"])]
    layers = [layer for layer in layers_of(model) if layer.weights]
    if len(groups) != len(layers):
        raise ValueError(
            f"{model.label} has {len(layers)} layers with weights, the file has {len(groups)}."
        )
    found: Stored = []
    for layer, group in zip(layers, groups, strict=True):
        arrays = [group[_text(name)] for name in group.attrs["weight_names"]]
        order = [*layer.trainable_weights, *layer.non_trainable_weights]
        found += _paired(layer.label, order, arrays)
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


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
        if not isinstance(spec, Mapping) or spec.get("class_name") not in _MODELS:
            kind = spec.get("class_name") if isinstance(spec, Mapping) else spec
            raise ValueError(
                f"from_keras: the model must be Sequential or functional, got {kind!r}."
            )
        try:
            with weights_to_load(most_bytes):
                made = self._made(spec)
        except (AttributeError, LookupError, RecursionError, TypeError) as error:
            raise ValueError(f"from_keras: the configuration is damaged: {error!r}.") from error
        if made is None:
            raise ValueError("from_keras: these cannot be converted:\n" + "\n".join(self._problems))
        self.model: Model = made

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
                model = _functional(config, layers, self._is_old)
        except (TypeError, ValueError) as error:
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
        except (KeyError, TypeError, ValueError) as error:
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


def _functional(config: Mapping[str, Any], layers: list[Layer], is_old: bool) -> Model:
    """Call the layers on each other as the nodes of the graph say."""
    graph = _Graph(layers)
    waiting = [
        (layer, index, node)
        for layer, spec in zip(layers, config["layers"], strict=True)
        for index, node in enumerate(spec["inbound_nodes"])
    ]
    while waiting:
        ready = [call for call in waiting if graph.has_all(call[2])]
        if not ready:
            raise ValueError(f"the inputs of {waiting[0][0].label} are missing from the graph")
        for layer, index, node in ready:
            graph.call(layer, index, node)
        waiting = [call for call in waiting if call not in ready]
    inputs, outputs = (graph.tensors(config[key]) for key in ("input_layers", "output_layers"))
    if is_old:  # Keras 2 wrote lists, and meant a single tensor by a list of one.
        inputs, outputs = (one[0] if len(one) == 1 else one for one in (inputs, outputs))
    return Model(inputs, outputs, name=config["name"])


class _Graph:
    """The tensors that the nodes made so far have produced."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._produced: dict[tuple[str, int], list[Any]] = {
            (layer.name, 0): [layer.output] for layer in layers if isinstance(layer, InputLayer)
        }

    def _at(self, place: Sequence[Any]) -> Any:
        return self._produced[place[0], place[1]][place[2]]

    def has_all(self, node: Any) -> bool:
        """Whether everything that a node reads has been produced."""
        return all((name, index) in self._produced for name, index, _ in each_place(node))

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
