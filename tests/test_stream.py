"""Streams: one time step after the other, bit for bit what `predict` returns for the sequence."""

import contextlib
import copy
import gc
import os
import pickle
import signal
import threading
import tracemalloc

import numpy as np
import pytest
from cores import CORES

from fastlstm import activations, set_floatx
from fastlstm._core import kernels
from fastlstm.layers import (
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Flatten,
    Input,
    Lambda,
    Layer,
    Masking,
    Permute,
    RepeatVector,
    Reshape,
    TimeDistributed,
)
from fastlstm.models import Model, Sequential

ROWS, STEPS, FEATURES = 3, 7, 5


def normal(*shape, seed=0, dtype="float32"):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def randomized(model, seed=5):
    """With weights none of which is zero or like another."""
    rng = np.random.default_rng(seed)
    model.set_weights([0.5 * rng.normal(size=w.shape) for w in model.weights])
    return model


def as_list(outputs):
    return list(outputs) if isinstance(outputs, list) else [outputs]


def series(features=FEATURES):
    return Input((None, features))


def last_step():
    x = series()
    return Model(x, Dense(3, activation="tanh")(LSTM(11)(x)))


def every_step():
    x = series()
    return Model(x, TimeDistributed(Dense(4))(LSTM(13, return_sequences=True)(x)))


def stack():
    x = series()
    y = LSTM(9, return_sequences=True, use_bias=False)(x)
    y = Dropout(0.5)(Activation("relu")(y))
    y = LSTM(17, return_sequences=True, activation="relu", recurrent_activation="hard_sigmoid")(y)
    return Model(x, Dense(6, activation="softmax")(LSTM(8, return_sequences=True)(y)))


def states_as_outputs():
    x = series()
    y, h, c = LSTM(6, return_sequences=True, return_state=True)(x)
    last, h_last, c_last = LSTM(7, return_state=True)(y)
    return Model(x, [y, h, c, last, h_last, Dense(2)(c_last)])


def reshaped_after_the_last_step():
    x = series()
    y = LSTM(12)(x)
    branches = [Reshape((3, 4))(y), Reshape((2, -1))(Dense(10)(y)), Flatten()(Reshape((4, 3))(y))]
    return Model(x, [*branches, TimeDistributed(Dense(2))(branches[0]), Activation("softmax")(y)])


def several_inputs():
    one, other = series(), series(3)
    y = LSTM(4, return_sequences=True)(one)
    return Model([one, other], [y, LSTM(5)(other), LSTM(2)(y)])


def shared():
    x, layer, dense = series(), LSTM(5, return_sequences=True), Dense(5, activation="gelu")
    return Model(x, [dense(layer(dense(layer(x)))), layer(x)])


def without_states():
    x = series()
    return Model(x, TimeDistributed(Dense(1, use_bias=False))(Dense(7, activation="selu")(x)))


def frozen():
    x = series()
    return Model(x, LSTM(3, trainable=False)(LSTM(4, return_sequences=True, stateful=False)(x)))


def with_more_axes():
    x = Input((None, 2, 3))
    return Model(x, Dense(4, activation="softmax")(Activation("elu")(x)))


MODELS = [
    last_step,
    every_step,
    stack,
    states_as_outputs,
    reshaped_after_the_last_step,
    several_inputs,
    shared,
    without_states,
    frozen,
    with_more_axes,
]


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    set_floatx(request.param)
    yield request.param
    set_floatx("float32")


def data_for(model, rows=ROWS, steps=STEPS, seed=1, dtype="float32"):
    return [
        normal(rows, steps, *tensor.shape[2:], seed=seed + k, dtype=dtype)
        for k, tensor in enumerate(model.inputs)
    ]


def at(x, t):
    """One time step of the inputs, as `step` takes it."""
    arrays = [np.ascontiguousarray(array[:, t]) for array in x]
    return arrays[0] if len(arrays) == 1 else arrays


def want_at(model, x, t):
    """What `predict` says of the sequence so far: its last step, of outputs that are sequences."""
    outputs = as_list(model.predict([array[:, : t + 1] for array in x]))
    return [
        y[:, t] if has_time else y for y, has_time in zip(outputs, have_time(model), strict=True)
    ]


def have_time(model):
    """Which outputs grow with the sequence."""
    short = as_list(model.predict([a[:, :3] for a in data_for(model)]))
    longer = as_list(model.predict([a[:, :4] for a in data_for(model)]))
    return [a.shape != b.shape for a, b in zip(short, longer, strict=True)]


def assert_same(found, want):
    found, want = as_list(found), as_list(want)
    assert len(found) == len(want)
    for y, expected in zip(found, want, strict=True):
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(y, expected)


