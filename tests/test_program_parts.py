"""Programs in parts: native ops beside layers that are called, on data of every kind."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

from fastlstm.callbacks import LambdaCallback
from fastlstm.layers import (
    LSTM,
    Activation,
    Add,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Input,
    Lambda,
    Layer,
    LayerNormalization,
    Masking,
    RepeatVector,
    Reshape,
    TimeDistributed,
)
from fastlstm.layers.base import reset_names
from fastlstm.models import Model, Sequential
from fastlstm.optimizers import SGD
from fastlstm.program import parts, program
from fastlstm.utils import set_random_seed


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def call_every_layer(graph, **use):
    """In place of `describe`: no layer is a native op."""
    return [None] * len(graph.steps)


@pytest.fixture
def assert_as_called(monkeypatch):
    """That what a function returns is the same bits where every layer is called."""

    def check(run):
        set_random_seed(3)
        found = run()
        with monkeypatch.context() as patch:
            patch.setattr(program, "describe", call_every_layer)
            set_random_seed(3)
            want = run()
        assert len(found) == len(want)
        for one, other in zip(found, want, strict=True):
            one, other = np.asarray(one), np.asarray(other)
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            np.testing.assert_array_equal(one, other)

    return check


def native_parts(model, use):
    return [part for part in model._programs[use].parts if hasattr(part, "steps")]


class Own(Layer):
    """A layer of a user's own that computes something."""

    def call(self, inputs):
        return inputs * np.float32(1.25)

    def backward(self, context, dy):
        return dy * np.float32(1.25)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


class InDoubles(Own):
    """In another type than it says."""

    def call(self, inputs):
        return np.asarray(inputs, "float64") * 1.1

    def backward(self, context, dy):
        return np.asarray(dy, "float64") * 1.1


