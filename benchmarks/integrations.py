"""Programs of PyTorch and Keras with and without fastlstm under them.

usage: KERAS_BACKEND=torch python benchmarks/integrations.py [torch] [keras]

Both sides take turns in one process and must find the same before anything is timed. Prints
milliseconds and how many times as fast the program is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import timing

import fastlstm


def report(name: str, runs: dict[str, Callable[[], Any]]) -> None:
    timing.check_same({side: run() for side, run in runs.items()}, 1e-3)
    seconds = timing.in_turns(runs, 5)
    own, other = seconds["fastlstm"], seconds["without"]
    print(f"{name:<44}{1e3 * own:10.3f}{1e3 * other:10.3f}{other / own:8.2f}", flush=True)


# ---- PyTorch ----------------------------------------------------------------------------------


def torch_runs(batch: int, steps: int, units: int, kind: str) -> dict[str, Callable[[], Any]]:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    from fastlstm.integrations.torch import LSTM

    theirs = torch.nn.LSTM(units, units, batch_first=True)
    ours = LSTM(units, units, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(batch, steps, units)
    lengths = torch.randint(1 + steps // 4, steps + 1, (batch,))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)

    def run(module: Any) -> list[np.ndarray]:
        if kind == "training":
            loss = module(x)[0].square().mean()
            return [g.numpy() for g in torch.autograd.grad(loss, list(module.parameters()))]
        if kind == "packed training":
            loss = module(packed)[0].data.square().mean()
            return [g.numpy() for g in torch.autograd.grad(loss, list(module.parameters()))]
        with torch.inference_mode():
            if kind == "packed":
                return [module(packed)[0].data.numpy()]
            return [module(x)[0].numpy()]

    return {"fastlstm": lambda: run(ours), "without": lambda: run(theirs)}


def measure_torch() -> None:
    import torch

    torch.set_num_threads(fastlstm.get_num_threads())
    for batch, steps, units in ((1, 1, 64), (1, 100, 128), (32, 100, 128), (64, 50, 512)):
        for kind in ("inference", "packed", "training", "packed training"):
            report(
                f"nn.LSTM {batch},{steps},{units},{units} {kind}",
                torch_runs(batch, steps, units, kind),
            )


# ---- Keras ------------------------------------------------------------------------------------


def keras_programs() -> dict[str, tuple[Callable[[], list[Any]], Any, Any]]:
    """By name: what makes the layers, the samples and the targets."""
    from keras import layers

    def first() -> list[Any]:
        return [layers.LSTM(5), layers.Dense(1)]

    def many() -> list[Any]:
        head = layers.TimeDistributed(layers.Dense(1))
        return [layers.LSTM(5, return_sequences=True), head]

    def autoencoder() -> list[Any]:
        return [
            layers.LSTM(100, activation="relu"),
            layers.RepeatVector(9),
            layers.LSTM(100, activation="relu", return_sequences=True),
            layers.TimeDistributed(layers.Dense(1)),
        ]

    def stacked() -> list[Any]:
        return [layers.LSTM(128, return_sequences=True), layers.LSTM(128), layers.Dense(3)]

    steps = np.arange(5, dtype=np.float32) / 5
    waves = np.arange(0.1, 1.0, 0.1, dtype=np.float32).reshape(1, 9, 1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 50, 16)), rng.normal(size=(64, 3))
    return {
        "one-to-one tutorial": (first, steps.reshape(5, 1, 1), steps.reshape(5, 1)),
        "many-to-many tutorial": (many, steps.reshape(1, 5, 1), steps.reshape(1, 5, 1)),
        "autoencoder tutorial": (autoencoder, waves, waves),
        "2 x 128": (stacked, x.astype(np.float32), y.astype(np.float32)),
    }


def keras_runs(
    make_layers: Callable[[], list[Any]], x: Any, y: Any, epochs: int
) -> dict[str, Callable[[], Any]]:
    """`predict`, or `fit` for some epochs; each side has a model of its own."""
    import keras

    from fastlstm.integrations import keras as hook

    def make(with_hook: bool) -> Callable[[], Any]:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input(x.shape[1:]), *make_layers()])
        model.compile("adam", "mse")
        start = model.get_weights()

        def run() -> list[np.ndarray]:
            (hook.enable if with_hook else hook.disable)()
            if not epochs:
                return [model.predict(x, verbose=0)]
            model.set_weights(start)
            history = model.fit(x, y, epochs=epochs, verbose=0, shuffle=False)
            return [np.array(history.history["loss"][:1])]

        return run

    return {"fastlstm": make(True), "without": make(False)}


def measure_keras() -> None:
    import keras

    backend = keras.backend.backend()
    for name, program in keras_programs().items():
        report(f"Keras on {backend}: {name}, predict", keras_runs(*program, 0))
        if backend != "numpy":
            report(f"Keras on {backend}: {name}, fit", keras_runs(*program, 10))


def main() -> None:
    wanted = sys.argv[1:] or ["torch"]
    for name, value in timing.machine().items():
        print(f"{name}: {value}")
    print(f"threads: {fastlstm.get_num_threads()}, of {os.cpu_count()} CPUs")
    print(f"\n{'program':<44}{'with ms':>10}{'without':>10}{'ratio':>8}")
    if "torch" in wanted:
        measure_torch()
    if "keras" in wanted:
        measure_keras()


if __name__ == "__main__":
    main()
