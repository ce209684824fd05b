"""The dense layer: core against reference, central differences, shapes."""

import numpy as np
import pytest
from lstm_cases import misaligned

from fastlstm import functional, gradcheck, reference
from fastlstm.activations import NAMES
from fastlstm.errors import as_real_array


def arrays_for(leading, inputs, units, dtype=np.float64):
    rng = np.random.default_rng([len(leading), inputs, units])
    x = rng.normal(size=(*leading, inputs)).astype(dtype)
    kernel, bias = rng.normal(size=(inputs, units)), rng.normal(size=units)
    return x, kernel.astype(dtype), bias.astype(dtype)


@pytest.mark.parametrize("leading", [(), (1,), (3,), (2, 5), (2, 3, 4), (0,), (3, 0)])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 5), (9, 17), (16, 2)])
@pytest.mark.parametrize("activation", [None, "tanh", "relu", "softmax", "gelu"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_reference(core, leading, sizes, activation, with_bias):
    x, kernel, bias = arrays_for(leading, *sizes)
    bias = bias if with_bias else None
    options = {"activation": activation, "training": True}
    y, cache = functional.dense_forward(x, kernel, bias, **options)
    y_ref, cache_ref = reference.dense_forward(x, kernel, bias, **options)
    assert y.shape == y_ref.shape == (*leading, sizes[1])
    np.testing.assert_allclose(y, y_ref, rtol=1e-12, atol=1e-13)
    dy = np.random.default_rng(1).normal(size=y.shape)
    gradients = functional.dense_backward(cache, dy)
    wanted = reference.dense_backward(cache_ref, dy)
    for got, want in zip(gradients, wanted, strict=True):
        if want is None:
            assert got is None
            continue
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)
    for got, again in zip(gradients, functional.dense_backward(cache, dy), strict=True):
        np.testing.assert_array_equal(got, again)
    assert functional.dense_forward(x, kernel, bias, activation=activation)[1] is None


# More rows than a block has, and than one sum; features beyond what a product reads at a time;
# kernels that are narrow, and weight gradients that are computed transposed.
@pytest.mark.parametrize(
    ("rows", "inputs", "units"),
    [(300, 9, 33), (523, 3, 1), (97, 600, 4), (40, 1100, 20), (300, 130, 5), (60, 700, 70)],
)
@pytest.mark.parametrize("activation", ["tanh", "silu", "softmax"])
def test_blocks_of_rows_and_long_sums_equal_reference(core, rows, inputs, units, activation):
    arrays = arrays_for((rows,), inputs, units)
    options = {"activation": activation, "training": True}
    y, cache = functional.dense_forward(*arrays, **options)
    y_ref, cache_ref = reference.dense_forward(*arrays, **options)
    np.testing.assert_allclose(y, y_ref, rtol=1e-11, atol=1e-12)
    dy = np.random.default_rng(1).normal(size=y.shape)
    for got, want in zip(
        functional.dense_backward(cache, dy), reference.dense_backward(cache_ref, dy), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("units", [1, 2, 7, 8, 9, 16, 17, 37])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_numbers_that_overflow_alone(core, units, dtype):
    # In turn each is the largest: e^x itself, and of the difference to any other, is infinite.
    z = np.full((units, units), -2000.0, dtype)
    np.fill_diagonal(z, 2000.0)
    y, _ = functional.dense_forward(z, np.eye(units, dtype=dtype), None, activation="softmax")
    np.testing.assert_array_equal(y, np.eye(units, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_the_real_type(dtype):
    x, kernel, bias = arrays_for((3,), 4, 5, dtype)
    y, cache = functional.dense_forward(x.astype(np.float64), kernel, bias, training=True)
    assert y.dtype == dtype
    assert {g.dtype for g in functional.dense_backward(cache, y)} == {np.dtype(dtype)}


@pytest.mark.parametrize("activation", NAMES)
def test_gradients(core, activation):
    x, kernel, bias = arrays_for((2, 3), 4, 5)
    dy = np.random.default_rng(2).normal(size=(2, 3, 5))

    def loss(x, kernel, bias):
        y, cache = functional.dense_forward(x, kernel, bias, activation=activation, training=True)
        return float((y * dy).sum()), functional.dense_backward(cache, dy)

    # The random pre-activations lie well away from the kinks of relu and its kin.
    z = reference.dense_forward(x, kernel, bias)[0]
    assert min(np.abs(z).min(), np.abs(np.abs(z) - 3).min()) > 5e-3
    gradcheck(loss, x, kernel, bias, rtol=5e-6, atol=1e-8, step=2e-4)


def test_inputs_are_not_written_to():
    x, kernel, bias = arrays_for((3,), 4, 5)
    for array in (x, kernel, bias):
        array.flags.writeable = False
    y, cache = functional.dense_forward(x, kernel, bias, activation="tanh", training=True)
    dy = np.ones_like(y)
    dy.flags.writeable = False
    functional.dense_backward(cache, dy)


def test_misaligned_arrays_are_copied():
    arrays = arrays_for((3,), 4, 5)
    y, cache = functional.dense_forward(*arrays, activation="tanh", training=True)
    wanted = y, *functional.dense_backward(cache, y)
    y, cache = functional.dense_forward(*map(misaligned, arrays), activation="tanh", training=True)
    assert cache.x.flags.aligned
    assert cache.plan.kernel.flags.aligned
    for got, want in zip(
        (y, *functional.dense_backward(cache, misaligned(y))), wanted, strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_what_is_looked_at_as_real_numbers_is_aligned():
    x = misaligned(np.linspace(-1, 1, 7))
    for value in (x, misaligned(np.arange(3)), misaligned(np.float64(2.5))):
        found = as_real_array(value, np.float64, "x")
        assert found.flags.aligned
        assert found.shape == value.shape
        np.testing.assert_array_equal(found, value)
    np.testing.assert_array_equal(
        functional.activation_forward(x, "tanh"), functional.activation_forward(x.copy(), "tanh")
    )
