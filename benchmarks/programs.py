"""What programs run besides batches: streams, tutorials, training with all trimmings, deep stacks.

    python benchmarks/programs.py [streams] [tutorials] [trimmings] [stack]

Each line gives medians, and the ratio that it is about.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import timing

import fastlstm
from fastlstm.bench import latencies, measured
from fastlstm.layers import LSTM, Dense, Dropout, Input, Masking, RepeatVector, TimeDistributed
from fastlstm.models import Sequential
from fastlstm.utils import set_random_seed

TURNS = 5
MICRO = 1e6


def _median(call: Callable[[], Any], seconds: float = 0.5) -> float:
    return float(np.median(latencies(call, seconds)))


def _line(what: str, value: str) -> None:
    print(f"{what:62} {value}", flush=True)


# ---- streams -------------------------------------------------------------------------------------


def _character_model(units: int) -> Sequential:
    return Sequential([Input((None, 65)), LSTM(units), Dense(65, activation="softmax")])


def _step(model: Sequential, rows: int, features: int) -> Callable[[], Any]:
    stream = model.stream(rows)
    x = np.random.default_rng(0).normal(size=(rows, features)).astype(np.float32)
    y = stream.step(x)
    return lambda: stream.step(x, out=y)


def _empty(x: Any, out: Any) -> None:
    """What a call costs."""


def _torch_cell() -> Callable[[], Any] | None:
    """The same character in PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    cell, dense = torch.nn.LSTMCell(65, 128), torch.nn.Linear(128, 65)
    x, states = torch.ones(1, 65), [torch.zeros(1, 128), torch.zeros(1, 128)]

    def run() -> None:
        with torch.inference_mode():
            states[:] = cell(x, tuple(states))
            torch.softmax(dense(states[0]), -1)

    return run


def streams() -> None:
    """A step, many steps, many rows."""
    small = _step(Sequential([Input((None, 1)), LSTM(8), Dense(1)]), 1, 1)
    found = timing.in_turns({"step": small, "empty": lambda: _empty(None, out=None)}, TURNS)
    above = MICRO * (found["step"] - found["empty"])
    _line("LSTM(8) + Dense(1): a step above an empty call", f"{above:.2f} us")
    model = _character_model(128)
    step = _step(model, 1, 65)
    size = sum(weight.value.nbytes for weight in model.weights)
    runs = {"step": step}
    if cell := _torch_cell():
        runs["PyTorch"] = cell
    found = timing.in_turns(runs, TURNS)
    reading = size / measured(size, np.dtype(np.float32), 1).bandwidth
    _line(
        "LSTM(128) + Dense(65): a step",
        f"{MICRO * found['step']:.2f} us, reading its weights {MICRO * reading:.2f}",
    )
    if "PyTorch" in found:
        _line("   PyTorch's LSTMCell and Linear", f"{MICRO * found['PyTorch']:.1f} us")
    times = np.empty(100_000)
    for k in range(len(times)):
        start = time.perf_counter()
        step()
        times[k] = time.perf_counter() - start
    p50, p99 = np.percentile(times, [50, 99])
    _line("   100,000 steps", f"p50 {MICRO * p50:.2f} us, p99 {p99 / p50:.2f} of it")
    for units in (128, 512):
        model = _character_model(units)
        found = timing.in_turns({"one": _step(model, 1, 65), "many": _step(model, 64, 65)}, TURNS)
        ratio = 64 * found["one"] / found["many"]
        _line(f"LSTM({units}): 64 rows in one step against 64 steps", f"{ratio:.2f} times as fast")


# ---- tutorials -----------------------------------------------------------------------------------


def tutorials() -> None:
    """The first tutorial and the autoencoder, as they are written."""
    x = (np.arange(5) / 5).reshape(5, 1, 1)
    first = Sequential([Input((1, 1)), LSTM(5), Dense(1)])
    first.compile("adam", "mean_squared_error")
    sequence = np.arange(0.1, 1.0, 0.1).reshape(1, 9, 1)
    parts = [LSTM(100, activation="relu"), RepeatVector(9)]
    parts += [LSTM(100, activation="relu", return_sequences=True), TimeDistributed(Dense(1))]
    coder = Sequential([Input((9, 1)), *parts])
    coder.compile("adam", "mse")
    _line(
        "first tutorial, predict of 5 rows", f"{MICRO * _median(lambda: first.predict(x)):.1f} us"
    )
    found = timing.in_turns(
        {
            "first": lambda: first.fit(x, x[:, 0], epochs=1000, batch_size=5, verbose=0),
            "coder": lambda: coder.fit(sequence, sequence, epochs=300, verbose=0),
        },
        TURNS,
    )
    _line("first tutorial, 1000 epochs", f"{1e3 * found['first']:.1f} ms")
    _line("autoencoder, 300 epochs", f"{1e3 * found['coder']:.1f} ms")


