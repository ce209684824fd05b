"""Many Python threads at once: the same numbers as one after the other, GIL or none."""

import sys
import sysconfig
import threading

import numpy as np
import pytest
from lstm_cases import random_case

from fastlstm import functional
from fastlstm._core import lstm
from fastlstm.layers import LSTM, Dense, TimeDistributed
from fastlstm.models import Sequential
from fastlstm.optimizers import SGD

pytestmark = pytest.mark.usefixtures("two_threads")

THREADS, ROUNDS = 6, 15


def results_at_once(work):
    """What ``work(k)`` returns in THREADS threads that start together."""
    found = [None] * THREADS
    start = threading.Barrier(THREADS)

    def run(k):
        start.wait(60)
        found[k] = work(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return found


def assert_same(found, wanted):
    for got, want in zip(found, wanted, strict=True):
        assert got is not None, "the thread failed"
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_importing_leaves_the_gil_off():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python has a GIL")
    assert not sys._is_gil_enabled()


# The second wakes the pool's workers, whom the callers then compete for.
@pytest.mark.parametrize("shape", [(4, 20, 8, 33), (4, 60, 64, 130)])
def test_calls_of_their_own(shape):
    cases = [random_case(shape, np.float32, seed=seed) for seed in range(THREADS)]

    def both_passes(k):
        y, _, _, cache = cases[k].forward(functional)
        return y, *functional.lstm_backward(cache, *cases[k].gradients)

    wanted = [both_passes(k) for k in range(THREADS)]
    for _ in range(ROUNDS):
        assert_same(results_at_once(both_passes), wanted)


def test_one_plan_that_nobody_has_packed_yet():
    case = random_case((3, 7, 5, 40), np.float32)
    arrays = [case.arrays[name] for name in ("kernel", "recurrent_kernel", "bias")]

    def new_plan():
        return lstm.LSTMPlan(*arrays, "tanh", "sigmoid", False, False)

    def both_passes(plan):
        y, h, c, cache = lstm.forward(plan, case.arrays["x"], training=True)
        return y, h, c, *lstm.backward(cache, y, h, c)

    wanted = [both_passes(new_plan())] * THREADS
    for _ in range(3 * ROUNDS):
        plan = new_plan()
        assert_same(results_at_once(lambda _, plan=plan: both_passes(plan)), wanted)


def new_model():
    return Sequential(
        [
            LSTM(9, input_shape=(6, 3), return_sequences=True),
            LSTM(17, return_sequences=True),
            TimeDistributed(Dense(2)),
        ]
    )


def test_one_model_for_all():
    model = new_model()
    batches = [np.random.default_rng(k).normal(size=(5, 6, 3)) for k in range(THREADS)]
    wanted = [(model.predict(x, verbose=0),) for x in batches]
    for _ in range(ROUNDS):
        model.set_weights(model.get_weights())  # to be packed anew
        assert_same(results_at_once(lambda k: (model.predict(batches[k], verbose=0),)), wanted)


def test_models_of_their_own_in_training():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 6, 3)), rng.normal(size=(8, 6, 2))
    start = new_model().get_weights()

    def train(_):
        model = new_model()
        model.set_weights(start)
        model.compile(optimizer="adam", loss="mse")
        model.fit(x, y, epochs=ROUNDS, batch_size=4, shuffle=False, verbose=0)
        return model.get_weights()

    assert_same(results_at_once(train), [train(0)] * THREADS)


def test_predictions_beside_training():
    model = new_model()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 6, 3)), rng.normal(size=(8, 6, 2))
    wanted, over, found = model.predict(x, verbose=0), threading.Event(), []

    def predict():
        while not over.is_set() or len(found) < 5:
            found.append(model.predict(x, verbose=0))

    predicting = threading.Thread(target=predict)
    predicting.start()
    try:
        # Weights move to other arrays and are written to, always the same numbers.
        for _ in range(ROUNDS):
            model.compile(optimizer=SGD(0.0), loss="mse")
            model.fit(x, y, epochs=2, batch_size=4, verbose=0)
        constant = len(found)
        model.compile(optimizer=SGD(0.1), loss="mse")
        model.fit(x, y, epochs=ROUNDS, batch_size=4, verbose=0)
    finally:
        over.set()
        predicting.join(60)
    assert constant > 1
    assert_same([(prediction,) for prediction in found[:constant]], [(wanted,)] * constant)
    # What is kept is of the last weights.
    fresh = new_model()
    fresh.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict(x), fresh.predict(x))
    assert np.abs(model.predict(x) - wanted).max() > 1e-3


def test_a_model_says_last_that_it_is_built():
    class Watched(Sequential):
        def __setattr__(self, name, value):
            if name == "built" and value:
                self.seen_by_others = self.graph.run([np.ones((2, 3), np.float32)])
            super().__setattr__(name, value)

    model = Watched([Dense(2)])
    model(np.ones((2, 3)))
    assert model.seen_by_others[0][0].shape == (2, 2)
