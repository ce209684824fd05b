"""How fast a saved model runs here, beside how fast it could: ``python -m fastlstm bench``.

Two bounds are measured: how fast one core reads as many bytes as the weights have, from whatever
level of cache they fit in, and how fast it multiplies. A step of a stream must read every matrix
once; a batch of sequences must read the recurrent ones at every step, and the others once. Both
must do their products. Neither can take less than the longer of its two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastlstm import config
from fastlstm.functional import dense_forward
from fastlstm.layers import Embedding, Weight
from fastlstm.models import Model
from fastlstm.saving import load_model

BATCH_SIZES = (1, 8, 64)
STEPS = 100
SECONDS = 0.5  # for each line


class Machine(NamedTuple):
    """What some threads can do: bytes read and products, each with a sum, a second."""

    bandwidth: float
    products: float


class Work(NamedTuple):
    """What must be read, in bytes, and multiplied, for one row of a batch."""

    read: int
    products: int

    def bound(self, rows: int, machine: Machine) -> float:
        """The seconds that it takes at least for so many rows."""
        return max(self.read / machine.bandwidth, rows * self.products / machine.products)


def run(
    path: str | os.PathLike[str],
    batch_sizes: Sequence[int] = BATCH_SIZES,
    steps: int = STEPS,
    threads: int = 1,
) -> None:
    """Print the size of a saved model, its latencies, and what share of the bound they reach.

    Raises ``OSError`` and ``ValueError`` for a file that cannot be read or holds no model.
    """
    model = load_model(path)
    before = config.get_num_threads()
    config.set_num_threads(threads)
    try:
        _report(model, Path(path), batch_sizes, steps, threads)
    finally:
        config.set_num_threads(before)


def _report(model: Model, path: Path, batch_sizes: Sequence[int], steps: int, threads: int) -> None:
    values = [weight.value for weight in model.weights]
    size = sum(value.nbytes for value in values)
    print(f"{path.name}: {model.label}, {model.count_params():,} parameters")
    print(f"file {path.stat().st_size:,} bytes, weights {size:,} bytes")
    widest = np.result_type(*values) if values else np.dtype(config.floatx())
    machine = measured(size, widest, threads)
    print(
        f"{threads} {'thread' if threads == 1 else 'threads'}: at most "
        f"{machine.bandwidth / 1e9:.0f} GB/s, as one core reads {size:,} bytes again and again,\n"
        f"and {2 * machine.products / 1e9:.0f} GFLOP/s, as a large dense layer reaches"
    )
    print(f"\n{'':34}{'p50':>12}{'p99':>12}{'bound':>12}{'share':>8}")
    _report_steps(model, batch_sizes, machine)
    work = work_of_sequence(model, steps)
    for rows in batch_sizes:
        inputs = _inputs(model, rows, steps)
        length = "".join(f", T={size}" for size in inputs[0].shape[1:2])
        times = latencies(partial(model.predict_on_batch, _alone(inputs)), SECONDS)
        _line(f"predict_on_batch, B={rows}{length}", times, work.bound(rows, machine))


def _report_steps(model: Model, batch_sizes: Sequence[int], machine: Machine) -> None:
    work = work_of_step(model)
    for rows in batch_sizes:
        try:
            stream = model.stream(rows)
        except ValueError as error:
            print(f"no streams: {error}")
            return
        x = _alone(_inputs(model, rows, 1, stream=True))
        times = latencies(partial(stream.step, x, out=stream.step(x)), SECONDS)
        _line(f"stream.step, B={rows}", times, work.bound(rows, machine))


def _line(name: str, times: np.ndarray, bound: float) -> None:
    middle, late = np.percentile(times, [50, 99])
    numbers = "".join(f"{1e6 * value:>9,.2f} us" for value in (middle, late, bound))
    print(f"{name:34}{numbers}{bound / middle:>8.0%}", flush=True)


def latencies(call: Callable[[], Any], seconds: float) -> np.ndarray:
    """The seconds of each of many calls; the first ones do not count."""
    times = []
    end = time.perf_counter() + seconds
    for _ in range(3):
        call()
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        times.append(now - start)
        if now > end:
            return np.array(times)


# ---- the bound -----------------------------------------------------------------------------------


def measured(size: int, dtype: np.dtype, threads: int) -> Machine:
    """The machine's best at reading a block of so many bytes, and at multiplying."""
    # NumPy's maximum of integers waits for nothing but its operands. What a call costs beside is
    # measured on a block of one element.
    block, one = np.zeros(max(size, 1 << 15) // 4, np.int32), np.zeros(1, np.int32)
    reading = latencies(block.max, 0.2).min() - latencies(one.max, 0.05).min()
    n = 512
    x, kernel = np.ones((n, n), dtype), np.ones((n, n), dtype)
    multiplying = latencies(lambda: dense_forward(x, kernel), 0.2).min()
    return Machine(threads * block.nbytes / max(reading, 1e-9), n**3 / multiplying)


def _matrices(layer: Any) -> list[Weight]:
    """The weights that are multiplied; of an embedding, rows are only fetched."""
    if isinstance(layer, Embedding):
        return []
    return [weight for weight in layer.weights if len(weight.shape) == 2]


def work_of_step(model: Model) -> Work:
    """Of one step of a stream."""
    used = [weight for step in model.graph.steps for weight in _matrices(step.layer)]
    return Work(
        sum(weight.value.nbytes for weight in used), sum(weight.value.size for weight in used)
    )


def work_of_sequence(model: Model, steps: int) -> Work:
    """Of sequences of so many steps, where the model does not say how many."""
    tensors = model.graph.tensors
    read = products = 0
    for step in model.graph.steps:
        shape = tensors[step.reads()[0]].shape
        times = (shape[1] or steps) if len(shape) > 2 else 1
        for weight in _matrices(step.layer):
            read += weight.value.nbytes * (times if "recurrent" in weight.name else 1)
            products += weight.value.size * times
    return Work(read, products)


# ---- inputs --------------------------------------------------------------------------------------


def _inputs(model: Model, rows: int, steps: int, stream: bool = False) -> list[np.ndarray]:
    """Random inputs of a model, or of one step of its stream."""
    rng = np.random.default_rng(0)
    graph = model.graph
    found = []
    for slot in graph.input_slots:
        _, *sizes = graph.tensors[slot].shape
        shape = (rows, *(size or steps for size in (sizes[1:] if stream else sizes)))
        reader = next(step.layer for step in graph.steps if slot in step.reads())
        if isinstance(reader, Embedding):
            found.append(rng.integers(reader.input_dim, size=shape))
        else:
            found.append(rng.normal(size=shape).astype(reader.dtype))
    return found


def _alone(arrays: list[np.ndarray]) -> Any:
    return arrays[0] if len(arrays) == 1 else arrays
