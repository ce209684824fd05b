"""What this machine can do, and how near each row comes to it.

usage: python benchmarks/roofline.py

Measures, on one core, float32 multiply-adds in registers and reading from every level of memory,
then the forward pass of every row of the grid against the two bounds: its operations at the peak,
and its recurrent weights read once a step at the bandwidth of the level that holds them. Needs a C
compiler (cc).
"""

from __future__ import annotations

import ctypes
import functools
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import contenders
import grid
import numpy as np
import timing

from fastlstm._core import kernels

KIB = 1024
FLAGS = {"avx512": ["-mavx512f", "-mfma"], "avx2": ["-mavx2", "-mfma"]}


class Roof(NamedTuple):
    """One core: operations a second, and for sizes in bytes the bytes a second read from them."""

    operations: float
    bandwidths: dict[int, float]

    def bandwidth(self, size: int) -> float:
        """What can be read again and again from `size` bytes: as measured for the next size up."""
        larger = [measured for measured in self.bandwidths if measured >= size]
        return self.bandwidths[min(larger, default=max(self.bandwidths))]


def _compiled() -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp())
    source = Path(__file__).with_suffix(".c")
    command = ["cc", "-O3", "-shared", "-fPIC", *FLAGS.get(kernels.isa_name(), [])]
    subprocess.run([*command, str(source), "-o", str(folder / "roofline.so")], check=True)
    library = ctypes.CDLL(str(folder / "roofline.so"))
    library.multiply_add.restype = library.read_all.restype = ctypes.c_double
    library.multiply_add.argtypes = [ctypes.c_long, ctypes.c_void_p]
    library.read_all.argtypes = [
        ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_long, ctypes.c_void_p
    ]  # fmt: skip
    return library


def _rate(run: functools.partial[float]) -> float:
    rates = []
    for _ in range(9):
        start = time.perf_counter()
        amount = run()
        rates.append(amount / (time.perf_counter() - start))
    return statistics.median(rates)


def measure() -> Roof:
    """Measure this machine; takes a few seconds."""
    library = _compiled()
    out = ctypes.byref(ctypes.c_float())
    bandwidths = {}
    for size in [16 * KIB << k for k in range(15)]:
        array = np.ones(size // 4 + 16, np.float32)
        start = array.ctypes.data + -array.ctypes.data % 64
        rounds = max(1, (256 * KIB * KIB) // size)
        bandwidths[size] = _rate(functools.partial(library.read_all, start, size, rounds, out))
    return Roof(_rate(functools.partial(library.multiply_add, 10_000_000, out)), bandwidths)


def bound(roof: Roof, shape: grid.Shape, threads: int = 1) -> float:
    """Seconds that the forward pass takes at least: the larger of its two bounds.

    Several cores read a share of the weights each.
    """
    _, steps, _, units = shape
    weights = 4 * 4 * units * units // threads
    reading = steps * weights / roof.bandwidth(weights)
    return max(grid.forward_operations(shape) / roof.operations / threads, reading)


def main() -> None:
    for name, value in timing.machine().items():
        print(f"{name}: {value}")
    roof = measure()
    print(f"\npeak {roof.operations / 1e9:.0f} GF/s; reading, GB/s:")
    for size, rate in roof.bandwidths.items():
        print(f"{size // KIB:>9} KiB {rate / 1e9:6.0f}")
    print(f"\n{'B,T,F,H':>18} {'us':>11} {'GF/s':>6} {'of peak':>8} {'of bound':>9}")
    for shape in grid.INFERENCE:
        run = contenders.fastlstm_inference(contenders.make_arrays(shape), 1)
        seconds = timing.in_turns({"fastlstm": run}, 3)["fastlstm"]
        rate = grid.forward_operations(shape) / seconds
        print(
            f"{','.join(map(str, shape)):>18} {1e6 * seconds:11.1f} {rate / 1e9:6.1f} "
            f"{rate / roof.operations:8.1%} {bound(roof, shape) / seconds:9.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
