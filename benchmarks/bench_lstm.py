"""The forward pass of the layer, and a step of training, checked against the reference."""

import contenders
import grid
import numpy as np
import pytest

from fastlstm import reference

SHAPES = grid.USUAL[:-5]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_inference(benchmark, shape):
    arrays = contenders.make_arrays(shape)
    run = contenders.fastlstm_inference(arrays, 1)
    inputs = [arrays[name] for name in ("x", "kernel", "recurrent_kernel", "bias")]
    np.testing.assert_allclose(run()[0], reference.lstm_forward(*inputs)[0], rtol=1e-3, atol=1e-4)
    benchmark(run)


@pytest.mark.parametrize("steps", [100, 1_000, 10_000])
def bench_last_output_of_long_sequences(benchmark, steps):
    from fastlstm.layers import LSTM

    layer, x = LSTM(64), np.ones((1, steps, 8), np.float32)
    layer(x)
    benchmark(layer, x)
