"""Random LSTM calls that leave nothing at zero, and the golden ones that Keras answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from golden_files import GOLDEN, load_golden

GOLDEN_LSTM = sorted(GOLDEN.glob("lstm_*.npz"))
GRADIENT_NAMES = ("dx", "dkernel", "drecurrent_kernel", "dbias", "dh0", "dc0")


class Case(NamedTuple):
    """Arguments of lstm_forward, and gradients for lstm_backward."""

    arrays: dict[str, np.ndarray | None]
    options: dict[str, Any]
    gradients: tuple[np.ndarray, np.ndarray, np.ndarray]

    def forward(self, module: Any, **overrides: Any) -> Any:
        return module.lstm_forward(**self.arrays, **{**self.options, **overrides})


def random_case(
    shape: tuple[int, int, int, int], dtype: Any = np.float64, *, seed: int = 0, **options: Any
) -> Case:
    """Random everything for shape (B, T, F, H); `mask` in options: a share of valid steps."""
    batch, steps, features, units = shape
    rng = np.random.default_rng([seed, *shape])

    def normal(*size: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.normal(size=size)).astype(dtype)

    arrays = {
        "x": normal(batch, steps, features),
        "kernel": normal(features, 4 * units, scale=features**-0.5),
        "recurrent_kernel": normal(units, 4 * units, scale=units**-0.5),
        "bias": normal(4 * units),
        "h0": normal(batch, units),
        "c0": normal(batch, units),
    }
    if options.get("mask") is not None:
        options["mask"] = rng.random((batch, steps)) < options["mask"]
    gradients = (
        normal(batch, steps, units), normal(batch, units), normal(batch, units)
    )  # fmt: skip
    return Case(arrays, {**options, "training": True}, gradients)


def misaligned(array: np.ndarray) -> np.ndarray:
    """The same values, one byte beside where numbers of that size belong."""
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    copy = np.frombuffer(memory, array.dtype).reshape(array.shape)
    copy[...] = array
    assert not copy.flags.aligned
    assert copy.flags.c_contiguous
    return copy


class GoldenLSTM:
    """A golden case run through a module with the functions of `fastlstm.functional`."""

    def __init__(self, path: Path) -> None:
        config, self.data = load_golden(path)
        self.kwargs = dict(config["kwargs"])
        self.calls = config["calls"]
        self.sequences = self.kwargs.pop("return_sequences", False)
        self.states = self.kwargs.pop("return_state", False)
        self.kwargs.pop("stateful", None)
        self.use_bias = self.kwargs.pop("use_bias", True)

    def arrays(self, dtype: Any) -> dict[str, np.ndarray]:
        names = ("x", "kernel", "recurrent_kernel", "bias", "h0", "c0")
        return {n: self.data[n].astype(dtype) for n in names if n in self.data}

    def run(
        self, module: Any, dtype: Any = np.float64
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """The outputs that Keras returns and the gradients that it computes."""
        arrays = self.arrays(dtype)
        options = dict(self.kwargs, mask=self.data.get("mask"), training=True)
        for _ in range(self.calls):
            y, h, c, cache = module.lstm_forward(**arrays, **options)
            arrays["h0"], arrays["c0"] = h, c
        dy = dh = dc = None
        upstream = [self.data[f"grad_out{k}"].astype(dtype) for k in range(1 + 2 * self.states)]
        if self.sequences:
            outputs, dy = [y], upstream[0]
        else:
            outputs = [y[:, -1]]
            dy = np.zeros_like(y)
            dy[:, -1] = upstream[0]
        if self.states:
            outputs += [h, c]
            dh, dc = upstream[1:]
        found = dict(zip(GRADIENT_NAMES, module.lstm_backward(cache, dy, dh, dc), strict=True))
        gradients = {
            name: found[f"d{name.removeprefix('grad_')}"]
            for name in self.data
            if name.startswith("grad_") and not name.startswith("grad_out")
        }
        return outputs, gradients
