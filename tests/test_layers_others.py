"""The other layers: values, gradients, masks, shapes, configuration, errors."""

import copy
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from layer_checks import as_list, check_layer_gradients, check_round_trip, randomize

from fastlstm import layers
from fastlstm.layers import (
    LSTM,
    Activation,
    Add,
    Average,
    Bidirectional,
    Concatenate,
    Context,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Input,
    Lambda,
    Layer,
    LayerNormalization,
    Masking,
    Multiply,
    Permute,
    RepeatVector,
    Reshape,
    TimeDistributed,
    Weight,
)
from fastlstm.layers.base import reset_names


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def double(x):
    return 2 * x


def double_backward(context, dy):
    return 2 * dy


F64 = {"dtype": "float64"}
# Every layer of one input, with an input shape.
SINGLE = {
    "dense": (lambda: Dense(4, "tanh", **F64), (3, 5)),
    "dense 4d": (lambda: Dense(2, "softmax", **F64), (2, 3, 2, 5)),
    "dense no bias": (lambda: Dense(2, use_bias=False, **F64), (2, 3, 5)),
    "activation": (lambda: Activation("gelu", **F64), (3, 4)),
    "softmax": (lambda: Activation("softmax", **F64), (3, 2, 4)),
    "repeat": (lambda: RepeatVector(3, **F64), (2, 5)),
    "flatten": (lambda: Flatten(**F64), (2, 3, 5)),
    "flatten 1d": (lambda: Flatten(**F64), (3,)),
    "reshape": (lambda: Reshape((5, -1, 2), **F64), (2, 4, 5)),
    "permute": (lambda: Permute((3, 1, 2), **F64), (2, 3, 4, 5)),
    "masking": (lambda: Masking(**F64), (2, 3, 4)),
    "dropout": (lambda: Dropout(0.5, **F64), (2, 3)),
    "lambda": (lambda: Lambda(double, backward=double_backward, **F64), (2, 3)),
    "norm": (lambda: LayerNormalization(**F64), (3, 2, 5)),
    "norm axes": (lambda: LayerNormalization(axis=[-1, 1], epsilon=0.1, **F64), (3, 2, 4, 3)),
    "norm plain": (lambda: LayerNormalization(axis=1, center=False, scale=False, **F64), (3, 5, 2)),
}
SEVERAL = {
    "add": (lambda: Add(**F64), [(3, 4), (3, 4), (3, 4)]),
    "add broadcast": (lambda: Add(**F64), [(3, 2, 4), (3, 4), (3, 1, 1)]),
    "average": (lambda: Average(**F64), [(3, 1, 4), (3, 5, 1)]),
    "multiply": (lambda: Multiply(**F64), [(3, 4), (3, 4), (3, 4)]),
    "multiply broadcast": (lambda: Multiply(**F64), [(3, 2, 4), (3, 4)]),
    "concatenate": (lambda: Concatenate(**F64), [(3, 2, 4), (3, 2, 1)]),
    "concatenate time": (lambda: Concatenate(axis=1, **F64), [(3, 2, 4), (3, 1, 4), (3, 5, 4)]),
}


@pytest.mark.parametrize(("make", "shape"), SINGLE.values(), ids=SINGLE)
def test_gradients(make, shape):
    layer = make()
    layer.build(shape)
    randomize(layer)
    check_layer_gradients(layer, normal(*shape))


@pytest.mark.parametrize(("make", "shapes"), SEVERAL.values(), ids=SEVERAL)
def test_gradients_of_several_inputs(make, shapes):
    check_layer_gradients(make(), [normal(*shape, seed=k) for k, shape in enumerate(shapes)])


