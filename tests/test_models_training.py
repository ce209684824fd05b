"""compile, fit, evaluate, predict: what they mean, what they print, what they refuse."""

import numpy as np
import pytest

from fastlstm import gradcheck, losses, metrics
from fastlstm.callbacks import Callback, CallbackList, EarlyStopping, LambdaCallback
from fastlstm.layers import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    Layer,
    Masking,
    Reshape,
    TimeDistributed,
)
from fastlstm.losses import MeanSquaredError
from fastlstm.metrics import AUC, MeanAbsoluteError
from fastlstm.models import Model, Sequential, load_model
from fastlstm.optimizers import SGD
from fastlstm.utils import set_random_seed


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


X, Y = normal(10, 4, 2), normal(10, 1)


def small_model(loss="mse", **compiled):
    model = Sequential([LSTM(3, input_shape=(4, 2), dtype="float64"), Dense(1, dtype="float64")])
    model.compile("sgd", loss, **compiled)
    return model


def snapshot(model):
    return [w.copy() for w in model.get_weights()]


def assert_unchanged(model, before):
    for got, want in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)


# ---- meaning -----------------------------------------------------------------------------------


def test_epoch_loss_is_the_mean_over_samples():
    model = small_model(metrics=["mae"])
    model.optimizer.learning_rate = 0.0
    history = model.fit(X, Y, batch_size=4, verbose=0, shuffle=False).history
    error = model.predict(X) - Y
    assert history["loss"][0] == pytest.approx(np.mean(error**2), rel=1e-12)
    assert history["mae"][0] == pytest.approx(np.mean(np.abs(error)), rel=1e-12)
    loss, mae = model.evaluate(X, Y, batch_size=3, verbose=0)
    assert loss == pytest.approx(np.mean(error**2), rel=1e-12)
    assert model.evaluate(X, Y, verbose=0, return_dict=True) == pytest.approx(
        {"loss": loss, "mae": mae}
    )
    assert model.metrics_names == ["loss", "mae"]


def test_metrics_begin_anew_with_every_epoch_and_every_evaluation():
    model = small_model(metrics=["mae"])
    others, targets = normal(7, 4, 2, seed=1), normal(7, 1, seed=2)
    before = []
    predicting = LambdaCallback(
        on_epoch_begin=lambda epoch, logs: before.append(np.mean(np.abs(model.predict(X) - Y)))
    )
    history = model.fit(
        X, Y, batch_size=10, epochs=3, validation_data=(others, targets), verbose=0,
        callbacks=[predicting],
    ).history  # fmt: skip
    np.testing.assert_allclose(history["mae"], before, rtol=1e-12)
    error = np.mean(np.abs(model.predict(others) - targets))
    assert history["val_mae"][-1] == pytest.approx(error, rel=1e-12)
    for x, y in ((X, Y), (others, targets)):
        error = np.mean(np.abs(model.predict(x) - y))
        assert model.evaluate(x, y, verbose=0)[1] == pytest.approx(error, rel=1e-12)
        assert model.test_on_batch(x, y)[1] == pytest.approx(error, rel=1e-12)
        assert model.train_on_batch(x, y)[1] == pytest.approx(error, rel=1e-12)


def test_sample_weight_and_class_weight():
    model = small_model()
    weights = np.arange(1.0, 11.0)
    error = (model.predict(X) - Y)[:, 0] ** 2
    assert model.evaluate(X, Y, sample_weight=weights, verbose=0) == pytest.approx(
        np.mean(error * weights)
    )
    labels = (Y > 0).astype(int)
    model.optimizer.learning_rate = 0.0
    history = model.fit(X, labels, class_weight={0: 2.0, 1: 5.0}, verbose=0, batch_size=10)
    error = (model.predict(X) - labels)[:, 0] ** 2
    want = np.mean(error * np.where(labels[:, 0] == 1, 5.0, 2.0))
    assert history.history["loss"][0] == pytest.approx(want)


WEIGHTS = {0: 2.0, 1: 5.0, 2: 0.5}


@pytest.mark.parametrize(
    ("outputs", "loss", "targets", "classes"),
    [
        # Labels of every step, of every sequence, and one-hot.
        ((4, 3), "sparse_categorical_crossentropy", lambda c: c, (6, 4)),
        ((4, 3), "sparse_categorical_crossentropy", lambda c: c[..., None], (6, 4)),
        ((4, 3), "categorical_crossentropy", lambda c: np.eye(3)[c], (6, 4)),
        ((4, 1), "mse", lambda c: c, (6, 4)),
        ((3,), "sparse_categorical_crossentropy", lambda c: c, (6,)),
        ((3,), "sparse_categorical_crossentropy", lambda c: c[:, None] * 1.0, (6,)),
        ((3,), "categorical_crossentropy", lambda c: np.eye(3)[c], (6,)),
        ((1,), "mse", lambda c: c[:, None], (6,)),
    ],
)
@pytest.mark.parametrize("own", [None, (), (1,)])
def test_class_weights_are_those_of_the_labels(outputs, loss, targets, classes, own):
    x = Input(shape=(4, 2), dtype="float64")
    several = len(outputs) == 2
    h = LSTM(5, return_sequences=several, dtype="float64")(x)
    model = Model(x, Dense(outputs[-1], activation="softmax", dtype="float64")(h))
    model.compile(SGD(0.0), loss)
    data = normal(6, 4, 2)
    classes = np.random.default_rng(2).integers(0, 3, size=classes)
    assert set(classes.flat) == {0, 1, 2}
    y = targets(classes)
    sample_weight = None
    weights = np.vectorize(WEIGHTS.get)(classes)
    if own is not None:
        rows = np.arange(1.0, 7.0)
        sample_weight = rows.reshape(6, *own)
        weights = weights * (rows[:, None] if several else rows)
    found = model.fit(
        data, y, class_weight=WEIGHTS, sample_weight=sample_weight, batch_size=6, verbose=0
    ).history["loss"][0]
    each = model.predict(data)
    want = losses.get(loss)(y, each, sample_weight=weights)
    assert found == pytest.approx(want, rel=1e-9)
    batches = iter([(data, y) if own is None else (data, y, sample_weight)])
    assert model.fit(batches, class_weight=WEIGHTS, verbose=0).history["loss"][0] == found
    logs = model.train_on_batch(data, y, sample_weight=sample_weight, class_weight=WEIGHTS)
    assert logs == found


