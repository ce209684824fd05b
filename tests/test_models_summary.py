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
