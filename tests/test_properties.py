"""What must hold for every model: the fast ways through it compute what the plain way computes.

``HYPOTHESIS_PROFILE=long pytest tests/test_properties.py`` looks at many more models.
"""

import os

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_models import build, data_for, draw_recipe, randomize

import fastlstm
from fastlstm.layers import Context
from fastlstm.layers.structure import as_list
from fastlstm.losses import Loss, MeanSquaredError
from fastlstm.program import program

slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "short", max_examples=120, derandomize=True, deadline=None, suppress_health_check=slow
)
settings.register_profile("long", max_examples=5000, deadline=None, suppress_health_check=slow)
profile = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

STEPS = 3


@st.composite
def recipes(draw):
    return draw_recipe(lambda options: draw(st.sampled_from(options)))


@pytest.fixture(scope="module", autouse=True)
def _floatx():
    before = fastlstm.floatx()
    yield
    fastlstm.set_floatx(before)


def model_of(recipe):
    fastlstm.set_floatx(recipe.dtype)
    model = build(recipe, fastlstm)
    randomize(model, recipe.seed)
    return model, data_for(recipe, [tensor.shape for tensor in model.outputs])


def remembering_gradients(model):
    """The gradients of every update to come."""
    found, apply = [], model.optimizer.apply

    def remember(gradients):
        found.append([None if (g := gradients.get(w)) is None else g.copy() for w in model.weights])
        apply(gradients)

    model.optimizer.apply = remember
    return found


def train(model, data, steps):
    """Losses and gradients of some updates."""
    gradients = remembering_gradients(model)
    logs = [
        model.train_on_batch(data.x, data.y, data.sample_weight, return_dict=True)
        for _ in range(steps)
    ]
    return [each["loss"] for each in logs], gradients


def assert_same(found, want):
    """Number for number, bit for bit."""
    for ours, theirs in zip(found, want, strict=True):
        if theirs is None or ours is None:
            assert ours is theirs
            continue
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def call_every_layer(graph, **use):
    """In place of `describe`: no layer is a native op."""
    return [None] * len(graph.steps)


@settings(profile)
@given(recipes())
def test_training_by_a_program_is_training_by_calling_every_layer(recipe):
    fast, data = model_of(recipe)
    losses, gradients = train(fast, data, STEPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "describe", call_every_layer)
        plain, _ = model_of(recipe)
        plain_losses, plain_gradients = train(plain, data, STEPS)
    assert losses == plain_losses
    for found, want in zip(gradients, plain_gradients, strict=True):
        assert_same(found, want)
    assert_same(fast.get_weights(), plain.get_weights())


@settings(profile)
@given(recipes())
def test_predictions_by_a_program_are_those_of_calling_every_layer(recipe):
    fast, data = model_of(recipe)
    plain, _ = model_of(recipe)
    for _ in range(2):  # what is stateful goes on from there
        found = fast.predict(data.x, batch_size=recipe.batch)
        want, _, _ = plain.graph.run(data.x, context=Context())
        assert_same(as_list(found), want)


@settings(profile)
@given(recipes())
def test_fit_is_training_batch_by_batch(recipe):
    fitted, data = model_of(recipe)
    by_hand, _ = model_of(recipe)
    losses, _ = train(by_hand, data, STEPS)
    history = fitted.fit(
        data.x,
        data.y,
        sample_weight=data.sample_weight,
        batch_size=recipe.batch,
        epochs=STEPS,
        shuffle=False,
        verbose=0,
    )
    assert history.history["loss"] == losses
    assert_same(fitted.get_weights(), by_hand.get_weights())


@settings(profile)
@given(
    st.lists(st.integers(1, 7), min_size=2, max_size=3),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 99),
)
def test_the_mean_squared_error_in_one_call_is_that_by_its_definition(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    y_true, y_pred = rng.normal(size=(2, *shape)).astype(dtype)
    loss = MeanSquaredError()
    value, gradient = loss.value_and_gradient(y_true, y_pred)
    plain_value, plain_gradient = Loss.value_and_gradient(loss, y_true, y_pred)
    close = 8 * np.finfo(dtype).eps  # the sums are taken in different orders
    assert abs(value - plain_value) <= close * plain_value
    np.testing.assert_allclose(gradient, plain_gradient, rtol=close, atol=0)