def assert_as_near_as(core, found, want):
    """Of one engine the same bits; BLAS rounds by the number of rows and steps."""
    if core is None or core.path(8).split()[1] != "blas":
        assert_same(found, want)
        return
    for y, expected in zip(as_list(found), as_list(want), strict=True):
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def assert_streams(model, dtype="float32", core=None):
    x = data_for(model, dtype=dtype)
    stream = model.stream(ROWS)
    for t in range(STEPS):
        assert_as_near_as(core, stream.step(at(x, t)), want_at(model, x, t))


# ---- the same bits as the whole sequence ---------------------------------------------------------


@pytest.mark.parametrize("make", MODELS)
def test_steps_are_those_of_the_whole_sequence(make, dtype):
    assert_streams(randomized(make()), dtype)


@pytest.mark.parametrize("make", [stack, states_as_outputs])
def test_steps_are_those_of_the_whole_sequence_on_every_engine(make, core, set_threads):
    for threads in (1, 2):
        set_threads(threads)
        assert_streams(randomized(make()), core=core)


def test_wide_layers_stream_on_several_threads(core, set_threads):
    model = randomized(Sequential([series(33), LSTM(150, return_sequences=True), Dense(65)]))
    x = data_for(model, rows=9)
    found = []
    for threads in (1, 2, 3):
        set_threads(threads)
        stream = model.stream(9)
        found.append(np.stack([stream.step(at(x, t)) for t in range(STEPS)], axis=1))
        assert_as_near_as(core, found[-1], model.predict(x))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("activation", [*sorted(activations.ELEMENTWISE), "softmax"])
def test_every_activation_streams(activation, dtype):
    x = series()
    recurrent = activation if activation in activations.ELEMENTWISE else "tanh"
    y = LSTM(5, activation=recurrent, return_sequences=True)(x)
    assert_streams(
        randomized(Model(x, [Dense(7, activation=activation)(y), Activation(activation)(y)])), dtype
    )


def test_streams_and_programs_follow_the_instruction_set_and_the_engine():
    model = randomized(Sequential([series(33), LSTM(40, return_sequences=True), Dense(65)]))
    x = data_for(model, rows=9)
    stream, before = model.stream(9), (kernels.isa_name(), kernels.engine_name())
    try:
        for core in (*CORES, *CORES[::-1]):
            kernels.use_isa(core.isa)
            kernels.use_engine(core.engine)
            want = model.layers[1](model.layers[0](x[0]))
            np.testing.assert_array_equal(model.predict(x), want)
            stream.reset()
            found = np.stack([stream.step(at(x, t)) for t in range(STEPS)], axis=1)
            fresh = model.stream(9)
            np.testing.assert_array_equal(
                found, np.stack([fresh.step(at(x, t)) for t in range(STEPS)], axis=1)
            )
            assert_as_near_as(core, found, want)
    finally:
        kernels.use_isa(before[0])
        kernels.use_engine(before[1])


def test_a_stateful_model_streams_without_touching_its_own_states():
    model = randomized(
        Sequential([Input((None, FEATURES), batch_size=ROWS), LSTM(4, stateful=True), Dense(2)])
    )
    x = data_for(model)
    model.predict(x, batch_size=ROWS)
    before = [state.copy() for state in model.layers[0].states]
    stream = model.stream(ROWS)
    for t in range(STEPS):
        y = stream.step(at(x, t))
    assert_same(model.layers[0].states, before)
    model.reset_states()
    assert_same(y, model.predict(x, batch_size=ROWS))


@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"return_state": True}])
def test_a_layer_streams_alone(options, dtype):
    layer = LSTM(6, use_bias=False, **options)
    x = normal(ROWS, STEPS, FEATURES, dtype=dtype)
    layer(x)
    nodes = list(layer._nodes)
    stream = layer.stream(ROWS)
    assert layer._nodes == nodes
    for t in range(STEPS):
        want = as_list(layer(x[:, : t + 1]))
        want[0] = want[0][:, -1] if options.get("return_sequences") else want[0]
        assert_same(stream.step(x[:, t]), want)


def test_streams_of_layers_do_not_count_as_layers():
    layer = LSTM(3)
    layer(normal(1, 2, 3))
    number = int(Dense(1).name.rpartition("_")[2]), Input((1,)).node.layer.name
    layer.stream()
    after = Input((1,)).node.layer.name
    assert int(after.rpartition("_")[2]) == int(number[1].rpartition("_")[2]) + 1


def test_inputs_and_outputs_have_the_names_of_the_model():
    one, other = series(), series(3)
    outputs = {"u": LSTM(3)(one), "v": LSTM(2)(other)}
    model = randomized(Model({"a": one, "b": other}, outputs))
    stream, x = model.stream(ROWS), data_for(model)
    given = dict(zip("ab", at(x, 0), strict=True))
    out = {"v": np.zeros((ROWS, 2), "float32"), "u": np.zeros((ROWS, 3), "float32")}
    found = stream.step(given, out=out)
    want = model.predict({"a": x[0][:, :1], "b": x[1][:, :1]})
    assert found.keys() == want.keys()
    for name, y in want.items():
        assert found[name] is out[name]
        np.testing.assert_array_equal(found[name], y)
    with pytest.raises(ValueError, match=r"x must be named \['a', 'b'\]"):
        stream.step({"a": given["a"], "c": given["b"]})