@pytest.mark.parametrize(("make", "shape"), SINGLE.values(), ids=SINGLE)
def test_shapes_configs_and_empty_batches(make, shape):
    layer, x = make(), normal(*shape)
    y = check_round_trip(layer, x)(x)
    assert layer.compute_output_shape((None, *shape[1:])) == (None, *y.shape[1:])
    assert layer(Input(shape=shape[1:])).shape == (None, *y.shape[1:])
    assert layer(np.zeros((0, *shape[1:]))).shape == (0, *y.shape[1:])
    assert y.dtype == np.float64
    assert make()(x.tolist()).shape == y.shape


@pytest.mark.parametrize(("make", "shapes"), SEVERAL.values(), ids=SEVERAL)
def test_shapes_configs_and_empty_batches_of_several_inputs(make, shapes):
    layer, inputs = make(), [normal(*shape) for shape in shapes]
    y = layer(inputs)
    check_round_trip(layer, inputs)
    symbolic = layer([Input(shape=shape[1:]) for shape in shapes])
    assert symbolic.shape == (None, *y.shape[1:])
    assert len(symbolic.node.parents()) == len(shapes)
    assert layer([x[:0] for x in inputs]).shape == (0, *y.shape[1:])


def test_float32_is_the_default_and_is_kept():
    for make, shape in SINGLE.values():
        config = {**make().get_config(), "dtype": None}
        assert type(make()).from_config(config)(normal(*shape)).dtype == np.float32


# ---- values --------------------------------------------------------------------------------------


def test_dense_is_a_product():
    layer, x = Dense(4, "tanh", dtype="float64"), normal(2, 3, 5)
    y = layer(x)
    kernel, bias = layer.get_weights()
    assert not bias.any()
    np.testing.assert_allclose(y, np.tanh(x @ kernel), rtol=1e-12)
    assert layer.count_params() == 24


def test_layer_normalization_values():
    layer, x = LayerNormalization(axis=[1, 2], epsilon=0.01, dtype="float64"), normal(2, 3, 5)
    layer.build(x.shape)
    randomize(layer)
    gamma, beta = layer.get_weights()
    assert gamma.shape == beta.shape == (3, 5)
    for row, y in zip(x, layer(x), strict=True):
        expected = (row - row.mean()) / np.sqrt(row.var() + 0.01) * gamma + beta
        np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_embedding():
    layer = Embedding(5, 3, mask_zero=True, dtype="float64")
    ids, context = np.array([[1, 4, 1], [0, 2, 1]]), Context()
    y = layer(ids, context=context)
    np.testing.assert_array_equal(y, layer.embeddings.value[ids])
    assert np.abs(layer.embeddings.value).max() <= 0.05
    dy = normal(2, 3, 3)
    assert layer.backward(context, dy) is None
    gradient = context.gradients[layer.embeddings]
    np.testing.assert_allclose(gradient[1], dy[0, 0] + dy[0, 2] + dy[1, 2], rtol=1e-12)
    np.testing.assert_allclose(gradient[4], dy[0, 1], rtol=1e-12)
    assert not gradient[3].any()
    np.testing.assert_array_equal(layer.compute_mask(ids), ids != 0)
    assert layer.compute_mask(np.array([[0.0, 2.0]])).tolist() == [[False, True]]
    assert Embedding(5, 3).compute_mask(ids) is None
    assert layer([[1, 2], [3, 4]]).shape == (2, 2, 3)
    assert layer(ids.astype(float)).shape == (2, 3, 3)
    assert layer(Input(shape=(None,), dtype="int32")).shape == (None, None, 3)
    check_round_trip(layer, ids)
    check_layer_gradients_of_table(layer, ids)


def check_layer_gradients_of_table(layer, ids):
    randomize(layer)
    check_layer_gradients(layer, ids)


