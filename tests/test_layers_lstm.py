"""The LSTM layer: what Keras answers, gradients, masks, states, dropout, errors."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from golden_files import GOLDEN, load_golden
from layer_checks import as_list, check_layer_gradients, check_round_trip, randomize

from fastlstm.layers import LSTM, Context, Input
from fastlstm.layers.weight import changing

CASES = sorted(GOLDEN.glob("lstm_*.npz"))
WEIGHTS = ("kernel", "recurrent_kernel", "bias")


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def golden_layer(path, dtype):
    config, data = load_golden(path)
    layer = LSTM(config["units"], dtype=dtype, **config["kwargs"])
    layer.build(data["x"].shape)
    layer.set_weights([data[name] for name in WEIGHTS if name in data])
    call = {"mask": data.get("mask")}
    if "h0" in data:
        call["initial_state"] = [data["h0"], data["c0"]]
    return layer, config, data, call


def test_all_golden_cases_are_there():
    assert len(CASES) == 17


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_golden_outputs_and_gradients(path):
    layer, config, data, call = golden_layer(path, "float64")
    for _ in range(config["calls"]):
        context = Context()
        outputs = as_list(layer(data["x"], context=context, **call))
    expected = [name for name in data if name.startswith("out")]
    assert len(outputs) == len(expected) > 0
    for k, y in enumerate(outputs):
        np.testing.assert_allclose(y, data[f"out{k}"], rtol=1e-9, atol=1e-10)
    if config["calls"] > 1:
        return
    dy = [data[f"grad_out{k}"] for k in range(len(outputs))]
    dx = layer.backward(context, dy if layer.return_state else dy[0])
    found = {name: context.gradients.get(getattr(layer, name)) for name in WEIGHTS[:2]}
    if layer.use_bias:
        found["bias"] = context.gradients[layer.bias]
    if "h0" in data:
        dx, keywords = dx
        found["h0"], found["c0"] = keywords["initial_state"]
    found["x"] = dx
    compared = [n for n in data if n.startswith("grad_") and not n.startswith("grad_out")]
    assert {f"grad_{name}" for name in found} == set(compared)
    for name, gradient in found.items():
        np.testing.assert_allclose(
            gradient, data[f"grad_{name}"], rtol=1e-9, atol=1e-10, err_msg=name
        )


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_golden_outputs_in_float32(path):
    layer, config, data, call = golden_layer(path, "float32")
    for _ in range(config["calls"]):
        outputs = as_list(layer(data["x"], **call))
    for k, y in enumerate(outputs):
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, data[f"out{k}"], rtol=2e-5, atol=2e-6)


MASK = np.array([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 1]], bool)
OPTIONS = [
    {},
    {"return_sequences": True},
    {"return_state": True, "use_bias": False},
    {"return_sequences": True, "return_state": True, "go_backwards": True},
    {"zero_output_for_mask": True},
    {"zero_output_for_mask": True, "return_sequences": True, "return_state": True},
    {"go_backwards": True, "activation": "softsign", "recurrent_activation": "tanh"},
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients(options, masked):
    layer = LSTM(3, dtype="float64", **options)
    x, states = normal(3, 5, 2), [normal(3, 3, seed=1), normal(3, 3, seed=2)]
    layer.build(x.shape)
    randomize(layer)
    check_layer_gradients(layer, x, states=states, mask=MASK if masked else None)


def test_missing_output_gradients_are_zero():
    layer = LSTM(3, dtype="float64", return_sequences=True, return_state=True)
    x, context = normal(2, 4, 2), Context()
    y, h, _ = layer(x, context=context)
    whole = layer.backward(context, [np.zeros_like(y), np.ones_like(h), np.zeros_like(h)])
    np.testing.assert_array_equal(layer.backward(context, [None, np.ones_like(h), None]), whole)
    assert np.abs(whole).max() > 0
    assert not layer.backward(context, [None, None, None]).any()


def test_weights_used_twice_add_up():
    layer, x = LSTM(3, dtype="float64"), normal(2, 4, 2)
    single, both = Context(), Context()
    dy = normal(2, 3)
    y = layer(x, context=single)
    layer.backward(single, dy)
    for _ in range(2):
        inner = both.child()
        layer(x, context=inner)
        layer.backward(inner, dy)
    assert y.shape == dy.shape
    for weight in layer.weights:
        np.testing.assert_array_equal(both.gradients[weight], 2 * single.gradients[weight])


def test_masked_output_is_the_last_one_that_counts():
    x = normal(3, 5, 2)
    layer = LSTM(4, dtype="float64")
    states = [normal(3, 4, seed=3), normal(3, 4, seed=4)]
    y = layer(x, mask=MASK, initial_state=states)
    sequence = LSTM(4, dtype="float64", return_sequences=True)
    sequence(x)
    sequence.set_weights(layer.get_weights())
    np.testing.assert_array_equal(y, sequence(x, mask=MASK, initial_state=states)[:, -1])
    assert not y[1].any()
    assert y[0].all()
    short = layer(x[:1, [1, 3]], initial_state=[s[:1] for s in states])
    np.testing.assert_allclose(y[:1], short, rtol=1e-12)


def test_zero_output_for_mask_without_sequences():
    layer = LSTM(4, dtype="float64", zero_output_for_mask=True)
    y = layer(normal(3, 5, 2), mask=MASK)
    assert not y[:2].any()
    assert y[2].all()


@pytest.mark.parametrize("recurrent_dropout", [0, 0.5])
@pytest.mark.parametrize("zero_output_for_mask", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_masked_output_is_the_last_of_the_sequence(
    go_backwards, zero_output_for_mask, recurrent_dropout
):
    options = {
        "go_backwards": go_backwards, "zero_output_for_mask": zero_output_for_mask,
        "recurrent_dropout": recurrent_dropout, "seed": 3, "dtype": "float64",
    }  # fmt: skip
    x, mask = normal(4, 5, 2), np.vstack([MASK, [[1, 1, 0, 0, 0]]]).astype(bool)
    last, sequence = LSTM(3, **options), LSTM(3, return_sequences=True, **options)
    last.build(x.shape)
    sequence.build(x.shape)
    sequence.set_weights(last.get_weights())
    states = [normal(4, 3, seed=3), normal(4, 3, seed=4)]
    call = {"mask": mask, "initial_state": states, "training": True}
    y, whole = last(x, **call), sequence(x, **call)
    np.testing.assert_allclose(y, whole[:, -1], rtol=1e-12)
    in_order = mask[:, ::-1] if go_backwards else mask
    shown = in_order if zero_output_for_mask else np.logical_or.accumulate(in_order, axis=1)
    np.testing.assert_array_equal((whole != 0).all(axis=-1), shown)
    assert not whole[~shown].any()


# ---- recurrent dropout and dropout ---------------------------------------------------------------


def by_hand(layer, x, factors, h, c, mask):
    """Keras's recurrence with one set of factors for each gate, written out."""
    kernel, recurrent, bias = layer.get_weights()
    units = layer.units

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    steps = range(x.shape[1])
    for t in reversed(steps) if layer.go_backwards else steps:
        z = []
        for g in range(4):
            part = slice(g * units, (g + 1) * units)
            z.append(
                (x[:, t] * factors.inputs[:, g]) @ kernel[:, part]
                + (h * factors.state[:, g]) @ recurrent[:, part]
                + bias[part]
            )
        c_new = sigmoid(z[1]) * c + sigmoid(z[0]) * np.tanh(z[2])
        h_new = sigmoid(z[3]) * np.tanh(c_new)
        h = np.where(mask[:, t, None], h_new, h)
        c = np.where(mask[:, t, None], c_new, c)
    return h, c