# ---- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
def test_flags_carry_over_which_rows_have_begun(sequences, zeros, dtype):
    rows, steps = 5, 8
    mask = np.random.default_rng(2).random((rows, steps)) > 0.4
    mask[0], mask[1], mask[2, :3], mask[3, 5:] = True, False, False, False
    x = normal(rows, steps, 3, dtype=dtype) * mask[..., None]
    source = Input((None, 3), dtype=dtype)
    layer = LSTM(
        6,
        return_sequences=sequences,
        return_state=True,
        zero_output_for_mask=zeros,
        dtype=dtype,
        name="lstm",
    )
    model = Model(source, layer(Masking(dtype=dtype)(source)))
    stream = model.stream(rows)
    for t in range(steps):
        y, h, c = stream.step(np.ascontiguousarray(x[:, t]))
        want = model(x[:, : t + 1])
        assert_same([y, h, c], [want[0][:, -1] if sequences else want[0], *want[1:]])
        began = mask[:, : t + 1].any(axis=1)
        np.testing.assert_array_equal(stream.states["lstm/began"], began)


# ---- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [stack, states_as_outputs, several_inputs, shared])
def test_rows_step_as_each_alone(make, core):
    model = randomized(make())
    rows, rng = 11, np.random.default_rng(8)
    x = data_for(model, rows=rows, steps=40)
    together, alone = model.stream(rows), [model.stream() for _ in range(rows)]
    done = np.zeros(rows, int)
    for count in [1, 2, 3, 11, 5, 4, 10, 1, 7, 11, 8, 9, 6]:
        chosen = rng.permutation(rows)[:count]
        now = [a[chosen, done[chosen]] for a in x]
        found = as_list(together.step(now if len(now) > 1 else now[0], rows=list(chosen)))
        for k, row in enumerate(chosen):
            mine = [a[row : row + 1, done[row]] for a in x]
            want = as_list(alone[row].step(mine if len(mine) > 1 else mine[0]))
            assert_as_near_as(core, [y[k : k + 1] for y in found], want)
        done[chosen] += 1
    for row in range(rows):
        states = alone[row].states
        for name, state in together.states.items():
            assert_as_near_as(core, state[row : row + 1], states[name])


@pytest.mark.parametrize("rows", [[2, 0], (1,), np.array([0, 1, 2], "uint8"), np.arange(3)[::-1]])
def test_rows_may_come_as_any_integers(rows):
    model = randomized(last_step())
    x = data_for(model)[0]
    stream = model.stream(ROWS)
    y = stream.step(x[list(rows), 0], rows=rows)
    assert_same(y, model.predict(x[:, :1])[list(rows)])


def test_reset_begins_anew_all_rows_or_some():
    model = randomized(stack())
    x = data_for(model)
    stream = model.stream(ROWS)
    first = stream.step(at(x, 0))
    stream.step(at(x, 1))
    before = stream.states
    stream.reset([2, 0])
    for name, state in stream.states.items():
        assert not state[[0, 2]].any()
        np.testing.assert_array_equal(state[1], before[name][1])
    assert_same(stream.step(at(x, 0))[[0, 2]], first[[0, 2]])
    before = stream.states
    stream.reset(rows=[])
    assert_states(stream, before)
    stream.reset()
    assert_same(stream.step(at(x, 0)), first)


# ---- states --------------------------------------------------------------------------------------


def advanced(model, rows=ROWS, steps=2):
    stream, x = model.stream(rows), data_for(model, rows)
    for t in range(steps):
        stream.step(at(x, t))
    return stream


def assert_states(stream, want):
    found = stream.states
    assert list(found) == list(want)
    for name, state in want.items():
        assert found[name].dtype == state.dtype
        np.testing.assert_array_equal(found[name], state)


@pytest.mark.parametrize("make", [stack, states_as_outputs, shared, without_states])
def test_states_go_on_from_a_file(make, tmp_path, dtype):
    model = randomized(make())
    x = data_for(model, dtype=dtype)
    stream = advanced(model)
    np.savez(tmp_path / "states.npz", **stream.states)
    other = model.stream(ROWS)
    with np.load(tmp_path / "states.npz") as states:
        other.states = states
    assert_states(other, stream.states)
    twin = copy.copy(stream)
    want = stream.step(at(x, 3))
    assert_same(other.step(at(x, 3)), want)
    assert_same(twin.step(at(x, 3)), want)


def test_states_are_copies():
    stream = advanced(randomized(last_step()))
    want = stream.states
    for state in stream.states.values():
        state[...] = 1
    assert_states(stream, want)
    given = stream.states
    stream.states = given
    for state in given.values():
        state[...] = 1
    assert_states(stream, want)
    other = stream.copy()
    other.reset()
    assert_states(stream, want)