def test_embedding_starting_weights_and_length():
    table = normal(4, 2)
    layer = Embedding(4, 2, weights=[table], input_length=3)
    np.testing.assert_array_equal(layer.embeddings.value, table.astype(np.float32))
    assert layer.batch_input_shape == (None, 3)
    with pytest.raises(ValueError, match="shape"):
        Embedding(4, 2, weights=normal(2, 4))


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (
            [[5]],
            ValueError,
            r'Embedding "table": the input must hold integers from 0 to 4 .*5 to 5',
        ),
        ([[0, -1]], ValueError, "got -1 to 0"),
        ([[0.5]], ValueError, "got fractions"),
        ([[np.nan]], ValueError, "got fractions"),
        ([["a"]], TypeError, "must hold integers, got an array of dtype <U1"),
        ([[True]], TypeError, "got an array of dtype bool"),
    ],
)
def test_embedding_refuses(ids, error, message):
    with pytest.raises(error, match=message):
        Embedding(5, 2, name="table")(np.array(ids))


def test_masking():
    x = np.array([[[1.0, 2], [0.5, 0.5], [0.5, 3]], [[0.5, 0.5], [4, 5], [0, 0]]])
    layer = Masking(0.5)
    expected = [[True, False, True], [False, True, True]]
    assert layer.compute_mask(x).tolist() == expected
    assert layer.compute_mask(x.tolist()).tolist() == expected
    y, context = layer(x), Context()
    assert not y[0, 1].any()
    assert (y[0, 2] == [0.5, 3]).all()
    layer(x, context=context)
    dy = np.ones_like(y)
    assert layer.backward(context, dy).any(axis=-1).tolist() == expected
    rounded = Masking(0.1)
    assert not rounded.compute_mask(np.full((1, 2, 1), 0.1)).any()
    assert not rounded(np.full((1, 2, 1), 0.1)).any()


def test_dropout():
    layer, x = Dropout(0.25, seed=3), np.ones((50, 40))
    assert (layer(x) == 1).all()
    assert (layer(x, training=False) == 1).all()
    context = Context()
    y = layer(x, training=True, context=context)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert 0.2 < (y == 0).mean() < 0.3
    np.testing.assert_array_equal(layer.backward(context, np.ones_like(y)), y)
    np.testing.assert_array_equal(Dropout(0.25, seed=3)(x, training=True), y)
    assert not np.array_equal(layer(x, training=True), y)
    assert not Dropout(1.0)(x, training=True).any()
    assert Dropout(0)(x, training=True).all()


def test_dropout_noise_shape():
    layer = Dropout(0.5, noise_shape=(None, 1, None), seed=1)
    y = layer(np.ones((20, 6, 10)), training=True)
    assert (y == y[:, :1]).all()
    assert 0.3 < (y == 0).mean() < 0.7
    check_round_trip(layer, np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="must broadcast over the input"):
        Dropout(0.5, noise_shape=(None, 2))(np.ones((3, 4)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rate": 1.1}, ValueError, "`rate` must be from 0 to 1, got 1.1"),
        ({"rate": "x"}, TypeError, "`rate` must be a number"),
        ({"rate": 0.5, "noise_shape": (0, 1)}, ValueError, "tuple of positive integers"),
        ({"rate": 0.5, "noise_shape": 3}, ValueError, "tuple of positive integers"),
        ({"rate": 0.5, "seed": -1}, ValueError, "`seed` must not be negative"),
    ],
)
def test_dropout_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        Dropout(**arguments)


# ---- Lambda --------------------------------------------------------------------------------------


def test_lambda_arguments_mask_and_training():
    seen = []

    def function(x, factor, mask=None, training=None):
        seen.append((mask, training))
        return factor * x

    layer = Lambda(function, arguments={"factor": 3}, mask=lambda x, mask: "made")
    assert layer(np.ones((1, 2)), training=True, mask="given").tolist() == [[3, 3]]
    assert seen == [("given", True)]
    assert layer.compute_mask(None, None) == "made"


