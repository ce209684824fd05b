"""Layers, and the objects that configure them, as dictionaries that JSON can hold, and back."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from fastlstm._registry import custom_class, described
from fastlstm.layers.base import Layer, class_described

__all__ = [
    "deserialize",
    "object_config",
    "serialize",
    "shared_layers",
    "with_custom_objects",
]

# Keras writes these for features that this package does not have; they must be off.
_KERAS_ONLY = (
    "lora_alpha",
    "lora_rank",
    "quantization_config",
    "rms_scaling",
    "time_major",
)


def object_config(what: str, value: Any) -> dict[str, Any] | None:
    """An initializer, regularizer or constraint as its class name and settings.

    Raises ``TypeError`` for a plain function, which has no settings to write down.
    """
    if value is None:
        return None
    if not hasattr(value, "get_config"):
        raise TypeError(
            f"{what} cannot be written to a config: {value!r} has no `get_config`; "
            f"make it a class that has one."
        )
    return described(value)


@dataclass
class _Met:
    """The layers that were described, or made, so far; numbers for those met again."""

    descriptions: dict[Layer, dict[str, Any]] = field(default_factory=dict)
    layers: dict[int, Layer] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)


_met: ContextVar[_Met | None] = ContextVar("_met", default=None)


@contextlib.contextmanager
def shared_layers() -> Iterator[None]:
    """Inside, one layer in several places, also within wrappers, is described as one.

    Its descriptions have one number under ``"shared"``, by which `deserialize` makes one layer.
    """
    if _met.get() is not None:
        yield
        return
    token = _met.set(_Met())
    try:
        yield
    finally:
        _met.reset(token)


def serialize(layer: Layer) -> dict[str, Any]:
    """The layer as ``{"class_name": ..., "module": ..., "config": ...}``.

    The module is ``"fastlstm"`` for a class of this package, otherwise where it was defined.

    Examples
    --------
    >>> from fastlstm.layers import RepeatVector
    >>> serialize(RepeatVector(3, name="again"))["config"]["n"]
    3
    """
    description = described(layer)
    met = _met.get()
    if met is not None:
        first = met.descriptions.setdefault(layer, description)
        if first is not description:
            if "shared" not in first:
                first["shared"] = next(met.numbers)
            description["shared"] = first["shared"]
    return description


def deserialize(spec: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Layer:
    """The layer that `serialize`, or Keras 3's function of that name, has described.

    `custom_objects` gives classes, and functions of `Lambda` layers, by name; classes of this
    package and subclasses of `Layer` that the program has defined are known without it.

    Raises ``TypeError`` for what is no such description, ``ValueError`` for an unknown class and
    for a name that several classes have, if the description does not say which it means.

    Examples
    --------
    >>> deserialize({"class_name": "Dense", "config": {"units": 2, "name": "out"}})
    <Dense name=out, built=False>
    """
    if not isinstance(spec, Mapping) or not {"class_name", "config"} <= set(spec):
        raise TypeError(
            f"A layer's description must be a dict with `class_name` and `config`, got {spec!r}."
        )
    met, number = _met.get(), spec.get("shared")
    if met is None or number is None:
        return _made(spec, custom_objects)
    if number not in met.layers:
        met.layers[number] = _made(spec, custom_objects)
    return met.layers[number]


def _made(spec: Mapping[str, Any], custom_objects: Mapping[str, Any] | None) -> Layer:
    cls: Any = class_described(spec, custom_objects)
    config = with_custom_objects(_plain(spec["config"]), custom_objects or {})
    if custom_objects and "custom_objects" in inspect.signature(cls.from_config).parameters:
        return cls.from_config(config, custom_objects=custom_objects)
    return cls.from_config(config)


def with_custom_objects(config: Any, custom_objects: Mapping[str, Any]) -> Any:
    """`config` with the objects made that it describes and `custom_objects` has, but for layers.

    So an initializer of the program's own reaches the layer that it belongs to.
    """
    if not custom_objects:
        return config
    if isinstance(config, list | tuple):
        return [with_custom_objects(entry, custom_objects) for entry in config]
    if not isinstance(config, Mapping):
        return config
    inner = {k: with_custom_objects(value, custom_objects) for k, value in config.items()}
    cls = custom_class(config, custom_objects) if "config" in config else None
    if cls is None or (isinstance(cls, type) and issubclass(cls, Layer)):
        return inner
    return (
        cls.from_config(inner["config"]) if hasattr(cls, "from_config") else cls(**inner["config"])
    )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` without what only Keras writes: dtype policies and features that are off."""
    plain = {k: v for k, v in config.items() if k not in _KERAS_ONLY or v}
    dtype = plain.get("dtype")
    if isinstance(dtype, Mapping):
        plain["dtype"] = dtype["config"]["name"]
    return plain
