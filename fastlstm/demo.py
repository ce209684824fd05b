"""The demonstration: forecast each year's sunspot number from the eleven years before it.

The series is split by time: the model and its scaling see the years before 1950 alone. The sizes
below were chosen by training on the years before 1900 and testing on 1900 to 1949; the years from
1950 on took no part in any choice.
"""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from fastlstm.callbacks import LambdaCallback
from fastlstm.layers import LSTM, Dense, TimeDistributed
from fastlstm.models import Sequential
from fastlstm.optimizers import Adam
from fastlstm.utils import Progbar, set_random_seed

FIRST_TEST_YEAR = 1950
STEPS = 11  # about one solar cycle
UNITS = 16
EPOCHS = 40
BATCH_SIZE = 16
LEARNING_RATE = 0.003


@dataclass(frozen=True)
class Forecast:
    """Years (N,) with the observed numbers, of which the last M are forecast two ways (M,)."""

    years: np.ndarray
    observed: np.ndarray
    predicted: np.ndarray
    naive: np.ndarray

    @property
    def test_years(self) -> np.ndarray:
        """The years that are forecast, (M,)."""
        return self.years[-len(self.predicted) :]

    def error(self, values: np.ndarray) -> float:
        """Root mean square error of values (M,) against what was observed in the test years."""
        return float(np.sqrt(np.mean((values - self.observed[-len(values) :]) ** 2)))


@dataclass(frozen=True)
class Scaling:
    """To numbers of about unit size and back; the root evens out the noise of high years."""

    mean: float
    deviation: float

    @classmethod
    def fit(cls, values: np.ndarray) -> Scaling:
        """Find the scaling that standardises the roots of these values."""
        roots = np.sqrt(values)
        return cls(float(roots.mean()), float(roots.std()))

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Turn sunspot numbers into inputs of the model."""
        return (np.sqrt(values) - self.mean) / self.deviation

    def restore(self, scaled: np.ndarray) -> np.ndarray:
        """Turn outputs of the model into sunspot numbers, which are never negative."""
        return np.maximum(scaled * self.deviation + self.mean, 0) ** 2


def load_sunspots() -> tuple[np.ndarray, np.ndarray]:
    """Return the years 1700 to 2008 and their mean sunspot numbers, (309,) each."""
    with files("fastlstm").joinpath("data/sunspots.csv").open() as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    return table[:, 0].astype(int), table[:, 1]


def forecast(epochs: int = EPOCHS, seed: int = 0) -> Forecast:
    """Train on the years before `FIRST_TEST_YEAR`, and forecast each later year from its past."""
    set_random_seed(seed)
    years, observed = load_sunspots()
    first = int(np.searchsorted(years, FIRST_TEST_YEAR))
    scaling = Scaling.fit(observed[:first])
    x, y = windows(scaling.scale(observed), STEPS)
    trained = first - STEPS
    model = build_model()
    bar = Progbar(epochs, stateful_metrics=["loss"], unit_name="epoch")
    progress = LambdaCallback(
        on_epoch_end=lambda epoch, logs: bar.update(epoch + 1, [("loss", logs["loss"])])
    )
    model.fit(
        x[:trained],
        y[:trained],
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=[progress],
    )
    scaled = model.predict(x[trained:], verbose=0)[:, -1, 0]
    return Forecast(years, observed, scaling.restore(scaled), naive=observed[first - 1 : -1])


def windows(values: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Every run of `steps` values, and the values that follow each of them: (N, steps, 1) twice."""
    runs = np.lib.stride_tricks.sliding_window_view(values, steps)[..., np.newaxis]
    return runs[:-1], runs[1:]


def build_model() -> Sequential:
    """Make an LSTM that says after every year what it expects of the next."""
    model = Sequential()
    model.add(LSTM(UNITS, return_sequences=True, input_shape=(STEPS, 1)))
    model.add(TimeDistributed(Dense(1)))
    model.compile(optimizer=Adam(LEARNING_RATE), loss="mse")
    return model


def run(output: Path, epochs: int = EPOCHS, seed: int = 0) -> None:
    """Train, print the errors and the seconds, and draw the forecasts into the file `output`.

    Raises ``OSError`` when the file cannot be written.
    """
    if not output.parent.is_dir():
        raise FileNotFoundError(f"--output: there is no folder {output.parent}")
    print(
        f"Yearly sunspot numbers, 1700 to 2008. An LSTM learns from the years before "
        f"{FIRST_TEST_YEAR}\nand forecasts each later year from the {STEPS} years before it."
    )
    start = time.perf_counter()
    result = forecast(epochs, seed)
    seconds = time.perf_counter() - start
    print("Test error (root mean square, in sunspots; smaller is better):")
    print(f"  LSTM              {result.error(result.predicted):5.1f}")
    print(f"  same as last year {result.error(result.naive):5.1f}")
    print(f"Trained and tested in {seconds:.1f} seconds.")
    if draw(result, output):
        print(f"Plot: {output}")
    else:
        print('No plot, for want of matplotlib: pip install "fastlstm[plot]"')


def draw(result: Forecast, output: Path) -> bool:
    """Write a PNG of the whole series and of the test years; False if matplotlib is missing."""
    try:
        figure_module = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError:
        return False
    figure = figure_module.Figure(figsize=(10, 7), layout="constrained")
    whole, test = figure.subplots(2, 1)
    years, first = result.test_years, result.test_years[0]

    whole.plot(result.years, result.observed, color="0.25", linewidth=1, label="observed")
    whole.plot(years, result.predicted, color="tab:red", linewidth=1, label="LSTM forecast")
    whole.axvspan(first, years[-1], color="tab:red", alpha=0.08, linewidth=0)
    whole.set_title(f"Yearly sunspot numbers: trained before {first}, tested on the shaded years")

    test.plot(
        years,
        result.observed[-len(years) :],
        "o-",
        color="0.25",
        markersize=4,
        linewidth=1.2,
        label="observed",
    )
    test.plot(
        years,
        result.predicted,
        color="tab:red",
        linewidth=2,
        label=f"LSTM forecast (error {result.error(result.predicted):.1f})",
    )
    test.plot(
        years,
        result.naive,
        "--",
        color="tab:blue",
        linewidth=1,
        label=f"same as last year (error {result.error(result.naive):.1f})",
    )
    test.set_title(f"The test years, each forecast from the {STEPS} years before it")
    for axes in (whole, test):
        axes.set_xlabel("year")
        axes.set_ylabel("sunspot number (yearly mean)")
        axes.set_ylim(0, 1.2 * result.observed.max())  # room for the legend
        axes.margins(x=0.01)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", ncols=3)
    figure.savefig(output, format="png", dpi=120)
    return True
