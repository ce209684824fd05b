"""Graphs: any shape of them, gradients through all, masks, shared and nested layers."""

import copy
import functools
import pickle
import sys

import numpy as np
import pytest
from layer_checks import randomize

from fastlstm import gradcheck
from fastlstm.gradient_check import numeric_gradient
from fastlstm.layers import (
    LSTM,
    Add,
    Bidirectional,
    Concatenate,
    Context,
    Dense,
    Dropout,
    Embedding,
    Input,
    Lambda,
    Layer,
    Masking,
    RepeatVector,
    TimeDistributed,
)
from fastlstm.models import Model, Sequential
from fastlstm.regularizers import L2


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def check_model_gradients(model, inputs):
    """Every weight and input of a float64 model against central differences."""
    randomize(model)
    context = Context()
    outputs = model(inputs if len(inputs) > 1 else inputs[0], context=context)
    single = not isinstance(outputs, list)
    dys = [normal(*y.shape, seed=7) for y in ([outputs] if single else outputs)]
    dx = model.backward(context, dys[0] if single else dys)
    dx = dx if isinstance(dx, list) else [dx]
    weights = model.weights

    def loss(*arrays):
        model.set_weights(arrays[: len(weights)])
        xs = list(arrays[len(weights) :])
        found = model(xs if len(xs) > 1 else xs[0])
        found = found if isinstance(found, list) else [found]
        value = sum(float((y * dy).sum()) for y, dy in zip(found, dys, strict=True))
        return value, [context.gradients[w] for w in weights] + dx

    gradcheck(loss, *model.get_weights(), *inputs, rtol=5e-6, atol=1e-8)


def dense(units, **keywords):
    return Dense(units, dtype="float64", **keywords)


def lstm(units, **keywords):
    return LSTM(units, dtype="float64", **keywords)


def test_shared_layers_and_several_inputs_and_outputs():
    a, b = Input(shape=(3, 2)), Input(shape=(4, 2))
    shared = lstm(3)
    left, right = shared(a), shared(b)
    both = Concatenate(dtype="float64")([left, right])
    model = Model([a, b], [dense(2)(both), Add(dtype="float64")([left, right])])
    assert len(model.weights) == 5
    check_model_gradients(model, [normal(2, 3, 2), normal(2, 4, 2)])


def test_diamond_and_reuse_of_a_tensor():
    x = Input(shape=(3,))
    top = dense(4, activation="tanh")(x)
    joined = Add(dtype="float64")([dense(4)(top), top, dense(4, activation="sigmoid")(top)])
    check_model_gradients(Model(x, joined), [normal(3, 3)])


def test_encoder_decoder_with_initial_state():
    source, target = Input(shape=(5, 3)), Input(shape=(4, 2))
    _, h, c = lstm(4, return_state=True)(source)
    decoded = lstm(4, return_sequences=True)(target, initial_state=[h, c])
    model = Model([source, target], TimeDistributed(dense(2))(decoded))
    check_model_gradients(model, [normal(2, 5, 3), normal(2, 4, 2)])


def test_states_alone_as_outputs():
    x = Input(shape=(3, 2))
    _, h, c = lstm(3, return_state=True)(x)
    check_model_gradients(Model(x, [c, h]), [normal(2, 3, 2)])


def test_models_inside_models():
    inner_input = Input(shape=(3, 2))
    inner = Model(inner_input, [lstm(3)(inner_input), lstm(2)(inner_input)])
    x = Input(shape=(3, 2))
    first, second = inner(x)
    again, _ = inner(x)
    model = Model(x, Concatenate(dtype="float64")([first, second, again]))
    check_model_gradients(model, [normal(2, 3, 2)])
    stack = Sequential([Sequential([lstm(3, input_shape=(3, 2))]), dense(1)])
    check_model_gradients(stack, [normal(2, 3, 2)])


def test_bidirectional_stack():
    model = Sequential(
        [
            Bidirectional(lstm(3, return_sequences=True), input_shape=(4, 2)),
            Bidirectional(lstm(2), merge_mode="sum"),
            dense(2, activation="softmax"),
        ]
    )
    check_model_gradients(model, [normal(3, 4, 2)])


