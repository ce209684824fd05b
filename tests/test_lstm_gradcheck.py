"""Every gradient of the core against central differences in float64."""

import numpy as np
import pytest
from lstm_cases import random_case

from fastlstm import functional, gradcheck

NAMES = ("x", "kernel", "recurrent_kernel", "bias", "h0", "c0")
SMOOTH = ("tanh", "sigmoid", "softplus", "exponential", "linear", "gelu", "silu")


def check(case):
    dy, dh, dc = case.gradients

    def loss(*arrays):
        y, h, c, cache = functional.lstm_forward(*arrays, **case.options)
        value = float((y * dy).sum() + (h * dh).sum() + (c * dc).sum())
        return value, functional.lstm_backward(cache, dy, dh, dc)

    gradcheck(loss, *(case.arrays[name] for name in NAMES), rtol=5e-6, atol=1e-8)


@pytest.mark.parametrize("mask", [None, 0.6])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("zero_output_for_mask", [False, True])
def test_options(core, mask, go_backwards, zero_output_for_mask):
    options = {"go_backwards": go_backwards, "zero_output_for_mask": zero_output_for_mask}
    check(random_case((2, 3, 3, 5), mask=mask, seed=3, **options))


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("recurrent_activation", SMOOTH)
def test_smooth_activations(activation, recurrent_activation):
    case = random_case(
        (2, 3, 2, 3), activation=activation, recurrent_activation=recurrent_activation
    )
    # Exponentials of exponentials leave the range in which differences mean anything.
    for array in case.arrays.values():
        array *= 0.2
    case.arrays["bias"] -= 1
    check(case)


@pytest.mark.parametrize("units", [1, 9, 17])
def test_widths(core, units):
    check(random_case((2, 3, 1, units)))


KINKS = {
    "relu": (0,),
    "elu": (0,),
    "selu": (0,),
    "leaky_relu": (0,),
    "softsign": (0,),
    "hard_sigmoid": (-3, 3),
}


@pytest.mark.parametrize("activation", sorted(KINKS))
def test_activations_with_kinks(activation):
    rng = np.random.default_rng(5)
    x = rng.uniform(-5, 5, size=200)
    away = np.all([np.abs(x - kink) > 0.01 for kink in KINKS[activation]], axis=0)
    dy = rng.normal(size=int(away.sum()))

    def loss(x):
        y = functional.activation_forward(x, activation)
        return float((y * dy).sum()), functional.activation_backward(x, dy, activation)

    gradcheck(loss, x[away], rtol=5e-6, atol=1e-9)
