"""Random models, as recipes that fastlstm and Keras can both follow, with data to train them on.

Whoever asks for a recipe brings the dice: `Hypothesis`, which makes a recipe that fails smaller, or
`random.Random`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

VOCABULARY = 5
# Names alone and what they are called with; few, since each shall be met often.
ACTIVATIONS = ["linear", "tanh", "relu", "sigmoid", "elu", "softmax"]
GATES = ["sigmoid", "hard_sigmoid"]
MERGING = ["Add", "Average", "Multiply", "Concatenate"]
LOSSES: list[tuple[str, dict[str, Any]]] = [
    ("MeanSquaredError", {}),
    ("MeanSquaredError", {"reduction": "sum"}),
    ("MeanAbsoluteError", {}),
    ("Huber", {"delta": 0.5}),
    ("BinaryCrossentropy", {"from_logits": True}),
]
# What belongs to the activation at the end of a model, whose derivative it need not have.
LOSSES_OF_ACTIVATION: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "sigmoid": [("BinaryCrossentropy", {}), ("BinaryCrossentropy", {"label_smoothing": 0.1})],
    "softmax": [
        ("CategoricalCrossentropy", {}),
        ("CategoricalCrossentropy", {"label_smoothing": 0.1, "reduction": "sum"}),
    ],
}
# With an epsilon that a gradient of pure rounding error does not reach.
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"learning_rate": 0.05}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"learning_rate": 0.01, "epsilon": 1e-3}),
    ("AdamW", {"learning_rate": 0.01, "epsilon": 1e-3}),
    ("RMSprop", {"learning_rate": 0.01, "epsilon": 1e-3}),
    ("Adagrad", {"learning_rate": 0.05}),
    ("SGD", {"learning_rate": 0.05, "clipnorm": 0.1}),
]

Pick = Callable[[Sequence[Any]], Any]
Shape = tuple[int, ...]


class LayerRecipe(NamedTuple):
    """A layer: its class, its arguments, and the number of the layer inside it."""

    kind: str
    arguments: dict[str, Any]
    inner: int | None = None


class Call(NamedTuple):
    """One use of a layer on tensors, which are numbered: the inputs, then every output."""

    layer: int
    inputs: list[int]
    states: list[int]


class Recipe(NamedTuple):
    """A model with several inputs and outputs, how it is compiled, and its data."""

    dtype: str
    batch: int
    batch_is_known: bool
    inputs: list[Shape]  # of each sample; (T,) are tokens
    layers: list[LayerRecipe]
    calls: list[Call]
    outputs: list[int]
    losses: list[tuple[str, dict[str, Any]] | None]
    loss_weights: list[float] | None
    weighted: str  # "", "samples", "steps"
    optimizer: tuple[str, dict[str, Any]]
    seed: int


class _Drawing:
    """A recipe that is being drawn."""

    def __init__(self, pick: Pick, stateful: Sequence[str]) -> None:
        self.pick = pick
        self.steps = pick([3, 4])
        self.is_chain = pick([True, False])
        self.stateful = "" if self.is_chain else pick(["", "", "", *stateful])
        self.inputs: list[Shape] = []
        self.shapes: list[Shape] = []
        self.layers: list[LayerRecipe] = []
        self.calls: list[Call] = []
        self.states: list[tuple[int, int]] = []  # h and c that LSTMs returned

    def size(self) -> int:
        return self.pick([2, 1, 3])

    def activity_regularizer(self) -> str | None:
        return None if self.is_chain else self.rarely("l2")

    def rarely(self, value: Any, otherwise: Any = None) -> Any:
        return self.pick([otherwise] * 5 + [value])

    def add(self, layer: LayerRecipe) -> int:
        self.layers.append(layer)
        return len(self.layers) - 1

    def call(
        self, layer: int, inputs: Sequence[int], *shapes: Shape, states: Sequence[int] = ()
    ) -> int:
        """The number of the first output."""
        self.calls.append(Call(layer, list(inputs), list(states)))
        self.shapes.extend(shapes)
        return len(self.shapes) - len(shapes)

    def tensors(self, rank: int) -> list[int]:
        """The latest first: most models are chains."""
        places = [k for k, shape in enumerate(self.shapes) if len(shape) == rank]
        tokens = [k for k, shape in enumerate(self.inputs) if len(shape) == 1]
        return [k for k in reversed(places) if k not in tokens]

    def add_input(self) -> None:
        sequence = (self.steps, self.size())
        self.inputs.append(sequence if self.is_chain else self.pick([sequence, (self.steps,)]))
        self.shapes.append(self.inputs[-1])

    # ---- what may come next: each takes a tensor of some rank --------------------------------

    def embed(self, x: int) -> None:
        width = self.size()
        arguments = {
            "input_dim": VOCABULARY,
            "output_dim": width,
            "mask_zero": self.pick([True, False]),
        }
        self.call(self.add(LayerRecipe("Embedding", arguments)), [x], (self.steps, width))

    def recurrent_arguments(self, units: int) -> dict[str, Any]:
        return {
            "units": units,
            "activation": self.pick(["tanh", "relu", "linear"]),
            "recurrent_activation": self.pick(GATES),
            "use_bias": self.pick([True, False]),
            "return_sequences": self.pick([False, True]),
            "go_backwards": self.rarely(True, False),
            "zero_output_for_mask": self.rarely(True, False),
            "stateful": bool(self.stateful),
            "trainable": self.rarely(False, True),
            "kernel_regularizer": self.rarely("l2"),
            "activity_regularizer": self.activity_regularizer(),
            "recurrent_constraint": self.rarely("unit_norm"),
        }

    def lstm(self, x: int) -> None:
        start = () if self.is_chain else self.pick([(), (), *self.states])
        arguments = self.recurrent_arguments(self.shapes[start[0]][0] if start else self.size())
        state = (arguments["units"],)
        y = (self.steps, *state) if arguments["return_sequences"] else state
        returns_state = not self.is_chain and self.rarely(True, False)
        arguments["return_state"] = returns_state
        layer = self.add(LayerRecipe("LSTM", arguments))
        if returns_state:
            first = self.call(layer, [x], y, state, state, states=start)
            self.states.append((first + 1, first + 2))
        else:
            self.call(layer, [x], y, states=start)

    def bidirectional(self, x: int) -> None:
        arguments = {**self.recurrent_arguments(self.size()), "go_backwards": False}
        units, mode = arguments["units"], self.pick(["concat", "sum", "mul", "ave", None])
        inner = self.add(LayerRecipe("LSTM", arguments))
        layer = self.add(LayerRecipe("Bidirectional", {"merge_mode": mode}, inner))
        width = 2 * units if mode == "concat" else units
        y = (self.steps, width) if arguments["return_sequences"] else (width,)
        self.call(layer, [x], *([y] if mode is not None else [y, y]))

    def dense_arguments(self) -> dict[str, Any]:
        return {
            "units": self.size(),
            "activation": self.pick(ACTIVATIONS),
            "use_bias": self.pick([True, False]),
            "trainable": self.rarely(False, True),
            "kernel_regularizer": self.rarely("l2"),
            "activity_regularizer": self.activity_regularizer(),
            "kernel_constraint": self.rarely("max_norm"),
        }

    def dense(self, x: int) -> None:
        arguments = self.dense_arguments()
        layer = self.add(LayerRecipe("Dense", arguments))
        self.call(layer, [x], (*self.shapes[x][:-1], arguments["units"]))

    def time_distributed(self, x: int) -> None:
        """Of a dense layer of its own, or one that is used elsewhere too."""
        known = [
            call.layer
            for call in self.calls
            if self.layers[call.layer].kind == "Dense"
            and self.shapes[call.inputs[0]][-1] == self.shapes[x][-1]
        ]
        inner = self.pick([None, *known])
        if inner is None:
            inner = self.add(LayerRecipe("Dense", self.dense_arguments()))
        layer = self.add(LayerRecipe("TimeDistributed", {}, inner))
        self.call(layer, [x], (self.steps, self.layers[inner].arguments["units"]))

    def repeat(self, x: int) -> None:
        layer = self.add(LayerRecipe("RepeatVector", {"n": self.steps}))
        self.call(layer, [x], (self.steps, *self.shapes[x]))

    def one_to_one(self, x: int) -> None:
        """A layer without a size of its own."""
        kinds = {
            "Dropout": {"rate": 0.0},
            "LayerNormalization": {},
            "Activation": {"activation": "tanh"},
        }
        if len(self.shapes[x]) == 2:
            kinds["Masking"] = {}
        kind = self.pick(sorted(kinds))
        self.call(self.add(LayerRecipe(kind, kinds[kind])), [x], self.shapes[x])

    def merge(self, x: int) -> None:
        shape, kind = self.shapes[x], self.pick(MERGING)
        others = [
            k
            for k in self.tensors(len(shape))
            if self.shapes[k] == shape
            or (kind == "Concatenate" and self.shapes[k][:-1] == shape[:-1])
        ]
        inputs = [x, self.pick(others)]
        if kind == "Concatenate":
            shape = (*shape[:-1], sum(self.shapes[k][-1] for k in inputs))
        self.call(self.add(LayerRecipe(kind, {})), inputs, shape)

    def again(self, x: int) -> None:
        """A layer that has been used already; not one with several inputs or outputs."""
        known = []
        for number, call in enumerate(self.calls):
            count = len(self._outputs_of(number))
            if (
                self.shapes[call.inputs[0]] == self.shapes[x]
                and len(call.inputs) == count == 1
                and call.inputs[0] >= len(self.inputs) - 1
            ):
                known.append(number)
        if not known:
            return self.dense(x)
        number = self.pick(known)
        shape = self.shapes[self._outputs_of(number)[0]]
        self.call(self.calls[number].layer, [x], shape)
        return None

    def _outputs_of(self, number: int) -> list[int]:
        return outputs_of(self.calls, self.layers, len(self.inputs))[number]

    # ---- the whole ---------------------------------------------------------------------------

    def draw(self) -> Recipe:
        for _ in range(1 if self.is_chain else self.pick([1, 1, 2])):
            self.add_input()
        for number, shape in enumerate(self.inputs):
            if len(shape) == 1:
                self.embed(number)
        for _ in range(self.pick([2, 1, 3, 4, 5, 6])):
            self.grow()
        outputs = self._choose_outputs()
        count = len(outputs)
        losses = [self.pick(self._losses_for(output)) for output in outputs]
        if count > 1:
            losses[-1] = self.rarely(None, losses[-1])
        return Recipe(
            dtype=self.pick(["float64", "float32"]),
            batch=self.pick([2, 3, 5]),
            batch_is_known=self.stateful == "known",
            inputs=self.inputs,
            layers=self.layers,
            calls=self.calls,
            outputs=outputs,
            losses=losses,
            loss_weights=[self.pick([1.0, 0.5, 2.0]) for _ in outputs],
            weighted=self.pick(["", "samples", "steps"]),
            optimizer=self.pick(OPTIMIZERS),
            seed=self.pick(range(100)),
        )

    def grow(self) -> None:
        """One more layer."""
        if self.is_chain:
            x = len(self.shapes) - 1
            is_sequence = len(self.shapes[x]) == 2
            options = [self.lstm, self.time_distributed] if is_sequence else [self.repeat]
            self.pick([*options, self.dense, self.again])(x)
            return
        rank = self.pick([r for r in (2, 1) if self.tensors(r)])
        options = [self.lstm, self.time_distributed, self.bidirectional]
        options = options if rank == 2 else [self.repeat]
        anything = [self.dense, self.one_to_one, self.merge, self.again]
        self.pick([*options, *anything])(self.pick(self.tensors(rank)))

    def _choose_outputs(self) -> list[int]:
        """The last tensor, perhaps another one; a dense layer behind what has no weights."""
        last = len(self.shapes) - 1
        if not self.calls or not self._trains(last):
            layer = self.add(LayerRecipe("Dense", {"units": 2}))
            last = self.call(layer, [last], (*self.shapes[last][:-1], 2))
        others = [k for k in range(len(self.inputs), last) if self._trains(k)]
        if self.is_chain:
            return [last]
        return [last, *self.pick([[], [], *([k] for k in others)])]

    def _losses_for(self, output: int) -> list[tuple[str, dict[str, Any]]]:
        made = outputs_of(self.calls, self.layers, len(self.inputs))
        (maker,) = (call for call, found in zip(self.calls, made, strict=True) if output in found)
        activation = self._with_inner(maker.layer)[-1].arguments.get("activation")
        return LOSSES_OF_ACTIVATION.get(activation, []) + LOSSES

    def _trains(self, tensor: int) -> bool:
        """Whether some trainable weight leads there."""
        needed = needed_calls(self.calls, self.layers, len(self.inputs), [tensor])
        kinds = ("LSTM", "Dense", "Embedding")
        return any(
            layer.kind in kinds and layer.arguments.get("trainable", True)
            for number in needed
            for layer in self._with_inner(self.calls[number].layer)
        )

    def _with_inner(self, number: int) -> list[LayerRecipe]:
        layer = self.layers[number]
        return [layer] if layer.inner is None else [layer, self.layers[layer.inner]]


def draw_recipe(pick: Pick, stateful: Sequence[str] = ("known", "unknown")) -> Recipe:
    """A recipe, every choice of which is made by ``pick(options)``; simpler options come first."""
    return _Drawing(pick, stateful).draw()


def random_recipe(seed: int, stateful: Sequence[str] = ("known",)) -> Recipe:
    """The recipe number `seed`."""
    return draw_recipe(random.Random(seed).choice, stateful)


# ---- following a recipe --------------------------------------------------------------------------


def outputs_of(calls: list[Call], layers: list[LayerRecipe], inputs: int) -> list[list[int]]:
    """The numbers of the tensors that each call gives."""
    found, start = [], inputs
    for call in calls:
        layer = layers[call.layer]
        count = 3 if layer.arguments.get("return_state") else 1
        if layer.kind == "Bidirectional" and layer.arguments["merge_mode"] is None:
            count = 2
        found.append(list(range(start, start + count)))
        start += count
    return found


def needed_calls(
    calls: list[Call], layers: list[LayerRecipe], inputs: int, outputs: list[int]
) -> list[int]:
    """The numbers of the calls without which there are no `outputs`."""
    wanted, needed = set(outputs), []
    given = outputs_of(calls, layers, inputs)
    for number in reversed(range(len(calls))):
        if wanted & set(given[number]):
            needed.append(number)
            wanted |= {*calls[number].inputs, *calls[number].states}
    return needed[::-1]


def alone(entries: list[Any] | None) -> Any:
    """One entry without its list, which Keras takes for something else."""
    return entries[0] if entries is not None and len(entries) == 1 else entries


def build(recipe: Recipe, library: Any) -> Any:
    """The compiled model in `library`, `fastlstm` or `keras`."""
    made: dict[int, Any] = {}

    def layer(number: int) -> Any:
        if number not in made:
            kind, arguments, inner = recipe.layers[number]
            wrapped = [] if inner is None else [layer(inner)]
            made[number] = getattr(library.layers, kind)(*wrapped, **arguments)
        return made[number]

    count = len(recipe.inputs)
    needed = needed_calls(recipe.calls, recipe.layers, count, recipe.outputs)
    read = {k for number in needed for k in recipe.calls[number].inputs}
    batch = recipe.batch if recipe.batch_is_known else None
    tensors = {
        k: library.layers.Input(
            shape=shape, batch_size=batch, dtype="int32" if len(shape) == 1 else recipe.dtype
        )
        for k, shape in enumerate(recipe.inputs)
        if k in read
    }
    inputs = list(tensors.values())
    given = outputs_of(recipe.calls, recipe.layers, count)
    for number in needed:
        call = recipe.calls[number]
        x = [tensors[k] for k in call.inputs]
        start = {"initial_state": [tensors[k] for k in call.states]} if call.states else {}
        y = layer(call.layer)(x if len(x) > 1 else x[0], **start)
        several = isinstance(y, list | tuple)
        tensors.update(zip(given[number], y if several else [y], strict=True))
    model = library.models.Model(alone(inputs), alone([tensors[k] for k in recipe.outputs]))
    name, arguments = recipe.optimizer
    model.compile(
        optimizer=getattr(library.optimizers, name)(**arguments),
        loss=alone(
            [
                None if loss is None else getattr(library.losses, loss[0])(**loss[1])
                for loss in recipe.losses
            ]
        ),
        loss_weights=recipe.loss_weights,
    )
    return model


class Data(NamedTuple):
    """What a model is trained on: lists with an entry for each input or output."""

    x: list[np.ndarray]
    y: list[np.ndarray]
    sample_weight: list[np.ndarray] | None


def data_for(recipe: Recipe, output_shapes: Sequence[Sequence[int | None]]) -> Data:
    """Random data; a quarter of the steps are zero, as Masking and Embedding want them."""
    rng = np.random.default_rng(recipe.seed)
    needed = needed_calls(recipe.calls, recipe.layers, len(recipe.inputs), recipe.outputs)
    read = {k for number in needed for k in recipe.calls[number].inputs}
    x = []
    for k, shape in enumerate(recipe.inputs):
        counts = rng.random((recipe.batch, shape[0])) > 0.25
        if len(shape) == 1:
            values = rng.integers(1, VOCABULARY, counts.shape) * counts
        else:
            values = rng.normal(size=(recipe.batch, *shape)) * counts[:, :, None]
        if k in read:
            x.append(values.astype("int32" if len(shape) == 1 else recipe.dtype))
    y = [rng.random((recipe.batch, *shape[1:])).astype(recipe.dtype) for shape in output_shapes]
    if not recipe.weighted:
        return Data(x, y, None)
    ranks = [len(shape) if recipe.weighted == "steps" else 2 for shape in output_shapes]
    weights = [
        rng.uniform(0.1, 2, each.shape[: rank - 1]) for each, rank in zip(y, ranks, strict=True)
    ]
    return Data(x, y, [weight.astype(recipe.dtype) for weight in weights])


def randomize(model: Any, seed: int) -> None:
    """Weights that are all different and not zero."""
    rng = np.random.default_rng(seed)
    model.set_weights([0.7 * rng.normal(size=w.shape) for w in model.get_weights()])
