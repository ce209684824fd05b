"""Train random models with fastlstm and with Keras, and compare all numbers.

    python tools/compare_with_keras.py --models 500

prints every model whose predictions, losses or weights differ, as the recipe that builds it, and
ends with an error if there are any. Keras trains on PyTorch, which it need not compile for every
model.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

os.environ["KERAS_BACKEND"] = "torch"
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import keras
from random_models import Recipe, alone, build, data_for, random_recipe, randomize

import fastlstm

STEPS = 3
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}


def train(model: Any, data: Any, library: Any) -> dict[str, Any]:
    """All numbers: predictions before, losses of some updates, weights and predictions after."""
    x, y, sample_weight = map(alone, data)
    found = {"predictions": _predictions(model, x)}
    losses = []
    for _ in range(STEPS):
        if library is keras:
            model.reset_metrics()
        logs = model.train_on_batch(x, y, sample_weight, return_dict=True)
        losses.append(float(logs["loss"]))
    found["losses"] = [np.array(losses)]
    found["weights"] = [np.asarray(weight) for weight in model.get_weights()]
    found["predictions after"] = _predictions(model, x)
    return found


def _predictions(model: Any, x: Any) -> list[np.ndarray]:
    found = model.predict_on_batch(x)
    found = found if isinstance(found, list) else [found]
    return [np.asarray(each) for each in found]


def recipe_for_keras(seed: int) -> Recipe:
    """A recipe within what Keras does.

    With PyTorch it multiplies matrices in float32 always, and changes states in place that its
    gradients need; it does not spread the weight of a sample over steps.
    """
    recipe = random_recipe(seed, stateful=())
    weighted = "steps" if recipe.weighted else ""
    return recipe._replace(dtype="float32", weighted=weighted)


def is_meant_to_differ(recipe: Recipe) -> bool:
    """Whether the model has in it what fastlstm does otherwise than Keras, knowingly."""
    # Keras calls the layer inside TimeDistributed without the penalty on its outputs.
    inside = [each.inner for each in recipe.layers if each.kind == "TimeDistributed"]
    penalised = any(recipe.layers[k].arguments["activity_regularizer"] for k in inside)
    # Of outputs that nobody uses, the gradient is zero here and with JAX, none with PyTorch, where
    # decay and constraints then pass over the weights.
    unused = any(each.arguments.get("merge_mode", "") is None for each in recipe.layers)
    return penalised or unused


def difference(recipe: Recipe) -> str | None:
    """What differs, or None."""
    fastlstm.set_floatx(recipe.dtype)
    theirs = build(recipe, keras)
    ours = build(recipe, fastlstm)
    randomize(ours, recipe.seed)
    theirs.set_weights(ours.get_weights())
    data = data_for(recipe, [tensor.shape for tensor in ours.outputs])
    found, want = train(ours, data, fastlstm), train(theirs, data, keras)
    for what in want:
        for k, (a, b) in enumerate(zip(found[what], want[what], strict=True)):
            if a.shape != b.shape or not np.allclose(a, b, **TOLERANCE):
                return f"{what} {k}: {a.tolist()} where Keras has {b.tolist()}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="the number of the first model")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Keras's about softmax over one value and unused weights
    start, compared, passed_over, wrong = time.monotonic(), 0, 0, 0
    for seed in range(arguments.seed, arguments.seed + arguments.models):
        if time.monotonic() - start > arguments.seconds:
            break
        recipe = recipe_for_keras(seed)
        if is_meant_to_differ(recipe):
            passed_over += 1
            continue
        found = difference(recipe)
        compared += 1
        if found is not None:
            wrong += 1
            print(f"model {seed}: {found}\n  {recipe}")
    print(
        f"{compared} models compared with Keras {keras.__version__}, {wrong} differ; "
        f"{passed_over} passed over, which are meant to"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
