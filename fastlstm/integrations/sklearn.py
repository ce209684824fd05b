"""LSTM models as scikit-learn estimators: regressor, classifier, forecaster, outlier detector."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from fastlstm._extras import require
from fastlstm.callbacks import EarlyStopping
from fastlstm.initializers import GlorotUniform, Orthogonal
from fastlstm.layers import LSTM, Dense, Input, RepeatVector, Reshape, TimeDistributed
from fastlstm.models import Sequential
from fastlstm.optimizers import Adam

base = require("sklearn.base", "sklearn")
_validation = require("sklearn.utils.validation", "sklearn")
_parameters = require("sklearn.utils._param_validation", "sklearn")
_utils = require("sklearn.utils", "sklearn")
_multiclass = require("sklearn.utils.multiclass", "sklearn")

__all__ = ["LSTMAutoencoderDetector", "LSTMClassifier", "LSTMForecaster", "LSTMRegressor"]

_Interval = _parameters.Interval

_COMMON = """units : int
        Of each LSTM layer.
    layers : int
        How many LSTM layers are stacked.
    dropout : float in [0, 1)
        Of the inputs of each LSTM layer, in training.
    epochs, batch_size : int
    learning_rate : float
        Of Adam.
    early_stopping : int or None
        Stop when the loss of a tenth of the samples, kept for validation, has not improved for so
        many epochs, and take the best weights. The samples kept are the last ones.
    random_state : int, RandomState or None
        Makes weights, dropout and the order of the samples repeatable.
    verbose : 0, 1 or 2
        What training prints."""


def _documented(cls: type) -> type:
    """Put what all estimators share into the docstring."""
    assert cls.__doc__ is not None
    cls.__doc__ = cls.__doc__.replace("{common}", _COMMON)
    return cls


class _Seeds:
    """Seeds for one model, so that nothing is drawn from a source that others share."""

    def __init__(self, random_state: Any) -> None:
        self._random = _utils.check_random_state(random_state)

    def next(self) -> int:
        return int(self._random.randint(2**31 - 1))


def _single(sequences: np.ndarray) -> np.ndarray:
    """In the precision of the layers; ``ValueError`` if that has no such numbers."""
    largest = np.finfo(np.float32).max
    if not (np.abs(sequences) <= largest).all():
        raise ValueError(f"X must hold numbers of float32, none beyond {largest:.3g}; scale them.")
    return sequences.astype(np.float32)


class _Scaler:
    """Zero mean and unit variance by column; a constant column keeps its scale."""

    def __init__(self, values: np.ndarray) -> None:
        self.mean = values.mean(axis=0)
        # The mean of a constant is not always the constant itself.
        self.scale = np.where(np.ptp(values, axis=0) > 0, values.std(axis=0), 1.0)
        if not np.isfinite(self.scale).all():
            raise ValueError("The values are too large for their variance to be a number.")

    def scaled(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.scale

    def restored(self, values: np.ndarray) -> np.ndarray:
        return values * self.scale + self.mean


class _LSTMEstimator(base.BaseEstimator):  # type: ignore[name-defined]
    """What the estimators share: parameters, sequences from X, models, training."""

    model_: Sequential
    sequence_shape_: tuple[int, int]
    _scaler: _Scaler
    _is_flat: bool

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - scikit-learn's name and kind
        "units": [_Interval(Integral, 1, None, closed="left")],
        "layers": [_Interval(Integral, 1, None, closed="left")],
        "dropout": [_Interval(Real, 0, 1, closed="left")],
        "epochs": [_Interval(Integral, 1, None, closed="left")],
        "batch_size": [_Interval(Integral, 1, None, closed="left")],
        "learning_rate": [_Interval(Real, 0, None, closed="neither")],
        "early_stopping": [_Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
        "verbose": [_parameters.Options(Integral, {0, 1, 2})],
    }

    def __init__(
        self,
        *,
        units: int = 32,
        layers: int = 1,
        dropout: float = 0.0,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        early_stopping: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.units = units
        self.layers = layers
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.non_deterministic = self.random_state is None
        return tags

    def _sequences(self, X: Any, *, reset: bool, **options: Any) -> Any:
        """X as sequences (samples, steps, features), with y if it is given."""
        found = _validation.validate_data(
            self, X, reset=reset, allow_nd=True, dtype=np.float64, **options
        )
        arrays, *targets = found if isinstance(found, tuple) else (found,)
        if arrays.ndim > 3:
            raise ValueError(
                f"Found array with dim {arrays.ndim}. {type(self).__name__} expected (samples, "
                f"steps) or (samples, steps, features)."
            )
        sequences = arrays.reshape(*arrays.shape[:2], -1)
        if reset:
            self.sequence_shape_ = sequences.shape[1:]
        elif sequences.shape[1:] != self.sequence_shape_:
            raise ValueError(
                f"X has sequences of shape {sequences.shape[1:]}, but {type(self).__name__} was "
                f"fitted on {self.sequence_shape_}."
            )
        return (sequences, *targets) if targets else sequences

    def _lstm(self, seeds: _Seeds, return_sequences: bool) -> LSTM:
        return LSTM(
            self.units,
            dropout=self.dropout,
            return_sequences=return_sequences,
            kernel_initializer=GlorotUniform(seeds.next()),
            recurrent_initializer=Orthogonal(seed=seeds.next()),
            seed=seeds.next(),
        )

    def _encoder(self, seeds: _Seeds) -> list[Any]:
        """The layers from the sequences to one vector."""
        stacked = [self._lstm(seeds, number + 1 < self.layers) for number in range(self.layers)]
        return [Input(self.sequence_shape_), *stacked]

    def _train(self, model: Sequential, seeds: _Seeds, loss: str, x: Any, y: Any) -> None:
        model.compile(Adam(self.learning_rate), loss=loss)
        model._shuffler = np.random.default_rng(seeds.next())
        options: dict[str, Any] = {}
        if self.early_stopping is not None:
            stop = EarlyStopping(patience=self.early_stopping, restore_best_weights=True)
            options = {"callbacks": [stop], "validation_split": 0.1}
        history = model.fit(
            x,
            y,
            epochs=self.epochs,
            batch_size=self.batch_size,
            verbose=self.verbose,
            **options,
        )
        self.model_ = model
        self.history_ = history.history
        self.n_iter_ = len(history.epoch)


def _output(seeds: _Seeds, units: int, activation: str | None = None) -> Dense:
    """The last layer, in double precision: a row's result does not depend on the rows beside it."""
    initializer = GlorotUniform(seeds.next())
    return Dense(units, activation=activation, kernel_initializer=initializer, dtype="float64")