# ---- types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Activation("tanh"),
        lambda: Flatten(),
        lambda: Reshape((6,)),
        lambda: Dropout(0.5),
        lambda: Dense(4),
        lambda: Activation("softmax", dtype="float64"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_data_are_computed_in_the_type_of_their_reader(layer, dtype, assert_as_called):
    def run():
        x = Input((3, 2))
        model = Model(x, [layer()(x), LSTM(2, dtype="float64")(x)])
        return model.predict((normal(4, 3, 2) > 0.3).astype(dtype))

    assert_as_called(run)


@pytest.mark.parametrize(
    "layer",
    [lambda: Activation("tanh"), lambda: Flatten(), lambda: RepeatVector(3), lambda: Dense(4)],
)
def test_what_a_layer_makes_in_another_type_is_computed_in_that_of_its_reader(
    layer, assert_as_called
):
    def run():
        model = Sequential([Input((3,)), InDoubles(), layer(), Own()])
        return [model.predict(normal(4, 3))]

    assert_as_called(run)


def test_layers_of_two_types_train_together(assert_as_called):
    def run():
        x = Input((4, 3))
        y = LSTM(5, return_sequences=True)(x)
        z = LSTM(3, dtype="float64", return_sequences=True)(y)
        model = Model(x, [Dense(2)(z), Dense(2, dtype="float64")(y), Activation("tanh")(z)])
        model.compile("adam", "mse")
        targets = [normal(6, *tensor.shape[1:]) for tensor in model.outputs]
        model.fit(normal(6, 4, 3), targets, batch_size=4, epochs=2, verbose=0)
        return [*model.get_weights(), *model.predict(normal(2, 4, 3))]

    assert_as_called(run)


def test_gradients_of_another_type_are_converted(assert_as_called):
    def run():
        model = Sequential(
            [Input((4, 3)), LSTM(5, return_sequences=True), InDoubles(), LSTM(2), InDoubles()]
        )
        model.compile("sgd", "mse")
        model.train_on_batch(normal(4, 4, 3), normal(4, 2))
        return model.get_weights()

    assert_as_called(run)


@pytest.mark.parametrize("shape", [(4, 1, 5), (4, 4, 1), (1, 4, 5), (4, 20), (4, 4, 5, 1), ()])
def test_gradients_of_another_shape_are_refused(shape):
    class Wrong(Own):
        def backward(self, context, dy):
            return np.ones(shape, "float32")

    model = Sequential([Input((4, 3)), LSTM(5, return_sequences=True), Wrong(), LSTM(2)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"must have shape .* \(4, 4, 5\)"):
            model.train_on_batch(normal(4, 4, 3), normal(4, 2))
    for weight, want in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, want)


def test_what_is_no_array_is_what_the_next_layer_makes_of_it(assert_as_called):
    class Sometimes(Own):
        as_list = False

        def call(self, inputs):
            return inputs.tolist() if self.as_list else inputs

    def run():
        layer = Sometimes()
        model = Sequential([Input((3,)), layer, Dense(2)])
        found = [model.predict(normal(4, 3))]
        layer.as_list = True
        return [*found, model.predict(normal(4, 3, seed=1))]

    assert_as_called(run)


def test_numbers_too_small_for_a_normal_float_are_as_in_calls(assert_as_called):
    def run():
        x = Input((3, 2))
        outputs = [Activation(name)(x) for name in ("relu", "linear", "softsign", "softplus")]
        for mode in ("mul", "sum", "ave", "concat"):
            outputs.append(Bidirectional(LSTM(3, return_sequences=True), mode)(x))
        model = Model(x, outputs)
        small = [model.predict(scale * normal(4, 3, 2)) for scale in (1e-20, 1e-38, 1e-41)]
        model.compile("sgd", "mse", loss_weights=[1e-38] * len(outputs))
        model.train_on_batch(
            1e-20 * normal(4, 3, 2), [normal(4, *t.shape[1:]) for t in model.outputs]
        )
        return [*(y for found in small for y in found), *model.get_weights()]

    assert_as_called(run)


# ---- gradients that arrive in some places only ---------------------------------------------------


def some_losses(model, x, optimizer="adam"):
    """Train by the loss of each output alone, of all but each, and of all."""
    count = len(model.outputs)
    targets = [normal(len(x), *t.shape[1:], seed=k) for k, t in enumerate(model.outputs)]
    patterns = [[j == k for j in range(count)] for k in range(count)]
    patterns += [[j != k for j in range(count)] for k in range(count)] if count > 2 else []
    found = []
    for pattern in [*patterns, [True] * count, *patterns]:
        model.compile(optimizer, ["mse" if each else None for each in pattern])
        y = [target if each else None for each, target in zip(pattern, targets, strict=True)]
        found.append(model.train_on_batch(x, y))
    return [*found, *model.get_weights()]


def test_losses_may_change_which_outputs_they_are_of(assert_as_called):
    def run():
        x = Input((4, 3))
        y = LSTM(5)(x)
        outputs = [Dense(2, activation="tanh")(y), Dense(3)(y), y]
        return some_losses(Model(x, outputs), normal(4, 4, 3))

    assert_as_called(run)


def test_losses_may_change_what_they_are_the_gradient_of(assert_as_called):
    def run():
        model = Sequential([Input((4, 3)), LSTM(5), Dense(2, activation="sigmoid")])
        x, y = normal(4, 4, 3), normal(4, 2) > 0
        for loss in ("binary_crossentropy", "mse", "binary_crossentropy", "mae", "mse"):
            model.compile("sgd", loss)
            model.train_on_batch(x, y.astype("float32"))
        return model.get_weights()

    assert_as_called(run)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_both_directions_with_states_masks_and_dropout(mode, sequences, masked, assert_as_called):
    options = {"return_sequences": sequences, "return_state": True, "dropout": 0.3, "seed": 4}

    def run():
        x = Input((5, 3))
        source = Masking()(x) if masked else x
        found = Bidirectional(LSTM(4, **options), merge_mode=mode)(source)
        states = found[1 if mode else 2 :]
        again = Bidirectional(LSTM(4, return_sequences=True), merge_mode=mode)(
            source, initial_state=states
        )
        model = Model(x, [*found, *(again if isinstance(again, list) else [again])])
        data = normal(4, 5, 3)
        data[0, 3:] = data[1, :2] = data[2] = 0
        return [*some_losses(model, data), *model.predict(data)]

    assert_as_called(run)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_states_that_begin_another_layer(masked, sequences, assert_as_called):
    def run():
        x = Input((5, 3))
        y, h, c = LSTM(4, return_sequences=True, return_state=True)(Masking()(x) if masked else x)
        found = LSTM(4, return_sequences=sequences, return_state=True)(y, initial_state=[h, c])
        swapped = LSTM(4, return_state=True)(Own()(y), initial_state=[found[2], h])
        last = LSTM(4)(y, initial_state=[c, c])
        model = Model(x, [*found, *swapped, last, y])
        data = normal(4, 5, 3)
        data[0, 3:] = data[1, :2] = data[2] = 0
        return [*some_losses(model, data), *model.predict(data)]

    assert_as_called(run)


def test_gradients_meet_in_the_order_of_calls_across_parts(assert_as_called):
    def run():
        x = Input((4, 3))
        shared = Own()(Dense(5, activation="tanh")(x))
        # The last reader is called, those before it are native.
        native = [Own()(Own()(layer(shared))) for layer in (LSTM(4), LSTM(6), Dense(2), Dense(3))]
        return some_losses(Model(x, [Own()(shared), *native]), normal(4, 4, 3), "sgd")

    assert_as_called(run)


def test_weights_shared_by_parts_and_called_layers(assert_as_called):
    class Within(Layer):
        def __init__(self, inner, **keywords):
            super().__init__(**keywords)
            self.inner = inner

        def call(self, inputs, context=None):
            if context is not None:
                context.cache = context.child()
            return self.inner(inputs, context=context and context.cache)

        def backward(self, context, dy):
            return self.inner.differentiate(context.cache, dy)

    def run():
        dense = Dense(3, activation="tanh")
        x = Input((4, 3))
        y = Within(dense)(dense(Own()(TimeDistributed(dense)(Within(dense)(dense(x))))))
        model = Model(x, LSTM(2)(dense(y)))
        model.compile("adam", "mse")
        model.fit(normal(5, 4, 3), normal(5, 2), batch_size=2, epochs=2, verbose=0)
        return model.get_weights()

    assert_as_called(run)


def test_one_tensor_may_be_several_outputs_and_an_input_one_too(assert_as_called):
    def run():
        x = Input((4, 3))
        y = LSTM(5)(x)
        z = Dense(3, activation="sigmoid")(y)
        model = Model(x, [z, z, x, y, Reshape((12,))(x)])
        data = normal(4, 4, 3)
        losses = ["binary_crossentropy", "mse", "mse", "mse", "mse"]
        model.compile("sgd", losses)
        targets = [normal(4, 3) > 0, normal(4, 3), data, normal(4, 5), normal(4, 12)]
        weights = [np.arange(4.0) + k for k in range(5)]
        found = model.train_on_batch(data, targets, sample_weight=weights)
        return [found, *model.get_weights(), *model.predict(data)]

    assert_as_called(run)


def test_a_model_within_a_model(assert_as_called):
    def run():
        inner = Sequential([Input((4, 3)), LSTM(5, return_sequences=True), Dense(3)])
        x = Input((4, 3))
        model = Model(x, LSTM(2)(inner(Dense(3)(inner(x)))))
        model.compile("adam", "mse")
        model.fit(normal(5, 4, 3), normal(5, 2), verbose=0, epochs=2)
        return [*model.get_weights(), model.predict(normal(2, 4, 3))]

    assert_as_called(run)


# ---- data in any order, of any size --------------------------------------------------------------


def misaligned(x):
    found = np.zeros(x.nbytes + 1, "uint8")[1:].view(x.dtype).reshape(x.shape)
    found[...] = x
    return found


BRINGS = {
    "whole": lambda x: x,
    "other precision": lambda x: x.astype("float64"),
    "every other": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=2)[::2, :, ::2],
    "backwards": lambda x: x[:, ::-1][:, ::-1],
    "fortran": np.asfortranarray,
    "big endian": lambda x: x.astype(">f4"),
    "misaligned": misaligned,
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("bring", BRINGS.values(), ids=BRINGS)
def test_data_may_lie_in_memory_in_any_way(bring):
    model = Sequential([Input((4, 3)), LSTM(5, return_sequences=True), Own(), Dense(2), LSTM(2)])
    model.compile("sgd", "mse")
    x = normal(6, 4, 3).astype("float32")
    want = model.predict(x)
    given = bring(x)
    before = given.copy()
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(given), want)
        np.testing.assert_array_equal(model.predict_on_batch(given), want)
        np.testing.assert_array_equal(model.predict(x), want)
    model.train_on_batch(given, normal(6, 2))
    np.testing.assert_array_equal(given, before)


