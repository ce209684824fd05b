"""Signals during a long call: their handlers run in the middle of it, and may end it."""

import os
import signal
import sys
import time

import numpy as np
import pytest
from lstm_cases import random_case
from test_lstm_core import denormals_are_numbers
from test_pool import needs_own_kernels

from fastlstm import functional
from fastlstm._core import kernels
from fastlstm.layers import LSTM, Bidirectional, Input
from fastlstm.models import Sequential

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers"),
    pytest.mark.usefixtures("two_threads"),
]

# Few rows, whose units the threads share out, and many, which they share out themselves.
SHAPES = [(2, 9000, 40, 130), (2500, 60, 16, 64)]

# On a busy machine a call may take several times as long as the next: well before its end.
SOON = 20


class StopError(Exception):
    """What a handler raises."""


@pytest.fixture(params=sorted({kernels.available_isas()[0], kernels.available_isas()[-1]}))
def engine(request):
    """BLAS and the packed products, which are the same text for all instruction sets."""
    before = kernels.isa_name()
    kernels.use_isa(request.param)
    yield request.param
    kernels.use_isa(before)


@pytest.fixture
def alarm():
    """Starts a timer, at whose end its handler does what it was given."""

    def start(seconds, action):
        signal.signal(signal.SIGALRM, lambda number, frame: action())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.getsignal(signal.SIGALRM)
    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def stop():
    raise StopError


def seconds_of(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def stopped_soon(alarm, whole, call):
    """Run `call`, which takes `whole` seconds, and stop it on its way."""
    alarm(whole / SOON, stop)
    call()


def assert_can_be_stopped(alarm, call):
    whole = seconds_of(call)
    start = time.perf_counter()
    with pytest.raises(StopError):
        stopped_soon(alarm, whole, call)
    assert time.perf_counter() - start < whole / 2 + 0.1
    assert denormals_are_numbers()


def long_case(engine, shape, **options):
    batch, steps, *sizes = shape
    return random_case(
        (batch, steps // 5 if engine == "baseline" else steps, *sizes), np.float32, **options
    )


def reference_counts(case):
    return [sys.getrefcount(array) for array in case.arrays.values()]


def both_passes(case):
    y, h, c, cache = case.forward(functional)
    return y, h, c, *functional.lstm_backward(cache, *case.gradients)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mask", [None, 0.9])
def test_a_handler_that_raises_ends_a_pass(engine, alarm, shape, mask):
    small = random_case((4, 60, 64, 130), np.float32)
    wanted = both_passes(small)
    case = long_case(engine, shape, mask=mask)
    references = reference_counts(case)
    assert_can_be_stopped(alarm, lambda: case.forward(functional, training=False))
    caches = [case.forward(functional)[3]]
    assert_can_be_stopped(alarm, lambda: functional.lstm_backward(caches[0], *case.gradients))
    caches.clear()
    assert reference_counts(case) == references
    # The threads and the memory are as good as before.
    for got, want in zip(both_passes(small), wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_handler_that_raises_ends_two_passes_side_by_side(alarm):
    model = Sequential([Input((30000, 64)), Bidirectional(LSTM(64))])
    x = np.random.default_rng(0).normal(size=(1, 30000, 64)).astype(np.float32)
    assert_can_be_stopped(alarm, lambda: model.predict(x))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_handler_that_raises_ends_layers_side_by_side(set_threads, alarm, threads):
    set_threads(threads)
    layers = [LSTM(64, return_sequences=True) for _ in range(3)]
    model = Sequential([Input((20000, 64)), *layers])
    x = np.random.default_rng(0).normal(size=(1, 20000, 64)).astype(np.float32)
    assert_can_be_stopped(alarm, lambda: model.predict(x))


@pytest.mark.parametrize("activation", ["linear", "gelu", "softmax"])
def test_a_handler_that_raises_ends_a_dense_layer(alarm, activation):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(100_000, 96)), rng.normal(size=(96, 64))

    def forward():
        return functional.dense_forward(x, kernel, activation=activation, training=True)

    assert_can_be_stopped(alarm, forward)
    y, cache = forward()
    assert_can_be_stopped(alarm, lambda: functional.dense_backward(cache, y))


def test_a_layer_that_was_stopped_keeps_its_states(alarm):
    layer = LSTM(64, stateful=True)
    x = np.random.default_rng(0).normal(size=(2, 60000, 16)).astype(np.float32)
    layer(x)
    whole = seconds_of(lambda: layer(x))
    before = [state.copy() for state in layer.states]
    with pytest.raises(StopError):
        stopped_soon(alarm, whole, lambda: layer(x))
    for got, want in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_handler_that_returns_changes_nothing(engine, alarm, shape):
    case, small = long_case(engine, shape), random_case((4, 60, 64, 130), np.float32)
    wanted, wanted_small = both_passes(case), both_passes(small)
    found, whole = [], seconds_of(lambda: both_passes(case))

    def handler():
        # It may compute, with this package too, in the mode that the program is in.
        found.append((denormals_are_numbers(), both_passes(small)))

    alarm(whole / SOON, handler)
    results = both_passes(case)
    for got, want in zip(results, wanted, strict=True):
        np.testing.assert_array_equal(got, want)
    [(is_number, results_small)] = found
    assert is_number
    for got, want in zip(results_small, wanted_small, strict=True):
        np.testing.assert_array_equal(got, want)


@needs_own_kernels
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
# By units and by rows; both take far longer than signals may wait.
@pytest.mark.parametrize("shape", [(2, 60000, 40, 130), (1000, 100, 128, 160)])
def test_a_child_that_a_handler_forks_does_not_wait_for_the_threads_of_its_parent(alarm, shape):
    # In a child itself, which has the pool's own threads: those of an OpenMP runtime, which another
    # test may have lent, would wait for each other.
    parent = os.fork()
    if parent == 0:
        try:
            os._exit(0 if forks_in_a_pass(alarm, shape) else 1)
        finally:
            os._exit(2)
    assert exit_code(parent) == 0


def forks_in_a_pass(alarm, shape):
    """Whether the pass ends well, and in the child with an error."""
    small, case = random_case((4, 60, 64, 130), np.float32), random_case(shape, np.float32)
    wanted = both_passes(small)
    children, failed = [], False
    alarm(
        seconds_of(lambda: case.forward(functional, training=False)) / SOON,
        lambda: children.append(os.fork()),
    )
    try:
        case.forward(functional, training=False)
    except RuntimeError as error:
        failed = "forked" in str(error)
    if children == [0]:
        # What it begins itself it does with threads of its own.
        return failed and all(map(np.array_equal, both_passes(small), wanted))
    (child,) = children
    return exit_code(child) == 0 and not failed


def exit_code(child):
    for _ in range(1000):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")
