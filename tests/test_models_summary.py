"""The table, column for column."""

import pytest

from fastlstm.layers import LSTM, Add, Dense, Input, RepeatVector, TimeDistributed
from fastlstm.models import Model, Sequential
from fastlstm.utils import clear_session

MANY_TO_MANY = """\
_________________________________________________________________
Layer (type)                 Output Shape              Param #
=================================================================
lstm_1 (LSTM)                (None, 5, 5)              140
_________________________________________________________________
time_distributed_1 (TimeDist (None, 5, 1)              6
=================================================================
Total params: 146
Trainable params: 146
Non-trainable params: 0
_________________________________________________________________
"""
AUTOENCODER = """\
_________________________________________________________________
Layer (type)                 Output Shape              Param #
=================================================================
lstm_1 (LSTM)                (None, 3, 128)            67072
_________________________________________________________________
lstm_2 (LSTM)                (None, 64)                49408
_________________________________________________________________
repeat_vector_1 (RepeatVecto (None, 3, 64)             0
_________________________________________________________________
lstm_3 (LSTM)                (None, 3, 64)             33024
_________________________________________________________________
lstm_4 (LSTM)                (None, 3, 128)            98816
_________________________________________________________________
time_distributed_1 (TimeDist (None, 3, 2)              258
=================================================================
Total params: 248,578
Trainable params: 248,578
Non-trainable params: 0
_________________________________________________________________
"""


@pytest.fixture(autouse=True)
def fresh_names():
    clear_session()


def test_many_to_many(capsys):
    model = Sequential()
    model.add(LSTM(5, input_shape=(5, 1), return_sequences=True))
    model.add(TimeDistributed(Dense(1)))
    assert model.summary() is None
    assert capsys.readouterr().out == MANY_TO_MANY


def test_autoencoder(capsys):
    model = Sequential()
    model.add(LSTM(128, activation="relu", input_shape=(3, 2), return_sequences=True))
    model.add(LSTM(64, activation="relu", return_sequences=False))
    model.add(RepeatVector(3))
    model.add(LSTM(64, activation="relu", return_sequences=True))
    model.add(LSTM(128, activation="relu", return_sequences=True))
    model.add(TimeDistributed(Dense(2)))
    model.summary()
    assert capsys.readouterr().out == AUTOENCODER


def test_a_functional_chain_looks_the_same(capsys):
    x = Input(shape=(5, 1), name="series")
    Model(x, Dense(1)(LSTM(5)(x))).summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "series (InputLayer)          (None, 5, 1)              0"
    assert {len(line) for line in lines if set(line) <= {"_", "="}} == {65}


def test_before_it_is_built_shapes_are_unknown():
    lines = []
    model = Sequential([LSTM(5), TimeDistributed(Dense(1))])
    model.summary(print_fn=lines.append)
    assert lines[3:7] == [
        "lstm_1 (LSTM)                ?                         unbuilt",
        "_" * 65,
        "time_distributed_1 (TimeDist ?                         unbuilt",
        "=" * 65,
    ]
    assert lines[7:10] == ["Total params: 0", "Trainable params: 0", "Non-trainable params: 0"]
    assert not model.built
    lines.clear()
    Sequential().summary(print_fn=lines.append)
    assert lines[2:4] == ["=" * 65, "Total params: 0"]


def test_layers_that_were_built_before_the_model_show_their_parameters():
    dense = Dense(2)
    dense.build((None, 3))
    lines = []
    Sequential([dense, LSTM(4)]).summary(print_fn=lines.append)
    assert lines[3] == "dense_1 (Dense)              ?                         8"
    assert "Total params: 8" in lines


def test_a_layer_in_two_places_has_two_rows_and_counts_once():
    dense = Dense(3)
    lines = []
    Sequential([Input((4, 3)), dense, TimeDistributed(dense), LSTM(2), Dense(3), dense]).summary(
        print_fn=lines.append
    )
    rows = [line for line in lines if "(" in line and "Layer" not in line]
    assert rows == [
        "dense_1 (Dense)              (None, 4, 3)              12",
        "time_distributed_1 (TimeDist (None, 4, 3)              12",
        "lstm_1 (LSTM)                (None, 2)                 48",
        "dense_2 (Dense)              (None, 3)                 9",
        "dense_1 (Dense)              (None, 3)                 12",
    ]
    assert "Total params: 69" in lines


def test_graphs_show_what_is_connected():
    x = Input(shape=(3,), name="x")
    left, right = Dense(4, name="left")(x), Dense(4, name="right")(x)
    lines = []
    Model(x, Add(name="sum")([left, right])).summary(print_fn=lines.append)
    text = "\n".join(lines)
    assert "Connected to" in text
    assert "left[0][0]" in text
    assert "right[0][0]" in text
    assert len(lines[0]) == 98


def test_line_length_and_frozen_weights():
    model = Sequential([LSTM(2, input_shape=(3, 1)), Dense(1)])
    model.layers[0].trainable = False
    lines = []
    model.summary(line_length=80, print_fn=lines.append)
    assert len(lines[0]) == 80
    assert lines[-3:-1] == ["Trainable params: 3", "Non-trainable params: 32"]