def test_layers_between_may_return_arrays_in_any_order(assert_as_called):
    class Turned(Own):
        def call(self, inputs):
            return np.asfortranarray(inputs)[:, ::-1]

        def backward(self, context, dy):
            return np.asfortranarray(dy[:, ::-1])

    def run():
        model = Sequential([Input((4, 3)), Dense(3), Turned(), LSTM(5), Reshape((5,)), Own()])
        model.compile("sgd", "mse")
        found = [model.predict(normal(6, 4, 3))]
        model.fit(normal(6, 4, 3), normal(6, 5), verbose=0, epochs=2, batch_size=3)
        return [*found, *model.get_weights()]

    assert_as_called(run)


def test_sequences_without_steps_are_called(assert_as_called):
    def run():
        model = Sequential(
            [Input((None, 3)), LSTM(4, return_sequences=True), Dense(2), Dropout(0.1), LSTM(3)]
        )
        model.compile("sgd", "mse")
        found = [model.predict(np.zeros((2, steps, 3))) for steps in (0, 3, 0, 1)]
        found.append(model.evaluate(np.zeros((2, 0, 3)), normal(2, 3), verbose=0))
        model.train_on_batch(np.zeros((2, 0, 3)), normal(2, 3))
        return [*found, *model.get_weights()]

    assert_as_called(run)


