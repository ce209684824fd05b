"""Whole models trained for twelve steps, number for number what Keras gets."""

import numpy as np
import pytest
from golden_files import GOLDEN, load_golden

from fastlstm import optimizers
from fastlstm.layers import deserialize
from fastlstm.models import Sequential

CASES = sorted(GOLDEN.glob("train_*.npz"))


def golden_model(config, data):
    model = Sequential([deserialize(spec) for spec in config["model"]["layers"]])
    model.set_weights([data[f"w{k}"] for k in range(len(model.weights))])
    model.compile(optimizer=optimizers.get(config["optimizer"]), loss=config["loss"])
    return model


def test_all_cases_are_there():
    assert len(CASES) == 8


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_training(path, isa):
    config, data = load_golden(path)
    model = golden_model(config, data)
    weight = data.get("sample_weight")
    losses = [
        model.train_on_batch(data["x"], data["y"], sample_weight=weight)
        for _ in range(config["steps"])
    ]
    np.testing.assert_allclose(losses, data["losses"], rtol=1e-12)
    for k, got in enumerate(model.get_weights()):
        np.testing.assert_allclose(got, data[f"trained_w{k}"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(model.predict(data["x"]), data["prediction"], rtol=1e-10)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_fit_is_the_same_as_train_on_batch(path):
    config, data = load_golden(path)
    model = golden_model(config, data)
    history = model.fit(
        data["x"],
        data["y"],
        batch_size=len(data["x"]),
        epochs=config["steps"],
        sample_weight=data.get("sample_weight"),
        verbose=0,
    )
    np.testing.assert_allclose(history.history["loss"], data["losses"], rtol=1e-12)
    for k, got in enumerate(model.get_weights()):
        np.testing.assert_allclose(got, data[f"trained_w{k}"], rtol=1e-10, atol=1e-12)
