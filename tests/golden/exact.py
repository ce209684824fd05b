"""Write `exact.npz`: the golden cases again, from Keras on JAX with real float64.

Keras 3.15, which wrote the other files here, computes `keras.ops.matmul` of two float64 arrays in
float32: `keras.backend.result_type("float64", "float64")` is "float32". Every case whose layer
takes that road (masks, Dense, and what contains them) is thus right to about 1e-7 only, and
PyTorch's hard sigmoid has a float32 1/6 in its gradient. This program runs Keras's own layers on
the same numbers with that one function mended, and differentiates them with JAX.

usage: KERAS_BACKEND=jax JAX_ENABLE_X64=1 python exact.py      (needs keras==3.15.1 and jax)
"""

import json
from pathlib import Path

import jax
import keras
import numpy as np
from keras.src.backend.common import dtypes

HERE = Path(__file__).parent

narrow_result_type = dtypes.result_type


def result_type(*kinds: object) -> str:
    """Keras's result_type, but float64 stays float64."""
    names = [str(getattr(kind, "name", kind)) for kind in kinds]
    return "float64" if "float64" in names else narrow_result_type(*kinds)


dtypes.result_type = result_type


def layer_of(config: dict) -> keras.layers.Layer:
    if config["kind"] == "LSTM":
        return keras.layers.LSTM(config["units"], dtype="float64", **config["kwargs"])
    return keras.layers.deserialize(config["spec"])


def recompute(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs and gradients under the names that the case itself uses."""
    config = json.loads(str(data["config"]))
    layer = layer_of(config)
    layer.build(data["x"].shape)
    names = [n for n in ("kernel", "recurrent_kernel", "bias") if n in data]
    names = names or sorted(n for n in data if n[0] == "w" and n[1:].isdigit())
    layer.set_weights([data[n] for n in names])
    states = [n for n in ("h0", "c0") if n in data]
    call = {"mask": jax.numpy.asarray(data["mask"])} if "mask" in data else {}

    def run(x, weights, initial):
        if initial:
            call["initial_state"] = initial
        others = [v.value for v in layer.non_trainable_variables]
        outputs, _ = layer.stateless_call(weights, others, x, **call)
        return outputs if isinstance(outputs, list | tuple) else [outputs]

    weights = [v.value for v in layer.trainable_variables]
    outputs, pull = jax.vjp(run, data["x"], weights, [data[n] for n in states])
    upstream = [jax.numpy.asarray(data[f"grad_out{k}"]) for k in range(len(outputs))]
    dx, dweights, dstates = pull(type(outputs)(upstream))
    gradients = {"x": dx, **dict(zip(names, dweights, strict=True))}
    gradients |= dict(zip(states, dstates, strict=True))
    found = {f"out{k}": value for k, value in enumerate(outputs)}
    found |= {f"grad_{n}": g for n, g in gradients.items() if f"grad_{n}" in data}
    return {name: np.asarray(value) for name, value in found.items()}


def retrain(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Losses, trained weights and prediction of a training case."""
    config = json.loads(str(data["config"]))
    model = keras.Sequential.from_config(config["model"])
    starting = [data[f"w{k}"] for k in range(len(model.weights))]
    model.set_weights(starting)
    optimizer = keras.optimizers.deserialize(config["optimizer"])
    model.compile(optimizer=optimizer, loss=config["loss"])
    weight = data.get("sample_weight")
    losses = [
        model.train_on_batch(data["x"], data["y"], sample_weight=weight)
        for _ in range(config["steps"])
    ]
    found = {f"trained_w{k}": w for k, w in enumerate(model.get_weights())}
    return {**found, "losses": np.array(losses), "prediction": model.predict(data["x"], verbose=0)}


def main() -> None:
    assert jax.config.jax_enable_x64
    keras.config.set_floatx("float64")
    exact = {}
    for path in sorted(HERE.glob("*.npz")):
        if path.stem == "exact":
            continue
        with np.load(path) as file:
            data = {name: file[name] for name in file.files}
        config = json.loads(str(data["config"]))
        if config.get("calls", 1) > 1:
            continue
        again = retrain if config["kind"] == "training" else recompute
        for name, value in again(data).items():
            assert value.dtype == np.float64
            difference = np.abs(value - data[name]).max() / np.abs(data[name]).max()
            assert difference < 5e-6, (path.stem, name, difference)
            if difference > 1e-12:
                exact[f"{path.stem}/{name}"] = value
    np.savez_compressed(HERE / "exact.npz", **exact)
    for name in exact:
        print(name)


if __name__ == "__main__":
    main()