def test_settings_of_shapes_count_from_the_next_call_on(assert_as_called):
    def run():
        layer = Reshape((3, 4))
        model = Sequential([Input((4, 3)), layer])
        found = [model.predict(normal(2, 4, 3))]
        layer.target_shape = (2, 6)
        return [*found, model.predict(normal(2, 4, 3))]

    assert_as_called(run)


# ---- memory --------------------------------------------------------------------------------------


def test_outputs_are_nobody_elses():
    x = Input((4, 3))
    y = LSTM(5, return_sequences=True)(x)
    model = Model(x, [y, Flatten()(y), Reshape((3, 4))(x), Dropout(0.5)(x), Own()(y), x])
    data = normal(2, 4, 3).astype("float32")
    kept = data.copy()
    first = model.predict(data)
    copies = [each.copy() for each in first]
    model.predict(normal(2, 4, 3, seed=1))
    for found, want in zip(first, copies, strict=True):
        np.testing.assert_array_equal(found, want)
        found[...] = 7
    np.testing.assert_array_equal(data, kept)
    for found, want in zip(model.predict(data), copies, strict=True):
        np.testing.assert_array_equal(found, want)


def test_programs_keep_no_arrays_of_a_call():
    model = Sequential([Input((4, 3)), LSTM(5, return_sequences=True), Own(), LSTM(2)])
    model.compile("sgd", "mse")
    x, y = normal(3, 4, 3).astype("float32"), normal(3, 2).astype("float32")
    out = model.predict_on_batch(x)
    model.train_on_batch(x, y)
    model.test_on_batch(x, y)
    refs = [weakref.ref(each) for each in (x, y, out)]
    del x, y, out
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