def test_lambda_shapes():
    assert Lambda(lambda x: x.sum(axis=1))(Input(shape=(None, 3))).shape == (None, 3)
    assert Lambda(double)(Input(shape=(None, 3))).shape == (None, None, 3)
    assert Lambda(double, output_shape=(7,))(Input(shape=(3,))).shape == (None, 7)
    assert Lambda(double, output_shape=lambda s: (s[0], 9))(Input(shape=(3,))).shape == (None, 9)
    pair = Lambda(lambda ab: ab[0] + ab[1])
    assert pair([Input(shape=(3,)), Input(shape=(3,))]).shape == (None, 3)
    assert pair([np.ones((1, 3)), np.ones((1, 3))]).tolist() == [[2, 2, 2]]


def test_lambda_without_backward_cannot_be_trained_through():
    context = Context()
    layer = Lambda(double, name="twice")
    y = layer(np.ones((1, 2)), context=context)
    with pytest.raises(ValueError, match=r'Lambda "twice" cannot be trained through.*`backward`'):
        layer.backward(context, y)


def test_lambda_configs_name_functions_and_call_no_others():
    config = Lambda(double, backward=double_backward).get_config()
    assert config["function"] == {"function": f"{__name__}.double"}
    again = Lambda.from_config(json.loads(json.dumps(config)))
    assert again.function is double
    with pytest.raises(ValueError, match="cannot be written to a config"):
        Lambda(lambda x: x).get_config()
    config["function"] = {"function": "os.system"}
    with pytest.raises(ValueError, match=r"'os\.system' of the config is not known here"):
        Lambda.from_config(config)
    spec = {"class_name": "Lambda", "config": config}
    assert layers.deserialize(spec, {"system": double}).function is double
    with pytest.raises(TypeError, match="`function` must be a function"):
        Lambda(3)


# ---- merging -------------------------------------------------------------------------------------


def test_merging_values():
    a, b = normal(2, 3, 4), normal(2, 4)
    wide = b[:, None]
    for layer, expected in (
        (Add(), a + wide), (Average(), (a + wide) / 2), (Multiply(), a * wide),
    ):  # fmt: skip
        np.testing.assert_allclose(layer([a, b]), expected, rtol=1e-6)
    np.testing.assert_allclose(layers.add([a, a]), 2 * a, rtol=1e-6)
    np.testing.assert_allclose(layers.average([a, 3 * a]), 2 * a, rtol=1e-6)
    np.testing.assert_allclose(layers.multiply([a, a]), a * a, rtol=1e-6)
    assert layers.concatenate([a, a], axis=1).shape == (2, 6, 4)
    single = Add()([a])
    single[:] = 0
    assert a.any()


def test_masks_of_merged_inputs():
    a, b = normal(2, 3, 4), normal(2, 3, 2)
    one = np.array([[1, 1, 0], [0, 1, 0]], bool)
    two = np.array([[1, 0, 0], [1, 0, 0]], bool)
    either = one | two
    for layer in (Add(), Average(), Multiply()):
        np.testing.assert_array_equal(layer.compute_mask([a, a], [one, two]), either)
        assert layer.compute_mask([a, a], [one, None]) is None
        assert layer.compute_mask([a, a]) is None
    side = Concatenate()
    np.testing.assert_array_equal(side.compute_mask([a, b], [one, two]), either)
    assert side.compute_mask([a, b], [one, None]).all()
    assert side.compute_mask([a, b], [None, None]) is None
    along = Concatenate(axis=1).compute_mask([a, a], [one, None])
    np.testing.assert_array_equal(along, np.concatenate([one, np.ones((2, 3), bool)], axis=1))
    with pytest.raises(ValueError, match="list of 2 masks"):
        side.compute_mask([a, b], [one])


def test_multiply_counts_masked_inputs_as_one():
    a, b = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    one = np.array([[1, 1, 0], [0, 1, 0]], bool)
    two = np.array([[1, 0, 0], [1, 0, 0]], bool)
    layer = Multiply(dtype="float64")
    expected = np.where(one[..., None], a, 1) * np.where(two[..., None], b, 1)
    y = layer([a, b], mask=[one, two])
    np.testing.assert_array_equal(y, np.where((one | two)[..., None], expected, 0))
    check_layer_gradients(layer, [a, b], mask=[one, two])
    check_layer_gradients(layer, [a, b], mask=[one, None])


