"""Whole models, predicting and training, beside other libraries, from the same weights.

`predict` is ``model.predict(x, batch_size=len(x))``, as a user writes it. ONNX Runtime and OpenVINO
run what `fastlstm.convert.to_onnx` makes of the model. `fit` is ``model.fit`` over a few batches
for a few epochs, without shuffling, with Adam; beside it a PyTorch loop with its fused Adam.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import contenders
import grid
import numpy as np
from contenders import Run
from dense_contenders import torch_activation

import fastlstm
from fastlstm import layers, optimizers
from fastlstm.models import Sequential

EPOCHS = 3
# Keras's Adam adds epsilon before the correction of the means, PyTorch's after it: so small that
# losses can be compared.
LEARNING_RATE, EPSILON = 1e-3, 1e-12


class Task(NamedTuple):
    """A program with the weights and data of all contenders."""

    program: grid.Program
    batch: int
    weights: list[list[np.ndarray]]
    x: np.ndarray
    y: np.ndarray


def batches(batch: int) -> int:
    """How many of them an epoch has."""
    return 8 if batch == 1 else 4 if batch < 64 else 2


def _layer(part: grid.Part, makes_sequences: bool) -> layers.Layer:
    if part.kind == "lstm":
        return layers.LSTM(part.units, return_sequences=part.sequences)
    if part.kind == "bidirectional":
        return layers.Bidirectional(layers.LSTM(part.units, return_sequences=part.sequences))
    if part.kind == "repeat":
        return layers.RepeatVector(grid.MODEL_STEPS)
    dense = layers.Dense(part.units, activation=part.activation)
    return layers.TimeDistributed(dense) if makes_sequences else dense


def _own_model(program: grid.Program) -> Sequential:
    model = Sequential([layers.Input((grid.MODEL_STEPS, program.features))])
    for part in program.parts:
        model.add(_layer(part, program.makes_sequences))
    return model


def make_task(row: tuple[grid.Program, int]) -> Task:
    """Random data for an epoch; one-hot targets for a classifier."""
    program, batch = row
    fastlstm.utils.set_random_seed(0)
    model = _own_model(program)
    rng = np.random.default_rng(0)
    count = batch * batches(batch)
    x = rng.normal(size=(count, grid.MODEL_STEPS, program.features)).astype(np.float32)
    shape = (count, *model.output_shape[1:])
    y = rng.normal(size=shape).astype(np.float32)
    if program.is_classifier:
        y = np.eye(shape[-1], dtype=np.float32)[rng.integers(0, shape[-1], count)]
    return Task(program, batch, [layer.get_weights() for layer in model.layers], x, y)


def _own(task: Task) -> Sequential:
    model = _own_model(task.program)
    for layer, weights in zip(model.layers, task.weights, strict=True):
        layer.set_weights(weights)
    return model


def _torch_model(task: Task) -> Any:
    """The same as an nn.Module; a classifier's makes logits, as PyTorch's loss wants them."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = torch.nn.ModuleList(map(_torch_module, task.program.parts, task.weights))

        def forward(self, x: Any) -> Any:
            for part, step in zip(task.program.parts, self.steps, strict=True):
                if part.kind == "repeat":
                    x = x[:, None].expand(-1, grid.MODEL_STEPS, -1)
                elif part.kind == "dense":
                    x = step(x)
                else:
                    x = step(x)[0] if part.sequences else step(x)[0][:, -1]
            return x

    return Model()


def _torch_module(part: grid.Part, weights: list[np.ndarray]) -> Any:
    import torch

    if part.kind == "repeat":
        return torch.nn.Identity()
    if part.kind != "dense":
        return contenders.torch_lstm(*(weights[k : k + 3] for k in range(0, len(weights), 3)))
    layer = torch.nn.Linear(*weights[0].shape)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights[0].T.copy()))
        layer.bias.copy_(torch.from_numpy(weights[1]))
    return layer


# ---- predict ----------------------------------------------------------------------------------


def fastlstm_predict(task: Task, threads: int) -> Run:
    fastlstm.set_num_threads(threads)
    model, x = _own(task), task.x[: task.batch]
    return lambda: [model.predict(x, batch_size=task.batch)]


def torch_predict(task: Task, threads: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    model = _torch_model(task).eval()
    activation = torch_activation(task.program.parts[-1].activation)
    x = torch.from_numpy(task.x[: task.batch])

    def run() -> list[np.ndarray]:
        with torch.inference_mode():
            return [activation(model(x)).numpy()]

    return run


def _exported(task: Task) -> bytes:
    from fastlstm.convert import to_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        to_onnx(_own(task), path)
        return path.read_bytes()


def onnxruntime_predict(task: Task, threads: int) -> Run:
    session = contenders.onnxruntime_session(_exported(task), threads)
    feed = {session.get_inputs()[0].name: task.x[: task.batch]}
    return lambda: [session.run(None, feed)[0]]


def openvino_predict(task: Task, threads: int) -> Run:
    x = task.x[: task.batch]
    request = contenders.openvino_request(_exported(task), x.shape, threads)
    return lambda: [request.infer([x], share_inputs=True, share_outputs=True)[0]]


# ---- fit --------------------------------------------------------------------------------------


def fastlstm_fit(task: Task, threads: int) -> Run:
    """The loss of every epoch; weights go on from one run to the next, as those of the others."""
    fastlstm.set_num_threads(threads)
    model = _own(task)
    loss = "categorical_crossentropy" if task.program.is_classifier else "mse"
    model.compile(optimizers.Adam(LEARNING_RATE, epsilon=EPSILON), loss)
    fit = functools.partial(model.fit, task.x, task.y, task.batch, EPOCHS, verbose=0, shuffle=False)
    return lambda: [np.array(fit().history["loss"])]


def torch_fit(task: Task, threads: int) -> Run:
    import torch
    from torch.nn.functional import cross_entropy, mse_loss

    torch.set_num_threads(threads)
    model = _torch_model(task)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, LEARNING_RATE, eps=EPSILON, fused=True)
    x, y = torch.from_numpy(task.x), torch.from_numpy(task.y)
    loss_of = cross_entropy if task.program.is_classifier else mse_loss
    if task.program.is_classifier:
        y = y.argmax(-1)

    def epoch() -> float:
        total = torch.zeros(())
        for xs, ys in zip(x.split(task.batch), y.split(task.batch), strict=True):
            optimizer.zero_grad()
            loss = loss_of(model(xs), ys)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return float(total) / batches(task.batch)

    return lambda: [np.array([epoch() for _ in range(EPOCHS)])]


PREDICT = contenders.installed(
    {
        "fastlstm": ("fastlstm", fastlstm_predict),
        "PyTorch": ("torch", torch_predict),
        "ONNX Runtime": ("onnx onnxruntime", onnxruntime_predict),
        "OpenVINO": ("onnx openvino", openvino_predict),
    }
)
FIT = contenders.installed(
    {"fastlstm": ("fastlstm", fastlstm_fit), "PyTorch": ("torch", torch_fit)}
)
