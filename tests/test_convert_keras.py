"""Models of Keras: files that it wrote, models that it builds, and files that it reads."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
from golden_files import GOLDEN, load_golden
from keras_models import random_model

import fastlstm
from fastlstm import convert, layers
from fastlstm.layers.base import reset_names

pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore")

CLOSE = {"rtol": 2e-5, "atol": 2e-6}
RNG = np.random.default_rng(0)


def inputs_of(arrays):
    found = [arrays[name] for name in sorted(arrays) if name.startswith("x")]
    return found if len(found) > 1 else found[0]


@pytest.mark.parametrize("name", ["keras_sequential", "keras_seq2seq"])
def test_golden_files(name):
    _, arrays = load_golden(GOLDEN / f"{name}.npz")
    model = convert.from_keras(GOLDEN / f"{name}.keras")
    np.testing.assert_allclose(model.predict(inputs_of(arrays)), arrays["prediction"], **CLOSE)


def test_golden_weights():
    _, arrays = load_golden(GOLDEN / "keras_sequential.npz")
    model = convert.from_keras(GOLDEN / "keras_sequential.keras")
    model.set_weights([np.zeros(w.shape) for w in model.weights])
    convert.load_keras_weights(model, GOLDEN / "keras_sequential.weights.h5")
    np.testing.assert_allclose(model.predict(arrays["x"]), arrays["prediction"], **CLOSE)
    other = fastlstm.Sequential([layers.LSTM(3, input_shape=(6, 4)), layers.Dense(3)])
    before = other.get_weights()
    with pytest.raises(ValueError, match="lstm"):
        convert.load_keras_weights(other, GOLDEN / "keras_sequential.weights.h5")
    for found, want in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, want)
    with pytest.raises(ValueError, match="load_keras_weights"):
        convert.from_keras(GOLDEN / "keras_sequential.weights.h5")


# ---- models that Keras builds ------------------------------------------------------------------


def stacked(words, make_input, _, sequential):
    return sequential(
        [
            make_input((None, 3)),
            words.Masking(),
            words.Bidirectional(words.LSTM(4, return_sequences=True, dropout=0.2), "ave"),
            words.Dropout(0.2),
            words.LayerNormalization(),
            words.TimeDistributed(
                words.Dense(
                    5, activation="relu", kernel_regularizer="l2", bias_constraint="non_neg"
                )
            ),
            words.LSTM(3, go_backwards=True, kernel_initializer="he_normal", use_bias=False),
            words.Dense(2, activation="softmax"),
        ]
    )


def branched(words, make_input, functional, sequential):
    text = make_input((4,), dtype="int32", name="text")
    series = make_input((4, 3), name="series")
    shared = words.LSTM(3, return_sequences=True)
    inner = sequential(
        [make_input((4, 3)), words.Flatten(), words.RepeatVector(4), words.LSTM(3)], name="inner"
    )
    first, second = shared(series), shared(words.Activation("tanh")(series))
    joined = words.Concatenate()(
        [
            words.Embedding(9, 2, mask_zero=True)(text),
            words.Add()([first, second]),
            words.RepeatVector(4)(inner(words.Multiply()([first, second]))),
        ]
    )
    y, h, c = words.LSTM(6, return_state=True, recurrent_dropout=0.1)(joined)
    other = words.Permute((2, 1))(words.Reshape((3, 4))(words.Average()([first, second])))
    z = words.LSTM(6)(other, initial_state=[h, c])
    return functional([text, series], [words.Dense(1)(y), words.Dense(2)(z)])


INPUTS = {
    stacked: RNG.normal(size=(3, 5, 3)).astype(np.float32) * (RNG.random((3, 5, 1)) < 0.7),
    branched: [RNG.integers(0, 9, (3, 4)), RNG.normal(size=(3, 4, 3)).astype(np.float32)],
}
OUR_WORDS = (layers, layers.Input, fastlstm.Model, fastlstm.Sequential)


def assert_close(found, want):
    assert type(found) is type(want)
    pairs = zip(found, want, strict=True) if isinstance(found, list) else [(found, want)]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, **CLOSE)


def keras_model(make):
    keras = pytest.importorskip("keras", exc_type=ImportError)
    model = make(keras.layers, keras.Input, keras.Model, keras.Sequential)
    model.set_weights([RNG.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("make", INPUTS)
def test_models_of_keras(make, tmp_path):
    model = keras_model(make)
    want = model.predict(INPUTS[make], verbose=0)
    for path in ("model.keras", "model.h5"):
        model.save(tmp_path / path)
        assert_close(convert.from_keras(tmp_path / path).predict(INPUTS[make]), want)
    ours = convert.from_keras(model)
    assert_close(ours.predict(INPUTS[make]), want)
    model.save_weights(tmp_path / "model.weights.h5")
    ours.set_weights([np.zeros(w.shape) for w in ours.weights])
    convert.load_keras_weights(ours, tmp_path / "model.weights.h5")
    assert_close(ours.predict(INPUTS[make]), want)


@pytest.mark.parametrize("make", INPUTS)
def test_models_for_keras(make, tmp_path):
    model = make(*OUR_WORDS)
    for weight in model.weights:
        weight.assign(RNG.normal(0, 0.5, weight.shape))
    want = model.predict(INPUTS[make])
    convert.to_keras(model, tmp_path / "model.keras")
    assert_close(convert.from_keras(tmp_path / "model.keras").predict(INPUTS[make]), want)
    keras = pytest.importorskip("keras", exc_type=ImportError)
    theirs = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(theirs.predict(INPUTS[make], verbose=0), want)


@pytest.mark.parametrize("seed", range(8))
def test_random_models_of_keras(seed, tmp_path):
    keras = pytest.importorskip("keras", exc_type=ImportError)
    rng = np.random.default_rng(seed)
    words = (keras.layers, keras.Input, keras.Model, keras.Sequential)
    model, x = random_model(rng, *words)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    try:
        ours = convert.from_keras(tmp_path / "model.keras")
    except ValueError as error:
        assert "which Keras 3 ignores" in str(error)  # noqa: PT017 - some are refused
        return
    assert_close(ours.predict(x), model.predict(x, verbose=0))


@pytest.mark.parametrize("seed", range(8))
def test_random_models_for_keras(seed, tmp_path):
    keras = pytest.importorskip("keras", exc_type=ImportError)
    rng = np.random.default_rng(seed)
    reset_names()  # so that they are the ones that Keras gives
    model, x = random_model(rng, *OUR_WORDS)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    try:
        convert.to_keras(model, tmp_path / "model.keras")
    except ValueError as error:
        assert "which Keras 3 ignores" in str(error)  # noqa: PT017 - some are refused
        return
    keras.utils.clear_session()
    theirs = keras.saving.load_model(tmp_path / "model.keras")
    assert_close(theirs.predict(x, verbose=0), model.predict(x))


def ends_in_models(words, make_input, functional, _):
    x = make_input((4,))
    inner = functional(x, words.Dense(4, activation="tanh")(x))
    y, a = make_input((4,)), words.Dense(4)
    first = inner(y)
    return functional(y, [first, inner(a(first)), inner(first)])


def test_outputs_that_are_uses_of_an_inner_model(tmp_path):
    model = keras_model(ends_in_models)
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    model.save(tmp_path / "model.keras")
    assert_close(convert.from_keras(tmp_path / "model.keras").predict(x), model.predict(x))
    ours = ends_in_models(*OUR_WORDS)
    convert.to_keras(ours, tmp_path / "ours.keras")
    keras = pytest.importorskip("keras", exc_type=ImportError)
    theirs = keras.saving.load_model(tmp_path / "ours.keras")
    assert_close(theirs.predict(x, verbose=0), ours.predict(x))


def with_states(words, make_input, functional, **options):
    x, h, c = make_input((5, 3)), make_input((4,)), make_input((4,))
    lstm = words.LSTM(4, return_sequences=True, name="told")
    y = lstm(words.Masking()(x), initial_state=[h, c], **{k: v(x) for k, v in options.items()})
    return functional([x, h, c], words.LSTM(2)(words.Dropout(0.1)(y)))


def with_states_inside(words, make_input, functional):
    x, h, c = make_input((5, 3)), make_input((4,)), make_input((4,))
    y = words.Bidirectional(words.LSTM(4), name="told")(x, initial_state=[h, c, h, c])
    return functional([x, h, c], y)


def states_and_masks(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, 5, 3)) * (np.arange(5) < [[3], [5], [2]])[..., None]
    return [x.astype(np.float32), *rng.normal(size=(2, 3, 4)).astype(np.float32)]


def test_masks_that_keras_ignores_beside_initial_states_are_refused(tmp_path):
    keras = pytest.importorskip("keras", exc_type=ImportError)
    for words, build, refuse in (
        (
            (keras.layers, keras.Input, keras.Model),
            lambda model: model.save(tmp_path / "model.keras"),
            lambda model: convert.from_keras(tmp_path / "model.keras"),
        ),
        (
            OUR_WORDS[:3],
            lambda model: None,
            lambda model: convert.to_keras(model, tmp_path / "ours.keras"),
        ),
    ):
        inner = with_states_inside(*words)
        x, h, c = words[1]((5, 3)), words[1]((4,)), words[1]((4,))
        for model in (
            with_states(*words),
            words[2]([x, h, c], inner([words[0].Masking()(x), h, c])),
        ):
            build(model)
            with pytest.raises(ValueError, match=r'"told".*which Keras 3 ignores'):
                refuse(model)
    assert not (tmp_path / "ours.keras").exists()


def test_masks_that_keras_is_told_of_beside_initial_states_count(tmp_path):
    keras = pytest.importorskip("keras", exc_type=ImportError)
    words = (keras.layers, keras.Input, keras.Model)
    model = with_states(*words, mask=lambda x: keras.ops.any(keras.ops.not_equal(x, 0.0), axis=-1))
    model.save(tmp_path / "model.keras")
    ours = convert.from_keras(tmp_path / "model.keras")
    x = states_and_masks()
    assert_close(ours.predict(x), model.predict(x, verbose=0))
    with_states_inside(*words).save(tmp_path / "model.keras")  # no mask, nothing to refuse
    convert.from_keras(tmp_path / "model.keras")


def test_layers_named_as_keras_names_what_it_adds_for_masks(tmp_path):
    keras = pytest.importorskip("keras", exc_type=ImportError)
    x = layers.Input((5, 3))
    y = layers.Masking()(x)
    for name in ("concatenate", "concatenate_1", "any", "not_equal", "concatenate_layer"):
        lstm = layers.LSTM(2, return_sequences=True)
        y = layers.Concatenate(name=name)([y, lstm(y)])
    model = fastlstm.Model(x, layers.LSTM(2)(y))
    convert.to_keras(model, tmp_path / "model.keras")
    keras.utils.clear_session()  # in a new process it would count from the first name, too
    theirs = keras.saving.load_model(tmp_path / "model.keras")
    want = model.predict(states_and_masks()[0])
    assert_close(theirs.predict(states_and_masks()[0], verbose=0), want)


def test_models_used_twice_in_models_used_twice(tmp_path):
    x = layers.Input((3,))
    model = fastlstm.Model(x, layers.Dense(3)(x))
    for _ in range(40):
        x = layers.Input((3,))
        model = fastlstm.Model(x, model(model(x)))
    convert.to_keras(model, tmp_path / "model.keras")
    again = convert.from_keras(tmp_path / "model.keras")
    for found, want in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, want)


# ---- what is refused ---------------------------------------------------------------------------


def test_everything_that_cannot_be_read_is_named_at_once(tmp_path):
    keras = pytest.importorskip("keras", exc_type=ImportError)
    words = keras.layers
    x = keras.Input((4, 3))
    y = words.GRU(2, return_sequences=True, name="gru")(x)
    y = words.LSTM(2, activation="silu", name="fine", return_sequences=True)(y)
    y = words.Flatten(data_format="channels_first", name="channels")(y)
    y = words.BatchNormalization(name="norm")(y)
    keras.Model(x, y).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="gru") as error:
        convert.from_keras(tmp_path / "model.keras")
    assert "'norm'" in str(error.value)
    assert "fine" not in str(error.value)


def test_layers_that_a_sequential_has_several_times_are_refused():
    keras = pytest.importorskip("keras", exc_type=ImportError)
    dense = keras.layers.Dense(3, activation="tanh", name="again")
    inner = keras.Sequential([keras.Input((3,)), dense, dense], name="inner")
    series = keras.Input((4, 3))
    for model in (
        inner,
        keras.Sequential([keras.Input((3,)), inner, keras.layers.Dense(2)]),
        keras.Model(series, keras.layers.TimeDistributed(inner)(series)),
    ):
        with pytest.raises(ValueError, match="'inner': 'again' is in several places"):
            convert.from_keras(model)
    x = keras.Input((3,))
    shared = keras.Model(x, dense(dense(x)))
    data = RNG.normal(size=(5, 3)).astype(np.float32)
    want = shared.predict(data, verbose=0)
    assert_close(convert.from_keras(shared).predict(data), want)


def test_layers_that_a_sequential_has_several_times_are_not_written(tmp_path):
    dense = layers.Dense(3, activation="tanh", name="again")
    inner = fastlstm.Sequential([layers.Input((3,)), dense, dense], name="inner")
    for model in (inner, fastlstm.Sequential([layers.Input((3,)), inner])):
        with pytest.raises(ValueError, match="'again' is in several places"):
            convert.to_keras(model, tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def test_masks_that_no_layer_makes_are_refused(tmp_path):
    keras = pytest.importorskip("keras", exc_type=ImportError)
    x = keras.Input((4, 3))
    mask = keras.ops.any(keras.ops.not_equal(x, 1.0), axis=-1)
    model = keras.Model(x, keras.layers.LSTM(2)(x, mask=mask))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="mask"):
        convert.from_keras(tmp_path / "model.keras")


@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_in_two_places_is_refused_for_keras_but_in_a_model(tmp_path, nested):
    keras = pytest.importorskip("keras", exc_type=ImportError)
    again = layers.Dense(3, activation="tanh", name="again")
    stack = fastlstm.Sequential([layers.Input((4, 3)), again, layers.Dense(3, name="once"), again])
    model = fastlstm.Sequential([layers.Input((4, 3)), stack]) if nested else stack
    with pytest.raises(ValueError, match="'again' is in several places") as error:
        convert.to_keras(model, tmp_path / "model.keras")
    assert "'once'" not in str(error.value)
    assert not list(tmp_path.iterdir())
    same = fastlstm.Model(stack.inputs, stack.outputs)
    convert.to_keras(same, tmp_path / "model.keras")
    theirs = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 4, 3))
    assert_close(theirs.predict(x, verbose=0), stack.predict(x))


def test_everything_that_cannot_be_written_is_named_at_once(tmp_path):
    class OwnLayer(layers.Layer):
        def call(self, inputs):
            return inputs

    model = fastlstm.Sequential(
        [layers.Dense(2, input_shape=(3,)), OwnLayer(name="mine"), layers.Lambda(np.tanh, name="f")]
    )
    with pytest.raises(ValueError, match=re.compile("mine.*f", re.DOTALL)):
        convert.to_keras(model, tmp_path / "model.keras")
    with pytest.raises(ValueError, match="keras"):
        convert.to_keras(model, tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


# ---- old files ---------------------------------------------------------------------------------


def old_file(path, activation):
    """The layout of Keras 2: a configuration without modules, and weights by name."""
    import h5py

    lstm = {
        "name": "lstm_1",
        "trainable": True,
        "batch_input_shape": [None, 5, 3],
        "dtype": "float32",
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "unroll": False,
        "time_major": False,
        "units": 4,
        "activation": "tanh",
        "recurrent_activation": activation,
        "use_bias": True,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 1.0}},
        "bias_initializer": {"class_name": "Zeros", "config": {}},
        "unit_forget_bias": True,
        "kernel_regularizer": None,
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "recurrent_constraint": None,
        "bias_constraint": None,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "implementation": 2,
    }
    source = {"name": "in", "batch_input_shape": [None, 5, 3], "dtype": "float32", "sparse": False}
    dense = {"name": "dense_1", "trainable": True, "dtype": "float32", "units": 2}
    config = {
        "name": "model_1",
        "layers": [
            {"class_name": "InputLayer", "config": source, "name": "in", "inbound_nodes": []},
            {
                "class_name": "LSTM",
                "config": lstm,
                "name": "lstm_1",
                "inbound_nodes": [[["in", 0, 0, {}]]],
            },
            {
                "class_name": "Dense",
                "config": dense,
                "name": "dense_1",
                "inbound_nodes": [[["lstm_1", 0, 0, {}]]],
            },
        ],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["dense_1", 0, 0]],
    }
    arrays = {
        "lstm_1": {
            "kernel:0": RNG.normal(size=(3, 16)),
            "recurrent_kernel:0": RNG.normal(size=(4, 16)),
            "bias:0": RNG.normal(size=16),
        },
        "dense_1": {"kernel:0": RNG.normal(size=(4, 2)), "bias:0": RNG.normal(size=2)},
    }
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.4.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"in", b"lstm_1", b"dense_1"]
        for layer in ("in", "lstm_1", "dense_1"):
            group = root.create_group(layer)
            names = [f"{layer}/{name}" for name in arrays.get(layer, {})]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, arrays.get(layer, {}).values(), strict=True):
                group[name] = array.astype(np.float32)
    return [array for of_layer in arrays.values() for array in of_layer.values()]


def test_the_layout_of_keras_2(tmp_path):
    want = old_file(tmp_path / "old.h5", "sigmoid")
    model = convert.from_keras(tmp_path / "old.h5")
    for found, array in zip(model.get_weights(), want, strict=True):
        np.testing.assert_array_equal(found, array.astype(np.float32))
    assert model.predict(RNG.normal(size=(2, 5, 3))).shape == (2, 2)


def test_the_hard_sigmoid_of_keras_2_is_another(tmp_path):
    old_file(tmp_path / "old.h5", "hard_sigmoid")
    with pytest.raises(ValueError, match="recurrent_activation"):
        convert.from_keras(tmp_path / "old.h5")


# ---- hostile files -----------------------------------------------------------------------------


def archive_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 and no more",
        b"\x80\x04pickle",
        archive_of(config__json="{}"),
        archive_of(config__json="[]", model__weights__h5=b""),
        archive_of(config__json="{", model__weights__h5=b""),
        archive_of(config__json='{"class_name": "Sequential"}', model__weights__h5=b""),
        archive_of(config__json=b" " * 50_000_000, model__weights__h5=b""),
        archive_of(config__json="[" * 100_000, model__weights__h5=b""),
        archive_of(config__json="{}", model__weights__h5=b"", metadata__json="[1]"),
        # The same, marked as encrypted in its directory.
        archive_of(config__json="{}", model__weights__h5=b"").replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
        ),
    ],
)
def test_files_that_are_none(tmp_path, content):
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011 - several messages
        convert.from_keras(tmp_path / "model.keras")


def test_more_weights_than_the_file_has(tmp_path):
    with zipfile.ZipFile(GOLDEN / "keras_sequential.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(b'"units": 12', b'"units": 999999999')
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="weights"):
        convert.from_keras(tmp_path / "model.keras")


def outside(folder):
    """A file that a reader of the model has no business with."""
    import h5py

    np.full(8, 7.0, np.float32).tofile(folder / "secret.raw")
    with h5py.File(folder / "secret.h5", "w") as file:
        file["kernel"] = np.full((4, 2), 7.0, np.float32)
    return folder / "secret.raw", folder / "secret.h5"


def external_storage(group, name, raw, _):
    group.create_dataset(name, (4, 2), "f4", external=[(str(raw), 0, 32)])


def virtual_dataset(group, name, _, other):
    import h5py

    layout = h5py.VirtualLayout((4, 2), "f4")
    layout[:] = h5py.VirtualSource(str(other), "kernel", (4, 2))
    group.create_virtual_dataset(name, layout)


def external_link(group, name, _, other):
    import h5py

    group[name] = h5py.ExternalLink(str(other), "/kernel")


def external_link_to_nothing(group, name, _, other):
    import h5py

    group[name] = h5py.ExternalLink(f"{other}.missing", "/kernel")


def soft_link(group, name, _, other):
    import h5py

    group.file["elsewhere"] = h5py.ExternalLink(str(other), "/")
    group[name] = h5py.SoftLink("/elsewhere/kernel")


def no_numbers(group, name, *_):
    group[name] = [[b"a", b"b"]] * 4


def references(group, name, *_):
    import h5py

    group.create_dataset(name, (4, 2), h5py.ref_dtype)


def no_dataset(group, name, *_):
    group.create_group(name)


def huge_chunks(group, name, *_):
    chunks = (20_000, 20_000)
    group.create_dataset(name, (4, 2), "f4", chunks=chunks, maxshape=(None, None))


def huge_shape(group, name, *_):
    group.create_dataset(name, (10**6, 10**6), "f4", chunks=(8, 8))


HOSTILE_DATASETS = {
    external_storage: "secret.raw",
    virtual_dataset: "virtual",
    external_link: r"secret\.h5",
    external_link_to_nothing: "link",
    soft_link: "link",
    no_numbers: "real numbers",
    references: "real numbers",
    no_dataset: "no dataset",
    huge_chunks: "larger",
    huge_shape: "larger",
}


@pytest.mark.parametrize("make", HOSTILE_DATASETS)
def test_weights_that_are_not_in_the_file_are_refused(tmp_path, make):
    import h5py

    model = fastlstm.Sequential([layers.Dense(2, input_shape=(4,), name="dense_1")])
    before = model.get_weights()
    convert.to_keras(model, tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (tmp_path / "model.weights.h5").write_bytes(members["model.weights.h5"])
    old_file(tmp_path / "whole.h5", "sigmoid")
    others = outside(tmp_path)
    for path, place in (
        ("model.weights.h5", "layers/dense/vars/0"),
        ("whole.h5", "model_weights/dense_1/dense_1/kernel:0"),
    ):
        with h5py.File(tmp_path / path, "a") as file:
            group, _, name = place.rpartition("/")
            del file[place]
            make(file[group], name, *others)
    members["model.weights.h5"] = (tmp_path / "model.weights.h5").read_bytes()
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    message = HOSTILE_DATASETS[make]
    for path in ("model.keras", "whole.h5"):
        with pytest.raises(ValueError, match=f"(?s){path}.*{message}"):
            convert.from_keras(tmp_path / path)
    with pytest.raises(ValueError, match=f"model.weights.h5.*{message}"):
        convert.load_keras_weights(model, tmp_path / "model.weights.h5")
    for found, want in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("link", ["model_weights", "dense_1"])
def test_groups_that_are_not_in_the_file_are_refused(tmp_path, link):
    import h5py

    for name in ("old.h5", "other.h5"):
        old_file(tmp_path / name, "sigmoid")
    place = link if link == "model_weights" else f"model_weights/{link}"
    with h5py.File(tmp_path / "old.h5", "a") as file:
        del file[place]
        file[place] = h5py.ExternalLink(str(tmp_path / "other.h5"), place)
    with pytest.raises(ValueError, match=r"old\.h5.*other\.h5"):
        convert.from_keras(tmp_path / "old.h5")


def test_compressed_weights_and_many_names_are_read(tmp_path):
    import h5py

    want = old_file(tmp_path / "old.h5", "sigmoid")
    with h5py.File(tmp_path / "old.h5", "a") as file:
        root = file["model_weights"]
        kernel = root["lstm_1/lstm_1/kernel:0"][...]
        del root["lstm_1/lstm_1/kernel:0"]
        root.create_dataset(
            "lstm_1/lstm_1/kernel:0", data=kernel, chunks=(2, 5), compression="gzip", shuffle=True
        )
        # Keras cuts lists of names that are too long for one attribute.
        for number, part in enumerate(np.array_split(root.attrs["layer_names"], 2)):
            root.attrs[f"layer_names{number}"] = part
        del root.attrs["layer_names"]
    model = convert.from_keras(tmp_path / "old.h5")
    for found, array in zip(model.get_weights(), want, strict=True):
        np.testing.assert_array_equal(found, array.astype(np.float32))


def test_archives_that_unpack_to_more_than_they_say_are_refused(tmp_path):
    lying = bytearray(archive_of(config__json=b" " * 50_000_000, model__weights__h5=b""))
    # The sizes before packing, in the member's own header and in the directory.
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = lying.index(signature) + offset
        lying[place : place + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "model.keras").write_bytes(lying)
    with pytest.raises(ValueError, match=r"model\.keras"):
        convert.from_keras(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ValueError, match="packed in another way"):
        convert.from_keras(tmp_path / "model.keras")


def test_more_layers_than_the_weights_are_for(tmp_path):
    model = fastlstm.Sequential([layers.Dense(2, input_shape=(4,), name="dense_1")])
    convert.to_keras(model, tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    for number in range(20_000):
        dropout = {"name": f"d{number}", "rate": 0.5}
        config["config"]["layers"].append({"class_name": "Dropout", "config": dropout})
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="20002 `layers`"):
        convert.from_keras(tmp_path / "model.keras")


def test_bytes_as_paths(tmp_path):
    convert.to_keras(fastlstm.Sequential([layers.Dense(2, input_shape=(4,))]), tmp_path / "m.keras")
    assert convert.from_keras(bytes(tmp_path / "m.keras")).count_params() == 10
    with pytest.raises(TypeError, match="BytesIO"):
        convert.from_keras(io.BytesIO())