def test_memory_is_kept_for_few_shapes():
    model = Sequential([Input((None, 3)), LSTM(5, return_sequences=True), Dense(2)])
    model.compile("sgd", "mse")
    for steps in [*range(1, 40), *range(1, 40)]:
        model.predict(normal(2, steps, 3))
        model.train_on_batch(normal(2, steps, 3), normal(2, steps, 2))
    for use in ("predict", "train"):
        (part,) = native_parts(model, use)
        assert 1 <= len(part._idle) <= parts.MOST_IDLE_RUNS


def test_large_memory_is_not_kept():
    model = Sequential([Input((None, 64)), LSTM(128, return_sequences=True), Dense(64)])
    model.predict(np.ones((64, 1000, 64), "float32"), batch_size=64)
    (part,) = native_parts(model, "predict")
    assert not part._idle


# ---- errors --------------------------------------------------------------------------------------


class Failing(Own):
    forward_fails = backward_fails = False

    def call(self, inputs):
        if self.forward_fails:
            raise ArithmeticError("forward")
        return inputs * np.float32(2)

    def backward(self, context, dy):
        if self.backward_fails:
            raise ArithmeticError("backward")
        return dy * np.float32(2)


def test_an_error_between_native_parts_spoils_nothing(assert_as_called):
    def run():
        layer = Failing()
        model = Sequential([Input((4, 3)), LSTM(5, return_sequences=True), layer, LSTM(2)])
        model.compile("adam", "mse")
        x, y, found = normal(4, 4, 3), normal(4, 2), []
        for k in range(6):
            layer.forward_fails, layer.backward_fails = k % 3 == 1, k % 3 == 2
            if layer.forward_fails or layer.backward_fails:
                with pytest.raises(ArithmeticError):
                    model.train_on_batch(normal(4, 4, 3, seed=k), y)
            if layer.forward_fails:
                with pytest.raises(ArithmeticError):
                    model.predict(x)
            layer.forward_fails = layer.backward_fails = False
            found += [model.predict(x), model.train_on_batch(x, y), *model.get_weights()]
        return found

    assert_as_called(run)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_programs_of_their_own(twin):
    model = Sequential([Input((4, 3)), LSTM(5, return_sequences=True), Own(), LSTM(2)])
    model.compile("adam", "mse")
    x, y = normal(4, 4, 3), normal(4, 2)
    model.fit(x, y, verbose=0)
    other = twin(model)
    want = model.predict(x)
    np.testing.assert_array_equal(other.predict(x), want)
    other.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.predict(x), want)
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_thousands_of_layers():
    layers = [Dense(2, activation="tanh", kernel_initializer="orthogonal") for _ in range(3000)]
    model = Sequential([Input((2,)), *layers])
    model.compile("sgd", "mse")
    x = normal(3, 2).astype("float32")
    want = x
    for layer in layers:
        want = layer(want)
    np.testing.assert_array_equal(model.predict(x), want)
    model.train_on_batch(x, x)
    assert np.isfinite(model.predict(x)).all()
    del model, layers
    gc.collect()


# ---- threads -------------------------------------------------------------------------------------


