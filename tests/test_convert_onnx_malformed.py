"""ONNX files and nodes that break their specification: refused by name, as by ONNX Runtime."""

import os
import re
import struct
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from golden_files import GOLDEN

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_graphs import RandomGraph  # noqa: E402
from onnx_mutations import mutated  # noqa: E402

from fastlstm.convert import from_onnx  # noqa: E402

FILES = sorted([*GOLDEN.glob("onnx_*.onnx"), *(Path(__file__).parent / "files").glob("*.onnx")])
T, B, F, H = 4, 3, 2, 5
REFUSED = re.compile("ONNXRuntimeError|failed")
RNG = np.random.default_rng(3)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def lstm_model(directions=1, opset=14, outputs=("Y", "Y_h", "Y_c"), without=(), **changes):
    """One node with all of its inputs, and what to feed it; changes by attribute or input."""
    arrays = {
        "X": floats(T, B, F),
        "W": floats(directions, 4 * H, F),
        "R": floats(directions, 4 * H, H),
        "B": floats(directions, 8 * H),
        "sequence_lens": np.array([4, 1, 3], np.int32),
        "initial_h": floats(directions, B, H),
        "initial_c": floats(directions, B, H),
        "P": floats(directions, 3 * H),
    }
    arrays.update({name: changes.pop(name) for name in (*arrays, "more") if name in changes})
    attributes = {"hidden_size": H, **changes}
    if directions == 2:
        attributes.setdefault("direction", "bidirectional")
    attributes = {name: value for name, value in attributes.items() if value is not None}
    names = ["" if name in without else name for name in arrays]
    node = helper.make_node("LSTM", names, outputs, name="the_node", **attributes)
    constants = [name for name in ("W", "R", "B", "P") if name in names]
    fed = {n: array for n, array in arrays.items() if n in names and n not in constants}
    graph = helper.make_graph(
        [node],
        "graph",
        [declared(name, array) for name, array in fed.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(arrays[name], name) for name in constants],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), fed


def declared(name, array):
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, [None] * array.ndim)


def run_there(model, fed):
    runtime.set_default_logger_severity(4)
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return runtime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, fed)


THREE = ["Sigmoid", "Tanh", "Tanh"]
INT32 = np.int32

