"""Callbacks: what they do to a real training, and with logs made up for the purpose."""

import csv
import math

import numpy as np
import pytest

from fastlstm.callbacks import (
    BackupAndRestore,
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from fastlstm.layers import Dense
from fastlstm.layers.weight import Weight
from fastlstm.models import Sequential, load_model

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 1))


class Stage:
    """A model that only counts: its weight is the number of the epoch."""

    def __init__(self):
        self.weights = [Weight(np.array([-1.0]), "epoch")]
        self.stop_training = False
        self.optimizer = type("Optimizer", (), {"learning_rate": 1.0})()

    @property
    def epoch(self):
        return self.weights[0].value.item()

    @epoch.setter
    def epoch(self, epoch):
        self.weights[0].assign([epoch])

    def get_weights(self):
        return [weight.numpy() for weight in self.weights]


def play(callback, results, name="val_loss"):
    """Show `callback` one result an epoch; return the stage and the last epoch played."""
    stage = Stage()
    run = CallbackList([callback], model=stage, verbose=0, epochs=len(results), steps=1)
    run.on_train_begin({})
    for epoch, result in enumerate(results):
        run.on_epoch_begin(epoch, {})
        stage.epoch = float(epoch)
        run.on_epoch_end(epoch, {name: result})
        if stage.stop_training:
            break
    run.on_train_end({})
    return stage, epoch


def model():
    model = Sequential([Dense(1, input_shape=(3,), dtype="float64")])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("arguments", "results", "stops", "weights"),
    [
        ({"patience": 2}, [5, 4, 4, 4, 1], 3, 3),
        ({"patience": 2, "restore_best_weights": True}, [5, 3, 4, 3.5, 1], 3, 1),
        ({"patience": 0}, [5, 4, 4.5, 1], 2, 2),
        ({"patience": 1, "min_delta": 0.5}, [5, 4.8, 4.7], 1, 1),
        ({"patience": 1, "start_from_epoch": 2}, [1, 5, 5, 4, 5, 5], 4, 4),
        ({"patience": 1, "baseline": 2.0}, [5, 1, 4, 4], 2, 2),
        ({"patience": 2, "baseline": 2.0}, [5, 4, 3, 3.5, 1], 3, 3),
        ({"patience": 5, "restore_best_weights": True}, [3, 1, 2], 2, 1),
        ({"patience": 2, "restore_best_weights": True}, [math.nan, 3, 4, 5, 6], 3, 1),
        ({"patience": 2, "restore_best_weights": True}, [3, math.nan, math.nan, 1], 2, 0),
        ({"patience": 3, "restore_best_weights": True}, [math.nan] * 5, 2, 0),
    ],
)
def test_early_stopping(arguments, results, stops, weights):
    stage, last = play(EarlyStopping(**arguments), results)
    assert (last, stage.epoch) == (stops, weights)


def test_early_stopping_goes_up_for_accuracy():
    early = EarlyStopping(monitor="val_accuracy", patience=1)
    assert play(early, [0.5, 0.6, 0.6, 0.9], "val_accuracy")[1] == 2
    down = EarlyStopping(monitor="val_accuracy", patience=1, mode="min")
    assert play(down, [0.5, 0.6, 0.6, 0.9], "val_accuracy")[1] == 1


def test_a_result_that_is_not_there_is_warned_of():
    with pytest.warns(UserWarning, match="val_loss"):
        play(EarlyStopping(patience=0), [1, 2], name="loss")