def test_the_mask_of_a_product_may_be_changed_after_the_call():
    rng = np.random.default_rng(0)
    inputs, dy = list(rng.normal(size=(2, 3, 4, 2))), rng.normal(size=(3, 4, 2))
    masks = list(rng.random((2, 3, 4)) < 0.5)
    layer, found = Multiply(dtype="float64"), []
    for changes in (False, True):
        context = Context()
        layer(inputs, mask=masks, context=context)
        if changes:
            for mask in masks:
                mask[:] = ~mask
        found.append(layer.backward(context, dy))
    for got, want in zip(*found, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (Add(), [(2, 3), (2, 4)], "shapes that broadcast, got shapes"),
        (Add(), [(2, 3), (1, 3)], "the same batch size"),
        (Multiply(), [(2, 3, 4), (2, 5)], "shapes that broadcast"),
        (Concatenate(), [(2, 3, 4), (2, 4, 4)], "equal sizes outside of axis -1"),
        (Concatenate(), [(2, 3, 4), (2, 3)], "equally many dimensions"),
        (Concatenate(axis=3), [(2, 3), (2, 3)], "axis 3"),
    ],
)
def test_merging_refuses(layer, shapes, message):
    with pytest.raises(ValueError, match=message):
        layer([np.ones(shape) for shape in shapes])
    with pytest.raises(ValueError, match=message):
        layer([Input(batch_shape=shape) for shape in shapes])


def test_merging_refuses_a_single_array():
    with pytest.raises(ValueError, match=r"takes a list of inputs, got one of shape \(2, 3\)"):
        Add()(np.ones((2, 3)))
    with pytest.raises(TypeError, match="`axis` must be an integer"):
        Concatenate(axis="1")


# ---- masks, names, shapes ------------------------------------------------------------------------


def test_which_layers_pass_masks_on():
    mask = np.ones((2, 3), bool)
    passing = [
        Dense(2), Activation("relu"), Dropout(0.1), LayerNormalization(), TimeDistributed(Dense(2)),
        LSTM(2, return_sequences=True), Bidirectional(LSTM(2, return_sequences=True)),
    ]  # fmt: skip
    for layer in passing:
        assert layer.compute_mask(None, mask) is mask, layer
    for layer in (LSTM(2), Flatten(), Reshape((1,)), Permute((2, 1)), RepeatVector(2), Lambda(abs)):
        assert layer.compute_mask(None, mask) is None, layer


def test_names_count_from_one():
    reset_names()
    names = [LSTM(1).name, Dense(1).name, LSTM(2).name, TimeDistributed(Dense(1)).name]
    assert names == ["lstm_1", "dense_1", "lstm_2", "time_distributed_1"]
    assert LayerNormalization().name == "layer_normalization_1"


def test_input():
    x = Input(shape=(None, 3), batch_size=4, dtype="float64", name="series")
    assert (x.shape, x.dtype, x.ndim) == ((4, None, 3), "float64", 3)
    layer = x.node.layer
    assert (layer.name, layer.output) == ("series", x)
    assert (
        type(layer).from_config(json.loads(json.dumps(layer.get_config()))).output.shape == x.shape
    )
    assert Input(batch_shape=(2, 3), dtype="int32").dtype == "int32"
    with pytest.raises(ValueError, match="either `shape` or `batch_shape`"):
        Input()
    with pytest.raises(ValueError, match="either `shape` or `batch_shape`"):
        Input(shape=(2,), batch_shape=(1, 2))
    with pytest.raises(ValueError, match="`batch_size` is for `shape`"):
        Input(batch_shape=(1, 2), batch_size=3)
    with pytest.raises(ValueError, match="tuple of sizes"):
        Input(shape=3)
    with pytest.raises(ValueError, match="tuple of sizes"):
        Input(shape=(-1,))
    with pytest.raises(TypeError, match="`dtype` must be a NumPy dtype"):
        Input(shape=(2,), dtype="nonsense")
    with pytest.raises(TypeError, match="has no values"):
        np.asarray(x)
    with pytest.raises(ValueError, match=r"must have shape \(4, None, 3\)"):
        layer(np.ones((4, 2, 2)))