def test_states_of_another_precision_are_converted():
    stream = advanced(randomized(last_step()))
    want = stream.states
    stream.reset()
    stream.states = {
        name: np.asfortranarray(state.astype("float64")) if state.ndim == 2 else state
        for name, state in want.items()
    }
    assert_states(stream, want)


def test_a_stream_is_copied_not_pickled():
    stream = advanced(randomized(last_step()))
    with pytest.raises(TypeError, match="a stream cannot be pickled; save its `states`"):
        pickle.dumps(stream)
    with pytest.raises(TypeError):
        type(stream).__new__(type(stream))


BAD_STATES = [
    (lambda s: None, TypeError, "must be a mapping"),
    (lambda s: list(s.values()), TypeError, "must be a mapping"),
    (lambda s: {}, ValueError, "must be named"),
    (lambda s: {**s, "other": 1}, ValueError, "must be named"),
    (lambda s: {**s, 3: 1}, ValueError, "must be named"),
    (lambda s: dict(list(s.items())[1:]), ValueError, "must be named"),
    (lambda s: {k: v[:1] for k, v in s.items()}, ValueError, "must have shape"),
    (lambda s: {k: v[..., None] for k, v in s.items()}, ValueError, "must have shape"),
    (lambda s: {k: v.astype(complex) for k, v in s.items()}, TypeError, "real numbers"),
    (lambda s: {k: v.astype(str) for k, v in s.items()}, TypeError, "real numbers"),
    (lambda s: {k: v.astype(float) for k, v in s.items()}, TypeError, "began"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD_STATES)
def test_states_of_other_names_shapes_and_types_change_nothing(change, error, message):
    stream = advanced(randomized(last_step()))
    want = stream.states
    with pytest.raises(error, match=message):
        stream.states = change({name: state + state for name, state in stream.states.items()})
    assert_states(stream, want)


# ---- what a step is given ------------------------------------------------------------------------


def misaligned(x):
    raw = np.zeros(x.nbytes + 1, "uint8")[1:]
    found = raw.view(x.dtype).reshape(x.shape)
    found[...] = x
    return found


@pytest.mark.parametrize(
    "bring",
    [
        lambda x: x.astype("float64"),
        lambda x: x.tolist(),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1][::-1],
        lambda x: x.astype(">f4"),
        misaligned,
        lambda x: np.ma.array(x),
        lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    ],
)
def test_inputs_may_come_in_any_order_and_type_that_means_the_same(bring):
    model = randomized(last_step())
    x = data_for(model)[0]
    stream = model.stream(ROWS)
    assert_same(stream.step(bring(x[:, 0])), model.predict(x[:, :1]))


def test_integers_are_numbers():
    model = randomized(last_step())
    x = np.arange(ROWS * FEATURES).reshape(ROWS, FEATURES)
    assert_same(model.stream(ROWS).step(x), model.predict(x[:, None].astype("float32")))


def test_out_takes_the_outputs():
    model = randomized(states_as_outputs())
    x = data_for(model)
    stream, other = model.stream(ROWS), model.stream(ROWS)
    for t in range(STEPS):
        want = stream.step(at(x, t))
        out = [np.full_like(y, np.nan) for y in want]
        found = other.step(at(x, t), out=out)
        assert all(y is mine for y, mine in zip(found, out, strict=True))
        assert_same(found, want)


def test_outputs_are_new_arrays():
    model = randomized(every_step())
    x = data_for(model)
    stream = model.stream(ROWS)
    first = stream.step(at(x, 0))
    kept = first.copy()
    stream.step(at(x, 1))
    np.testing.assert_array_equal(first, kept)
    states = stream.states
    first[...] = 9
    assert_states(stream, states)


