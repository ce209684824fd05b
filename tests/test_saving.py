"""Models in files: what comes back, what is refused, and what an interruption leaves."""

import errno
import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

import fastlstm
from fastlstm import (
    Input,
    Model,
    Sequential,
    initializers,
    load_model,
    losses,
    metrics,
    optimizers,
    regularizers,
    saving,
)
from fastlstm.callbacks import BackupAndRestore, Callback
from fastlstm.layers import (
    LSTM,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Lambda,
    Layer,
    LayerNormalization,
    Masking,
    RepeatVector,
    TimeDistributed,
    base,
    deserialize,
    serialize,
)
from fastlstm.saving import model_file
from fastlstm.saving.blame import raised_by_program
from fastlstm.saving.safetensors import atomic_writer, read_tensors, write_tensors

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 6, 3)), RNG.normal(size=(20, 2))
FILES = Path(__file__).parent / "files"


def stacked():
    model = Sequential(
        [
            Input(shape=(None, 3)),
            Masking(),
            Bidirectional(LSTM(4, return_sequences=True, recurrent_dropout=0.2)),
            Dropout(0.3),
            LSTM(5, dropout=0.1),
            Dense(2, kernel_regularizer="l2"),
        ]
    )
    model.compile(optimizers.Adam(0.01, clipnorm=1.0), loss="mse", metrics=["mae"])
    return model


def branched():
    words, series = Input(shape=(4,), dtype="int32", name="words"), Input((6, 3), name="series")
    inner = Sequential([LSTM(3, input_shape=(6, 3)), RepeatVector(4)], name="inner")
    joined = Concatenate()([Embedding(7, 2)(words), inner(series)])
    shared = TimeDistributed(Dense(2, activation="relu"))
    label = Dense(3, activation="softmax", name="label")(LSTM(4)(shared(joined)))
    level = LayerNormalization(name="level")(LSTM(2, dtype="float64")(joined))
    model = Model({"words": words, "series": series}, {"label": label, "level": level})
    model.compile(
        optimizers.SGD(optimizers.schedules.ExponentialDecay(0.1, 5, 0.9), momentum=0.9),
        loss={"label": "sparse_categorical_crossentropy", "level": losses.Huber(0.5)},
        loss_weights={"label": 2.0, "level": 0.5},
        metrics={"label": ["accuracy", metrics.SparseCategoricalCrossentropy()]},
    )
    return model


BRANCHED_X = {"words": RNG.integers(0, 7, (20, 4)), "series": X}
BRANCHED_Y = {"label": RNG.integers(0, 3, (20, 1)), "level": Y}
MODELS = [(stacked, X, Y), (branched, BRANCHED_X, BRANCHED_Y)]


def assert_same_weights(model, other):
    for found, want in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(found.value, want.value, err_msg=want.path)


@pytest.mark.parametrize(("make", "x", "y"), MODELS)
def test_training_goes_on_bit_for_bit(tmp_path, make, x, y):
    model = make()
    model.fit(x, y, epochs=2, batch_size=7, verbose=0)
    model.save(tmp_path / "model.safetensors", include_optimizer=True)
    again = load_model(tmp_path / "model.safetensors")
    assert_same_weights(again, model)
    for each in (model, again):
        fastlstm.utils.set_random_seed(3)
        each.fit(x, y, epochs=2, batch_size=7, verbose=0)
    assert_same_weights(again, model)
    found, want = (each.evaluate(x, y, verbose=0, return_dict=True) for each in (again, model))
    assert found == want


@pytest.mark.parametrize(("make", "x", "y"), MODELS)
def test_without_the_optimizer_and_weights_alone(tmp_path, make, x, y):
    model = make()
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert again.optimizer.iterations == 0
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert load_model(tmp_path / "model.safetensors", compile=False).compiled is False
    model.save_weights(tmp_path / "weights.safetensors")
    # The layers of a model made anew are numbered on.
    other = make()
    other.load_weights(tmp_path / "weights.safetensors")
    assert_same_weights(other, model)
    again.set_weights([np.zeros(w.shape) for w in again.weights])
    again.load_weights(tmp_path / "weights.safetensors")
    assert_same_weights(again, model)
    with pytest.raises(ValueError, match="weights alone"):
        load_model(tmp_path / "weights.safetensors")