# What is changed, and what the message must name. The last four are those that ONNX Runtime runs:
# it takes every other number than 0 for 1, leaves numbers over that no activation takes, and has
# defaults of its own where the specification has none.
MALFORMED = {
    "length beyond T": ({"sequence_lens": np.array([5, 1, 3], INT32)}, "sequence_lens must be 0"),
    "negative length": ({"sequence_lens": np.array([4, -1, 3], INT32)}, "sequence_lens must be 0"),
    "lengths of int64": ({"sequence_lens": np.array([4, 1, 3])}, "sequence_lens"),
    "lengths of floats": ({"sequence_lens": floats(3)}, "sequence_lens"),
    "too few lengths": ({"sequence_lens": np.array([4, 1], INT32)}, r"sequence_lens .* \(3,\)"),
    "one length": ({"sequence_lens": np.array([4], INT32)}, r"sequence_lens .* \(3,\)"),
    "lengths of rank 2": ({"sequence_lens": np.ones((1, 3), INT32)}, r"sequence_lens .* \(3,\)"),
    "hidden_size above R": ({"hidden_size": H + 1}, r"W must .* \(1, 24, 2\)"),
    "hidden_size below R": ({"hidden_size": H - 1}, r"W must .* \(1, 16, 2\)"),
    "hidden_size missing": ({"hidden_size": None}, "hidden_size"),
    "hidden_size 0": ({"hidden_size": 0}, "hidden_size"),
    "hidden_size of a float": ({"hidden_size": 5.0}, "hidden_size"),
    "weights of one of two directions": ({"direction": "bidirectional"}, r"W .* \(2, 20, 2\)"),
    "weights of two for one": ({"directions": 2, "direction": "reverse"}, r"W .* \(1, 20, 2\)"),
    "four activations": ({"activations": [*THREE, "Tanh"]}, "`activations` must be 3"),
    "six for one direction": ({"activations": THREE * 2}, "`activations` must be 3"),
    "three for two": ({"directions": 2, "activations": THREE}, "`activations` must be 6"),
    "unknown activation": ({"activations": ["Sigmoid", "Swish", "Tanh"]}, "activation Swish"),
    "activations of one name": ({"activations": "Tanh"}, "`activations`"),
    "layout 2": ({"layout": 2}, "`layout` must be 0 or 1, got 2"),
    "layout before opset 14": ({"layout": 1, "opset": 11}, "layout"),
    "clip below 0": ({"clip": -1.0}, "`clip`"),
    "clip 0": ({"clip": 0.0}, "`clip`"),
    "clip nan": ({"clip": float("nan")}, "`clip`"),
    "clip of an integer": ({"clip": 1}, "`clip`"),
    "unknown attribute": ({"foo": 1}, "no attribute `foo`"),
    "internal attribute": ({"directions_": 1}, "no attribute `directions_`"),
    "unknown direction": ({"direction": "sideways"}, "`direction` .* 'sideways'"),
    "direction in capitals": ({"direction": "Forward"}, "`direction` .* 'Forward'"),
    "initial_h for one row": ({"initial_h": floats(1, 1, H)}, "initial_h must"),
    "initial_c for one row": ({"initial_c": floats(1, 1, H)}, "initial_c must"),
    "initial_h for one unit": ({"initial_h": floats(1, B, 1)}, "initial_h must"),
    "initial_h of rank 2": ({"initial_h": floats(B, H)}, "initial_h must"),
    "initial_c for one of two": ({"directions": 2, "initial_c": floats(1, B, H)}, "initial_c must"),
    "initial_h for three": ({"initial_h": floats(3, B, H)}, "initial_h must"),
    "initial_c of float64": ({"initial_c": np.ones((1, B, H))}, "initial_c"),
    "W too wide": ({"W": floats(1, 4 * H, F + 1)}, r"X must .* \(4, 3, 3\)"),
    "W of three gates": ({"W": floats(1, 3 * H, F)}, "W must"),
    "W of rank 2": ({"W": floats(4 * H, F)}, "W must"),
    "W of float64": ({"W": np.ones((1, 4 * H, F))}, "W"),
    "R not square": ({"R": floats(1, 4 * H, H + 1)}, "R must"),
    "R of two directions": ({"R": floats(2, 4 * H, H)}, "R must"),
    "B of half the length": ({"B": floats(1, 4 * H)}, "B must"),
    "B of rank 1": ({"B": floats(8 * H)}, "B must"),
    "B of two directions": ({"B": floats(2, 8 * H)}, "B must"),
    "P too long": ({"P": floats(1, 4 * H)}, "P must"),
    "P too long, and 0": ({"P": np.zeros((1, 4 * H), np.float32)}, "P must"),
    "P of two directions": ({"P": floats(2, 3 * H)}, "P must"),
    "X of rank 2": ({"X": floats(T, F)}, "First input tensor must have rank 3"),
    "X too wide": ({"X": floats(T, B, F + 1)}, "X must"),
    "X of integers": ({"X": np.ones((T, B, F), INT32)}, "X"),
    "no X": ({"without": ["X"]}, "input 0"),
    "no W": ({"without": ["W"]}, "input 1"),
    "no R": ({"without": ["R"]}, "input 2"),
    "nine inputs": ({"more": floats(1)}, "input size 9"),
    "four outputs": ({"outputs": ("Y", "Y_h", "Y_c", "Z")}, "output size 4"),
    "an output twice": ({"outputs": ("Y", "Y_h", "Y_h")}, "Y_h"),
    "input_forget 2": ({"input_forget": 2}, "`input_forget`"),
    "more alphas than takers": ({"activation_alpha": [0.1]}, "`activation_alpha`"),
    "more betas than takers": ({"activation_beta": [0.1]}, "`activation_beta`"),
    "no alpha for Affine": ({"activations": ["Sigmoid", "Affine", "Tanh"]}, "`activation_alpha`"),
}
RUNS_THERE = list(MALFORMED)[-4:]


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_node_is_refused_by_name_as_by_the_runtime(case):
    changes, message = MALFORMED[case]
    model, fed = lstm_model(**changes)
    if case in RUNS_THERE:
        run_there(model, fed)
    else:
        with pytest.raises(Exception, match=REFUSED):
            run_there(model, fed)
    with pytest.raises(ValueError, match=message) as error:
        from_onnx(model).predict(fed)
    # Two outputs of one name are no fault of the node.
    assert "the_node" in str(error.value) or case == "an output twice"


