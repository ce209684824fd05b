"""Keras programs with fastlstm under them, in a process for each backend of Keras."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("keras", exc_type=ImportError)
ROOT = Path(__file__).parent.parent

# A backend, and the module that must be there for it: Keras's NumPy backend uses JAX.
BACKENDS = {"numpy": "jax", "torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}

SETUP = """
import contextlib
import numpy as np
import keras
from keras import layers
from fastlstm._core import lstm
from fastlstm.integrations import keras as hook, keras_backends

keras_backends.LEAST_PRODUCTS_ON_JAX = 0
runs = []
real = lstm.forward
def counted(*arguments, **keywords):
    runs.append(1)
    return real(*arguments, **keywords)
lstm.forward = counted

rng = np.random.default_rng(0)
x = rng.normal(size=(8, 6, 3)).astype("float32")
x[rng.random((8, 6)) < 0.3] = 0
y = rng.normal(size=(8, 2)).astype("float32")
"""

PREDICT = (
    SETUP
    + """
def check(*inner, data=x):
    source = keras.Input(data.shape[1:])
    outputs = source
    for layer in inner:
        outputs = layer(outputs)
    model = keras.Model(source, outputs)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    want = model.predict(data, verbose=0)
    before = len(runs)
    with hook.enabled(model) as refused:
        model.make_predict_function(force=True)
        found = model.predict(data, verbose=0)
    assert set(refused.values()) <= {"training with `recurrent_dropout`"}, refused
    assert len(runs) > before, "the kernels did not run"
    for layer in model._flatten_layers():
        if isinstance(layer, layers.LSTM):
            assert layer.supports_jit == (keras.backend.backend() != "tensorflow")
    for ours, theirs in zip(keras.tree.flatten(found), keras.tree.flatten(want)):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)

for activation in ("tanh", "relu", "softsign"):
    for sequences in (False, True):
        check(layers.LSTM(5, activation=activation, return_sequences=sequences))
        check(layers.Masking(), layers.LSTM(5, return_sequences=sequences, go_backwards=True))
check(layers.LSTM(5, return_state=True, use_bias=False))
check(layers.Masking(), layers.Bidirectional(layers.LSTM(4, return_sequences=True)))
check(layers.Masking(), layers.Bidirectional(layers.LSTM(4), merge_mode="mul"))
check(layers.LSTM(5, dropout=0.4, recurrent_dropout=0.3, recurrent_activation="hard_sigmoid"))
check(layers.LSTM(5, dtype="float64"))
"""
)

TRAIN = (
    SETUP
    + """
def trained(context, **options):
    keras.utils.set_random_seed(0)
    with context:
        model = keras.Sequential(
            [
                keras.Input((6, 3)),
                layers.Masking(),
                layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
                layers.LSTM(4, activation="relu", **options),
                layers.Dense(2),
            ]
        )
        model.compile("adam", "mse")
        history = model.fit(x, y, epochs=4, batch_size=3, verbose=0, shuffle=False)
    return history.history["loss"], model.get_weights()

for options in ({}, {"dropout": 0.3}):
    want_loss, want = trained(contextlib.nullcontext(), **options)
    before = len(runs)
    loss, found = trained(hook.enabled(), **options)
    assert len(runs) > before, "the kernels did not run"
    np.testing.assert_allclose(loss, want_loss, rtol=1e-4)
    for ours, theirs in zip(found, want):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
"""
)

REFUSED = (
    SETUP
    + """
class OwnLoop(layers.LSTM):
    def inner_loop(self, *arguments, **keywords):
        return super().inner_loop(*arguments, **keywords)

def half(x):
    return 0.5 * x

source = keras.Input((6, 3))
strange = [
    OwnLoop(2, name="loop", return_sequences=True),
    layers.LSTM(2, activation=half, name="function", return_sequences=True),
    layers.LSTM(2, activation="log_sigmoid", name="unknown", return_sequences=True),
    layers.LSTM(
        2,
        dtype="float16",
        recurrent_initializer="zeros",
        name="short",
        return_sequences=True,
    ),
    layers.LSTM(2, recurrent_dropout=0.3, name="dropped", return_sequences=True),
    layers.LSTM(2, name="fine"),
]
outputs = source
for layer in strange:
    outputs = layer(outputs)