def with_fixed_dropout(layer):
    """Let every call draw the same factors, so that differences can be taken."""
    draw, first = layer._draw, {}

    def same(shape, rate):
        key = (shape, rate)
        if key not in first:
            first[key] = draw(shape, rate)
        return first[key]

    layer._draw = same
    return layer


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_recurrent_dropout_is_the_recurrence_with_factors(masked, go_backwards):
    layer = LSTM(
        3, dtype="float64", dropout=0.3, recurrent_dropout=0.4, seed=2, return_state=True,
        go_backwards=go_backwards,
    )  # fmt: skip
    x, h0, c0 = normal(3, 5, 2), normal(3, 3, seed=1), normal(3, 3, seed=2)
    layer.build(x.shape)
    randomize(layer)
    with_fixed_dropout(layer)
    factors = layer._factors_by_gate(3, 2)
    assert len(np.unique(factors.state)) == 2
    mask = MASK if masked else np.ones((3, 5), bool)
    h, c = by_hand(layer, x, factors, h0, c0, mask)
    given = MASK if masked else None
    _, h_layer, c_layer = layer(x, mask=given, initial_state=[h0, c0], training=True)
    np.testing.assert_allclose(h_layer, h, rtol=1e-12)
    np.testing.assert_allclose(c_layer, c, rtol=1e-12)
    plain = layer(x, mask=given, initial_state=[h0, c0])[1]
    assert not np.allclose(plain, h)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rates", [(0.3, 0.0), (0.0, 0.4), (0.3, 0.4)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"return_sequences": True, "return_state": True, "go_backwards": True},
        {"zero_output_for_mask": True, "return_sequences": True},
        {"use_bias": False},
    ],
    ids=str,
)
def test_gradients_with_dropout(options, rates, masked):
    dropout, recurrent_dropout = rates
    layer = LSTM(
        3, dtype="float64", seed=4, dropout=dropout, recurrent_dropout=recurrent_dropout, **options
    )
    x = normal(3, 4, 3)
    layer.build(x.shape)
    randomize(layer)
    states = [normal(3, 3, seed=1), normal(3, 3, seed=2)]
    mask = MASK[:, :4] if masked else None
    check_layer_gradients(with_fixed_dropout(layer), x, states=states, training=True, mask=mask)


