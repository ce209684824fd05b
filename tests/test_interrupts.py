"""A Ctrl-C at any moment leaves a model that computes with the weights that it has.

CPython looks for signals when a function begins, after a call, and where a loop jumps back. Here a
trace function raises KeyboardInterrupt at a chosen one of those moments.
"""

import dis
import functools
import sys
from pathlib import Path

import numpy as np
import pytest

import fastlstm
from fastlstm import optimizers
from fastlstm.layers import LSTM, Bidirectional, Dense, Input
from fastlstm.models import Sequential

PACKAGE = Path(fastlstm.__file__).parent
# Where values change, and where what follows from them is kept.
FILES = tuple(str(PACKAGE / place) for place in ("optimizers", "layers/weight", "layers/lstm"))


@functools.cache
def moments(code):
    """Where in `code` CPython may raise KeyboardInterrupt."""
    found, names = set(), [""]
    for instruction in dis.get_instructions(code):
        after_call = names[-1].startswith(("CALL", "RESUME", "BEFORE_WITH", "WITH_EXCEPT"))
        if after_call or instruction.opname.startswith("JUMP_BACKWARD"):
            found.add(instruction.offset)
        names.append(instruction.opname)
    return found


def run_until(moment, work):
    """Call `work`, interrupted at the given moment; returns how many moments have passed."""
    passed = 0

    def trace(frame, event, argument):
        nonlocal passed
        if not frame.f_code.co_filename.startswith(FILES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and frame.f_lasti in moments(frame.f_code):
            passed += 1
            if passed == moment:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return passed


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


X, Y = normal(6, 3, 2), normal(6, 1, seed=1)


def plain():
    return [Input((3, 2)), LSTM(4), Dense(1)]


def constrained():
    return [
        Input((3, 2)),
        LSTM(4, kernel_constraint="unit_norm", bias_constraint="non_neg", return_sequences=True),
        LSTM(3),
        Dense(1),
    ]


def both_ways():
    return [Input((3, 2)), Bidirectional(LSTM(3)), Dense(1)]


def fit(model):
    model.fit(X, Y, batch_size=3, verbose=0, shuffle=False)


def set_weights(model):
    model.set_weights([weight + 1 for weight in model.get_weights()])


CASES = {
    "adam": (plain, lambda: optimizers.Adam(0.1), fit),
    "sgd, clipped": (plain, lambda: optimizers.SGD(0.5, momentum=0.9, clipnorm=1.0), fit),
    "rmsprop, decayed": (plain, lambda: optimizers.RMSprop(0.1, weight_decay=0.1), fit),
    "nadam, constrained": (constrained, lambda: optimizers.Nadam(0.1, global_clipnorm=1), fit),
    "adagrad, both ways": (both_ways, lambda: optimizers.Adagrad(0.5, clipvalue=0.5), fit),
    "set_weights": (both_ways, optimizers.Adam, set_weights),
}


@pytest.mark.parametrize("case", CASES)
def test_predictions_after_an_interrupt_are_those_of_the_weights(case):
    layers, optimizer, work = CASES[case]
    model, fresh = Sequential(layers()), Sequential(layers())
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=w.shape) for w in model.weights]

    def work_until(moment):
        """The moments that passed, and whether what is predicted has changed."""
        model.set_weights(weights)
        model.compile(optimizer(), "mse")
        before = model.predict(X)
        passed = run_until(moment, lambda: work(model))
        fresh.set_weights(model.get_weights())
        after = model.predict(X)
        np.testing.assert_array_equal(after, fresh.predict(X), err_msg=f"moment {moment}")
        return passed, np.abs(after - before).max() > 1e-3

    _, (count, changes) = work_until(None), work_until(None)
    assert changes
    results = [work_until(moment) for moment in range(1, count)]
    assert [passed for passed, _ in results] == list(range(1, count))
    assert {changes for _, changes in results} == {False, True}


@pytest.mark.parametrize("name", ["Adam", "Nadam", "SGD"])
def test_training_goes_on_after_an_interrupted_update(name):
    model = Sequential(plain())
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=w.shape) for w in model.weights]
    for moment in range(1, 140, 9):
        model.set_weights(weights)
        model.compile(optimizers.get(name), "mse")
        model.optimizer.learning_rate = 0.02
        model.fit(X, Y, verbose=0)
        assert run_until(moment, lambda: fit(model)) == moment
        loss = model.evaluate(X, Y, verbose=0)
        model.fit(X, Y, epochs=20, verbose=0)
        assert model.evaluate(X, Y, verbose=0) < loss