def test_weights_of_another_model_change_nothing(tmp_path):
    model = Sequential([LSTM(3, input_shape=(None, 2), name="a"), Dense(1, name="b")])
    model.save(tmp_path / "model.safetensors")
    for other in (
        Sequential([LSTM(3, input_shape=(None, 2), name="a"), Dense(2, name="c")]),
        Sequential([LSTM(4, input_shape=(None, 2), name="a"), Dense(1, name="b")]),
        Sequential([LSTM(3, input_shape=(None, 2), name="a")]),
    ):
        before = other.get_weights()
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            other.load_weights(tmp_path / "model.safetensors")
        for found, want in zip(other.get_weights(), before, strict=True):
            np.testing.assert_array_equal(found, want)


def test_weights_that_training_ruined_are_not_lost(tmp_path):
    model = Sequential([Dense(2, input_shape=(3,))])
    model.weights[0].restore(np.full((3, 2), np.nan))
    model.save(tmp_path / "model.safetensors")
    assert np.isnan(load_model(tmp_path / "model.safetensors").get_weights()[0]).all()


def test_layers_of_one_name_in_two_models(tmp_path):
    inner = Sequential([Dense(2, input_shape=(2,), name="same")], name="inner")
    model = Sequential([Dense(2, input_shape=(2,), name="same"), inner])
    model.save(tmp_path / "model.safetensors")
    assert_same_weights(load_model(tmp_path / "model.safetensors"), model)


def twice(x):
    return 2 * x


def off(y_true, y_pred):
    return np.abs(y_true - y_pred).mean(axis=-1)


