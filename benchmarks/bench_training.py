"""A step of training of the layer, and whole programs of the tutorials."""

import contenders
import grid
import numpy as np
import pytest

from fastlstm import reference
from fastlstm.layers import LSTM, Dense, Input, RepeatVector, TimeDistributed
from fastlstm.models import Sequential


@pytest.mark.parametrize("shape", grid.TRAINING[:4], ids=str)
def bench_step(benchmark, shape):
    arrays = contenders.make_arrays(shape)
    run = contenders.fastlstm_training(arrays, 1)
    names = ("x", "kernel", "recurrent_kernel", "bias", "h0", "c0")
    y, _, _, cache = reference.lstm_forward(*(arrays[n] for n in names), training=True)
    want = [y, *reference.lstm_backward(cache, arrays["dy"])]
    for found, expected in zip(run(), want, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)
    benchmark(run)


def bench_first_tutorial(benchmark):
    """1000 epochs of the one-to-one echo."""
    echo = np.arange(5) / 5
    x, y = echo.reshape(5, 1, 1), echo.reshape(5, 1)

    def run():
        model = Sequential([Input((1, 1)), LSTM(5), Dense(1)])
        model.compile("adam", "mse")
        return model.fit(x, y, epochs=1000, batch_size=5, verbose=0)

    assert run().history["loss"][-1] < 0.05
    benchmark.pedantic(run, rounds=5)


def bench_autoencoder(benchmark):
    """300 epochs of the reconstruction autoencoder."""
    sequence = np.arange(0.1, 1, 0.1).reshape(1, 9, 1)

    def run():
        model = Sequential(
            [
                Input((9, 1)),
                LSTM(100, activation="relu"),
                RepeatVector(9),
                LSTM(100, activation="relu", return_sequences=True),
                TimeDistributed(Dense(1)),
            ]
        )
        model.compile("adam", "mse")
        return model.fit(sequence, sequence, epochs=300, verbose=0)

    assert run().history["loss"][-1] < 0.05
    benchmark.pedantic(run, rounds=5)