def test_the_node_that_they_are_made_from_is_well():
    for options in ({}, {"directions": 2}, {"without": ["P"], "direction": "reverse"}):
        model, fed = lstm_model(**options)
        for found, want in zip(from_onnx(model).predict(fed), run_there(model, fed), strict=True):
            np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("without", [[], ["P"]])
def test_rows_without_steps_end_as_in_the_runtime(direction, without):
    directions = 2 if direction == "bidirectional" else 1
    lengths = np.array([0, 4, 0], INT32)
    model, fed = lstm_model(directions, without=without, direction=direction, sequence_lens=lengths)
    for found, want in zip(from_onnx(model).predict(fed), run_there(model, fed), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("directions", [1, 2])
def test_layout_1_is_layout_0_with_other_axes(directions):
    # ONNX Runtime has no layout 1.
    model, fed = lstm_model(directions)
    y, h, c = from_onnx(model).predict(fed)
    swapped = {
        name: array if array.ndim == 1 else array.swapaxes(0, 1) for name, array in fed.items()
    }
    model.graph.node[0].attribute.append(helper.make_attribute("layout", 1))
    found = from_onnx(model).predict(swapped)
    for ours, want in zip(found, (y.transpose(2, 0, 1, 3), h, c), strict=True):
        assert ours.shape == (want.shape if want is not h and want is not c else (B, directions, H))
        np.testing.assert_allclose(
            ours, want if ours.ndim == 4 else want.swapaxes(0, 1), rtol=1e-5, atol=1e-6
        )


# ---- operators -----------------------------------------------------------------------------------


def operator_model(operator, arrays, version, outputs, attributes):
    names = [f"input_{place}" for place in range(len(arrays))]
    targets = [f"output_{place}" for place in range(outputs)]
    node = helper.make_node(operator, names, targets, name="the_node", **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [declared(names[0], arrays[0])],
        [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in targets],
        [numpy_helper.from_array(a, n) for n, a in zip(names[1:], arrays[1:], strict=True)],
    )
    kind = helper.np_dtype_to_tensor_dtype(arrays[0].dtype)
    for output in graph.output:
        output.type.tensor_type.elem_type = kind
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)


WELL = {
    "Slice from before the first, backwards": ("Slice", 13, 1, {}, [(4,), [-9], [-9], [0], [-1]]),
    "Slice from beyond the last, backwards": ("Slice", 13, 1, {}, [(4,), [9], [0], [0], [-2]]),
    "Split in unlike parts": ("Split", 18, 3, {"num_outputs": 3}, [(7, 2)]),
    "Split in like parts": ("Split", 11, 2, {"axis": 1}, [(2, 6)]),
    "Selu of other numbers": ("Selu", 13, 1, {"alpha": 0.5, "gamma": 2.0}, [(2, 3)]),
    "ReduceSum of integers": ("ReduceSum", 13, 1, {}, [np.arange(6, dtype=INT32).reshape(2, 3)]),
    "ReduceSum over no axes": ("ReduceSum", 13, 1, {"noop_with_empty_axes": 1}, [(2, 3), []]),
    "ReduceSum over none given": ("ReduceSum", 13, 1, {}, [(2, 3), []]),
    "Relu of integers": ("Relu", 14, 1, {}, [np.array([-2, 0, 3], INT32)]),
    "Div of integers": ("Div", 14, 1, {}, [np.array([-7, 7, 9007199254740993]), [2, -2, 1]]),
    "rank 0": ("ReduceMean", 13, 1, {"keepdims": 0}, [(2, 3)]),
    "Flatten before the first axis": ("Flatten", 13, 1, {"axis": 0}, [(2, 3)]),
}


