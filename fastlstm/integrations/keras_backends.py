"""How each backend of Keras calls the LSTM: its tensors in and out, its way to gradients.

A runner is a function of (planner, x, h0, c0, mask, weights), tensors of the backend, mask or bias
may be absent, that returns y, h, c. The planner makes a plan of the weights as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastlstm._core import lstm
from fastlstm._extras import require

__all__ = ["RUNNERS", "has_gpu", "is_worth_leaving"]

Planner = Callable[[list[np.ndarray]], lstm.LSTMPlan]


def _mask_array(mask: Any) -> Any:
    return None if mask is None else np.asarray(mask).astype(bool)


def _compute(planner: Planner, given: Sequence[Any], mask: Any, training: bool = False) -> Any:
    """y, h, c and the cache for ``given = [x, h0, c0, *weights]``, anything like arrays."""
    x, h0, c0, *weights = (np.asarray(each) for each in given)
    return lstm.forward(planner(weights), x, h0, c0, _mask_array(mask), training)


def _differentiate(
    planner: Planner, given: Sequence[Any], mask: Any, gradients: Sequence[Any]
) -> list[Any]:
    """The gradients of everything in `given`, from those of y, h, c."""
    cache = _compute(planner, given, mask, training=True)[3]
    dy, dh, dc = (np.asarray(gradient) for gradient in gradients)
    dx, dkernel, drecurrent_kernel, dbias, dh0, dc0 = lstm.backward(cache, dy, dh, dc)
    return [dx, dh0, dc0, dkernel, drecurrent_kernel, dbias][: len(given)]


def _run_numpy(planner: Planner, x: Any, h0: Any, c0: Any, mask: Any, weights: list[Any]) -> Any:
    return _compute(planner, [x, h0, c0, *weights], mask)[:3]


def _run_torch(planner: Planner, x: Any, h0: Any, c0: Any, mask: Any, weights: list[Any]) -> Any:
    from fastlstm.integrations.torch import as_array, run_lstm

    plan = planner([as_array(weight) for weight in weights])
    return run_lstm(plan, _mask_array(mask), x, h0, c0, *weights)


def _run_jax(planner: Planner, x: Any, h0: Any, c0: Any, mask: Any, weights: list[Any]) -> Any:
    jax = require("jax", "keras")

    def call(function: Callable[..., Any], shapes: list[tuple[int, ...]], *arguments: Any) -> Any:
        results = tuple(jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes)
        return jax.pure_callback(function, results, *arguments, vmap_method="sequential")

    def forward_pass(mask: Any, *given: Any) -> Any:
        shapes = [(*x.shape[:2], h0.shape[1]), h0.shape, h0.shape]
        return call(lambda mask, *a: tuple(_compute(planner, a, mask)[:3]), shapes, mask, *given)

    def run_forward(*arguments: Any) -> Any:
        return forward_pass(*arguments), arguments

    def run_backward(arguments: Any, gradients: Any) -> Any:
        mask, *given = arguments
        found = call(
            lambda mask, given, gradients: tuple(_differentiate(planner, given, mask, gradients)),
            [each.shape for each in given],
            mask,
            given,
            gradients,
        )
        # A mask has no gradient; JAX wants one of no type for booleans.
        dmask = None if mask is None else np.zeros(mask.shape, jax.dtypes.float0)
        return (dmask, *found)

    run = jax.custom_vjp(forward_pass)
    run.defvjp(run_forward, run_backward)
    return run(mask, x, h0, c0, *weights)


def _run_tensorflow(
    planner: Planner, x: Any, h0: Any, c0: Any, mask: Any, weights: list[Any]
) -> Any:
    tensorflow = require("tensorflow", "keras")

    def call(function: Callable[..., Any], shapes: list[Any], *arguments: Any) -> Any:
        types = [x.dtype] * len(shapes)
        found = tensorflow.numpy_function(function, list(arguments), types, stateful=False)
        for tensor, shape in zip(found, shapes, strict=True):
            tensor.set_shape(shape)
        return found

    # What is called gets arrays, and no None.
    masks = [] if mask is None else [mask]

    def split(arguments: Sequence[Any]) -> tuple[Sequence[Any], Any]:
        count = 3 + len(weights)
        return arguments[:count], arguments[count] if masks else None

    def forward_pass(*arguments: Any) -> Any:
        return _compute(planner, *split(arguments))[:3]

    def backward_pass(dy: Any, dh: Any, dc: Any, *arguments: Any) -> Any:
        return _differentiate(planner, *split(arguments), [dy, dh, dc])

    @tensorflow.custom_gradient
    def run(*given: Any) -> Any:
        shapes = [[*x.shape[:2], h0.shape[1]], h0.shape, h0.shape]
        found = call(forward_pass, shapes, *given, *masks)

        def gradients(dy: Any, dh: Any, dc: Any) -> Any:
            return call(backward_pass, [t.shape for t in given], dy, dh, dc, *given, *masks)

        return tuple(found), gradients

    # A gradient goes to tensors; variables are read here.
    return run(*map(tensorflow.convert_to_tensor, (x, h0, c0, *weights)))


# Leaving a compiled program of JAX and coming back takes some 100 us, while it does about this many
# multiplications itself. TensorFlow takes longer for anything.
LEAST_PRODUCTS_ON_JAX = 1 << 24


def is_worth_leaving(backend: str, x: Any, units: int) -> bool:
    """Whether a pass over x (B, T, F) is enough work to leave the backend's program for."""
    if backend != "jax":
        return True
    batch, steps, features = x.shape
    products: int = batch * steps * 4 * units * (features + units)
    return products >= LEAST_PRODUCTS_ON_JAX


def has_gpu() -> bool:
    """Whether TensorFlow has one, where it would run what it is not told to run elsewhere."""
    return bool(require("tensorflow", "keras").config.list_physical_devices("GPU"))


RUNNERS: dict[str, Callable[..., Any]] = {
    "numpy": _run_numpy,
    "torch": _run_torch,
    "jax": _run_jax,
    "tensorflow": _run_tensorflow,
}