def test_rows_kept_for_validation_do_not_weigh_by_class():
    model = small_model()
    model.optimizer.learning_rate = 0.0
    labels = (Y > 0).astype(int)
    history = model.fit(
        X, labels, class_weight={0: 20.0, 1: 50.0}, validation_split=0.3, verbose=0
    ).history
    want = model.evaluate(X[7:], labels[7:], verbose=0)
    assert history["val_loss"][0] == pytest.approx(want, rel=1e-9)
    assert history["loss"][0] > 10 * want


@pytest.mark.parametrize("shape", [(10,), (10, 1), (10, 4), (10, 4, 1)])
def test_sample_weights_of_every_shape(shape):
    model = Sequential(
        [
            LSTM(3, input_shape=(4, 2), return_sequences=True, dtype="float64"),
            Dense(2, dtype="float64"),
        ]
    )
    model.compile(SGD(0.0), "mse")
    weights, y = np.abs(normal(*shape)) + 0.1, normal(10, 4, 2)
    error = ((model.predict(X) - y) ** 2).mean(axis=-1)
    want = (error * weights.reshape(10, -1)).mean()
    found = [
        model.evaluate(X, y, sample_weight=weights, verbose=0),
        model.test_on_batch(X, y, sample_weight=weights),
        model.train_on_batch(X, y, sample_weight=weights),
        model.fit(X, y, sample_weight=weights, batch_size=5, verbose=0).history["loss"][0],
        model.fit(iter([(X, y, weights)]), verbose=0).history["loss"][0],
    ]
    np.testing.assert_allclose(found, want, rtol=1e-9)


def sequences():
    return Sequential(
        [Masking(input_shape=(4, 2)), LSTM(3, return_sequences=True), TimeDistributed(Dense(2))]
    )


def plain_sequences():
    return Sequential([LSTM(3, input_shape=(4, 2), return_sequences=True), Dense(2)])


def two_outputs():
    x = Input(shape=(4, 2))
    h = LSTM(3, return_sequences=True)(x)
    return Model(x, [Dense(2, name="a")(h), TimeDistributed(Dense(2), name="b")(h)])


@pytest.mark.parametrize("make", [sequences, plain_sequences, two_outputs])
@pytest.mark.parametrize("loss", ["mse", "mae"])
@pytest.mark.parametrize("shape", [None, (10,), (10, 1), (10, 4)])
def test_every_way_to_one_batch_reports_the_same_bits(make, loss, shape):
    model = make()
    model.compile(SGD(0.0), loss, metrics=["huber"], weighted_metrics=["log_cosh"])
    x = X.copy()
    x[0, 2:] = x[3, 1] = 0
    several = len(model.outputs) > 1
    y = [normal(10, 4, 2), normal(10, 4, 2, seed=1)] if several else normal(10, 4, 2)
    weights = None if shape is None else np.abs(normal(*shape)) + 0.1
    want = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    assert len(set(want.values())) == len(want)
    batch = {"sample_weight": weights, "return_dict": True}
    assert model.test_on_batch(x, y, **batch) == want
    assert model.train_on_batch(x, y, **batch) == want
    history = model.fit(
        x,
        y,
        sample_weight=weights,
        validation_data=(x, y, weights),
        shuffle=False,
        verbose=0,
    ).history
    assert history == {
        **{name: [value] for name, value in want.items()},
        **{f"val_{name}": [value] for name, value in want.items()},
    }


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end", "on_epoch_begin"])
def test_stop_training_ends_the_epoch_after_the_running_batch(hook):
    model = small_model()
    seen = []

    def stop(*arguments):
        model.stop_training = True

    count = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    ends = LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append("epoch"),
        on_train_end=lambda logs: seen.append("train"),
    )
    history = model.fit(
        X,
        Y,
        batch_size=2,
        epochs=3,
        steps_per_epoch=3,
        validation_data=(X, Y),
        verbose=0,
        callbacks=[LambdaCallback(**{hook: stop}), count, ends],
    ).history
    assert seen == [0, "epoch", "train"]
    assert model.optimizer.iterations == 1
    assert len(history["val_loss"]) == 1


def test_one_array_of_sample_weights_is_for_all_outputs():
    x = Input(shape=(4, 2))
    h = LSTM(3)(x)
    model = Model(x, [Dense(1, name="a")(h), Dense(2, name="b")(h)])
    model.compile("sgd", "mse", weighted_metrics=["mae"])
    y, weights = [Y, normal(10, 2)], np.arange(1.0, 11.0)
    want = model.evaluate(X, y, sample_weight=[weights, weights], verbose=0)
    assert model.evaluate(X, y, sample_weight=weights, verbose=0) == want
    assert model.evaluate(X, y, verbose=0) != want


@pytest.mark.parametrize("name", ["acc", "accuracy"])
def test_accuracy_is_reported_by_the_name_it_was_asked_by(name, tmp_path):
    model = small_model(metrics=[name], weighted_metrics=[name])
    labels = (Y > 0).astype(int)
    want = np.mean((model.predict(X) > 0.5) == labels)
    assert model.evaluate(X, labels, verbose=0, return_dict=True)[name] == pytest.approx(want)
    early = EarlyStopping(monitor=f"val_{name}", patience=1)
    logs = model.fit(
        X, labels, validation_data=(X, labels), callbacks=early, epochs=2, verbose=0
    ).history
    assert {name, f"val_{name}"} <= set(logs)
    assert early.mode == "max"
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert again.evaluate(X, labels, verbose=0) == model.evaluate(X, labels, verbose=0)


