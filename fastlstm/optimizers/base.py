"""What all optimizers share: arguments, flat buffers, clipping, weight decay, state."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from fastlstm._core import optimizers as kernels
from fastlstm._numbers import real_number
from fastlstm._registry import described, snake_case
from fastlstm.layers.weight import Weight, changing
from fastlstm.optimizers import schedules
from fastlstm.optimizers.flat import FlatBuffer

__all__ = ["Optimizer"]

LearningRate = float | schedules.LearningRateSchedule | Callable[[], float]
# What an optimizer remembers of one weight: arrays of its shape.
Slots = dict[str, np.ndarray]

# Keras arguments that name what this package does not do, with the values that ask for nothing.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "use_ema": (False, None),
    "ema_overwrite_frequency": (None,),
    "loss_scale_factor": (None,),
    "gradient_accumulation_steps": (None, 1),
}
_IGNORED = ("ema_momentum",)
_MISNAMED = {"lr": "learning_rate", "weight_decay_rate": "weight_decay", "decay": "learning_rate"}


class Optimizer:
    """The base of all optimizers.

    A subclass names its slots, says which kernel updates a flat buffer, and which numbers a step
    needs. The order of one update is Keras's: clip the gradients, decay the weights, step, apply
    the constraints.

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule, or a function without arguments
    weight_decay : float, optional
        Every update first multiplies the weights by ``1 - learning_rate * weight_decay``.
    clipnorm : float, optional
        The largest Euclidean norm of one weight's gradient.
    clipvalue : float, optional
        The largest magnitude of any element of a gradient.
    global_clipnorm : float, optional
        The largest Euclidean norm of all gradients together.
    name : str, optional

    Raises
    ------
    ValueError
        For a number out of range, or two kinds of clipping at once.
    TypeError
        For an unknown argument.
    """

    # The slots in the order of Keras's `variables`; those in one tuple alternate by weight.
    state_order: tuple[tuple[str, ...], ...] = ()
    # Attributes that are numbers and change from update to update.
    state_numbers: tuple[str, ...] = ()

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
        **unknown: Any,
    ) -> None:
        self._refuse(unknown)
        self._learning_rate = self._checked_learning_rate(learning_rate)
        self.weight_decay = self._optional("weight_decay", weight_decay)
        self.clipnorm = self._optional("clipnorm", clipnorm)
        self.clipvalue = self._optional("clipvalue", clipvalue)
        self.global_clipnorm = self._optional("global_clipnorm", global_clipnorm)
        clips = (clipnorm, clipvalue, global_clipnorm)
        if sum(clip is not None for clip in clips) > 1:
            raise ValueError(
                f"{type(self).__name__}: only one of `clipnorm`, `clipvalue` and "
                f"`global_clipnorm` can be set."
            )
        self.name = name or snake_case(type(self).__name__)
        self.iterations = 0
        self.built = False
        self._weights: list[Weight] = []
        self._constrained: list[Weight] = []
        self._buffers: list[FlatBuffer] = []
        self._places: dict[Weight, tuple[FlatBuffer, int]] = {}
        self._targets: dict[Weight, np.ndarray] = {}
        # The slots of weights that are frozen now, for when they train again.
        self._resting: WeakKeyDictionary[Weight, Slots] = WeakKeyDictionary()
        self._undecayed: set[Weight] = set()
        self._undecayed_names: tuple[str, ...] = ()

    # ---- to implement ------------------------------------------------------------------------

    def slots(self) -> dict[str, float | None]:
        """The first value of every slot, in the kernel's order; None for one not in use."""
        raise NotImplementedError(f"{type(self).__name__} must implement `slots`.")

    def kernel(self) -> Callable[..., None]:
        """The function that updates (parameters, gradients, *slots, *numbers) in place."""
        raise NotImplementedError(f"{type(self).__name__} must implement `kernel`.")

    def step_numbers(self, learning_rate: float) -> tuple[float, ...]:
        """The kernel's numbers for the update that is about to be made."""
        raise NotImplementedError(f"{type(self).__name__} must implement `step_numbers`.")

    # ---- arguments ---------------------------------------------------------------------------

    @classmethod
    def _known_arguments(cls) -> list[str]:
        names: dict[str, None] = {}
        for owner in cls.__mro__:
            if "__init__" in vars(owner) and owner is not object:
                names.update(dict.fromkeys(inspect.signature(owner).parameters))
        return [name for name in names if name not in ("unknown", "common")]

    def _refuse(self, unknown: dict[str, Any]) -> None:
        """Raise for arguments that nobody knows, and for features asked for that are missing."""
        class_name = type(self).__name__
        for name, value in unknown.items():
            if name in _IGNORED:
                continue
            if name in _UNSUPPORTED:
                if value not in _UNSUPPORTED[name]:
                    raise ValueError(f"{class_name}: `{name}` is not supported, got {value!r}.")
                continue
            known = self._known_arguments()
            near = [_MISNAMED[name]] if name in _MISNAMED else get_close_matches(name, known, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise TypeError(
                f"{class_name} has no argument `{name}`; it has {', '.join(known)}.{hint}"
            )

    def _number(self, name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
        return real_number(f"{type(self).__name__}: `{name}`", value, low, high)

    def _optional(self, name: str, value: Any) -> float | None:
        return None if value is None else self._number(name, value)

    def _checked_learning_rate(self, value: Any) -> LearningRate:
        if isinstance(value, Mapping):
            return schedules.get(value)
        if callable(value):
            return value
        return self._number("learning_rate", value)

    # ---- the learning rate -------------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update. Can be set unless it comes from a schedule."""
        rate = self._learning_rate
        if isinstance(rate, float):
            return rate
        if isinstance(rate, schedules.LearningRateSchedule):
            return float(rate(self.iterations))
        return float(rate())

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        checked = self._checked_learning_rate(value)
        scheduled = isinstance(self._learning_rate, schedules.LearningRateSchedule)
        if scheduled and not callable(checked):
            raise TypeError(
                f"{type(self).__name__}: the learning rate comes from a schedule and cannot be "
                f"set to a number; construct the optimizer with a number instead."
            )
        self._learning_rate = checked

    # ---- weights -----------------------------------------------------------------------------

    def exclude_from_weight_decay(
        self,
        var_list: Sequence[Weight] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """Do not decay these weights, nor those whose name contains one of `var_names`.

        Raises ``ValueError`` once the optimizer is built.
        """
        if self.built:
            raise ValueError(
                f"{type(self).__name__}: call `exclude_from_weight_decay` before training starts."
            )
        self._undecayed = set(var_list or ())
        self._undecayed_names = tuple(var_names or ())

    def build(self, weights: Sequence[Weight]) -> None:
        """Move `weights` into flat buffers and create their slots.

        Building again, with the same weights or others, keeps the slots of all weights known
        before: what is frozen for a while goes on where it stopped. Slots of weights that are not
        trained now take memory for as long as the weights exist. Raises ``ValueError`` if a weight
        comes twice.
        """
        weights = list(weights)
        if len(set(weights)) != len(weights):
            raise ValueError(f"{type(self).__name__}: the same weight was given twice.")
        if self.built and weights == self._weights:
            for buffer in self._buffers:
                buffer.bind()
            return
        by_dtype: dict[np.dtype, list[Weight]] = {}
        for weight in weights:
            by_dtype.setdefault(weight.dtype, []).append(weight)
        first_values = self.slots()
        buffers = [FlatBuffer(group, first_values) for group in by_dtype.values()]
        places = {
            weight: (buffer, index)
            for buffer in buffers
            for index, weight in enumerate(buffer.weights)
        }
        resting: WeakKeyDictionary[Weight, Slots] = WeakKeyDictionary()
        for weight, slots in [*self._resting.items(), *self._slots_by_weight().items()]:
            if weight in places:
                buffer, index = places[weight]
                for name, new in buffer.slots_of(index).items():
                    new[...] = slots.get(name, new)
            else:
                resting[weight] = {name: slot.copy() for name, slot in slots.items()}
        constrained = [w for w in weights if w.constraint is not None]
        old_buffers = self._buffers
        # All at once, so that an interrupt leaves the one or the other whole.
        self._weights, self._constrained, self._buffers = weights, constrained, buffers
        self._places, self._resting, self.built = places, resting, True
        self._targets = _targets_in(buffers)
        for buffer in old_buffers:
            buffer.release()

    @property
    def targets(self) -> Mapping[Weight, np.ndarray]:
        """Where `apply` reads gradients from: what is computed there need not be copied."""
        return self._targets

    def _slots_by_weight(self) -> dict[Weight, Slots]:
        return {w: buffer.slots_of(index) for w, (buffer, index) in self._places.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_resting": dict(self._resting), "_targets": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _resting=WeakKeyDictionary(state["_resting"]))
        self._targets = _targets_in(self._buffers)

    # ---- one update --------------------------------------------------------------------------

    def apply(self, gradients: Mapping[Weight, np.ndarray]) -> None:
        """Make one update of all weights, in place.

        Parameters
        ----------
        gradients : dict of Weight to array of the weight's shape
            A weight without a gradient, and its slots, stay as they are. An empty dict is no
            update at all.

        An interrupt may leave an update half made: weights that have moved beside others that have
        not, slots and `iterations` one update apart, a constraint not met before the next update.
        Training can go on from there.

        Raises
        ------
        ValueError
            For a gradient of the wrong shape, or of a weight that `build` has not seen; nothing
            has changed then.
        """
        if not gradients:
            return
        if not self.built:
            self.build(list(gradients))
        missing = [buffer.gather(gradients) for buffer in self._buffers]
        if any(missing) or len(gradients) != len(self._weights):
            self._refuse_strangers(gradients)
        self._clip()
        learning_rate = self.learning_rate
        numbers, kernel = self.step_numbers(learning_rate), self.kernel()
        for buffer in self._buffers:
            buffer.bind()
        with changing(self._weights):
            for buffer, absent in zip(self._buffers, missing, strict=True):
                if self.weight_decay is not None:
                    self._decay(buffer, absent, 1.0 - self.weight_decay * learning_rate)
                if not absent:
                    kernel(buffer.parameters, buffer.gradients, *buffer.slots.values(), *numbers)
                else:
                    self._update_present(buffer, absent, numbers)
            self.count_update()
        for weight in self._constrained:
            if weight in gradients:
                weight.constrain()

    def count_update(self) -> None:
        """Let the numbers that change from update to update go on to the next."""
        self.iterations += 1

    def _refuse_strangers(self, gradients: Mapping[Weight, np.ndarray]) -> None:
        strangers = [w.name for w in gradients if w not in self._places]
        if strangers:
            raise ValueError(
                f"{type(self).__name__} does not know the weights {', '.join(strangers)}; call "
                f"`build` with all weights that it shall train."
            )

    def _clip(self) -> None:
        if self.clipnorm:
            for buffer in self._buffers:
                kernels.clip_norm(buffer.gradients, buffer.bounds, self.clipnorm)
        elif self.clipvalue:
            for buffer in self._buffers:
                np.clip(buffer.gradients, -self.clipvalue, self.clipvalue, out=buffer.gradients)
        elif self.global_clipnorm:
            norm = math.sqrt(sum(kernels.squared_norm(b.gradients) for b in self._buffers))
            if not norm <= self.global_clipnorm:
                # As in Keras, one infinite gradient makes all of them NaN.
                scale = self.global_clipnorm / norm if math.isfinite(norm) else math.nan
                for buffer in self._buffers:
                    buffer.gradients *= scale

    def _decay(self, buffer: FlatBuffer, absent: list[int], factor: float) -> None:
        chosen = [
            index not in absent and self._is_decayed(weight)
            for index, weight in enumerate(buffer.weights)
        ]
        for run in buffer.runs(chosen):
            buffer.parameters[run] *= factor

    def _is_decayed(self, weight: Weight) -> bool:
        return weight not in self._undecayed and not any(
            part in weight.name for part in self._undecayed_names
        )

    def _update_present(
        self, buffer: FlatBuffer, absent: list[int], numbers: tuple[float, ...]
    ) -> None:
        chosen = [index not in absent for index in range(len(buffer.weights))]
        for run in buffer.runs(chosen):
            slots = (None if slot is None else slot[run] for slot in buffer.slots.values())
            self.kernel()(buffer.parameters[run], buffer.gradients[run], *slots, *numbers)

    # ---- configuration and state -------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as Keras names them."""
        rate: Any = self._learning_rate
        if isinstance(rate, schedules.LearningRateSchedule):
            rate = described(rate)
        return {
            "name": self.name,
            "learning_rate": rate,
            "weight_decay": self.weight_decay,
            "clipnorm": self.clipnorm,
            "global_clipnorm": self.global_clipnorm,
            "clipvalue": self.clipvalue,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Optimizer:
        """The optimizer that `get_config` describes."""
        return cls(**config)

    def _slot_arrays(self) -> list[np.ndarray]:
        slots = self._slots_by_weight()
        return [
            slots[weight][name]
            for names in self.state_order
            for weight in self._weights
            for name in names
            if name in slots[weight]
        ]

    def get_state(self) -> list[np.ndarray]:
        """Copies of all that an update remembers, in the order of Keras's `variables`.

        The number of updates, the learning rate unless a function gives it, the slots of the
        weights that `build` was given last, and the numbers that change. `resting` has the slots
        of others.
        """
        state = [np.array(self.iterations)]
        if not callable(self._learning_rate):
            state.append(np.array(self._learning_rate))
        state += [slot.copy() for slot in self._slot_arrays()]
        return state + [np.array(getattr(self, name)) for name in self.state_numbers]

    @property
    def resting(self) -> Mapping[Weight, Slots]:
        """The slots of weights that `build` was given before, but not last: frozen ones."""
        return dict(self._resting)

    @resting.setter
    def resting(self, slots: Mapping[Weight, Slots]) -> None:
        names = {name for name, value in self.slots().items() if value is not None}
        for weight, own in slots.items():
            found = {name: np.shape(slot) for name, slot in own.items()}
            if found != dict.fromkeys(names, weight.shape):
                raise ValueError(
                    f"{type(self).__name__}: the slots of the weight {weight.name!r} must be "
                    f"{', '.join(sorted(names)) or 'none'}, of shape {weight.shape}, got {found}."
                )
        self._resting = WeakKeyDictionary(
            {w: {name: np.array(slot, w.dtype) for name, slot in slots[w].items()} for w in slots}
        )

    def set_state(self, state: Sequence[np.ndarray]) -> None:
        """Take over what `get_state` of an optimizer built on such weights returned.

        Raises ``ValueError`` for another number of arrays, another shape, or a learning rate out
        of range; nothing has changed then.
        """
        current = self.get_state()
        arrays = [np.asarray(value) for value in state]
        if [a.shape for a in arrays] != [a.shape for a in current]:
            raise ValueError(
                f"{type(self).__name__}: the state must hold {len(current)} arrays of the shapes "
                f"{[a.shape for a in current]}, got {[a.shape for a in arrays]}."
            )
        learning_rate = self._learning_rate
        iterations = int(arrays.pop(0))
        if not callable(learning_rate):
            learning_rate = self._checked_learning_rate(arrays.pop(0))
        self.iterations, self._learning_rate = iterations, learning_rate
        for name in reversed(self.state_numbers):
            setattr(self, name, float(arrays.pop()))
        for slot, array in zip(self._slot_arrays(), arrays, strict=True):
            slot[...] = array


def _targets_in(buffers: Sequence[FlatBuffer]) -> dict[Weight, np.ndarray]:
    return {weight: view for buffer in buffers for weight, view in buffer.targets()}
