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


def keras_model(units: int, inputs: tuple[int, int], outputs: int) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(inputs),
            keras.layers.LSTM(units, return_sequences=True),
            keras.layers.LSTM(units),
            keras.layers.Dense(outputs),
        ]
    )
    model.compile("adam", "mse")
    return model


def keras_runs(
    units: int, rows: int, inputs: tuple[int, int], epochs: int
) -> dict[str, Callable[[], Any]]:
    """`predict`, or `fit` for some epochs, of two stacked layers; each side has its own model."""
    from fastlstm.integrations import keras as hook

    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, *inputs)).astype(np.float32)
    y = rng.normal(size=(rows, 3)).astype(np.float32)

    def make(with_hook: bool) -> Callable[[], Any]:
        model = keras_model(units, inputs, 3)
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
    for name, *sizes in (
        ("first tutorial's shape", 5, 5, (5, 1)),
        ("2 x 128", 128, 64, (50, 16)),
    ):
        report(f"Keras on {backend}: {name}, predict", keras_runs(*sizes, 0))
        if backend != "numpy":
            report(f"Keras on {backend}: {name}, fit", keras_runs(*sizes, 5))


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
