"""One LSTM layer in every library that is installed, on the same weights and inputs.

Each contender is a function of (arrays, threads) that sets the library's threads, in the whole
process, and returns a run: a function without arguments that computes and returns arrays to be
compared, y (B, T, H) first.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import instruction_sets  # noqa: F401  (before any library)
import numpy as np

import fastlstm
from fastlstm._core import kernels
from fastlstm.layers import LSTM, Context
from fastlstm.layers.weight import changing

Arrays = dict[str, np.ndarray]
Run = Callable[[], list[np.ndarray]]


def make_arrays(shape: tuple[int, int, int, int]) -> Arrays:
    """Random weights, inputs, states and gradients, float32."""
    batch, steps, features, units = shape
    rng = np.random.default_rng(0)
    scale = units**-0.5
    arrays = {
        "x": rng.normal(size=(batch, steps, features)),
        "kernel": rng.normal(0, scale, (features, 4 * units)),
        "recurrent_kernel": rng.normal(0, scale, (units, 4 * units)),
        "bias": rng.normal(0, scale, 4 * units),
        "h0": rng.normal(size=(batch, units)),
        "c0": rng.normal(size=(batch, units)),
        "dy": rng.normal(size=(batch, steps, units)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _gates(weights: np.ndarray, order: str) -> np.ndarray:
    """The columns of Keras's gates i, f, c, o in another order."""
    units = weights.shape[-1] // 4
    places = ["ifco".index(gate) for gate in order]
    return np.concatenate([weights[..., p * units : (p + 1) * units] for p in places], axis=-1)


# ---- inference --------------------------------------------------------------------------------


def _own_layer(arrays: Arrays) -> LSTM:
    layer = LSTM(arrays["h0"].shape[1], return_sequences=True)
    layer.build(arrays["x"].shape)
    layer.set_weights([arrays[name] for name in ("kernel", "recurrent_kernel", "bias")])
    return layer


def fastlstm_inference(arrays: Arrays, threads: int) -> Run:
    fastlstm.set_num_threads(threads)
    layer, x = _own_layer(arrays), arrays["x"]

    def run() -> list[np.ndarray]:
        return [layer(x)]

    return run


def torch_lstm(*directions: Sequence[np.ndarray]) -> Any:
    """An nn.LSTM with Keras's three weights of one direction or two.

    Its second bias is zero and stays so: training both would move the sum twice as far.
    """
    import torch

    features, units = directions[0][0].shape[0], directions[0][1].shape[0]
    layer = torch.nn.LSTM(features, units, batch_first=True, bidirectional=len(directions) == 2)
    with torch.no_grad():
        for end, weights in zip(("", "_reverse"), directions, strict=False):
            kernel, recurrent_kernel, bias = (torch.from_numpy(w.copy()) for w in weights)
            getattr(layer, f"weight_ih_l0{end}").copy_(kernel.T)
            getattr(layer, f"weight_hh_l0{end}").copy_(recurrent_kernel.T)
            getattr(layer, f"bias_ih_l0{end}").copy_(bias)
            getattr(layer, f"bias_hh_l0{end}").zero_().requires_grad_(False)
    return layer


def _torch_layer(arrays: Arrays) -> Any:
    return torch_lstm([arrays[name] for name in ("kernel", "recurrent_kernel", "bias")])