def test_an_encoder_cut_out_of_an_autoencoder():
    model = Sequential(
        [
            LSTM(6, activation="relu", input_shape=(3, 2), return_sequences=True),
            LSTM(4, activation="relu"),
            RepeatVector(3),
            LSTM(4, activation="relu", return_sequences=True),
            TimeDistributed(Dense(2)),
        ]
    )
    encoder = Model(inputs=model.inputs, outputs=model.layers[1].output)
    x = normal(5, 3, 2).astype(np.float32)
    before = encoder.predict(x)
    np.testing.assert_array_equal(before, model.layers[1](model.layers[0](x)))
    model.compile("adam", "mse")
    model.fit(x, x, epochs=2, verbose=0)
    after = encoder.predict(x)
    assert np.abs(after - before).max() > 1e-4
    np.testing.assert_array_equal(after, model.layers[1](model.layers[0](x)))


def test_a_model_may_begin_in_the_middle():
    x = Input(shape=(3,))
    hidden = dense(4, activation="tanh")(x)
    out = dense(2)(hidden)
    tail = Model(hidden, out)
    values = normal(5, 4)
    np.testing.assert_array_equal(tail.predict(values), tail.layers[0](values))


def test_masks_run_along_the_graph():
    x = Input(shape=(None,), dtype="int64")
    embedded = Embedding(9, 4, mask_zero=True, dtype="float64")(x)
    sequence = Bidirectional(lstm(3, return_sequences=True))(embedded)
    last = lstm(5)(Dropout(0.5, dtype="float64")(sequence))
    model = Model(x, [last, sequence])
    tokens = np.array([[3, 1, 4, 0, 0, 0], [2, 7, 1, 8, 0, 0]])
    last, _ = model.predict(tokens)
    short, _ = model.predict(tokens[:1, :3])
    np.testing.assert_allclose(last[0], short[0], rtol=1e-12)
    mask = model.call_with_mask(tokens, None)[1][1]
    np.testing.assert_array_equal(mask, tokens != 0)
    outer_input = Input(shape=(None,), dtype="int64")
    outer = Model(outer_input, lstm(2)(model(outer_input)[1]))
    np.testing.assert_allclose(
        outer.predict(tokens)[0], outer.predict(tokens[:1, :3])[0], rtol=1e-12
    )


def test_masking_inside_a_nested_model_trains():
    model = Sequential([Masking(input_shape=(4, 2), dtype="float64"), lstm(3)])
    x = normal(3, 4, 2)
    x[0, 2:] = 0
    randomize(model)
    context = Context()
    y = model(x, context=context)
    dx = model.backward(context, np.ones_like(y))
    assert not dx[0, 2:].any()
    assert dx[0, :2].all()


def test_layers_without_gradients_before_the_first_weights():
    doubled = Sequential([Lambda(lambda x: 2 * x, input_shape=(3, 2)), LSTM(2), Dense(1)])
    doubled.compile("sgd", "mse")
    doubled.fit(normal(4, 3, 2), normal(4, 1), verbose=0)
    stuck = Sequential([LSTM(2, input_shape=(3, 2)), Lambda(lambda x: 2 * x)])
    stuck.compile("sgd", "mse")
    before = stuck.get_weights()
    with pytest.raises((TypeError, ValueError, NotImplementedError), match="backward"):
        stuck.fit(normal(4, 3, 2), normal(4, 2), verbose=0)
    for got, want in zip(stuck.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)


class Gain(Layer):
    def build(self, input_shape):
        self.factor = self.add_weight((input_shape[-1],), "ones", name="factor")

    def call(self, inputs):
        return inputs * self.factor.value

    def backward(self, context, dy):
        context.add_gradient(self.factor, (dy * context.inputs).reshape(-1, dy.shape[-1]).sum(0))
        return dy * self.factor.value


def test_custom_layers_train():
    model = Sequential([Gain(dtype="float64"), lstm(3), dense(1)])
    model.build((None, 4, 2))
    check_model_gradients(model, [normal(2, 4, 2)])
    assert model.layers[0].output_shape == (None, 4, 2)
    model.compile("adam", "mse")
    before = model.layers[0].factor.numpy()
    model.fit(normal(5, 4, 2), normal(5, 1), verbose=0)
    assert (model.layers[0].factor.value != before).all()


