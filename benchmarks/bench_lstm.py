"""The forward pass of the layer, and a step of training, checked against the reference."""

import contenders
import grid
import numpy as np
import pytest

from fastlstm import reference
from fastlstm.layers import LSTM

SHAPES = grid.USUAL[:-5]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_inference(benchmark, shape):
    arrays = contenders.make_arrays(shape)
    run = contenders.fastlstm_inference(arrays, 1)
    inputs = [arrays[name] for name in ("x", "kernel", "recurrent_kernel", "bias")]
    np.testing.assert_allclose(run()[0], reference.lstm_forward(*inputs)[0], rtol=1e-3, atol=1e-4)
    benchmark(run)


@pytest.mark.parametrize("steps", [100, 1_000, 10_000, 100_000])
def bench_last_output_of_long_sequences(benchmark, steps):
    layer, x = LSTM(64), np.ones((1, steps, 8), np.float32)
    layer(x)
    benchmark(layer, x)


def masks(batch, steps):
    """By name: nothing masked in two ways, and random lengths, padded behind or before."""
    lengths = np.random.default_rng(0).integers(1, steps + 1, batch)
    behind = np.arange(steps)[None, :] < lengths[:, None]
    ones = np.ones((batch, steps), bool)
    return {"none": None, "ones": ones, "behind": behind, "before": behind[:, ::-1].copy()}


@pytest.mark.parametrize("name", ["none", "ones", "behind", "before"])
def bench_masks(benchmark, name):
    arrays = contenders.make_arrays((32, 100, 64, 128))
    mask = masks(32, 100)[name]
    layer = LSTM(128, return_sequences=True)
    layer.build(arrays["x"].shape)
    layer.set_weights([arrays[each] for each in ("kernel", "recurrent_kernel", "bias")])
    inputs = [arrays[each] for each in ("x", "kernel", "recurrent_kernel", "bias")]
    want = reference.lstm_forward(*inputs, mask=mask)[0]
    np.testing.assert_allclose(layer(arrays["x"], mask=mask), want, rtol=1e-3, atol=1e-4)
    benchmark(layer, arrays["x"], mask=mask)
