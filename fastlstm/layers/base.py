"""The base of all layers: weights, calling, building, and a place in the graph.

There is no automatic differentiation here. A layer computes in `call`, keeps what its gradient
needs in a `Context` that travels with the call, and turns the gradient of its outputs into the
gradient of its inputs in `backward`. A layer itself holds weights and settings only (a stateful
LSTM also its states), so one layer may serve several threads at once.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastlstm import config, constraints, initializers, regularizers
from fastlstm._core.versions import note_change_of_settings
from fastlstm._registry import PACKAGE, described, home_of, is_from_package, not_known, unlike
from fastlstm.errors import as_array, as_real_array, one_of
from fastlstm.layers.context import Context
from fastlstm.layers.structure import (
    Shape,
    as_list,
    is_shape,
    map_structure,
    map_structure_of_shapes,
)
from fastlstm.layers.symbolic import Node, SymbolicTensor
from fastlstm.layers.tracking import held
from fastlstm.layers.weight import Weight, starting_value

__all__ = ["Layer", "automatic_name", "class_described", "reset_names"]

_name_counts: Counter[str] = Counter()
# Layer classes by name and home; None where two classes of a function have both.
_classes: dict[str, dict[str, type[Layer] | None]] = {}
# One lock for all layers: a layer that held its own could be neither pickled nor copied.
_lock = threading.RLock()


def reset_names() -> None:
    """Forget the automatic layer names given so far: the next LSTM is ``lstm_1`` again."""
    _name_counts.clear()


def automatic_name(class_name: str) -> str:
    """``TimeDistributed`` -> ``time_distributed_1``, counting from 1 as the tutorials print."""
    base = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name).lower()
    with _lock:
        _name_counts[base] += 1
        return f"{base}_{_name_counts[base]}"


def _register(cls: type[Layer]) -> None:
    homes, home = _classes.setdefault(cls.__name__, {}), home_of(cls)
    # A module is run again with each class anew; a function may go on using several.
    homes[home] = None if home in homes and home.endswith("<locals>") else cls


def class_described(
    spec: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
) -> type[Layer]:
    """The layer class that a description with ``class_name``, and ``module`` if known, means.

    One of the package is always that. For others `custom_objects` decides; without, it is the class
    that the program has defined where the description says, or the only one of that name.

    Raises ``ValueError`` where there is none, or several.
    """
    name, home = spec["class_name"], spec.get("module")
    homes = _classes.get(name, {})
    if is_from_package(spec) and PACKAGE in homes:
        home = PACKAGE
    elif custom_objects and name in custom_objects:
        return custom_objects[name]
    if not homes:
        raise one_of("`class_name`", name, {**_classes, **(custom_objects or {})})
    if home not in homes:
        alike = [each for each in homes if home is None or _may_be_one_module(home, each)]
        if len(alike) != 1:
            here = " and in ".join(map(repr, homes))
            there = "an unknown place" if home is None else repr(home)
            reason = f"was defined in {there}, here there is that of the name in {here}"
            raise not_known("layer class", spec, reason)
        (home,) = alike
    found = homes[home]
    if found is None:
        raise not_known("layer class", spec, f"was defined more than once in {home!r}")
    return found


def _may_be_one_module(home: str, other: str) -> bool:
    """Whether one is the program itself, which others import by its name."""
    return PACKAGE not in (home, other) and not {"__main__", "__mp_main__"}.isdisjoint(
        (home, other)
    )


class _CallSignature(NamedTuple):
    """Which of the framework's arguments a layer's `call` names."""

    names: frozenset[str]
    takes_any: bool


def _signature(function: Callable[..., Any]) -> _CallSignature:
    parameters = inspect.signature(function).parameters.values()
    return _CallSignature(
        frozenset(p.name for p in parameters),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def _once(build: Callable[..., None]) -> Callable[..., None]:
    """`build` made safe to call by hand: all or nothing, and not twice over weights in use."""

    @functools.wraps(build)
    def build_once(self: Layer, *args: Any, **keywords: Any) -> None:
        with _lock:
            if self._building:  # super().build()
                build(self, *args, **keywords)
            elif not (self.built and self.weights):
                self._build_whole(build, *args, **keywords)

    return build_once


_PACKAGE = __name__.partition(".")[0]


# What a layer computes by.
_COMPUTING = (
    "__call__",
    "check_inputs",
    "call",
    "call_with_mask",
    "compute_mask",
    "backward",
    "differentiate",
)


def told_by_class(layer: Layer, name: str, *arguments: Any) -> Any:
    """What the method `name` of the package's class tells of how a layer computes.

    None where a class below the one that tells it, or the layer itself, computes in another way, or
    has something of the program's own under that name.
    """
    kind = type(layer)
    owner = next(base for base in kind.__mro__ if name in base.__dict__)
    if not owner.__module__.startswith(f"{_PACKAGE}."):
        return None
    own = vars(layer)
    if any(getattr(kind, each) is not getattr(owner, each) or each in own for each in _COMPUTING):
        return None
    return owner.__dict__[name](layer, *arguments)


class Layer:
    """The base of all layers.

    Subclass it with `call` and, where the layer has weights, `build`; with `backward` if it is to
    be trained.

    Parameters
    ----------
    name : str, optional
        Unique within a model; ``lstm_1`` and so on by default.
    trainable : bool
        Whether an optimizer may change the layer's weights.
    dtype : "float32", "float64" or None for `fastlstm.config.floatx()`
    activity_regularizer : Regularizer, str or None
        A penalty on the outputs that training and evaluating a model add to its loss.
    input_shape, batch_input_shape : tuple, optional
        Keras 2's spelling for the first layer of a Sequential; without, or with, the batch size.

    Examples
    --------
    >>> import numpy as np
    >>> class Scale(Layer):
    ...     def build(self, input_shape):
    ...         self.factor = self.add_weight((input_shape[-1],), "ones", name="factor")
    ...     def call(self, inputs):
    ...         return inputs * self.factor.value
    ...     def backward(self, context, dy):
    ...         context.add_gradient(self.factor, (dy * context.inputs).sum(axis=0))
    ...         return dy * self.factor.value
    >>> layer, context = Scale(), Context()
    >>> y = layer(np.array([[1.0, 2.0]]), context=context)
    >>> layer.backward(context, np.ones_like(y))
    array([[1., 1.]], dtype=float32)
    >>> context.gradients[layer.factor]
    array([1., 2.], dtype=float32)

    Layers and weights that a layer holds in its attributes, or in lists, tuples and dicts there,
    are its own: they are trained, frozen and saved with it. `call` gives each of them a context of
    its own, a child of the one that it was given, and `backward` asks them in reverse order:

    >>> from fastlstm.layers import Dense
    >>> class Residual(Layer):
    ...     def __init__(self, units, **keywords):
    ...         super().__init__(**keywords)
    ...         self.units = units
    ...         self.blocks = [Dense(units, activation="tanh"), Dense(units)]
    ...     def call(self, inputs, context=None):
    ...         children = [context and context.child() for _ in self.blocks]
    ...         y = inputs
    ...         for block, child in zip(self.blocks, children):
    ...             y = block(y, context=child)
    ...         if context is not None:
    ...             context.cache = children
    ...         return inputs + y
    ...     def backward(self, context, dy):
    ...         dx = dy
    ...         for block, child in zip(reversed(self.blocks), reversed(context.cache)):
    ...             dx = block.differentiate(child, dx)
    ...         return dy + dx
    ...     def get_config(self):
    ...         return {**super().get_config(), "units": self.units}
    >>> layer, context = Residual(2), Context()
    >>> y = layer(np.ones((3, 2)), context=context)
    >>> layer.backward(context, np.ones_like(y)).shape, len(context.gradients), len(layer.weights)
    ((3, 2), 4, 4)
    """

    supports_masking = False
    casts_inputs = True
    # Whether `states` holds what a call leaves for the next, None before the first.
    _keeps_states = False
    _building = False
    # Whether layers and weights are looked for in the attributes: the package's own classes say
    # what they hold, so that training loops need not look.
    _is_custom = False
    # Attributes in which the package notes what is not the layer's own, or not in order.
    _bookkeeping: tuple[str, ...] = ("_weights", "_layers", "_nodes")
    _call_signature: _CallSignature

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._call_signature = _signature(cls.call)
        own = home_of(cls) == PACKAGE
        cls._is_custom = not own
        if not (own and cls.__name__.startswith("_")):
            _register(cls)
        if "build" in cls.__dict__:
            cls.build = _once(cls.__dict__["build"])  # type: ignore[method-assign]

    def __init__(
        self,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
        activity_regularizer: Any = None,
        input_shape: Sequence[int | None] | None = None,
        batch_input_shape: Sequence[int | None] | None = None,
        **unknown: Any,
    ) -> None:
        class_name = type(self).__name__
        if unknown:
            raise TypeError(f"{class_name} got unknown arguments: {', '.join(sorted(unknown))}.")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"{class_name}: `name` must be a string, got {name!r}.")
        self.dtype = config.real_dtype_name(dtype, class_name)
        self._name = name if name is not None else automatic_name(class_name)
        self._trainable = bool(trainable)
        self.built = False
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self._weights: list[Weight] = []
        self._layers: list[Layer] = []
        self._nodes: list[Node] = []
        self._known_shape: Any = None
        self._known_dtype: Any = None
        self.batch_input_shape: Shape | None = None
        for what, shape in (
            ("batch_input_shape", batch_input_shape),
            ("input_shape", input_shape),
        ):
            if shape is not None and not is_shape(shape):
                raise TypeError(
                    f"{self.label}: `{what}` must be a tuple of integers and None, got {shape!r}."
                )
        if batch_input_shape is not None:
            self.batch_input_shape = tuple(batch_input_shape)
        elif input_shape is not None:
            self.batch_input_shape = (None, *input_shape)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        # What calls keep does not change how a layer computes.
        if name[0] != "_" and name != "states":
            note_change_of_settings()

    # ---- to implement ------------------------------------------------------------------------

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` for inputs that the layer cannot take; called first of all."""

    @_once
    def build(self, input_shape: Any) -> None:
        """Create the weights for inputs of `input_shape` (batch first, None where it varies)."""

    def call(self, inputs: Any) -> Any:
        """Compute the outputs. May name any of training, mask, initial_state, context."""
        raise NotImplementedError(f"{self.label} must implement `call`.")

    def backward(self, context: Context, dy: Any) -> Any:
        """The gradient of the inputs, given that of the outputs; adds weight gradients."""
        raise NotImplementedError(
            f"{self.label} cannot be trained through: it does not implement `backward`."
        )

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """What a program may run instead of calling the layer; None if that is not all.

        The class of a native op (`fastlstm._core.program`) and its arguments, which are equal as
        long as the op need not be another. A stream keeps the states itself.
        """
        return None

    def entry(self, data: Any) -> Any:
        """Data of an input as its op reads them, where that is no cast to the layer's dtype."""
        return data

    def time_after(self, has_time: bool, rank: int) -> bool | None:
        """Whether the outputs of a step have a time axis, the second one, if its inputs have one.

        `rank` is how many axes the inputs have.

        None where nobody knows. Raises ``ValueError`` for what needs the whole sequence.
        """
        return None

    def _needs_sequence(self, why: str) -> ValueError:
        return ValueError(
            f"{self.label} cannot be streamed: it {why}, so it needs the whole sequence."
        )

    def last_activation(self) -> str | None:
        """What makes the outputs, where `backward` heeds `Context.takes_dz`; None where it cannot.

        A loss may know the gradient of what a softmax or sigmoid was applied to, which spares the
        layer the derivative of its activation.
        """
        return None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs; found by computing on zeros unless a layer knows better."""
        return self._shape_by_running(input_shape)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of the outputs: the inputs' own where masks are supported, else none."""
        return mask if self.supports_masking else None

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, all of which JSON can hold."""
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self._trainable,
            "dtype": self.dtype,
        }
        if self.batch_input_shape is not None:
            config["batch_input_shape"] = list(self.batch_input_shape)
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = described(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """The layer that `get_config` describes."""
        return cls(**config)

    # ---- identity ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The layer's name, unique within a model."""
        return self._name

    @property
    def label(self) -> str:
        """How error messages call the layer: ``LSTM "lstm_1"``."""
        return f'{type(self).__name__} "{self._name}"'

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self._name}, built={self.built}>"

    def __getstate__(self) -> dict[str, Any]:
        # A copy of a layer is a layer, not all that it is joined with; a model brings its graph.
        return {**self.__dict__, "_nodes": []}

    # ---- weights -----------------------------------------------------------------------------

    def add_weight(
        self,
        shape: Sequence[int],
        initializer: Any = "glorot_uniform",
        *,
        name: str = "weight",
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        dtype: Any = None,
    ) -> Weight:
        """Create a weight of the layer; call it in `build`.

        `initializer` is an object, a function of (shape, dtype), or one of Keras's names.
        """
        dtype = np.dtype(dtype or self.dtype)
        weight = Weight(
            starting_value(initializers.get(initializer), shape, dtype),
            f"{self._name}/{name}",
            trainable,
            regularizers.get(regularizer),
            constraints.get(constraint),
        )
        weight.trainable = trainable and self._trainable
        self._weights.append(weight)
        return weight

    def _held(self) -> Iterator[tuple[str, Weight | Layer]]:
        """The weights and layers in the attributes, each with its place; one may come twice."""
        # A copy: another thread may add an attribute.
        attributes = vars(self).copy()
        for name in self._bookkeeping:
            attributes.pop(name, None)
        return held(attributes.items(), (Weight, Layer))

    def _contents(self) -> tuple[dict[Weight, str | None], dict[Layer, str | None]]:
        """The layer's own weights and layers, with their places if they are in its attributes.

        Own weights are in the order of Keras, which puts those made frozen last.
        """
        weights: dict[Weight, str | None] = dict.fromkeys(self._weights)
        layers: dict[Layer, str | None] = dict.fromkeys(self._layers)
        if not self._is_custom:
            return weights, layers
        for place, each in self._held():
            if isinstance(each, Weight):
                weights.setdefault(each, place)
            else:
                layers.setdefault(each, place)
        in_order = sorted(weights.items(), key=lambda item: item[0].always_frozen)
        return dict(in_order), layers

    def _flattened(self) -> dict[Layer, dict[Weight, str | None]]:
        """The layer and all layers inside it with their own weights.

        Each once, and before those inside it: a layer may be in several, or hold its own model.
        """
        found: dict[Layer, dict[Weight, str | None]] = {}
        waiting: list[Layer] = [self]
        while waiting:
            layer = waiting.pop()
            if layer not in found:
                found[layer], inner = layer._contents()
                waiting.extend(reversed(inner))
        return found

    def weights_by_path(self) -> dict[str, Weight]:
        """All weights by the names that they have in files, such as ``lstm_1/kernel``.

        That of a layer in an attribute of a custom layer tells the attribute,
        ``outer_1/blocks/0/kernel``: nobody writes down the name of such a layer, and where the
        custom layer is made again it may be another. A number follows where several have one path.
        """
        found: dict[str, Weight] = {}
        known: set[Weight] = set()
        paths = {self: self._name}
        for layer, weights in self._flattened().items():
            path = paths[layer]
            for number, (inner, place) in enumerate(layer._contents()[1].items()):
                if path != layer._name:
                    place = place or str(number)
                paths.setdefault(inner, inner._name if place is None else f"{path}/{place}")
            for weight, place in weights.items():
                if weight not in known:
                    known.add(weight)
                    own = place or weight.name.removeprefix(f"{layer._name}/")
                    found[unlike(f"{path}/{own}", found, ":")] = weight
        return found

    @property
    def weights(self) -> list[Weight]:
        """All weights, those of the layer before those of its sublayers."""
        found: dict[Weight, Any] = {}
        for own in self._flattened().values():
            found.update(own)
        return list(found)

    @property
    def trainable_weights(self) -> list[Weight]:
        """The weights that an optimizer may change."""
        return [w for w in self.weights if w.trainable]

    @property
    def non_trainable_weights(self) -> list[Weight]:
        """The frozen weights."""
        return [w for w in self.weights if not w.trainable]

    @property
    def trainable(self) -> bool:
        """Whether the weights may change; setting it reaches every sublayer."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer, weights in self._flattened().items():
            layer._trainable = bool(value)
            for weight in weights:
                weight.trainable = layer._trainable and not weight.always_frozen

    def has_trainable_weights(self) -> bool:
        """Whether an optimizer may change anything here."""
        # Every step of training asks: only a custom layer is worth a look at its attributes.
        return (
            any(w.trainable for w in self._weights)
            or any(layer.has_trainable_weights() for layer in self._layers)
            or (self._is_custom and any(w.trainable for w in self.weights))
        )

    def count_params(self) -> int:
        """The number of elements in all weights; ``ValueError`` before the layer is built."""
        if not self.built:
            raise ValueError(f"{self.label} has no weights yet: call it or `build` it first.")
        return sum(w.size for w in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, in the order of `weights`."""
        return [w.numpy() for w in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Copy arrays into the weights, all of them or, on an error, none."""
        own = self.weights
        if len(weights) != len(own):
            built = all(layer.built for layer in self._flattened())
            hint = "" if built else " It is not built yet: call it or `build` it first."
            raise ValueError(
                f"{self.label}: `set_weights` needs {len(own)} arrays, got {len(weights)}.{hint}"
            )
        checked = [w.checked(value) for w, value in zip(own, weights, strict=True)]
        for weight, array in zip(own, checked, strict=True):
            weight.assign(array)

    # ---- calling -----------------------------------------------------------------------------

    def __call__(
        self,
        inputs: Any,
        *,
        training: bool | None = None,
        mask: Any = None,
        initial_state: Any = None,
        context: Context | None = None,
        **keywords: Any,
    ) -> Any:
        """Compute on arrays; on symbolic tensors add the layer to the graph."""
        if self._is_symbolic(inputs) or self._is_symbolic(initial_state):
            given = {"training": training, "mask": mask, "initial_state": initial_state}
            keywords.update((name, value) for name, value in given.items() if value is not None)
            return self._call_symbolically(inputs, keywords)
        for keyword in keywords:
            self._refuse_unless_taken(keyword)
        if initial_state is not None:
            self._refuse_unless_taken("initial_state")
            keywords["initial_state"] = initial_state
        if not self._is_as_before(inputs):
            inputs = self._checked_inputs(inputs)
        names = self._call_signature.names
        if "training" in names:
            keywords["training"] = bool(training)
        if "mask" in names:
            keywords["mask"] = mask
        if "context" in names:
            keywords["context"] = context
        if context is not None:
            context.inputs, context.mask, context.training = inputs, mask, bool(training)
        outputs = self.call(inputs, **keywords)
        if context is not None:
            context.outputs = outputs
            if self.activity_regularizer is not None:
                # Over the batch size, as Keras does, so that it does not matter.
                context.penalties += [
                    self.activity_regularizer(y) / max(1, len(y)) for y in as_list(outputs)
                ]
        return outputs

    def _is_as_before(self, inputs: Any) -> bool:
        """Whether one array comes in the shape and type that were checked last time."""
        return (
            type(inputs) is np.ndarray
            and inputs.shape == self._known_shape
            and inputs.dtype is self._known_dtype
            and self.built
        )

    def _checked_inputs(self, inputs: Any) -> Any:
        """The inputs as arrays that the layer takes; builds the layer for them."""
        if self.casts_inputs:
            inputs = self._cast(inputs)
        else:
            inputs = map_structure(np.asarray, self._arrays(inputs))
        input_shape = map_structure(np.shape, inputs)
        self.check_inputs(input_shape)
        self.ensure_built(input_shape)
        if type(inputs) is np.ndarray:
            self._known_shape, self._known_dtype = input_shape, inputs.dtype
        return inputs

    def differentiate(self, context: Context, dy: Any) -> Any:
        """`backward`, after adding what the penalty on the outputs does to their gradient.

        Whoever calls a layer with a context calls this.
        """
        penalty = self.activity_regularizer
        if penalty is None:
            return self.backward(context, dy)
        outputs = iter(as_list(context.outputs))

        def add_own(arriving: np.ndarray | None) -> np.ndarray:
            y = next(outputs)
            own = penalty.gradient(y) / y.dtype.type(max(1, len(y)))
            return own if arriving is None else arriving + own

        return self.backward(context, map_structure(add_own, dy))

    def has_activity_penalty(self) -> bool:
        """Whether the outputs of this layer, or of one inside it, are regularized."""
        return any(layer.activity_regularizer is not None for layer in self._flattened())

    def call_with_mask(self, inputs: Any, mask: Any, **call: Any) -> tuple[Any, Any]:
        """The outputs for arrays, and the mask of the outputs."""
        outputs = self(inputs, mask=mask, **call)
        return outputs, self.compute_mask(inputs, mask)

    def ensure_built(self, input_shape: Any) -> None:
        """Build the layer for `input_shape` unless that has been done."""
        if not self.built:
            self.build_once(input_shape)

    def build_once(self, input_shape: Any) -> None:
        """Build unless another thread has; on an error the layer is as it was before."""
        with _lock:
            if not self.built:
                self._build_whole(type(self).build, input_shape)

    def _build_whole(self, build: Callable[..., None], *args: Any, **keywords: Any) -> None:
        if args:
            self.check_inputs(args[0])
        before = {**vars(self), "_weights": list(self._weights), "_layers": list(self._layers)}
        self._building = True
        try:
            build(self, *args, **keywords)
        except BaseException:
            # What the attributes hold would count as its own.
            for name in vars(self).keys() - before.keys():
                delattr(self, name)
            vars(self).update(before)
            raise
        self._building = False
        self.built = True
        if not self._trainable:
            self.trainable = False

    def _cast(self, inputs: Any) -> Any:
        dtype = np.dtype(self.dtype)

        def cast(value: Any) -> np.ndarray:
            if type(value) is np.ndarray and value.dtype is dtype:
                return value
            return as_real_array(value, dtype, f"{self.label}: input")

        return map_structure(cast, self._arrays(inputs))

    def _arrays(self, inputs: Any) -> Any:
        """A list of numbers is one array; a list of arrays is several inputs."""
        if isinstance(inputs, (list, tuple)) and not any(
            isinstance(entry, np.ndarray) for entry in inputs
        ):
            return as_array(inputs, f"{self.label}: the input")
        return inputs

    def _refuse_unless_taken(self, keyword: str) -> None:
        signature = self._call_signature
        if keyword not in signature.names and not signature.takes_any:
            raise TypeError(f"{self.label} takes no `{keyword}`.")

    # ---- the graph ---------------------------------------------------------------------------

    @staticmethod
    def _is_symbolic(structure: Any) -> bool:
        if structure is None or type(structure) is np.ndarray:
            return False
        return any(isinstance(entry, SymbolicTensor) for entry in as_list(structure))

    def _call_symbolically(self, inputs: Any, keywords: dict[str, Any]) -> Any:
        tensors = [*as_list(inputs), *as_list(keywords.get("mask", []))]
        for entry in [*tensors, *as_list(keywords.get("initial_state", []))]:
            if not isinstance(entry, SymbolicTensor):
                raise TypeError(
                    f"{self.label}: symbolic and array inputs cannot be mixed, got {type(entry)}: "
                    f"make an Input for each array."
                )
        for keyword in keywords:
            # Every layer may be told these, as when it computes.
            if keyword not in ("training", "mask"):
                self._refuse_unless_taken(keyword)
        shape = map_structure(lambda t: t.shape, inputs)
        self.check_inputs(shape)
        self.ensure_built(shape)
        out_shape = self.compute_output_shape(shape)
        self._ensure_all_built(inputs, keywords)
        node = Node(self, inputs, keywords, None)
        count = itertools.count()
        node.outputs = map_structure_of_shapes(
            lambda s: SymbolicTensor(s, self.dtype, node, next(count)), out_shape
        )
        self._nodes.append(node)
        return node.outputs

    def _ensure_all_built(self, inputs: Any, keywords: dict[str, Any]) -> None:
        """Build the layers inside that only a call builds, so that a model has all its weights."""
        if all(layer.built for layer in self._flattened()):
            return

        def zeros(structure: Any) -> Any:
            if not self._is_symbolic(structure):
                return structure
            return map_structure(
                lambda t: np.zeros([2 if n is None else n for n in t.shape], t.dtype), structure
            )

        self._try(zeros(inputs), **{name: zeros(value) for name, value in keywords.items()})

    def _try(self, inputs: Any, **keywords: Any) -> Any:
        """A call on what are no data: layers begin it without states, and have theirs after it."""
        before = {layer: layer.states for layer in self._stateful_layers()}
        for layer in before:
            layer.states = None
        try:
            return self(inputs, **keywords)
        finally:
            for layer in self._stateful_layers():
                layer.states = before.get(layer)

    def _stateful_layers(self) -> list[Any]:
        return [layer for layer in self._flattened() if layer._keeps_states]

    def _only_node(self, what: str) -> Node:
        if len(self._nodes) != 1:
            raise AttributeError(
                f"{self.label} has no single `{what}`: it was called on symbolic tensors "
                f"{len(self._nodes)} times."
            )
        return self._nodes[0]

    @property
    def input(self) -> Any:
        """The symbolic input of a layer that was used once; ``AttributeError`` otherwise."""
        return self._only_node("input").inputs

    @property
    def output(self) -> Any:
        """The symbolic output of a layer that was used once; ``AttributeError`` otherwise."""
        return self._only_node("output").outputs

    @property
    def input_shape(self) -> Any:
        """The shape of `input`."""
        return map_structure(lambda t: t.shape, self.input)

    @property
    def output_shape(self) -> Any:
        """The shape of `output`."""
        return map_structure(lambda t: t.shape, self.output)

    def _shape_by_running(self, input_shape: Any) -> Any:
        """Run on zeros twice with unlike sizes for the open dimensions: what differs is open."""

        def run(size: int) -> list[tuple[int, ...]]:
            zeros = map_structure_of_shapes(
                lambda s: np.zeros([size if n is None else n for n in s], self.dtype), input_shape
            )
            return [np.shape(y) for y in as_list(self._try(zeros))]

        first, second = run(2), run(3)
        shapes: list[Shape] = [
            tuple(a if a == b else None for a, b in zip(one, two, strict=True))
            for one, two in zip(first, second, strict=True)
        ]
        return shapes[0] if len(shapes) == 1 else shapes