def in_threads(functions):
    """Run functions side by side; the errors that they raised."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:  # whatever it is, it is the test's
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(each,)) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_many_threads_predict_with_one_model():
    x = Input((None, 3))
    y = LSTM(9, return_sequences=True)(x)
    model = Model(x, [Dense(4, activation="softmax")(y), LSTM(5)(Own()(y))])
    data = [normal(1 + k % 3, 1 + k % 4, 3, seed=k) for k in range(12)]
    want = [model.predict(each) for each in data]

    def run(k):
        for _ in range(60):
            for found, expected in zip(model.predict(data[k]), want[k], strict=True):
                np.testing.assert_array_equal(found, expected)

    assert not in_threads([lambda k=k: run(k) for k in range(len(data))])


def test_predicting_beside_training_disturbs_neither():
    def make():
        set_random_seed(7)
        model = Sequential([Input((4, 3)), LSTM(5, return_sequences=True), Own(), LSTM(2)])
        model.compile("adam", "mse")
        return model

    x, y = normal(40, 4, 3), normal(40, 2)
    want = make().fit(x, y, epochs=15, verbose=0, batch_size=4).history["loss"]
    model, stop, found = make(), threading.Event(), []

    def fit():
        try:
            found.extend(model.fit(x, y, epochs=15, verbose=0, batch_size=4).history["loss"])
        finally:
            stop.set()

    def predict():
        while not stop.is_set():
            assert np.isfinite(model.predict(x[:3])).all()

    assert not in_threads([fit, predict, predict])
    assert found == want
    np.testing.assert_array_equal(model.predict(x), model(x.astype("float32")))


def test_the_gradient_of_an_output_goes_through_to_layers_that_are_called():
    def train(plainly, patch):
        set_random_seed(4)
        source = Input((3, 2))
        hidden = Dense(2, activity_regularizer="l2")(source)
        model = Model(source, Add()([hidden, source]))
        model.compile("sgd", "mse")
        if plainly:
            patch.setattr(program, "describe", lambda graph, **use: [None] * len(graph.steps))
        model.train_on_batch(normal(4, 3, 2), normal(4, 3, 2, seed=1))
        return model.get_weights()

    with pytest.MonkeyPatch.context() as patch:
        for found, want in zip(train(False, patch), train(True, patch), strict=True):
            np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("n", [2**40, 2**61 + 1, 2**62 + 1])
def test_what_no_memory_could_hold_is_refused(n):
    model = Sequential([Input((3,)), RepeatVector(n), LSTM(2)])
    with pytest.raises(MemoryError):
        model.predict(normal(2, 3))


def both_ways(run):
    """What a program does, and what calling every layer does: values, or the error's words."""
    found = []
    for plainly in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if plainly:
                patch.setattr(program, "describe", lambda graph, **use: [None] * len(graph.steps))
            set_random_seed(4)
            reset_names()
            try:
                found.append(run())
            except (ValueError, TypeError) as error:
                found.append(str(error))
    return found


def assert_both_the_same(run):
    found, want = both_ways(run)
    if isinstance(want, str):
        assert found == want
        return
    for ours, theirs in zip(found, want, strict=True):
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("steps", [(5, 4), (2, 200)])
def test_what_concatenate_refuses_at_run_time_is_refused(steps):
    def run():
        sources = [Input((None, 3)), Input((None, 3))]
        model = Model(sources, Concatenate()([Dense(3)(source) for source in sources]))
        return [model.predict([normal(2, n, 3) for n in steps])]

    assert_both_the_same(run)
    assert isinstance(both_ways(run)[0], str)


@pytest.mark.parametrize("width", [3, 8, 50000])
def test_rows_of_another_width_than_declared_are_no_rows_to_normalize(width):
    def run():
        wide = Lambda(lambda x: np.repeat(x[..., :1], width, -1), lambda shape: (*shape[:-1], 8))
        model = Sequential([Input((4, 2)), wide, LayerNormalization()])
        model.build()
        return [model.predict(normal(2, 4, 2))]

    assert_both_the_same(run)


def test_masks_of_one_step_are_broadcast_as_by_layers():
    def run():
        source = Input((40, 3))
        first = Lambda(lambda x: x + 1, mask=lambda x, mask: x[:, :1, 0] > 0)
        second = Lambda(lambda x: x - 1, mask=lambda x, mask: x[:, :1, 1] > 0)
        y = LSTM(3)(Concatenate()([first(source), second(source)]))
        return [Model(source, y).predict(normal(6, 40, 3))]

    assert_both_the_same(run)


def test_a_called_layer_that_is_unfrozen_trains_again():
    class Scale(Layer):
        def build(self, input_shape):
            self.factor = self.add_weight((input_shape[-1],), "ones", name="factor")

        def call(self, inputs):
            return inputs * self.factor.value

        def backward(self, context, dy):
            context.add_gradient(self.factor, (dy * context.inputs).sum(axis=(0, 1)))
            return dy * self.factor.value

    model = Sequential([Input((4, 3)), Scale(), LSTM(3, recurrent_dropout=0.2), Dense(2)])
    model.compile("sgd", "mse")
    x, y = normal(6, 4, 3), normal(6, 2, seed=1)
    for layer in model.layers[:2]:
        layer.trainable = False
    model.train_on_batch(x, y)
    frozen = [layer.get_weights() for layer in model.layers]
    for layer in model.layers[:2]:
        layer.trainable = True
    model.train_on_batch(x, y)
    for layer, before in zip(model.layers, frozen, strict=True):
        for weight, old in zip(layer.get_weights(), before, strict=True):
            assert (weight != old).any(), layer.name