def test_arrays_and_symbols_do_not_mix():
    with pytest.raises(TypeError, match="cannot be mixed"):
        Add()([Input(shape=(3,)), np.ones((2, 3))])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dense(0), ValueError, "`units` must be a positive integer, got 0"),
        (lambda: Dense(True), TypeError, "`units` must be a positive integer"),
        (lambda: Dense(2.5), TypeError, "`units` must be a positive integer"),
        (lambda: Dense(2, "sofmax"), ValueError, "Did you mean 'softmax'"),
        (lambda: Dense(2, units_=3), TypeError, "unknown arguments: units_"),
        (lambda: Dense(2, activity_regularizer="l3"), ValueError, "regularizer"),
        (lambda: Activation("reluu"), ValueError, "Did you mean 'relu'"),
        (lambda: RepeatVector(0), ValueError, "`n` must be a positive integer"),
        (lambda: RepeatVector("2"), TypeError, "`n` must be a positive integer"),
        (lambda: Reshape((-1, -1)), ValueError, "at most one of them -1"),
        (lambda: Reshape(3), TypeError, "`target_shape` must be a tuple of integers"),
        (lambda: Permute((0, 1)), ValueError, "numbers from 1 to 2"),
        (lambda: Permute((1, 3)), ValueError, "numbers from 1 to 2"),
        (lambda: Masking("0"), TypeError, "`mask_value` must be a number"),
        (lambda: Flatten(data_format="channels_first"), ValueError, "`data_format` must be"),
        (lambda: LayerNormalization(axis=1.5), TypeError, "`axis` must be a tuple of integers"),
        (lambda: LayerNormalization(epsilon=-1), ValueError, "`epsilon` must not be negative"),
        (lambda: Embedding(0, 2), ValueError, "`input_dim` must be a positive integer"),
        (lambda: Embedding(2, 2.0), TypeError, "`output_dim` must be a positive integer"),
        (lambda: layers.deserialize({}), TypeError, "`class_name` and `config`"),
        (
            lambda: layers.deserialize({"class_name": "Dens", "config": {}}),
            ValueError,
            "Did you mean 'Dense'",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Dense(2), (3,), r"at least 2 dimensions \(B, ..., F\), got shape \(3,\)"),
        (Dense(2), (3, 0), "known number of features"),
        (RepeatVector(2), (2, 3, 4), r"must have 2 dimensions \(B, F\)"),
        (Reshape((2, 5)), (3, 9), r"rows of shape \(9,\) hold 9 elements"),
        (Reshape((2, -1)), (3, 9), "do not fit `target_shape`"),
        (Permute((2, 1)), (2, 3), "must have 3 dimensions"),
        (Masking(), (3,), "at least 2 dimensions"),
        (LayerNormalization(axis=3), (2, 3), "must be an axis of the input"),
    ],
)
def test_bad_inputs(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(np.ones(shape))
    with pytest.raises(ValueError, match=message):
        layer(Input(batch_shape=shape))
    assert not layer.built


def test_other_feature_counts_after_the_first():
    for layer, message in (
        (
            Dense(2, name="d"),
            r'Dense "d": the input must have 3 features .* got 4 \(shape \(2, 4\)',
        ),
        (LayerNormalization(), r"must be \(3,\), got shape \(2, 4\)"),
    ):
        layer(np.ones((2, 3)))
        before = layer.get_weights()
        with pytest.raises(ValueError, match=message):
            layer(np.ones((2, 4)))
        for a, b in zip(layer.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)


def test_keras_configs_are_understood_where_they_can_be():
    spec = {
        "module": "keras.layers",
        "class_name": "Embedding",
        "config": {
            "name": "words",
            "dtype": {"class_name": "DTypePolicy", "config": {"name": "float64"}},
            "input_dim": 3,
            "output_dim": 2,
            "activity_regularizer": None,
            "quantization_config": None,
        },
    }
    layer = layers.deserialize(spec)
    assert (layer.name, layer.dtype) == ("words", "float64")
    spec["config"]["lora_rank"] = 4
    with pytest.raises(TypeError, match="unknown arguments: lora_rank"):
        layers.deserialize(spec)


# ---- the base ------------------------------------------------------------------------------------


class Scale(Layer):
    def __init__(self, start="zeros", **keywords):
        super().__init__(**keywords)
        self.start = start

    def build(self, input_shape):
        self.factor = self.add_weight((input_shape[-1],), "ones", name="factor")
        self.offset = self.add_weight((1,), self.start, name="offset", trainable=False)

    def call(self, inputs):
        return inputs * self.factor.value

    def backward(self, context, dy):
        context.add_gradient(self.factor, (dy * context.inputs).sum(axis=0))
        return dy * self.factor.value

    def get_config(self):
        return {**super().get_config(), "start": self.start}


def test_custom_layer():
    layer = Scale(dtype="float64")
    layer.build((None, 3))
    layer.factor.assign([2, 3, 4])
    context = Context()
    layer(normal(4, 3), context=context)
    layer.backward(context, normal(4, 3, seed=1))
    assert list(context.gradients) == [layer.factor]
    spec = json.loads(json.dumps(layers.serialize(TimeDistributed(Scale(name="s")))))
    assert isinstance(layers.deserialize(spec).layer, Scale)
    assert layer(Input(shape=(3,))).shape == (None, 3)


def test_weights_made_frozen_stay_frozen():
    layer = Scale()
    layer.build((None, 3))
    layer.trainable = False
    assert layer.trainable_weights == []
    layer.trainable = True
    assert layer.trainable_weights == [layer.factor]
    assert layer.non_trainable_weights == [layer.offset]
    assert layer.factor.path == "scale_1/factor".replace("scale_1", layer.name)


def test_a_failing_build_leaves_nothing_behind():
    layer = Scale("no such initializer")
    with pytest.raises(ValueError, match="initializer"):
        layer(normal(2, 3))
    assert not layer.built
    assert layer.weights == []
    layer.start = "ones"
    assert layer(normal(2, 3)).shape == (2, 3)
    assert len(layer.weights) == 2


def test_threads_that_meet_an_unbuilt_layer_build_it_once():
    def slow_ones(shape, dtype=None):
        time.sleep(0.02)
        return np.ones(shape, dtype)

    layer = Dense(2, kernel_initializer=slow_ones)
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(layer, [np.ones((1, 3))] * 4))
    assert len(layer.weights) == 2
    assert all((y == 3).all() for y in outputs)


