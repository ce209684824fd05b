"""Helpers: seeds, labels, padding, the progress bar."""

import io
import random
import sys

import numpy as np
import pytest

from fastlstm.layers import Dense
from fastlstm.utils import (
    Progbar,
    clear_session,
    pad_sequences,
    set_random_seed,
    to_categorical,
)


def test_one_seed_for_all():
    def draw():
        set_random_seed(5)
        layer = Dense(4)
        layer.build((None, 3))
        return [random.random(), np.random.rand(), *layer.kernel.value.ravel()]  # noqa: NPY002

    first = draw()
    assert draw() == first
    assert len(set(first)) == len(first)
    with pytest.raises(TypeError, match="seed"):
        set_random_seed("five")
    with pytest.raises(ValueError, match="seed"):
        set_random_seed(-1)


def test_clear_session_starts_names_anew():
    clear_session()
    assert [Dense(1).name, Dense(1).name] == ["dense_1", "dense_2"]
    clear_session()
    assert Dense(1).name == "dense_1"


def test_to_categorical():
    np.testing.assert_array_equal(to_categorical([0, 2, 1]), np.eye(3)[[0, 2, 1]])
    np.testing.assert_array_equal(to_categorical([[1], [0]], 4), np.eye(4)[[1, 0]])
    for bad in ([3], [-1], [0.5]):
        with pytest.raises(ValueError, match="class numbers"):
            to_categorical(bad, 3)


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        ({}, [[0, 0, 1], [0, 2, 3], [4, 5, 6]]),
        ({"padding": "post"}, [[1, 0, 0], [2, 3, 0], [4, 5, 6]]),
        ({"maxlen": 2}, [[0, 1], [2, 3], [5, 6]]),
        ({"maxlen": 2, "truncating": "post"}, [[0, 1], [2, 3], [4, 5]]),
        ({"maxlen": 4, "value": 9}, [[9, 9, 9, 1], [9, 9, 2, 3], [9, 4, 5, 6]]),
    ],
)
def test_pad_sequences(arguments, want):
    padded = pad_sequences([[1], [2, 3], [4, 5, 6]], **arguments)
    assert padded.tolist() == want
    assert padded.dtype == np.int32


def test_pad_sequences_of_vectors_and_errors():
    padded = pad_sequences([np.ones((1, 2)), np.ones((3, 2))], dtype="float32")
    assert padded.shape == (2, 3, 2)
    assert padded.sum() == 8
    with pytest.raises(ValueError, match="sequence"):
        pad_sequences([1, 2])
    with pytest.raises(ValueError, match="padding"):
        pad_sequences([[1]], padding="left")


def shown(monkeypatch, terminal, verbose, target, steps):
    class Stream(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return terminal

    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)
    bar = Progbar(target, verbose=verbose)
    for step in range(1, steps + 1):
        bar.update(step, [("loss", 1 / step)], finalize=step == steps)
    return stream.getvalue()


def test_a_bar_in_a_file_is_one_line(monkeypatch):
    text = shown(monkeypatch, False, 1, 8, 8)
    assert text.count("\n") == 1
    assert "\r" not in text
    assert text.startswith("8/8 ")
    assert "loss: " in text


def test_a_bar_on_a_terminal_is_redrawn(monkeypatch):
    text = shown(monkeypatch, True, 1, 8, 8)
    assert "\r" in text
    assert "━" in text
    assert text.rstrip().split("\r")[-1].lstrip().find("8/8") >= 0


def test_a_line_an_epoch(monkeypatch):
    text = shown(monkeypatch, False, 2, 8, 8)
    assert text.startswith("8/8 - ")
    assert "s/step" in text or "s/epoch" in text
    assert text.endswith("\n")


def test_an_unknown_number_of_steps(monkeypatch):
    text = shown(monkeypatch, False, 1, None, 3)
    assert "3" in text
    assert "loss" in text
