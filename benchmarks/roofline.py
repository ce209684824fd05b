"""What this machine can do, and how near the forward pass of each LSTM row comes to it.

usage: python benchmarks/roofline.py

Measures, on one core: float32 multiply-adds in registers, reading from every level of memory, and
the kernels of csrc/ that are no products, each on data in cache. Needs a C compiler (cc).
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import instruction_sets  # noqa: F401  (before any library)
import numpy as np

from fastlstm._core import kernels
from fastlstm.activations import ELEMENTWISE

KIB = 1024
CSRC = Path(__file__).parent.parent / "csrc"
# As in setup.py.
FLAGS = {
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512cd", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
}


class Roof(NamedTuple):
    """One core, at its best.

    Operations a second; for sizes in bytes, the bytes a second read from them; by name of a kernel,
    the seconds that an element takes.
    """

    operations: float
    bandwidths: dict[int, float]
    costs: dict[str, float]

    def bandwidth(self, size: int) -> float:
        """What can be read again and again from `size` bytes: as measured for the next size up."""
        larger = [measured for measured in self.bandwidths if measured >= size]
        return self.bandwidths[min(larger, default=max(self.bandwidths))]


def _compiled() -> ctypes.CDLL:
    isa = kernels.isa_name()
    flags = [*FLAGS.get(isa, []), "-O3", "-std=gnu11", "-fPIC", f"-I{CSRC}"]
    # The kernels are compiled as setup.py does; here a product and a sum may become one operation.
    parts = {
        Path(__file__).with_suffix(".c"): [f"-DTABLE=kernels_{isa}_f32"],
        CSRC / f"kernels/kernels_{isa}.c": [
            *("-DFASTLSTM_DOUBLE=0", "-DNDEBUG", "-ffp-contract=off", "-fno-math-errno")
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        objects = [str(Path(folder) / f"{source.stem}.o") for source in parts]
        for (source, own_flags), output in zip(parts.items(), objects, strict=True):
            subprocess.run(["cc", *flags, *own_flags, "-c", source, "-o", output], check=True)
        library = str(Path(folder) / "roofline.so")
        subprocess.run(["cc", "-shared", *objects, "-lm", "-o", library], check=True)
        return ctypes.CDLL(library)


def _function(library: ctypes.CDLL, name: str, *types: type) -> Callable[..., float]:
    function = library[name]
    function.restype, function.argtypes = ctypes.c_double, types
    return function


def _rate(run: Callable[[], float]) -> float:
    """The highest of many short runs: what others on the machine take is no bound of it."""
    rates = []
    for _ in range(25):
        start = time.perf_counter()
        amount = run()
        rates.append(amount / (time.perf_counter() - start))
    return max(rates)


def _bandwidths(library: ctypes.CDLL) -> dict[int, float]:
    read_all = _function(
        library, "read_all", ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_long, ctypes.c_void_p
    )
    out = ctypes.byref(ctypes.c_float())
    found = {}
    for size in [16 * KIB << k for k in range(15)]:
        array = np.ones(size // 4 + 16, np.float32)
        start = array.ctypes.data + -array.ctypes.data % 64
        rounds = max(1, (256 * KIB * KIB) // size)
        found[size] = _rate(functools.partial(read_all, start, size, rounds, out))
    return found


def _costs(library: ctypes.CDLL) -> dict[str, float]:
    # What makes the numbers that another reads comes before it.
    runs = {
        "gates": ("gates_forward", 2_000, 0),
        "gates kept": ("gates_forward", 2_000, 1),
        "gates backward": ("gates_backward", 2_000, 0),
        "softmax": ("softmax_forward", 1_000, 0),
        "softmax backward": ("softmax_backward", 1_000, 0),
        "adam": ("adam", 10, 0),
    }
    for name in ("relu", "sigmoid", "tanh"):
        runs[name] = ("activation_forward", 1_000, ELEMENTWISE.index(name))
        runs[f"{name} backward"] = ("activation_backward", 1_000, ELEMENTWISE.index(name))
    found = {}
    for name, (function, *arguments) in runs.items():
        run = _function(library, function, ctypes.c_long, ctypes.c_int)
        found[name] = 1 / _rate(functools.partial(run, *arguments))
    return found


def measure() -> Roof:
    """Measure this machine; takes a few seconds."""
    library = _compiled()
    multiply_add = _function(library, "multiply_add", ctypes.c_long, ctypes.c_void_p)
    out = ctypes.byref(ctypes.c_float())
    peak = _rate(functools.partial(multiply_add, 1_000_000, out))
    return Roof(peak, _bandwidths(library), _costs(library))


def main() -> None:
    import contenders
    import grid
    import timing
    import work

    for name, value in timing.machine().items():
        print(f"{name}: {value}")
    roof = measure()
    print(f"\npeak {roof.operations / 1e9:.0f} GF/s; reading, GB/s:")
    for size, rate in roof.bandwidths.items():
        print(f"{size // KIB:>9} KiB {rate / 1e9:6.0f}")
    print("\nns an element (of gates, a unit and row)")
    for name, cost in roof.costs.items():
        print(f"{name:>18} {1e9 * cost:8.3f}")
    print(f"\n{'B,T,F,H':>18} {'us':>11} {'GF/s':>6} {'of peak':>8} {'of bound':>9}")
    for shape in grid.INFERENCE:
        run = contenders.fastlstm_inference(contenders.make_arrays(shape), 1)
        seconds = timing.in_turns({"fastlstm": run}, 3)["fastlstm"]
        row = work.lstm_inference(shape)
        rate = row.operations / seconds
        print(
            f"{','.join(map(str, shape)):>18} {1e6 * seconds:11.1f} {rate / 1e9:6.1f} "
            f"{rate / roof.operations:8.1%} {work.least_seconds(roof, row) / seconds:9.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
