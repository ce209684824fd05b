"""A stack of layers, each fed by the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastlstm.layers.base import Layer
from fastlstm.layers.input import InputLayer
from fastlstm.layers.serialization import deserialize, serialize
from fastlstm.layers.structure import Shape
from fastlstm.layers.symbolic import SymbolicTensor
from fastlstm.models.model import Model

__all__ = ["Sequential"]


class Sequential(Model):
    """Layers in a row.

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
        self._input: InputLayer | None = None
        self._stack: list[Layer] = []
        for layer in layers or []:
            self.add(layer)

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the input."""
        return list(self._stack)

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
        if any(layer.name == other.name for other in self._stack):
            raise ValueError(f"{self.label}: two layers are named {layer.name!r}; rename one.")
        if self._input is None and not self._stack and layer.batch_input_shape is not None:
            self._input = InputLayer(batch_shape=layer.batch_input_shape)
        self._restack([*self._stack, layer])

    def pop(self) -> Layer:
        """Take the last layer off and return it; ``ValueError`` if there is none."""
        if not self._stack:
            raise ValueError(f"{self.label} has no layer to remove.")
        removed = self._stack[-1]
        self._restack(self._stack[:-1])
        return removed

    def _restack(self, stack: list[Layer]) -> None:
        """Make `stack` the layers; on an error everything stays as it was."""
        before = self._stack, self._layers, self.built
        self._stack, self._layers, self.built = stack, stack, False
        if self._input is None or not stack:
            return
        try:
            self._connect(self._input)
        except BaseException:
            self._stack, self._layers, self.built = before
            if self._stack and self._input is not None:
                self._connect(self._input)
            elif not self._stack:
                self._input = None if stack[0].batch_input_shape is not None else self._input
            raise

    def build(self, input_shape: Any = None) -> None:
        """Build for inputs of `input_shape`, batch first, None where a size varies."""
        if self._input is None:
            if input_shape is None:
                self._require_built("build")
            self._input = InputLayer(batch_shape=(None, *input_shape[1:]))
        if not self._stack:
            raise ValueError(f"{self.label} has no layers: `add` some first.")
        try:
            self._connect(self._input)
        except BaseException:
            self._input = None
            raise

    def _connect(self, source: InputLayer) -> None:
        """Chain the layers symbolically, in place of the chain that was."""
        for layer in self._stack:
            layer._nodes = [node for node in layer._nodes if id(node) not in self._own_nodes()]
        tensor = source.output
        made = []
        for layer in self._stack:
            tensor = layer(tensor)
            made.append(layer._nodes[-1])
            if isinstance(tensor, list):
                raise ValueError(
                    f"{self.label}: {layer.label} has {len(tensor)} outputs: in a stack every "
                    f"layer has one. Use Model instead."
                )
        self._chain = made
        self._set_graph(source.output, tensor)
        self._layers = list(self._stack)

    def _own_nodes(self) -> set[int]:
        return {id(node) for node in getattr(self, "_chain", [])}

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

    def get_config(self) -> dict[str, Any]:
        """The layers as plain data that JSON can hold."""
        first = [] if self._input is None else [serialize(self._input)]
        return {
            "name": self.name,
            "trainable": self._trainable,
            "layers": first + [serialize(layer) for layer in self._stack],
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Sequential:
        """The model, with fresh weights, that `get_config` describes."""
        layers = [deserialize(spec, custom_objects) for spec in config["layers"]]
        return cls(layers, name=config["name"], trainable=config.get("trainable", True))
