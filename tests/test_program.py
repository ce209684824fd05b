"""A program computes exactly what calling every layer does, and knows when it is out of date."""

import copy
import json
import pickle

import numpy as np
import pytest

import fastlstm
from fastlstm import set_floatx
from fastlstm.gradient_check import numeric_gradient
from fastlstm.layers import (
    LSTM,
    Bidirectional,
    Dense,
    Input,
    RepeatVector,
    TimeDistributed,
)
from fastlstm.models import Model, Sequential
from fastlstm.optimizers import SGD
from fastlstm.program import program
from fastlstm.utils import set_random_seed


def call_every_layer(graph, **use):
    """In place of `describe`: no layer is a native op."""
    return [None] * len(graph.steps)


def native_layers(model, use="train"):
    """The classes of the layers that a program computes itself."""
    return [type(step.layer).__name__ for part in model._programs[use].parts for step in part.steps]


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def last_output():
    return [Input((4, 3)), LSTM(5), Dense(2, activation="tanh")]


def autoencoder():
    return [
        Input((4, 3)),
        LSTM(5, activation="relu", go_backwards=True),
        RepeatVector(4),
        LSTM(6, return_sequences=True, use_bias=False),
        TimeDistributed(Dense(3, kernel_regularizer="l2")),
    ]


def frozen_in_front():
    return [Input((4, 3)), LSTM(5, return_sequences=True, trainable=False), LSTM(4), Dense(1)]


def clipped():
    return [Input((4, 3)), LSTM(5, kernel_constraint="unit_norm"), Dense(2)]


CHAINS = [last_output, autoencoder, frozen_in_front, clipped]


def train(layers, loss="mse"):
    set_random_seed(3)
    model = Sequential(layers())
    model.compile("adam", loss, metrics=["mae"])
    x = normal(10, 4, 3)
    y = normal(*model.predict(x).shape, seed=1)
    history = model.fit(
        x, y, batch_size=4, epochs=3, verbose=0, sample_weight=np.arange(1.0, 11.0)
    ).history
    return model, history


@pytest.mark.parametrize("layers", CHAINS)
@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_trains_as_calling_every_layer_does(layers, loss, monkeypatch):
    model, history = train(layers, loss)
    assert len(native_layers(model)) == len(model.layers)
    monkeypatch.setattr(program, "describe", call_every_layer)
    plain, plain_history = train(layers, loss)
    assert not native_layers(plain)
    assert history == plain_history
    for found, want in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(found, want)


def test_frozen_weights_stay():
    set_random_seed(3)
    before = Sequential(frozen_in_front()).get_weights()[0]
    model, _ = train(frozen_in_front)
    np.testing.assert_array_equal(model.get_weights()[0], before)


class Doubled(LSTM):
    """Overrides what its op would leave out."""

    def call(self, inputs, context=None):
        return 2 * super().call(inputs, context=context)

    def backward(self, context, dy):
        return super().backward(context, 2 * dy)


@pytest.mark.parametrize(
    "layers",
    [
        [Input((4, 3)), Doubled(5)],
        [Input((4, 3)), LSTM(5, recurrent_dropout=0.5)],
        [Input((4, 3), batch_size=2), LSTM(5, stateful=True)],
        [Input((4, 3)), LSTM(5, activity_regularizer="l2")],
        [Input((4, 3)), Bidirectional(Doubled(5))],
    ],
    ids=lambda layers: type(layers[1]).__name__,
)
def test_what_is_more_than_an_op_is_called(layers):
    model = Sequential(layers)
    model.compile("sgd", "mse")
    x = np.ones((2, *model.inputs[0].shape[1:]))
    model.train_on_batch(x, np.zeros(model.predict(x, batch_size=2).shape))
    assert not native_layers(model)


def test_an_op_takes_layers_whose_own_attributes_are_named_like_methods():
    class Operated(LSTM):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            self.op = "on a patient"

    model = Sequential([Input((4, 3)), Operated(5)])
    model.compile("sgd", "mse")
    model.train_on_batch(normal(2, 4, 3), normal(2, 5))
    assert native_layers(model) == ["Operated"]


def test_a_method_that_a_layer_has_of_its_own_is_called():
    layer = Dense(3)
    model = Sequential([Input((4, 3)), layer])
    x = normal(2, 4, 3).astype("float32")
    before = model.predict(x)
    layer.call = lambda inputs, context=None: 2 * Dense.call(layer, inputs, context)
    np.testing.assert_array_equal(model.predict(x), 2 * before)


