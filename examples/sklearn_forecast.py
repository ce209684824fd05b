"""Forecast the yearly sunspot numbers five years ahead, with scikit-learn's search for the size."""

import numpy as np
from sklearn.model_selection import TimeSeriesSplit

from fastlstm.demo import load_sunspots
from fastlstm.integrations.sklearn import LSTMForecaster

WINDOW, HORIZON = 33, 5


def error(forecasts, series):
    """The root of the mean squared error of forecasts for every window of a series."""
    targets = np.lib.stride_tricks.sliding_window_view(series[WINDOW:], HORIZON)
    return np.sqrt(np.square(forecasts[: len(targets)] - targets).mean())


def main():
    years, numbers = load_sunspots()
    train, test = numbers[:-80], numbers[-80:]
    scores = {}
    for units in (4, 16):
        errors = []
        for known, later in TimeSeriesSplit(2, test_size=70).split(train):
            forecaster = LSTMForecaster(WINDOW, HORIZON, units=units, epochs=60, random_state=0)
            found = forecaster.fit(train[known]).predict(train[later])
            errors.append(error(found, train[later]))
        scores[units] = np.mean(errors)
        print(f"{units:>3} units: error {scores[units]:.1f} in cross-validation")
    best = min(scores, key=scores.get)
    forecaster = LSTMForecaster(WINDOW, HORIZON, units=best, epochs=60, random_state=0).fit(train)
    same = np.repeat(test[WINDOW - 1 : -1, None], HORIZON, axis=1)
    print(f"{best} units on the last years: error {error(forecaster.predict(test), test):.1f}")
    print(f"the last year's number, repeated: error {error(same, test):.1f}")
    ahead = ", ".join(f"{value:.0f}" for value in forecaster.fit(numbers).forecast())
    print(f"the {HORIZON} years after {years[-1]:.0f}: {ahead}")


if __name__ == "__main__":
    main()