@pytest.mark.parametrize("case", WELL)
def test_corners_of_operators_are_as_in_the_runtime(case):
    operator, version, outputs, attributes, given = WELL[case]
    arrays = [floats(*each) if isinstance(each, tuple) else np.asarray(each) for each in given]
    arrays = [array.astype(np.int64) if array.size == 0 else array for array in arrays]
    model = operator_model(operator, arrays, version, outputs, attributes)
    found = from_onnx(model).predict(arrays[0])
    wanted = run_there(model, {"input_0": arrays[0]})
    for ours, want in zip(found if outputs > 1 else [found], wanted, strict=True):
        assert (ours.shape, ours.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(ours, want, rtol=1e-5, atol=1e-6)


ILL = {
    "Reshape to -2": ("Reshape", 13, 1, {}, [(4,), [-2]]),
    "Split in parts that are too small": ("Split", 13, 2, {}, [(5,), [2, 2]]),
    "Split in parts that are too large": ("Split", 13, 2, {}, [(5,), [2, 4]]),
    "Split in negative parts": ("Split", 13, 2, {}, [(5,), [6, -1]]),
    "Split in parts that cannot be alike": ("Split", 11, 2, {}, [(5,)]),
    "Split in more parts than there are": ("Split", 18, 3, {"num_outputs": 3}, [(2,)]),
    "ReverseSequence beyond T": ("ReverseSequence", 13, 1, {}, [(3, 2), [4, 1]]),
    "ReverseSequence of a negative length": ("ReverseSequence", 13, 1, {}, [(3, 2), [-1, 1]]),
    "ReverseSequence of one length": ("ReverseSequence", 13, 1, {}, [(3, 2), [2]]),
    "Tile of two axes, repeats of one": ("Tile", 13, 1, {}, [(3, 2), [2]]),
    "Gemm of three axes": ("Gemm", 13, 1, {}, [(2, 3, 3), np.ones((3, 3), np.float32)]),
    "Gather beyond the last": ("Gather", 13, 1, {}, [(3, 2), [3]]),
    "MatMul of two types": ("MatMul", 13, 1, {}, [(3, 2), np.ones((2, 2))]),
    "Flatten beyond the last axis": ("Flatten", 13, 1, {"axis": 3}, [(3, 2)]),
    "Transpose of an axis twice": ("Transpose", 13, 1, {"perm": [0, 0]}, [(3, 2)]),
    "Concat of one row": ("Concat", 13, 1, {"axis": 0}, [(3, 2), np.ones((1, 3), np.float32)]),
}


@pytest.mark.parametrize("case", ILL)
def test_operators_that_break_their_specification_are_refused_as_by_the_runtime(case):
    operator, version, outputs, attributes, given = ILL[case]
    arrays = [floats(*each) if isinstance(each, tuple) else np.asarray(each) for each in given]
    model = operator_model(operator, arrays, version, outputs, attributes)
    with pytest.raises(Exception, match=REFUSED):
        run_there(model, {"input_0": arrays[0]})
    with pytest.raises(ValueError, match=f"{operator}.*the_node|the_node.*{operator}"):
        from_onnx(model).predict(arrays[0])


def test_switches_are_0_or_1():
    # ONNX Runtime takes every other number for 0, except where it takes it for 1.
    for operator, name in (("ReduceSum", "keepdims"), ("Reshape", "allowzero")):
        model = operator_model(operator, [floats(3, 2), np.array([1])], 14, 1, {name: 7})
        with pytest.raises(ValueError, match=f"the_node.*`{name}` must be 0 or 1, got 7"):
            from_onnx(model)


def test_whole_numbers_divided_by_0_are_refused():
    # ONNX Runtime ends the process.
    model = operator_model("Div", [np.array([4, 2]), np.array([2, 0])], 13, 1, {})
    with pytest.raises(ValueError, match=r"the_node.* divided by 0"):
        from_onnx(model).predict(np.array([4, 2]))


def test_results_are_not_the_memory_of_the_model_or_of_the_caller():
    constant = numpy_helper.from_array(floats(2, 3), "constant")
    x = declared("x", floats(2, 3))
    outputs = [declared(name, floats(2, 3)) for name in ("constant", "x", "y")]
    node = helper.make_node("Identity", ["x"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "g", [x], outputs, [constant]),
        opset_imports=[helper.make_opsetid("", 14)],
        ir_version=8,
    )
    ours, given = from_onnx(model), floats(2, 3)
    kept, first = given.copy(), [each.copy() for each in ours.predict(given)]
    for each in ours.predict(given):
        each += 1
    np.testing.assert_array_equal(given, kept)
    for found, want in zip(ours.predict(given), first, strict=True):
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize(
    "bad", [np.array([[0.5, 1.0]]), np.array([[2**40, 1]]), [["a", "b"]], np.ones((2, 2, 1), int)]
)
def test_an_input_of_whole_numbers_takes_none_that_would_change(bad):
    table = numpy_helper.from_array(floats(9, 2), "table")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT32, [None, 2])
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [ids], [y], [table])
    model = from_onnx(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    )
    assert model.predict(np.array([[8, 1]])).shape == (1, 2, 2)
    with pytest.raises(ValueError, match="'ids'"):
        model.predict(bad)