def test_regularizers_count():
    model = Sequential([Dense(2, input_shape=(3,), kernel_regularizer="l2", dtype="float64")])
    model.compile("sgd", "mse")
    x, y = normal(5, 3), normal(5, 2)
    kernel = model.layers[0].kernel.numpy()
    plain = np.mean((model.predict(x) - y) ** 2)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain + 0.01 * np.sum(kernel**2))
    gradient = 2 * x.T @ (model.predict(x) - y) / y.size + 0.02 * kernel
    model.train_on_batch(x, y)
    np.testing.assert_allclose(model.layers[0].kernel.value, kernel - 0.01 * gradient, rtol=1e-9)


def test_activity_regularizers_count():
    model = Sequential(
        [
            LSTM(3, return_sequences=True, activity_regularizer="l2", dtype="float64"),
            TimeDistributed(Dense(2, activity_regularizer="l1", dtype="float64")),
        ]
    )
    x, y = normal(4, 3, 2), normal(4, 3, 2)
    model.build((None, 3, 2))
    weights = [normal(*w.shape) for w in model.weights]
    # Predictions above zero, away from the kink of l1.
    weights[-1] += 6
    model.set_weights(weights)
    model.compile("sgd", "mse")
    prediction = model(x)
    assert prediction.min() > 0.5
    states = model.layers[0](x)
    penalties = 0.01 * (np.sum(states**2) + np.sum(np.abs(prediction))) / 4
    want = np.mean((prediction - y) ** 2) + penalties
    assert model.evaluate(x, y, verbose=0) == pytest.approx(want, rel=1e-12)

    before = model.get_weights()

    def loss(*weights):
        model.set_weights(weights)
        return model.evaluate(x, y, verbose=0), gradients

    model.optimizer.learning_rate = 1.0
    assert model.train_on_batch(x, y) == pytest.approx(want, rel=1e-12)
    gradients = [b - a for b, a in zip(before, model.get_weights(), strict=True)]
    gradcheck(loss, *before, rtol=5e-6, atol=1e-8)


def test_fit_minimises_what_evaluate_reports_of_a_loss_of_ones_own():
    class Tripled(MeanSquaredError):  # noqa: N818
        def elements(self, y_true, y_pred):
            return 3 * super().elements(y_true, y_pred)

        def element_gradient(self, y_true, y_pred):
            return 3 * super().element_gradient(y_true, y_pred)

    model = small_model(Tripled())
    plain = small_model("mse")
    plain.set_weights(model.get_weights())
    plain.optimizer.learning_rate = 3 * model.optimizer.learning_rate
    want = model.evaluate(X, Y, verbose=0)
    assert model.fit(X, Y, verbose=0).history["loss"][0] == pytest.approx(want, rel=1e-12)
    plain.fit(X, Y, verbose=0)
    for found, expected in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_several_outputs_by_name():
    x = Input(shape=(4, 2))
    h = LSTM(3)(x)
    model = Model(x, [Dense(1, name="a")(h), Dense(2, name="b")(h)])
    model.compile(
        "adam",
        loss={"a": "mse", "b": "mae"},
        loss_weights={"b": 0.5},
        metrics={"b": ["mse"]},
    )
    targets = {"a": Y, "b": normal(10, 2)}
    logs = model.fit(X, targets, verbose=0).history
    assert list(logs) == ["loss", "a_loss", "b_loss", "b_mse"] or list(logs) == [
        "loss", "a_loss", "b_loss", "b_mean_squared_error",
    ]  # fmt: skip
    assert logs["loss"][0] == pytest.approx(logs["a_loss"][0] + 0.5 * logs["b_loss"][0], rel=1e-5)
    a, b = model.predict(X)
    assert a.shape == (10, 1)
    assert b.shape == (10, 2)


def test_outputs_of_one_layer_have_names_of_their_own():
    x = Input(shape=(4, 2))
    model = Model(x, LSTM(3, return_state=True, name="lstm")(x))
    model.compile("sgd", ["mse", "mae", None])
    logs = model.fit(X, [normal(10, 3), normal(10, 3), None], verbose=0).history
    assert list(logs) == ["loss", "lstm_loss", "lstm_1_loss"]


def outputs_called(*names, **metrics):
    """A model of an output for each name, compiled; all predict the same."""
    x = Input(shape=(3,))
    model = Model(x, [Dense(1, activation="sigmoid", name=name)(x) for name in names])
    model.compile("sgd", "mse", **metrics)
    return model


# As Keras 3.15 calls them.
REPORTED = {
    "weighted": (
        ["a"],
        {"metrics": ["mae"], "weighted_metrics": ["mae"]},
        ["mae", "weighted_mae"],
    ),
    "several times": (
        ["a"],
        {"metrics": ["mae", "mae"], "weighted_metrics": ["mae", "mae", "mae"]},
        ["mae", "mae_1", "weighted_mae", "weighted_mae_1", "weighted_mae_2"],
    ),
    "two objects": (["a"], {"metrics": [AUC(), AUC()]}, ["auc", "auc_1"]),
    "weighted alone": (["a"], {"weighted_metrics": ["mae"]}, ["mae"]),
    "two outputs": (
        ["a", "b"],
        {"metrics": [["mae"], ["mae", "mae"]], "weighted_metrics": [["mae"], ["mae"]]},
        ["a_mae", "a_weighted_mae", "b_mae", "b_mae_1", "b_weighted_mae"],
    ),
    "one output of two": (
        ["a", "b"],
        {"metrics": {"a": ["mae"], "b": ["mae"]}, "weighted_metrics": {"b": ["mae"]}},
        ["a_mae", "b_mae", "b_weighted_mae"],
    ),
    # Where Keras loses one.
    "a name that would be made": (
        ["a"],
        {"metrics": [AUC(name="mae_1"), "mae", "mae"]},
        ["mae_1", "mae", "mae_2"],
    ),
    "that of the loss": (["a"], {"metrics": [AUC(name="loss")]}, ["loss_1"]),
    "that of a loss": (["a", "b"], {"metrics": {"a": [AUC(name="loss")]}}, ["a_loss_1"]),
    "those of validation": (
        ["a"],
        {"metrics": [AUC(name="val_loss"), AUC(name="val_mae"), "mae"]},
        ["val_loss_1", "val_mae", "mae_1"],
    ),
}


