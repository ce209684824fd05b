"""Models: layers joined in a graph, that are layers themselves."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastlstm import saving
from fastlstm._registry import unlike
from fastlstm.errors import one_of
from fastlstm.layers.base import Layer
from fastlstm.layers.context import Context
from fastlstm.layers.input import InputLayer
from fastlstm.layers.serialization import deserialize, serialize, shared_layers
from fastlstm.layers.structure import as_list, map_structure
from fastlstm.layers.symbolic import Node, SymbolicTensor
from fastlstm.models.graph import Graph, Tape
from fastlstm.models.summary import print_summary
from fastlstm.models.training import Trainer
from fastlstm.program import Stream, stream_of

__all__ = ["Model"]


class Model(Trainer, Layer):
    """A graph of layers between inputs and outputs.

    Parameters
    ----------
    inputs : SymbolicTensor, list, or dict of names to them
        What `Input` returned, or any tensor in the middle of a graph.
    outputs : SymbolicTensor, list, or dict of names to them
        What calling layers on the inputs returned.
    name : str, optional
    trainable : bool

    Raises
    ------
    TypeError
        For what is no symbolic tensor.
    ValueError
        When an output depends on an input that is not given, or two layers share a name.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.layers import LSTM, Dense, Input
    >>> series = Input(shape=(None, 3))
    >>> model = Model(inputs=series, outputs=Dense(1)(LSTM(4)(series)))
    >>> model.predict(np.ones((2, 5, 3))).shape
    (2, 1)
    """

    supports_masking = True
    casts_inputs = False
    _bookkeeping = (*Layer._bookkeeping, "_regularized", "_stack", "_chain", "_input")

    # How a model trains is none of the settings that programs are compiled from.
    __setattr__ = object.__setattr__  # type: ignore[assignment]

    def __call__(self, inputs: Any, **call: Any) -> Any:
        """Compute on arrays; on symbolic tensors become a layer of another model's graph."""
        if isinstance(inputs, dict):
            inputs = self.in_input_order(inputs)
        return super().__call__(inputs, **call)

    def __init__(
        self, inputs: Any = None, outputs: Any = None, name: str | None = None, **keywords: Any
    ) -> None:
        super().__init__(name=name, **keywords)
        self._programs = {}
        if inputs is None or outputs is None:
            raise TypeError(
                f"{self.label} needs `inputs` and `outputs`: models here are graphs of layers. "
                f"For a computation of your own, subclass Layer."
            )
        self._set_graph(inputs, outputs)

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        self._input_names = list(inputs) if isinstance(inputs, dict) else None
        self._output_names = list(outputs) if isinstance(outputs, dict) else None
        self._single_input = isinstance(inputs, SymbolicTensor)
        self._single_output = isinstance(outputs, SymbolicTensor)
        self.inputs = self._tensors(inputs, "inputs")
        self.outputs = self._tensors(outputs, "outputs")
        inputs_first = [t.node.layer for t in self.inputs if t.node and t.node.inputs is None]
        self._layers = list(dict.fromkeys([*inputs_first, *self.graph.layers()]))
        self._refuse_equal_names()
        self.built = True

    @functools.cached_property
    def graph(self) -> Graph:
        """What computes the outputs."""
        return Graph(self.inputs, self.outputs, self.label)

    def _tensors(self, structure: Any, what: str) -> list[SymbolicTensor]:
        tensors = list(structure.values()) if isinstance(structure, dict) else as_list(structure)
        if not tensors:
            raise ValueError(f"{self.label}: `{what}` is empty.")
        for tensor in tensors:
            if not isinstance(tensor, SymbolicTensor):
                raise TypeError(
                    f"{self.label}: `{what}` must be symbolic tensors, as Input and layers called "
                    f"on them return, got {tensor!r}."
                )
        return tensors

    def _refuse_equal_names(self) -> None:
        name, count = Counter(layer.name for layer in self._layers).most_common(1)[0]
        if count > 1:
            raise self._equal_names(name)

    def _equal_names(self, name: str) -> ValueError:
        return ValueError(f"{self.label}: two layers are named {name!r}; rename one.")

    def __getstate__(self) -> dict[str, Any]:
        """The state with the graph's nodes from the inputs on, so that nothing is nested deeply."""
        state = super().__getstate__()
        # Programs hold memory of the core.
        state["_programs"] = {}
        nodes = self._graph_nodes() if self.built else []
        return {"_layers": state.pop("_layers"), "nodes": nodes, **state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        nodes = state.pop("nodes")
        self.__dict__.update(state)
        for node in nodes:
            if node not in node.layer._nodes:
                node.layer._nodes.append(node)

    def _graph_nodes(self) -> list[Node]:
        """The nodes of the inputs, and of all layers from the inputs to the outputs."""
        sources = [tensor.node for tensor in self.inputs if tensor.node is not None]
        return [*sources, *(step.node for step in self.graph.steps)]

    # ---- what it is made of ------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers, those of the inputs first."""
        return list(self._layers)

    @property
    def input_names(self) -> list[str]:
        """How the inputs are called in a dict of data."""
        return self._input_names or _unlike([_source_name(tensor) for tensor in self.inputs])

    @property
    def output_names(self) -> list[str]:
        """How the outputs are called in logs and in a dict of targets."""
        return self._output_names or _unlike([_source_name(tensor) for tensor in self.outputs])

    @property
    def input(self) -> Any:
        """The symbolic input, a list if there are several."""
        return self.inputs[0] if self._single_input else list(self.inputs)

    @property
    def output(self) -> Any:
        """The symbolic output, a list if there are several."""
        return self.outputs[0] if self._single_output else list(self.outputs)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name or at that index; ``ValueError`` if there is none."""
        if (name is None) == (index is None):
            raise ValueError(f"{self.label}: `get_layer` takes either a name or an index.")
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"{self.label} has {len(layers)} layers, no layer {index}.")
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        raise one_of(f"{self.label}: the name of a layer", name, [la.name for la in layers])

    def node_of(self, layer: Layer) -> Node:
        """The first use of `layer` in this model."""
        for step in self.graph.steps:
            if step.layer is layer:
                return step.node
        for tensor in self.inputs:
            if tensor.node is not None and tensor.node.layer is layer:
                return tensor.node
        raise ValueError(f"{self.label} does not use {layer.label}.")

    def rows(self) -> list[tuple[Layer, Node | None]]:
        """What `summary` lists: the layers, each with its first use."""
        first: dict[Layer, Node] = {}
        for node in self._graph_nodes():
            first.setdefault(node.layer, node)
        return [(layer, first[layer]) for layer in self._layers]

    def use_of(self, node: Node) -> int:
        """The how manieth use of its layer in this model `node` is, from 0."""
        uses = [step.node for step in self.graph.steps if step.layer is node.layer]
        return uses.index(node) if node in uses else 0

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
    ) -> None:
        """Print the layers with their output shapes and parameters, as Keras 2 did.

        Shapes and parameters that are not known before the model is built show as ``?`` and
        ``unbuilt``.
        """
        print_summary(self, line_length, positions, print_fn)

    def _require_built(self, what: str) -> None:
        if not self.built:
            raise ValueError(
                f"{self.label} is not built yet, so `{what}` cannot work: give its first layer "
                f"an `input_shape`, or fit the model or call it on data first."
            )

    # ---- files -------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, include_optimizer: bool = False) -> None:
        """Write the model to one ``.safetensors`` file, from which `load_model` makes it again.

        The weights are its tensors; the layers and what the model was compiled with are JSON
        beside them. Whoever stops the program while it writes, there is either the file that was
        or the new one.

        Parameters
        ----------
        path : str or path
            Must end in ``.safetensors``.
        include_optimizer : bool
            Save also what the optimizer remembers and the states of dropout's random generators:
            training then goes on bit for bit where it stopped.

        Raises
        ------
        ValueError, TypeError
            Before the model is built, for another ending, and for what cannot be written down, such
            as a lambda expression.
        """
        saving.save_model(self, path, include_optimizer=include_optimizer)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights alone to a ``.safetensors`` file, by their paths; as safe as `save`."""
        saving.save_weights(self, path)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Take the weights of a file of `save_weights` or `save`: all or, on an error, none.

        Raises ``ValueError`` when names or shapes differ, or the file is not of that kind.
        """
        saving.load_weights(self, path)

    def reset_states(self) -> None:
        """Set the states of every stateful layer to zero, of those inside other layers too."""
        for layer in self._flattened():
            reset = getattr(layer, "reset_states", None)
            if reset is not None and not isinstance(layer, Model):
                reset()

    def stream(self, batch_size: int = 1) -> Stream:
        """Read sequences one time step at a time, `batch_size` of them side by side.

        The inputs are sequences (B, T, ...), of any length; a step takes (B, ...) and returns what
        `predict` returns for that step of the whole sequence, bit for bit. See `Stream`.

        Raises
        ------
        ValueError
            Before the model is built, and for layers that need the whole sequence: those that read
            backwards, and those that move or repeat the time axis.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm import Sequential
        >>> from fastlstm.layers import LSTM, Dense
        >>> model = Sequential([LSTM(4, input_shape=(None, 2)), Dense(1)])
        >>> stream = model.stream()
        >>> x = np.ones((1, 3, 2), "float32")
        >>> for t in range(3):
        ...     y = stream.step(x[:, t])
        >>> bool((y == model.predict(x)).all())
        True
        """
        self._require_built("stream")
        return stream_of(
            self.graph,
            self.label,
            batch_size,
            inputs=self.input_names,
            outputs=self.output_names,
            names_outputs=self._output_names is not None,
        )

    # ---- computing as a layer ----------------------------------------------------------------

    def call(
        self,
        inputs: Any,
        training: bool = False,
        mask: Any = None,
        context: Context | None = None,
    ) -> Any:
        """The outputs for arrays."""
        return self.call_with_mask(inputs, mask, training=training, context=context)[0]

    def call_with_mask(
        self,
        inputs: Any,
        mask: Any,
        *,
        training: bool = False,
        context: Context | None = None,
        **keywords: Any,
    ) -> tuple[Any, Any]:
        """The outputs for arrays, and their masks as they came out of the graph."""
        self.ensure_built(map_structure(np.shape, inputs))
        arrays = [np.asarray(x) for x in self.in_input_order(inputs)]
        masks = None if mask is None else self.in_input_order(mask)
        outputs, out_masks, tape = self.graph.run(arrays, masks, training=training, context=context)
        if context is not None:
            context.cache = tape
            context.inputs = arrays[0] if self._single_input else arrays
        return self._structured(outputs), self._structured(out_masks)

    def _structured(self, outputs: list[Any]) -> Any:
        if self._single_output:
            return outputs[0]
        if self._output_names is not None:
            return dict(zip(self._output_names, outputs, strict=True))
        return outputs

    def in_input_order(self, inputs: Any) -> list[Any]:
        """One entry for each input, from a single value, a list, or a dict of names."""
        if isinstance(inputs, dict):
            names = self.input_names
            missing = [name for name in names if name not in inputs]
            if missing or len(inputs) != len(names):
                raise ValueError(
                    f"{self.label} has the inputs {names}, got data named {sorted(inputs)}."
                )
            return [inputs[name] for name in names]
        entries = [inputs] if self._single_input and not _holds_arrays(inputs) else as_list(inputs)
        if len(entries) != len(self.inputs):
            raise ValueError(
                f"{self.label} has {len(self.inputs)} inputs, got {len(entries)} arrays."
            )
        return entries

    def backward(self, context: Context, dy: Any) -> Any:
        """The gradients of the inputs; those of the weights go into the context."""
        tape: Tape = context.cache
        if isinstance(dy, dict):
            dy = [dy.get(name) for name in self.output_names]
        gradients = self.graph.backward(tape, as_list(dy))
        return gradients[0] if self._single_input else gradients

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shapes that the graph's outputs were built with."""
        return self._structured([tensor.shape for tensor in self.outputs])

    # ---- configuration -----------------------------------------------------------------------

    @shared_layers()
    def get_config(self) -> dict[str, Any]:
        """Layers and how they are joined, as plain data that JSON can hold."""
        nodes = [t.node for t in self.inputs] + [step.node for step in self.graph.steps]
        places = {
            id(tensor): [number, index]
            for number, node in enumerate(nodes)
            if node is not None
            for index, tensor in enumerate(as_list(node.outputs))
        }

        def place(tensor: SymbolicTensor) -> list[int]:
            return places[id(tensor)]

        calls = []
        for step in self.graph.steps:
            node = step.node
            tensors, settings = node.split_keywords()
            calls.append(
                {
                    "layer": node.layer.name,
                    "inputs": map_structure(place, node.inputs),
                    "tensors": {
                        name: map_structure(place, value) for name, value in tensors.items()
                    },
                    "settings": settings,
                }
            )
        return {
            "name": self.name,
            "trainable": self._trainable,
            "layers": [serialize(layer) for layer in self._layers],
            "calls": calls,
            "inputs": _named(self._input_names, [place(t) for t in self.inputs], True),
            "outputs": _named(
                self._output_names, [place(t) for t in self.outputs], self._single_output
            ),
        }

    @classmethod
    @shared_layers()
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Model:
        """The model, with fresh weights, that `get_config` describes."""
        layers = {
            spec["config"]["name"]: deserialize(spec, custom_objects) for spec in config["layers"]
        }
        produced: list[list[SymbolicTensor]] = [
            as_list(layer.output) for layer in layers.values() if isinstance(layer, InputLayer)
        ]

        def at(place: list[int]) -> SymbolicTensor:
            return produced[place[0]][place[1]]

        for call in config["calls"]:
            tensors = {name: _mapped(at, places) for name, places in call["tensors"].items()}
            outputs = layers[call["layer"]](
                _mapped(at, call["inputs"]), **tensors, **call["settings"]
            )
            produced.append(as_list(outputs))
        inputs, outputs = (_mapped(at, config[key]) for key in ("inputs", "outputs"))
        return cls(inputs, outputs, name=config["name"], trainable=config["trainable"])


def _source_name(tensor: SymbolicTensor) -> str:
    return tensor.node.layer.name if tensor.node is not None else "input"


def _unlike(names: list[str]) -> list[str]:
    """The names with a number behind those that came before: a layer may have several outputs."""
    found: list[str] = []
    for name in names:
        found.append(unlike(name, {*found, *names} if name in found else (), "_"))
    return found


def _holds_arrays(inputs: Any) -> bool:
    return isinstance(inputs, (list, tuple)) and any(isinstance(x, np.ndarray) for x in inputs)


def _named(names: list[str] | None, places: list[Any], single: bool) -> Any:
    """Places as they were given: by name, one alone, or a list."""
    if names is not None:
        return dict(zip(names, places, strict=True))
    return places[0] if single and len(places) == 1 else places


def _mapped(at: Callable[[Any], Any], places: Any) -> Any:
    if isinstance(places, dict):
        return {name: at(place) for name, place in places.items()}
    return at(places) if isinstance(places[0], int) else [at(place) for place in places]