def test_weights_set_by_hand():
    layer = Dense(2)
    with pytest.raises(ValueError, match="not built yet"):
        layer.set_weights([np.ones((3, 2)), np.ones(2)])
    layer.build((None, 3))
    before = layer.get_weights()
    bad = [
        ([np.ones((3, 2))], ValueError, "needs 2 arrays, got 1"),
        ([np.ones((2, 3)), np.ones(2)], ValueError, r"must have shape \(3, 2\), got \(2, 3\)"),
        ([np.ones((3, 2)), np.array([1, np.nan])], ValueError, "must be finite"),
        ([np.ones((3, 2)), np.array(["a", "b"])], TypeError, "real numbers"),
    ]
    for weights, error, message in bad:
        with pytest.raises(error, match=message):
            layer.set_weights(weights)
        for a, b in zip(layer.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)
    buffer = np.zeros(8, np.float32)
    view = buffer[:6].reshape(3, 2)
    view[...] = layer.kernel.value
    layer.kernel.rebind(view)
    layer.kernel.assign(np.ones((3, 2)))
    assert buffer[:6].all()


def test_what_is_read_of_weights_is_a_copy():
    layer = LSTM(3)
    x = normal(2, 4, 5)
    before, values = layer(x), layer.get_weights()
    twin = copy.copy(layer.kernel)
    for array in (*layer.get_weights(), layer.kernel.numpy(), np.array(layer.kernel)):
        array += 1
    twin.assign(twin.numpy() + 1)
    np.testing.assert_array_equal(layer(x), before)
    for weight, value in zip(layer.weights, values, strict=True):
        np.testing.assert_array_equal(weight.value, value)
        assert not weight.value.flags.writeable