@_documented
class LSTMRegressor(base.RegressorMixin, _LSTMEstimator):  # type: ignore[name-defined]
    """Numbers from sequences.

    X is (samples, steps, features), or (samples, steps) for sequences of one feature. y is
    (samples,) or (samples, outputs); inside it is brought to zero mean and unit variance.

    Parameters
    ----------
    {common}

    Attributes
    ----------
    model_ : Sequential
    history_ : dict of lists
        The loss, and the validation's, epoch by epoch.
    n_iter_ : int
        How many epochs it was trained.
    n_features_in_ : int
        The number of steps.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(40, 5))
    >>> regressor = LSTMRegressor(units=8, epochs=60, random_state=0).fit(X, X.sum(axis=1))
    >>> regressor.score(X, X.sum(axis=1)) > 0.8
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> LSTMRegressor:
        """Train on sequences X and their targets y."""
        self._validate_params()
        x, y = self._sequences(X, reset=True, y=y, multi_output=True, y_numeric=True)
        targets = np.asarray(y, np.float64).reshape(len(x), -1)
        self._is_flat, self._scaler = np.ndim(y) == 1, _Scaler(targets)
        seeds = _Seeds(self.random_state)
        model = Sequential([*self._encoder(seeds), _output(seeds, targets.shape[1])])
        self._train(model, seeds, "mse", _single(x), self._scaler.scaled(targets))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The targets of sequences, (samples,) or (samples, outputs) as y was."""
        _validation.check_is_fitted(self)
        found = self._scaler.restored(self.model_.predict(_single(self._sequences(X, reset=False))))
        return found[:, 0] if self._is_flat else found