def test_frozen_layers_stay():
    model = Sequential([LSTM(3, input_shape=(4, 2)), Dense(1)])
    model.layers[0].trainable = False
    assert len(model.trainable_weights) == 2
    assert len(model.non_trainable_weights) == 3
    before = model.get_weights()
    model.compile("sgd", "mse")
    model.fit(normal(5, 4, 2), normal(5, 1), verbose=0)
    for got, want in zip(model.get_weights()[:3], before[:3], strict=True):
        np.testing.assert_array_equal(got, want)
    assert (model.get_weights()[3] != before[3]).any()


def test_two_models_train_the_same_layer_in_turn():
    shared = Dense(2, input_shape=(3,), name="shared")
    one, two = Sequential([shared, Dense(1)]), Sequential([shared, Dense(1)])
    x, y = normal(6, 3), normal(6, 1)
    for model in (one, two):
        model.compile("adam", "mse")
    for _ in range(3):
        for model in (one, two):
            before = shared.get_weights()[0]
            model.fit(x, y, epochs=1, verbose=0)
            assert (shared.get_weights()[0] != before).all()
    hidden = shared(x.astype(np.float32))
    np.testing.assert_allclose(one.predict(x), one.layers[1](hidden), rtol=1e-6)


def test_weights_come_in_keras_order():
    x = Input(shape=(4, 3))
    a, b = LSTM(2, name="a"), LSTM(5, name="b")
    # b lies deeper: two layers are between it and the output.
    deep = Dense(3, name="c")(b(x))
    model = Model(x, Concatenate()([a(x), deep]))
    assert [layer.name for layer in model.layers[1:3]] == ["b", "a"]


def test_a_very_long_chain():
    x = y = Input(shape=(2,))
    for _ in range(3000):
        y = Dropout(0.0)(y)
    model = Model(x, y)
    np.testing.assert_array_equal(model.predict(np.ones((1, 2))), np.ones((1, 2)))


def test_config_round_trip():
    source, target = Input(shape=(5, 3), name="source"), Input(shape=(4, 2), name="target")
    _, h, c = LSTM(4, return_state=True)(source)
    decoded = LSTM(4, return_sequences=True)(target, initial_state=[h, c])
    model = Model([source, target], {"out": TimeDistributed(Dense(2))(decoded)})
    again = Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    data = {"source": normal(3, 5, 3), "target": normal(3, 4, 2)}
    np.testing.assert_array_equal(again.predict(data)["out"], model.predict(data)["out"])
    stack = Sequential([LSTM(3, input_shape=(4, 2)), Dense(1)], name="stack")
    copy = Sequential.from_config(stack.get_config())
    copy.set_weights(stack.get_weights())
    x = normal(2, 4, 2)
    np.testing.assert_array_equal(copy.predict(x), stack.predict(x))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda x, y: Model(x, np.ones(3)), TypeError, "`outputs` must be symbolic"),
        (lambda x, y: Model(inputs=x), TypeError, "needs `inputs` and `outputs`"),
        (lambda x, y: Model([], y), ValueError, "`inputs` is empty"),
        (lambda x, y: Model(Input(shape=(3,)), y), ValueError, "not among `inputs`"),
        (lambda x, y: Sequential([3]), TypeError, "takes a Layer, got 3"),
        (
            lambda x, y: Sequential([Dense(1, name="a"), Dense(1, name="a")]),
            ValueError,
            "named 'a'",
        ),
        (lambda x, y: Sequential().pop(), ValueError, "no layer to remove"),
        (
            lambda x, y: Sequential([LSTM(2, return_state=True, input_shape=(3, 1))]),
            ValueError,
            "has 3 outputs",
        ),
        (lambda x, y: Sequential([Dense(1)]).count_params(), ValueError, "not built yet"),
        (lambda x, y: Model(x, y).get_layer("dense"), ValueError, "the name of a layer"),
        (lambda x, y: Model(x, y).get_layer(index=9), ValueError, "no layer 9"),
    ],
)
def test_errors(build, error, message):
    x = Input(shape=(3,))
    with pytest.raises(error, match=message):
        build(x, Dense(2)(x))


