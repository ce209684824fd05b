"""TimeDistributed and Bidirectional: what Keras answers, gradients, masks, states, errors."""

import json

import numpy as np
import pytest
from golden_files import GOLDEN, load_golden
from layer_checks import as_list, check_layer_gradients, check_round_trip, randomize

from fastlstm._core import dense
from fastlstm.layers import (
    LSTM,
    Bidirectional,
    Context,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Input,
    Lambda,
    Masking,
    RepeatVector,
    TimeDistributed,
    deserialize,
    serialize,
)
from fastlstm.models import Model
from fastlstm.optimizers import SGD
from fastlstm.utils import set_random_seed

CASES = sorted([*GOLDEN.glob("timedistributed_*.npz"), *GOLDEN.glob("bidirectional_*.npz")])
MASK = np.array([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 1]], bool)
MERGE_MODES = ["concat", "sum", "mul", "ave", None]


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def golden_layer(path, dtype):
    config, data = load_golden(path)
    spec = json.loads(json.dumps(config["spec"]).replace("float64", dtype))
    layer = deserialize(spec)
    layer.build(data["x"].shape)
    weights = [data[f"w{k}"] for k in range(len(layer.weights))]
    layer.set_weights(weights)
    return layer, data


def test_all_golden_cases_are_there():
    assert len(CASES) == 9


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_golden_outputs_and_gradients(path):
    layer, data = golden_layer(path, "float64")
    context = Context()
    outputs = as_list(layer(data["x"], mask=data.get("mask"), context=context))
    assert len(outputs) == sum(name.startswith("out") for name in data)
    for k, y in enumerate(outputs):
        np.testing.assert_allclose(y, data[f"out{k}"], rtol=1e-9, atol=1e-10)
    dy = [data[f"grad_out{k}"] for k in range(len(outputs))]
    dx = layer.backward(context, dy if len(dy) > 1 else dy[0])
    np.testing.assert_allclose(dx, data["grad_x"], rtol=1e-9, atol=1e-10)
    assert len(layer.weights) == sum(name.startswith("grad_w") for name in data)
    for k, weight in enumerate(layer.weights):
        np.testing.assert_allclose(
            context.gradients[weight], data[f"grad_w{k}"], rtol=1e-9, atol=1e-10, err_msg=k
        )


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_golden_outputs_in_float32(path):
    layer, data = golden_layer(path, "float32")
    for k, y in enumerate(as_list(layer(data["x"], mask=data.get("mask")))):
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, data[f"out{k}"], rtol=2e-5, atol=2e-6)


# ---- TimeDistributed -----------------------------------------------------------------------------


def test_dense_inside_is_one_call_of_the_kernel(monkeypatch):
    calls = []
    forward = dense.forward

    def counted(plan, x, *args):
        calls.append(x.shape)
        return forward(plan, x, *args)

    monkeypatch.setattr(dense, "forward", counted)
    TimeDistributed(Dense(2))(normal(3, 5, 4))
    assert calls == [(3, 5, 4)]


INNER = [
    lambda: Dense(2, "softmax", dtype="float64"),
    lambda: LSTM(2, dtype="float64", return_sequences=True),
    lambda: LSTM(2, dtype="float64", return_state=True),
    lambda: Bidirectional(LSTM(2, dtype="float64"), dtype="float64"),
    lambda: TimeDistributed(LSTM(2, dtype="float64"), dtype="float64"),
]
INNER_SHAPES = [(3, 2, 4), (3, 2, 4, 2), (3, 2, 4, 2), (3, 2, 4, 2), (2, 2, 3, 3, 2)]


@pytest.mark.parametrize(("make", "shape"), list(zip(INNER, INNER_SHAPES, strict=True)))
def test_time_distributed_gradients(make, shape):
    layer = TimeDistributed(make(), dtype="float64")
    layer.build(shape)
    randomize(layer)
    check_layer_gradients(layer, normal(*shape))


@pytest.mark.parametrize(("make", "shape"), list(zip(INNER, INNER_SHAPES, strict=True)))
def test_time_distributed_equals_step_by_step(make, shape):
    layer, x = TimeDistributed(make(), dtype="float64"), normal(*shape)
    outputs = as_list(layer(x))
    steps = [as_list(layer.layer(x[:, t])) for t in range(shape[1])]
    for y, *parts in zip(outputs, *steps, strict=True):
        np.testing.assert_allclose(y, np.stack(parts, axis=1), rtol=1e-12)
    shapes = layer.compute_output_shape((None, *shape[1:]))
    shapes = shapes if isinstance(shapes, list) else [shapes]
    assert [s[1:] for s in shapes] == [y.shape[1:] for y in outputs]
    assert all(s[0] is None for s in shapes)


