"""A model in one file: its weights as tensors, all else as JSON in the texts beside them.

The texts of format version 1, see docs/format.md:

``format``            ``"pt"``, without which Hugging Face's tools refuse a file
``format_version``    ``"1"``
``fastlstm_version``  which version wrote it
``model``             the model as `fastlstm.layers.serialize` describes it; not with weights alone
``compile``           the optimizer, losses and metrics, if the model was compiled
``training``          with the optimizer's state: those of the generators of random numbers

``weights``           the names of the weights, in the order of `Model.weights`

and the tensors: the weights by their paths, ``lstm/kernel``, and what the optimizer remembers, if
asked for: ``optimizer:0``, ``optimizer:1``, ... and, of frozen weights that have trained before,
``optimizer:lstm/kernel:velocity``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastlstm import losses, metrics, optimizers
from fastlstm._registry import custom_class, described, home_of
from fastlstm._version import __version__
from fastlstm.layers.base import Layer
from fastlstm.layers.serialization import deserialize, serialize, with_custom_objects
from fastlstm.layers.weight import Weight, weights_to_load
from fastlstm.saving.blame import blaming
from fastlstm.saving.descriptions import require_backed
from fastlstm.saving.safetensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from fastlstm.models.model import Model

__all__ = [
    "load_model",
    "load_weights",
    "restore_training",
    "save_model",
    "save_training",
    "save_weights",
]

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
_OPTIMIZER = "optimizer:"

Path = str | bytes | os.PathLike[str]


# ---- saving --------------------------------------------------------------------------------------


def save_model(model: Model, path: Path, *, include_optimizer: bool = False) -> None:
    """See `Model.save`."""
    require_suffix("save", path)
    model._require_built("save")
    description = serialize(model)
    texts = {"model": _json(f"{model.label}: its configuration", description)}
    require_backed(model.label, description, len(model.weights))
    if model.compiled:
        texts["compile"] = _json(f"{model.label}: what it was compiled with", _compiled(model))
    state = {}
    if include_optimizer:
        state = _optimizer_state(model)
        texts["training"] = _json("training", _generator_states(model))
    _write(path, model, state, texts)


def save_weights(model: Model, path: Path) -> None:
    """See `Model.save_weights`."""
    require_suffix("save_weights", path)
    model._require_built("save_weights")
    _write(path, model, {}, {})


def save_training(model: Model, path: Path, notes: Mapping[str, str]) -> None:
    """All that training a model changes, and `notes`, for `restore_training`.

    Unlike `save_model` it does not need a configuration that can be written down.
    """
    training = _json("training", _generator_states(model))
    _write(path, model, _optimizer_state(model), {**notes, "training": training})


def _optimizer_state(model: Model) -> dict[str, np.ndarray]:
    if model.optimizer is None:
        raise ValueError(f"{model.label} has no optimizer to save: call `compile` first.")
    model.optimizer.build(model.trainable_weights)
    state = {f"{_OPTIMIZER}{n}": array for n, array in enumerate(model.optimizer.get_state())}
    resting = model.optimizer.resting
    for path, weight in model.weights_by_path().items():
        for name, slot in resting.get(weight, {}).items():
            state[f"{_OPTIMIZER}{path}:{name}"] = slot
    return state


def _write(path: Path, model: Model, state: dict[str, np.ndarray], texts: dict[str, str]) -> None:
    weights = {path: weight.value for path, weight in model.weights_by_path().items()}
    metadata = {
        "format": "pt",
        "format_version": str(FORMAT_VERSION),
        "fastlstm_version": __version__,
        "weights": _json("weights", list(weights)),
        **texts,
    }
    write_tensors(path, {**weights, **state}, metadata)


def require_suffix(who: str, path: Path) -> None:
    name = os.fsdecode(path)
    if not name.endswith(SUFFIX):
        hint = ""
        if name.endswith((".keras", ".h5", ".hdf5")):
            hint = " For a file of Keras use `fastlstm.convert.to_keras`."
        raise ValueError(f"{who}: `path` must end in {SUFFIX!r}, got {name!r}.{hint}")


def _json(what: str, value: Any) -> str:
    try:
        return json.dumps(value, default=_plain_number, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} cannot be saved: {error}.") from None


def _plain_number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is no text, number, list or dict")


def _compiled(model: Model) -> dict[str, Any]:
    assert model.optimizer is not None
    assert model._compile_arguments is not None
    return {
        "optimizer": _described(model.optimizer),
        **{name: _described(value) for name, value in model._compile_arguments.items()},
    }


def _described(value: Any) -> Any:
    """What `compile` was given, as JSON can hold it. `_understood` reads it."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {"dict": {name: _described(entry) for name, entry in value.items()}}
    if isinstance(value, list | tuple):
        return [_described(entry) for entry in value]
    if isinstance(value, type):
        return {"class_name": value.__name__, "module": home_of(value)}
    if isinstance(value, optimizers.Optimizer) and callable(value._learning_rate):
        _require_schedule(value)
    if hasattr(value, "get_config"):
        return described(value)
    if isinstance(value, losses.LossFunction):
        return value.__name__
    name = getattr(value, "__name__", "<")
    if callable(value) and "<" not in name:
        return {"function": name}
    raise TypeError(f"{value!r} has no name and no `get_config`")


