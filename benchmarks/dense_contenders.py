"""One dense layer in every library that is installed; see contenders.py for what a contender is."""

from __future__ import annotations

from typing import Any

import contenders
import grid
import numpy as np
from contenders import Arrays, Run

import fastlstm
from fastlstm.layers import Context, Dense
from fastlstm.layers.weight import changing

ONNX_NODES = {"relu": "Relu", "sigmoid": "Sigmoid", "softmax": "Softmax", "tanh": "Tanh"}


def make_arrays(shape: grid.Dense) -> Arrays:
    """Random inputs, weights and gradients, float32, and the name of the activation."""
    batch, steps, features, units, activation = shape
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.normal(size=(batch, steps, features)),
        "kernel": rng.normal(0, features**-0.5, (features, units)),
        "bias": rng.normal(size=units),
        "dy": rng.normal(size=(batch, steps, units)),
    }
    found = {name: array.astype(np.float32) for name, array in arrays.items()}
    return {**found, "activation": np.array(activation)}


def _own_layer(arrays: Arrays) -> Dense:
    layer = Dense(arrays["bias"].size, str(arrays["activation"]))
    layer.build(arrays["x"].shape)
    layer.set_weights([arrays["kernel"], arrays["bias"]])
    return layer


def _torch_layer(arrays: Arrays) -> tuple[Any, Any]:
    """nn.Linear and the function behind it."""
    import torch

    layer = torch.nn.Linear(*arrays["kernel"].shape)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(arrays["kernel"].T.copy()))
        layer.bias.copy_(torch.from_numpy(arrays["bias"]))
    return layer, torch_activation(str(arrays["activation"]))


def torch_activation(name: str) -> Any:
    import torch

    if name == "softmax":
        return torch.nn.Softmax(dim=-1)
    return torch.nn.Identity() if name == "linear" else getattr(torch, name)


def _onnx_model(arrays: Arrays) -> bytes:
    """Gemm on all rows at once, which ONNX Runtime can join with the bias and the activation."""
    from onnx import TensorProto, helper, numpy_helper

    features, units = arrays["kernel"].shape
    rows = arrays["x"].size // features
    nodes = [helper.make_node("Gemm", ["X", "W", "B"], ["Z"])]
    kind = ONNX_NODES.get(str(arrays["activation"]))
    if kind:
        nodes.append(helper.make_node(kind, ["Z"], ["Y"]))
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [rows, features])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [rows, units])],
        [
            numpy_helper.from_array(arrays[name], short)
            for name, short in (("kernel", "W"), ("bias", "B"))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8
    return model.SerializeToString()


# ---- inference --------------------------------------------------------------------------------


def fastlstm_inference(arrays: Arrays, threads: int) -> Run:
    fastlstm.set_num_threads(threads)
    layer, x = _own_layer(arrays), arrays["x"]
    return lambda: [layer(x)]


def torch_inference(arrays: Arrays, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    layer, activation = _torch_layer(arrays)
    x = torch.from_numpy(arrays["x"])

    def run() -> list[np.ndarray]:
        with torch.inference_mode():
            return [activation(layer(x)).numpy()]

    return run


def onnxruntime_inference(arrays: Arrays, threads: int) -> Run:
    session = contenders.onnxruntime_session(_onnx_model(arrays), threads)
    x, shape = arrays["x"].reshape(-1, arrays["x"].shape[-1]), arrays["dy"].shape
    return lambda: [session.run(None, {"X": x})[0].reshape(shape)]


def openvino_inference(arrays: Arrays, threads: int) -> Run:
    x, shape = arrays["x"].reshape(-1, arrays["x"].shape[-1]), arrays["dy"].shape
    request = contenders.openvino_request(_onnx_model(arrays), x.shape, threads)

    def run() -> list[np.ndarray]:
        found = request.infer([x], share_inputs=True, share_outputs=True)[0]
        return [found.reshape(shape)]

    return run


# ---- training ---------------------------------------------------------------------------------


def fastlstm_training(arrays: Arrays, threads: int) -> Run:
    """y, dx, dkernel, dbias; the weights are new every time."""
    fastlstm.set_num_threads(threads)
    layer = _own_layer(arrays)

    def run() -> list[np.ndarray]:
        with changing(layer.weights):
            pass
        context = Context()
        y = layer(arrays["x"], training=True, context=context)
        dx = layer.differentiate(context, arrays["dy"])
        return [y, dx, *(context.gradients[weight] for weight in layer.weights)]

    return run


def torch_training(arrays: Arrays, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    layer, activation = _torch_layer(arrays)
    x, dy = torch.from_numpy(arrays["x"]).requires_grad_(), torch.from_numpy(arrays["dy"])

    def run() -> list[np.ndarray]:
        y = activation(layer(x))
        dx, dkernel, dbias = torch.autograd.grad(y, [x, layer.weight, layer.bias], dy)
        return [y.detach().numpy(), dx.numpy(), dkernel.numpy().T, dbias.numpy()]

    return run


INFERENCE = contenders.installed(
    {
        "fastlstm": ("fastlstm", fastlstm_inference),
        "fastlstm, BLAS engine": ("fastlstm", contenders.over_blas(fastlstm_inference)),
        "PyTorch": ("torch", torch_inference),
        "ONNX Runtime": ("onnx onnxruntime", onnxruntime_inference),
        "OpenVINO": ("onnx openvino", openvino_inference),
    }
)
TRAINING = contenders.installed(
    {
        "fastlstm": ("fastlstm", fastlstm_training),
        "fastlstm, BLAS engine": ("fastlstm", contenders.over_blas(fastlstm_training)),
        "PyTorch": ("torch", torch_training),
    }
)
