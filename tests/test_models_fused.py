"""Losses that meet their own activation at the end of a model give the gradient before it."""

import numpy as np
import pytest

from fastlstm import losses, set_floatx
from fastlstm.gradient_check import numeric_gradient
from fastlstm.layers import (
    LSTM,
    Activation,
    Add,
    Dense,
    Dropout,
    Input,
    Lambda,
    Masking,
    TimeDistributed,
)
from fastlstm.models import Model, Sequential
from fastlstm.optimizers import SGD
from fastlstm.regularizers import L2
from fastlstm.utils import set_random_seed

B, T, F, N = 5, 4, 3, 6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(B, T, F))
X[1, 2:] = 0
LABELS = RNG.integers(0, N, size=(B, T))
TARGETS = {
    "sparse_categorical_crossentropy": LABELS,
    "categorical_crossentropy": np.eye(N)[LABELS],
    "binary_crossentropy": (RNG.random((B, T, N)) < 0.5) * 1.0,
}


@pytest.fixture
def float64():
    set_floatx("float64")
    yield
    set_floatx("float32")


def dense(activation, **keywords):
    return [Dense(N, activation=activation, **keywords)]


def time_distributed(activation, **keywords):
    return [TimeDistributed(Dense(N, activation=activation, **keywords))]


def activation_apart(activation, **keywords):
    return [Dense(N, **keywords), Activation(activation)]


def without_bias_but_penalised(activation, **keywords):
    return [
        Dense(N, activation=activation, use_bias=False, kernel_regularizer="l2", **keywords),
    ]


def the_same_before_and_at_the_end(activation, **keywords):
    layer = Dense(N, activation=activation, **keywords)
    return [Dense(N), layer, layer]


ENDS = [
    dense,
    time_distributed,
    activation_apart,
    without_bias_but_penalised,
    the_same_before_and_at_the_end,
]
KINDS = [
    ("softmax", "sparse_categorical_crossentropy"),
    ("softmax", "categorical_crossentropy"),
    ("sigmoid", "binary_crossentropy"),
]


def chain(end):
    return Sequential([Input((T, F)), LSTM(4, return_sequences=True), *end])


def masked(end):
    return Sequential([Input((T, F)), Masking(), LSTM(4, return_sequences=True), *end])


def functional(end):
    source = Input((T, F))
    hidden = LSTM(4, return_sequences=True)(source)
    y = Add()([hidden, Dense(4)(source)])
    for layer in end:
        y = layer(y)
    return Model(source, y)


def weights_after(model, loss, y, *, rate=1.0, **data):
    """The weights after one step by plain gradients, from where they are."""
    before = model.get_weights()
    model.compile(SGD(rate), loss)
    value = model.train_on_batch(X, y, **data)
    after = model.get_weights()
    model.set_weights(before)
    return value, after


def by_probabilities(name, **arguments):
    """A loss whose gradient is that of the probabilities: it is the program's own."""
    known = type(losses.get(name))

    class Apart(known):
        def gradient(self, y_true, y_pred):
            return super().gradient(y_true, y_pred)

    return Apart(**arguments)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("build", [chain, masked, functional])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("activation", "loss"), KINDS)
def test_gradients_are_those_of_the_loss(build, end, activation, loss):
    set_random_seed(1)
    model, y = build(end(activation)), TARGETS[loss]
    weight = np.random.default_rng(1).uniform(0.5, 2, size=(B, T))
    value, after = weights_after(model, loss, y, sample_weight=weight)
    before = model.get_weights()

    def evaluated(number, weights):
        model.set_weights([*before[:number], weights, *before[number + 1 :]])
        return model.evaluate(X, y, sample_weight=weight, verbose=0)

    assert value == pytest.approx(model.evaluate(X, y, sample_weight=weight, verbose=0), rel=1e-12)
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        numeric = numeric_gradient(lambda w, number=number: evaluated(number, w), old)
        assert np.abs(numeric).max() > 1e-4
        np.testing.assert_allclose(old - new, numeric, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("build", [chain, masked, functional])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("activation", "loss"), KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"reduction": "sum"},
        {"reduction": "mean_with_sample_weight", "weighted": True},
        {"label_smoothing": 0.2, "weighted": True},
    ],
    ids=lambda arguments: "-".join(arguments) or "plain",
)
def test_trains_as_by_probabilities(build, end, activation, loss, dtype, arguments):
    arguments = dict(arguments)
    data = {"sample_weight": np.arange(1.0, 1 + B)} if arguments.pop("weighted", False) else {}
    if loss.startswith("sparse"):
        arguments.pop("label_smoothing", None)
    set_floatx(dtype)
    try:
        model = build(end(activation))
        fused = type(losses.get(loss))(**arguments)
        value, found = weights_after(model, fused, TARGETS[loss], rate=0.1, **data)
        apart = by_probabilities(loss, **arguments)
        plain_value, want = weights_after(model, apart, TARGETS[loss], rate=0.1, **data)
    finally:
        set_floatx("float32")
    close = 2e-6 if dtype == "float32" else 1e-13
    assert value == pytest.approx(plain_value, rel=close)
    for a, b, before in zip(found, want, model.get_weights(), strict=True):
        assert np.abs(a - before).max() > 1e-5
        np.testing.assert_allclose(a, b, rtol=close, atol=close)


