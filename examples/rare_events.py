"""Rare events by reconstruction error: what an autoencoder cannot rebuild, it has not seen before.

usage: rare_events.py [SERIES.csv [WINDOWS.json]]

Without arguments an hourly series with a daily rhythm is made up, and five days of it are spoilt.
A series of the Numenta Anomaly Benchmark (columns timestamp and value) may be given instead, with
the benchmark's combined_windows.json to compare with.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from fastlstm.layers import LSTM, Dense, RepeatVector, TimeDistributed
from fastlstm.models import Sequential
from fastlstm.utils import set_random_seed

STEPS = 24
TRAINED_PART = 0.4


def made_up_series(days=120):
    """Hourly values, and the spoilt intervals as (first, last) positions."""
    rng = np.random.default_rng(1)
    hours = np.arange(24 * days)
    values = 10 + 4 * np.sin(2 * np.pi * hours / 24) + rng.normal(0, 0.5, hours.size)
    events = []
    for day in (55, 70, 84, 97, 110):
        first = 24 * day + 6
        values[first : first + 12] = 10 + rng.normal(0, 0.5, 12)  # the rhythm stops for half a day
        events.append((first, first + 11))
    return values, events


def read_series(series_path, windows_path=None):
    """Read a benchmark series as about hourly means, and its labelled intervals."""
    with open(series_path, newline="") as file:
        rows = list(csv.DictReader(file))
    times = np.array([row["timestamp"] for row in rows], dtype="datetime64[s]")
    per_hour = max(1, round(3600 / np.diff(times).astype(float).mean()))
    count = len(rows) // per_hour
    values = np.array([float(row["value"]) for row in rows[: count * per_hour]])
    values = values.reshape(count, per_hour).mean(axis=1)
    times = times[::per_hour][:count]
    labels = {}
    if windows_path:
        labels = json.loads(Path(windows_path).read_text())
    stem = Path(series_path).stem
    intervals = next((labels[key] for key in labels if stem.endswith(Path(key).stem)), [])
    ends = np.array(intervals, dtype="datetime64[s]").reshape(-1, 2)
    return values, [(int(a), int(b)) for a, b in np.searchsorted(times, ends)]


def autoencoder():
    model = Sequential()
    model.add(LSTM(32, input_shape=(STEPS, 1)))
    model.add(RepeatVector(STEPS))
    model.add(LSTM(32, return_sequences=True))
    model.add(TimeDistributed(Dense(1)))
    model.compile(optimizer="adam", loss="mse")
    return model


def overlaps(start, event):
    return start <= event[1] and event[0] <= start + STEPS - 1


if __name__ == "__main__":
    set_random_seed(1)
    values, events = read_series(*sys.argv[1:3]) if len(sys.argv) > 1 else made_up_series()
    starts = np.arange(0, len(values) - STEPS + 1, STEPS // 4)
    trained = starts + STEPS <= TRAINED_PART * len(values)
    known = np.array([any(overlaps(start, event) for event in events) for start in starts])

    # Scaling and threshold come from the first part of the series alone, its known events left out.
    normal = trained & ~known
    x = np.stack([values[start : start + STEPS] for start in starts])[..., None]
    x = (x - x[normal].mean()) / x[normal].std()
    model = autoencoder()
    model.summary()
    model.fit(x[normal], x[normal], epochs=60, batch_size=16, verbose=0)
    error = np.mean((model.predict(x, verbose=0) - x) ** 2, axis=(1, 2))
    threshold = error[normal].mean() + 4 * error[normal].std()

    flagged = starts[~trained & (error > threshold)]
    later = [event for event in events if event[0] > TRAINED_PART * len(values)]
    found = [event for event in later if any(overlaps(start, event) for start in flagged)]
    right = [start for start in flagged if any(overlaps(start, event) for event in later)]
    print(f"threshold {threshold:.3f}, mean error in training {error[normal].mean():.3f}")
    print(f"{len(flagged)} of {np.sum(~trained)} later windows flagged")
    if later:
        print(f"precision {len(right) / max(1, len(flagged)):.2f} (flagged windows on an event)")
        print(f"recall {len(found) / len(later):.2f} ({len(found)} of {len(later)} events found)")