def test_functions_of_the_program(tmp_path):
    model = Sequential([Dense(2, input_shape=(3,)), Lambda(twice)])
    model.compile(loss="mse", metrics=[off])
    path = tmp_path / "model.safetensors"
    model.save(path)
    with pytest.raises(ValueError, match="custom_objects"):
        load_model(path)
    again = load_model(path, custom_objects={"off": off, "twice": twice})
    assert again.evaluate(X[:, 0], Y, verbose=0) == model.evaluate(X[:, 0], Y, verbose=0)
    nameless = Sequential([Dense(2, input_shape=(3,)), Lambda(lambda x: x)])
    with pytest.raises(ValueError, match="function"):
        nameless.save(tmp_path / "nameless.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("path", ["model", "model.keras", "model.h5"])
def test_other_endings(tmp_path, path):
    with pytest.raises(ValueError, match="safetensors"):
        stacked().save(tmp_path / path)


def test_unbuilt_models_and_missing_files(tmp_path):
    with pytest.raises(ValueError, match="not built"):
        Sequential([LSTM(2)]).save(tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize(("make", "x", "y"), MODELS)
@pytest.mark.parametrize("copy", [deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_train_on_bit_for_bit(make, x, y, copy):
    model = make()
    model.fit(x, y, batch_size=7, verbose=0)
    twin = copy(model)
    for each in (model, twin):
        fastlstm.utils.set_random_seed(3)
        each.fit(x, y, batch_size=7, verbose=0)
    assert_same_weights(twin, model)


def predictions_and_update(model):
    """What a worker does with a model that was sent to it."""
    found = model.predict(X, verbose=0)
    fastlstm.utils.set_random_seed(3)
    model.fit(X, Y, batch_size=7, verbose=0)
    return found, model


def assert_same_results(results, model):
    want, trained = predictions_and_update(deepcopy(model))
    for found, twin in results:
        np.testing.assert_array_equal(found, want)
        assert_same_weights(twin, trained)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_models_go_to_other_processes_and_come_back(method):
    model = stacked()
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.map_async(predictions_and_update, [model] * 3).get(120)
    assert_same_results(results, model)


def test_joblib_workers():
    joblib = pytest.importorskip("joblib")
    model = stacked()
    work = joblib.delayed(predictions_and_update)
    results = joblib.Parallel(n_jobs=2, timeout=120)(work(each) for each in [model] * 3)
    assert_same_results(results, model)


# ---- the file format ---------------------------------------------------------------------------


def test_the_library_reads_what_we_write_and_we_what_it_writes(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    from safetensors import safe_open

    arrays = {
        "matrix": RNG.normal(size=(3, 5)).astype(np.float32),
        "scalar": np.array(7),
        "empty": np.zeros((0, 4)),
        "bytes": np.arange(5, dtype=np.uint8),
        "turned": np.asfortranarray(RNG.normal(size=(4, 3))),
        "big": np.arange(4, dtype=">f4"),
        "flags": np.array([True, False, True]),
    }
    write_tensors(tmp_path / "ours.safetensors", arrays, {"text": "with \u00fc"})
    found = library.load_file(tmp_path / "ours.safetensors")
    with safe_open(tmp_path / "ours.safetensors", "np") as file:
        assert file.metadata() == {"text": "with \u00fc"}
    own = {name: np.ascontiguousarray(a, a.dtype.newbyteorder("=")) for name, a in arrays.items()}
    own["scalar"] = arrays["scalar"]
    library.save_file(own, tmp_path / "theirs.safetensors")
    again, _ = read_tensors(tmp_path / "theirs.safetensors")
    for name, want in arrays.items():
        np.testing.assert_array_equal(found[name], want)
        np.testing.assert_array_equal(again[name], want)
        assert again[name].shape == want.shape


def test_other_tools_read_a_model(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    model = stacked()
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.safetensors", include_optimizer=True)
    with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
        # Tools of Hugging Face refuse files that do not say so.
        assert file.metadata()["format"] == "pt"
        for weight in model.weights:
            np.testing.assert_array_equal(file.get_tensor(weight.path), weight.value)


def test_a_file_of_every_format_version():
    """Written by the version that introduced the format; never to be written again."""
    model = load_model(FILES / "format_1.safetensors")
    with np.load(FILES / "format_1.npz") as case:
        np.testing.assert_allclose(model.predict(case["x"]), case["y"], rtol=1e-5, atol=1e-6)
        assert model.optimizer.iterations == 3
        np.testing.assert_allclose(
            model.evaluate(case["x"], case["y"] + 1, verbose=0), [1.0, 1.0], rtol=1e-5
        )


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def tensor(dtype="F32", shape=(1,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def header_of_names(count):
    """As many empty tensors."""
    empty = b'":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return b"{" + b",".join(b'"%d%s' % (number, empty) for number in range(count)) + b"}"


HOSTILE = {
    "a header of half a million names": file_of(header_of_names(500_000)),
    "nothing": b"",
    "no header": b"\x01\x02",
    "a header longer than the file": file_of({}, length=10**6),
    "a header longer than memory": file_of({}, length=2**64 - 1),
    "no JSON": file_of(b"\x80\x04pickle"),
    "nested without end": file_of(b"[" * 100_000),
    "a list": file_of([1]),
    "texts that are none": file_of({"__metadata__": {"a": 1}}),
    "a name twice": file_of(
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
        b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    ),
    "an unknown type": file_of({"a": tensor("OBJECT")}, bytes(4)),
    "a huge shape": file_of({"a": tensor(shape=(2**40, 2**40))}, bytes(4)),
    "a shape that wraps around": file_of({"a": tensor(shape=(2**62, 4), end=0)}),
    "an empty huge shape": file_of({"a": tensor(shape=(2**62, 2**62, 0), end=0)}),
    "a negative size": file_of({"a": tensor(shape=(-1, -1))}, bytes(4)),
    "a size that is none": file_of({"a": tensor(shape=(1.0,))}, bytes(4)),
    "a size that is true": file_of({"a": tensor(shape=(True,))}, bytes(4)),
    "offsets that overlap": file_of({"a": tensor(), "b": tensor()}, bytes(8)),
    "offsets beyond the file": file_of({"a": tensor(begin=0, end=4)}, bytes(3)),
    "a hole": file_of({"a": tensor(begin=4, end=8)}, bytes(8)),
    "more data": file_of({"a": tensor()}, bytes(8)),
    "not ours": file_of({"a": tensor()}, bytes(4)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files(tmp_path, content):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="hostile"):
        load_model(path)


def spec(class_name, **config):
    return {"class_name": class_name, "config": config}


DEEP: dict = {"class_name": "Dense", "config": {"units": 1}}
for _ in range(400):
    DEEP = spec("TimeDistributed", layer=DEEP)

HOSTILE_MODELS = {
    "no JSON": "{",
    "no description": 5,
    "no class": spec("os.system"),
    "a layer": spec("Dense", units=2),
    "no config": {"class_name": "Sequential"},
    "a config that is none": {"class_name": "Sequential", "config": 3},
    "too many units": spec(
        "Sequential",
        name="s",
        layers=[spec("Dense", units=10**9, input_shape=[10**9])],
    ),
    "too many states": spec(
        "Sequential",
        name="s",
        layers=[spec("LSTM", units=2, stateful=True, batch_input_shape=[2**50, 1, 1])],
    ),
    "units that are none": spec(
        "Sequential", name="s", layers=[spec("LSTM", units="3", input_shape=[1, 1])]
    ),
    "a function": spec(
        "Sequential",
        name="s",
        layers=[spec("Lambda", function={"function": "os.system"}, input_shape=[1])],
    ),
    "too deep": spec("Sequential", name="s", layers=[DEEP]),
    "more layers than the weights are for": spec(
        "Sequential",
        name="s",
        layers=[spec("Dropout", rate=0.5, input_shape=[2]) for _ in range(20_000)],
    ),
    "more uses of a layer than the weights are for": spec(
        "Model", name="m", layers=[], calls=[[0, 0]] * 20_000, inputs=[], outputs=[]
    ),
    "places that are none": spec(
        "Model", name="m", trainable=True, layers=[], calls=[], inputs=[[9, 9]], outputs=[[0, 0]]
    ),
}


@pytest.mark.parametrize("description", HOSTILE_MODELS.values(), ids=HOSTILE_MODELS)
def test_hostile_descriptions(tmp_path, description):
    path = tmp_path / "hostile.safetensors"
    text = description if isinstance(description, str) else json.dumps(description)
    texts = {"fastlstm_version": "0", "format_version": "1", "model": text}
    write_tensors(path, {"a": np.zeros(3)}, texts)
    with pytest.raises(ValueError, match="hostile"):
        load_model(path)


# ---- whose fault it is -------------------------------------------------------------------------


class Stubborn(fastlstm.layers.Layer):
    """A layer of the program that fails where it is told to."""

    fails_in, error = "", AssertionError

    @classmethod
    def _fail(cls, where):
        if cls.fails_in == where:
            raise cls.error("the program's own")

    @classmethod
    def from_config(cls, config):
        cls._fail("from_config")
        return cls(**config)

    def build(self, input_shape):
        self._fail("build")
        self.scale = self.add_weight((input_shape[-1],))

    def call(self, inputs):
        self._fail("call")
        return inputs * self.scale.value


@pytest.mark.parametrize("error", [AssertionError, AttributeError, KeyError, TypeError, ValueError])
@pytest.mark.parametrize("where", ["from_config", "build", "call"])
def test_errors_of_the_programs_own_classes_go_through(tmp_path, monkeypatch, where, error):
    model = Sequential([Input((3,)), Stubborn(name="own")])
    model.save(tmp_path / "model.safetensors")
    assert_same_weights(load_model(tmp_path / "model.safetensors"), model)
    monkeypatch.setattr(Stubborn, "fails_in", where)
    monkeypatch.setattr(Stubborn, "error", error)
    with pytest.raises(error, match=r"^\W?the program's own\W?$"):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize("names", [{}, {"__name__": None}])
def test_errors_of_code_without_a_module_are_the_programs(names):
    with pytest.raises(KeyError) as caught:
        exec("raise KeyError", dict(names))
    assert raised_by_program(caught.value)


def test_settings_that_a_class_of_the_program_does_not_take_are_the_files_fault(tmp_path):
    description = spec("Sequential", name="s", layers=[spec("Stubborn", name="own", strange=1)])
    texts = {"fastlstm_version": "0", "format_version": "1", "weights": "[]"}
    write_tensors(tmp_path / "m.safetensors", {}, {**texts, "model": json.dumps(description)})
    with pytest.raises(ValueError, match=r"m\.safetensors.*strange"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("version", "message"), [("2", "later"), ("", "version"), ("\u0663", "ver")]
)
def test_other_versions(tmp_path, version, message):
    path = tmp_path / "model.safetensors"
    write_tensors(path, {}, {"fastlstm_version": "0", "format_version": version, "model": "{}"})
    with pytest.raises(ValueError, match=message):
        load_model(path)


# ---- interruptions -----------------------------------------------------------------------------

SAVE_FOR_EVER = """
import sys
import numpy as np
import fastlstm

model = fastlstm.Sequential([fastlstm.layers.Dense(300, input_shape=(300,), name="a")])
number = 0
while True:
    number += 1
    model.set_weights([np.full((300, 300), number), np.full(300, number)])
    model.save(sys.argv[1])
    print(number, flush=True)
"""


def test_a_process_killed_while_it_saves(tmp_path):
    path = tmp_path / "model.safetensors"
    rng = np.random.default_rng(0)
    for _ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOR_EVER, str(path)], stdout=subprocess.PIPE
        )
        child.stdout.readline()
        time.sleep(rng.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        last = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        kernel, bias = load_model(path).get_weights()
        number = kernel[0, 0]
        assert (kernel == number).all()
        assert (bias == number).all()
        assert number >= int(last[-1] if last else 1)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    model = stacked()
    model.save(path)
    before = path.read_bytes()

    def fail(handle):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk is full"):
        model.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_links_and_permissions_stay(tmp_path):
    model, real, link = stacked(), tmp_path / "real.safetensors", tmp_path / "link.safetensors"
    model.save(real)
    assert real.stat().st_mode & 0o777 == 0o666 & ~_umask()
    real.chmod(0o640)
    link.symlink_to(real)
    model.save(link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


SAVE_HALF = """
import sys, time
from fastlstm.saving.safetensors import atomic_writer

with atomic_writer(sys.argv[1]) as file:
    file.write(bytes(1000))
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def test_what_killed_programs_leave_is_removed_and_what_running_ones_write_is_not(tmp_path):
    path, other = tmp_path / "model.safetensors", tmp_path / "model.safetensors.safetensors"
    command = [sys.executable, "-c", SAVE_HALF]
    started = [
        subprocess.Popen([*command, str(target)], stdout=subprocess.PIPE)
        for target in (path, path, other)
    ]
    for child in started:
        assert child.stdout.readline() == b"half\n"
    unfinished = set(tmp_path.iterdir())
    assert len(unfinished) == 3
    killed, running, killed_at_another = started
    for child in (killed, killed_at_another):
        child.kill()
        child.wait()
    try:
        with atomic_writer(path) as file:
            # Nor what a thread of this program is writing.
            stacked().save(path)
            file.write(b"whole")
        assert path.read_bytes() == b"whole"
        left = set(tmp_path.iterdir()) & unfinished
        # One is being written, the other is not of this file.
        assert len(left) == 2
        assert sum(name.name.startswith(".model.safetensors.safetensors.") for name in left) == 1
    finally:
        running.kill()
        for child in started:
            child.wait()
            child.stdout.close()
    stacked().save(path)
    stacked().save(other)
    assert set(tmp_path.iterdir()) == {path, other}


def test_programs_that_save_to_one_name_at_once(tmp_path):
    path = tmp_path / "model.safetensors"
    children = [
        subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout.readline()
        for _ in range(30):
            kernel, bias = load_model(path).get_weights()
            assert (kernel == kernel[0, 0]).all()
            assert (bias == kernel[0, 0]).all()
        assert [child.poll() for child in children] == [None, None]
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()
    stacked().save(path)
    assert list(tmp_path.iterdir()) == [path]


SAVE_ON_A_FULL_DISK = """
import resource, sys
import fastlstm

model = fastlstm.Sequential([fastlstm.layers.Dense(300, input_shape=(300,))])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    model.save(sys.argv[1])
except OSError as error:
    print(type(error).__name__, error.errno)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.safetensors"
    stacked().save(path)
    before = path.read_bytes()
    found = subprocess.run(
        [sys.executable, "-c", SAVE_ON_A_FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["OSError", str(errno.EFBIG)]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_folders_that_cannot_be_written_to(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(PermissionError):
        stacked().save(folder / "model.safetensors")
    with pytest.raises(IsADirectoryError):
        load_model(folder)


@pytest.mark.parametrize("kind", [str, bytes, Path])
def test_paths_of_all_kinds(tmp_path, kind):
    model, path = stacked(), kind(tmp_path / "model.safetensors")
    model.save(path)
    assert_same_weights(load_model(path), model)
    model.save_weights(path)
    model.load_weights(path)
    with pytest.raises(ValueError, match=r"model\.keras"):
        model.save(kind(tmp_path / "model.keras"))
    with pytest.raises(TypeError, match="BytesIO"):
        load_model(io.BytesIO())


def test_more_than_a_header_may_hold_is_not_saved(tmp_path):
    many = Sequential([Input((3,)), *[Dropout(0.1) for _ in range(1001)]])
    with pytest.raises(ValueError, match=r"Sequential.*layers"):
        many.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="header"):
        write_tensors(tmp_path / "model.safetensors", {}, {"long": "x" * 16_000_000})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("optimizer", ["adam", "nadam", "rmsprop"])
@pytest.mark.parametrize("names", ["the same", "numbered on"])
def test_what_the_optimizer_remembers_of_frozen_weights_is_saved(tmp_path, optimizer, names):
    path = tmp_path / "model.safetensors"
    model = Sequential([Input((6, 3)), LSTM(3), Dense(4, activation="tanh"), Dense(2)])
    model.compile(optimizer, "mse")
    model.fit(X, Y, verbose=0)
    model.layers[0].trainable = model.layers[2].trainable = False
    model.fit(X, Y, verbose=0)
    model.save(path, include_optimizer=True)
    again = load_model(path)
    if names == "numbered on":
        again = Sequential([Input((6, 3)), LSTM(3), Dense(4, activation="tanh"), Dense(2)])
        again.compile(optimizer, "mse")
        again.layers[0].trainable = again.layers[2].trainable = False
        assert again.layers[0].name != model.layers[0].name
        saving.restore_training(again, path)
    for each in (model, again):
        each.layers[0].trainable = each.layers[2].trainable = True
        each.fit(X, Y, shuffle=False, verbose=0)
    assert_same_weights(again, model)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("optimizer:dense/kernel:velocity", (3, 1), r"'dense/kernel'.*\(3, 2\).*\(3, 1\)"),
        ("optimizer:dense/kernel:velocities", (3, 2), "'dense/kernel'.*velocity.*velocities"),
        ("optimizer:dense/kernels:velocity", (3, 2), "'optimizer:dense/kernels:velocity'"),
        ("optimizer:dense/kernel", (3, 2), "'optimizer:dense/kernel'"),
        ("optimizer:99", (), "'optimizer:99'"),
        ("dense/kernel:velocity", (3, 2), "'dense/kernel:velocity'"),
    ],
)
def test_what_no_optimizer_remembers_is_refused_by_name(tmp_path, name, shape, message):
    path = saved(tmp_path, Dense(2, name="dense", trainable=False), Dense(1), loss="mse")
    model = load_model(path)
    model.compile(optimizers.SGD(momentum=0.5), "mse")
    model.save(path, include_optimizer=True)
    load_model(path)
    tensors, texts = read_tensors(path)
    write_tensors(path, {**tensors, name: np.ones(shape)}, texts)
    with pytest.raises(ValueError, match=message):
        load_model(path)


class Interrupt(Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.when = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.when:
            raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [0, 1, 3])
@pytest.mark.parametrize("steps", [None, 2])
def test_an_interrupted_fit_goes_on(tmp_path, epoch, steps):
    def fit(model, *callbacks):
        fastlstm.utils.set_random_seed(1)
        return model.fit(
            X,
            Y,
            epochs=5,
            batch_size=6,
            steps_per_epoch=steps,
            verbose=0,
            callbacks=list(callbacks),
        )

    fastlstm.utils.set_random_seed(0)
    model = stacked()
    twin, resumed = deepcopy(model), deepcopy(model)
    fit(twin)
    with pytest.raises(KeyboardInterrupt):
        fit(model, BackupAndRestore(tmp_path), Interrupt(epoch, 1))
    assert bool(list(tmp_path.iterdir())) == (epoch > 0)
    history = fit(resumed, BackupAndRestore(tmp_path))
    assert history.epoch == list(range(epoch, 5))
    assert_same_weights(resumed, twin)
    assert not list(tmp_path.iterdir())


def test_a_backup_of_another_optimizer_changes_nothing(tmp_path):
    def small(optimizer):
        model = Sequential([Input((6, 3)), LSTM(2), Dense(2)])
        model.compile(optimizer, "mse")
        return model

    keep = BackupAndRestore(tmp_path, delete_checkpoint=False)
    small("adam").fit(X, Y, verbose=0, callbacks=[keep])
    other = small("rmsprop")
    before = other.get_weights()
    with pytest.raises(ValueError, match="RMSprop"):
        other.fit(X, Y, verbose=0, callbacks=[keep])
    assert other.optimizer.iterations == 0
    for got, want in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_backups_of_another_model_and_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="save_freq"):
        BackupAndRestore(tmp_path, save_freq=0)
    keep = BackupAndRestore(tmp_path, save_freq=2, delete_checkpoint=False)
    stacked().fit(X, Y, batch_size=6, verbose=0, callbacks=[keep])
    other = Sequential([LSTM(2, input_shape=(None, 3)), Dense(2)])
    other.compile(loss="mse")
    with pytest.raises(ValueError, match="cannot be loaded"):
        other.fit(X, Y, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
    full = stacked()
    full.save(tmp_path / "training.safetensors", include_optimizer=True)
    with pytest.raises(ValueError, match="no backup"):
        full.fit(X, Y, verbose=0, callbacks=[BackupAndRestore(tmp_path)])


def state_of_training(model):
    generators = model_file._generators(model)
    return (
        [*model.get_weights(), *model.optimizer.get_state()],
        [generator.bit_generator.state for generator in generators],
        model._shuffler,
    )


def without_generators(tensors, states):
    states.clear()


def with_half_a_generator(tensors, states):
    del states[-1]["state"]


def with_slots_of_another_shape(tensors, states):
    tensors["optimizer:4"] = np.ones((2, 3))


def with_a_learning_rate_that_is_none(tensors, states):
    tensors["optimizer:1"] = np.array(np.nan)


@pytest.mark.parametrize(
    "spoil",
    [
        without_generators,
        with_half_a_generator,
        with_slots_of_another_shape,
        with_a_learning_rate_that_is_none,
    ],
)
def test_training_that_cannot_be_restored_changes_nothing(tmp_path, spoil):
    def trained():
        model = Sequential([LSTM(3, dropout=0.5, input_shape=(None, 3)), Dropout(0.2), Dense(2)])
        model.compile("adam", "mse")
        model.fit(X, Y, verbose=0)
        return model

    path, saved, model = tmp_path / "training.safetensors", trained(), trained()
    saved._shuffler = np.random.default_rng(1)
    model_file.save_training(saved, path, {})
    tensors, texts = read_tensors(path)
    states = json.loads(texts["training"])
    spoil(tensors, states)
    write_tensors(path, tensors, {**texts, "training": json.dumps(states)})
    arrays, generators, shuffler = state_of_training(model)
    with pytest.raises(ValueError, match=r"training\.safetensors"):
        model_file.restore_training(model, path)
    found, *others = state_of_training(model)
    for array, before in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(array, before)
    assert others == [generators, shuffler]


# ---- classes of one name -------------------------------------------------------------------------


@pytest.fixture
def known_classes(monkeypatch):
    """Lets a test define classes named like those of others, and forget them."""
    known = {name: dict(homes) for name, homes in base._classes.items()}
    monkeypatch.setattr(base, "_classes", known)


def scaling(name, factor, module):
    """A layer class called `name`, of a module of the user's."""

    def call(self, inputs):
        return inputs * factor

    def init(self, **keywords):
        Layer.__init__(self, **{k: v for k, v in keywords.items() if k != "units"})

    return type(name, (Layer,), {"call": call, "__init__": init, "__module__": module})


def saved(folder, *layers, **compiled):
    model = Sequential([Input((3,)), *layers])
    if compiled:
        model.compile(**compiled)
    model.save(folder / "model.safetensors")
    return folder / "model.safetensors"


def scale_of(model):
    return float(model.predict(np.ones((1, 3), "float32"))[0, 0])


def test_a_layer_class_named_like_one_of_the_package(known_classes, tmp_path):
    path = saved(tmp_path, scaling("Dense", 2, "mine")(name="mine"), Dense(3, name="theirs"))
    again = load_model(path)
    assert [type(layer).__module__ for layer in again.layers] == ["mine", Dense.__module__]
    other = scaling("Dense", 7, "mine")
    again = load_model(path, custom_objects={"Dense": other})
    assert [type(layer) for layer in again.layers] == [other, Dense]


@pytest.mark.parametrize("name", ["Dense", "Twofold"])
def test_a_layer_class_that_is_not_here_is_no_other_of_its_name(known_classes, tmp_path, name):
    path = saved(tmp_path, scaling(name, 2, "mine")())
    del base._classes[name]["mine"]
    other = scaling(name, 7, "theirs")
    with pytest.raises(ValueError, match=rf"'{name}' was defined in 'mine'.*custom_objects={{'"):
        load_model(path)
    assert scale_of(load_model(path, custom_objects={name: other})) == 7


def test_two_layer_classes_of_one_name(known_classes, tmp_path):
    first, second = scaling("Twofold", 2, "mine"), scaling("Twofold", 7, "theirs")
    assert scale_of(load_model(saved(tmp_path, first()))) == 2
    assert scale_of(load_model(saved(tmp_path, second()))) == 7


def test_two_layer_classes_of_one_function(known_classes, tmp_path):
    def made(factor):
        class Twofold(Layer):
            def call(self, inputs):
                return inputs * factor

        return Twofold

    first = made(2)
    path = saved(tmp_path, first())
    assert scale_of(load_model(path)) == 2
    made(7)
    with pytest.raises(ValueError, match=r"'Twofold' was defined more than once.*custom_objects"):
        load_model(path)
    assert scale_of(load_model(path, custom_objects={"Twofold": first})) == 2


def test_a_layer_class_may_be_of_the_program_there_and_of_a_module_here(known_classes, tmp_path):
    path = saved(tmp_path, scaling("Twofold", 2, "__main__")())
    del base._classes["Twofold"]
    scaling("Twofold", 3, "train")
    assert scale_of(load_model(path)) == 3
    path = saved(tmp_path, scaling("Dense", 2, "__main__")())
    del base._classes["Dense"]["__main__"]
    with pytest.raises(ValueError, match=r"'Dense' was defined in '__main__'.*custom_objects"):
        load_model(path)


def test_descriptions_that_do_not_say_whose_class_they_mean(known_classes):
    description = {"class_name": "Dense", "config": {"units": 2}}
    assert type(deserialize(description)) is Dense
    other = scaling("Dense", 2, "mine")
    assert type(deserialize({**description, "module": "keras.layers"})) is Dense
    with pytest.raises(ValueError, match=r"'fastlstm' and in 'mine'.*custom_objects"):
        deserialize(description)
    for meant in (Dense, other):
        assert type(deserialize(description, {"Dense": meant})) is meant


class MeanAbsoluteError(losses.Loss):
    """Named like one of the package."""

    def call(self, y_true, y_pred):
        return np.zeros(len(y_true))


class Ones(initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return np.full(shape, 3.0, dtype)

    def get_config(self):
        return {}


class ExponentialDecay(optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.5

    def get_config(self):
        return {}


class AUC(metrics.Mean):
    pass


def first_metric(model):
    return model._compile_arguments["plain_metrics"][0]


@pytest.mark.parametrize(
    ("cls", "layer", "compiled", "found"),
    [
        (MeanAbsoluteError, {}, {"loss": MeanAbsoluteError()}, lambda m: m.loss),
        (Ones, {"bias_initializer": Ones()}, {}, lambda m: m.layers[0].bias_initializer),
        (
            ExponentialDecay,
            {},
            {"optimizer": optimizers.SGD(ExponentialDecay()), "loss": "mse"},
            lambda m: m.optimizer._learning_rate,
        ),
        (
            AUC,
            {},
            {"loss": "mse", "metrics": [AUC()]},
            lambda m: m._compile_arguments["plain_metrics"][0],
        ),
        (
            AUC,
            {},
            {"loss": "mse", "metrics": [AUC]},
            lambda m: m._compile_arguments["plain_metrics"][0](),
        ),
    ],
)
def test_other_objects_named_like_those_of_the_package(tmp_path, cls, layer, compiled, found):
    path = saved(tmp_path, Dense(2, **layer), **compiled)
    name = cls.__name__
    with pytest.raises(ValueError, match=rf"'{name}' was defined in 'test_saving'.*custom_objects"):
        load_model(path)
    assert type(found(load_model(path, custom_objects={name: cls}))) is cls


def test_an_object_of_the_package_is_that_whatever_the_program_calls_so(tmp_path):
    path = saved(tmp_path, Dense(2, bias_initializer="ones"), loss="mse", metrics=[metrics.AUC()])
    again = load_model(path, custom_objects={"Ones": Ones, "AUC": AUC, "Dense": None})
    assert type(again.layers[0].bias_initializer) is initializers.Ones
    assert type(first_metric(again)) is metrics.AUC


@pytest.mark.parametrize("module", ["keras.regularizers", "fastlstm"])
def test_an_object_of_keras_or_of_another_version_may_be_given_by_the_program(module):
    class OrthogonalRegularizer(regularizers.L2):
        pass

    name = OrthogonalRegularizer.__name__
    description = serialize(Dense(2))
    penalty = {"class_name": name, "module": module, "config": {"l2": 0.25}}
    description["config"]["kernel_regularizer"] = penalty
    with pytest.raises(ValueError, match=name):
        deserialize(description)
    layer = deserialize(description, {name: OrthogonalRegularizer})
    assert type(layer.kernel_regularizer) is OrthogonalRegularizer