# ---- files ---------------------------------------------------------------------------------------


def dense_model(**entries):
    """x @ w, with w in another file."""
    w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 2])
    w.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        w.external_data.add(key=key, value=str(value))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        [w],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


@pytest.fixture
def folder(tmp_path):
    """model/weights.bin with the weights from byte 8 on, and the same beside the folder."""
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    for place in (folder, folder / "inner", tmp_path):
        (place / "weights.bin").write_bytes(b"12345678" + struct.pack("6f", *range(6)))
    return folder


GOOD = [
    {"location": "weights.bin", "offset": 8, "length": 24},
    {"location": "weights.bin", "offset": 8},
    {"location": "inner/weights.bin", "offset": 8, "checksum": "none"},
]


@pytest.mark.parametrize("entries", GOOD)
def test_external_data_beside_the_model_are_read(folder, entries, monkeypatch):
    monkeypatch.chdir("/")
    (folder / "model.onnx").write_bytes(dense_model(**entries).SerializeToString())
    found = from_onnx(folder / "model.onnx").predict(np.eye(3))
    np.testing.assert_array_equal(found, np.arange(6.0).reshape(3, 2))


def test_external_data_may_be_shared_but_not_without_end(folder):
    model = dense_model(location="weights.bin", offset=8)
    first = model.graph.initializer[0]
    for count, fails in ((100, False), (140, True)):
        while len(model.graph.initializer) < count:
            model.graph.initializer.add().CopyFrom(first)
            model.graph.initializer[-1].name = f"w{len(model.graph.initializer)}"
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match="100 times") if fails else nullcontext():
            from_onnx(folder / "model.onnx")


BAD = [
    ({"location": "../weights.bin", "offset": 8}, "`location`"),
    ({"location": "inner/../weights.bin", "offset": 8}, "`location`"),
    ({"location": "link.bin", "offset": 8}, "`location`"),
    ({"location": "linked/weights.bin", "offset": 8}, "`location`"),
    ({"location": "inner"}, "`location`"),
    ({"location": "pipe"}, "`location`"),
    ({"location": ""}, "`location`"),
    ({}, "`location`"),
    ({"location": "weights.bin", "offset": 12}, "bytes 12 to 36 .* has 32"),
    ({"location": "weights.bin", "offset": 2**70}, "bytes"),
    ({"location": "weights.bin", "offset": -8}, "`offset`"),
    ({"location": "weights.bin", "offset": "eight"}, "`offset`"),
    ({"location": "weights.bin", "offset": 8, "length": -24}, "`length`"),
    ({"location": "weights.bin", "offset": 8, "length": 20}, "`length` is 20"),
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files there")
@pytest.mark.parametrize(("entries", "message"), BAD)
def test_external_data_from_elsewhere_are_refused(folder, entries, message):
    (folder / "link.bin").symlink_to(folder.parent / "weights.bin")
    (folder / "linked").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe")
    (folder / "model.onnx").write_bytes(dense_model(**entries).SerializeToString())
    with pytest.raises(ValueError, match=message) as error:
        from_onnx(folder / "model.onnx")
    assert "model.onnx" in str(error.value)
    assert "'w'" in str(error.value)


@pytest.mark.parametrize("location", ["link.bin", "linked/weights.bin"])
def test_links_out_of_the_folder_are_told_from_other_places(folder, location):
    (folder / "link.bin").symlink_to(folder.parent / "weights.bin")
    (folder / "linked").symlink_to(folder.parent)
    (folder / "model.onnx").write_bytes(dense_model(location=location).SerializeToString())
    with pytest.raises(ValueError, match=r"link.*copy the files themselves"):
        from_onnx(folder / "model.onnx")


def test_external_data_at_an_absolute_place_and_of_a_huge_shape_are_refused(folder):
    model = dense_model(location=folder / "weights.bin", offset=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="`location`"):
        from_onnx(folder / "model.onnx")
    model = dense_model(location="weights.bin")
    model.graph.initializer[0].dims[:] = [2**40, 2**40]
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="bytes"):
        from_onnx(folder / "model.onnx")


