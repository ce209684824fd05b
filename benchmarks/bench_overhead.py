"""What a call costs when there is nothing to compute: (1, 1, 1) with one unit."""

import numpy as np

from fastlstm import functional
from fastlstm.layers import LSTM, Dense

ONE = np.ones((1, 1, 1), np.float32)
WEIGHTS = (np.ones((1, 4), np.float32), np.ones((1, 4), np.float32), np.ones(4, np.float32))


def bench_empty_call(benchmark):
    assert benchmark(lambda x: x, ONE) is ONE


def bench_functional(benchmark):
    y = benchmark(functional.lstm_forward, ONE, *WEIGHTS)[0]
    assert y.shape == (1, 1, 1)


def bench_lstm_layer(benchmark):
    layer = LSTM(1)
    layer(ONE)
    assert benchmark(layer, ONE).shape == (1, 1)


def bench_dense_layer(benchmark):
    layer = Dense(1)
    layer(ONE)
    assert benchmark(layer, ONE).shape == (1, 1, 1)
