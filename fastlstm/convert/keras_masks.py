"""The graph that Keras 3 writes of a functional model, without what it says of masks.

Keras 3 writes the masks that layers hand on as operations of the graph, such as ``NotEqual``, and
as the argument ``mask`` of the layers that receive them. Here layers hand masks on by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["each_place", "replaced_places", "without_masks"]

# Where a tensor comes from: the name of a layer, which of its calls, which of its outputs.
Place = Sequence[Any]

# What the layers' `compute_mask` is made of in Keras.
_OPERATIONS = (
    "Any",
    "BroadcastTo",
    "Concatenate",
    "ExpandDims",
    "LogicalAnd",
    "LogicalOr",
    "NotEqual",
    "OnesLike",
    "Reshape",
    "Squeeze",
    "ZerosLike",
)


def _is_place(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(type(number) is int for number in value[1:3])
    )


def replaced_places(at: Callable[[Place], Any], value: Any) -> Any:
    """`value` with each place of a tensor in it replaced by what `at` gives."""
    if _is_place(value):
        return at(value[:3])
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            return at(value["config"]["keras_history"])
        return {name: replaced_places(at, entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [replaced_places(at, entry) for entry in value]
    return value


def each_place(value: Any) -> Iterator[tuple[str, int, int]]:
    """Every place of a tensor in `value`."""
    found: list[tuple[str, int, int]] = []
    replaced_places(lambda place: found.append((place[0], place[1], place[2])), value)
    return iter(found)


def without_masks(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a functional model without the operations that only make masks.

    Raises ``ValueError`` for a mask that no layer of the model makes.
    """
    specs = {spec["name"]: spec for spec in config["layers"]}
    used = _used(specs, config)
    dropped = {
        name
        for name, spec in specs.items()
        if name not in used and spec["class_name"] in _OPERATIONS
    }
    if not dropped:
        return dict(config)
    made = _places_with_masks(specs)
    for name in dropped:
        if specs[name]["class_name"] == "NotEqual" and _source(specs[name]) not in made:
            raise ValueError(f"the mask {name!r} comes from no Masking or Embedding layer")
    kept = [
        {**spec, "inbound_nodes": [_without_mask(node, dropped) for node in spec["inbound_nodes"]]}
        for name, spec in specs.items()
        if name not in dropped
    ]
    return {**config, "layers": kept}


def _values(node: Any) -> Any:
    """The part of a node that is not its mask."""
    if not isinstance(node, Mapping):
        return node
    return [node["args"], {k: v for k, v in node["kwargs"].items() if k != "mask"}]


def _used(specs: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """The layers that the outputs depend on other than by a mask."""
    used: set[str] = set()
    waiting = [name for name, _, _ in each_place(config["output_layers"])]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            nodes = map(_values, specs[name]["inbound_nodes"])
            waiting += [source for node in nodes for source, _, _ in each_place(node)]
    return used


def _source(spec: Mapping[str, Any]) -> tuple[str, int, int] | None:
    return next(each_place(_values(spec["inbound_nodes"][0])), None)


def _places_with_masks(specs: Mapping[str, Any]) -> set[tuple[str, int, int] | None]:
    """What the layers read that make masks."""
    makers = [
        spec
        for spec in specs.values()
        if spec["class_name"] == "Masking"
        or (spec["class_name"] == "Embedding" and spec["config"].get("mask_zero"))
    ]
    return {
        place
        for spec in makers
        for node in spec["inbound_nodes"]
        for place in each_place(_values(node))
    }


def _without_mask(node: Any, dropped: set[str]) -> Any:
    if not isinstance(node, Mapping):
        return node
    if not any(name in dropped for name, _, _ in each_place(node["kwargs"].get("mask"))):
        return node
    return {**node, "kwargs": {k: v for k, v in node["kwargs"].items() if k != "mask"}}