def test_external_data_of_bytes_are_refused_wherever_they_lie(folder, monkeypatch):
    monkeypatch.chdir(folder)
    model = dense_model(location="weights.bin", offset=8)
    for source in (model, model.SerializeToString()):
        with pytest.raises(ValueError, match="'w' lies in another file"):
            from_onnx(source)


def test_files_that_cannot_be_opened_keep_their_errors(tmp_path, folder):
    for path in (tmp_path / "none.onnx", str(tmp_path / "none.onnx")):
        with pytest.raises(FileNotFoundError):
            from_onnx(path)
    with pytest.raises(OSError, match="model"):
        from_onnx(folder)
    model = dense_model(location="none.bin")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileNotFoundError):
        from_onnx(folder / "model.onnx")


@pytest.mark.parametrize("dims", [[2**62, 2**62], [-1, 2], [6, -1], [0, 6], [5], [2**40]])
def test_shapes_that_the_data_do_not_fill_are_refused(dims):
    model = dense_model()
    tensor = model.graph.initializer[0]
    del tensor.external_data[:]
    tensor.data_location = TensorProto.DEFAULT
    tensor.raw_data = struct.pack("6f", *range(6))
    from_onnx(model)
    tensor.dims[:] = dims
    with pytest.raises(ValueError, match="the tensor 'w'"):
        from_onnx(model)


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_opsets_with_other_operators_are_refused(opset):
    model, _ = lstm_model(opset=14)
    model.opset_import[0].version = opset
    with pytest.raises(ValueError, match=f"opset must be 7 to .* got {opset}"):
        from_onnx(model)


# ---- at random -----------------------------------------------------------------------------------


def feeds(rng, model):
    """Something for the inputs that a model declares; open sizes are small ones."""
    found = {}
    for name, (dtype, shape) in model._inputs.items():
        sizes = [2 if size is None else min(size, 64) for size in shape or ()]
        values = rng.normal(size=sizes) if dtype.kind == "f" else np.ones(sizes)
        found[name] = values.astype(dtype)
    return found


def may_be_compared(model):
    """Whether the runtime takes it alive, in little time, and with no infinities on the way."""
    constants = model._constants.values()
    small = all(np.abs(a.astype(float)).max(initial=0) < 1000 for a in constants)
    return small and all(all(node.outputs) for node in model._nodes if node.operator == "Split")


def test_broken_files_are_refused_or_run_as_in_the_runtime():
    rng = np.random.default_rng(7)
    sources = [path.read_bytes() for path in FILES]
    sources += [RandomGraph(rng, 3).model().SerializeToString() for _ in range(10)]
    refused = equal = 0
    for number in range(2000):
        data = mutated(rng, sources[number % len(sources)])
        try:
            model = from_onnx(data)
            if not may_be_compared(model):
                continue
            fed = feeds(rng, model)
            found = model.predict(fed)
        except ValueError:
            refused += 1
            continue
        wanted = run_there(data, fed)
        for ours, want in zip(found if len(wanted) > 1 else [found], wanted, strict=True):
            assert (ours.shape, ours.dtype) == (want.shape, want.dtype)
            np.testing.assert_allclose(ours, want, rtol=1e-3, atol=1e-4)
        equal += 1
    assert refused > 1000
    assert equal > 200
