"""ONNX in and out: golden files, the cases of the package, PyTorch's exports, the runtime."""

import copy
import io
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from golden_files import GOLDEN, load_golden

import fastlstm
from fastlstm import layers
from fastlstm._core import lstm
from fastlstm.layers import LSTM, Bidirectional, Dense, Input, TimeDistributed

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_graphs import RandomGraph  # noqa: E402

from fastlstm.convert import from_onnx, to_onnx  # noqa: E402

CLOSE = {"rtol": 2e-5, "atol": 2e-6}
RNG = np.random.default_rng(0)
FILES = Path(__file__).parent / "files"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnx.backend.test.loader import load_model_tests

    CASES = {
        case.name: case
        for case in load_model_tests(kind="node")
        if case.name.startswith("test_lstm_")
    }


def as_list(found):
    return found if isinstance(found, list) else [found]


def run_there(path, arrays):
    """What ONNX Runtime answers."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


# ---- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("onnx_*.onnx")), ids=lambda path: path.stem)
def test_golden_files(path):
    _, arrays = load_golden(path.with_suffix(".npz"))
    model = from_onnx(path)
    found = as_list(model.predict({name: arrays[name] for name in model.input_names}))
    for name, y in zip(model.output_names, found, strict=True):
        np.testing.assert_allclose(y, arrays[name], **CLOSE)


def test_all_cases_of_the_package_are_there():
    assert len(CASES) >= 6
    assert {"test_lstm_batchwise", "test_lstm_with_peepholes"} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_cases_of_the_package(name):
    model = from_onnx(CASES[name].model)
    for inputs, outputs in CASES[name].data_sets:
        for found, want in zip(as_list(model.predict(list(inputs))), outputs, strict=True):
            np.testing.assert_allclose(found, want, **CLOSE)


def node_model(directions=1, features=3, units=4, inputs=("X", "W", "R", "B"), **attributes):
    """One LSTM node with random constants for its weights."""
    shapes = {
        "W": (directions, 4 * units, features),
        "R": (directions, 4 * units, units),
        "B": (directions, 8 * units),
        "P": (directions, 3 * units),
    }
    constants = [
        numpy_helper.from_array(RNG.normal(0, 0.5, shapes[name]).astype(np.float32), name)
        for name in inputs
        if name in shapes
    ]
    declared = [
        helper.make_tensor_value_info(
            name, TensorProto.INT32 if name == "lengths" else TensorProto.FLOAT, None
        )
        for name in inputs
        if name and name not in shapes
    ]
    if directions == 2:
        attributes["direction"] = "bidirectional"
    node = helper.make_node(
        "LSTM", list(inputs), ["Y", "Y_h", "Y_c"], hidden_size=units, **attributes
    )
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in node.output]
    graph = helper.make_graph([node], "node", declared, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8
    return model


ALL = ("X", "W", "R", "B", "lengths", "h0", "c0", "P")
NODES = [
    {},
    {"direction": "reverse", "inputs": ("X", "W", "R")},
    {"directions": 2, "inputs": ALL},
    {"inputs": ("X", "W", "R", "", "lengths")},
    {"directions": 2, "clip": 0.3},
    {"input_forget": 1, "inputs": ALL},
    {"activations": ["Relu", "Tanh", "Softsign"]},
    {"activations": ["HardSigmoid", "ScaledTanh", "LeakyRelu"], "activation_alpha": [0.3, 0.7, 0.1],
     "activation_beta": [0.4, 0.9]},
    {"directions": 2, "activations": ["Sigmoid", "Elu", "Elu", "Sigmoid", "Affine", "Tanh"],
     "activation_alpha": [0.5, 0.5, 0.6], "activation_beta": [0.1]},
]  # fmt: skip


@pytest.mark.parametrize("options", NODES, ids=range(len(NODES)))
def test_nodes_as_the_runtime_computes_them(monkeypatch, options):
    model = node_model(**options)
    directions, names = options.get("directions", 1), options.get("inputs", ("X",))
    arrays = {
        "X": RNG.normal(size=(6, 5, 3)).astype(np.float32),
        "lengths": np.array([6, 1, 4, 3, 6], np.int32),
        "h0": RNG.normal(size=(directions, 5, 4)).astype(np.float32),
        "c0": RNG.normal(size=(directions, 5, 4)).astype(np.float32),
    }
    given = [arrays[name] for name in ("X", "lengths", "h0", "c0") if name in names]
    calls = []
    real = lstm.forward
    monkeypatch.setattr(lstm, "forward", lambda *a: calls.append(1) or real(*a))
    found = from_onnx(model).predict(given)
    plain = not {"clip", "input_forget", "activations"} & set(options) and "P" not in names
    assert len(calls) == (directions if plain else 0)
    for ours, theirs in zip(found, run_there(model.SerializeToString(), given), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tagger", "states", "autoencoder"])
def test_files_of_tf2onnx(name):
    with np.load(FILES / f"tf2onnx_{name}.npz") as case:
        model = from_onnx(FILES / f"tf2onnx_{name}.onnx")
        for each in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            np.testing.assert_allclose(each.predict(case["x"]), case["y"], **CLOSE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_exports_of_torch(bidirectional, batch_first, dynamo):
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")

    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(
                3, 4, num_layers=2, bidirectional=bidirectional, batch_first=batch_first
            )
            self.head = torch.nn.Linear(8 if bidirectional else 4, 2)

        def forward(self, x):
            y = self.lstm(x)[0]
            return torch.softmax(self.head(y[:, -1] if batch_first else y[-1]), dim=-1)

    tagger = Tagger().eval()
    x = torch.randn(5, 6, 3)
    if dynamo:
        exported = torch.onnx.export(tagger, (x,), dynamo=True, verbose=False).model_proto
    else:
        buffer, axes = io.BytesIO(), {"x": {0: "first", 1: "second"}}
        torch.onnx.export(tagger, (x,), buffer, input_names=["x"], dynamic_axes=axes, dynamo=False)
        exported, x = buffer.getvalue(), torch.randn(4, 7, 3)
    found = from_onnx(exported).predict(x.numpy())
    np.testing.assert_allclose(found, tagger(x).detach().numpy(), **CLOSE)


OPERATORS = [
    ("Softmax", 11, {}, [(2, 3, 4)]),
    ("Softmax", 11, {"axis": -1}, [(2, 3, 4)]),
    ("Softmax", 13, {}, [(2, 3, 4)]),
    ("Softmax", 13, {"axis": 1}, [(2, 3, 4)]),
    ("ReverseSequence", 13, {"time_axis": 0, "batch_axis": 1}, [(4, 3, 2), [4, 1, 3]]),
    ("ReverseSequence", 13, {"time_axis": 1, "batch_axis": 0}, [(3, 4, 2), [4, 1, 3]]),
    ("Tile", 13, {}, [(2, 3), [2, 1]]),
    ("Pow", 13, {}, [(2, 3), np.array(2.0, np.float32)]),
    ("Neg", 13, {}, [(2, 3)]),
    ("Sqrt", 13, {}, [np.array([0.0, 2.0, 9.0], np.float32)]),
    ("Squeeze", 11, {"axes": [0, 2]}, [(1, 3, 1)]),
    ("Squeeze", 13, {}, [(1, 3, 1), [0, 2]]),
    ("Slice", 9, {"starts": [1], "ends": [3], "axes": [1]}, [(2, 4)]),
    ("Slice", 13, {}, [(2, 4), [-1], [-9], [1], [-2]]),
    ("Reshape", 13, {}, [(2, 3, 4), [0, -1]]),
    ("Concat", 13, {"axis": -1}, [(2, 3), (2, 4)]),
    ("Gemm", 13, {"transB": 1, "alpha": 0.5, "beta": 2.0}, [(2, 3), (4, 3), (4,)]),
    ("ReduceMean", 11, {"axes": [1], "keepdims": 0}, [(2, 3)]),
    ("Split", 13, {"axis": 1}, [(2, 5), [2, 3]]),
]


@pytest.mark.parametrize(("operator", "version", "attributes", "given"), OPERATORS)
def test_operators_as_the_runtime_computes_them(operator, version, attributes, given):
    arrays = [
        RNG.normal(size=each).astype(np.float32)
        if isinstance(each, tuple)
        else np.asarray(each, getattr(each, "dtype", np.int64))
        for each in given
    ]
    names = [f"input_{place}" for place in range(len(arrays))]
    outputs = ["Y", "Z"] if operator == "Split" else ["Y"]
    node = helper.make_node(operator, names, outputs, **attributes)
    # What says where or how often is a constant, as the exporters write it.
    initializers = [
        numpy_helper.from_array(array, name)
        for name, array in zip(names[1:], arrays[1:], strict=True)
    ]
    source = [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, arrays[0].shape)]
    targets = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph([node], "one", source, targets, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    found = from_onnx(model).predict(arrays[0])
    wanted = run_there(model.SerializeToString(), arrays[:1])
    for ours, theirs in zip(as_list(found), wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_random_graphs_as_the_runtime_computes_them():
    seen = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        made = RandomGraph(rng, length=int(rng.integers(1, 8)))
        model = made.model()
        (want,) = run_there(model.SerializeToString(), made.inputs.values())
        found = from_onnx(model).predict(made.inputs)
        assert (found.shape, found.dtype) == (want.shape, want.dtype), (seed, made.operators)
        np.testing.assert_allclose(
            found, want, rtol=1e-4, atol=1e-5, err_msg=f"{seed}: {made.operators}"
        )
        seen.update(made.operators)
    assert seen == {name[4:] for name in dir(RandomGraph) if name.startswith("add_")}


def test_everything_that_is_not_there_is_named_at_once():
    nodes = [
        helper.make_node("GRU", ["X", "W", "R"], ["Y"], name="gru", hidden_size=2),
        helper.make_node("Relu", ["Y"], ["Z"], name="fine"),
        helper.make_node("Own", ["Z"], ["Q"], name="own", domain="my.domain"),
        helper.make_node("LSTM", ["Q", "W", "R"], ["L"], name="lstm", hidden_size=0, clip=-1.0),
    ]
    source = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "XWR"]
    target = [helper.make_tensor_value_info("Q", TensorProto.FLOAT, None)]
    model = helper.make_model(helper.make_graph(nodes, "strange", source, target))
    with pytest.raises(ValueError, match="gru") as error:
        from_onnx(model)
    assert "my.domain.Own" in str(error.value)
    assert "`hidden_size`" in str(error.value)
    assert "`clip`" in str(error.value)
    assert "fine" not in str(error.value)
    with pytest.raises(ValueError, match="activation Swish"):
        from_onnx(node_model(activations=["Swish", "Tanh", "Tanh"]))


def test_what_is_no_model_and_data_that_do_not_fit(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x80\x04pickle")
    for source in (tmp_path / "model.onnx", b"nothing"):
        with pytest.raises(ValueError, match="no ONNX model"):
            from_onnx(source)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "none.onnx")
    model = from_onnx(node_model())
    for bad, message in (
        (np.ones((5, 2, 4)), r"X must have the shape \(5, 2, 3\)"),
        ([np.ones((5, 2, 3))] * 2, "got 2 arrays"),
        ({"Z": 1}, r"got \['Z'\]"),
        (np.ones(3), "X must have the shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model.predict(bad)


# ---- writing -----------------------------------------------------------------------------------


def stacked():
    return fastlstm.Sequential(
        [
            Input((None, 3)),
            Bidirectional(LSTM(4, return_sequences=True), "ave"),
            layers.Dropout(0.3),
            TimeDistributed(Dense(5, activation="relu")),
            LSTM(3, go_backwards=True, return_sequences=True, activation="softsign"),
            LSTM(4, recurrent_activation="hard_sigmoid", use_bias=False),
            layers.RepeatVector(3),
            LSTM(2, return_sequences=True, activation="leaky_relu"),
            layers.Permute((2, 1)),
            layers.Flatten(),
            Dense(2, activation="softmax"),
        ]
    )


def branched():
    words, series = Input((4,), dtype="int32", name="words"), Input((4, 3), name="series")
    shared = LSTM(3, return_sequences=True)
    inner = fastlstm.Sequential([LSTM(3, input_shape=(4, 3)), Dense(2)], name="inner")
    a, b = shared(series), shared(layers.Activation("tanh")(series))
    joined = layers.Concatenate()(
        [layers.Embedding(9, 2)(words), layers.Add()([a, b]), layers.Multiply()([a, b])]
    )
    y, h, c = LSTM(6, return_state=True)(joined)
    other = layers.Reshape((3, 4))(layers.Average()([a, b]))
    z = LSTM(6)(other, initial_state=[h, c])
    both = Bidirectional(LSTM(2), merge_mode="mul")(series)
    return fastlstm.Model(
        [words, series], {"y": Dense(1)(y), "z": z, "inner": inner(a), "both": both}
    )


INPUTS = {
    stacked: [RNG.normal(size=(5, 6, 3)).astype(np.float32)],
    branched: [
        RNG.integers(0, 9, (5, 4)).astype(np.int32),
        RNG.normal(size=(5, 4, 3)).astype(np.float32),
    ],
}


def assert_written(model, arrays, path):
    """The file of a model answers as the model does, in ONNX Runtime and here."""
    for weight in model.weights:
        weight.assign(RNG.normal(0, 0.5, weight.shape))
    to_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    predicted = model.predict(arrays if len(arrays) > 1 else arrays[0])
    want = list(predicted.values()) if isinstance(predicted, dict) else as_list(predicted)
    for answer in (as_list(from_onnx(path).predict(arrays)), run_there(path, arrays)):
        for found, expected in zip(answer, want, strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("make", INPUTS)
def test_models_for_the_runtime(make, tmp_path):
    assert_written(make(), INPUTS[make], tmp_path / "model.onnx")


@pytest.mark.parametrize("merge", ["Add", "Multiply", "Average"])
@pytest.mark.parametrize("batch", [2, 3])
def test_arrays_of_unlike_ranks_merge_behind_the_batch(merge, batch, tmp_path):
    x, y = Input((4,)), Input((3, 4))
    model = fastlstm.Model([x, y], getattr(layers, merge)()([y, x, x]))
    arrays = [RNG.normal(size=(batch, *shape)).astype(np.float32) for shape in ((4,), (3, 4))]
    assert_written(model, arrays, tmp_path / "model.onnx")


def test_layers_of_one_name_keep_their_own_weights(tmp_path):
    inner = fastlstm.Sequential([Input((4,)), Dense(4, name="dense")], name="inner")
    x = Input((4,))
    model = fastlstm.Model(x, Dense(4, name="dense")(inner(x)))
    assert_written(model, [RNG.normal(size=(3, 4)).astype(np.float32)], tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["a_output", "MatMul_0_0", "a.kernel", "x/y", "b"])
def test_inputs_may_have_the_names_of_what_is_made(name, tmp_path):
    x, y = Input((4,), name=name), Input((4,), name="x_y")
    model = fastlstm.Model([x, y], {"a": Dense(2, name="a")(layers.Add()([x, y]))})
    arrays = [RNG.normal(size=(3, 4)).astype(np.float32) for _ in range(2)]
    assert_written(model, arrays, tmp_path / "model.onnx")


def test_sequences_of_unlike_lengths(tmp_path):
    x, y = Input((None, 4)), Input((None, 4))
    model = fastlstm.Model([x, y], [LSTM(3, return_sequences=True)(x), LSTM(3)(y)])
    arrays = [RNG.normal(size=(2, steps, 4)).astype(np.float32) for steps in (5, 3)]
    assert_written(model, arrays, tmp_path / "model.onnx")


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_indices_that_come_as_floats(dtype, tmp_path):
    model = fastlstm.Sequential([Input((4,), dtype=dtype), layers.Embedding(9, 3), LSTM(2)])
    assert_written(model, [RNG.integers(0, 9, (2, 4)).astype(dtype)], tmp_path / "model.onnx")


def random_model(rng):
    """A chain of layers on sequences (B, T, 3), with branches that come together again."""
    x = y = Input((4 if rng.random() < 0.5 else None, 3))
    fixed = x.shape[1] is not None
    activations = ["elu", "hard_sigmoid", "leaky_relu", "linear", "relu", "sigmoid", "softplus",
                   "softsign", "tanh"]  # fmt: skip

    def recurrent(**options):
        return LSTM(
            int(rng.integers(1, 5)),
            activation=str(rng.choice(activations)),
            recurrent_activation=str(rng.choice(["sigmoid", "hard_sigmoid", "tanh"])),
            use_bias=bool(rng.random() < 0.7),
            **options,
        )

    def turned(y):
        return recurrent(return_sequences=True, go_backwards=bool(rng.random() < 0.5))(y)

    def two_ways(y):
        mode = str(rng.choice(["concat", "sum", "mul", "ave"]))
        return Bidirectional(recurrent(return_sequences=True), merge_mode=mode)(y)

    def dense(y):
        activation = str(rng.choice([*activations, "exponential", "selu", "softmax"]))
        y = layers.Activation("tanh")(y)
        return TimeDistributed(Dense(int(rng.integers(1, 5)), activation=activation))(y)

    def merged(y):
        kind = [layers.Add, layers.Multiply, layers.Average, layers.Concatenate]
        other = Dense(y.shape[-1])(y)
        return kind[int(rng.integers(4))]()([y, other])

    def shifted(y):
        return layers.Add()([y, Dense(y.shape[-1])(recurrent()(y))])

    def from_states(y):
        units = int(rng.integers(1, 5))
        _, h, c = LSTM(units, return_state=True)(y)
        return LSTM(units, return_sequences=True)(y, initial_state=[h, c])

    def nested(y):
        z = Input(y.shape[1:])
        return fastlstm.Model(z, Dense(3, name="dense")(turned(z)))(y)

    def permuted(y):
        return layers.Permute((2, 1))(layers.Reshape((y.shape[2], 4))(y)) if fixed else y

    steps = [turned, two_ways, dense, merged, shifted, from_states, nested, permuted]
    for _ in range(int(rng.integers(1, 6))):
        y = steps[int(rng.integers(len(steps)))](y)
    ends = [y, recurrent()(y), layers.RepeatVector(2)(recurrent()(y))]
    if fixed:
        ends.append(layers.Flatten()(y))
    return fastlstm.Model(x, ends)


def test_random_models_for_the_runtime(tmp_path):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        model = random_model(rng)
        assert_written(model, [rng.normal(size=(3, 4, 3)).astype(np.float32)], tmp_path / "model")


def test_everything_that_cannot_be_written_is_named_at_once(tmp_path):
    source = Input((4, 3))
    y = layers.Masking(name="masking")(source)
    y = LSTM(3, return_sequences=True, activation="selu", name="selu")(y)
    y = LSTM(3, return_sequences=True, name="fine")(y)
    y = layers.LayerNormalization(name="norm")(y)
    y = Dense(3, activation="silu", name="silu")(y)
    with pytest.raises(ValueError, match="masking") as error:
        to_onnx(fastlstm.Model(source, y), tmp_path / "model.onnx")
    for name, there in (("selu", 1), ("norm", 1), ("silu", 1), ("fine", 0)):
        assert (f'"{name}"' in str(error.value)) == there
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="not built"):
        to_onnx(fastlstm.Sequential([LSTM(2)]), tmp_path / "model.onnx")
