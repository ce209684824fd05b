"""The checker of gradients must itself notice what is wrong."""

import numpy as np
import pytest

from fastlstm import gradcheck
from fastlstm.gradient_check import numeric_gradient


def cubic(x, y):
    return float((x**3 * y).sum()), (3 * x**2 * y, x**3)


def arguments():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 3)), rng.normal(size=(2, 3))


def test_right_gradients_pass():
    assert gradcheck(cubic, *arguments()) < 1


@pytest.mark.parametrize("number", [0, 1])
def test_wrong_gradients_are_named(number):
    def wrong(x, y):
        value, gradients = cubic(x, y)
        gradients[number][1, 2] *= 1 + 2e-5
        return value, gradients

    with pytest.raises(AssertionError, match=rf"argument {number} is wrong at \(1, 2\)"):
        gradcheck(wrong, *arguments())


def test_nan_is_wrong():
    with pytest.raises(AssertionError, match="claimed nan"):
        gradcheck(lambda x: (float(x.sum()), np.full_like(x, np.nan)), np.ones(2))


def test_missing_and_misshapen_gradients():
    with pytest.raises(ValueError, match="2 arguments, but 1 gradients"):
        gradcheck(lambda x, y: (0.0, (x,)), *arguments())
    with pytest.raises(ValueError, match="argument 0 must have shape"):
        gradcheck(lambda x: (0.0, x[:1]), np.ones(2))


def test_float32_is_refused():
    with pytest.raises(TypeError, match="must be float64"):
        numeric_gradient(lambda x: 0.0, np.ones(2, np.float32))


def test_the_argument_is_not_changed():
    x = arguments()[0]
    x.flags.writeable = False
    numeric_gradient(lambda x: float((x**2).sum()), x)