def test_regularizers_and_constraints_reach_the_weights():
    layer = Dense(2, kernel_regularizer="l2", bias_constraint="non_neg")
    layer.build((None, 3))
    assert type(layer.kernel.regularizer).__name__ == "L2"
    assert type(layer.bias.constraint).__name__ == "NonNeg"
    assert layer.kernel.constraint is layer.bias.regularizer is None
    check_round_trip(layer, normal(2, 3))
    assert isinstance(layer.kernel, Weight)


def test_arguments_that_are_assigned_later_are_checked_and_count():
    x = normal(2, 3)
    dense = Dense(4, activation="tanh")
    before = dense(x)
    dense.activation = "relu"
    twin = Dense(4, activation="relu")
    twin.build(x.shape)
    twin.set_weights(dense.get_weights())
    np.testing.assert_array_equal(dense(x), twin(x))
    assert np.abs(dense(x) - before).max() > 1e-3
    activation, dropout = layers.Activation("tanh"), Dropout(0.0, seed=3)
    activation.activation = "relu"
    np.testing.assert_array_equal(activation(x), np.maximum(x, 0).astype(np.float32))
    ones = np.ones((20, 20), np.float32)
    np.testing.assert_array_equal(dropout(ones, training=True), ones)
    dropout.rate = 0.5
    assert set(np.unique(dropout(ones, training=True))) == {0, 2}
    projected = layers.ProjectedLSTM(4, 2)
    projected(normal(2, 3, 3))
    for layer, name, value, error, message in [
        (dense, "activation", "nonsense", ValueError, "`activation` must be one of"),
        (dense, "units", 5, AttributeError, "`units` must stay 4"),
        (dense, "use_bias", False, AttributeError, "`use_bias` must stay True"),
        (activation, "activation", "nonsense", ValueError, "`activation` must be one of"),
        (dropout, "rate", 1.5, ValueError, "`rate` must be from 0 to 1"),
        (projected, "projection_units", 3, AttributeError, "`projection_units` must stay 2"),
    ]:
        config = layer.get_config()
        with pytest.raises(error, match=message):
            setattr(layer, name, value)
        assert layer.get_config() == config


def test_every_public_layer_is_listed():
    defined = {
        cls.__name__
        for cls in vars(layers).values()
        if isinstance(cls, type) and issubclass(cls, Layer)
    }
    assert defined <= set(layers.__all__)
    assert len(as_list(layers.__all__)) == len(set(layers.__all__))


def test_lambda_of_a_function_of_numpy():
    layer = Lambda(np.tanh)
    np.testing.assert_array_equal(layer(np.ones((2, 3))), np.tanh(np.ones((2, 3), np.float32)))
    again = layers.deserialize(layers.serialize(layer), {"tanh": np.tanh})
    np.testing.assert_array_equal(again(np.ones((2, 3))), layer(np.ones((2, 3))))
