"""Initializers by their statistics and properties; regularizers and constraints by formulas."""

import pickle

import numpy as np
import pytest

from fastlstm import constraints, gradcheck, initializers, regularizers
from fastlstm.layers import LSTM
from fastlstm.models import Sequential

SHAPE = (300, 200)
VARIANCE = {
    "glorot_uniform": 2 / 500,
    "glorot_normal": 2 / 500,
    "he_uniform": 2 / 300,
    "he_normal": 2 / 300,
    "lecun_uniform": 1 / 300,
    "lecun_normal": 1 / 300,
    "random_normal": 0.05**2,
    "random_uniform": 0.05**2 / 3,
    # Cut at two standard deviations the normal distribution has 0.774 of its variance.
    "truncated_normal": 0.05**2 * 0.7737,
}


def seeded(name, seed=3):
    return type(initializers.get(name))(seed=seed)


@pytest.mark.parametrize("name", VARIANCE)
def test_moments(name):
    values = seeded(name)(SHAPE, dtype="float64")
    spread = np.sqrt(VARIANCE[name])
    assert abs(values.mean()) < 5 * spread / np.sqrt(values.size)
    assert values.var() == pytest.approx(VARIANCE[name], rel=0.03)
    if "uniform" in name:
        assert np.abs(values).max() <= np.sqrt(3) * spread
        assert np.abs(values).max() == pytest.approx(np.sqrt(3) * spread, rel=1e-3)
    elif name != "random_normal":
        # Truncated at two standard deviations of the distribution before the cut.
        assert np.abs(values).max() <= 2 * spread / np.sqrt(0.7737) * (1 + 1e-3)
    else:
        assert np.abs(values).max() > 3.5 * spread


@pytest.mark.parametrize("name", [*VARIANCE, "orthogonal"])
def test_seeds(name):
    one = seeded(name)
    np.testing.assert_array_equal(one(SHAPE), one(SHAPE))
    np.testing.assert_array_equal(one(SHAPE), seeded(name)(SHAPE))
    assert (one(SHAPE) != seeded(name, 4)(SHAPE)).any()
    assert one(SHAPE, dtype="float32").dtype == np.float32
    again = type(one).from_config(one.get_config())
    np.testing.assert_array_equal(again(SHAPE), one(SHAPE))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one))(SHAPE), one(SHAPE))
    fresh = type(one)()
    assert (fresh(SHAPE) != type(one)()(SHAPE)).any()


@pytest.mark.parametrize("shape", [(7, 7), (5, 20), (20, 5), (1, 4)])
def test_orthogonal(shape):
    q = initializers.Orthogonal(gain=2.0, seed=1)(shape, dtype="float64")
    short = min(shape)
    product = q @ q.T if shape[0] <= shape[1] else q.T @ q
    np.testing.assert_allclose(product, 4 * np.eye(short), atol=1e-12)


def test_fixed_values():
    assert not initializers.Zeros()((2, 3)).any()
    assert (initializers.Ones()((2, 3)) == 1).all()
    assert (initializers.Constant(2.5)((2, 3)) == 2.5).all()
    np.testing.assert_array_equal(initializers.Identity(gain=3.0)((2, 2)), 3 * np.eye(2))


@pytest.mark.parametrize("name", ["GlorotUniform", "glorot_uniform", initializers.GlorotUniform])
def test_names(name):
    assert type(initializers.get(name)) is initializers.GlorotUniform


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: initializers.get("glorot"), ValueError, "Did you mean"),
        (lambda: initializers.get(3.0), (TypeError, ValueError), "3.0"),
        (lambda: initializers.Identity()((2, 3, 4)), ValueError, "2"),
        (lambda: initializers.Orthogonal()((3,)), ValueError, "2"),
        (lambda: regularizers.get("l3"), ValueError, "l2"),
        (lambda: regularizers.L2(-1.0), ValueError, "l2"),
        (lambda: constraints.get("positive"), ValueError, "non_neg"),
    ],
)
def test_errors(use, error, message):
    with pytest.raises(error, match=message):
        use()


W = np.random.default_rng(0).normal(size=(3, 4))


@pytest.mark.parametrize(
    ("regularizer", "value"),
    [
        (regularizers.L1(0.1), 0.1 * np.abs(W).sum()),
        (regularizers.L2(0.1), 0.1 * (W**2).sum()),
        (regularizers.L1L2(0.1, 0.2), 0.1 * np.abs(W).sum() + 0.2 * (W**2).sum()),
        (regularizers.get("l1"), 0.01 * np.abs(W).sum()),
        (regularizers.get("l2"), 0.01 * (W**2).sum()),
    ],
)
def test_regularizers(regularizer, value):
    assert regularizer(W) == pytest.approx(value, rel=1e-6)
    gradcheck(lambda w: (regularizer(w), regularizer.gradient(w)), W)
    again = type(regularizer).from_config(regularizer.get_config())
    assert again(W) == regularizer(W)


def test_constraints():
    norms = np.linalg.norm(W, axis=0)
    np.testing.assert_array_equal(constraints.NonNeg()(W), np.maximum(W, 0))
    np.testing.assert_allclose(constraints.UnitNorm()(W), W / norms, rtol=1e-6)
    limited = constraints.MaxNorm(1.0)(W)
    np.testing.assert_allclose(np.linalg.norm(limited, axis=0), np.minimum(norms, 1), rtol=1e-6)
    between = constraints.MinMaxNorm(0.8, 1.2)(W)
    np.testing.assert_allclose(np.linalg.norm(between, axis=0), np.clip(norms, 0.8, 1.2), rtol=1e-6)


def test_the_forget_gate_starts_open():
    layer = LSTM(3)
    Sequential([layer]).build((None, 2, 4))
    np.testing.assert_array_equal(layer.bias.value, np.repeat([0, 1, 0, 0], 3))
    plain = LSTM(3, unit_forget_bias=False, bias_initializer="ones")
    plain.build((None, 2, 4))
    assert (plain.bias.value == 1).all()
