"""The reference and the core against what Keras computed."""

import numpy as np
import pytest
from lstm_cases import GOLDEN_LSTM, GoldenLSTM

from fastlstm import functional, reference


def test_there_are_golden_files():
    assert len(GOLDEN_LSTM) == 17


@pytest.mark.parametrize("path", GOLDEN_LSTM, ids=lambda p: p.stem)
@pytest.mark.parametrize("module", [reference, functional], ids=["reference", "core"])
def test_outputs_and_gradients(module, path, core):
    golden = GoldenLSTM(path)
    outputs, gradients = golden.run(module)
    assert len(gradients) >= 3 or golden.calls > 1
    for k, output in enumerate(outputs):
        np.testing.assert_allclose(output, golden.data[f"out{k}"], rtol=1e-9, atol=1e-10)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, golden.data[name], rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("path", GOLDEN_LSTM, ids=lambda p: p.stem)
def test_outputs_in_float32(path, core):
    golden = GoldenLSTM(path)
    outputs, _ = golden.run(functional, np.float32)
    for k, output in enumerate(outputs):
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, golden.data[f"out{k}"], rtol=2e-5, atol=2e-6)
