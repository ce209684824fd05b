"""Score a sensor's values as they come, by how wrong the forecast of each was.

usage: score_sensor.py [SERIES.csv] [--windows WINDOWS.json] [--plot FILE.png] ...

Without arguments a series of five-minute values with a daily rhythm is made up, and spoilt three
times. A series of the Numenta Anomaly Benchmark (columns timestamp and value) may be given instead,
with its combined_windows.json to compare with: machine_temperature_system_failure.csv of
https://github.com/numenta/NAB (MIT) is of a machine that fails. A forecast of the next five minutes
is wrong about what breaks and jumps; it keeps up with what goes wrong slowly.
"""

import argparse
import csv
import importlib
import json
import time
from pathlib import Path

import numpy as np

from fastlstm.layers import LSTM, Dense
from fastlstm.models import Sequential
from fastlstm.utils import set_random_seed

STEPS = 48
QUIET = np.timedelta64(12, "h")


def made_up_series(days=24):
    """Times, values and the spoilt intervals."""
    rng = np.random.default_rng(1)
    count = 288 * days
    times = np.datetime64("2024-01-01T00:00:00") + np.arange(count) * np.timedelta64(300, "s")
    noise = np.convolve(rng.normal(size=count), np.full(6, 0.4), mode="same")
    values = 80 + 8 * np.sin(2 * np.pi * np.arange(count) / 288) + noise
    events = [(288 * day + 100, 288 * day + 130) for day in (11, 16, 21)]
    values[slice(*events[0])] -= 15  # falls
    values[slice(*events[1])] += rng.normal(0, 4, 30)  # trembles
    values[slice(*events[2])] += np.linspace(0, 25, 30)  # climbs
    return times, values, [(times[first], times[last]) for first, last in events]


def read_series(series, windows):
    with open(series, newline="") as file:
        rows = list(csv.DictReader(file))
    times = np.array([row["timestamp"] for row in rows], dtype="datetime64[s]")
    values = np.array([float(row["value"]) for row in rows])
    labels = json.loads(windows.read_text()) if windows else {}
    found = next((labels[key] for key in labels if series.stem.endswith(Path(key).stem)), [])
    return times, values, [tuple(event) for event in np.array(found, "datetime64[s]")]


def forecaster(scaled, epochs):
    """A model that says after every value which change it expects next."""
    runs = np.lib.stride_tricks.sliding_window_view(scaled, STEPS + 1)[::4, :, None]
    model = Sequential()
    model.add(LSTM(32, return_sequences=True, input_shape=(None, 1)))
    model.add(Dense(1))
    model.compile(optimizer="adam", loss="mse")
    model.fit(runs[:, :-1], np.diff(runs, axis=1), batch_size=32, epochs=epochs, verbose=0)
    return model


class Threshold:
    """Mean and deviation of the scores so far, the latest ones counting most."""

    def __init__(self, scores, deviations, memory=2000):
        self.mean, self.variance = np.mean(scores), np.var(scores)
        self.deviations, self.share = deviations, 1 / memory

    @property
    def value(self):
        return self.mean + self.deviations * self.variance**0.5

    def update(self, score):
        # A score above the threshold counts as the threshold: an event must not hide the next one.
        difference = min(score, self.value) - self.mean
        self.mean += self.share * difference
        self.variance += self.share * (difference**2 - self.variance)


def smoothed(score, error, memory=12):
    """The score after an error: one wrong forecast is chance, an hour of them is not."""
    return score + (error - score) / memory


def score_live(model, scaled, normal, deviations):
    """Read the values one by one; the score of each and the threshold that it met."""
    stream = model.stream()
    now, change = np.zeros((1, 1), "float32"), np.zeros((1, 1), "float32")
    scores, limits = np.zeros(len(scaled)), np.full(len(scaled), np.nan)
    expected, threshold = scaled[0], None
    for place, value in enumerate(scaled):
        scores[place] = smoothed(scores[max(0, place - 1)], abs(value - expected))
        if place == normal:
            threshold = Threshold(scores[STEPS:normal], deviations)
        if threshold:
            limits[place] = threshold.value
            threshold.update(scores[place])
        now[0, 0] = value
        stream.step(now, out=change)
        expected = value + change[0, 0]
    return scores, limits


def alarms(times, above, quiet):
    """Intervals of alarm: those less than `quiet` apart are one."""
    found = []
    for moment in times[above]:
        if found and moment - found[-1][1] < quiet:
            found[-1][1] = moment
        else:
            found.append([moment, moment])
    return found


def draw(path, times, values, scores, limits, found, events):
    """Write a PNG of the values and of the scores; False if matplotlib is missing."""
    try:
        figure_module = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError:
        return False
    figure = figure_module.Figure(figsize=(11, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(times, values, color="0.25", linewidth=0.8)
    above.set(ylabel="value", title="The values; red: alarms" + "; blue: events" * bool(events))
    # Without the first ones, from nothing upwards, which a logarithmic axis cannot show.
    below.plot(times[STEPS:], scores[STEPS:], color="0.25", linewidth=0.8, label="score")
    below.plot(times, limits, color="tab:red", linewidth=1.2, label="threshold")
    below.set(ylabel="score", yscale="log", title="How wrong the forecasts were")
    below.legend(loc="upper left", ncols=2)
    for axes in (above, below):
        for first, last in events:
            axes.axvspan(first, last, color="tab:blue", alpha=0.15, linewidth=0)
        for first, last in found:
            axes.axvspan(first, last, color="tab:red", alpha=0.5, linewidth=1)
        axes.margins(x=0.01)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", type=Path, nargs="?", metavar="SERIES.csv")
    parser.add_argument("--windows", type=Path, metavar="WINDOWS.json")
    parser.add_argument("--plot", type=Path, default=Path("score-sensor.png"), metavar="FILE.png")
    parser.add_argument("--normal", type=int, default=2000, help="first values, to learn from")
    parser.add_argument("--deviations", type=float, default=8.0, help="above the mean: an alarm")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()

    set_random_seed(0)
    times, values, events = (
        read_series(options.series, options.windows) if options.series else made_up_series()
    )
    learned = values[: options.normal]
    scaled = ((values - learned.mean()) / learned.std()).astype("float32")
    model = forecaster(scaled[: options.normal], options.epochs)

    start = time.perf_counter()
    scores, limits = score_live(model, scaled, options.normal, options.deviations)
    seconds = time.perf_counter() - start
    found = alarms(times, scores > limits, QUIET)
    print(f"{len(values):,} values scored one by one, {1e6 * seconds / len(values):.1f} us each")
    for first, last in found:
        peak = scores[(times >= first) & (times <= last)].max()
        inside = any(first <= event[1] and event[0] <= last for event in events)
        print(f"alarm {first} to {last}, score up to {peak:.2f}" + ", in an event" * inside)
    if events:
        met = sum(any(a <= last and first <= b for a, b in found) for first, last in events)
        print(f"{met} of {len(events)} events met by an alarm")
    if draw(options.plot, times, values, scores, limits, found, events):
        print(f"plot: {options.plot}")
    else:
        print('no plot, for want of matplotlib: pip install "fastlstm[plot]"')


if __name__ == "__main__":
    main()
