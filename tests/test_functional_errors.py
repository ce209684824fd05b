"""Bad arguments of the functions: what is said, and that nothing crashes."""

import numpy as np
import pytest
from cores import CORES
from lstm_cases import random_case

from fastlstm import functional

SHAPE = (2, 3, 4, 5)


def call(**changes):
    case = random_case(SHAPE)
    arguments = {**case.arrays, **case.options, **changes}
    return functional.lstm_forward(**arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": np.ones((3, 4))}, ValueError, r"`x` must have shape \(B, T, F\), got \(3, 4\)"),
        ({"x": np.ones((2, 3, 7))}, ValueError, r"F = 4 as in `kernel`, got \(2, 3, 7\)"),
        ({"x": np.ones((2, 3, 4), object)}, TypeError, "`x` must hold real numbers"),
        ({"x": np.ones((2, 3, 4), complex)}, TypeError, "complex128"),
        ({"x": "text"}, TypeError, "`x` must hold real numbers"),
        ({"x": None}, TypeError, "`x` must hold real numbers"),
        ({"x": [[[1.0], [2.0, 3.0]]]}, ValueError, "rectangular"),
        ({"x": np.full((2, 3, 4), 2**60 + 1)}, ValueError, "cannot represent exactly"),
        ({"kernel": np.ones((4, 21))}, ValueError, r"\(F, 4\*H\)"),
        ({"kernel": np.ones((4, 0))}, ValueError, "at least 1"),
        ({"kernel": np.ones((0, 20))}, ValueError, "at least 1"),
        ({"kernel": np.ones((4, 20), np.int64)}, TypeError, "float32 or float64, got int64"),
        ({"kernel": np.ones((4, 20), np.float16)}, TypeError, "got float16"),
        ({"kernel": [[1.0]]}, TypeError, "NumPy array"),
        ({"kernel": np.ones(20)}, ValueError, r"\(F, 4\*H\), got \(20,\)"),
        ({"recurrent_kernel": np.ones((5, 16))}, ValueError, r"\(5, 20\), got \(5, 16\)"),
        ({"bias": np.ones(19)}, ValueError, r"\(4\*H,\) = \(20,\), got \(19,\)"),
        ({"h0": np.ones((3, 5))}, ValueError, r"`h0` must have shape \(B, H\) = \(2, 5\)"),
        ({"c0": np.ones((2, 6))}, ValueError, r"`c0` must have shape"),
        (
            {"mask": np.ones((2, 4), bool)},
            ValueError,
            r"`mask` must have shape \(B, T\) = \(2, 3\)",
        ),
        ({"mask": np.full((2, 3), 2)}, ValueError, "booleans"),
        ({"mask": np.full((2, 3), "a")}, TypeError, "booleans"),
        ({"activation": "tan"}, ValueError, "`activation` must be one of.*Did you mean 'tanh'"),
        ({"recurrent_activation": "softmax"}, ValueError, "softmax"),
        ({"activation": 3}, TypeError, "str"),
    ],
)
def test_lstm_forward(changes, error, message):
    with pytest.raises(error, match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ({"dy": np.ones((2, 3, 4))}, r"`dy` must have shape \(B, T, H\) = \(2, 3, 5\)"),
        ({"dh": np.ones((2, 4))}, r"`dh` must have shape"),
        ({"dc": np.ones((3, 5))}, r"`dc` must have shape"),
    ],
)
def test_lstm_backward(gradients, message):
    cache = call()[3]
    with pytest.raises(ValueError, match=message):
        functional.lstm_backward(cache, **gradients)


@pytest.mark.parametrize("cache", [None, 3, "cache"])
def test_no_cache(cache):
    with pytest.raises(TypeError):
        functional.lstm_backward(cache)
    with pytest.raises(TypeError):
        functional.dense_backward(cache, np.ones(3))


@pytest.mark.parametrize("name", ["x", "kernel", "recurrent_kernel"])
@pytest.mark.parametrize("shape", [(9, 9, 9), (90, 40), (1, 1, 1), (7,)])
def test_arrays_resized_under_the_cache(name, shape):
    case = random_case(SHAPE)
    cache = case.forward(functional)[3]
    case.arrays[name].resize(shape, refcheck=False)
    with pytest.raises(ValueError, match=r"resized|dimensions|unpack"):
        functional.lstm_backward(cache)


@pytest.mark.parametrize("shape", [(2, 3000), (2000, 3), (3, 2), (1, 1)])
@pytest.mark.parametrize("mask", [None, 0.7])
def test_inputs_and_outputs_resized_together_under_the_cache(core, shape, mask):
    case = random_case(SHAPE, mask=mask)
    y, _, _, cache = case.forward(functional)
    case.arrays["x"].resize((*shape, 4), refcheck=False)
    y.resize((*shape, 5), refcheck=False)
    with pytest.raises(ValueError, match="resized"):
        functional.lstm_backward(cache)


@pytest.mark.parametrize("shape", [(9, 3), (3, 9), (1,)])
def test_arrays_resized_under_a_dense_cache(shape):
    for name in ("x", "kernel"):
        arrays = {"x": np.ones((2, 3)), "kernel": np.ones((3, 4))}
        y, cache = functional.dense_forward(**arrays, activation="tanh", training=True)
        arrays[name].resize(shape, refcheck=False)
        with pytest.raises(ValueError, match=r"resized|dimensions|unpack"):
            functional.dense_backward(cache, y)


def test_an_empty_cache_is_refused():
    cache = type(call()[3])()
    with pytest.raises(ValueError, match="training=True"):
        functional.lstm_backward(cache)
    _, dense_cache = functional.dense_forward(np.ones((2, 3)), np.ones((3, 1)), training=True)
    with pytest.raises(ValueError, match="training=True"):
        functional.dense_backward(type(dense_cache)(), np.ones((2, 1)))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": np.ones((2, 4))}, ValueError, r"F = 3 as in `kernel`, got \(2, 4\)"),
        ({"x": 1.0}, ValueError, r"got \(\)"),
        ({"kernel": np.ones((3, 0))}, ValueError, "at least 1"),
        ({"bias": np.ones(3)}, ValueError, r"\(U,\) = \(2,\)"),
        ({"activation": "nonsense"}, ValueError, "nonsense"),
    ],
)
def test_dense_forward(changes, error, message):
    arguments = {"x": np.ones((2, 3)), "kernel": np.ones((3, 2)), "bias": np.ones(2), **changes}
    with pytest.raises(error, match=message):
        functional.dense_forward(**arguments)


@pytest.mark.parametrize("core", [core for core in CORES if "blas" in core.path(8)], indirect=True)
def test_rows_too_far_apart_for_blas(core):
    # 2**31 pre-activations between two rows; no memory is touched for so long a mask-free input.
    x = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2, 2**26, 1), (0, 0, 0))
    kernel, recurrent = np.ones((1, 32), np.float32), np.ones((8, 32), np.float32)
    small = np.broadcast_to(np.float32(0), (2, 2**26, 1))
    assert x.shape == small.shape
    with pytest.raises(ValueError, match="run the sequence in parts"):
        functional.lstm_forward(x, kernel, recurrent)
