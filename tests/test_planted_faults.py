"""Tests of the tests: known faults, planted in the reference, must each be caught.

The faults are real ones of other libraries. Each is an edit of the reference's text; the golden
files must notice it, and so must central differences where the fault is in the backward pass.
"""

import types
from pathlib import Path

import numpy as np
import pytest
from lstm_cases import GOLDEN_LSTM, GRADIENT_NAMES, GoldenLSTM, random_case

from fastlstm import gradcheck, reference

SOURCE = Path(reference.__file__).read_text()
FORWARD_FAULTS = {
    "input and forget gates swapped": (
        "zi, zf, zg, zo = np.split(z[:, t], 4, axis=-1)",
        "zf, zi, zg, zo = np.split(z[:, t], 4, axis=-1)",
    ),
    "candidate and output gates swapped": (
        "zi, zf, zg, zo = np.split(z[:, t], 4, axis=-1)",
        "zi, zf, zo, zg = np.split(z[:, t], 4, axis=-1)",
    ),
    "h0 and c0 swapped": ("h[:, 0] = h0", "h[:, 0] = h0 if c0 is None else c0"),
    "the first step dropped": ("for t in range(steps):", "for t in range(1, steps):"),
    "no bias": ("if bias is not None:\n            z", "if False:\n            z"),
    "the mask ignored": ("if mask is None else np.array(mask, bool)", "if True else mask"),
    "masked output not carried": (
        "else np.logical_or.accumulate(valid, axis=1)",
        "else valid",
    ),
}
BACKWARD_FAULTS = {
    "y[t] for y[t-1] in the recurrent gradient": ("cache.h[:, :-1]", "cache.h[:, 1:]"),
    "t = 0 dropped": ("for t in reversed(range(steps)):", "for t in reversed(range(1, steps)):"),
    "no bias gradient": ("dbias = dz.sum(axis=(0, 1))", "dbias = 0 * dz.sum(axis=(0, 1))"),
    "dh0 and dc0 swapped": ("dbias, dh, dc", "dbias, dc, dh"),
    "c for the state before it": ("dc_step * c_prev * dr(zf)", "dc_step * c * dr(zf)"),
    "tanh(c) without its derivative": ("dh * r(zo) * da(c)", "dh * r(zo)"),
    "gradient of the final cell state lost": ("dc_step = dc + dh", "dc_step = 0 * dc + dh"),
}


def planted(fault):
    old, new = fault
    assert SOURCE.count(old) >= 1, "the reference changed: plant the fault anew"
    module = types.ModuleType("faulty_reference")
    exec(compile(SOURCE.replace(old, new, 1), "faulty_reference", "exec"), module.__dict__)
    return module


def golden_notices(module):
    for path in GOLDEN_LSTM:
        golden = GoldenLSTM(path)
        outputs, gradients = golden.run(module)
        pairs = [(y, golden.data[f"out{k}"]) for k, y in enumerate(outputs)]
        pairs += [(g, golden.data[name]) for name, g in gradients.items()]
        if not all(np.allclose(got, want, rtol=1e-9, atol=1e-10) for got, want in pairs):
            return True
    return False


def differences_notice(module):
    case = random_case((2, 3, 3, 4), mask=0.7)
    dy, dh, dc = case.gradients
    names = [name.removeprefix("d") for name in GRADIENT_NAMES]

    def loss(*arrays):
        y, h, c, cache = module.lstm_forward(*arrays, **case.options)
        value = float((y * dy).sum() + (h * dh).sum() + (c * dc).sum())
        return value, module.lstm_backward(cache, dy, dh, dc)

    try:
        gradcheck(loss, *(case.arrays[name] for name in names))
    except AssertionError:
        return True
    return False


def test_the_sound_reference_passes():
    module = planted(("Gradients (dx", "Gradients (dx"))
    assert not golden_notices(module)
    assert not differences_notice(module)


@pytest.mark.parametrize("fault", [*FORWARD_FAULTS, *BACKWARD_FAULTS])
def test_golden_files_notice(fault):
    assert golden_notices(planted({**FORWARD_FAULTS, **BACKWARD_FAULTS}[fault]))


@pytest.mark.parametrize("fault", BACKWARD_FAULTS)
def test_central_differences_notice(fault):
    assert differences_notice(planted(BACKWARD_FAULTS[fault]))
