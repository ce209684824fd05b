"""Metrics over several batches against plain formulas over all of them."""

import pickle

import numpy as np
import pytest

from fastlstm import metrics

RNG = np.random.default_rng(0)
BATCHES = [(slice(0, 7), False), (slice(7, 9), True), (slice(9, 20), True)]
SCORES = RNG.uniform(size=(20, 5))
LABELS = RNG.integers(0, 5, size=20)
ONE_HOT = np.eye(5)[LABELS]
BITS = RNG.integers(0, 2, size=(20, 1))
CHANCES = RNG.uniform(size=(20, 1))
TARGETS = RNG.normal(size=(20, 5))
WEIGHTS = RNG.uniform(0.5, 2, size=20)
# What the batches amount to: the first came without weights.
APPLIED = np.where(np.arange(20) < 7, 1.0, WEIGHTS)


def streamed(metric, y, p):
    for rows, weighted in BATCHES:
        metric.update_state(y[rows], p[rows], sample_weight=WEIGHTS[rows] if weighted else None)
    return metric.result()


def weighted_mean(values):
    return np.average(values, weights=APPLIED)


def in_top(k):
    return (np.argsort(-SCORES, axis=-1)[:, :k] == LABELS[:, None]).any(axis=-1)


@pytest.mark.parametrize(
    ("metric", "y", "p", "values"),
    [
        (metrics.Accuracy(), LABELS[:, None], LABELS[::-1, None], LABELS[::-1] == LABELS),
        (metrics.BinaryAccuracy(), BITS, CHANCES, ((CHANCES > 0.5) == BITS)[:, 0]),
        (
            metrics.BinaryAccuracy(threshold=0.3),
            BITS,
            CHANCES,
            ((CHANCES > 0.3) == BITS)[:, 0],
        ),
        (metrics.CategoricalAccuracy(), ONE_HOT, SCORES, SCORES.argmax(-1) == LABELS),
        (metrics.SparseCategoricalAccuracy(), LABELS, SCORES, SCORES.argmax(-1) == LABELS),
        (metrics.SparseTopKCategoricalAccuracy(k=2), LABELS, SCORES, in_top(2)),
        (metrics.TopKCategoricalAccuracy(k=3), ONE_HOT, SCORES, in_top(3)),
        (metrics.MeanSquaredError(), TARGETS, SCORES, ((TARGETS - SCORES) ** 2).mean(-1)),
        (metrics.MeanAbsoluteError(), TARGETS, SCORES, np.abs(TARGETS - SCORES).mean(-1)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, metrics.Metric) else "",
)
def test_means_over_batches(metric, y, p, values):
    want = weighted_mean(values)
    assert want > 0.05
    assert streamed(metric, y, p) == pytest.approx(want, rel=1e-6)
    metric.reset_state()
    assert streamed(metric, y, p) == pytest.approx(want, rel=1e-6)
    again = pickle.loads(pickle.dumps(metric))
    assert again.result() == metric.result()
    fresh = type(metric).from_config(metric.get_config())
    assert streamed(fresh, y, p) == pytest.approx(want, rel=1e-6)


def test_root_mean_squared_error_is_one_root():
    want = np.sqrt(weighted_mean(((TARGETS - SCORES) ** 2).mean(-1)))
    assert streamed(metrics.RootMeanSquaredError(), TARGETS, SCORES) == pytest.approx(want)


def test_auc_is_near_the_share_of_ordered_pairs():
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2, size=(4000, 1))
    chances = np.clip(0.3 * bits + rng.uniform(0, 0.7, size=(4000, 1)), 0, 1)
    metric = metrics.AUC()
    for rows in (slice(0, 1000), slice(1000, 4000)):
        metric.update_state(bits[rows], chances[rows])
    positive, negative = chances[bits == 1], chances[bits == 0]
    ordered = (positive[:, None] > negative[None, :]).mean()
    assert metric.result() == pytest.approx(ordered, abs=2e-3)


def test_auc_of_four():
    # Keras 3.15 says the same.
    metric = metrics.AUC(num_thresholds=3)
    metric.update_state([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])
    assert metric.result() == pytest.approx(0.75)
    metric.reset_state()
    metric.update_state([0, 0, 1, 1], [0, 0.5, 0.3, 0.9], sample_weight=[1, 0, 0, 1])
    assert metric.result() == pytest.approx(1.0)


def test_masked_steps_do_not_count():
    y = np.array([[1, 2, 0], [3, 0, 0]])
    p = np.eye(4)[np.array([[1, 0, 3], [3, 3, 3]])]
    metric = metrics.SparseCategoricalAccuracy()
    metric.update_state(y, p, mask=y != 0)
    assert metric.result() == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("y_shape", "p_shape", "cls"),
    [
        ((None, 1), (None, 1), metrics.BinaryAccuracy),
        ((None,), (None, 1), metrics.BinaryAccuracy),
        ((None, 4), (None, 4), metrics.CategoricalAccuracy),
        ((None,), (None, 4), metrics.SparseCategoricalAccuracy),
        ((None, 1), (None, 4), metrics.SparseCategoricalAccuracy),
        ((None, 7), (None, 7, 4), metrics.SparseCategoricalAccuracy),
        ((None, 7, 4), (None, 7, 4), metrics.CategoricalAccuracy),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "acc"])
def test_accuracy_follows_the_shapes(name, y_shape, p_shape, cls):
    metric = metrics.resolve(name, y_shape, p_shape)
    assert type(metric) is cls
    assert metric.name == name


def test_names_functions_and_errors():
    assert type(metrics.get("mse")) is metrics.MeanSquaredError
    assert metrics.get("mae").name == "mae"

    def worst(y_true, y_pred):
        return np.abs(y_true - y_pred).max(axis=-1)

    metric = metrics.get(worst)
    assert metric.name == "worst"
    want = weighted_mean(np.abs(TARGETS - SCORES).max(-1))
    assert streamed(metric, TARGETS, SCORES) == pytest.approx(want)
    with pytest.raises(ValueError, match="Did you mean"):
        metrics.get("accurracy")
    with pytest.raises(ValueError, match="shape"):
        metrics.MeanSquaredError().update_state(np.ones((3, 2)), np.ones((3, 4)))


def test_mean():
    mean = metrics.Mean()
    mean.update_state(2.0, sample_weight=3)
    mean.update_state(5.0, sample_weight=1)
    assert mean.result() == pytest.approx(11 / 4)
    mean.reset_state()
    assert mean.result() == 0