@_documented
class LSTMClassifier(base.ClassifierMixin, _LSTMEstimator):  # type: ignore[name-defined]
    """Classes of sequences.

    X is (samples, steps, features), or (samples, steps) for sequences of one feature; y (samples,)
    holds labels of any kind.

    Parameters
    ----------
    {common}

    Attributes
    ----------
    classes_ : array
        The labels, in the order of `predict_proba`.
    model_, history_, n_iter_, n_features_in_
        As of `LSTMRegressor`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(40, 5))
    >>> y = np.where(X.sum(axis=1) > 0, "up", "down")
    >>> LSTMClassifier(units=8, epochs=60, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    def fit(self, X: Any, y: Any) -> LSTMClassifier:
        """Train on sequences X and their labels y."""
        self._validate_params()
        x, y = self._sequences(X, reset=True, y=y)
        _multiclass.check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        seeds = _Seeds(self.random_state)
        model = Sequential([*self._encoder(seeds), _output(seeds, len(self.classes_), "softmax")])
        self._train(model, seeds, "sparse_categorical_crossentropy", _single(x), numbers)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (samples, classes)."""
        _validation.check_is_fitted(self)
        found: np.ndarray = self.model_.predict(_single(self._sequences(X, reset=False)))
        return found

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each sequence."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]