def test_adding_a_layer_that_does_not_fit_changes_nothing():
    model = Sequential([LSTM(3, input_shape=(4, 2))])
    with pytest.raises(ValueError, match=r'LSTM "lstm_\d+".*\(B, T, F\)'):
        model.add(LSTM(5))
    assert len(model.layers) == 1
    model.add(Dense(1))
    assert model.predict(normal(2, 4, 2)).shape == (2, 1)
    assert model.pop().units == 1
    assert model.predict(normal(2, 4, 2)).shape == (2, 3)


# ---- dicts, masks and settings in a graph ------------------------------------------------------


def test_nested_models_with_dicts():
    source = Input((4, 3))
    hidden = lstm(5)(source)
    inner = Model({"series": source}, {"p": dense(1)(hidden), "q": dense(2)(hidden)})
    outer_source = Input((4, 3))
    by_name = inner({"series": outer_source})
    assert {name: tensor.shape for name, tensor in by_name.items()} == {
        "p": (None, 1),
        "q": (None, 2),
    }
    outer = Model(outer_source, by_name)
    x = normal(3, 4, 3)
    for name, value in outer.predict(x).items():
        np.testing.assert_array_equal(value, inner({"series": x})[name])
    in_a_list = inner(outer_source)
    check_model_gradients(Model(outer_source, [in_a_list["q"], in_a_list["p"]]), [x])
    outer.summary(print_fn=lambda line: None)
    again = Model.from_config(outer.get_config())
    again.set_weights(outer.get_weights())
    np.testing.assert_array_equal(again.predict(x)["q"], outer.predict(x)["q"])


def test_models_called_with_dicts_and_their_masks():
    a, b = Input((4, 3), name="a"), Input((4, 3), name="b")
    model = Model({"a": a, "b": b}, lstm(3)(Concatenate(dtype="float64")([a, b])))
    x = {"b": normal(2, 4, 3, seed=1), "a": normal(2, 4, 3)}
    np.testing.assert_array_equal(model(x), model.predict(x))
    mask = np.array([[True, False, True, True], [True, True, False, False]])
    want = model.layers[-1](np.concatenate([x["a"], x["b"]], axis=-1), mask=mask)
    np.testing.assert_array_equal(model(x, mask={"a": mask, "b": mask}), want)


def test_a_mask_may_be_an_input():
    series, valid = Input((4, 3)), Input((4,), dtype="bool")
    layer = lstm(3)
    model = Model([series, valid], layer(series, mask=valid))
    x, mask = normal(5, 4, 3), np.random.default_rng(0).random((5, 4)) > 0.4
    np.testing.assert_array_equal(model.predict([x, mask]), layer(x, mask=mask))
    assert np.abs(layer(x, mask=mask) - layer(x)).max() > 1e-3
    model.compile("sgd", "mse")
    before = layer.get_weights()[0]
    model.fit([x, mask], normal(5, 3), verbose=0)
    assert np.abs(layer.get_weights()[0] - before).max() > 0
    again = Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again.predict([x, mask]), model.predict([x, mask]))
    with pytest.raises(TypeError, match="make an Input"):
        layer(series, mask=mask)


def test_training_may_be_fixed_in_the_graph():
    source = Input((40, 3))
    model = Model(source, Dropout(0.5)(source, training=True))
    x = normal(5, 40, 3)
    for outputs in (model.predict(x), Model.from_config(model.get_config()).predict(x)):
        assert 0.3 < (outputs == 0).mean() < 0.7


def test_settings_of_a_call_are_part_of_the_configuration():
    class Times(Layer):
        def call(self, inputs, factor=1.0):
            return inputs * factor

    source = Input((4, 3))
    model = Model(source, Times()(source, factor=2.0))
    x = normal(5, 4, 3).astype("float32")
    np.testing.assert_array_equal(Model.from_config(model.get_config()).predict(x), 2 * x)


# ---- long models -------------------------------------------------------------------------------