# ---- trimmings -----------------------------------------------------------------------------------


def _trimmed(with_all: bool, x: np.ndarray) -> Sequential:
    set_random_seed(0)
    model = Sequential([Input(x.shape[1:])])
    if with_all:
        model.add(Masking())
    model.add(LSTM(128, return_sequences=True))
    if with_all:
        model.add(Dropout(0.2))
    model.add(LSTM(128))
    model.add(Dense(8))
    model.compile("adam", "mse")
    return model


def _torch_loop(x: np.ndarray, y: np.ndarray, lengths: np.ndarray, weights: np.ndarray) -> Any:
    """Packed sequences, dropout between the layers, and weighted losses."""
    try:
        import torch
    except ImportError:
        return None
    from torch.nn.utils.rnn import pack_padded_sequence

    torch.set_num_threads(1)
    lstm = torch.nn.LSTM(x.shape[2], 128, 2, batch_first=True, dropout=0.2)
    dense = torch.nn.Linear(128, 8)
    optimizer = torch.optim.Adam([*lstm.parameters(), *dense.parameters()], fused=True)
    xs, ys = torch.from_numpy(x), torch.from_numpy(y)
    ws, ns = torch.from_numpy(weights.astype(np.float32)), torch.from_numpy(lengths)

    def run() -> None:
        for rows in torch.arange(len(xs)).split(32):
            optimizer.zero_grad()
            packed = pack_padded_sequence(
                xs[rows], ns[rows], batch_first=True, enforce_sorted=False
            )
            _, (h, _) = lstm(packed)
            losses = ((dense(h[-1]) - ys[rows]) ** 2).mean(-1)
            (losses * ws[rows]).mean().backward()
            optimizer.step()

    return run


def trimmings() -> None:
    """`fit` of two layers with masks, sample weights and dropout, against the same without."""
    fastlstm.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 100, 64)).astype(np.float32)
    y = rng.normal(size=(128, 8)).astype(np.float32)
    weights = rng.uniform(0.5, 1.5, size=128)
    lengths = rng.integers(60, 101, size=128)
    padded = x * (np.arange(100)[:, None] < lengths[:, None, None])
    plain, full = _trimmed(False, x), _trimmed(True, x)
    runs = {
        "plain": lambda: plain.fit(x, y, batch_size=32, verbose=0),
        "full": lambda: full.fit(padded, y, sample_weight=weights, batch_size=32, verbose=0),
    }
    if loop := _torch_loop(padded, y, lengths, weights):
        runs["PyTorch"] = loop
    found = timing.in_turns(runs, TURNS)
    _line(
        "fit of 2 x LSTM(128) with masks, weights, dropout",
        f"{1e3 * found['full']:.1f} ms, {found['full'] / found['plain']:.2f} of without",
    )
    if "PyTorch" in found:
        ratio = found["PyTorch"] / found["full"]
        _line("   a loop of PyTorch on packed sequences", f"{ratio:.2f} times as long")


# ---- stack ---------------------------------------------------------------------------------------


def stack() -> None:
    """Three layers, one sequence: one thread and two."""
    layers = [LSTM(256, return_sequences=True), LSTM(256, return_sequences=True), LSTM(256)]
    model = Sequential([Input((200, 64)), *layers])
    x = np.random.default_rng(0).normal(size=(1, 200, 64)).astype(np.float32)

    def run(threads: int) -> None:
        fastlstm.set_num_threads(threads)
        model.predict_on_batch(x)

    found = timing.in_turns({"one": lambda: run(1), "two": lambda: run(2)}, TURNS)
    ratio = found["one"] / found["two"]
    _line("3 x LSTM(256), 1,200,64: two threads", f"{ratio:.2f} times as fast as one")


PARTS = {part.__name__: part for part in (streams, tutorials, trimmings, stack)}


if __name__ == "__main__":
    for name, value in timing.machine().items():
        print(f"{name}: {value}")
    fastlstm.set_num_threads(1)
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
