"""Custom layers made of layers: what attributes hold is trained, frozen, counted and saved."""

import copy
import pickle
import threading

import numpy as np
import pytest
from layer_checks import randomize

import fastlstm
from fastlstm import gradcheck
from fastlstm.layers import (
    LSTM,
    Bidirectional,
    Context,
    Dense,
    Dropout,
    Input,
    Layer,
    TimeDistributed,
)
from fastlstm.layers.base import reset_names
from fastlstm.models import Model, Sequential


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


class Chained(Layer):
    """Layers one behind the other; a subclass says where it keeps them."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.make()

    def make(self):
        self.first, self.second = Dense(3, activation="tanh", dtype=self.dtype), Dense(2)

    def chain(self):
        return [self.first, self.second]

    def call(self, inputs, training=False, context=None):
        children = [context and context.child() for _ in self.chain()]
        for layer, child in zip(self.chain(), children, strict=True):
            inputs = layer(inputs, training=training, context=child)
        if context is not None:
            context.cache = children
        return inputs

    def backward(self, context, dy):
        for layer, child in zip(reversed(self.chain()), reversed(context.cache), strict=True):
            dy = layer.differentiate(child, dy)
        return dy


class InLists(Chained):
    def make(self):
        self.blocks = [[Dense(3)], (Dense(2),)]
        self.blocks.append({"last": Dense(4, activation="tanh")})

    def chain(self):
        (a,), (b,), c = self.blocks
        return [a, b, c["last"]]


class WithWeights(Chained):
    def build(self, input_shape):
        self.first = Dense(3)
        self.steps = self.add_weight((1,), "zeros", name="steps", trainable=False)
        self.scale = self.add_weight((2,), "ones", name="scale")
        self.second = Dense(2)

    def make(self):
        pass

    def call(self, inputs, training=False, context=None):
        y = super().call(inputs, training, context)
        if context is not None:
            context.cache = (context.cache, y)
        return y * self.scale.value

    def backward(self, context, dy):
        context.cache, y = context.cache
        context.add_gradient(self.scale, (dy * y).reshape(-1, 2).sum(axis=0))
        return super().backward(context, dy * self.scale.value)


class ShapeKnown(Chained):
    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2)


class OfModels(Chained):
    def make(self):
        self.first = Sequential([LSTM(3, return_sequences=True), TimeDistributed(Dense(2))])
        x = Input((None, 2))
        self.second = Model(x, LSTM(2)(x))


CUSTOM = [Chained, InLists, WithWeights, ShapeKnown, OfModels]


def ends(cls):
    return [] if cls is OfModels else [LSTM(3)]


def build(cls):
    """A model around a custom layer, with random weights."""
    model = Sequential([Input((4, 3)), cls(name="custom"), *ends(cls), Dense(1)])
    model.compile("adam", "mse")
    randomize(model)
    return model


@pytest.mark.parametrize("cls", CUSTOM)
def test_weights_inside_are_trained_and_their_gradients_are_right(cls):
    fastlstm.set_floatx("float64")
    try:
        layer = cls()
        x = normal(2, 4, 3)
        layer(x)
        randomize(layer)
    finally:
        fastlstm.set_floatx("float32")
    context = Context()
    y = layer(x, context=context)
    dy = normal(*y.shape, seed=5)
    dx = layer.backward(context, dy)
    weights = layer.trainable_weights
    assert set(context.gradients) == set(weights)

    def loss(*arrays):
        for weight, array in zip(weights, arrays, strict=False):
            weight.assign(array)
        found = [context.gradients[w] for w in weights]
        return float((layer(arrays[-1]) * dy).sum()), [*found, dx]

    gradcheck(loss, *[w.numpy() for w in weights], x, rtol=5e-6, atol=1e-8)
    model = build(cls)
    before = [w.numpy() for w in model.trainable_weights]
    model.fit(normal(8, 4, 3), normal(8, 1), epochs=2, verbose=0)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.abs(weight.value - old).max() > 0, weight.path


@pytest.mark.parametrize("cls", CUSTOM)
def test_models_come_back_from_files_with_the_weights_inside(cls, tmp_path):
    model = build(cls)
    path = tmp_path / "model.safetensors"
    x, y = normal(8, 4, 3), normal(8, 1)
    model.fit(x, y, verbose=0)
    model.save(path, include_optimizer=True)
    again = fastlstm.load_model(path)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert list(again.weights_by_path()) == list(model.weights_by_path())
    for each in (model, again):
        each.fit(x, y, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    other = build(cls)
    other.load_weights(path)
    assert (other.predict(x) != model.predict(x)).any()
    model.save_weights(path)
    other.load_weights(path)
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


@pytest.mark.parametrize("cls", CUSTOM)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_weights_of_their_own(cls, copied):
    model = build(cls)
    x, y = normal(8, 4, 3), normal(8, 1)
    twin = copied(model)
    before = model.predict(x)
    np.testing.assert_array_equal(twin.predict(x), before)
    twin.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.predict(x), before)
    assert (twin.predict(x) != before).any()
    fresh = Sequential.from_config(model.get_config())
    assert [w.shape for w in fresh.weights] == [w.shape for w in model.weights]
    assert not set(fresh.weights) & set(model.weights)


def test_files_call_weights_after_attributes_whatever_order_layers_were_made_in(tmp_path):
    path = tmp_path / "model.safetensors"
    x = normal(2, 4, 2).astype("float32")

    class Inner(Layer):
        def __init__(self, **keywords):
            super().__init__(**keywords)
            self.dense = Dense(2)

        def call(self, inputs):
            return self.dense(inputs)

    reset_names()
    second = Inner(name="second")
    model = Sequential([Input((4, 2)), Inner(name="first"), second])
    randomize(model)
    model.save(path)
    reset_names()
    again = fastlstm.load_model(path, custom_objects={"Inner": Inner})
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert list(model.weights_by_path()) == [
        "first/dense/kernel",
        "first/dense/bias",
        "second/dense/kernel",
        "second/dense/bias",
    ]


def test_paths_inside_lists_and_models():
    built = {cls: [*build(cls).layers[0].weights_by_path()] for cls in (InLists, OfModels)}
    assert built[InLists][::2] == [
        "custom/blocks/0/0/kernel",
        "custom/blocks/1/0/kernel",
        "custom/blocks/2/last/kernel",
    ]
    assert built[OfModels] == [
        *(f"custom/first/0/{name}" for name in ("kernel", "recurrent_kernel", "bias")),
        *(f"custom/first/1/0/{name}" for name in ("kernel", "bias")),
        *(f"custom/second/1/{name}" for name in ("kernel", "recurrent_kernel", "bias")),
    ]


def test_order_is_that_of_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    keras = pytest.importorskip("keras")

    def made(base, dense):
        class Custom(base):
            def __init__(self):
                super().__init__()
                self.late = [dense(5)]
                self.early = {"b": dense(2), "a": (dense(3),)}

            def build(self, input_shape):
                self.frozen = self.add_weight((7,), "zeros", name="frozen", trainable=False)
                self.own = self.add_weight((6,), "zeros", name="own")
                self.late.append(dense(4))

            def call(self, inputs):
                for layer in (self.late[1], self.early["b"], self.early["a"][0], self.late[0]):
                    inputs = layer(inputs)
                return inputs

            def compute_output_shape(self, input_shape):
                return (*input_shape[:-1], 5)

        layer = Custom()
        layer(np.ones((2, 3), "float32"))
        return layer

    ours = made(Layer, Dense)
    theirs = made(keras.layers.Layer, keras.layers.Dense)
    # There a layer that joins a list later comes last; here it stands where the list does.
    assert sorted(w.shape for w in ours.weights) == sorted(tuple(w.shape) for w in theirs.weights)
    assert [w.shape for w in ours.weights[:4]] == [tuple(w.shape) for w in theirs.weights[:4]]


def test_what_is_replaced_or_deleted_is_gone_and_what_is_appended_is_there():
    layer = InLists()
    layer(normal(2, 3))
    assert len(layer.weights) == 6
    layer.blocks[0] = [Dense(3)]
    assert len(layer.weights) == 4
    layer(normal(2, 3))
    assert layer.blocks[0][0].kernel in layer.weights
    extra = Dense(2)
    extra.build((None, 3))
    layer.extra = extra
    assert layer.weights[-2:] == extra.weights
    layer.extra = None
    assert len(layer.weights) == 6
    del layer.blocks
    assert layer.weights == []
    layer.any_of = {extra, "text", 3}
    assert layer.weights == extra.weights


def test_freezing_reaches_what_is_inside():
    model = build(InLists)
    custom = model.layers[0]
    custom.trainable = False
    assert not custom.has_trainable_weights()
    assert len(model.trainable_weights) == 5
    before = custom.get_weights()
    model.fit(normal(8, 4, 3), normal(8, 1), verbose=0)
    for got, want in zip(custom.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)
    custom.blocks[0][0].trainable = True
    assert len(model.trainable_weights) == 7
    model.trainable = True
    assert len(model.trainable_weights) == 11
    frozen = WithWeights(trainable=False)
    frozen(normal(2, 3))
    assert frozen.trainable_weights == []
    assert len(frozen.weights) == 6


def test_penalties_inside_count():
    class Penalized(Chained):
        def make(self):
            self.first = Dense(3, kernel_regularizer="l2")
            self.second = Dense(2, activity_regularizer="l2")

    x, y = normal(8, 4, 3).astype("float32"), normal(8, 1).astype("float32")
    model = build(Penalized)
    custom = model.layers[0]
    assert model.has_activity_penalty()
    hidden = custom(x)
    plain = np.square(model.predict(x) - y).mean()
    penalties = 0.01 * (np.square(custom.first.kernel.value).sum() + np.square(hidden).sum() / 8)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain + penalties, rel=1e-5)
    assert model.train_on_batch(x, y) == pytest.approx(plain + penalties, rel=1e-5)


def test_counts_and_summary(capsys):
    model = build(Chained)
    inside = 3 * 3 + 3 + 3 * 2 + 2
    assert model.layers[0].count_params() == inside
    model.summary()
    shown = capsys.readouterr().out
    assert f"(None, 4, 2)              {inside}\n" in shown
    assert f"Total params: {inside + 72 + 4}\n" in shown
    unbuilt = Chained()
    unbuilt.build((None, 3))
    with pytest.raises(ValueError, match=r"needs 0 arrays, got 4. It is not built yet"):
        unbuilt.set_weights([normal(1)] * 4)


def test_a_layer_in_two_custom_layers_counts_once():
    shared = Dense(3)

    class Around(Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.same = inner, [inner]

        def call(self, inputs):
            return self.inner(inputs)

    model = Sequential([Input((3,)), Around(shared), Around(shared)])
    assert model.weights == shared.weights
    assert model.count_params() == 12
    assert len(model.weights_by_path()) == 2


def test_a_layer_may_know_its_model_and_a_list_itself(tmp_path):
    model = build(Chained)
    weights = model.weights
    custom = model.layers[0]
    custom.parent = model
    custom.around = [custom]
    custom.around.append(custom.around)
    assert model.weights == weights
    assert set(custom.weights) == set(weights)
    model.trainable = False
    assert not model.has_trainable_weights()
    model.trainable = True
    assert model.has_trainable_weights()
    assert not model.has_activity_penalty()
    model.reset_states()
    model.fit(normal(8, 4, 3), normal(8, 1), verbose=0)
    model.save(tmp_path / "model.safetensors", include_optimizer=True)
    copy.deepcopy(model)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_shapes_are_found_without_a_trace_in_the_states_inside(bidirectional):
    class Stateful(Chained):
        def make(self):
            self.first = LSTM(3, return_sequences=True, stateful=True, bias_initializer="ones")
            if bidirectional:
                self.first = Bidirectional(self.first)
            self.second = Dense(2)

    custom, x = Stateful(), normal(5, 4, 3)
    assert custom.compute_output_shape((None, 4, 3)) == (None, 4, 2)
    model = Sequential([Input((4, 3), batch_size=5), custom])
    assert custom.first.states is None
    first = model(x)
    states = custom.first.states
    assert custom.compute_output_shape((None, None, 3)) == (None, None, 2)
    custom(Input((4, 3), batch_size=7))
    assert custom.first.states is states or bidirectional
    model.reset_states()
    np.testing.assert_array_equal(model(x), first)


def test_states_and_random_generators_inside_are_found(tmp_path):
    class Inside(Chained):
        def make(self):
            self.first = LSTM(3, stateful=True, return_sequences=True)
            self.second = Dropout(0.5)

    model = Sequential([Input((4, 3), batch_size=2), Inside(name="custom"), Dense(1)])
    model.compile("adam", "mse")
    x, y = normal(2, 4, 3), normal(2, 4, 1)
    first = model.predict(x)
    assert (model.predict(x) != first).any()
    model.reset_states()
    np.testing.assert_array_equal(model.predict(x), first)
    path = tmp_path / "model.safetensors"
    model.save(path, include_optimizer=True)
    model.reset_states()
    again = fastlstm.load_model(path, custom_objects={"Inside": Inside})
    np.testing.assert_array_equal(again.train_on_batch(x, y), model.train_on_batch(x, y))
    np.testing.assert_array_equal(again.train_on_batch(x, y), model.train_on_batch(x, y))


def test_a_failing_build_leaves_no_attributes_behind():
    class Fails(Layer):
        broken = True

        def build(self, input_shape):
            self.inner = Dense(2)
            self.inner.build(input_shape)
            self.own = self.add_weight((2,), name="own")
            if self.broken:
                raise OSError("no")

        def call(self, inputs):
            return self.inner(inputs)

    layer = Fails()
    with pytest.raises(OSError, match="no"):
        layer(normal(2, 3))
    assert layer.weights == []
    assert not hasattr(layer, "inner")
    layer.broken = False
    layer(normal(2, 3))
    assert len(layer.weights) == 3
    weights = layer.weights
    layer.build((None, 3))
    assert layer.weights == weights


@pytest.mark.parametrize("name", ["weights", "trainable_weights", "output", "input", "name"])
def test_what_a_layer_says_of_itself_cannot_be_assigned(name):
    with pytest.raises(AttributeError, match=f"'{name}' of 'Chained' object has no setter"):
        setattr(Chained(), name, Dense(2))


def test_a_layer_is_read_while_other_threads_give_it_attributes():
    layer = Chained()
    layer(normal(2, 3))
    stop, errors = threading.Event(), []

    def assign():
        number = 0
        while not stop.is_set():
            setattr(layer, f"attribute_{number % 50}", [number])
            if number % 50 == 49:
                for k in range(50):
                    delattr(layer, f"attribute_{k}")
            number += 1

    thread = threading.Thread(target=assign)
    thread.start()
    try:
        for _ in range(2000):
            if len(layer.weights) != 4:
                errors.append(len(layer.weights))
    finally:
        stop.set()
        thread.join()
    assert not errors