def test_checkpoints_on_disk(tmp_path):
    network = model()
    path = tmp_path / "weights-{epoch:02d}-{loss:.3f}.safetensors"
    after = []
    keep = LambdaCallback(on_epoch_end=lambda epoch, logs: after.append(network.get_weights()))
    history = network.fit(
        X, Y, epochs=3, verbose=0, callbacks=[ModelCheckpoint(path, monitor="loss"), keep]
    )
    for epoch, (loss, weights) in enumerate(zip(history.history["loss"], after, strict=True), 1):
        saved = load_model(tmp_path / f"weights-{epoch:02d}-{loss:.3f}.safetensors")
        for found, want in zip(saved.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(found, want)
        assert saved.optimizer.iterations == epoch
    assert len(list(tmp_path.iterdir())) == 3


def test_a_checkpoint_of_the_weights(tmp_path):
    network, path = model(), tmp_path / "best.safetensors"
    best = ModelCheckpoint(path, monitor="loss", save_weights_only=True, save_best_only=True)
    network.fit(X, Y, verbose=0, callbacks=[best])
    again = model()
    again.load_weights(path)
    for found, want in zip(again.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(found, want)
    with pytest.raises(ValueError, match="safetensors"):
        ModelCheckpoint(tmp_path / "best.h5")


def test_best_checkpoint_in_memory():
    best = ModelCheckpoint(monitor="val_loss", save_best_only=True)
    play(best, [5, 2, 3, 1.5, 4])
    assert best.best_weights[0].tolist() == [3.0]
    assert best.best == 1.5


def test_nan_is_never_the_best():
    best = ModelCheckpoint(monitor="val_loss", save_best_only=True)
    play(best, [math.nan, 5, math.nan, 3, 4])
    assert (best.best, best.best_weights[0].tolist()) == (3, [3.0])
    play(best, [math.nan])
    assert best.best == 3


def fit_to_nan(network, *callbacks):
    """Two epochs whose rate makes every weight NaN or infinite in the first one."""
    with np.errstate(all="ignore"):
        network.optimizer.learning_rate = 1e200
        network.fit(X, Y, batch_size=4, epochs=2, verbose=0, callbacks=list(callbacks))
    assert not any(np.isfinite(weight).any() for weight in network.get_weights())


def assert_equal_weights(found, want):
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_early_stopping_ends_in_good_order_when_the_weights_are_nan():
    network = model()
    early = EarlyStopping(monitor="loss", patience=1, restore_best_weights=True)
    ended = []
    fit_to_nan(network, early, LambdaCallback(on_train_end=ended.append))
    assert network.stop_training
    assert len(ended) == 1
    assert_equal_weights(network.get_weights(), early.best_weights)


def test_models_whose_weights_are_nan_are_saved_and_come_back(tmp_path):
    network, whole, weights = model(), tmp_path / "all.safetensors", tmp_path / "w.safetensors"
    fit_to_nan(
        network,
        ModelCheckpoint(whole, monitor="loss"),
        ModelCheckpoint(weights, monitor="loss", save_weights_only=True),
        BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
        ReduceLROnPlateau(monitor="loss", patience=1),
        TerminateOnNaN(),
    )
    assert_equal_weights(load_model(whole).get_weights(), network.get_weights())
    again = model()
    again.load_weights(weights)
    assert_equal_weights(again.get_weights(), network.get_weights())
    resumed = model()
    history = resumed.fit(
        X, Y, epochs=1, verbose=0, callbacks=[BackupAndRestore(tmp_path / "backup")]
    )
    assert history.epoch == []
    assert_equal_weights(resumed.get_weights(), network.get_weights())


def test_checkpoint_every_few_batches(tmp_path):
    network = model()
    callback = ModelCheckpoint(
        tmp_path / "{epoch}-{batch}.safetensors", monitor="loss", save_freq=4
    )
    network.fit(X, Y, batch_size=2, epochs=2, verbose=0, callbacks=callback)
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["1-4", "2-2", "2-6"]


@pytest.mark.parametrize(
    ("arguments", "results", "rate"),
    [
        ({"factor": 0.1, "patience": 2}, [3, 3, 3, 3, 3], 0.01),
        ({"factor": 0.5, "patience": 1, "cooldown": 2}, [3, 3, 3, 3], 0.25),
        ({"factor": 0.1, "patience": 1, "min_lr": 0.05}, [3, 3, 3, 3], 0.05),
        ({"factor": 0.1, "patience": 2}, [5, 4, 3, 2], 1.0),
    ],
)
def test_reduce_on_plateau(arguments, results, rate):
    stage, _ = play(ReduceLROnPlateau(**arguments), results)
    assert stage.optimizer.learning_rate == pytest.approx(rate)


def test_learning_rate_scheduler():
    network = model()
    rates = []
    history = network.fit(
        X,
        Y,
        epochs=3,
        verbose=0,
        callbacks=[
            LearningRateScheduler(lambda epoch, rate: rate / 2),
            LambdaCallback(
                on_epoch_end=lambda e, logs: rates.append(network.optimizer.learning_rate)
            ),
        ],
    )
    assert rates == pytest.approx([0.005, 0.0025, 0.00125])
    assert history.history["learning_rate"] == pytest.approx(rates)


def test_csv(tmp_path):
    path = tmp_path / "log.csv"
    network = model()
    history = network.fit(
        X, Y, validation_split=0.25, epochs=2, verbose=0, callbacks=CSVLogger(path)
    ).history
    more = network.fit(
        X, Y, validation_split=0.25, verbose=0, callbacks=CSVLogger(path, append=True)
    ).history
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "0"]
    for name in ("loss", "val_loss"):
        want = history[name] + more[name]
        assert [float(row[name]) for row in rows] == pytest.approx(want)


def test_nan_ends_training():
    network = model()
    x = X.copy()
    x[0, 0] = np.nan
    history = network.fit(x, Y, epochs=5, verbose=0, callbacks=TerminateOnNaN())
    assert len(history.history["loss"]) == 1
    assert network.stop_training


def test_every_hook_is_called_in_order():
    calls = []
    hooks = [name for name in dir(Callback) if name.startswith("on_")]

    def recorder(hook):
        return lambda *arguments: calls.append(hook)

    recording = LambdaCallback(**{hook: recorder(hook) for hook in hooks if "_batch_" in hook
                                  or hook.endswith(("_begin", "_end"))})  # fmt: skip
    network = model()
    network.fit(X, Y, batch_size=6, verbose=0, validation_data=(X, Y), callbacks=[recording])
    begin, end = "on_train_batch_begin", "on_train_batch_end"
    wanted = ["on_train_begin", "on_epoch_begin", begin, end, begin, end, "on_test_begin"]
    assert calls[:7] == wanted
    assert calls[-3:] == ["on_test_end", "on_epoch_end", "on_train_end"]
    calls.clear()
    network.predict(X, callbacks=[recording])
    assert calls[0] == "on_predict_begin"
    assert calls[-1] == "on_predict_end"


def test_hooks_that_do_nothing_are_not_called():
    quiet = CallbackList([Callback(), EarlyStopping()], model=Stage(), verbose=0)
    assert not quiet.calls("on_train_batch_end")
    assert quiet.calls("on_epoch_end")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EarlyStopping(mode="up"), ValueError, "mode"),
        (lambda: ModelCheckpoint(save_freq="batch"), ValueError, "save_freq"),
        (lambda: ReduceLROnPlateau(factor=1.0), ValueError, "factor"),
        (lambda: LambdaCallback(on_epoch_over=print), TypeError, "Did you mean 'on_epoch_end'"),
        (lambda: LambdaCallback(on_epoch_end=3), TypeError, "must be a function"),
        (lambda: CallbackList([EarlyStopping]), TypeError, "must be a fastlstm.callbacks"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
