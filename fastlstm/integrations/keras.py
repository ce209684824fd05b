"""The LSTM layers of a Keras 3 program on fastlstm's kernels.

``fastlstm.integrations.keras.enable()`` before the program's models run, nothing else: Keras's
layers stay what they are, and what they compute in their loop over time is computed here, training
included, on the backends NumPy, PyTorch, JAX and TensorFlow. On the last two the kernels are called
from compiled programs, and a backward pass computes the forward pass again.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastlstm._core import lstm
from fastlstm._extras import require
from fastlstm.activations import ELEMENTWISE
from fastlstm.integrations.keras_backends import RUNNERS, has_gpu, is_worth_leaving
from fastlstm.integrations.plans import Plans

keras = require("keras", "keras")
_lstm_module = require("keras.src.layers.rnn.lstm", "keras")
_LSTM = _lstm_module.LSTM

__all__ = ["disable", "enable", "enabled", "reasons"]

# Of the hook: what Keras's method of this name must take for us to stand in for it.
_METHOD = "inner_loop"
_PARAMETERS = ["self", "sequences", "initial_state", "mask", "training"]

_original: Callable[..., Any] | None = None
_plans: weakref.WeakKeyDictionary[Any, Plans] = weakref.WeakKeyDictionary()


def enable(*models: Any) -> dict[str, str]:
    """Run Keras's LSTM layers through fastlstm from now on.

    What it does not take goes on as before: layers that are not exactly `keras.layers.LSTM`,
    activations that fastlstm does not have, types other than float32 and float64,
    ``recurrent_dropout`` in training, other devices than the CPU, states and masks that are not one
    for each row, on JAX passes so small that leaving the compiled program would take longer. On JAX
    and TensorFlow, programs that were compiled before keep the way that they were compiled. On
    TensorFlow a model must not have been compiled with ``jit_compile=True``, which is not Keras's
    default on a CPU.

    Parameters
    ----------
    *models : Keras models or layers, optional

    Returns
    -------
    dict of str to str
        For each LSTM layer in `models` that it will not take, or not in training, its name and why.

    Raises
    ------
    RuntimeError
        For a version of Keras whose LSTM layer this hook does not fit, and on another backend.
    """
    global _original
    if keras.backend.backend() not in RUNNERS:
        raise RuntimeError(
            f"fastlstm.integrations.keras runs on the backends {', '.join(RUNNERS)}, not on "
            f"{keras.backend.backend()}: set KERAS_BACKEND before Keras is imported."
        )
    if _original is None:
        method = vars(_LSTM).get(_METHOD)
        if method is None or list(inspect.signature(method).parameters) != _PARAMETERS:
            raise RuntimeError(
                f"The LSTM layer of Keras {keras.__version__} is not built as that of Keras 3.5 "
                f"to 3.15, which fastlstm.integrations.keras knows."
            )
        _original = method
        setattr(_LSTM, _METHOD, functools.wraps(method)(_inner_loop))
    found: dict[str, str] = {}
    for model in models:
        found.update(reasons(model))
    return found


def disable() -> None:
    """Let Keras's LSTM layers compute as Keras does."""
    global _original
    if _original is not None:
        setattr(_LSTM, _METHOD, _original)
        _original = None


@contextlib.contextmanager
def enabled(*models: Any) -> Iterator[dict[str, str]]:
    """`enable` for the length of a ``with`` block."""
    before = _original is not None
    try:
        yield enable(*models)
    finally:
        if not before:
            disable()


def reasons(model: Any) -> dict[str, str]:
    """Of the LSTM layers in a Keras model or layer, those that fastlstm does not take, and why."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, _LSTM)]
    found = {layer.name: _why_not(layer, training=True) for layer in layers}
    return {name: reason for name, reason in found.items() if reason is not None}


def _why_not(layer: Any, training: bool) -> str | None:
    """Why Keras must run a layer itself; None if it need not."""
    if getattr(type(layer), _METHOD) is not getattr(_LSTM, _METHOD):
        return "it is a subclass with a loop of its own"
    if type(layer.cell) is not _lstm_module.LSTMCell:
        return "it has a cell of its own"
    for option in ("activation", "recurrent_activation"):
        if _name_of(getattr(layer, option)) is None:
            return f"fastlstm does not have its `{option}`"
    if layer.cell.compute_dtype not in ("float32", "float64"):
        return f"it computes in {layer.cell.compute_dtype}"
    if training and layer.recurrent_dropout:
        return "training with `recurrent_dropout`"
    if keras.backend.backend() == "tensorflow" and has_gpu():
        return "TensorFlow has a GPU"
    return None


def _name_of(activation: Any) -> str | None:
    """Fastlstm's name of an activation of Keras; None if it has another one or none."""
    name = keras.activations.serialize(activation)
    same = isinstance(name, str) and keras.activations.get(name) is activation
    return name if same and name in ELEMENTWISE else None


# ---- the hook ------------------------------------------------------------------------------------


def _inner_loop(
    self: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False
) -> Any:
    """The last output, all outputs if they are asked for, and the states, as Keras wants them."""
    assert _original is not None
    backend = keras.backend.backend()
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    if (
        _why_not(self, training)
        or not _is_computable(sequences)
        or not _is_plain(sequences, self.units, initial_state, mask)
        or not is_worth_leaving(backend, sequences, self.units)
    ):
        return _original(self, sequences, initial_state, mask, training)
    if backend == "tensorflow":
        self.supports_jit = False  # what XLA compiles cannot call back
    sequences = keras.ops.cast(sequences, self.cell.compute_dtype)
    if training and self.dropout:
        kept = keras.ops.expand_dims(self.cell.get_dropout_mask(sequences[:, 0, :]), axis=1)
        sequences = sequences * kept
    weights = [self.cell.kernel, self.cell.recurrent_kernel]
    if self.cell.use_bias:
        weights.append(self.cell.bias)
    tensors = [keras.ops.convert_to_tensor(weight) for weight in weights]
    h0, c0 = initial_state
    y, h, c = RUNNERS[backend](_planner(self), sequences, h0, c0, mask, tensors)
    last = h if mask is None else y[:, -1]
    return last, (y if self.return_sequences else last[:, None]), [h, c]


def _is_computable(sequences: Any) -> bool:
    """Whether these are values on the CPU, with steps, rather than the outline of a graph."""
    device, steps = getattr(sequences, "device", None), sequences.shape[1]
    has_steps = keras.backend.backend() == "tensorflow" if steps is None else steps > 0
    return has_steps and getattr(device, "type", "cpu") == "cpu"


def _is_plain(sequences: Any, units: int, states: Sequence[Any], mask: Any) -> bool:
    """Whether states and mask are one for each row, rather than to be broadcast to that."""
    batch, steps = sequences.shape[:2]
    rows = [(state.shape, (batch, units)) for state in states]
    if mask is not None:
        rows.append((mask.shape, (batch, steps)))
    return all(
        len(shape) == 2
        and all(
            size is None or want in (None, size) for size, want in zip(shape, wanted, strict=True)
        )
        for shape, wanted in rows
    )


def _planner(layer: Any) -> Callable[..., lstm.LSTMPlan]:
    """What makes the plan of a layer from its weights as arrays."""
    plans = _plans.setdefault(layer, Plans())
    names = [_name_of(layer.activation), _name_of(layer.recurrent_activation)]
    options = (*names, layer.go_backwards, layer.zero_output_for_mask)

    def plan(weights: list[np.ndarray]) -> lstm.LSTMPlan:
        return plans.plan(options, weights, *options)

    return plan
