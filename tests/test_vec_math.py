"""tanh and sigmoid of every instruction set: within 3 ULP of the true value wherever it is normal.

The sweep takes every float32 exponent and sign with many mantissas; float64 likewise. The truth is
NumPy's in the next wider type, which is good to far below an ULP of the narrower one.
"""

import numpy as np
import pytest

from fastlstm import functional, reference
from fastlstm.activations import ELEMENTWISE

MOST_ULP = 3
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan]


def sweep(dtype):
    """Every exponent, both signs, denormals included, with random and extreme mantissas."""
    rng = np.random.default_rng(1)
    info = np.finfo(dtype)
    unsigned = np.uint32 if dtype == np.float32 else np.uint64
    exponents = np.arange(2**info.nexp - 1, dtype=unsigned)
    count = 64 if dtype == np.float32 else 16
    mantissas = rng.integers(0, 2**info.nmant, size=(len(exponents), count), dtype=unsigned)
    mantissas[:, 0], mantissas[:, 1], mantissas[:, 2] = 0, 1, 2**info.nmant - 1
    bits = (exponents[:, None] << unsigned(info.nmant)) | mantissas
    swept = bits.ravel().view(dtype)
    near = rng.uniform(-20, 20, size=20000).astype(dtype)
    return np.concatenate([swept, -swept, near, np.array(SPECIAL, dtype)])


def truth(name, x):
    wide = x.astype(np.longdouble)
    if name == "tanh":
        return np.tanh(wide)
    with np.errstate(over="ignore", under="ignore"):
        e = np.exp(-np.abs(wide))
        return np.where(wide >= 0, 1, e) / (1 + e)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_error_in_ulp(isa, name, dtype):
    x = sweep(dtype)
    got = functional.activation_forward(x, name)
    want = truth(name, x)
    assert got.dtype == dtype
    tiny = np.finfo(dtype).tiny
    normal = np.abs(want) >= tiny
    with np.errstate(all="ignore"):
        rounded = np.abs(want[normal]).astype(dtype)
        ulp = np.spacing(rounded).astype(np.longdouble)
        error = np.abs(got[normal] - want[normal]) / ulp
    # sigmoid counts as zero below e^LOWEST, which is within a few times the smallest normal.
    floor = 0 if name == "tanh" else np.exp(-87.0 if dtype == np.float32 else -708.0)
    worst = error[np.abs(want[normal]) > floor].max()
    assert 0.5 <= worst <= MOST_ULP
    small = np.abs(want) <= max(floor, tiny)
    assert np.abs(got[small]).max() <= max(floor, tiny) * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(isa, dtype):
    x = np.array(SPECIAL, dtype)
    tanh = functional.activation_forward(x, "tanh")
    np.testing.assert_array_equal(tanh, np.array([0, -0.0, 1, -1, np.nan], dtype))
    assert np.signbit(tanh).tolist()[:2] == [False, True]
    sigmoid = functional.activation_forward(x, "sigmoid")
    np.testing.assert_array_equal(sigmoid, np.array([0.5, 0.5, 1, 0, np.nan], dtype))
    relu = functional.activation_forward(x, "relu")
    np.testing.assert_array_equal(relu, np.array([0, 0, np.inf, 0, np.nan], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "relu", "gelu"])
def test_a_value_does_not_depend_on_its_place(isa, dtype, name):
    rng = np.random.default_rng(2)
    x = rng.normal(scale=4, size=41).astype(dtype)
    whole = functional.activation_forward(x, name)
    for start in range(len(x)):
        part = functional.activation_forward(x[start:], name)
        np.testing.assert_array_equal(part, whole[start:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [*ELEMENTWISE, "softmax"])
def test_all_activations_equal_the_reference(isa, dtype, name):
    rng = np.random.default_rng(3)
    x = rng.normal(scale=3, size=(5, 7)).astype(dtype)
    dy = rng.normal(size=(5, 7)).astype(dtype)
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-14}
    kernel = np.eye(7, dtype=dtype)
    y, cache = reference.dense_forward(x, kernel, activation=name, training=True)
    np.testing.assert_allclose(functional.activation_forward(x, name), y, **close)
    dx = reference.dense_backward(cache, dy)[0]
    np.testing.assert_allclose(functional.activation_backward(x, dy, name), dx, **close)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (0, 3), (2, 3, 5)])
@pytest.mark.parametrize("name", ["tanh", "softmax"])
def test_any_shape(shape, name):
    x = np.random.default_rng(4).normal(size=shape)
    y = functional.activation_forward(x, name)
    assert y.shape == shape
    if name == "softmax" and x.size:
        np.testing.assert_allclose(y.sum(axis=-1) if shape else y, 1)
    assert functional.activation_backward(x, x, name).shape == shape