CHANGES = {
    "activation": lambda layer: setattr(layer, "activation", "relu"),
    "recurrent_activation": lambda layer: setattr(layer, "recurrent_activation", "hard_sigmoid"),
    "go_backwards": lambda layer: setattr(layer, "go_backwards", True),
    "weights": lambda layer: layer.set_weights([2 * w for w in layer.get_weights()]),
    "dropout": lambda layer: setattr(layer, "dropout", 0.5),
    "trainable": lambda layer: setattr(layer, "trainable", False),
    "regularizer": lambda layer: setattr(layer, "activity_regularizer", fastlstm.regularizers.L2()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_program_heeds_what_changes_in_its_layers(change, monkeypatch):
    def run(plainly):
        set_random_seed(5)
        model = Sequential([Input((4, 3)), LSTM(5, return_sequences=True), LSTM(4), Dense(2)])
        model.compile("adam", "mse")
        x, y = normal(6, 4, 3), normal(6, 2, seed=1)
        found = []
        with monkeypatch.context() as patch:
            if plainly:
                patch.setattr(program, "describe", call_every_layer)
            for _ in range(2):
                found += [model.predict(x), model.evaluate(x, y, verbose=0)]
                found += [model.fit(x, y, verbose=0).history["loss"], *model.get_weights()]
                change(model.layers[0])
        return found

    for found, want in zip(run(False), run(True), strict=True):
        np.testing.assert_array_equal(found, want)


def test_branched_layers_are_one_part():
    source = Input((4, 3))
    model = Model(source, [Dense(3)(source), Dense(1)(source)])
    model.compile("sgd", "mse")
    y = [np.zeros((2, *t.shape[1:])) for t in model.outputs]
    model.train_on_batch(np.ones((2, 4, 3)), y)
    assert native_layers(model) == ["Dense", "Dense"]
    assert len(model._programs["train"].parts) == 1


def twice():
    layer = Dense(3, activation="tanh")
    return [Input((4, 3)), layer, layer]


def twice_around_another():
    layer = LSTM(3, return_sequences=True)
    return [Input((4, 3)), layer, Dense(3), layer]


def beside_its_time_distributed():
    layer = Dense(3, activation="tanh", kernel_regularizer="l2")
    return [Input((4, 3)), layer, TimeDistributed(layer)]


def in_two_time_distributed():
    layer = Dense(3, activation="sigmoid")
    recurrent = LSTM(3, return_sequences=True)
    return [Input((4, 3)), TimeDistributed(layer), recurrent, TimeDistributed(layer)]


SHARED = [twice, twice_around_another, beside_its_time_distributed, in_two_time_distributed]


@pytest.fixture
def float64():
    set_floatx("float64")
    yield
    set_floatx("float32")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layers", SHARED)
def test_a_layer_in_two_places_trains_by_the_sum_of_both_gradients(layers, monkeypatch):
    set_random_seed(3)
    model = Sequential(layers())
    x, y = normal(5, 4, 3), normal(5, 4, 3, seed=1)
    before = model.get_weights()

    def loss(*weights):
        model.set_weights(weights)
        return model.evaluate(x, y, verbose=0)

    def gradients():
        model.set_weights(before)
        model.compile(SGD(1.0), "mse")
        model.train_on_batch(x, y)
        return [old - new for old, new in zip(before, model.get_weights(), strict=True)]

    by_ops = gradients()
    assert len(native_layers(model)) == len(model.graph.steps)
    monkeypatch.setattr(program, "describe", call_every_layer)
    by_calls = gradients()
    assert not native_layers(model)
    for number, (found, want) in enumerate(zip(by_ops, by_calls, strict=True)):
        np.testing.assert_array_equal(found, want)

        def moved(weight, number=number):
            return loss(*before[:number], weight, *before[number + 1 :])

        numeric = numeric_gradient(moved, before[number])
        assert np.abs(numeric).max() > 1e-3
        np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layers", SHARED)
def test_a_layer_in_two_places_stays_one_in_files_configs_and_copies(layers, tmp_path):
    set_random_seed(3)
    model = Sequential(layers())
    model.compile(SGD(0.5), "mse")
    x, y = normal(5, 4, 3), normal(5, 4, 3, seed=1)
    model.fit(x, y, verbose=0)
    path = tmp_path / "model.safetensors"
    model.save(path)
    twins = [
        fastlstm.load_model(path),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        Sequential.from_config(json.loads(json.dumps(model.get_config()))),
    ]
    twins[-1].set_weights(model.get_weights())
    twins[-1].compile(SGD(0.5), "mse")
    want = model.fit(x, y, verbose=0, epochs=2).history
    for twin in twins:
        assert len(twin.layers) == len(model.layers)
        assert twin.count_params() == model.count_params()
        assert twin.fit(x, y, verbose=0, epochs=2).history == want


def test_a_trained_model_copies_and_pickles():
    model, _ = train(autoencoder)
    x = normal(2, 4, 3)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin.predict(x), model.predict(x))
        twin.fit(x, x, verbose=0)
        assert np.abs(twin.predict(x) - model.predict(x)).max() > 0


def test_new_weights_are_used_at_once():
    layer = LSTM(4)
    x = normal(2, 3, 5).astype("float32")
    before = layer(x)
    np.testing.assert_array_equal(layer(x), before)
    layer.set_weights([2 * weight for weight in layer.get_weights()])
    fresh = LSTM(4)
    fresh.build(x.shape)
    fresh.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(x), fresh(x))
    assert np.abs(layer(x) - before).max() > 1e-3
    with pytest.raises(ValueError, match="read-only"):
        layer.kernel.value[...] = 0
