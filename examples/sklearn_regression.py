"""The largest sunspot number of the next eleven years, from the last 33; a search for the size."""

import numpy as np
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

from fastlstm.demo import load_sunspots
from fastlstm.integrations.sklearn import LSTMRegressor

BEFORE, AFTER = 33, 11


def main():
    _, numbers = load_sunspots()
    stretches = np.lib.stride_tricks.sliding_window_view(numbers, BEFORE + AFTER)
    x, y = np.sqrt(stretches[:, :BEFORE]), stretches[:, BEFORE:].max(axis=1)
    # What is learnt from ends before the years to be foretold.
    train, test = slice(0, -60 - AFTER), slice(-60, None)
    search = GridSearchCV(
        LSTMRegressor(epochs=60, random_state=0),
        {"units": [8, 24]},
        cv=TimeSeriesSplit(2, gap=AFTER),
        scoring="neg_mean_absolute_error",
        n_jobs=2,
    )
    search.fit(x[train], y[train])
    for units, score in zip((8, 24), search.cv_results_["mean_test_score"], strict=True):
        print(f"{units:>3} units: error {-score:.0f} in cross-validation")
    error = np.abs(search.predict(x[test]) - y[test]).mean()
    mean = np.abs(y[train].mean() - y[test]).mean()
    print(f"mean error on the last {len(y[test])} stretches: {error:.0f}")
    print(f"with the mean of the past: {mean:.0f}")


if __name__ == "__main__":
    main()