@pytest.mark.parametrize("from_state", [False, True])
def test_each_gate_has_factors_of_its_own(from_state):
    # Every gate is its factor, 0 or 2, times 1: c = f + i g is 0 or 6 where the three are the same.
    layer = LSTM(
        1, activation="linear", recurrent_activation="linear", unit_forget_bias=False, seed=5,
        dropout=0.5, recurrent_dropout=0.5, return_state=True, kernel_initializer="zeros",
        recurrent_initializer="zeros",
    )  # fmt: skip
    layer.build((200, 1, 1))
    (layer.recurrent_kernel if from_state else layer.kernel).assign(np.ones((1, 4)))
    ones = np.ones((200, 1), np.float32)
    _, h, c = layer(ones[:, None], initial_state=[ones, ones], training=True)
    assert set(np.unique(c)) == {0, 2, 4, 6}
    assert set(np.unique(h[c == 2])) == {0, 4}


def test_recurrent_dropout_at_rate_zero_is_the_plain_layer():
    x = normal(3, 5, 2)
    dropped = LSTM(3, dtype="float64", recurrent_dropout=0.5, return_sequences=True)
    dropped.build(x.shape)
    dropped._draw = lambda shape, rate: np.ones(shape)
    plain = LSTM(3, dtype="float64", return_sequences=True)
    plain.build(x.shape)
    plain.set_weights(dropped.get_weights())
    for mask in (None, MASK):
        np.testing.assert_allclose(
            dropped(x, training=True, mask=mask), plain(x, mask=mask), rtol=1e-12, atol=1e-15
        )