OK = np.zeros((ROWS, FEATURES), "float32")
BAD_STEPS = [
    ({"x": OK[0]}, ValueError, r"must have shape \(3, 5\), one time step of each row"),
    ({"x": OK[:, None]}, ValueError, "must have shape"),
    ({"x": OK[:2]}, ValueError, "must have shape"),
    ({"x": OK[:, :4]}, ValueError, "must have shape"),
    ({"x": np.zeros((ROWS, 0))}, ValueError, "must have shape"),
    ({"x": OK.astype(complex)}, TypeError, "real numbers"),
    ({"x": OK.astype(str)}, TypeError, "real numbers"),
    ({"x": OK.astype(object)}, TypeError, "real numbers"),
    ({"x": [[1.0], [1.0, 2.0]]}, ValueError, "rectangular"),
    ({"x": None}, TypeError, "real numbers"),
    ({"x": [OK, OK]}, ValueError, "must have shape"),
    ({"x": {"other": OK}}, ValueError, "must be named"),
    ({"out": np.zeros((ROWS, 4), "float32")}, ValueError, r"shape \(3, 3\)"),
    ({"out": np.zeros((1, ROWS, 3), "float32")}, ValueError, "shape"),
    ({"out": np.zeros((ROWS, 3))}, ValueError, "type float32"),
    ({"out": np.zeros((ROWS, 3), ">f4")}, ValueError, "type float32"),
    ({"out": np.zeros((3, ROWS), "float32").T}, ValueError, "not in C order"),
    ({"out": np.zeros((ROWS, 6), "float32")[:, ::2]}, ValueError, "not in C order"),
    ({"out": misaligned(np.zeros((ROWS, 3), "float32"))}, ValueError, "must be an array"),
    ({"out": np.ma.zeros((ROWS, 3), "float32")}, ValueError, "must be an array"),
    ({"out": [0.0]}, ValueError, "must be an array"),
    ({"rows": 3}, TypeError, "list of integers"),
    ({"rows": [0.0, 1.0]}, TypeError, "list of integers"),
    ({"rows": [True, False, True]}, TypeError, "list of integers"),
    ({"rows": "abc"}, TypeError, "list of integers"),
    ({"rows": [[0, 1, 2]]}, TypeError, "list of integers"),
    ({"rows": [[0], [1, 2]]}, ValueError, "`rows`"),
    ({"rows": [0, 1, 3]}, IndexError, "from 0 to 2"),
    ({"rows": [0, 1, -1]}, IndexError, "from 0 to 2"),
    ({"rows": [0, 1, 10**30]}, TypeError, "list of integers"),
    ({"rows": np.array([0, 1, 2**64 - 1], "uint64")}, IndexError, "from 0 to 2"),
    ({"rows": [0, 1, 1]}, ValueError, "a row twice"),
    ({"rows": []}, ValueError, "empty"),
    ({"rows": [0]}, ValueError, r"must have shape \(1, 5\)"),
]


@pytest.mark.parametrize(("given", "error", "message"), BAD_STEPS)
def test_a_step_that_is_refused_changes_nothing(given, error, message):
    model = randomized(last_step())
    stream = advanced(model)
    want = stream.states
    x = data_for(model)[0][:, 3]
    with pytest.raises(error, match=message) as raised:
        stream.step(**{"x": x.copy(), **given})
    assert model.name in str(raised.value)
    assert_states(stream, want)
    twin = model.stream(ROWS)
    twin.states = want
    assert_same(stream.step(x), twin.step(x))


@pytest.mark.parametrize("rows", [3, [3], [-1], [0, 0], [0.5], [[0]]])
def test_a_reset_that_is_refused_changes_nothing(rows):
    stream = advanced(randomized(last_step()))
    want = stream.states
    with pytest.raises((TypeError, IndexError, ValueError), match="`rows`"):
        stream.reset(rows)
    assert_states(stream, want)


def test_out_must_not_be_memory_of_x_nor_of_another_output():
    x = series(4)
    y = Dense(4)(x)
    stream = randomized(Model(x, y)).stream(2)
    memory = normal(16)
    x_now = memory[:8].reshape(2, 4)
    for start in (0, 3, 7):
        with pytest.raises(ValueError, match="`out` must not overlap x"):
            stream.step(x_now, out=memory[start : start + 8].reshape(2, 4))
    assert stream.step(x_now, out=memory[8:].reshape(2, 4)) is not None
    two = randomized(Model(x, [y, Dense(4)(x)])).stream(2)
    with pytest.raises(ValueError, match="must not overlap"):
        two.step(normal(2, 4), out=[x_now, x_now])
    for out in ([x_now], x_now, np.zeros((2, 2, 4), "float32"), 3):
        with pytest.raises((TypeError, ValueError), match="list of 2 arrays"):
            two.step(normal(2, 4), out=out)
    readonly = np.zeros((2, 4), "float32")
    readonly.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        stream.step(normal(2, 4), out=readonly)


def test_several_inputs_must_be_as_many():
    stream = advanced(randomized(several_inputs()))
    want = stream.states
    a, b = normal(ROWS, FEATURES), normal(ROWS, 3)
    for x in (3, a, [a], [a, b, b], iter([a, b])):
        with pytest.raises((TypeError, ValueError), match="list of 2 arrays"):
            stream.step(x)
    with pytest.raises(ValueError, match="must have shape"):
        stream.step([b, a])
    assert_states(stream, want)


# ---- what cannot be streamed ---------------------------------------------------------------------


class Doubled(LSTM):
    def call(self, inputs, context=None):
        return 2 * super().call(inputs, context=context)


class Own(Layer):
    def call(self, inputs):
        return 2 * inputs


def given_states():
    x, h, c = series(), Input((4,)), Input((4,))
    return Model([x, h, c], LSTM(4, name="culprit")(x, initial_state=[h, c]))


