"""Optimizers against their textbook formulas, written out one weight at a time."""

import copy
import gc
import pickle

import numpy as np
import pytest

from fastlstm import optimizers
from fastlstm.constraints import NonNeg
from fastlstm.layers.weight import Weight
from fastlstm.optimizers import schedules

STEPS = 12
EPSILON = 1e-7


def starting_weights(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in [(3, 4), (5,), (1, 1)]]


def gradients_of_step(step, dtype=np.float64):
    rng = np.random.default_rng([1, step])
    return [(2 * rng.normal(size=w.shape)).astype(dtype) for w in starting_weights()]


def as_weights(arrays, **options):
    return [Weight(a.copy(), f"layer/w{k}", **options) for k, a in enumerate(arrays)]


def run(optimizer, steps=STEPS, dtype=np.float64):
    weights = as_weights(starting_weights(dtype))
    optimizer.build(weights)
    for step in range(steps):
        optimizer.apply(dict(zip(weights, gradients_of_step(step, dtype), strict=True)))
    return [w.value for w in weights]


# Each formula takes the weight, the gradient, the step from 1, and a dict to remember things in.


def sgd(w, g, t, m, rate=0.1, momentum=0.9, nesterov=False):
    m["v"] = momentum * m.get("v", 0) - rate * g
    return w + (momentum * m["v"] - rate * g if nesterov else m["v"])


def rmsprop(w, g, t, m, rate=0.1, rho=0.9, momentum=0.0, centered=False):
    m["s"] = rho * m.get("s", 0) + (1 - rho) * g**2
    m["a"] = rho * m.get("a", 0) + (1 - rho) * g
    spread = m["s"] - (m["a"] ** 2 if centered else 0)
    move = rate * g / np.sqrt(spread + EPSILON)
    m["v"] = momentum * m.get("v", 0) + move
    return w - (m["v"] if momentum else move)


def adam(w, g, t, m, rate=0.1, beta_1=0.9, beta_2=0.999, amsgrad=False):
    m["m"] = beta_1 * m.get("m", 0) + (1 - beta_1) * g
    m["v"] = beta_2 * m.get("v", 0) + (1 - beta_2) * g**2
    m["top"] = np.maximum(m.get("top", 0), m["v"])
    rate = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    return w - rate * m["m"] / (np.sqrt(m["top"] if amsgrad else m["v"]) + EPSILON)


def adamw(w, g, t, m, rate=0.1, decay=0.02):
    return adam(w * (1 - rate * decay), g, t, m, rate)


def nadam(w, g, t, m, rate=0.1, beta_1=0.9, beta_2=0.999):
    # Dozat 2016, with the momentum schedule of its section 3.
    now = beta_1 * (1 - 0.5 * 0.96**t)
    following = beta_1 * (1 - 0.5 * 0.96 ** (t + 1))
    m["u"] = m.get("u", 1.0) * now
    m["m"] = beta_1 * m.get("m", 0) + (1 - beta_1) * g
    m["v"] = beta_2 * m.get("v", 0) + (1 - beta_2) * g**2
    mean = following * m["m"] / (1 - m["u"] * following) + (1 - now) * g / (1 - m["u"])
    return w - rate * mean / (np.sqrt(m["v"] / (1 - beta_2**t)) + EPSILON)


def adagrad(w, g, t, m, rate=0.1):
    m["s"] = m.get("s", 0.1) + g**2
    return w - rate * g / np.sqrt(m["s"] + EPSILON)


CASES = {
    "sgd": (optimizers.SGD(0.1), lambda *a: sgd(*a, momentum=0.0)),
    "momentum": (optimizers.SGD(0.1, momentum=0.9), sgd),
    "nesterov": (
        optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda *a: sgd(*a, nesterov=True),
    ),
    "rmsprop": (optimizers.RMSprop(0.1), rmsprop),
    "rmsprop centered": (
        optimizers.RMSprop(0.1, rho=0.8, momentum=0.5, centered=True),
        lambda *a: rmsprop(*a, rho=0.8, momentum=0.5, centered=True),
    ),
    "adam": (optimizers.Adam(0.1), adam),
    "adam betas": (
        optimizers.Adam(0.1, beta_1=0.8, beta_2=0.9),
        lambda *a: adam(*a, beta_1=0.8, beta_2=0.9),
    ),
    "amsgrad": (optimizers.Adam(0.1, amsgrad=True), lambda *a: adam(*a, amsgrad=True)),
    "adamw": (optimizers.AdamW(0.1, weight_decay=0.02), adamw),
    "nadam": (optimizers.Nadam(0.1), nadam),
    "adagrad": (optimizers.Adagrad(0.1), adagrad),
}