def test_dropout_drops_the_same_features_at_all_steps():
    layer = LSTM(2, dtype="float64", dropout=0.5, seed=1, kernel_initializer="ones")
    x, context = normal(50, 6, 4), Context()
    layer(x, training=True, context=context)
    dx = layer.backward(context, np.ones((50, 2)))
    dropped = dx == 0
    assert (dropped == dropped[:, :1]).all()
    assert 0.3 < dropped.mean() < 0.7
    assert (layer(x) == layer(x, training=False)).all()


def test_dropout_is_repeatable_by_seed():
    x = normal(3, 5, 2)
    first, second, other = (
        LSTM(3, dropout=0.5, recurrent_dropout=0.5, seed=s, kernel_initializer="ones",
             recurrent_initializer="ones")
        for s in (7, 7, 8)
    )  # fmt: skip
    y = first(x, training=True)
    np.testing.assert_array_equal(y, second(x, training=True))
    assert not np.array_equal(y, other(x, training=True))
    assert not np.array_equal(y, first(x, training=True))


# ---- states --------------------------------------------------------------------------------------


def test_stateful_calls_continue_one_another():
    x = normal(3, 6, 2)
    layer = LSTM(4, dtype="float64", stateful=True, return_sequences=True, return_state=True)
    whole = LSTM(4, dtype="float64", return_sequences=True)
    whole.build(x.shape)
    halves = [layer(x[:, :2])[0], layer(x[:, 2:])[0]]
    whole.set_weights(layer.get_weights())
    np.testing.assert_allclose(np.concatenate(halves, axis=1), whole(x), rtol=1e-12)
    layer.reset_states()
    np.testing.assert_array_equal(layer(x[:, :2])[0], halves[0])
    layer.reset_state()
    assert not any(state.any() for state in layer.states)


def test_stateful_gradients_stop_between_calls():
    x, dy = normal(3, 4, 2), normal(3, 4)
    layer = LSTM(4, dtype="float64", stateful=True)
    layer(x)
    states = [state.copy() for state in layer.states]
    context, same = Context(), Context()
    layer(x, context=context)
    dx = layer.backward(context, dy)
    assert isinstance(dx, np.ndarray)
    plain = LSTM(4, dtype="float64")
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    plain(x, initial_state=states, context=same)
    np.testing.assert_array_equal(dx, plain.backward(same, dy)[0])
    for ours, theirs in zip(layer.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(context.gradients[ours], same.gradients[theirs])


def test_states_returned_are_copies():
    layer = LSTM(2, stateful=True, return_state=True)
    _, h, c = layer(normal(2, 3, 1))
    h[:] = c[:] = 9
    assert max(np.abs(s).max() for s in layer.states) < 9


def test_stateful_layer_refuses_another_batch_size_and_stays_as_it_was():
    layer = LSTM(2, stateful=True, name="memory", batch_input_shape=(3, 4, 1))
    layer(normal(3, 4, 1))
    states = [s.copy() for s in layer.states]
    with pytest.raises(ValueError, match=r'LSTM "memory" is stateful with a batch size of 3, got'):
        layer(normal(2, 4, 1))
    with pytest.raises(ValueError, match="mask"):
        layer(normal(3, 4, 1), mask=np.ones((3, 5), bool))
    for state, before in zip(layer.states, states, strict=True):
        np.testing.assert_array_equal(state, before)


def test_stateful_batch_size_comes_from_the_graph():
    layer = LSTM(2, stateful=True)
    layer(Input(batch_shape=(3, None, 1)))
    with pytest.raises(ValueError, match="batch size of 3"):
        layer(normal(2, 4, 1))
    assert layer(normal(3, 4, 1)).shape == (3, 2)


@pytest.mark.parametrize("become", ["from the start", "later"])
def test_states_are_kept_where_the_batch_size_came_with_the_data(become):
    x = normal(3, 6, 2).astype(np.float32)
    layer = LSTM(4, stateful=become != "later", return_sequences=True)
    layer(Input(shape=(None, 2)))
    whole = LSTM(4, return_sequences=True)
    whole.build(x.shape)
    whole.set_weights(layer.get_weights())
    if become == "later":
        layer(x)
        layer.stateful = True
    assert layer.states is None
    halves = [layer(x[:, :2]), layer(x[:, 2:])]
    np.testing.assert_allclose(np.concatenate(halves, axis=1), whole(x), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="stateful with a batch size of 3"):
        layer(x[:2])
    layer.stateful = False
    np.testing.assert_array_equal(layer(x[:2]), whole(x[:2]))
    np.testing.assert_array_equal(layer(x), whole(x))


# ---- shapes, configuration -----------------------------------------------------------------------


def test_symbolic_shapes():
    x = Input(shape=(None, 3))
    assert LSTM(4)(x).shape == (None, 4)
    y, h, c = LSTM(4, return_sequences=True, return_state=True)(x)
    assert (y.shape, h.shape, c.shape) == ((None, None, 4), (None, 4), (None, 4))
    y = LSTM(4)(x, initial_state=[h, c])
    assert set(y.node.parents()) == {x, h, c}


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 2), (2, 3, 1), (1, 1, 1)])
def test_small_sizes(shape):
    for sequences in (False, True):
        layer = LSTM(1, return_sequences=sequences, return_state=True)
        x, context = normal(*shape), Context()
        outputs = layer(x, context=context)
        expected = layer.compute_output_shape(x.shape)
        assert [y.shape for y in outputs] == expected
        assert layer.backward(context, outputs).shape == shape
        assert np.isfinite(outputs[0]).all()


