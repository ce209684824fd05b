"""One LSTM layer, forward alone and with its backward pass, beside PyTorch where it is installed.

usage: python benchmarks/bench_lstm.py [--threads N] [--repeats N] [B,T,F,H ...]

Both are given the same arrays and must give the same results before anything is timed. Runs
alternate, so that a slow moment of the machine meets both; medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from fastlstm import functional, set_num_threads, show_config

SHAPES = ["1,5,1,5", "5,3,2,128", "1,100,64,64", "1,100,256,256", "32,100,64,128", "32,100,256,256"]


def make_arrays(b: int, t: int, f: int, h: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "x": (b, t, f),
        "kernel": (f, 4 * h),
        "recurrent_kernel": (h, 4 * h),
        "bias": (4 * h,),
    }
    arrays = {name: rng.normal(0, h**-0.5, shape) for name, shape in shapes.items()}
    arrays["dy"] = rng.normal(size=(b, t, h))
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def own_runs(arrays: dict[str, np.ndarray]) -> dict[str, Callable[[], list[np.ndarray]]]:
    weights = [arrays[name] for name in ("kernel", "recurrent_kernel", "bias")]

    def forward() -> list[np.ndarray]:
        return [functional.lstm_forward(arrays["x"], *weights)[0]]

    def training() -> list[np.ndarray]:
        y, _, _, cache = functional.lstm_forward(arrays["x"], *weights, training=True)
        return [y, *functional.lstm_backward(cache, arrays["dy"])[:4]]

    return {"forward": forward, "forward+backward": training}


def torch_runs(
    arrays: dict[str, np.ndarray], threads: int
) -> dict[str, Callable[[], list[np.ndarray]]]:
    """Make the same runs with PyTorch; none where it is not installed."""
    try:
        import torch
    except ModuleNotFoundError:
        return {}
    torch.set_num_threads(threads)
    units, features = arrays["bias"].size // 4, arrays["x"].shape[2]
    layer = torch.nn.LSTM(features, units, batch_first=True)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.from_numpy(arrays["kernel"].T))
        layer.weight_hh_l0.copy_(torch.from_numpy(arrays["recurrent_kernel"].T))
        layer.bias_ih_l0.copy_(torch.from_numpy(arrays["bias"]))
        layer.bias_hh_l0.zero_()
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    dy = torch.from_numpy(arrays["dy"])

    def forward() -> list[np.ndarray]:
        with torch.inference_mode():
            return [layer(x)[0].numpy()]

    def training() -> list[np.ndarray]:
        y = layer(x)[0]
        wanted = [x, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]
        dx, dkernel, drecurrent, dbias = torch.autograd.grad(y, wanted, dy)
        gradients = [dx, dkernel.T, drecurrent.T, dbias]
        return [y.detach().numpy(), *(gradient.numpy() for gradient in gradients)]

    return {"forward": forward, "forward+backward": training}


def check_same(own: list[np.ndarray], peer: list[np.ndarray]) -> None:
    for ours, theirs in zip(own, peer, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def medians(runs: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median seconds of each, run in turn; one round of warming up is not counted."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for run, times in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [statistics.median(times[1:]) for times in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="B,T,F,H")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    set_num_threads(options.threads)
    show_config()
    print(f"\n{'B,T,F,H':>16} {'pass':>17} {'fastlstm us':>12} {'PyTorch us':>11}")
    for shape in options.shapes:
        arrays = make_arrays(*map(int, shape.split(",")))
        own, peer = own_runs(arrays), torch_runs(arrays, options.threads)
        for name in own:
            runs = [own[name], peer[name]] if peer else [own[name]]
            if peer:
                check_same(own[name](), peer[name]())
            cells = [f"{1e6 * value:.1f}" for value in medians(runs, options.repeats)] + ["-"]
            print(f"{shape:>16} {name:>17} {cells[0]:>12} {cells[1]:>11}")


if __name__ == "__main__":
    main()
