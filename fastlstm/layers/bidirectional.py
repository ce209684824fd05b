"""Two recurrent layers that read a sequence in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm._core.program_lstm import BidirectionalOp, LSTMOp
from fastlstm.errors import one_of
from fastlstm.layers.base import Layer, told_by_class
from fastlstm.layers.context import Context
from fastlstm.layers.serialization import deserialize, serialize
from fastlstm.layers.setting import Setting
from fastlstm.layers.structure import as_list, is_shape

__all__ = ["Bidirectional"]

MERGE_MODES = ("concat", "sum", "mul", "ave")
_RECURRENT = ("go_backwards", "return_sequences", "return_state", "stateful")


def _check_merge_mode(what: str, merge_mode: Any) -> str | None:
    if merge_mode is not None and merge_mode not in MERGE_MODES:
        raise one_of(what, merge_mode, [*MERGE_MODES, "None"])
    return merge_mode


class Bidirectional(Layer):
    """Runs a recurrent layer and its mirror image over a sequence and merges what they return.

    Inputs (B, T, F). With `return_sequences` the backward outputs are put into the order of the
    inputs. With `return_state` a list: the merged output, the forward states, the backward
    states. `initial_state` holds the forward states, then the backward ones.

    Parameters
    ----------
    layer : Layer
        An LSTM, or another layer with `go_backwards`, `return_sequences`, `return_state` and
        `stateful`. It serves as a pattern: `forward_layer`, named ``forward_lstm_1``, is made
        anew from its configuration, and `backward_layer`, ``backward_lstm_1``, likewise.
    merge_mode : "concat", "sum", "mul", "ave" or None
        None returns the two outputs as a list.
    weights : list of arrays, optional
        The starting weights, forward before backward.
    backward_layer : Layer, optional
        Used as it is; it must differ from `layer` in `go_backwards`.

    Raises
    ------
    TypeError, ValueError
        For what is no recurrent layer, an unknown merge mode and layers that do not go together.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm.layers import LSTM
    >>> layer = Bidirectional(LSTM(4, return_sequences=True, name="lstm"))
    >>> layer(np.ones((2, 3, 1))).shape
    (2, 3, 8)
    >>> layer.backward_layer.name
    'backward_lstm'
    """

    supports_masking = True
    merge_mode: Any = Setting(_check_merge_mode)

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: Any = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**{"dtype": getattr(layer, "dtype", None), **keywords})
        self.merge_mode = merge_mode
        self._check_recurrent("layer", layer)
        if backward_layer is not None:
            self._check_recurrent("backward_layer", backward_layer)
        self.forward_layer = _renamed(layer, "forward_")
        if backward_layer is None:
            backward_layer = _renamed(layer, "backward_", go_backwards=True)
        self.backward_layer = backward_layer
        self._check_pair()
        self.return_sequences: bool = layer.return_sequences
        self.return_state: bool = layer.return_state
        self._layers = [self.forward_layer, self.backward_layer]
        for each in self._layers:
            # As in Keras: an output that repeats the one read before it would, in the order of the
            # inputs, stand before the step that it comes from.
            if hasattr(each, "zero_output_for_mask"):
                each.zero_output_for_mask = self.return_sequences
        if not self._trainable:
            self.trainable = False
        self._initial_weights = None if weights is None else list(weights)

    def _check_recurrent(self, what: str, layer: Any) -> None:
        if not isinstance(layer, Layer):
            raise TypeError(f"{self.label}: `{what}` must be a Layer, got {layer!r}.")
        missing = [name for name in _RECURRENT if not hasattr(layer, name)]
        if missing:
            raise ValueError(
                f"{self.label}: `{what}` must be a recurrent layer such as LSTM; "
                f"{layer.label} has no {', '.join(missing)}."
            )

    def _check_pair(self) -> None:
        forward: Any = self.forward_layer
        backward: Any = self.backward_layer
        if forward.go_backwards == backward.go_backwards:
            raise ValueError(
                f"{self.label}: `layer` and `backward_layer` must differ in `go_backwards`, "
                f"both have {forward.go_backwards}."
            )
        for name in _RECURRENT[1:]:
            ours, theirs = getattr(forward, name), getattr(backward, name)
            if ours != theirs:
                raise ValueError(
                    f"{self.label}: `layer` and `backward_layer` must have the same `{name}`, "
                    f"got {ours} and {theirs}."
                )

    # ---- building and states -----------------------------------------------------------------

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` for what either layer cannot take."""
        for layer in self._layers:
            layer.check_inputs(input_shape)

    def build(self, input_shape: Any) -> None:
        """Build both layers for inputs (B, T, F)."""
        for layer in self._layers:
            layer.ensure_built(input_shape)
        if self._initial_weights is not None:
            self.set_weights(self._initial_weights)

    @property
    def stateful(self) -> bool:
        """Whether the layers go on from their last states; setting it reaches both."""
        forward: Any = self.forward_layer
        return forward.stateful

    @stateful.setter
    def stateful(self, value: bool) -> None:
        for layer in self._layers:
            layer.stateful = value

    @property
    def states(self) -> list[np.ndarray] | None:
        """The forward and the backward states of a stateful layer, None before the first call."""
        halves = [getattr(layer, "states", None) or [] for layer in self._layers]
        return [state for half in halves for state in half] if all(halves) else None

    def reset_state(self) -> None:
        """Set the states of a stateful layer to zero."""
        for layer in self._layers:
            layer.reset_state()  # type: ignore[attr-defined]

    def reset_states(self) -> None:
        """Keras 2's name of `reset_state`."""
        self.reset_state()

    # ---- computing ---------------------------------------------------------------------------

    def call(
        self,
        inputs: np.ndarray,
        mask: Any = None,
        training: bool = False,
        initial_state: Any = None,
        context: Context | None = None,
    ) -> Any:
        """The merged output; with `return_state` or without merging a list."""
        contexts = [None, None] if context is None else [context.child(), context.child()]
        halves = self._halves(initial_state)
        before = getattr(self.forward_layer, "states", None)
        y, *states = self._half(0, inputs, mask, training, halves, contexts)
        try:
            y_back, *states_back = self._half(1, inputs, mask, training, halves, contexts)
        except BaseException:
            if self.stateful:
                self.forward_layer.states = before
            raise
        y_back = self._in_order(y_back)
        if context is not None:
            context.cache = (contexts, y, y_back)
        return self._packed(self._merge(y, y_back), [*states, *states_back])

    def _half(
        self,
        which: int,
        inputs: np.ndarray,
        mask: Any,
        training: bool,
        initial_states: Sequence[Any],
        contexts: Sequence[Context | None],
    ) -> list[Any]:
        outputs = self._layers[which](
            inputs,
            mask=mask,
            training=training,
            initial_state=initial_states[which],
            context=contexts[which],
        )
        return as_list(outputs)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """Of two LSTMs that are ops themselves."""
        first, second = (told_by_class(layer, "op", training) for layer in self._layers)
        if first is None or second is None:
            return None
        (make, arguments), (make_back, arguments_back) = first, second
        if not make is make_back is LSTMOp:
            return None
        return BidirectionalOp, (arguments, arguments_back, self.merge_mode)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Never: one of the two layers begins at the end."""
        raise self._needs_sequence("reads backwards")

    def _halves(self, initial_state: Any) -> tuple[Any, Any]:
        if initial_state is None:
            return None, None
        if not isinstance(initial_state, list | tuple):
            raise TypeError(
                f"{self.label}: `initial_state` must be a list of the forward and the backward "
                f"states, got {type(initial_state)}."
            )
        if not initial_state or len(initial_state) % 2:
            raise ValueError(
                f"{self.label}: `initial_state` must hold the forward states and as many backward "
                f"states, 4 in all for LSTM, got {len(initial_state)}."
            )
        half = len(initial_state) // 2
        return initial_state[:half], initial_state[half:]

    def _in_order(self, sequence: Any) -> Any:
        """The backward sequence with its steps as in the inputs, or its gradient turned back."""
        return sequence[:, ::-1] if self.return_sequences and sequence is not None else sequence

    def _merge(self, y: np.ndarray, y_back: np.ndarray) -> Any:
        if self.merge_mode == "concat":
            return np.concatenate([y, y_back], axis=-1)
        if self.merge_mode == "sum":
            return y + y_back
        if self.merge_mode == "ave":
            return (y + y_back) / 2
        if self.merge_mode == "mul":
            return y * y_back
        return [y, np.ascontiguousarray(y_back)]

    def _packed(self, merged: Any, states: list[Any]) -> Any:
        """The structure that the layer returns: for outputs, shapes and masks alike."""
        outputs = [merged] if self.merge_mode is not None else list(merged)
        everything = outputs + states
        return everything if len(everything) > 1 else everything[0]

    def backward(self, context: Context, dy: Any) -> Any:
        """The gradient of the inputs (B, T, F), with that of `initial_state` as `LSTM` gives it."""
        contexts, y, y_back = context.cache
        gradients = as_list(dy)
        merged = 1 if self.merge_mode is not None else 2
        dforward, dback = self._unmerge(gradients[:merged], y, y_back)
        dstates = gradients[merged:]
        half = len(dstates) // 2
        dx: Any = None
        dinitial: list[np.ndarray] = []
        for layer, inner, douts in (
            (self.forward_layer, contexts[0], [dforward, *dstates[:half]]),
            (self.backward_layer, contexts[1], [self._in_order(dback), *dstates[half:]]),
        ):
            result = layer.differentiate(inner, douts if self.return_state else douts[0])
            if isinstance(result, tuple):
                result, keywords = result
                dinitial += keywords["initial_state"]
            dx = result if dx is None else dx + result
        return (dx, {"initial_state": dinitial}) if dinitial else dx

    def _unmerge(self, gradients: list[Any], y: np.ndarray, y_back: np.ndarray) -> tuple[Any, Any]:
        """The gradients of the two outputs from that of the merged one."""
        if self.merge_mode is None:
            return gradients[0], gradients[1]
        dy = gradients[0]
        if dy is None:
            return None, None
        if self.merge_mode == "concat":
            width = y.shape[-1]
            return np.ascontiguousarray(dy[..., :width]), dy[..., width:]
        if self.merge_mode == "mul":
            return dy * y_back, dy * y
        dboth = dy / 2 if self.merge_mode == "ave" else dy
        return dboth, dboth

    # ---- shapes, masks, configuration --------------------------------------------------------

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Like one layer's, twice as wide for "concat"."""
        shapes = [layer.compute_output_shape(input_shape) for layer in self._layers]
        (y, *states), (y_back, *states_back) = [[s] if is_shape(s) else s for s in shapes]
        if self.merge_mode == "concat":
            merged: Any = (*y[:-1], y[-1] + y_back[-1])
        else:
            merged = y if self.merge_mode is not None else [y, y_back]
        return self._packed(merged, [*states, *states_back])

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of a sequence; none for single outputs and states."""
        masks = [as_list(layer.compute_mask(inputs, mask)) for layer in self._layers]
        (y, *states), (y_back, *states_back) = masks
        return self._packed(
            y if self.merge_mode is not None else [y, y_back], [*states, *states_back]
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "merge_mode": self.merge_mode,
            "layer": serialize(self.forward_layer),
            "backward_layer": serialize(self.backward_layer),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Bidirectional:
        """The layer that `get_config` describes."""
        layers = {
            key: deserialize(config[key], custom_objects)
            for key in ("layer", "backward_layer")
            if config.get(key) is not None
        }
        return cls(**{**config, **layers})


def _renamed(layer: Any, prefix: str, **changes: Any) -> Any:
    """A new layer of the same configuration, its name with `prefix`."""
    name = prefix + layer.name.removeprefix(prefix)
    return type(layer).from_config({**layer.get_config(), **changes, "name": name})
