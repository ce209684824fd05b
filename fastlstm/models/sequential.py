"""A stack of layers, each fed by the one before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fastlstm.layers.base import Layer
from fastlstm.layers.input import InputLayer
from fastlstm.layers.serialization import deserialize, serialize, shared_layers
from fastlstm.layers.structure import Shape
from fastlstm.layers.symbolic import Node, SymbolicTensor
from fastlstm.models.model import Model

__all__ = ["Sequential"]


class Sequential(Model):
    """Layers in a row; one layer may stand in several places, and has its weights once.

    It is built when the shape of the input is known: from an `Input` in front, from the first
    layer's `input_shape`, or from the first data.

    Parameters
    ----------
    layers : list of Layer, optional
        May begin with an `Input`.
    name : str, optional
    trainable : bool

    Raises
    ------
    TypeError
        When something that is no layer is added.
    ValueError
        When a layer does not fit the one before it; the model is then as it was.

    Examples
    --------
    >>> from fastlstm.layers import LSTM, Dense
    >>> model = Sequential([LSTM(5, input_shape=(1, 1)), Dense(1)])
    >>> model.count_params()
    146
    """

    def __init__(
        self,
        layers: Sequence[Any] | None = None,
        name: str | None = None,
        trainable: bool = True,
        **keywords: Any,
    ) -> None:
        # Not Model's: there is no graph yet.
        Layer.__init__(self, name=name, trainable=trainable, **keywords)
        self._programs = {}
        self._input: InputLayer | None = None
        self._stack: list[Layer] = []
        self._by_name: dict[str, Layer] = {}
        # The uses of the stack's layers, one behind the other, once the input is known.
        self._chain: list[Node] = []
        self._input_names = self._output_names = None
        self._single_input = self._single_output = True
        for layer in layers or []:
            self.add(layer)

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the input."""
        return list(self._stack)

    def repeated_layers(self) -> list[Layer]:
        """The layers that stand in several places, each once."""
        return [layer for layer, count in Counter(self._stack).items() if count > 1]

    @property
    def output_names(self) -> list[str]:
        """The name of the last layer, also before the model is built."""
        return [self._stack[-1].name] if self._stack else ["output"]

    def add(self, layer: Any) -> None:
        """Put a layer on top."""
        if isinstance(layer, SymbolicTensor) and layer.node and layer.node.inputs is None:
            layer = layer.node.layer
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.label}: `add` takes a Layer, got {layer!r}.")
        if isinstance(layer, InputLayer):
            if self._stack or self._input is not None:
                raise ValueError(f"{self.label}: an Input must come first, and only once.")
            self._input = layer
            return
        if self._by_name.get(layer.name, layer) is not layer:
            raise self._equal_names(layer.name)
        source = self._input
        if source is None and not self._stack and layer.batch_input_shape is not None:
            source = InputLayer(batch_shape=layer.batch_input_shape)
        if source is not None:
            self._extend_chain(source, [layer])
        self._stack.append(layer)
        if layer.name not in self._by_name:
            self._by_name[layer.name] = layer
            self._layers.append(layer)

    def pop(self) -> Layer:
        """Take the last layer off and return it; ``ValueError`` if there is none."""
        if not self._stack:
            raise ValueError(f"{self.label} has no layer to remove.")
        removed = self._stack.pop()
        if self._chain:
            removed._nodes.remove(self._chain.pop())
            self._chain_changed()
        if removed not in self._stack:
            del self._by_name[removed.name]
            self._layers.remove(removed)
        return removed

    def build(self, input_shape: Any = None) -> None:
        """Build for inputs of `input_shape`, batch first, None where a size varies."""
        if self._chain:
            return
        source = self._input
        if source is None:
            if input_shape is None:
                self._require_built("build")
            source = InputLayer(batch_shape=(None, *input_shape[1:]))
        if not self._stack:
            raise ValueError(f"{self.label} has no layers: `add` some first.")
        self._extend_chain(source, self._stack)

    def _extend_chain(self, source: InputLayer, layers: Sequence[Layer]) -> None:
        """Use `layers`, one behind the other, on top of the chain; on an error on nothing."""
        tensor = self._chain[-1].outputs if self._chain else source.output
        made: list[Node] = []
        try:
            for layer in layers:
                tensor = layer(tensor)
                made.append(layer._nodes[-1])
                if not isinstance(tensor, SymbolicTensor):
                    raise ValueError(
                        f"{self.label}: {layer.label} has {len(tensor)} outputs: in a stack every "
                        f"layer has one. Use Model instead."
                    )
        except BaseException:
            for node in made:
                node.layer._nodes.remove(node)
            raise
        self._input = source
        self._chain += made
        self._chain_changed()

    def _chain_changed(self) -> None:
        # The graph is made when it is asked for: not once for every layer that is added.
        self.__dict__.pop("graph", None)
        if self._input is not None and self._chain:
            self.inputs, self.outputs = [self._input.output], [self._chain[-1].outputs]
        # Last: another thread takes a model that is built for whole.
        self.built = bool(self._chain)

    def rows(self) -> list[tuple[Layer, Node | None]]:
        """What `summary` lists: every place in the stack, with its use once the model is built."""
        if not self._chain:
            return [(layer, None) for layer in self._stack]
        return list(zip(self._stack, self._chain, strict=True))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape after the last layer."""
        shape: Shape = input_shape
        for layer in self._stack:
            shape = layer.compute_output_shape(shape)
        return shape

    def count_params(self) -> int:
        """The number of elements in all weights; ``ValueError`` before the model is built."""
        self._require_built("count_params")
        return super().count_params()

    @shared_layers()
    def get_config(self) -> dict[str, Any]:
        """The layers as plain data that JSON can hold."""
        first = [] if self._input is None else [serialize(self._input)]
        return {
            "name": self.name,
            "trainable": self._trainable,
            "layers": first + [serialize(layer) for layer in self._stack],
        }

    @classmethod
    @shared_layers()
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Sequential:
        """The model, with fresh weights, that `get_config` describes."""
        layers = [deserialize(spec, custom_objects) for spec in config["layers"]]
        return cls(layers, name=config["name"], trainable=config.get("trainable", True))