def sure_and_wrong(model, loss):
    """Have every output be a probability near 0 of what is true; returns targets."""
    for weight in model.weights:
        if weight.name.endswith("/bias") and weight.shape == (N,):
            weight.assign(np.where(np.arange(N) % 2, 40.0, -40.0))
    return {
        "sparse_categorical_crossentropy": np.zeros((B, T), int),
        "categorical_crossentropy": np.eye(N)[np.zeros((B, T), int)],
        "binary_crossentropy": np.tile((np.arange(N) + 1) % 2 * 1.0, (B, T, 1)),
    }[loss]


def moves(model, loss, y):
    """Whether a step changes weights: by probabilities that are rounded it cannot."""
    before = model.get_weights()
    model.compile(SGD(1.0), loss)
    model.train_on_batch(X, y)
    return any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("build", [chain, masked, functional])
@pytest.mark.parametrize("end", [dense, time_distributed, activation_apart])
@pytest.mark.parametrize(("activation", "loss"), KINDS)
def test_a_model_that_is_sure_and_wrong_learns(build, end, activation, loss):
    model = build(end(activation))
    y = sure_and_wrong(model, loss)
    assert not moves(model, by_probabilities(loss), y)
    assert moves(model, loss, y)


class Own(Dense):
    """Computes by its own words."""

    def call(self, inputs, context=None):
        return super().call(inputs, context=context)


class WithAttribute(Dense):
    last_activation = "softmax"


class WithMethods(Dense):
    """Names of its own, which are not ours."""

    def last_activation(self, number):
        return number

    def stage(self, number):
        return number


def same(y):
    return y


def passed_on(context, dy):
    return dy


def penalised(end, factor):
    return chain([end(Dense(N, activation="softmax", activity_regularizer=L2(factor)))])


def read_elsewhere(source, y):
    return [y, Dense(2)(y)]


def twice(source, y):
    return [y, y]


def inside_another(source, y):
    return [Model(source, y)(source)]


def two_ends():
    source = Input((T, F))
    h = LSTM(4, return_sequences=True)(source)
    return Model(source, [Dense(N, activation="softmax")(h), Dense(2, activation="sigmoid")(h)])


def branched(outputs):
    source = Input((T, F))
    y = Dense(N, activation="softmax")(LSTM(4, return_sequences=True)(source))
    return Model(source, outputs(source, y))


# Models where the gradient of the probabilities is wanted for themselves, and their losses.
APART = {
    "a penalty": lambda: penalised(lambda layer: layer, 0.0),
    "a penalty inside": lambda: penalised(TimeDistributed, 0.0),
    "a class of the program": lambda: chain([Own(N, activation="softmax")]),
    "an attribute of the program": lambda: chain([WithAttribute(N, activation="softmax")]),
    "methods of the program": lambda: chain([WithMethods(N, activation="softmax")]),
    "another layer behind": lambda: chain([*dense("softmax"), Dropout(0.0)]),
    "a function behind": lambda: chain([*dense("softmax"), Lambda(same, backward=passed_on)]),
    "another activation": lambda: chain(dense("sigmoid")),
    "read elsewhere": lambda: branched(read_elsewhere),
    "twice": lambda: branched(twice),
    "inside another": lambda: branched(inside_another),
}


@pytest.mark.parametrize("name", APART)
@pytest.mark.parametrize(("activation", "loss"), KINDS[:2])
def test_the_gradient_of_probabilities_where_it_is_wanted(name, activation, loss):
    model = APART[name]()
    y = sure_and_wrong(model, loss)
    wanted = [loss, *[loss if name == "twice" else None] * (len(model.outputs) - 1)]
    targets = [y, *[y if each else None for each in wanted[1:]]]
    if len(wanted) == 1:
        wanted, targets = loss, y
    assert not moves(model, wanted, targets)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (lambda: penalised(lambda layer: layer, 0.3), "categorical_crossentropy"),
        (lambda: penalised(TimeDistributed, 0.3), "categorical_crossentropy"),
        (lambda: branched(read_elsewhere), ["categorical_crossentropy", "mse"]),
        (lambda: branched(twice), ["categorical_crossentropy", "mse"]),
        (lambda: branched(inside_another), "categorical_crossentropy"),
        (two_ends, ["categorical_crossentropy", "binary_crossentropy"]),
    ],
)
def test_gradients_of_models_with_more_than_one_use_of_an_output(model, wanted):
    set_random_seed(1)
    model = model()
    y = [RNG.uniform(size=(B, *tensor.shape[1:])) for tensor in model.outputs]
    shares = None if len(y) == 1 else [0.5, 3.0]
    before = model.get_weights()
    model.compile(SGD(1.0), wanted, loss_weights=shares)
    model.train_on_batch(X, y)
    after = model.get_weights()

    def evaluated(number, weights):
        model.set_weights([*before[:number], weights, *before[number + 1 :]])
        return model.evaluate(X, y, verbose=0, return_dict=True)["loss"]

    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        numeric = numeric_gradient(lambda w, number=number: evaluated(number, w), old)
        assert np.abs(numeric).max() > 1e-4
        np.testing.assert_allclose(old - new, numeric, rtol=1e-5, atol=1e-9)


def test_an_activation_set_between_two_fits_counts():
    model = chain(dense("softmax"))
    loss = "categorical_crossentropy"
    y = sure_and_wrong(model, loss)
    assert moves(model, loss, y)
    sure_and_wrong(model, loss)
    model.layers[-1].activation = "sigmoid"
    assert not moves(model, loss, y)