def count_calls(run):
    """How many functions, of Python and of C, `run` calls."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def long_stack(count):
    return Sequential([Input((3,)), *(Dense(3) for _ in range(count))])


def built_late(count):
    model = Sequential()
    for _ in range(count):
        model.add(Dense(3))
    model.build((None, 3))
    return model


def long_graph(count):
    x = start = Input((3,))
    for _ in range(count):
        x = Add()([x, Dense(3)(x)])
    return Model(start, x)


def emptied(count):
    model = long_stack(count)
    for _ in range(count):
        model.pop()


LONG_MODELS = [long_stack, built_late, long_graph]


@pytest.mark.parametrize("make", [*LONG_MODELS, emptied])
def test_the_work_of_building_grows_as_the_number_of_layers(make):
    make(2)  # what is done once in a process
    assert count_calls(lambda: make(80)) < 2.2 * count_calls(lambda: make(40))


@pytest.mark.parametrize("make", LONG_MODELS)
@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.summary(print_fn=lambda line: None),
        lambda model: model.get_weights(),
        lambda model: model.count_params(),
        lambda model: type(model).from_config(model.get_config()),
        lambda model: model.predict(np.ones((2, 3))),
        copy.deepcopy,
    ],
)
def test_the_work_of_using_grows_as_the_number_of_layers(make, use):
    use(make(2))
    small, large = make(40), make(80)
    assert count_calls(lambda: use(large)) < 2.2 * count_calls(lambda: use(small))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_long_models_and_single_layers_of_them_are_copied_without_recursion(copied):
    shared = Dense(3)
    layers = [shared, *(Dense(3) for _ in range(400)), shared]
    x = normal(2, 3)
    model = Sequential([Input((3,)), *layers])
    twin = copied(model)
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))
    assert twin.layers[0] is twin.layers[-1]
    tensor = start = Input((3,))
    for layer in layers:
        tensor = layer(tensor)
    model = Model(start, tensor)
    np.testing.assert_array_equal(copied(model).predict(x), model.predict(x))
    last = copied(layers[-2])
    np.testing.assert_array_equal(last(x), layers[-2](x))
    assert len(pickle.dumps(last)) < 10_000


def test_a_copied_model_takes_more_layers_and_gives_them_back():
    model = Sequential([Input((3,)), Dense(4), Dense(2)])
    twin = copy.deepcopy(model)
    assert twin.layers[1].output is twin.output
    twin.add(Dense(5))
    assert (twin.output.shape, model.output.shape) == ((None, 5), (None, 2))
    assert twin.pop().units == 5
    x = normal(2, 3)
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))


@pytest.mark.parametrize(
    "penalised",
    [
        lambda: Dense(2, activity_regularizer=L2(30.0), dtype="float64"),
        lambda: LSTM(2, activity_regularizer=L2(30.0), dtype="float64"),
        lambda: Bidirectional(LSTM(2, activity_regularizer=L2(30.0), dtype="float64")),
        lambda: TimeDistributed(Dense(2, activity_regularizer=L2(30.0), dtype="float64")),
    ],
    ids=["Dense", "LSTM", "Bidirectional", "TimeDistributed"],
)
def test_a_penalty_on_outputs_that_have_no_loss_reaches_the_weights(penalised):
    source = Input((3, 2))
    below = Dense(3, activation="tanh", dtype="float64")(source)
    model = Model(source, [Dense(1, dtype="float64")(below), penalised()(below)])
    randomize(model)
    x, dy, weights = normal(4, 3, 2), normal(4, 3, 1), model.get_weights()

    def loss(k, changed):
        model.set_weights([*weights[:k], changed, *weights[k + 1 :]])
        context = Context()
        (y, _), _, _ = model.graph.run([x], context=context)
        return float((y * dy).sum()) + sum(context.penalties)

    context = Context()
    _, _, tape = model.graph.run([x], context=context)
    model.graph.backward(tape, [dy, None])
    for k, weight in enumerate(model.weights):
        want = numeric_gradient(functools.partial(loss, k), weights[k])
        np.testing.assert_allclose(context.gradients[weight], want, rtol=1e-6, atol=1e-8)
        assert np.abs(want).max() > 1e-3
