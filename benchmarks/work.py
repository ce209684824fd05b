"""What must happen in each row, and how long that takes at least on a machine of known speed.

Products run at the peak, gates, activations and updates at the cost of their kernels, and at the
same time what does not change is read at the bandwidth of the cache that holds it. Layers follow
each other; threads share everything evenly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import grid
from roofline import Roof

FLOAT = 4


class Work(NamedTuple):
    """`calls`: elements by name of their kernel; `reading`: how often how many bytes are read."""

    operations: int
    calls: Mapping[str, int]
    reading: tuple[tuple[int, int], ...]


def lstm_inference(shape: grid.Shape) -> Work:
    """The recurrent weights are read in every step, those of the inputs once."""
    batch, steps, features, units = shape
    return Work(
        2 * batch * steps * 4 * units * (features + units),
        {"gates": batch * steps * units},
        ((steps, FLOAT * 4 * units * units), (1, FLOAT * 4 * features * units)),
    )


def lstm_training(shape: grid.Shape, wants_dx: bool = True) -> Work:
    """Three products for each of the forward pass, or two where nobody wants dx."""
    batch, steps, features, units = shape
    forward = lstm_inference(shape)
    unwanted = 0 if wants_dx else 2 * batch * steps * 4 * units * features
    count = batch * steps * units
    return Work(
        3 * forward.operations - unwanted,
        {"gates kept": count, "gates backward": count},
        tuple((2 * times, size) for times, size in forward.reading),
    )


def dense_inference(shape: grid.Dense) -> Work:
    """Inputs and weights are read and outputs written, once."""
    batch, steps, features, units, activation = shape
    rows = batch * steps
    calls = {} if activation == "linear" else {activation: rows * units}
    size = FLOAT * (rows * features + features * units + rows * units)
    return Work(2 * rows * features * units, calls, ((1, size),))


def dense_training(shape: grid.Dense) -> Work:
    """Forward; then x, kernel, y, dy are read, and dx, dkernel written."""
    forward = dense_inference(shape)
    calls = dict(forward.calls)
    for name, count in forward.calls.items():
        calls[f"{name} backward"] = count
    ((_, size),) = forward.reading
    return Work(3 * forward.operations, calls, ((3, size),))


def _layers(row: tuple[grid.Program, int]) -> list[tuple[str, tuple[int, ...], str]]:
    """Kind, (B, T, F, units) and activation of each layer that computes, a direction as one."""
    program, batch = row
    steps, features, found = grid.MODEL_STEPS, program.features, []
    for part in program.parts:
        if part.kind == "repeat":
            steps = grid.MODEL_STEPS
            continue
        shape = (batch, steps, features, part.units)
        kind = "dense" if part.kind == "dense" else "lstm"
        directions = 2 if part.kind == "bidirectional" else 1
        found += [(kind, shape, part.activation)] * directions
        features = directions * part.units
        steps = steps if part.sequences else 1
    return found


def predict(row: tuple[grid.Program, int]) -> list[Work]:
    return [
        lstm_inference(shape) if kind == "lstm" else dense_inference(grid.Dense(*shape, activation))
        for kind, shape, activation in _layers(row)
    ]


def fit(row: tuple[grid.Program, int]) -> list[Work]:
    """One batch, and Adam on all weights. The first layer's dx is not wanted."""
    first = 2 if row[0].parts[0].kind == "bidirectional" else 1
    works, weights = [], 0
    for place, (kind, shape, activation) in enumerate(_layers(row)):
        _, _, features, units = shape
        if kind == "lstm":
            works.append(lstm_training(shape, wants_dx=place >= first))
            weights += 4 * units * (features + units + 1)
        else:
            works.append(dense_training(grid.Dense(*shape, activation)))
            weights += units * (features + 1)
    return [*works, Work(0, {"adam": weights}, ())]


def least_seconds(roof: Roof, work: Work, threads: int = 1) -> float:
    """Computing or reading, whichever takes longer."""
    computing = work.operations / roof.operations
    computing += sum(count * roof.costs[name] for name, count in work.calls.items())
    reading = sum(
        times * (size / threads) / roof.bandwidth(size // threads) for times, size in work.reading
    )
    return max(computing / threads, reading)