@pytest.mark.parametrize("case", REPORTED)
def test_every_metric_has_a_name_of_its_own(case):
    outputs, metrics, expected = REPORTED[case]
    model = outputs_called(*outputs, **metrics)
    x, y = normal(10, 3), [(normal(10, 1, seed=n) > 0) * 1.0 for n in range(len(outputs))]
    losses = ["loss"] if len(outputs) == 1 else ["loss", "a_loss", "b_loss"]
    assert model.metrics_names == [*losses, *expected]
    history = model.fit(x, y, validation_data=(x, y), verbose=0).history
    names = [*losses, *expected]
    assert list(history) == [*names, *(f"val_{name}" for name in names)]
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(found) == names
    assert model.evaluate(x, y, verbose=0) == list(found.values())
    assert list(model.train_on_batch(x, y, return_dict=True)) == names


def test_weighted_and_plain_metrics_of_one_name_are_two():
    model = outputs_called("a", metrics=["mae"], weighted_metrics=["mae"])
    x, y, weights = normal(10, 3), normal(10, 1), np.abs(normal(10))
    found = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    errors = np.abs(model.predict(x)[0] - y)[:, 0]
    assert found["mae"] == pytest.approx(errors.mean(), rel=1e-6)
    weighted = (errors * weights).sum() / weights.sum()
    assert found["weighted_mae"] == pytest.approx(weighted, rel=1e-6)


def test_one_metric_object_in_several_places_counts_each_by_itself():
    metric = MeanAbsoluteError(name="gap")
    model = outputs_called("a", "b", metrics=[metric], weighted_metrics={"a": [metric]})
    x, y = normal(10, 3), [normal(10, 1), normal(10, 1, seed=1)]
    weights = [np.abs(normal(10, seed=2)), None]
    found = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    a, b = (np.abs(p - t)[:, 0] for p, t in zip(model.predict(x), y, strict=True))
    assert found["a_gap"] == pytest.approx(a.mean(), rel=1e-6)
    assert found["b_gap"] == pytest.approx(b.mean(), rel=1e-6)
    weighted = (a * weights[0]).sum() / weights[0].sum()
    assert found["a_weighted_gap"] == pytest.approx(weighted, rel=1e-6)
    assert metric.result() == found["a_gap"]


def test_callbacks_know_which_way_numbered_and_weighted_metrics_go():
    class Likeness(metrics.MeanSquaredError):
        direction = "up"

    model = outputs_called(
        "a",
        "b",
        metrics={"a": ["mae", "mae"], "b": [AUC(), AUC(), Likeness(name="likeness")]},
        weighted_metrics={"b": [AUC()]},
    )
    directions = {"loss": "min", "a_loss": "min", "a_mae_1": "min", "b_auc_1": "max"}
    directions |= {"b_weighted_auc": "max", "b_likeness": "max"}
    stops = [EarlyStopping(f"val_{name}", patience=9) for name in directions]
    x, y = normal(10, 3), [(normal(10, 1, seed=n) > 0) * 1.0 for n in (0, 1)]
    model.fit(x, y, epochs=3, validation_data=(x, y), callbacks=stops, verbose=0)
    assert [stop.mode for stop in stops] == list(directions.values())


def test_outputs_have_names_of_their_own_beside_numbered_ones():
    x = Input(shape=(4, 2))
    h, _, c = LSTM(3, return_state=True, name="lstm")(x)
    model = Model(x, [h, c, Dense(1, name="lstm_1")(h)])
    assert model.output_names == ["lstm", "lstm_2", "lstm_1"]


def test_compile_before_build_knows_the_output():
    model = Sequential([LSTM(3), Dense(1, name="out")])
    model.compile("sgd", loss={"out": "mse"})
    assert list(model.fit(X, {"out": Y}, verbose=0).history) == ["loss"]