def states_of_another():
    x = series()
    y, h, c = LSTM(4, return_sequences=True, return_state=True)(x)
    return Model(x, LSTM(4, name="culprit")(y, initial_state=[h, c]))


def time_of_its_own():
    x = series()
    return Model(x, LSTM(4, name="culprit")(Reshape((2, 3))(LSTM(6)(x))))


def two_types():
    x = series()
    return Model(x, Dense(2, dtype="float64", name="culprit")(LSTM(3)(x)))


CULPRITS = [
    lambda: LSTM(4, go_backwards=True, name="culprit"),
    lambda: Bidirectional(LSTM(4), name="culprit"),
    lambda: Doubled(4, name="culprit"),
    lambda: Own(name="culprit"),
    lambda: Lambda(np.tanh, name="culprit"),
]
FIXED_CULPRITS = [
    lambda: Flatten(name="culprit"),
    lambda: Reshape((3, 10), name="culprit"),
    lambda: Permute((2, 1), name="culprit"),
]


@pytest.mark.parametrize("make", CULPRITS)
def test_layers_that_need_the_whole_sequence_are_refused_by_name(make):
    model = Sequential([series(), LSTM(5, return_sequences=True), make()])
    with pytest.raises(ValueError, match='"culprit"'):
        model.stream()


@pytest.mark.parametrize("make", FIXED_CULPRITS)
def test_layers_that_move_the_time_are_refused_by_name(make):
    model = Sequential([Input((6, FEATURES)), make()])
    with pytest.raises(ValueError, match='"culprit"'):
        model.stream()


@pytest.mark.parametrize("make", [given_states, states_of_another, time_of_its_own, two_types])
def test_what_steps_cannot_say_is_refused_by_name(make):
    model = make()
    with pytest.raises(ValueError, match='"culprit"'):
        model.stream()


def test_repeated_vectors_are_refused():
    model = Sequential([series(), LSTM(3), RepeatVector(4, name="culprit")])
    with pytest.raises(ValueError, match='"culprit" cannot be streamed'):
        model.stream()


@pytest.mark.parametrize("layer", [Activation("softmax"), Dense(3), Dropout(0.1)])
@pytest.mark.parametrize("size", [1, 4])
def test_an_input_without_features_is_no_sequence(layer, size):
    model = Sequential([Input((size,)), type(layer).from_config(layer.get_config())])
    with pytest.raises(ValueError, match="must be a sequence"):
        model.stream()


def test_inputs_of_unknown_sizes_of_two_types_and_without_readers_are_refused():
    x, other = series(), series()
    with pytest.raises(ValueError, match="known sizes"):
        Sequential([Input((None, None, 3)), Dense(2)]).stream()
    with pytest.raises(ValueError, match="one type"):
        Model(x, [LSTM(2)(x), Dense(2, dtype="float64")(x)]).stream()
    with pytest.raises(ValueError, match="no layer reads it"):
        Model([x, other], LSTM(2)(x)).stream()
    y = LSTM(2)(x)
    for outputs in ([y, y], [y, x]):
        with pytest.raises(ValueError, match="every output"):
            Model(x, outputs).stream()


@pytest.mark.parametrize("axes", [6, 7, 9, 30])
def test_arrays_of_many_axes_are_refused_or_right(axes):
    model = randomized(Sequential([Input((None, *[1] * (axes - 1), 2)), Dense(3)]))
    x = data_for(model, rows=2, steps=3)
    if axes <= 6:
        assert_same(model.stream(2).step(at(x, 2)), model.predict(x)[:, 2])
    else:
        with pytest.raises(ValueError, match="axes"):
            model.stream(2)


@pytest.mark.parametrize("batch_size", [0, -1, 1.0, True, "1", None])
def test_a_batch_size_is_a_positive_integer(batch_size):
    with pytest.raises((TypeError, ValueError), match="`batch_size` must be a positive integer"):
        last_step().stream(batch_size)


def test_models_and_layers_that_are_not_built_are_refused():
    with pytest.raises(ValueError, match="not built"):
        Sequential([LSTM(3)]).stream()
    with pytest.raises(ValueError, match="not built"):
        LSTM(3).stream()


# ---- what changes between steps ------------------------------------------------------------------


def test_new_weights_count_from_the_next_step_on():
    model = randomized(stack())
    x = data_for(model)
    stream = model.stream(ROWS)
    for t in range(STEPS):
        randomized(model, seed=t)
        fresh = model.stream(ROWS)
        fresh.states = stream.states
        assert_same(stream.step(at(x, t)), fresh.step(at(x, t)))
        some = model.stream(ROWS)
        some.states = stream.states
        randomized(model, seed=t + 100)
        assert_same(
            stream.step(at(x, t)[[1, 2]], rows=[1, 2]), some.step(at(x, t)[[1, 2]], rows=[1, 2])
        )


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "change", [lambda w: np.ones((9, 80), w.dtype), lambda w: w.astype("float64")]
)
def test_weights_of_another_shape_or_type_are_refused(number, change):
    model = randomized(last_step())
    x = data_for(model)
    stream = advanced(model)
    want = stream.states
    kernel = model.layers[1 + number].kernel
    before = kernel.numpy()
    kernel.rebind(change(before))
    with pytest.raises(ValueError, match=r"resized|must"):
        stream.step(at(x, 2))
    assert_states(stream, want)
    kernel.rebind(before)
    assert stream.step(at(x, 2)).shape == (ROWS, 3)