model = keras.Model(source, outputs)
want = model.predict(x, verbose=0)
with hook.enabled(model) as refused:
    assert sorted(refused) == ["dropped", "function", "loop", "short", "unknown"], refused
    model.make_predict_function(force=True)
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-3, atol=1e-4)
plain = vars(layers.LSTM)["inner_loop"]
hook.enable()
hook.enable()
assert vars(layers.LSTM)["inner_loop"] is not plain
with hook.enabled():
    pass
assert vars(layers.LSTM)["inner_loop"] is not plain
hook.disable()
hook.disable()
assert vars(layers.LSTM)["inner_loop"] is plain
layers.LSTM.inner_loop = lambda self, x: x
try:
    hook.enable()
except RuntimeError as error:
    assert keras.__version__ in str(error)
else:
    raise AssertionError("a strange LSTM layer was taken")
"""
)


# A plugin for the tests of Keras.
HOOKED = """
from fastlstm._core import lstm
from fastlstm.integrations import keras as hook, keras_backends

keras_backends.LEAST_PRODUCTS_ON_JAX = 0
real, ran = lstm.forward, []
lstm.forward = lambda *arguments: ran.append(1) or real(*arguments)
hook.enable()

def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"kernels: {len(ran) > 0}")
"""


def run(arguments, backend, folder):
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": f"{ROOT}:{folder}"}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def needs(backend):
    if importlib.util.find_spec(BACKENDS[backend]) is None:
        pytest.skip(f"{BACKENDS[backend]} is not installed")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("program", [PREDICT, TRAIN, REFUSED], ids=["predict", "fit", "refused"])
def test_programs(backend, program, tmp_path):
    needs(backend)
    if backend == "numpy" and program is TRAIN:
        pytest.skip("Keras does not train on NumPy")
    result = run(["-c", program], backend, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize("backend", BACKENDS)
def test_keras_own_tests(backend, tmp_path):
    needs(backend)
    names = [f"keras.src.layers.rnn.{name}" for name in ("lstm_test", "bidirectional_test")]
    folder = Path(importlib.util.find_spec("keras").origin).parent
    if not (folder / "src/layers/rnn/lstm_test.py").exists():
        pytest.skip("this wheel of Keras came without its tests")
    (tmp_path / "hooked.py").write_text(HOOKED)
    options = ["-q", "-p", "hooked", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    result = run(["-m", "pytest", *options, "--pyargs", *names], backend, tmp_path)
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout
    assert "kernels: True" in result.stdout, "the kernels did not run"


SMALL = (
    SETUP
    + """
keras_backends.LEAST_PRODUCTS_ON_JAX = 8 * 6 * 4 * 5 * (3 + 5)
hook.enable()
for units, taken in ((4, False), (5, True)):
    model = keras.Sequential([keras.Input((6, 3)), layers.LSTM(units)])
    runs.clear()
    model.predict(x, verbose=0)
    assert bool(runs) == taken, units
"""
)


def test_small_passes_stay_in_programs_of_jax(tmp_path):
    needs("jax")
    result = run(["-c", SMALL], "jax", tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]


BROADCAST = (
    SETUP
    + """
one = np.random.default_rng(1).normal(size=(1, 5)).astype("float32")
for options in (
    {"initial_state": [one, one]},
    {"initial_state": [one[0], one[0]]},
    {"mask": np.arange(6)[None, :] % 3 > 0},
    {"mask": np.ones((8, 6, 1), bool)},
):
    layer = layers.LSTM(5, return_sequences=True)
    want = keras.ops.convert_to_numpy(layer(x, **options))
    with hook.enabled():
        found = keras.ops.convert_to_numpy(layer(x, **options))
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
"""
)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_states_and_masks_that_keras_broadcasts(backend, tmp_path):
    needs(backend)
    result = run(["-c", BROADCAST], backend, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]


def test_other_backends_are_refused(tmp_path):
    program = """
import sys, types
import keras
from fastlstm.integrations import keras as hook
keras.backend.backend = lambda: "openvino"
try:
    hook.enable()
except RuntimeError as error:
    assert "not on openvino" in str(error)
else:
    raise AssertionError("it was taken")
"""
    needs("numpy")
    result = run(["-c", program], "numpy", tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