def torch_inference(arrays: Arrays, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    layer, x = _torch_layer(arrays), torch.from_numpy(arrays["x"])

    def run() -> list[np.ndarray]:
        with torch.inference_mode():
            return [layer(x)[0].numpy()]

    return run


def _onnx_model(arrays: Arrays) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    batch, steps, features = arrays["x"].shape
    units = arrays["h0"].shape[1]
    bias = _gates(arrays["bias"], "iofc")
    weights = {
        "W": _gates(arrays["kernel"], "iofc").T[None],
        "R": _gates(arrays["recurrent_kernel"], "iofc").T[None],
        "B": np.concatenate([bias, np.zeros_like(bias)])[None],
    }
    graph = helper.make_graph(
        [helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=units)],
        "lstm",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [steps, batch, features])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [steps, 1, batch, units])],
        [numpy_helper.from_array(np.ascontiguousarray(w), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8
    return model.SerializeToString()


def onnxruntime_session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnxruntime_inference(arrays: Arrays, threads: int) -> Run:
    session = onnxruntime_session(_onnx_model(arrays), threads)
    x = np.ascontiguousarray(arrays["x"].transpose(1, 0, 2))

    def run() -> list[np.ndarray]:
        return [session.run(None, {"X": x})[0][:, 0].transpose(1, 0, 2)]

    return run


def openvino_request(model: bytes, shape: tuple[int, ...], threads: int) -> Any:
    """For inputs of one shape, which it may then plan for."""
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # By itself it computes in bfloat16 where the CPU can: twice as fast, with 8 bits.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    read = core.read_model(model)
    read.reshape(list(shape))
    return core.compile_model(read, "CPU", settings).create_infer_request()


def openvino_inference(arrays: Arrays, threads: int) -> Run:
    x = np.ascontiguousarray(arrays["x"].transpose(1, 0, 2))
    request = openvino_request(_onnx_model(arrays), x.shape, threads)

    def run() -> list[np.ndarray]:
        found = request.infer([x], share_inputs=True, share_outputs=True)[0]
        return [found[:, 0].transpose(1, 0, 2)]

    return run


# ---- training ---------------------------------------------------------------------------------


def fastlstm_training(arrays: Arrays, threads: int) -> Run:
    """y, dx, dkernel, drecurrent_kernel, dbias, dh0, dc0; packing new weights every time."""
    fastlstm.set_num_threads(threads)
    layer = _own_layer(arrays)
    states = [arrays["h0"], arrays["c0"]]

    def run() -> list[np.ndarray]:
        with changing(layer.weights):
            pass
        context = Context()
        y = layer(arrays["x"], initial_state=states, training=True, context=context)
        dx, by_name = layer.differentiate(context, arrays["dy"])
        gradients = [context.gradients[weight] for weight in layer.weights]
        return [y, dx, *gradients, *by_name["initial_state"]]

    return run


def torch_training(arrays: Arrays, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    layer, dy = _torch_layer(arrays), torch.from_numpy(arrays["dy"])
    x, h0, c0 = (torch.from_numpy(arrays[name]).requires_grad_() for name in ("x", "h0", "c0"))
    wanted = [x, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, h0, c0]

    def run() -> list[np.ndarray]:
        y = layer(x, (h0[None], c0[None]))[0]
        found = torch.autograd.grad(y, wanted, dy)
        dx, dkernel, drecurrent, dbias, dh0, dc0 = (gradient.numpy() for gradient in found)
        return [y.detach().numpy(), dx, dkernel.T, drecurrent.T, dbias, dh0, dc0]

    return run


def over_blas(maker: Callable[..., Run]) -> Callable[..., Run]:
    """The contender of ours that `maker` makes, on the engine over BLAS."""

    def make(arrays: Arrays, threads: int) -> Run:
        run = maker(arrays, threads)

        def run_over_blas() -> list[np.ndarray]:
            kernels.use_engine("blas")
            try:
                return run()
            finally:
                kernels.use_engine(None)

        return run_over_blas

    return make


def installed(makers: dict[str, tuple[str, Callable[..., Run]]]) -> dict[str, Callable[..., Run]]:
    """Those whose modules can be imported, by name."""
    return {
        name: maker
        for name, (modules, maker) in makers.items()
        if all(importlib.util.find_spec(module) for module in modules.split())
    }


INFERENCE = installed(
    {
        "fastlstm": ("fastlstm", fastlstm_inference),
        "fastlstm, BLAS engine": ("fastlstm", over_blas(fastlstm_inference)),
        "PyTorch": ("torch", torch_inference),
        "ONNX Runtime": ("onnx onnxruntime", onnxruntime_inference),
        "OpenVINO": ("onnx openvino", openvino_inference),
    }
)
TRAINING = installed(
    {
        "fastlstm": ("fastlstm", fastlstm_training),
        "fastlstm, BLAS engine": ("fastlstm", over_blas(fastlstm_training)),
        "PyTorch": ("torch", torch_training),
    }
)