def test_training_between_steps_counts():
    model = randomized(last_step())
    model.compile("adam", "mse")
    x = data_for(model)
    stream, y = model.stream(ROWS), normal(ROWS, 3)
    before = stream.step(at(x, 0))
    model.fit(x[0], y, verbose=0)
    stream.reset()
    after = stream.step(at(x, 0))
    assert np.abs(after - before).max() > 0
    assert_same(after, model.predict(x[0][:, :1]))


CHANGES = {
    "activation": "relu",
    "recurrent_activation": "hard_sigmoid",
    "trainable": False,
}


@pytest.mark.parametrize(("name", "value"), CHANGES.items())
def test_settings_that_change_count_from_the_next_step_on(name, value):
    model = randomized(last_step())
    x = data_for(model)
    stream = advanced(model)
    setattr(model.layers[-2], name, value)
    fresh = model.stream(ROWS)
    fresh.states = stream.states
    assert_same(stream.step(at(x, 2)), fresh.step(at(x, 2)))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("go_backwards", True, "reads backwards"),
        ("return_sequences", True, r"its layers have changed|another type or shape"),
        ("call", Own.call, "does not say"),
    ],
)
def test_settings_that_cannot_be_streamed_are_refused_until_they_are_as_before(
    name, value, message
):
    model = randomized(Sequential([series(), LSTM(7, name="recurrent")]))
    x = data_for(model)
    stream = advanced(model)
    want = stream.states
    layer = model.layers[0]
    setattr(layer, name, value)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            stream.step(at(x, 2))
        with pytest.raises(ValueError, match=message):
            model.stream(ROWS)
    assert_states(stream, want)
    if name == "call":
        del layer.call
        layer.go_backwards = False
    else:
        setattr(layer, name, False)
    assert stream.step(at(x, 2)).shape == (ROWS, 7)


def test_a_stream_outlives_its_model():
    def make():
        model = randomized(stack())
        x = data_for(model)
        want = [want_at(model, x, t) for t in range(STEPS)]
        return model.stream(ROWS), x, want

    stream, x, want = make()
    gc.collect()
    junk = [np.full(100_003, 7.0, "float32") for _ in range(8)]
    for t in range(STEPS):
        assert_same(stream.step(at(x, t)), want[t])
    del junk


def test_streams_of_one_model_do_not_disturb_each_other_nor_predict():
    model = randomized(stack())
    xs = [data_for(model, seed=k) for k in range(3)]
    want = [[want_at(model, x, t) for t in range(STEPS)] for x in xs]
    streams = [model.stream(ROWS) for _ in xs]
    for t in range(STEPS):
        for stream, x, expected in zip(streams, xs, want, strict=True):
            model.predict(xs[0])
            assert_same(stream.step(at(x, t)), expected[t])


# ---- threads -------------------------------------------------------------------------------------


def test_each_thread_may_step_a_stream_of_its_own():
    model = randomized(stack())
    xs = [data_for(model, seed=10 * k) for k in range(4)]
    want = [model.predict(x) for x in xs]
    found = [None] * len(xs)

    def run(k):
        for _ in range(20):
            stream = model.stream(ROWS)
            found[k] = np.stack([stream.step(at(xs[k], t)) for t in range(STEPS)], axis=1)
            if not np.array_equal(found[k], want[k]):
                return

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y, expected in zip(found, want, strict=True):
        np.testing.assert_array_equal(y, expected)


class _Meanwhile:
    """An input during whose conversion, in the middle of a step, something else is done."""

    def __init__(self, x, action):
        self.x, self.action = x, action

    def __array__(self, dtype=None, copy=None):
        self.action()
        return self.x


MEANWHILE = {
    "step": lambda stream, x: stream.step(x),
    "reset": lambda stream, x: stream.reset(),
    "states": lambda stream, x: stream.states,
    "set": lambda stream, x: setattr(stream, "states", OTHER_STATES),
    "copy": lambda stream, x: stream.copy(),
}
OTHER_STATES = {
    "recurrent/h": np.ones((ROWS, 4)),
    "recurrent/c": np.ones((ROWS, 4)),
    "recurrent/began": np.ones(ROWS, bool),
}


