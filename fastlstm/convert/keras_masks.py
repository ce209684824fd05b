"""The graph that Keras 3 writes of a functional model, without what it says of masks.

Keras 3 writes the masks that layers hand on as operations of the graph, such as ``NotEqual``, and
as the argument ``mask`` of the layers that receive them. Here layers hand masks on by themselves.

One thing differs: Keras 3 gives no mask to a layer that gets more than one argument of tensors, so
an LSTM with ``initial_state`` computes without it, and yet hands it on. Here the mask counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastlstm._registry import snake_case
from fastlstm.layers import Embedding, Layer, Masking
from fastlstm.layers.bidirectional import Bidirectional
from fastlstm.layers.lstm import LSTM
from fastlstm.layers.merging import Concatenate
from fastlstm.layers.projected_lstm import ProjectedLSTM
from fastlstm.layers.structure import as_list
from fastlstm.layers.symbolic import Node
from fastlstm.models import Model

__all__ = [
    "IGNORED_MASK",
    "each_place",
    "names_of_operations",
    "nodes_with_ignored_masks",
    "replaced_places",
    "uses_with_masks",
    "without_masks",
]

IGNORED_MASK = (
    "it gets `initial_state` and a sequence with a mask, which Keras 3 ignores there and fastlstm "
    "does not; take away the mask, or give it by name, `mask=...`, in Keras"
)

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


def uses_with_masks(config: Mapping[str, Any]) -> set[tuple[str, int]]:
    """The uses of layers, by name and number, that Keras calls with a mask."""
    return {
        (spec["name"], number)
        for spec in config["layers"]
        for number, node in enumerate(spec["inbound_nodes"])
        if isinstance(node, Mapping) and node["kwargs"].get("mask") is not None
    }


# ---- masks in a model of fastlstm ----------------------------------------------------------------


def names_of_operations(model: Model) -> set[str]:
    """What Keras may call the operations that it adds for the masks of a model."""
    if not any(map(_makes_mask, model.layers)) and not any(
        isinstance(layer, Model) for layer in model.layers
    ):
        return set()
    count = len(model.graph.steps)
    names = map(snake_case, _OPERATIONS)
    return {f"{name}{end}" for name in names for end in ("", *(f"_{n}" for n in range(count)))}


def nodes_with_ignored_masks(model: Model) -> list[Node]:
    """The uses of layers in a model, and in those inside it, whose mask Keras 3 ignores."""
    masks = _Masks()
    masks.follow(model, (False,) * len(model.inputs))
    return masks.ignored


class _Masks:
    """Where masks go in models, each of which is gone through once for what it is given.

    Models that are used twice in models that are used twice would be gone through without end.
    """

    def __init__(self) -> None:
        self.ignored: list[Node] = []
        self._known: dict[tuple[Model, tuple[bool, ...]], list[bool]] = {}

    def follow(self, model: Model, given: tuple[bool, ...]) -> list[bool]:
        """Which outputs have a mask where these inputs have."""
        if (model, given) not in self._known:
            self._known[model, given] = self._outputs(model, given)
        return self._known[model, given]

    def _outputs(self, model: Model, given: tuple[bool, ...]) -> list[bool]:
        has_mask = {id(tensor): has for tensor, has in zip(model.inputs, given, strict=True)}
        for step in model.graph.steps:
            node, by_name = step.node, "mask" in step.node.keywords
            masks = [by_name or has_mask[id(tensor)] for tensor in as_list(node.inputs)]
            if "initial_state" in node.keywords and masks[0] and not by_name:
                self.ignored.append(node)
            outputs = as_list(node.outputs)
            if isinstance(step.layer, Model):
                handed_on = self.follow(step.layer, tuple(masks))
            else:
                handed_on = _handed_on(step.layer, masks, len(outputs))
            has_mask.update((id(t), has) for t, has in zip(outputs, handed_on, strict=True))
        return [has_mask[id(tensor)] for tensor in model.outputs]


def _makes_mask(layer: Layer) -> bool:
    return isinstance(layer, Masking) or (isinstance(layer, Embedding) and layer.mask_zero)


def _handed_on(layer: Layer, masks: Sequence[bool], outputs: int) -> list[bool]:
    """Which outputs of a layer have a mask."""
    if isinstance(layer, LSTM | Bidirectional | ProjectedLSTM):
        first = layer.forward_layer if isinstance(layer, Bidirectional) else layer
        pair = isinstance(layer, Bidirectional) and layer.merge_mode is None
        sequences = 2 if pair else 1
        has = masks[0] and first.return_sequences
        return [has and number < sequences for number in range(outputs)]
    enough = any if isinstance(layer, Concatenate) else all
    return [_makes_mask(layer) or (layer.supports_masking and enough(masks))] * outputs
