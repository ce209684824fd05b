"""The time-distributed dense layer, forward and backward."""

import numpy as np
import pytest

from fastlstm import functional


@pytest.fixture(params=[(1, 1, 5, 1), (32, 100, 128, 1), (32, 100, 256, 256)], ids=str)
def arrays(request):
    batch, steps, features, units = request.param
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, steps, features)).astype(np.float32)
    kernel = rng.normal(size=(features, units)).astype(np.float32)
    return x, kernel, np.zeros(units, np.float32)


def bench_forward(benchmark, arrays):
    x, kernel, _ = arrays
    y = benchmark(lambda: functional.dense_forward(*arrays))[0]
    np.testing.assert_allclose(y, x @ kernel, rtol=1e-3, atol=1e-3)


def bench_backward(benchmark, arrays):
    x, _, _ = arrays
    y, cache = functional.dense_forward(*arrays, training=True)
    dy = np.ones_like(y)
    dkernel = benchmark(lambda: functional.dense_backward(cache, dy))[1]
    want = np.einsum("btf,btu->fu", x, dy)
    np.testing.assert_allclose(dkernel, want, rtol=1e-3, atol=1e-2)