def test_accuracy_for_sequence_labels():
    x = np.array([[1, 2, 3, 0], [4, 5, 0, 0]])
    model = Sequential(
        [
            Embedding(7, 3, mask_zero=True, input_shape=(4,)),
            LSTM(4, return_sequences=True),
            TimeDistributed(Dense(5, activation="softmax")),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    y = model.predict(x).argmax(axis=-1)
    wrong = y.copy()
    wrong[0, 0] = (wrong[0, 0] + 1) % 5
    wrong[1, 3] = (wrong[1, 3] + 1) % 5
    # Five steps count; one of them is labelled otherwise.
    assert model.evaluate(x, wrong, verbose=0)[1] == pytest.approx(4 / 5)


def test_shuffle_reaches_every_sample_and_follows_the_seed():
    seen = []

    class Recorder(Dense):
        def call(self, inputs, context=None):
            if context is not None:
                seen.append(inputs[:, 0].tolist())
            return super().call(inputs, context=context)

    def run(seed):
        seen.clear()
        set_random_seed(seed)
        model = Sequential([Recorder(1, input_shape=(1,), dtype="float64")])
        model.compile("sgd", "mse")
        x = np.arange(10.0)[:, None]
        model.fit(x, x, batch_size=3, epochs=2, verbose=0)
        return [list(batch) for batch in seen]

    first = run(1)
    epochs = [[row for batch in part for row in batch] for part in (first[:4], first[4:])]
    assert [len(batch) for batch in first] == [3, 3, 3, 1] * 2
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1] != list(range(10))
    assert run(1) == first
    assert run(2) != first


def test_a_seed_makes_a_run_repeatable_to_the_bit():
    def run():
        set_random_seed(7)
        model = Sequential(
            [
                LSTM(5, input_shape=(4, 2), dropout=0.2, recurrent_dropout=0.2),
                Dropout(0.3),
                Dense(1),
            ]
        )
        model.compile("adam", "mse")
        model.fit(X, Y, batch_size=3, epochs=3, verbose=0)
        return model.get_weights()

    for one, two in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_validation():
    model = small_model(metrics=["mae"])
    history = model.fit(X, Y, validation_split=0.3, epochs=2, verbose=0)
    assert list(history.history) == ["loss", "mae", "val_loss", "val_mae"]
    want = model.evaluate(X[7:], Y[7:], verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(want[0])
    history = model.fit(
        X, Y, validation_data=(X[:3], Y[:3]), validation_freq=2, epochs=5, verbose=0
    )
    assert len(history.history["val_loss"]) == 2
    assert len(history.history["loss"]) == 5


def test_batches_from_iterables():
    model = small_model()
    list_of_batches = [(X[:4], Y[:4]), (X[4:], Y[4:])]

    class Batches:
        def __len__(self):
            return 2

        def __getitem__(self, number):
            return list_of_batches[number]

    def endless():
        while True:
            yield from list_of_batches

    model.optimizer.learning_rate = 0.0
    want = model.evaluate(X, Y, verbose=0)
    for source, steps in ((Batches(), None), (endless(), 2), (iter(list_of_batches), None)):
        history = model.fit(source, steps_per_epoch=steps, verbose=0)
        assert history.history["loss"][0] == pytest.approx(want)
    np.testing.assert_allclose(model.predict(Batches()), model.predict(X), rtol=1e-12)
    assert model.evaluate(Batches(), verbose=0) == pytest.approx(want)
    for lists in (list(batch) for batch in list_of_batches):
        assert np.isfinite(model.fit(iter([lists]), verbose=0).history["loss"][0])
    with pytest.raises(ValueError, match="gave no batches"):
        model.fit(iter([]), verbose=0)
    with pytest.raises(ValueError, match="gave no batches"):
        model.evaluate(iter([]), verbose=0)
    with pytest.warns(UserWarning, match="ran out after 2 of 3 steps"):
        model.fit(Batches(), steps_per_epoch=3, verbose=0)


def test_validation_on_iterables():
    def endless():
        while True:
            yield X, Y

    model = small_model()
    history = model.fit(
        X, Y, epochs=3, verbose=0, validation_data=endless(), validation_steps=2
    ).history
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(X, Y, verbose=0))
    once = model.fit(X, Y, epochs=3, verbose=0, validation_data=iter([(X, Y)]), validation_freq=[2])
    assert len(once.history["val_loss"]) == 1
    before = snapshot(model)
    with pytest.raises(ValueError, match="generator, which the first epoch uses up"):
        model.fit(X, Y, epochs=3, verbose=0, validation_data=iter([(X, Y)]))
    assert_unchanged(model, before)
    with pytest.warns(UserWarning, match="fit: ") as caught:
        logs = model.fit(
            X, Y, epochs=3, verbose=0, validation_data=iter([(X, Y)]), validation_steps=1
        ).history
    assert [str(each.message).partition("fit: ")[2] for each in caught] == [
        "no validation data are left after epoch 1.",
        "no validation data are left after epoch 2.",
    ]
    assert (len(logs["loss"]), len(logs["val_loss"])) == (3, 1)
    with pytest.raises(ValueError, match="gave no batches"):
        model.fit(X, Y, verbose=0, validation_data=iter([]))


class Recorder(Layer):
    """Keeps the first number of every row that passes."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.batches = []

    def call(self, inputs, training=False):
        self.batches.append([int(row) for row in inputs.reshape(len(inputs), -1)[:, 0]])
        return inputs

    def backward(self, context, dy):
        return dy

    def compute_output_shape(self, input_shape):
        return input_shape


ROWS = np.arange(10.0)[:, None]


def recording_model(*layers):
    model = Sequential([Recorder(), *layers, Dense(1)])
    model.compile("sgd", "mse")
    return model


def batches_of_two():
    for start in range(0, 10, 2):
        yield ROWS[start : start + 2], ROWS[start : start + 2]


class Indexed:
    def __len__(self):
        return 5

    def __getitem__(self, number):
        return list(batches_of_two())[number]


class Iterable:
    def __iter__(self):
        return batches_of_two()


PAIRS = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize("source", [batches_of_two, Indexed, Iterable])
def test_an_unbuilt_model_is_built_from_the_first_batch_of_an_iterable(source):
    model = recording_model()
    model.fit(source(), verbose=0)
    assert model.built
    assert model.layers[0].batches == PAIRS
    other = recording_model()
    assert np.isfinite(other.evaluate(source(), verbose=0))
    assert other.layers[0].batches == PAIRS


def test_an_unbuilt_model_takes_its_input_in_a_list():
    model = recording_model()
    model.fit([ROWS], ROWS, batch_size=4, shuffle=False, verbose=0)
    assert model.layers[0].batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("data", ["arrays", Indexed, Iterable])
def test_an_epoch_of_some_steps_goes_on_where_the_one_before_stopped(data):
    model = recording_model()
    x = {"x": ROWS, "y": ROWS, "batch_size": 2} if data == "arrays" else {"x": data()}
    with pytest.warns(UserWarning, match="ran out after 1 of 2 steps"):
        model.fit(**x, epochs=4, steps_per_epoch=2, shuffle=False, verbose=0)
    assert model.layers[0].batches == [*PAIRS, *PAIRS[:2]]


def test_a_generator_goes_on_over_epochs_and_calls():
    model = recording_model()
    source = batches_of_two()
    model.fit(source, epochs=2, steps_per_epoch=2, verbose=0)
    model.fit(source, steps_per_epoch=1, verbose=0)
    assert model.layers[0].batches == PAIRS


def test_shuffled_epochs_of_some_steps_make_a_pass_over_all_rows():
    model = recording_model()
    with pytest.warns(UserWarning, match="ran out"):
        model.fit(ROWS, ROWS, batch_size=2, epochs=6, steps_per_epoch=2, verbose=0)
    seen = [row for batch in model.layers[0].batches for row in batch]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:] != list(range(10))


def test_steps_of_arrays_make_a_pass_unless_there_is_a_batch_size():
    model = recording_model()
    model.fit(ROWS, ROWS, steps_per_epoch=3, epochs=2, shuffle=False, verbose=0)
    assert model.layers[0].batches == 2 * [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert model.predict(ROWS, steps=3).shape == (10, 1)
    assert model.predict(ROWS, batch_size=3, steps=2).shape == (6, 1)


def test_validation_of_some_steps_begins_anew_every_time():
    model = recording_model()
    model.fit(
        ROWS[:1],
        ROWS[:1],
        epochs=2,
        batch_size=2,
        validation_data=(ROWS, ROWS),
        validation_steps=2,
        verbose=0,
    )
    assert model.layers[0].batches == 2 * [[0], *PAIRS[:2]]


def test_a_part_kept_for_validation_has_batches_and_steps_of_its_own():
    model = recording_model()
    model.fit(ROWS, ROWS, validation_split=0.6, shuffle=False, validation_batch_size=2, verbose=0)
    assert model.layers[0].batches == [[0, 1, 2, 3], [4, 5], [6, 7], [8, 9]]


def test_a_generator_without_steps_cannot_last_for_several_epochs():
    model = recording_model()
    source = batches_of_two()
    with pytest.raises(ValueError, match=r"`x` is a generator.*give `steps_per_epoch`"):
        model.fit(source, epochs=3, verbose=0)
    assert len(list(source)) == 5
    assert not model.built
    assert len(model.fit(batches_of_two(), initial_epoch=2, epochs=3, verbose=0).epoch) == 1


@pytest.mark.parametrize(
    ("steps", "warnings"),
    [
        (5, ["the data ran out after epoch 1 of 3."]),
        (3, ["the data ran out after 2 of 3 steps.", "the data ran out after epoch 2 of 3."]),
    ],
)
def test_a_generator_that_runs_out_ends_training_in_good_order(steps, warnings):
    model = recording_model()
    told = []
    callback = LambdaCallback(on_train_end=told.append, on_epoch_begin=lambda *_: told.append("+"))
    with pytest.warns(UserWarning, match="fit: ") as caught:
        history = model.fit(
            batches_of_two(), epochs=3, steps_per_epoch=steps, verbose=0, callbacks=[callback]
        )
    assert [str(each.message).partition("fit: ")[2] for each in caught] == warnings
    assert model.layers[0].batches == PAIRS
    reported = history.history["loss"]
    assert told == ["+"] * len(reported) + [{"loss": reported[-1]}]


RAGGED = [[1.0, 2.0], [3.0]]


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda model: model.fit(RAGGED, ROWS[:2], verbose=0), "fit: the input"),
        (lambda model: model.evaluate(RAGGED, ROWS[:2], verbose=0), "evaluate: the input"),
        (lambda model: model.fit(iter([(RAGGED, ROWS[:2])]), verbose=0), "fit: the input"),
        (lambda model: model.fit(ROWS[:2], RAGGED, verbose=0), "fit: the targets 'dense_"),
        (lambda model: model.train_on_batch(RAGGED, ROWS[:2]), "train_on_batch: the input"),
        (lambda model: model(RAGGED), "the input"),
    ],
)
def test_ragged_data_are_refused_by_name(use, what):
    model = recording_model()
    with pytest.raises(
        ValueError, match=f'Sequential "sequential_.*: {what}.* must be a rectangular array'
    ):
        use(model)


def test_the_source_of_batches_hears_of_the_end_of_each_epoch():
    class Batches:
        epochs = 0

        def __len__(self):
            return 1

        def __getitem__(self, number):
            return X, Y

        def on_epoch_end(self):
            self.epochs += 1

    batches = Batches()
    small_model().fit(batches, epochs=3, verbose=0)
    assert batches.epochs == 3


def test_predictions_share_no_memory_with_the_data():
    source = Input((4, 2))
    model = Model(source, [source, Reshape((8,))(source)])
    x = X.astype("float32")
    for outputs in (model.predict(x), model.predict_on_batch(x)):
        assert not any(np.shares_memory(y, x) for y in outputs)


def test_a_list_of_callbacks_may_come_ready_made_and_evaluate_keeps_the_history():
    model = small_model()
    history = model.fit(X, Y, callbacks=CallbackList([], model=model), verbose=0)
    assert len(history.history["loss"]) == 1
    model.evaluate(X, Y, verbose=0)
    assert model.history is history


@pytest.mark.parametrize("what", ["train_on_batch", "test_on_batch", "predict_on_batch"])
def test_a_batch_of_nothing_is_refused(what):
    model = small_model()
    with pytest.raises(ValueError, match="no samples"):
        getattr(model, what)(*[X[:0], Y[:0]][: 1 if what.startswith("predict") else 2])


def test_train_test_and_predict_on_batch():
    model = small_model(metrics=["mae"])
    loss, mae = model.test_on_batch(X, Y)
    assert model.train_on_batch(X, Y) == pytest.approx([loss, mae])
    assert model.train_on_batch(X, Y, return_dict=True)["loss"] < loss
    np.testing.assert_array_equal(model.predict_on_batch(X), model.predict(X))


def test_predict_in_batches_equals_predict_at_once():
    model = small_model()
    np.testing.assert_allclose(model.predict(X, batch_size=3), model.predict(X), rtol=1e-12)


def test_stateful_layers_carry_over_batches():
    layer = LSTM(3, stateful=True, return_sequences=True, batch_input_shape=(2, 3, 1))
    stateful = Sequential([layer])
    plain = Sequential([LSTM(3, return_sequences=True, input_shape=(6, 1))])
    plain.set_weights(stateful.get_weights())
    x = normal(2, 6, 1)
    want = plain.predict(x)
    got = np.concatenate([stateful.predict(x[:, :3]), stateful.predict(x[:, 3:])], axis=1)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    stateful.reset_states()
    np.testing.assert_allclose(stateful.predict(x[:, :3]), want[:, :3], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="stateful with a batch size of 2"):
        stateful.predict(x[:1, :3])


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_states_are_kept_from_batch_to_batch_of_unknown_size(loaded, wrapped, tmp_path):
    layer = LSTM(3, stateful=True)
    model = Sequential([Input((4, 2)), Bidirectional(layer) if wrapped else layer, Dense(1)])
    if loaded:
        model.save(tmp_path / "model.safetensors")
        model = load_model(tmp_path / "model.safetensors")
    model.compile("sgd", "mse")
    stateful = model.layers[0]
    together = model.predict(X, batch_size=5)
    assert stateful.states[0].shape == (5, 3)
    model.reset_states()
    parts = [model(X[:5]), model(X[5:])]
    np.testing.assert_array_equal(together, np.concatenate(parts))
    model.reset_states()
    assert np.abs(together[5:] - model.predict(X[5:])).max() > 1e-3
    model.reset_states()
    loss = model.evaluate(X, Y, batch_size=5, verbose=0)
    assert loss == pytest.approx(np.square(together - Y).mean(), rel=1e-5)
    # As before when training came in between.
    model.fit(X[:5], Y[:5], verbose=0)
    model.reset_states()
    first = model.predict(X[:5])
    assert np.abs(model.predict(X[:5]) - first).max() > 1e-3
    with pytest.raises(ValueError, match="stateful with a batch size of 5, got"):
        model.predict(X[:8], batch_size=5)


def test_an_activation_that_a_callback_changes_counts_at_once():
    def change(epoch, logs):
        if epoch == 0:
            model.layers[0].activation = model.layers[1].activation = "softsign"

    results = []
    for swap in (False, True):
        set_random_seed(3)
        model = small_model()
        if swap:
            hook = LambdaCallback(on_epoch_end=change)
            model.fit(X, Y, epochs=2, verbose=0, shuffle=False, callbacks=hook)
        else:
            model.fit(X, Y, verbose=0, shuffle=False)
            change(0, {})
            model.fit(X, Y, verbose=0, shuffle=False)
        results.append(model.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_callbacks_get_the_model_and_can_stop():
    model = small_model()
    calls = []
    stop = LambdaCallback(on_epoch_end=lambda epoch, logs: calls.append((epoch, sorted(logs))))

    class Stop(Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model.fit(X, Y, epochs=5, verbose=0, callbacks=[stop, Stop()])
    assert calls == [(0, ["loss"]), (1, ["loss"])]
    early = EarlyStopping(monitor="loss", patience=0, min_delta=1e9, restore_best_weights=True)
    before = snapshot(model)
    history = model.fit(X, Y, epochs=5, verbose=0, callbacks=[early])
    assert len(history.history["loss"]) == 2
    assert any((a != b).any() for a, b in zip(model.get_weights(), before, strict=True))


def test_training_goes_on_where_it_stopped():
    model, other = small_model(), small_model()
    other.set_weights(model.get_weights())
    for each in (model, other):
        each.compile("adam", "mse")
    model.fit(X, Y, epochs=4, verbose=0, shuffle=False)
    other.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    history = other.fit(X, Y, initial_epoch=2, epochs=4, verbose=0, shuffle=False)
    assert history.epoch == [2, 3]
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_layer_frozen_for_a_while_keeps_what_the_optimizer_remembers(tmp_path):
    model = Sequential([LSTM(3, input_shape=(4, 2)), Dense(1)])
    model.compile("rmsprop", "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    iterations, _, *squares = model.optimizer.get_state()
    model.layers[0].trainable = False
    model.save(tmp_path / "model.safetensors", include_optimizer=True)
    model.fit(X, Y, verbose=0)
    model.layers[0].trainable = True
    model.predict(X)
    model.save(tmp_path / "model.safetensors", include_optimizer=True)
    later, _, *squares_later = model.optimizer.get_state()
    assert later == iterations + 1
    for square, now in zip(squares[:3], squares_later[:3], strict=True):
        assert square.any()
        np.testing.assert_array_equal(now, square)
    for square, now in zip(squares[3:], squares_later[3:], strict=True):
        assert (now != square).all()


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end"])
def test_what_callbacks_set_in_layers_counts_from_the_next_epoch(hook):
    x, y = normal(6, 4, 3), normal(6, 4, 2, seed=1)

    def small():
        set_random_seed(3)
        lower = LSTM(3, return_sequences=True, trainable=False, seed=5)
        middle = Dense(3, activation="tanh")
        upper = Dense(2, trainable=False, kernel_regularizer="l2")
        model = Sequential([Input((4, 3)), lower, middle, upper])
        model.compile(SGD(0.1, momentum=0.5), "mse")
        return model

    def change(model):
        model.trainable = True
        model.layers[0].dropout = 0.5

    several_fits = small()
    if hook == "on_epoch_end":
        several_fits.fit(x, y, shuffle=False, verbose=0)
    change(several_fits)
    several_fits.fit(x, y, epochs=2, shuffle=False, verbose=0)

    one_fit = small()
    callback = LambdaCallback(**{hook: lambda epoch, logs: change(one_fit)})
    epochs = 2 if hook == "on_epoch_begin" else 3
    one_fit.fit(x, y, epochs=epochs, shuffle=False, verbose=0, callbacks=callback)
    for got, want in zip(one_fit.get_weights(), several_fits.get_weights(), strict=True):
        np.testing.assert_array_equal(got, want)


# ---- what is printed ---------------------------------------------------------------------------


def test_progress(capsys):
    model = small_model()
    model.fit(X, Y, batch_size=5, epochs=2, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/2"
    assert lines[1].startswith("2/2 - ")
    assert " - loss: " in lines[1]
    model.fit(X, Y, batch_size=5, verbose=1)
    text = capsys.readouterr().out
    assert "Epoch 1/1" in text or "2/2" in text
    assert "━" in text
    model.fit(X, Y, verbose=0)
    model.predict(X)
    assert capsys.readouterr().out == ""
    model.predict(X, verbose=1)
    assert "1/1" in capsys.readouterr().out


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": Y[:7]}, ValueError, "same number of samples, got x 10, y 7"),
        ({"sample_weight": np.ones(3)}, ValueError, "same number of samples"),
        ({"x": normal(10, 4, 3)}, ValueError, r"must have shape \(None, 4, 2\), got \(10, 4, 3\)"),
        ({"x": normal(10, 4)}, ValueError, r"got \(10, 4\)"),
        ({"x": np.full((10, 4, 2), "a")}, TypeError, "must hold real numbers"),
        ({"x": X.astype(object)}, TypeError, "must hold real numbers"),
        ({"x": X[:0], "y": Y[:0]}, ValueError, "no samples"),
        ({"x": [X, X]}, (ValueError, TypeError), "shape|arrays"),
        ({"y": normal(10, 3)}, ValueError, "shape"),
        ({"y": None}, ValueError, "no targets"),
        ({"epochs": 0}, ValueError, "`epochs` must be a positive integer"),
        ({"epochs": 1.5}, TypeError, "`epochs` must be a positive integer"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be a positive integer"),
        ({"validation_split": 1.0}, ValueError, r"\[0, 1\)"),
        ({"validation_split": 0.999}, ValueError, "leaves nothing"),
        ({"validation_data": X}, ValueError, "validation_data"),
        ({"steps_per_epoch": -1}, ValueError, "number of steps must be a positive integer"),
        ({"initial_epoch": "a"}, TypeError, "`initial_epoch`"),
        ({"class_weight": 3}, TypeError, "must be a dict of label to weight"),
        ({"validation_split": "a"}, TypeError, "`validation_split` must be a number"),
        ({"validation_freq": "a"}, TypeError, "`validation_freq` must be a positive integer"),
        ({"validation_freq": np.int64(0)}, ValueError, "`validation_freq` must be a positive"),
        ({"verbose": 3}, ValueError, "`verbose` must be"),
        ({"callbacks": [3]}, TypeError, "callback"),
    ],
)
def test_fit_refuses_and_changes_nothing(arguments, error, message):
    model = small_model()
    before = snapshot(model)
    with pytest.raises(error, match=message):
        model.fit(**{"x": X, "y": Y, "verbose": 0, **arguments})
    assert_unchanged(model, before)
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizer": "adamm"}, ValueError, "adam"),
        ({"loss": "msee"}, ValueError, "mse"),
        ({"metrics": ["accurracy"]}, ValueError, "accuracy"),
        ({"metrix": []}, TypeError, "metrics"),
        ({"loss": {"other": "mse"}}, ValueError, "unknown outputs"),
        ({"loss": ["mse", "mse"]}, ValueError, "one entry for each"),
        ({"loss_weights": "a"}, TypeError, "`loss_weights` must be"),
    ],
)
def test_compile_refuses_and_stays_compiled(arguments, error, message):
    model = small_model()
    before = model.optimizer
    with pytest.raises(error, match=message):
        model.compile(**{"optimizer": "adam", "loss": "mse", **arguments})
    assert model.optimizer is before
    model.fit(X, Y, verbose=0)


def test_not_compiled_and_no_loss():
    model = Sequential([Dense(1, input_shape=(3,))])
    with pytest.raises(ValueError, match=r'Sequential "sequential_.*must be compiled before `fit`'):
        model.fit(np.ones((2, 3)), np.ones((2, 1)))
    model.compile("adam")
    with pytest.raises(ValueError, match="needs a loss"):
        model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0)


@pytest.mark.parametrize("what", ["predict", "predict_on_batch"])
def test_predict_before_build(what):
    model = Sequential([LSTM(3), Dense(1)])
    with pytest.raises(ValueError, match=f'Sequential "sequential_.*is not built yet, so `{what}`'):
        getattr(model, what)(X)
    assert not model.built
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    assert getattr(model, what)(X).shape == (10, 1)


def test_weights_set_by_hand_are_checked():
    model = small_model()
    before = snapshot(model)
    bad = snapshot(model)
    bad[-1] = np.array([np.nan])
    with pytest.raises(ValueError, match="must be finite, got NaN"):
        model.set_weights(bad)
    with pytest.raises(ValueError, match="needs 5 arrays, got 4"):
        model.set_weights(before[:4])
    bad[-1] = np.ones(2)
    with pytest.raises(ValueError, match=r"must have shape \(1,\), got \(2,\)"):
        model.set_weights(bad)
    assert_unchanged(model, before)


def test_an_interrupt_leaves_a_model_that_works():
    model = small_model()

    def interrupt(batch, logs):
        if batch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(
            X, Y, batch_size=2, verbose=0, callbacks=LambdaCallback(on_train_batch_end=interrupt)
        )
    assert model.optimizer.iterations == 2
    model.fit(X, Y, verbose=0)
    assert np.isfinite(model.predict(X)).all()