def test_no_steps_give_no_output_and_carry_the_states():
    layer = LSTM(3, return_state=True, dtype="float64")
    states, context = [normal(2, 3, seed=1), normal(2, 3, seed=2)], Context()
    y, h, c = layer(normal(2, 0, 4), initial_state=states, context=context)
    assert not y.any()
    np.testing.assert_array_equal(h, states[0])
    np.testing.assert_array_equal(c, states[1])
    _, keywords = layer.backward(context, [np.ones((2, 3)), h, c])
    np.testing.assert_array_equal(keywords["initial_state"], states)


def test_starting_weights():
    layer = LSTM(3)
    layer.build((None, 5, 2))
    assert [w.shape for w in layer.weights] == [(2, 12), (3, 12), (12,)]
    np.testing.assert_array_equal(layer.bias.value, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(
        layer.recurrent_kernel.value @ layer.recurrent_kernel.value.T, np.eye(3), atol=1e-6
    )
    assert np.abs(layer.kernel.value).max() <= np.sqrt(6 / 14)
    assert layer.count_params() == 4 * 3 * (2 + 3 + 1)
    plain = LSTM(3, unit_forget_bias=False, bias_initializer="ones")
    plain.build((None, 5, 2))
    assert (plain.bias.value == 1).all()
    assert len(LSTM(3, use_bias=False)(normal(1, 2, 2))) == 1


def test_build_by_hand_happens_once():
    layer = LSTM(3)
    layer.build((None, 5, 2))
    kernel = layer.kernel
    layer.build((None, 5, 2))
    layer(normal(2, 5, 2))
    assert layer.built
    assert layer.kernel is kernel
    assert len(layer.weights) == 3


def test_every_argument_survives_the_config():
    arguments = {
        "units": 3, "activation": "softsign", "recurrent_activation": "hard_sigmoid",
        "kernel_initializer": {"class_name": "RandomNormal", "config": {"seed": 3}},
        "recurrent_initializer": "glorot_normal", "bias_initializer": "ones",
        "unit_forget_bias": False, "kernel_regularizer": "l1", "recurrent_regularizer": "l2",
        "bias_regularizer": "l2", "kernel_constraint": "max_norm",
        "recurrent_constraint": "unit_norm", "bias_constraint": "non_neg", "dropout": 0.25,
        "recurrent_dropout": 0.5, "seed": 4, "return_sequences": True, "return_state": True,
        "go_backwards": True, "stateful": True, "unroll": True, "use_cudnn": False,
        "implementation": 1, "zero_output_for_mask": True, "name": "all", "trainable": False,
        "dtype": "float64", "batch_input_shape": (2, None, 3),
    }  # fmt: skip
    layer = LSTM(**arguments)
    config = layer.get_config()
    for name in set(arguments) - {"batch_input_shape"}:
        value = arguments[name]
        if not name.endswith(("initializer", "regularizer", "constraint")):
            assert config[name] == value, name
    assert config["kernel_initializer"]["config"]["seed"] == 3
    assert config["kernel_regularizer"]["class_name"] == "L1"
    assert config["bias_constraint"]["class_name"] == "NonNeg"
    again = LSTM.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert again.batch_input_shape == (2, None, 3)
    check_round_trip(LSTM(3, use_bias=False, return_sequences=True), normal(2, 4, 2))


def test_frozen_layer_passes_the_gradient_on():
    layer, x = LSTM(3, trainable=False), normal(2, 4, 2)
    context = Context()
    layer.backward(context, layer(x, context=context))
    assert not context.gradients
    assert layer.trainable_weights == []
    layer.trainable = True
    assert len(layer.trainable_weights) == 3


# ---- settings that change ------------------------------------------------------------------------

CHANGES = {
    "activation": "softsign",
    "recurrent_activation": "hard_sigmoid",
    "go_backwards": True,
    "zero_output_for_mask": True,
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("how", ["array", "mask", "recurrent dropout"])
def test_a_setting_that_is_assigned_counts_from_the_next_call_on(name, how):
    x, mask = normal(3, 5, 2), MASK if how != "array" or name.startswith("zero") else None
    rates = {"recurrent_dropout": 0.5} if how == "recurrent dropout" else {}
    call = {"mask": mask, "training": bool(rates)}
    options = {"return_sequences": True, "dtype": "float64", **rates}
    layer, fresh = LSTM(4, seed=3, **options), LSTM(4, seed=3, **options, **{name: CHANGES[name]})
    before = layer(x, **call)
    fresh.build(x.shape)
    if rates:
        fresh(x, **call)
    fresh.set_weights(layer.get_weights())
    setattr(layer, name, CHANGES[name])
    after = layer(x, **call)
    np.testing.assert_array_equal(after, fresh(x, **call))
    assert np.abs(after - before).max() > 1e-3
    assert layer.get_config()[name] == CHANGES[name]


def test_a_setting_that_is_assigned_is_checked():
    layer, x = LSTM(4, name="known"), normal(3, 5, 2)
    before, config = layer(x), layer.get_config()
    bad = [
        ("activation", "nonsense", ValueError, '"known": `activation` must be one of'),
        ("recurrent_activation", "softmax", ValueError, "`recurrent_activation` must be one of"),
        ("dropout", 2, ValueError, "`dropout` must be from 0 to 1"),
        ("recurrent_dropout", "x", TypeError, "`recurrent_dropout` must be a number"),
        ("units", 5, AttributeError, '"known": `units` must stay 4.*got 5; make a new layer'),
        ("units", 0, ValueError, "`units` must be a positive integer"),
        ("use_bias", False, AttributeError, "`use_bias` must stay True"),
    ]
    for name, value, error, message in bad:
        with pytest.raises(error, match=message):
            setattr(layer, name, value)
    layer.units, layer.use_bias = 4, True
    assert layer.get_config() == config
    np.testing.assert_array_equal(layer(x), before)
    unbuilt = LSTM(4)
    unbuilt.units, unbuilt.use_bias = 3, False
    assert unbuilt(x).shape == (3, 3)
    assert len(unbuilt.weights) == 2


@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout"])
def test_dropout_may_begin_later(name):
    layer, x = LSTM(4, seed=3), normal(3, 5, 2)
    before = layer(x, training=True)
    setattr(layer, name, 0.5)
    dropped = layer(x, training=True)
    assert np.abs(dropped - before).max() > 1e-3
    np.testing.assert_array_equal(layer(x), before)
    setattr(layer, name, 0)
    np.testing.assert_array_equal(layer(x, training=True), before)


# ---- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.4])
@pytest.mark.parametrize("zero_output_for_mask", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_mask_may_be_changed_after_the_call(
    recurrent_dropout, zero_output_for_mask, return_sequences, go_backwards
):
    x, dy = normal(3, 4, 2), normal(3, 4, 5)
    layers = [
        LSTM(
            5,
            dtype="float64",
            recurrent_dropout=recurrent_dropout,
            zero_output_for_mask=zero_output_for_mask,
            return_sequences=return_sequences,
            go_backwards=go_backwards,
            seed=3,
        )
        for _ in range(2)
    ]
    found = []
    for layer, changes in zip(layers, (False, True), strict=True):
        layer.build(x.shape)
        randomize(layer)
        mask = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 0, 0, 0]], bool)
        context = Context()
        layer(x, mask=mask, training=True, context=context)
        if changes:
            mask[:] = ~mask
        dx = layer.backward(context, dy if return_sequences else dy[:, 0])
        found.append([dx, *(context.gradients[w] for w in layer.weights)])
    for got, want in zip(*found, strict=True):
        np.testing.assert_array_equal(got, want)


