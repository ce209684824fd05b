"""Side by side: contenders take turns in one process, and medians are compared."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastlstm._core import blas, kernels
from fastlstm._version import __version__

# A turn lasts so long, or one run. A library's threads may look for work for a while after its turn
# and take the CPU from the next one's: those of ONNX Runtime do for some 50 ms where a CPU's pause
# is long.
TURN_SECONDS = 0.03
PAUSE_SECONDS = 0.1
LONG_SECONDS = 0.5


def check_same(results: Mapping[str, list[np.ndarray]], tolerance: float = 2e-4) -> None:
    """Raise ``AssertionError`` unless all contenders found the same."""
    (first, want), *others = results.items()
    for name, found in others:
        for ours, theirs in zip(want, found, strict=True):
            scale = max(1.0, float(np.abs(theirs).max()))
            error = float(np.abs(ours - theirs).max()) / scale
            if not error <= tolerance:
                raise AssertionError(f"{name} differs from {first} by {error:.1e}.")


def _turn(run: Callable[[], Any]) -> float:
    """The median seconds of the runs of one turn.

    The first one does not count, unless it takes so long that what it finds cold does not matter.
    """
    time.sleep(PAUSE_SECONDS)
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    times = [first] if first > LONG_SECONDS else []
    while sum(times) < TURN_SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def in_turns(runs: Mapping[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Median seconds of each; every contender goes first as often as any other."""
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(turns):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(_turn(runs[name]))
    return {name: statistics.median(times) for name, times in seconds.items()}


def machine() -> dict[str, str]:
    """What a figure depends on, to be kept with it."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        wanted = ("model name", "cpu family", "model\t")
        lines = [line for line in info.read_text().splitlines() if line.startswith(wanted)]
        fields = dict.fromkeys(line.replace("\t", "").replace(":", "", 1) for line in lines)
        cpu = ", ".join(" ".join(field.split()) for field in fields)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    return {
        "cpu": cpu,
        "instruction set": kernels.isa_name(),
        "BLAS": f"{blas.openblas_config().split(' NO_')[0]}, core {blas.openblas_core()}",
        "fastlstm": __version__,
        "commit": commit or "unknown",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