def _require_schedule(optimizer: optimizers.Optimizer) -> None:
    if not hasattr(optimizer._learning_rate, "get_config"):
        raise TypeError("the learning rate is a function; use a schedule or a number")


# ---- loading -------------------------------------------------------------------------------------


def load_model(
    path: Path, custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Model:
    """The model that `Model.save` wrote.

    Nothing in the file is executed: layers, losses, metrics and optimizers are those of this
    package, subclasses that the program has defined, and what `custom_objects` gives.

    Parameters
    ----------
    path : str, bytes or path
    custom_objects : dict, optional
        Classes and functions of your own, by name. Needed where a class of the program is not
        the only one of its name, unless it is defined where it was when the model was saved.
    compile : bool
        Whether the model comes compiled, if it was, and its optimizer as it was saved.

    Raises
    ------
    ValueError
        For what is no such file, one of a later format, or names that nobody knows.
    OSError
        For a file that cannot be read.

    Examples
    --------
    >>> import tempfile, fastlstm
    >>> model = fastlstm.Sequential([fastlstm.layers.LSTM(2, input_shape=(None, 1))])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.safetensors")
    ...     again = fastlstm.load_model(f"{folder}/model.safetensors")
    >>> again.count_params() == model.count_params()
    True
    """
    tensors, texts = _read(path)
    if "model" not in texts:
        raise ValueError(
            f"{os.fsdecode(path)!r} holds weights alone: make the model and call `load_weights`."
        )
    with blaming(path):
        return _load_model(tensors, texts, custom_objects, compile)


def _load_model(
    tensors: dict[str, np.ndarray],
    texts: dict[str, str],
    custom_objects: Mapping[str, Any] | None,
    compile: bool,
) -> Model:
    from fastlstm.models.model import Model

    weights, state = _split(tensors, texts)
    description = json.loads(texts["model"])
    require_backed("it", description, sum(array.size > 0 for array in weights.values()))
    with weights_to_load(sum(array.nbytes for array in weights.values())):
        model = deserialize(description, custom_objects)
    if not isinstance(model, Model):
        raise ValueError(f"it describes {model.label}, which is no model")
    own = _weights_for(model, weights)
    _load_into(own, weights)
    if compile and "compile" in texts:
        _compile(model, json.loads(texts["compile"]), custom_objects or {})
        if state.slots:
            _restore_training(model, state, own, texts)
    return model


def load_weights(model: Model, path: Path) -> None:
    """See `Model.load_weights`."""
    model._require_built("load_weights")
    tensors, texts = _read(path)
    with blaming(path):
        weights, _ = _split(tensors, texts)
        _load_into(_weights_for(model, weights), weights)


def restore_training(model: Model, path: Path) -> dict[str, str]:
    """Give a compiled model what `save_training` saved; returns the notes.

    Raises ``ValueError`` for a file of another model, which changes nothing.
    """
    tensors, texts = _read(path)
    with blaming(path):
        weights, state = _split(tensors, texts)
        if not state.slots:
            raise ValueError("it was saved without the optimizer")
        own = _weights_for(model, weights)
        with _all_or_nothing(model):
            _restore_training(model, state, own, texts)
            _load_into(own, weights)
    return texts


@contextlib.contextmanager
def _all_or_nothing(model: Model) -> Iterator[None]:
    """On an error inside, whatever training changes is as it was before."""
    assert model.optimizer is not None
    model.optimizer.build(model.trainable_weights)
    weights, state, resting = (
        model.get_weights(),
        model.optimizer.get_state(),
        model.optimizer.resting,
    )
    shuffler, generators = model._shuffler, _generators(model)
    states = [generator.bit_generator.state for generator in generators]
    try:
        yield
    except BaseException:
        for weight, value in zip(model.weights, weights, strict=True):
            weight.restore(value)
        model.optimizer.set_state(state)
        model.optimizer.resting = resting
        model._shuffler = shuffler
        for generator, each in zip(generators, states, strict=True):
            generator.bit_generator.state = each
        raise


def _restore_training(
    model: Model,
    state: _OptimizerState,
    own: Mapping[str, Weight],
    texts: Mapping[str, str],
) -> None:
    """`own` are the weights by their paths in the file."""
    assert model.optimizer is not None
    model.optimizer.build(model.trainable_weights)
    model.optimizer.set_state(state.slots)
    model.optimizer.resting = {own[path]: slots for path, slots in state.resting.items()}
    _set_generator_states(model, json.loads(texts.get("training", "{}")))


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    tensors, texts = read_tensors(path)
    if "fastlstm_version" not in texts:
        raise ValueError(
            f"{os.fsdecode(path)!r} was not written by fastlstm; for files of other libraries see "
            f"`fastlstm.convert`."
        )
    version = texts.get("format_version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 9):
        raise ValueError(f"{os.fsdecode(path)!r} has no valid format version, but {version!r}.")
    if int(version) > FORMAT_VERSION:
        raise ValueError(
            f"{os.fsdecode(path)!r} has format {version}, written by fastlstm "
            f"{texts.get('fastlstm_version')}; this is fastlstm {__version__}, which knows formats "
            f"up to {FORMAT_VERSION}. Install a later one."
        )
    return tensors, texts


class _OptimizerState(NamedTuple):
    """What `Optimizer.get_state` gave, and the slots of frozen weights by the paths of these."""

    slots: list[np.ndarray]
    resting: dict[str, dict[str, np.ndarray]]


def _split(
    tensors: Mapping[str, np.ndarray], texts: Mapping[str, str]
) -> tuple[dict[str, np.ndarray], _OptimizerState]:
    """The weights by name, and what the optimizer remembers, both in order."""
    weights = {name: tensors[name] for name in json.loads(texts["weights"])}
    others = {name: tensor for name, tensor in tensors.items() if name not in weights}
    numbered = (f"{_OPTIMIZER}{number}" for number in itertools.count())
    slots = [others.pop(name) for name in itertools.takewhile(others.__contains__, numbered)]
    resting: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in others.items():
        path, _, slot = name.removeprefix(_OPTIMIZER).rpartition(":")
        if path not in weights or not name.startswith(_OPTIMIZER):
            raise ValueError(f"the tensor {name!r} belongs to no weight and to no optimizer")
        resting.setdefault(path, {})[slot] = tensor
    return weights, _OptimizerState(slots, resting)


def _load_into(own: Mapping[str, Weight], arrays: Mapping[str, np.ndarray]) -> None:
    for name, weight in own.items():
        weight.restore(arrays[name])


def _weights_for(model: Layer, arrays: Mapping[str, np.ndarray]) -> dict[str, Weight]:
    """The weights that the arrays belong to: those of the same names.

    Where the names are others, as those of layers that were numbered on, they are the weights of
    the same shapes in the same order. Raises ``ValueError`` for arrays that do not fit.
    """
    own = model.weights_by_path()
    if own.keys() != arrays.keys():
        if [w.shape for w in own.values()] != [a.shape for a in arrays.values()]:
            raise ValueError(_difference(model, own, arrays))
        own = dict(zip(arrays, own.values(), strict=True))
    for name, weight in own.items():
        if arrays[name].shape != weight.shape:
            raise ValueError(
                f"{name!r} must have shape {weight.shape}, but has {arrays[name].shape}"
            )
        if arrays[name].dtype.kind != "f":
            raise ValueError(f"{name!r} must hold real numbers, but has {arrays[name].dtype}")
    return own


def _difference(model: Layer, own: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    parts = [
        f"{what} {_few(names)}"
        for what, names in (
            ("the file lacks", own.keys() - arrays.keys()),
            ("the model lacks", arrays.keys() - own.keys()),
        )
        if names
    ]
    return f"the weights of {model.label} have other names and shapes: {'; '.join(parts)}"


def _few(names: Iterable[str]) -> str:
    shown = [repr(name) for name in sorted(names)]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _compile(model: Model, saved: dict[str, Any], custom_objects: Mapping[str, Any]) -> None:
    def understood(value: Any, find: Callable[[Any], Any]) -> Any:
        if isinstance(value, list):
            return [understood(entry, find) for entry in value]
        if not isinstance(value, Mapping):
            return custom_objects.get(value, value) if isinstance(value, str) else value
        if "dict" in value:
            return {name: understood(entry, find) for name, entry in value["dict"].items()}
        if "function" in value:
            return _custom(value["function"], custom_objects)
        if "config" not in value:
            return custom_class(value, custom_objects) or find(value)
        made = with_custom_objects(value, custom_objects)
        return find(made) if isinstance(made, Mapping) else made

    model.compile(
        optimizer=understood(saved["optimizer"], optimizers.get),
        loss=understood(saved["loss"], losses.get),
        loss_weights=understood(saved["loss_weights"], _itself),
        metrics=understood(saved["plain_metrics"], metrics.get),
        weighted_metrics=understood(saved["weighted_metrics"], metrics.get),
    )


def _itself(value: Any) -> Any:
    return value


def _custom(name: str, custom_objects: Mapping[str, Any]) -> Any:
    if name not in custom_objects:
        raise ValueError(
            f"the function {name!r} is not known here; give it as custom_objects={{{name!r}: ...}}"
        )
    return custom_objects[name]


# ---- random numbers ------------------------------------------------------------------------------


def _generators(model: Model) -> Sequence[np.random.Generator]:
    own = [getattr(layer, "_generator", None) for layer in model._flattened()]
    return [generator for generator in [*own, model._shuffler] if generator is not None]


def _generator_states(model: Model) -> list[Any]:
    return [generator.bit_generator.state for generator in _generators(model)]


def _set_generator_states(model: Model, states: list[Any]) -> None:
    model._shuffler = np.random.default_rng(0)
    generators = _generators(model)
    if len(states) == len(generators) - 1:
        # It was not shuffling.
        model._shuffler = None
        generators = generators[:-1]
    if len(states) != len(generators):
        raise ValueError(f"it has {len(states)} states of random generators, not {len(generators)}")
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state