def test_one_layer_serves_many_threads():
    layer = LSTM(5, return_sequences=True)
    inputs = [normal(3, 20, 2, seed=k) for k in range(24)]

    def work(x):
        context = Context()
        y = layer(x, context=context)
        dx = layer.backward(context, y)
        return y, dx, [context.gradients[w] for w in layer.weights]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, inputs))
    assert len(layer.weights) == 3
    for x, (y, dx, gradients) in zip(inputs, results, strict=True):
        expected = work(x)
        np.testing.assert_array_equal(y, expected[0])
        np.testing.assert_array_equal(dx, expected[1])
        for a, b in zip(gradients, expected[2], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "interrupted"])
def test_nothing_computed_while_weights_change_is_kept(ends):
    layer, x = LSTM(4), normal(3, 6, 2).astype(np.float32)
    layer(x)
    buffers = [np.empty(w.shape, np.float32) for w in layer.weights]
    for weight, buffer in zip(layer.weights, buffers, strict=True):
        buffer[...] = weight.value
        weight.rebind(buffer)
    change = changing(layer.weights)
    change.__enter__()
    for buffer in buffers:
        # What another thread computes now has seen some of the change.
        layer(x)
        buffer += 0.5
    if ends:
        change.__exit__(None, None, None)
    fresh = LSTM(4)
    fresh.build(x.shape)
    fresh.set_weights(layer.get_weights())
    for _ in range(2):
        np.testing.assert_array_equal(layer(x), fresh(x))


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"units": 0}, ValueError, "`units` must be a positive integer, got 0"),
        ({"units": True}, TypeError, "`units` must be a positive integer, got True"),
        ({"units": 2.0}, TypeError, "`units` must be a positive integer, got 2.0"),
        ({"activation": "tanhh"}, ValueError, "`activation` must be one of .*Did you mean 'tanh'"),
        ({"recurrent_activation": "softmax"}, ValueError, "`recurrent_activation` must be one of"),
        ({"dropout": 1.5}, ValueError, "`dropout` must be from 0 to 1, got 1.5"),
        ({"recurrent_dropout": -0.1}, ValueError, "`recurrent_dropout` must be from 0 to 1"),
        ({"dropout": "half"}, TypeError, "`dropout` must be a number from 0 to 1"),
        ({"seed": 1.5}, TypeError, "`seed` must be an integer or None"),
        ({"activity_regularizer": "l3"}, ValueError, "regularizer"),
        ({"dtype": "float16"}, ValueError, "`dtype` must be float32 or float64"),
        ({"return_sequence": True}, TypeError, "unknown arguments: return_sequence"),
        ({"kernel_initializer": "glorot"}, ValueError, "initializer"),
        ({"name": 3}, TypeError, "`name` must be a string"),
        ({"input_shape": 3}, TypeError, "`input_shape` must be a tuple"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        LSTM(**{"units": 3, **arguments})


@pytest.mark.parametrize(
    ("x", "call", "error", "message"),
    [
        (normal(2, 4), {}, ValueError, r'LSTM "bad": the input must have 3 dimensions \(B, T, F\)'),
        (normal(2, 4, 3, 1), {}, ValueError, r"got shape \(2, 4, 3, 1\)"),
        (normal(2, 4, 5), {}, ValueError, "must have 3 features .* got 5"),
        ([normal(2, 4, 3)] * 2, {}, ValueError, "takes one input, got 2"),
        (np.array([[["a"] * 3]]), {}, TypeError, "real numbers"),
        (normal(2, 4, 3) + 1j, {}, TypeError, "real numbers"),
        (np.full((2, 4, 3), 2**53 + 1), {}, ValueError, "exactly"),
        (normal(2, 4, 3), {"mask": np.ones((2, 3), bool)}, ValueError, r"\(B, T\) = \(2, 4\)"),
        (normal(2, 4, 3), {"mask": np.full((2, 4), 2)}, ValueError, "booleans, or 0 and 1 only"),
        (normal(2, 4, 3), {"mask": np.full((2, 4), "a")}, TypeError, "`mask` must hold booleans"),
        (normal(2, 4, 3), {"initial_state": [normal(2, 2)]}, ValueError, "2 states h and c"),
        (normal(2, 4, 3), {"initial_state": normal(2, 2)}, TypeError, r"a list \[h, c\]"),
        (
            normal(2, 4, 3),
            {"initial_state": [normal(2, 2), normal(2, 3)]},
            ValueError,
            r"`initial_state` c must have shape \(B, H\) = \(2, 2\), got \(2, 3\)",
        ),
        (normal(2, 4, 3), {"states": 1}, TypeError, 'LSTM "bad" takes no `states`'),
    ],
)
def test_bad_calls_leave_the_layer_as_it_was(x, call, error, message):
    layer = LSTM(2, name="bad", dtype="float64", stateful=True)
    good = normal(2, 4, 3)
    layer(good)
    before = [a.copy() for a in [*layer.get_weights(), *layer.states]]
    with pytest.raises(error, match=message):
        layer(x, **call)
    for a, b in zip([*layer.get_weights(), *layer.states], before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_first_call_leaves_the_layer_unbuilt():
    layer = LSTM(2)
    for x in (normal(2, 4), [normal(2, 4, 3)] * 2):
        with pytest.raises(ValueError, match="input"):
            layer(x)
    with pytest.raises(ValueError, match="known number of features"):
        layer(Input(shape=(4, None)))
    with pytest.raises(TypeError, match="takes no `mystery`"):
        layer(normal(2, 4, 3), mystery=1)
    assert not layer.built
    assert layer.weights == []


def test_bad_symbolic_states():
    x, wide = Input(shape=(None, 3)), Input(shape=(5,))
    layer = LSTM(2)
    with pytest.raises(ValueError, match="2 states"):
        layer(x, initial_state=[wide])
    with pytest.raises(ValueError, match=r"\(None, 2\)"):
        layer(x, initial_state=[wide, wide])
    assert not layer.built


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_weights_of_its_own(twin_of):
    layer = LSTM(3)
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    before = layer(x)
    twin = twin_of(layer)
    np.testing.assert_array_equal(twin(x), before)
    twin.set_weights([2 * weight for weight in twin.get_weights()])
    np.testing.assert_array_equal(twin.kernel.value, 2 * layer.kernel.value)
    assert np.abs(twin(x) - before).max() > 1e-3
    np.testing.assert_array_equal(layer(x), before)