@pytest.mark.parametrize("change", ["optimizer", "compile"])
def test_an_optimizer_that_comes_in_the_middle_of_fit_trains(change):
    def run():
        model = Sequential([Input((4, 3)), LSTM(3), Dense(2)])
        model.compile(SGD(0.5), "mse")

        def swap(batch, logs):
            if batch == 1 and change == "optimizer":
                model.optimizer = SGD(0.1)
            elif batch == 1:
                model.compile(SGD(0.1), "mse")

        model.fit(
            *(normal(8, 4, 3), normal(8, 2, seed=1), 2),
            verbose=0,
            shuffle=False,
            callbacks=[LambdaCallback(on_train_batch_begin=swap)],
        )
        assert model.optimizer.iterations == 3
        return model.get_weights()

    assert_both_the_same(run)


def test_what_a_layer_refuses_besides_is_refused():
    class FewRows(Dense):
        def check_inputs(self, input_shape):
            super().check_inputs(input_shape)
            if (input_shape[0] or 0) > 3:
                raise ValueError("at most 3 rows")

    def run():
        model = Sequential([Input((3,)), FewRows(2)])
        return [model.predict(normal(5, 3))]

    assert_both_the_same(run)


@pytest.mark.parametrize("setting", ["noise_shape", "axis"])
def test_settings_that_ops_are_made_of_count_at_once(setting):
    def run():
        model = Sequential([Input((4, 3)), Dropout(0.5, seed=1), LayerNormalization(), Dense(2)])
        model.compile("sgd", "mse")
        x, y = normal(4, 4, 3), normal(4, 4, 2, seed=1)
        losses = [model.train_on_batch(x, y)]
        if setting == "noise_shape":
            model.layers[0].noise_shape = (None, 1, None)
        else:
            model.layers[1].axis = (2,)
        return [*losses, model.train_on_batch(x, y)]

    assert_both_the_same(run)


def test_integers_that_an_embedding_reads_stay_as_they_came_for_others():
    class Half(Layer):
        casts_inputs = False

        def call(self, inputs):
            return inputs / 2 if inputs.dtype.kind == "f" else inputs // 2

        def compute_output_shape(self, input_shape):
            return input_shape

    def run():
        source = Input((4,))
        model = Model(source, [Embedding(5, 2)(source), Half()(source), source])
        return model.predict(np.array([[0.0, 1.0, 2.0, 3.0]]))

    assert_both_the_same(run)


def test_a_run_that_was_tried_in_vain_keeps_no_array():
    model = Sequential([Input((None, 3)), LSTM(2)])
    model.predict(normal(2, 3, 3).astype("float32"))
    large = normal(2, 50, 3).astype("float32")
    alive = weakref.ref(large)
    model.predict(large)
    del large
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
def test_outputs_before_the_first_step_that_counts_are_zero_whatever_the_states(sequences, zeros):
    def run():
        source, h, c = Input((6, 3)), Input((4,)), Input((4,))
        layer = LSTM(4, return_sequences=sequences, zero_output_for_mask=zeros, return_state=True)
        model = Model([source, h, c], layer(Masking()(source), initial_state=[h, c]))
        x = normal(5, 6, 3) * (np.arange(6) >= np.arange(5)[:, None])[..., None]
        x[4] = 0
        return model.predict([x, normal(5, 4), normal(5, 4, seed=1)])

    assert_both_the_same(run)
    y = both_ways(run)[0][0]
    assert not (y[1, 0] if sequences else y[4]).any()