@pytest.mark.parametrize("name", CASES)
def test_formulas(name):
    optimizer, formula = CASES[name]
    got = run(copy.deepcopy(optimizer))
    for k, want in enumerate(starting_weights()):
        memory = {}
        for step in range(STEPS):
            want = formula(want, gradients_of_step(step)[k], step + 1, memory)
        np.testing.assert_allclose(got[k], want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_float32_follows_float64(name):
    optimizer, _ = CASES[name]
    wide = run(copy.deepcopy(optimizer))
    narrow = run(copy.deepcopy(optimizer), dtype=np.float32)
    for got, want in zip(narrow, wide, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_state_goes_on_where_it_stopped(name):
    whole = run(copy.deepcopy(CASES[name][0]))
    first = copy.deepcopy(CASES[name][0])
    values = run(first, steps=5)
    for way in ("state", "pickle"):
        weights = as_weights(values)
        if way == "state":
            second = copy.deepcopy(CASES[name][0])
            second.build(weights)
            second.set_state(first.get_state())
        else:
            second, weights = pickle.loads(pickle.dumps((first, first._weights)))
        for step in range(5, STEPS):
            second.apply(dict(zip(weights, gradients_of_step(step), strict=True)))
        for got, want in zip(weights, whole, strict=True):
            np.testing.assert_array_equal(got.value, want)


@pytest.mark.parametrize("name", CASES)
def test_a_state_that_is_refused_changes_nothing(name):
    optimizer = copy.deepcopy(CASES[name][0])
    run(optimizer, steps=3)
    before = optimizer.get_state()
    strange = [before[0] + 1, *(array + 1 for array in before[1:])]
    if callable(optimizer._learning_rate):
        strange[-1] = np.ones(7)
    else:
        strange[1] = np.array(np.nan)
    with pytest.raises(ValueError, match=type(optimizer).__name__):
        optimizer.set_state(strange)
    for found, want in zip(optimizer.get_state(), before, strict=True):
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("name", CASES)
def test_configs(name):
    optimizer = CASES[name][0]
    again = optimizers.get(
        {"class_name": type(optimizer).__name__, "config": optimizer.get_config()}
    )
    for got, want in zip(run(again), run(copy.deepcopy(optimizer)), strict=True):
        np.testing.assert_array_equal(got, want)


def test_clipping():
    gradients = gradients_of_step(0)
    norms = [np.sqrt((g**2).sum()) for g in gradients]
    whole = np.sqrt(sum(n**2 for n in norms))
    for arguments, scales in (
        ({"clipnorm": 1.5}, [min(1, 1.5 / n) for n in norms]),
        ({"global_clipnorm": 1.5}, [min(1, 1.5 / whole)] * 3),
        ({"global_clipnorm": 1e3}, [1, 1, 1]),
    ):
        got = run(optimizers.SGD(1.0, **arguments), steps=1)
        for value, w, g, scale in zip(got, starting_weights(), gradients, scales, strict=True):
            np.testing.assert_allclose(value, w - scale * g, rtol=1e-12)
    got = run(optimizers.SGD(1.0, clipvalue=0.4), steps=1)
    for value, w, g in zip(got, starting_weights(), gradients, strict=True):
        np.testing.assert_allclose(value, w - np.clip(g, -0.4, 0.4), rtol=1e-12)


def test_a_weight_without_a_gradient_is_left_alone():
    optimizer = optimizers.Adam(0.1, weight_decay=0.1)
    weights = as_weights(starting_weights())
    optimizer.build(weights)
    first, middle, last = weights
    grads = gradients_of_step(0)
    optimizer.apply({first: grads[0], last: grads[2]})
    np.testing.assert_array_equal(middle.value, starting_weights()[1])
    assert (first.value != starting_weights()[0]).all()
    # Its slots were left alone too: what comes now is the first it hears of.
    alone = optimizers.Adam(0.1, weight_decay=0.1)
    alone.iterations = 1
    twin = as_weights(starting_weights())[1]
    alone.build([twin])
    alone.apply({twin: grads[1]})
    optimizer.apply(dict(zip(weights, grads, strict=True)))
    np.testing.assert_array_equal(middle.value, twin.value)


def test_weights_decay_by_the_learning_rate_of_their_step():
    weights = as_weights(starting_weights())
    rates = schedules.PiecewiseConstantDecay([1], [0.5, 0.1])
    optimizer = optimizers.SGD(rates, weight_decay=0.3)
    nothing = {w: np.zeros(w.shape) for w in weights}
    expected = 1.0
    for step in range(4):
        optimizer.apply(nothing)
        expected *= 1 - 0.3 * float(rates(step))
    assert expected < (1 - 0.3 * 0.1) ** 4
    for weight, start in zip(weights, starting_weights(), strict=True):
        np.testing.assert_allclose(weight.value, start * expected, rtol=1e-12)


def test_decay_can_spare_weights():
    weights = as_weights(starting_weights())
    optimizer = optimizers.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[weights[0]], var_names=["w1"])
    optimizer.build(weights)
    optimizer.apply({w: np.zeros(w.shape) for w in weights})
    for weight, start, factor in zip(weights, starting_weights(), (1, 1, 0.95), strict=True):
        np.testing.assert_allclose(weight.value, factor * start, rtol=1e-12)


def test_constraints_come_after_the_update():
    weights = as_weights(starting_weights(), constraint=NonNeg())
    optimizer = optimizers.SGD(1.0)
    optimizer.build(weights)
    optimizer.apply(dict(zip(weights, gradients_of_step(0), strict=True)))
    for weight, start, g in zip(weights, starting_weights(), gradients_of_step(0), strict=True):
        np.testing.assert_array_equal(weight.value, np.maximum(start - g, 0))


def test_both_real_types_at_once():
    wide, narrow = as_weights([np.ones(3)])[0], as_weights([np.ones(3, np.float32)])[0]
    optimizer = optimizers.SGD(0.5)
    optimizer.build([wide, narrow])
    optimizer.apply({wide: np.ones(3), narrow: np.ones(3, np.float32)})
    assert wide.value.tolist() == narrow.value.tolist() == [0.5] * 3
    assert narrow.value.dtype == np.float32


def test_two_optimizers_in_turn():
    weights = as_weights(starting_weights())
    one, two = optimizers.Adam(0.1), optimizers.SGD(0.1)
    for step in range(4):
        for optimizer in (one, two):
            optimizer.build(weights)
            before = [w.value.copy() for w in weights]
            optimizer.apply(dict(zip(weights, gradients_of_step(step), strict=True)))
            assert all((w.value != b).all() for w, b in zip(weights, before, strict=True))
    assert (one.iterations, two.iterations) == (4, 4)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "twin_of", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_weight_that_was_frozen_for_a_while_goes_on_where_it_stopped(name, twin_of):
    optimizer, steady = copy.deepcopy(CASES[name][0]), copy.deepcopy(CASES[name][0])
    weights, twins = as_weights(starting_weights()), as_weights(starting_weights())
    steady.build(twins)
    for step in range(6):
        grads = gradients_of_step(step)
        kept = [0, 1, 2] if step in (0, 1, 4, 5) else [1]
        # One buffer, then another, then the first again; beside it one that never rebuilds.
        optimizer.build([weights[k] for k in kept])
        optimizer.apply({weights[k]: grads[k] for k in kept})
        steady.apply({twins[k]: grads[k] for k in kept})
        optimizer, weights = twin_of((optimizer, weights))
    for weight, twin in zip(weights, twins, strict=True):
        np.testing.assert_array_equal(weight.value, twin.value)
    for got, want in zip(optimizer.get_state(), steady.get_state(), strict=True):
        np.testing.assert_array_equal(got, want)


def test_nothing_is_remembered_of_weights_that_are_gone():
    optimizer = optimizers.Adam(0.1)
    for _ in range(3):
        weights = as_weights(starting_weights())
        optimizer.build(weights)
    gc.collect()
    assert len(optimizer._resting) == 0
    optimizer.build(weights[:1])
    assert set(optimizer._resting) == set(weights[1:])
    del weights
    gc.collect()
    assert len(optimizer._resting) == 0


def test_frozen_weights_hold_no_memory_of_the_buffer_they_left():
    weights = as_weights(starting_weights())
    optimizer = optimizers.SGD(0.1)
    optimizer.build(weights)
    values = [w.numpy() for w in weights]
    optimizer.build(weights[:1])
    for weight, value in zip(weights, values, strict=True):
        np.testing.assert_array_equal(weight.value, value)
        assert weight.value.base.size == weight.size
    other = optimizers.SGD(0.1)
    other.build(weights)
    optimizer.build(weights[1:])
    assert all(np.shares_memory(w.value, other._buffers[0].parameters) for w in weights[:1])


RATES = {
    "exponential": (
        schedules.ExponentialDecay(0.1, decay_steps=3, decay_rate=0.5),
        lambda t: 0.1 * 0.5 ** (t / 3),
    ),
    "staircase": (
        schedules.ExponentialDecay(0.1, 3, 0.5, staircase=True),
        lambda t: 0.1 * 0.5 ** (t // 3),
    ),
    "cosine": (
        schedules.CosineDecay(0.1, decay_steps=8, alpha=0.1),
        lambda t: 0.1 * (0.9 * 0.5 * (1 + np.cos(np.pi * min(t, 8) / 8)) + 0.1),
    ),
    "warmup": (
        schedules.CosineDecay(0.0, 8, warmup_target=0.2, warmup_steps=4),
        lambda t: 0.2 * t / 4 if t < 4 else 0.1 * (1 + np.cos(np.pi * min(t - 4, 8) / 8)),
    ),
    "piecewise": (
        schedules.PiecewiseConstantDecay([3, 7], [0.3, 0.2, 0.1]),
        lambda t: 0.3 if t <= 3 else 0.2 if t <= 7 else 0.1,
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_schedules(name):
    schedule, formula = RATES[name]
    for t in range(15):
        assert float(schedule(t)) == pytest.approx(formula(t), rel=1e-6, abs=1e-12)
    got = run(optimizers.SGD(schedule))
    for k, want in enumerate(starting_weights()):
        for t in range(STEPS):
            want = want - formula(t) * gradients_of_step(t)[k]
        np.testing.assert_allclose(got[k], want, rtol=1e-6, atol=1e-9)
    again = type(schedule).from_config(schedule.get_config())
    assert float(again(5)) == float(schedule(5))


def test_decay_follows_the_schedule():
    schedule = schedules.ExponentialDecay(0.4, decay_steps=2, decay_rate=0.5)
    weights = as_weights(starting_weights())
    optimizer = optimizers.SGD(schedule, weight_decay=0.5)
    optimizer.build(weights)
    factor = 1.0
    for t in range(5):
        optimizer.apply({w: np.zeros(w.shape) for w in weights})
        factor *= 1 - 0.5 * 0.4 * 0.5 ** (t / 2)
        for weight, start in zip(weights, starting_weights(), strict=True):
            np.testing.assert_allclose(weight.value, factor * start, rtol=1e-6)


def test_the_learning_rate_can_be_set():
    optimizer = optimizers.SGD(0.1)
    optimizer.learning_rate = 0.5
    assert optimizer.learning_rate == 0.5
    with pytest.raises(ValueError, match="learning_rate"):
        optimizer.learning_rate = -1.0
    assert optimizer.learning_rate == 0.5
    scheduled = optimizers.SGD(RATES["piecewise"][0])
    with pytest.raises(TypeError, match="schedule"):
        scheduled.learning_rate = 0.5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optimizers.get("adamm"), ValueError, "Did you mean 'adam'"),
        (lambda: optimizers.SGD(lr=0.1), TypeError, "Did you mean `learning_rate`"),
        (lambda: optimizers.Adam(beta1=0.1), TypeError, "beta_1"),
        (lambda: optimizers.Adam("fast"), TypeError, "learning_rate"),
        (lambda: optimizers.Adam(float("nan")), ValueError, "learning_rate"),
        (lambda: optimizers.SGD(clipnorm=1.0, clipvalue=1.0), ValueError, "only one of"),
        (lambda: optimizers.SGD(momentum=2.0), ValueError, "momentum"),
        (lambda: optimizers.SGD(use_ema=True), ValueError, "use_ema"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_bad_gradients_change_nothing():
    optimizer = optimizers.Adam(0.1)
    weights = as_weights(starting_weights())
    optimizer.build(weights)
    grads = dict(zip(weights, gradients_of_step(0), strict=True))
    stranger = as_weights([np.ones(2)])[0]
    for bad in ({weights[0]: np.ones((2, 2))}, {stranger: np.ones(2)}):
        with pytest.raises(ValueError, match=r"shape|does not know"):
            optimizer.apply({**grads, **bad})
    for weight, start in zip(weights, starting_weights(), strict=True):
        np.testing.assert_array_equal(weight.value, start)
    assert optimizer.iterations == 0
    optimizer.apply(grads)
    for got, want in zip(weights, run(optimizers.Adam(0.1), steps=1), strict=True):
        np.testing.assert_array_equal(got.value, want)