@_documented
class LSTMForecaster(_LSTMEstimator):
    """The next values of a series, all steps of the horizon at once.

    The series X is (time,) or (time, channels), in order; inside every channel is brought to zero
    mean and unit variance. Each sample is `window` values, and its target the next `horizon`.

    Parameters
    ----------
    window, horizon : int
    {common}

    Attributes
    ----------
    model_, history_, n_iter_
        As of `LSTMRegressor`.
    n_features_in_ : int
        The number of channels.

    Examples
    --------
    >>> wave = np.sin(np.arange(200) / 5)
    >>> forecaster = LSTMForecaster(window=20, horizon=3, epochs=30, random_state=0).fit(wave)
    >>> bool(np.abs(forecaster.forecast() - np.sin(np.arange(200, 203) / 5)).max() < 0.2)
    True
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **_LSTMEstimator._parameter_constraints,
        "window": [_Interval(Integral, 1, None, closed="left")],
        "horizon": [_Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        window: int = 24,
        horizon: int = 1,
        *,
        units: int = 32,
        layers: int = 1,
        dropout: float = 0.0,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        early_stopping: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            units=units,
            layers=layers,
            dropout=dropout,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            random_state=random_state,
            verbose=verbose,
        )
        self.window = window
        self.horizon = horizon

    def _series(self, X: Any, *, reset: bool, least: int) -> np.ndarray:
        """X as (time, channels), at least so long."""
        table = np.reshape(X, (-1, 1)) if np.ndim(X) == 1 else X
        series: np.ndarray = _validation.validate_data(self, table, reset=reset, dtype=np.float64)
        if len(series) < least:
            raise ValueError(
                f"{type(self).__name__}: the series must have at least {least} values, `window` "
                f"and in `fit` `horizon` too, got n_samples = {len(series)}."
            )
        return series

    def _windows(self, series: np.ndarray, length: int) -> np.ndarray:
        """Every stretch of the series of that length, (samples, length, channels)."""
        return np.lib.stride_tricks.sliding_window_view(series, length, axis=0).swapaxes(1, 2)

    def fit(self, X: Any, y: Any = None) -> LSTMForecaster:
        """Train on all windows of a series; `y` is there for pipelines, and ignored."""
        self._validate_params()
        series = self._series(X, reset=True, least=self.window + self.horizon)
        self._is_flat = np.ndim(X) == 1
        self._scaler = _Scaler(series)
        scaled = _single(self._scaler.scaled(series))
        stretches = self._windows(scaled, self.window + self.horizon)
        self.sequence_shape_ = (self.window, series.shape[1])
        seeds = _Seeds(self.random_state)
        outputs = (self.horizon, series.shape[1])
        model = Sequential(
            [*self._encoder(seeds), _output(seeds, outputs[0] * outputs[1]), Reshape(outputs)]
        )
        self._train(model, seeds, "mse", stretches[:, : self.window], stretches[:, self.window :])
        self.last_window_ = series[-self.window :]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """What follows each window of a series.

        Returns (time - window + 1, horizon), with channels (time - window + 1, horizon, channels):
        entry i is what follows ``X[i : i + window]``.
        """
        _validation.check_is_fitted(self)
        window = self.sequence_shape_[0]  # the parameter may be set anew before the next fit
        series = self._scaler.scaled(self._series(X, reset=False, least=window))
        windows = self._windows(_single(series), window)
        found = self._scaler.restored(self.model_.predict(windows))
        return found[..., 0] if self._is_flat else found

    def forecast(self) -> np.ndarray:
        """What follows the series that it was fitted on, (horizon,) or (horizon, channels)."""
        _validation.check_is_fitted(self)
        return self.predict(self.last_window_)[0]


@_documented
class LSTMAutoencoderDetector(base.OutlierMixin, _LSTMEstimator):  # type: ignore[name-defined]
    """Unlikely sequences: those that an LSTM autoencoder reconstructs worst.

    X is (samples, steps, features), or (samples, steps) for sequences of one feature. One LSTM
    stack reads a sequence into a vector of `units` numbers, another writes it out again
    (Malhotra et al. 2016, arXiv:1607.00148); the score is minus the mean squared error.

    Parameters
    ----------
    contamination : float in (0, 0.5]
        The share of the training sequences that are outliers.
    {common}

    Attributes
    ----------
    offset_ : float
        The score below which a sequence is an outlier.
    model_, history_, n_iter_, n_features_in_
        As of `LSTMRegressor`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = np.sin(np.arange(12) / 2 + rng.uniform(0, 6, (60, 1)))
    >>> X[7] = rng.normal(size=12)
    >>> detector = LSTMAutoencoderDetector(1 / 60, epochs=60, random_state=0).fit(X)
    >>> np.flatnonzero(detector.predict(X) == -1).tolist()
    [7]
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **_LSTMEstimator._parameter_constraints,
        "contamination": [_Interval(Real, 0, 0.5, closed="right")],
    }

    def __init__(
        self,
        contamination: float = 0.1,
        *,
        units: int = 32,
        layers: int = 1,
        dropout: float = 0.0,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        early_stopping: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            units=units,
            layers=layers,
            dropout=dropout,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            random_state=random_state,
            verbose=verbose,
        )
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None) -> LSTMAutoencoderDetector:
        """Train on sequences; `y` is there for pipelines, and ignored."""
        self._validate_params()
        x = self._sequences(X, reset=True)
        steps, features = self.sequence_shape_
        self._scaler = _Scaler(x.reshape(-1, features))
        x = _single(self._scaler.scaled(x))
        seeds = _Seeds(self.random_state)
        model = Sequential(
            [
                *self._encoder(seeds),
                RepeatVector(steps),
                *(self._lstm(seeds, True) for _ in range(self.layers)),
                TimeDistributed(_output(seeds, features)),
            ]
        )
        self._train(model, seeds, "mse", x, x)
        self.offset_ = np.percentile(self._scores(x), 100 * self.contamination)
        return self

    def _scores(self, x: np.ndarray) -> np.ndarray:
        errors = np.square(self.model_.predict(x) - x, dtype=np.float64)
        return -errors.mean(axis=(1, 2))

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus the mean squared error of each sequence, in units of the training variance."""
        _validation.check_is_fitted(self)
        x = self._scaler.scaled(self._sequences(X, reset=False))
        return self._scores(_single(x))

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` minus `offset_`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """1 for inliers, -1 for outliers."""
        return np.where(self.decision_function(X) < 0, -1, 1)