@pytest.mark.parametrize("action", MEANWHILE.values(), ids=MEANWHILE)
def test_a_stream_in_use_is_refused_to_others(action):
    model = randomized(Sequential([series(), LSTM(4, name="recurrent")]))
    x = data_for(model)
    stream = advanced(model)
    raised = []

    def intrude():
        try:
            action(stream, at(x, 2))
        except RuntimeError as error:
            raised.append(str(error))

    def from_another_thread():
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
        intrude()

    twin = stream.copy()
    y = stream.step(_Meanwhile(at(x, 2), from_another_thread))
    assert len(raised) == 2
    assert all("another thread is using this stream" in each for each in raised)
    assert_same(y, twin.step(at(x, 2)))
    assert_states(stream, twin.states)


def test_threads_at_one_stream_are_refused_and_never_disturb():
    model = randomized(Sequential([series(64), LSTM(200), Dense(3)]))
    stream = model.stream(8)
    x = normal(8, 64)
    done, refused = [0], [0]
    stop = threading.Event()

    def run():
        while not stop.is_set():
            try:
                stream.step(x)
                done[0] += 1
            except RuntimeError:
                refused[0] += 1

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        with contextlib.suppress(RuntimeError):
            stream.reset()
            stream.states = stream.states
    stop.set()
    for thread in threads:
        thread.join()
    assert done[0]
    stream.reset()
    assert_same(stream.step(x), model.predict(x[:, None]))


def test_weights_may_change_in_another_thread():
    model = randomized(last_step())
    model.compile("sgd", "mse")
    x = data_for(model)
    stream = model.stream(ROWS)
    stop = threading.Event()

    def train():
        y = normal(ROWS, 3)
        while not stop.is_set():
            model.train_on_batch(x[0], y)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for k in range(3000):
            rows = [2, 0, 1][: 1 + k % 3]
            y = stream.step(at(x, k % STEPS)[rows], rows=rows)
            assert np.isfinite(y).all()
    finally:
        stop.set()
        thread.join()
    stream.reset()
    assert_same(stream.step(at(x, 0)), want_at(model, x, 0))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers")
@pytest.mark.parametrize("engine", [None, "blas"])
@pytest.mark.parametrize("some", [False, True])
def test_a_signal_in_the_middle_of_a_step_changes_nothing(some, engine):
    layers = [*(LSTM(300, return_sequences=True) for _ in range(3)), LSTM(300)]
    model = randomized(Sequential([series(300), *layers]))
    rows = 3000
    chosen = np.arange(rows)[::-1][: rows - 1] if some else None
    x = normal(rows if chosen is None else rows - 1, 300)

    def handle(number, frame):
        try:
            _ = stream.states
        except RuntimeError:
            raise KeyboardInterrupt from None
        # It came between two steps.
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    earlier = signal.signal(signal.SIGALRM, handle)
    before = kernels.engine_name()
    kernels.use_engine(engine)
    try:
        stream = model.stream(rows)
        stream.step(x, rows=chosen)
        wanted = []

        def go_on():
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            for _ in range(1000):
                wanted.append(stream.states)
                stream.step(x, rows=chosen)

        with pytest.raises(KeyboardInterrupt):
            go_on()
        assert_states(stream, wanted[-1])
        twin = stream.copy()
        assert_same(stream.step(x, rows=chosen), twin.step(x, rows=chosen))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        kernels.use_engine(before)


# ---- memory --------------------------------------------------------------------------------------


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("some", [False, True])
def test_steps_keep_no_memory(some):
    model = randomized(stack())
    stream, rows = model.stream(80), np.arange(80)
    x = normal(80, FEATURES)
    out = [np.zeros((n, 6), "float32") for n in range(81)]

    def run(times):
        for k in range(times):
            n = 1 + k % 80 if some else 80
            stream.step(x[:n], out=out[n], rows=rows[:n] if some else None)

    run(400)
    gc.collect()
    tracemalloc.start()
    run(400)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    run(4000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # What numbers of rows are kept is not the same at every moment.
    assert grown < (200_000 if some else 2000)


def test_steps_do_not_grow_the_process():
    try:
        resident()
    except OSError:
        pytest.skip("there is no /proc")
    model = randomized(stack())
    stream = model.stream(4)
    x, out = normal(4, FEATURES), np.zeros((4, 6), "float32")
    for _ in range(1000):
        stream.step(x)
    before = resident()
    for k in range(10_000):
        stream.step(x, out=out)
        stream.step(x[: 1 + k % 4], rows=range(1 + k % 4))
    assert resident() - before < 2_000_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_in_a_step_may_use_the_stream():
    model = randomized(stack())
    stream = model.stream(ROWS)
    x = normal(ROWS, FEATURES)
    want = model.stream(ROWS).step(x)

    class Forking:
        """Read in the middle of a step."""

        child = None

        def __array__(self, *arguments, **keywords):
            if Forking.child is None:
                Forking.child = os.fork()
                if Forking.child == 0:
                    os._exit(0 if (stream.step(x) == want).all() else 1)
            return x

    stream.step(Forking())
    _, status = os.waitpid(Forking.child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