def test_masks_reach_the_steps():
    layer = TimeDistributed(LSTM(2, dtype="float64"), dtype="float64")
    x, mask = normal(3, 2, 5, 2), np.stack([MASK, ~MASK], axis=1)
    y = layer(x, mask=mask)
    for t in range(2):
        np.testing.assert_allclose(y[:, t], layer.layer(x[:, t], mask=mask[:, t]), rtol=1e-12)
    check_layer_gradients(layer, x, mask=mask)
    with pytest.raises(ValueError, match=r"must begin with \(B, T\) = \(3, 2\), got \(3, 5\)"):
        layer(x, mask=MASK)


def test_time_distributed_passes_training_and_the_mask_on():
    layer = TimeDistributed(Dropout(0.5, seed=1))
    x = np.ones((4, 5, 6))
    assert (layer(x) == 1).all()
    assert set(np.unique(layer(x, training=True))) == {0.0, 2.0}
    np.testing.assert_array_equal(layer.compute_mask(x, MASK), MASK)


NESTED_MASK = np.random.default_rng(3).random((4, 5, 6)) < 0.5
NESTED_MASK[1, 2:] = False


@pytest.mark.parametrize(
    ("layer", "want"),
    [
        (LSTM(3), NESTED_MASK.any(axis=-1)),
        (LSTM(3, return_sequences=True), NESTED_MASK),
        (Bidirectional(LSTM(3)), NESTED_MASK.any(axis=-1)),
        (Dense(3), NESTED_MASK),
        (TimeDistributed(Dense(3)), NESTED_MASK),
        (Flatten(), NESTED_MASK.any(axis=-1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_mask_of_steps_in_steps_fits_the_outputs(layer, want):
    outer = TimeDistributed(layer)
    y, mask = outer.call_with_mask(normal(4, 5, 6, 2), NESTED_MASK)
    np.testing.assert_array_equal(mask, want)
    assert y.shape[: mask.ndim] == mask.shape


def test_words_of_characters_are_read_as_if_padding_were_not_there():
    """(B, words, characters): what is padded equals what is cut off, through loss and gradient."""
    set_random_seed(2)
    characters = Input(shape=(None, None), dtype="int32")
    embedded = Embedding(9, 4, mask_zero=True, dtype="float64")(characters)
    words = TimeDistributed(Bidirectional(LSTM(3, dtype="float64")))(embedded)
    steps = LSTM(5, return_sequences=True, dtype="float64")(words)
    tags = TimeDistributed(Dense(2, dtype="float64"))(steps)
    model = Model(characters, tags)
    model.compile(SGD(0.1), "mse", weighted_metrics=["mae"])
    ids = np.random.default_rng(1).integers(1, 9, size=(2, 4, 5))
    ids[0, 2:] = ids[1, 3:] = 0
    ids[:, 0, 3:] = ids[:, 1, 2:] = 0
    y = normal(2, 4, 2)
    real = [[word[word > 0][None] for word in text if word.any()] for text in ids]
    want = []
    for row, text in enumerate(real):
        vectors = [model.layers[2].layer(model.layers[1](word)) for word in text]
        steps = model.layers[3](np.stack(vectors, axis=1))
        want.append(model.layers[4](steps)[0])
        np.testing.assert_allclose(model.predict(ids)[row, : len(vectors)], want[-1], rtol=1e-10)
    errors = np.concatenate([w - y[row, : len(w)] for row, w in enumerate(want)])
    loss, mae = model.evaluate(ids, y, verbose=0)
    assert loss == pytest.approx((errors**2).mean(), rel=1e-9)
    assert mae == pytest.approx(np.abs(errors).mean(), rel=1e-9)
    before = model.get_weights()
    assert model.train_on_batch(ids, y)[0] == pytest.approx(loss)
    after = model.get_weights()
    np.testing.assert_array_equal(before[0][0], after[0][0])
    assert all(np.abs(b - a).max() > 1e-6 for b, a in zip(before, after, strict=True))


def test_time_distributed_embedding_keeps_integers():
    layer = TimeDistributed(Embedding(2**24 + 2, 1, embeddings_initializer="ones"))
    ids = np.array([[[2**24 + 1, 3], [1, 2]]])
    context = Context()
    y = layer(ids, context=context)
    assert y.shape == (1, 2, 2, 1)
    assert layer.backward(context, np.ones_like(y)) is None
    gradient = context.gradients[layer.weights[0]]
    assert np.flatnonzero(gradient).tolist() == [1, 2, 3, 2**24 + 1]


def test_time_distributed_refuses_2d_input():
    layer = TimeDistributed(Dense(1), name="each")
    message = r'TimeDistributed "each": the input must have at least 3 dimensions .*\(2, 4\)'
    with pytest.raises(ValueError, match=message):
        layer(normal(2, 4))
    with pytest.raises(ValueError, match=message):
        layer(Input(batch_shape=(2, 4)))
    assert not layer.built
    assert not layer.layer.built
    layer(normal(2, 3, 4))
    with pytest.raises(ValueError, match="4 features"):
        layer(normal(2, 3, 5))


def test_time_distributed_refuses_bad_layers():
    with pytest.raises(TypeError, match="`layer` must be a Layer, got 'dense'"):
        TimeDistributed("dense")
    with pytest.raises(ValueError, match="must not be stateful"):
        TimeDistributed(LSTM(2, stateful=True))


def test_time_distributed_round_trip():
    layer = TimeDistributed(LSTM(3, return_sequences=True, name="inner"), name="outer")
    again = check_round_trip(layer, normal(2, 3, 4, 2))
    assert (again.name, again.layer.name) == ("outer", "inner")
    assert TimeDistributed(Dense(1), trainable=False).layer.trainable is False


# ---- Bidirectional -------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("merge_mode", MERGE_MODES)
@pytest.mark.parametrize("sequences", [False, True])
def test_bidirectional_gradients(merge_mode, sequences, masked):
    inner = LSTM(3, dtype="float64", return_sequences=sequences, return_state=True)
    layer = Bidirectional(inner, merge_mode, dtype="float64")
    x = normal(3, 5, 2)
    layer.build(x.shape)
    randomize(layer)
    states = [normal(3, 3, seed=k) for k in range(1, 5)]
    check_layer_gradients(layer, x, states=states, mask=MASK if masked else None)


@pytest.mark.parametrize("merge_mode", MERGE_MODES)
def test_bidirectional_without_states(merge_mode):
    layer = Bidirectional(LSTM(3, dtype="float64", return_sequences=True), merge_mode, None)
    x = normal(3, 5, 2)
    forward, backward = layer.forward_layer, layer.backward_layer
    layer.build(x.shape)
    y = layer(x.astype(np.float32))
    assert [w.shape for w in layer.weights] == [(2, 12), (3, 12), (12,)] * 2
    a, b = forward(x.astype(np.float32)), backward(x.astype(np.float32))[:, ::-1]
    expected = {
        "concat": np.concatenate([a, b], axis=-1),
        "sum": a + b,
        "mul": a * b,
        "ave": (a + b) / 2,
        None: [a, b],
    }[merge_mode]
    for ours, theirs in zip(as_list(y), as_list(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    shape = layer.compute_output_shape((None, 5, 2))
    width = 6 if merge_mode == "concat" else 3
    assert shape == ([(None, 5, 3)] * 2 if merge_mode is None else (None, 5, width))


# Side by side, one after the other, and too little for threads.
@pytest.mark.parametrize("shape", [(1, 20, 40, 70), (5, 9, 3, 33), (17, 5, 3, 20), (2, 3, 1, 2)])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sequences", [True, False])
def test_bidirectional_equals_its_layers(set_threads, shape, threads, dtype, sequences):
    batch, steps, features, units = shape
    inner = LSTM(units, return_sequences=sequences, return_state=True, dtype=dtype)
    layer = Bidirectional(inner, merge_mode=None, dtype=dtype)
    x = np.random.default_rng(0).normal(size=(batch, steps, features)).astype(dtype)
    set_threads(threads)
    y, y_back, *states = layer(x)
    want, *want_states = layer.forward_layer(x)
    want_back, *want_states_back = layer.backward_layer(x)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(y_back, want_back[:, ::-1] if sequences else want_back)
    for found, expected in zip(states, [*want_states, *want_states_back], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_bidirectional_of_two_real_types():
    back = LSTM(3, go_backwards=True, dtype="float64")
    layer = Bidirectional(LSTM(3), merge_mode=None, backward_layer=back)
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    y, y_back = layer(x)
    assert (y.dtype, y_back.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(y_back, back(x))


def test_bidirectional_backward_reads_the_reversed_sequence():
    layer = Bidirectional(LSTM(3, dtype="float64", return_sequences=True), None, dtype="float64")
    x = normal(2, 5, 2)
    layer.build(x.shape)
    twin = LSTM(3, dtype="float64", return_sequences=True)
    twin.build(x.shape)
    twin.set_weights(layer.backward_layer.get_weights())
    np.testing.assert_allclose(layer(x)[1], twin(x[:, ::-1])[:, ::-1], rtol=1e-12)


def test_bidirectional_structure_and_masks():
    x = Input(shape=(None, 2))
    outputs = Bidirectional(LSTM(3, return_sequences=True, return_state=True))(x)
    assert [t.shape for t in outputs] == [(None, None, 6)] + [(None, 3)] * 4
    layer = Bidirectional(LSTM(3, return_sequences=True, return_state=True), None)
    assert [t.shape for t in layer(x)] == [(None, None, 3)] * 2 + [(None, 3)] * 4
    masks = layer.compute_mask(None, MASK)
    assert masks[0] is masks[1] is MASK
    assert masks[2:] == [None] * 4
    assert Bidirectional(LSTM(3)).compute_mask(None, MASK) is None
    sequences = Bidirectional(LSTM(3, return_sequences=True))
    assert sequences.compute_mask(None, MASK) is MASK
    assert sequences.forward_layer.zero_output_for_mask


def test_bidirectional_names_and_copies():
    pattern = LSTM(3, name="lstm_7")
    layer = Bidirectional(pattern)
    assert layer.forward_layer is not pattern
    assert (layer.forward_layer.name, layer.backward_layer.name) == (
        "forward_lstm_7", "backward_lstm_7",
    )  # fmt: skip
    assert (layer.forward_layer.go_backwards, layer.backward_layer.go_backwards) == (False, True)


def test_bidirectional_own_backward_layer_and_starting_weights():
    backward = LSTM(4, go_backwards=True, activation="relu")
    layer = Bidirectional(LSTM(3), backward_layer=backward)
    assert layer.backward_layer is backward
    assert layer(normal(2, 3, 2)).shape == (2, 7)
    weights = [w + 1 for w in layer.get_weights()]
    again = Bidirectional(LSTM(3), backward_layer=LSTM(4, go_backwards=True), weights=weights)
    again.build((None, 3, 2))
    for a, b in zip(again.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bidirectional_stateful():
    layer = Bidirectional(LSTM(3, stateful=True, dtype="float64"), dtype="float64")
    x = normal(2, 4, 2)
    first, second = layer(x), layer(x)
    assert not np.allclose(first, second)
    before = [s.copy() for s in layer.states]
    assert len(before) == 4
    bad = [np.zeros((2, 3))] * 3 + [np.zeros((2, 4))]
    with pytest.raises(ValueError, match="`initial_state` c"):
        layer(x, initial_state=bad)
    for a, b in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(a, b)
    layer.reset_states()
    np.testing.assert_array_equal(layer(x), first)


def test_bidirectional_round_trip():
    inner = LSTM(3, return_sequences=True, return_state=True, name="inner")
    layer = Bidirectional(inner, "sum", name="both")
    again = check_round_trip(layer, normal(2, 3, 2), mask=MASK[:2, :3])
    assert again.backward_layer.name == "backward_inner"
    spec = json.loads(json.dumps(serialize(layer)))
    assert serialize(deserialize(spec)) == spec


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": "lstm"}, TypeError, "`layer` must be a Layer"),
        ({"layer": Dense(2)}, ValueError, "recurrent layer such as LSTM"),
        ({"merge_mode": "max"}, ValueError, "`merge_mode` must be one of"),
        ({"backward_layer": LSTM(2)}, ValueError, "must differ in `go_backwards`"),
        ({"layer": LSTM(2, go_backwards=True)}, ValueError, "must differ in `go_backwards`"),
        (
            {"backward_layer": LSTM(2, go_backwards=True, return_state=True)},
            ValueError,
            "same `return_state`, got False and True",
        ),
    ],
)
def test_bidirectional_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        Bidirectional(**{"layer": LSTM(2), **arguments})


def test_bidirectional_bad_calls():
    layer, x = Bidirectional(LSTM(2)), normal(2, 3, 2)
    with pytest.raises(ValueError, match="4 in all for LSTM, got 3"):
        layer(x, initial_state=[np.zeros((2, 2))] * 3)
    with pytest.raises(TypeError, match="must be a list"):
        layer(x, initial_state=np.zeros((4, 2, 2)))
    with pytest.raises(ValueError, match=r"3 dimensions \(B, T, F\)"):
        layer(x[0])


@pytest.mark.parametrize(
    "layer",
    [
        Bidirectional(LSTM(2, return_sequences=True)),
        TimeDistributed(Dense(3)),
        TimeDistributed(Lambda(lambda x: x[:, :2])),
    ],
)
def test_empty_batches(layer):
    context = Context()
    y = layer(np.zeros((0, 4, 3)), context=context)
    assert y.shape[:2] == (0, 4)
    assert y.shape == (0, *layer.compute_output_shape((None, 4, 3))[1:])


def test_nothing_is_lost_between_wrappers():
    """A small network by hand: masks and gradients pass through every layer."""
    x = normal(3, 5, 2)
    x[MASK == 0] = 0
    masking = Masking(dtype="float64")
    inner = Bidirectional(LSTM(2, dtype="float64"), dtype="float64")
    repeat = RepeatVector(3, dtype="float64")
    out = TimeDistributed(Dense(1, dtype="float64"), dtype="float64")
    contexts = [Context()]
    contexts += [contexts[0].child() for _ in range(3)]
    y = masking(x, context=contexts[0])
    y = inner(y, mask=masking.compute_mask(x), context=contexts[1])
    y = out(repeat(y, context=contexts[2]), context=contexts[3])
    assert y.shape == (3, 3, 1)
    dy = np.ones_like(y)
    for layer, context in zip((out, repeat, inner, masking), contexts[::-1], strict=True):
        dy = layer.backward(context, dy)
    assert (dy[MASK] != 0).all()
    assert not dy[~MASK].any()
    assert len(contexts[0].gradients) == 8


@pytest.mark.parametrize("become", ["from the start", "later"])
def test_bidirectional_keeps_states_where_the_batch_size_came_with_the_data(become):
    x = normal(3, 5, 2)
    layer = Bidirectional(LSTM(4, stateful=become != "later", return_state=True), dtype="float64")
    layer(Input(shape=(None, 2)))
    if become == "later":
        layer(x)
        layer.stateful = True
        assert layer.forward_layer.stateful
        assert layer.backward_layer.stateful
    states = layer(x)[1:]
    stateless = Bidirectional(LSTM(4, return_state=True), dtype="float64")
    stateless.build(x.shape)
    stateless.set_weights(layer.get_weights())
    second = layer(x)
    for found, want in zip(second, stateless(x, initial_state=states), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-7)
    assert np.abs(second[0] - stateless(x)[0]).max() > 1e-3


def test_layers_that_were_called_before_become_a_bidirectional():
    x, mask = normal(2, 5, 3), np.array([[0, 1, 1, 0, 1], [1, 0, 1, 1, 0]], bool)
    forward = LSTM(4, return_sequences=True)
    backward = LSTM(4, return_sequences=True, go_backwards=True)
    forward(x, mask=mask), backward(x, mask=mask)
    layer = Bidirectional(forward, backward_layer=backward)
    layer.build(x.shape)
    fresh = Bidirectional(
        LSTM(4, return_sequences=True),
        backward_layer=LSTM(4, return_sequences=True, go_backwards=True),
    )
    fresh.build(x.shape)
    fresh.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(x, mask=mask), fresh(x, mask=mask))


def test_another_merge_mode_is_checked():
    layer, x = Bidirectional(LSTM(4)), normal(2, 5, 3)
    halves = np.split(layer(x), 2, axis=-1)
    layer.merge_mode = "sum"
    np.testing.assert_array_equal(layer(x), halves[0] + halves[1])
    with pytest.raises(ValueError, match="`merge_mode` must be one of"):
        layer.merge_mode = "max"
    assert layer.merge_mode == "sum"
