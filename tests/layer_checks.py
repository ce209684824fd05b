"""Gradient checks for layers: every input, weight and state against central differences."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fastlstm.gradient_check import numeric_gradient
from fastlstm.layers import Context, Layer


def as_list(structure: Any) -> list[Any]:
    return list(structure) if isinstance(structure, list | tuple) else [structure]


def randomize(layer: Layer, seed: int = 5) -> None:
    """Give every weight random values: zeros and ones hide errors."""
    rng = np.random.default_rng(seed)
    layer.set_weights([0.6 * rng.normal(size=w.shape) for w in layer.weights])


def check_layer_gradients(
    layer: Layer, inputs: Any, *, states: list[np.ndarray] | None = None, **call: Any
) -> Context:
    """Compare `backward` with differences of a random weighting of all outputs (float64 layers)."""
    initial = {} if states is None else {"initial_state": states}
    context = Context()
    outputs = layer(inputs, context=context, **initial, **call)
    rng = np.random.default_rng(11)
    dy = [rng.normal(size=y.shape) for y in as_list(outputs)]
    several = isinstance(outputs, list)
    result = layer.backward(context, dy if several else dy[0])
    dstates = []
    if states is not None:
        result, keywords = result
        dstates = keywords["initial_state"]
        assert len(dstates) == len(states)

    def value(inputs: Any, states: list[np.ndarray]) -> float:
        initial = {"initial_state": states} if states else {}
        outputs = as_list(layer(inputs, **initial, **call))
        return sum(float((y * d).sum()) for y, d in zip(outputs, dy, strict=True))

    def compare(gradient: np.ndarray, numeric: np.ndarray, what: str) -> None:
        assert np.shape(gradient) == numeric.shape, what
        assert np.abs(numeric).max() > 1e-3, f"{what}: nothing to compare"
        np.testing.assert_allclose(gradient, numeric, rtol=5e-6, atol=1e-9, err_msg=what)

    for k, dx in enumerate(as_list(result)):
        if dx is None:
            continue

        def of_input(x: np.ndarray, k: int = k) -> float:
            changed = as_list(inputs)
            changed[k] = x
            return value(changed if isinstance(inputs, list) else changed[0], states or [])

        compare(dx, numeric_gradient(of_input, as_list(inputs)[k]), f"input {k}")
    for k, dstate in enumerate(dstates):

        def of_state(state: np.ndarray, k: int = k) -> float:
            return value(inputs, [*states[:k], state, *states[k + 1 :]])

        compare(dstate, numeric_gradient(of_state, states[k]), f"state {k}")
    for weight in layer.weights:
        before = weight.numpy()

        def of_weight(w: np.ndarray, weight: Any = weight) -> float:
            weight.assign(w)
            return value(inputs, states or [])

        compare(context.gradients[weight], numeric_gradient(of_weight, before), weight.name)
        weight.assign(before)
    return context


def check_round_trip(layer: Layer, inputs: Any, **call: Any) -> Layer:
    """The layer rebuilt from its config, by way of JSON, computes the same."""
    config = layer.get_config()
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    expected = layer(inputs, **call)
    again(inputs, **call)
    again.set_weights(layer.get_weights())
    for a, b in zip(as_list(again(inputs, **call)), as_list(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    return again
