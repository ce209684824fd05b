"""The scikit-learn estimators: what scikit-learn checks, and that they learn."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fastlstm
from fastlstm.demo import load_sunspots
from fastlstm.integrations.sklearn import (
    LSTMAutoencoderDetector,
    LSTMClassifier,
    LSTMForecaster,
    LSTMRegressor,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 7, 2))
SUMS = X.sum(axis=(1, 2))

ORDER = "its samples are the moments of one series, in order"
ONE_DIMENSION = "a series of one channel is 1-D"
CHECKED = [
    (LSTMRegressor(units=16, epochs=40, random_state=0), {}),
    (LSTMClassifier(units=16, epochs=40, random_state=0), {}),
    (LSTMAutoencoderDetector(units=4, epochs=5, random_state=0), {}),
    (
        LSTMForecaster(window=3, units=4, epochs=5, random_state=0),
        {
            "check_methods_sample_order_invariance": ORDER,
            "check_methods_subset_invariance": ORDER,
            "check_fit1d": ONE_DIMENSION,
            "check_fit2d_predict1d": ONE_DIMENSION,
        },
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "expected"), CHECKED)
def test_scikit_learns_checks(estimator, expected):
    results = check_estimator(estimator, expected_failed_checks=expected)
    assert sum(result["status"] == "passed" for result in results) > 30
    failed = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert failed == set(expected)


@pytest.mark.parametrize("estimator", [LSTMRegressor, LSTMClassifier, LSTMAutoencoderDetector])
def test_repeatable_copied_and_pickled(estimator):
    y = SUMS > 0 if estimator is LSTMClassifier else SUMS
    fitted = estimator(units=5, layers=2, dropout=0.1, epochs=3, random_state=3).fit(X, y)
    want = fitted.predict(X)
    before = fastlstm.random.next_seed()
    np.testing.assert_array_equal(clone(fitted).fit(X, y).predict(X), want)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), want)
    fastlstm.utils.set_random_seed(5)
    first = fastlstm.random.next_seed()
    fastlstm.utils.set_random_seed(5)
    clone(fitted).fit(X, y)
    assert fastlstm.random.next_seed() == first
    assert before != first


def test_regressor_learns_one_and_several_outputs():
    estimator = LSTMRegressor(units=12, epochs=80, random_state=0)
    assert estimator.fit(X, SUMS).score(X, SUMS) > 0.95
    both = np.stack([SUMS, 100 + 50 * X[:, -1, 0]], axis=1)
    assert estimator.fit(X, both).predict(X).shape == (60, 2)
    assert estimator.score(X, both) > 0.95


def test_classifier_learns_any_labels():
    labels = np.array(["low", "middle", "high"])[np.digitize(SUMS, [-2, 2])]
    estimator = LSTMClassifier(units=12, epochs=80, random_state=0).fit(X, labels)
    assert estimator.classes_.tolist() == ["high", "low", "middle"]
    assert estimator.score(X, labels) > 0.9
    np.testing.assert_allclose(estimator.predict_proba(X).sum(axis=1), 1)


def test_forecaster_beats_the_last_value():
    series = load_sunspots()[1]
    train, test = series[:250], series[250:]
    forecaster = LSTMForecaster(window=22, horizon=2, epochs=60, random_state=0).fit(train)
    found = forecaster.predict(test)[:-2]
    want = np.stack([test[22:-1], test[23:]], axis=1)
    last = test[21:-2, None]
    assert found.shape == want.shape
    assert np.square(found - want).mean() < 0.6 * np.square(last - want).mean()
    np.testing.assert_array_equal(forecaster.forecast(), forecaster.predict(train[-22:])[0])


def test_forecaster_of_several_channels():
    moments = np.arange(150) / 4
    series = np.stack([np.sin(moments), 50 + 9 * np.cos(moments)], axis=1)
    forecaster = LSTMForecaster(window=10, horizon=3, epochs=50, random_state=0).fit(series)
    found = forecaster.predict(series)[:-3]
    assert found.shape == (138, 3, 2)
    want = np.lib.stride_tricks.sliding_window_view(series[10:], 3, axis=0).swapaxes(1, 2)
    assert (np.abs(found - want).mean(axis=(0, 1)) < 0.1 * series.std(axis=0)).all()
    with pytest.raises(ValueError, match="at least 10"):
        forecaster.predict(series[:9])


def test_detector_finds_what_is_not_like_the_rest():
    phases = RNG.uniform(0, 6, (80, 1))
    waves = np.sin(np.arange(16) / 2 + phases)
    waves[[3, 50]] = RNG.normal(size=(2, 16))
    detector = LSTMAutoencoderDetector(2 / 80, units=16, epochs=60, random_state=0)
    assert np.flatnonzero(detector.fit_predict(waves) == -1).tolist() == [3, 50]
    scores = detector.score_samples(waves)
    np.testing.assert_allclose(detector.decision_function(waves), scores - detector.offset_)


@pytest.mark.filterwarnings("ignore")
def test_pipelines_and_searches():
    flat = X[:, :, 0]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LSTMRegressor(epochs=10, random_state=0)),
        {"lstmregressor__units": [2, 8]},
        cv=2,
        n_jobs=2,
    )
    search.fit(flat, flat.sum(axis=1))
    assert search.best_params_ == {"lstmregressor__units": 8}


def test_early_stopping_keeps_the_best():
    estimator = LSTMRegressor(units=8, epochs=200, early_stopping=3, random_state=0)
    estimator.fit(X, RNG.normal(size=60))
    assert estimator.n_iter_ < 200
    losses = estimator.history_["val_loss"]
    assert np.argmin(losses) == len(losses) - 4


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        ({"units": 0}, X, "units"),
        ({"dropout": 1.0}, X, "dropout"),
        ({"epochs": "3"}, X, "epochs"),
        ({"verbose": 7}, X, "verbose"),
        ({}, np.full((5, 3), np.nan), "NaN"),
        ({}, X[..., None], "dim 4"),
    ],
)
def test_what_is_refused(arguments, data, message):
    with pytest.raises(ValueError, match=message):
        LSTMRegressor(**arguments).fit(data, np.zeros(len(data)))


def test_other_sequences_than_fitted():
    estimator = LSTMRegressor(units=2, epochs=1).fit(X, SUMS)
    with pytest.raises(ValueError, match="features"):
        estimator.predict(X[:, :5])
    with pytest.raises(ValueError, match="fitted on"):
        estimator.predict(X[:, :, :1])


def test_a_fitted_forecaster_keeps_its_window_until_it_is_fitted_again():
    wave = np.sin(np.arange(40.0))
    forecaster = LSTMForecaster(window=6, units=3, epochs=2, random_state=0).fit(wave)
    want, following = forecaster.predict(wave), forecaster.forecast()
    forecaster.set_params(window=9, horizon=2)
    np.testing.assert_array_equal(forecaster.predict(wave), want)
    np.testing.assert_array_equal(forecaster.forecast(), following)
    with pytest.raises(ValueError, match="NaN"):
        forecaster.fit(np.full((50, 1), np.nan))
    np.testing.assert_array_equal(forecaster.predict(wave), want)
    assert forecaster.fit(wave).predict(wave).shape == (40 - 9 + 1, 2)


def test_a_constant_is_not_scaled_by_the_rounding_of_its_mean():
    targets = np.full(100, 0.1)
    assert targets.std() > 0
    estimator = LSTMRegressor(units=3, epochs=1).fit(np.ones((100, 4)), targets)
    assert estimator._scaler.scale == 1
    assert np.abs(estimator.predict(RNG.normal(size=(5, 4))) - 0.1).max() > 1e-6


def test_the_detector_does_not_mind_where_zero_is():
    data = np.sin(np.arange(12) / 2 + RNG.uniform(0, 6, (40, 1)))
    far = np.round(data * 2**20) / 2**20
    detector = LSTMAutoencoderDetector(units=3, epochs=3, random_state=0)
    want = detector.fit(far).score_samples(far)
    found = detector.fit(far + 2**30).score_samples(far + 2**30)
    np.testing.assert_allclose(found, want, rtol=1e-4)


@pytest.mark.parametrize("estimator", [LSTMRegressor, LSTMClassifier])
def test_numbers_beyond_float32_are_refused(estimator):
    model = estimator(units=3, epochs=1, random_state=0)
    with pytest.raises(ValueError, match="float32"):
        model.fit(X * 1e100, SUMS > 0)
    model.fit(X, SUMS > 0)
    with pytest.raises(ValueError, match="float32"):
        model.predict(X * 1e100)
    with pytest.raises(ValueError, match="too large"), np.errstate(over="ignore"):
        LSTMRegressor(epochs=1).fit(X, SUMS * 1e300)
