"""Which of OpenBLAS's kernels suit this CPU: the package's choice against others.

Each runs in a process of its own, since the library reads OPENBLAS_CORETYPE only when it is
loaded; the processes take turns, and the medians of several turns are printed.

usage: python benchmarks/bench_blas.py [CORE ...]       (Haswell and SkylakeX by default)
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

TURNS = 5
SHAPES = [(1, 100, 256, 256), (8, 100, 128, 256), (32, 100, 64, 128), (32, 100, 256, 256)]


def measure() -> None:
    """Print the core, and the milliseconds of a forward pass for each shape, one thread."""
    import numpy as np

    import fastlstm
    from fastlstm._core import blas
    from fastlstm.functional import lstm_forward

    fastlstm.set_num_threads(1)
    rng = np.random.default_rng(0)
    found = []
    for batch, steps, features, units in SHAPES:
        x = rng.normal(size=(batch, steps, features)).astype(np.float32)
        kernel = rng.normal(size=(features, 4 * units)).astype(np.float32)
        recurrent_kernel = (0.05 * rng.normal(size=(units, 4 * units))).astype(np.float32)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            lstm_forward(x, kernel, recurrent_kernel)
            times.append(time.perf_counter() - start)
        found.append(f"{1000 * statistics.median(times):.3f}")
    print(blas.openblas_core(), *found)


def main() -> None:
    choices = ["", *(sys.argv[1:] or ["Haswell", "SkylakeX"])]
    rows: dict[str, list[list[float]]] = {}
    for turn in range(TURNS):
        for choice in choices:
            print(f"\rturn {turn + 1}/{TURNS}", end="", file=sys.stderr)
            environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
            # Other instruction sets have products of their own.
            environment["FASTLSTM_ISA"] = "baseline"
            if choice:
                environment["OPENBLAS_CORETYPE"] = choice
            command = [sys.executable, __file__, "--measure"]
            core, *times = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            ).stdout.split()
            name = choice or f"chosen: {core}"
            rows.setdefault(name, []).append([float(t) for t in times])
    print("\nms a forward pass, float32, one thread, B,T,F,H =", *SHAPES)
    for name, turns in rows.items():
        medians = [statistics.median(column) for column in zip(*turns, strict=True)]
        print(f"{name:>18}", *(f"{value:9.2f}" for value in medians))


if __name__ == "__main__":
    measure() if "--measure" in sys.argv else main()
