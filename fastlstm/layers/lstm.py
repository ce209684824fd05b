"""The long short-term memory layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastlstm import activations, constraints, initializers, random, regularizers
from fastlstm._core import lstm
from fastlstm._core.program_lstm import LSTMOp
from fastlstm._core.stream import Stream
from fastlstm.errors import as_real_array, check_positive_int, shape_text
from fastlstm.layers import recurrent_dropout as dropped
from fastlstm.layers.base import Layer
from fastlstm.layers.checks import (
    check_features,
    check_mask,
    check_rank,
    check_rate,
)
from fastlstm.layers.context import Context
from fastlstm.layers.dropout import dropout_factors
from fastlstm.layers.serialization import object_config
from fastlstm.layers.setting import Setting, truth
from fastlstm.layers.structure import Shape
from fastlstm.layers.symbolic import SymbolicTensor
from fastlstm.layers.weight import UNUSED, Weight

__all__ = ["LSTM"]

STATE_NAMES = ("h", "c")


class _Call(NamedTuple):
    """What `LSTM.backward` needs to know about one call."""

    backward: Callable[..., Any]
    cache: Any
    input_factors: np.ndarray | None = None  # (B, 1, F)
    last_shown: np.ndarray | None = None  # (B, 1); None: the last output is the state in every row
    had_initial_state: bool = False


class _Settings(NamedTuple):
    """What a plan holds besides weights; replaced whole, so that a plan has all or none of it."""

    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    go_backwards: bool = False
    zero_output_for_mask: bool = False


def _gate(what: str, activation: Any) -> str:
    return activations.get(activation, what=what, known=activations.ELEMENTWISE)


def _setting_of_plan(name: str, check: Callable[[str, Any], Any]) -> Any:
    """A setting like `Setting`; the next call after an assignment makes a new plan."""

    def get(layer: LSTM) -> Any:
        return getattr(layer._settings, name)

    def set_(layer: LSTM, value: Any) -> None:
        checked = check(f"{layer.label}: `{name}`", value)
        layer._settings = layer._settings._replace(**{name: checked})

    return property(get, set_)


class LSTM(Layer):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, forget gate of Gers et al. 2000).

    ::

        i, f, g, o = split(x[t] @ kernel + h @ recurrent_kernel + bias, 4)
        c = r(f) * c + r(i) * a(g)
        h = r(o) * a(c)

    with a = `activation` and r = `recurrent_activation`. Inputs (B, T, F); the output is h after
    the last step (B, H), or after every step (B, T, H) with `return_sequences`; with
    `return_state` a list [output, h (B, H), c (B, H)]. All have the layer's dtype.

    Called as ``layer(x, mask=None, training=False, initial_state=None, context=None)``: `mask` is
    bool (B, T), false where a step is skipped (states and output are carried over it, and the
    output is zero before the first step that counts); `initial_state` is [h (B, H), c (B, H)].

    Parameters
    ----------
    units : int
        H, the size of the state.
    activation, recurrent_activation : str or function of `fastlstm.activations`
    use_bias : bool
    kernel_initializer, recurrent_initializer, bias_initializer
        See `fastlstm.initializers`.
    unit_forget_bias : bool
        Start with a forget gate bias of one (Jozefowicz et al. 2015).
    kernel_regularizer, recurrent_regularizer, bias_regularizer
        See `fastlstm.regularizers`.
    kernel_constraint, recurrent_constraint, bias_constraint
        See `fastlstm.constraints`.
    dropout, recurrent_dropout : float
        The part of the inputs, or of the state in the recurrent product, that is dropped in
        training; the same part at all steps (Gal & Ghahramani 2016).
    seed : int, optional
        For dropout.
    return_sequences, return_state : bool
    go_backwards : bool
        Read the steps from the last to the first; outputs are in the order of reading.
    stateful : bool
        Start every call from the states in which the last one ended, row by row, until
        `reset_state`. Gradients stop between calls.
    zero_output_for_mask : bool
        Outputs of masked steps are zero instead of repeated.
    unroll, use_cudnn, implementation
        Accepted for Keras's sake, without effect.

    Attributes
    ----------
    kernel : Weight (F, 4H), recurrent_kernel : Weight (H, 4H), bias : Weight (4H,) or None
        Gates in the order input, forget, cell, output.
    states : list of h and c (B, H), or None before the first call; of a stateful layer

    The arguments are attributes too. What is assigned to activations, directions, dropout rates and
    `stateful` later is checked likewise and counts from the next call, or epoch of `fit`, on.

    Raises
    ------
    ValueError, TypeError
        For arguments out of range, inputs, masks and states of another shape, and, if stateful,
        of another batch size than at first.
    AttributeError
        When `units` or `use_bias` of a built layer is changed.

    Examples
    --------
    >>> import numpy as np
    >>> layer = LSTM(4, return_sequences=True, return_state=True)
    >>> y, h, c = layer(np.ones((2, 3, 1)))
    >>> y.shape, h.shape, bool((y[:, -1] == h).all())
    ((2, 3, 4), (2, 4), True)
    >>> layer.count_params()
    96
    """

    supports_masking = True
    _keeps_states = True
    units: Any = Setting(check_positive_int, fixed=True)
    use_bias: Any = Setting(truth, fixed=True)
    activation = _setting_of_plan("activation", _gate)
    recurrent_activation = _setting_of_plan("recurrent_activation", _gate)
    go_backwards = _setting_of_plan("go_backwards", truth)
    zero_output_for_mask = _setting_of_plan("zero_output_for_mask", truth)
    dropout: Any = Setting(check_rate)
    recurrent_dropout: Any = Setting(check_rate)

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: Any = "auto",
        *,
        implementation: int = 2,
        zero_output_for_mask: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **keywords)
        self._settings = _Settings()
        self.units = units
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.unit_forget_bias = bool(unit_forget_bias)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.seed = random.check_seed(seed, self.label)
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.go_backwards = go_backwards
        self.stateful = bool(stateful)
        self.unroll = bool(unroll)
        self.use_cudnn = use_cudnn
        self.implementation = implementation
        self.zero_output_for_mask = zero_output_for_mask
        drops = self.dropout > 0 or self.recurrent_dropout > 0
        self._generator = random.generator(self.seed) if drops else None
        self.states: list[np.ndarray] | None = None
        self._dtype = np.dtype(self.dtype)
        self._plan: tuple[Any, lstm.LSTMPlan] | None = None
        self.kernel: Weight
        self.recurrent_kernel: Weight
        self.bias: Weight | None = None

    # ---- building ----------------------------------------------------------------------------

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` unless the shape is (B, T, F), B as before if stateful."""
        hint = ""
        if len(input_shape) == 2:
            hint = " Add the axis that is missing, e.g. x[:, :, None] for one feature."
        shape = check_rank(self.label, input_shape, 3, "(B, T, F)", hint=hint)
        check_features(self.label, shape, self.kernel.shape[0] if self.built else None)
        if self.stateful and self.states and shape[0] not in (None, len(self.states[0])):
            raise ValueError(
                f"{self.label} is stateful with a batch size of {len(self.states[0])}, "
                f"got inputs of shape {shape_text(shape)}; its states belong to rows of the "
                f"batch, so every batch must have that size."
            )

    def build(self, input_shape: Any) -> None:
        """Create the weights, and, if stateful and B is known, the states, for (B, T, F)."""
        self.kernel = self.add_weight(
            (input_shape[-1], 4 * self.units),
            self.kernel_initializer,
            name="kernel",
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            (self.units, 4 * self.units),
            self.recurrent_initializer,
            name="recurrent_kernel",
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                (4 * self.units,),
                self._starting_bias if self.unit_forget_bias else self.bias_initializer,
                name="bias",
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        if self.stateful and input_shape[0] is not None:
            self.states = self._zero_states(input_shape[0])

    def _starting_bias(self, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
        """Ones for the forget gate; drawn in parts, as Keras does."""
        units = self.units
        return np.concatenate(
            [
                self.bias_initializer((units,), dtype=dtype),
                np.ones(units, dtype),
                self.bias_initializer((2 * units,), dtype=dtype),
            ]
        )

    # ---- states ------------------------------------------------------------------------------

    def _zero_states(self, batch: int) -> list[np.ndarray]:
        return [np.zeros((batch, self.units), self.dtype) for _ in STATE_NAMES]

    def reset_state(self) -> None:
        """Set the states of a stateful layer to zero; the batch size stays as it is."""
        if self.states is not None:
            self.states = self._zero_states(len(self.states[0]))

    def reset_states(self) -> None:
        """Keras 2's name of `reset_state`."""
        self.reset_state()

    def _checked_states(self, initial_state: Any, batch: int) -> list[np.ndarray]:
        self._check_state_count(initial_state)
        shape, states = (batch, self.units), []
        for name, value in zip(STATE_NAMES, initial_state, strict=True):
            if type(value) is np.ndarray and value.shape == shape and value.dtype is self._dtype:
                states.append(value)
                continue
            what = f"{self.label}: `initial_state` {name}"
            state = as_real_array(value, self.dtype, what)
            if state.shape != shape:
                raise ValueError(f"{what} must have shape (B, H) = {shape}, got {state.shape}.")
            states.append(state)
        return states

    def _check_state_count(self, initial_state: Any) -> None:
        if not isinstance(initial_state, list | tuple):
            raise TypeError(
                f"{self.label}: `initial_state` must be a list [h, c], got {type(initial_state)}."
            )
        if len(initial_state) != len(STATE_NAMES):
            raise ValueError(
                f"{self.label}: `initial_state` must hold the 2 states h and c, "
                f"got {len(initial_state)}."
            )

    def _call_symbolically(self, inputs: Any, keywords: dict[str, Any]) -> Any:
        if "initial_state" in keywords:
            self._check_state_count(keywords["initial_state"])
            for name, state in zip(STATE_NAMES, keywords["initial_state"], strict=True):
                if not isinstance(state, SymbolicTensor) or state.shape[1:] != (self.units,):
                    raise ValueError(
                        f"{self.label}: `initial_state` {name} must be a symbolic tensor of shape "
                        f"(B, H) = (None, {self.units}), got {state!r}."
                    )
        return super()._call_symbolically(inputs, keywords)

    def stream(self, batch_size: int = 1) -> Stream:
        """A stream of so many sequences through this layer alone: see `Model.stream`."""
        # A stream is of a graph, and graphs are made of layers.
        from fastlstm.program.stream import stream_of_layer

        return stream_of_layer(self, batch_size)

    # ---- computing ---------------------------------------------------------------------------

    def call(
        self,
        inputs: np.ndarray,
        mask: Any = None,
        training: bool = False,
        initial_state: Any = None,
        context: Context | None = None,
    ) -> Any:
        """The output, or with `return_state` the list [output, h, c]."""
        batch, steps, _ = inputs.shape
        mask = check_mask(self.label, mask, (batch, steps))
        h0: np.ndarray | None
        c0: np.ndarray | None
        h0, c0 = (self.stateful and self.states) or (None, None)
        if initial_state is not None:
            h0, c0 = self._checked_states(initial_state, batch)
        y, h, c, call = self._run(inputs, h0, c0, mask, training, context is not None)
        last_shown = None if self.return_sequences else self._last_shown(mask, batch, steps)
        if context is not None:
            context.cache = call._replace(
                last_shown=last_shown, had_initial_state=initial_state is not None
            )
        if self.stateful:
            self.states = [h.copy(), c.copy()]
        output = y if self.return_sequences else _zero_unless(last_shown, h)
        return [output, h, c] if self.return_state else output

    def _run(
        self,
        inputs: np.ndarray,
        h0: np.ndarray | None,
        c0: np.ndarray | None,
        mask: np.ndarray | None,
        training: bool,
        keep: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, _Call]:
        cache: Any
        if training and self.recurrent_dropout > 0:
            factors = self._factors_by_gate(*inputs.shape[::2])
            y, h, c, cache = dropped.lstm_forward(
                inputs,
                self.kernel.value,
                self.recurrent_kernel.value,
                None if self.bias is None else self.bias.value,
                h0,
                c0,
                factors,
                mask=mask,
                activation=self.activation,
                recurrent_activation=self.recurrent_activation,
                go_backwards=self.go_backwards,
                zero_output_for_mask=self.zero_output_for_mask,
                training=keep,
            )
            return y, h, c, _Call(dropped.lstm_backward, cache)
        input_factors = None
        if training and self.dropout > 0:
            input_factors = self._draw_inputs(inputs.shape[::2])[:, None]
            inputs = inputs * input_factors
        y, h, c, cache = lstm.forward(
            self.plan_for(self._settings), inputs, h0, c0, mask, keep, self.return_sequences
        )
        return y, h, c, _Call(lstm.backward, cache, input_factors)

    def plan_for(self, settings: _Settings, own: bool = False) -> lstm.LSTMPlan:
        """The weights as they are now, packed once for all calls until they change.

        With `own`, a plan that nobody else has.
        """
        bias = self.bias
        made_of = (
            self.kernel.version,
            self.recurrent_kernel.version,
            UNUSED if bias is None else bias.version,
            settings,
        )
        known = self._plan
        if not own and known is not None and known[0] == made_of:
            return known[1]
        plan = lstm.LSTMPlan(
            self.kernel.value,
            self.recurrent_kernel.value,
            None if bias is None else bias.value,
            *settings,
        )
        if not own and None not in made_of:
            self._plan = (made_of, plan)
        return plan

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """Without states of its own, and where nothing is dropped from the recurrent product."""
        if (self.stateful and not streaming) or (training and self.recurrent_dropout):
            return None
        draw = self._draw_inputs if training and self.dropout else None
        weights = (self.kernel, self.recurrent_kernel, self.bias)
        settings = (self._settings, self.return_sequences, self.return_state)
        return LSTMOp, (self.plan_for, weights, *settings, draw)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """As sequences are returned."""
        if self.go_backwards:
            raise self._needs_sequence("reads backwards")
        if not has_time:
            raise self._needs_sequence("reads what is made anew at every step")
        return self.return_sequences

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_plan": None}

    def _draw(self, shape: tuple[int, ...], rate: float) -> np.ndarray:
        if rate == 0:
            return np.ones(shape, self.dtype)
        if self._generator is None:  # the rate was 0 at first
            self._generator = random.generator(self.seed)
        return dropout_factors(self._generator, shape, rate, self.dtype)

    def _draw_inputs(self, shape: tuple[int, int]) -> np.ndarray:
        """Factors (B, F) for the inputs, the same at all steps."""
        return self._draw(shape, self.dropout)

    def _factors_by_gate(self, batch: int, features: int) -> dropped.Factors:
        return dropped.Factors(
            self._draw((batch, dropped.GATES, features), self.dropout),
            self._draw((batch, dropped.GATES, self.units), self.recurrent_dropout),
        )

    def _last_shown(self, mask: np.ndarray | None, batch: int, steps: int) -> np.ndarray | None:
        """Which rows' last output is the state; a row without any output has zeros."""
        if steps == 0:
            return np.zeros((batch, 1), bool)
        if mask is None:
            return None
        return dropped.shown_steps(mask, self.go_backwards, self.zero_output_for_mask)[:, -1:]

    def backward(self, context: Context, dy: Any) -> Any:
        """The gradient dx of the inputs (B, T, F).

        If the call was given an `initial_state`, the pair
        ``(dx, {"initial_state": [dh0, dc0]})``. `dy` has the structure of the outputs; None in
        it means that no gradient arrives there.
        """
        call: _Call = context.cache
        options = {}
        if call.backward is lstm.backward:
            options["wants_dx"] = context.wants_input_gradient
        dy, dh, dc = dy if self.return_state else [dy, None, None]
        if not self.return_sequences and dy is not None:
            dlast = _zero_unless(call.last_shown, dy)
            dh = dlast if dh is None else dh + dlast
        dsequence = dy if self.return_sequences else None
        dx, dkernel, drecurrent_kernel, dbias, dh0, dc0 = call.backward(
            call.cache, dy=dsequence, dh=dh, dc=dc, **options
        )
        context.add_gradient(self.kernel, dkernel)
        context.add_gradient(self.recurrent_kernel, drecurrent_kernel)
        if self.bias is not None:
            context.add_gradient(self.bias, dbias)
        if dx is not None and call.input_factors is not None:
            dx = dx * call.input_factors
        return (dx, {"initial_state": [dh0, dc0]}) if call.had_initial_state else dx

    # ---- shapes, masks, configuration --------------------------------------------------------

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(B, H) or (B, T, H); with `return_state` the list of that and (B, H) twice."""
        batch, steps, _ = input_shape
        output: Shape = (batch, steps, self.units) if self.return_sequences else (batch, self.units)
        state: Shape = (batch, self.units)
        return [output, state, state] if self.return_state else output

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of a sequence; none for a single output or a state."""
        output = mask if self.return_sequences else None
        return [output, None, None] if self.return_state else output

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        objects = {
            name: object_config(f"{self.label}: `{name}`", getattr(self, name))
            for part in ("kernel", "recurrent", "bias")
            for name in (f"{part}_initializer", f"{part}_regularizer", f"{part}_constraint")
        }
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "recurrent_activation": self.recurrent_activation,
            "use_bias": self.use_bias,
            **objects,
            "unit_forget_bias": self.unit_forget_bias,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
            "use_cudnn": self.use_cudnn,
            "implementation": self.implementation,
            "zero_output_for_mask": self.zero_output_for_mask,
        }


def _zero_unless(shown: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    return values if shown is None else np.where(shown, values, values.dtype.type(0))
