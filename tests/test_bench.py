"""`python -m fastlstm bench`: what it prints of a saved model, and the work that it counts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fastlstm
from fastlstm import bench
from fastlstm.__main__ import main
from fastlstm.layers import (
    LSTM,
    Bidirectional,
    Dense,
    Embedding,
    Input,
    RepeatVector,
    TimeDistributed,
)
from fastlstm.models import Model, Sequential

LINE = re.compile(
    r"^(\S+), B=(\d+)(?:, T=(\d+))? +([\d,.]+) us +([\d,.]+) us +([\d,.]+) us +(\d+)%$",
    re.MULTILINE,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SECONDS", 0.01)


def forecaster() -> Sequential:
    return Sequential([LSTM(4, input_shape=(None, 3)), Dense(2)])


def saved(model: Model, folder: Path) -> Path:
    path = folder / "model.safetensors"
    model.save(path)
    return path


def test_sizes_and_a_line_for_steps_and_batches_of_each_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(forecaster(), tmp_path)
    assert main(["bench", str(path), "--batch-sizes", "1", "3", "--steps", "7"]) == 0
    printed = capsys.readouterr().out
    assert "138 parameters" in printed
    assert f"file {path.stat().st_size:,} bytes, weights 552 bytes" in printed
    lines = LINE.findall(printed)
    assert [line[:3] for line in lines] == [
        ("stream.step", "1", ""),
        ("stream.step", "3", ""),
        ("predict_on_batch", "1", "7"),
        ("predict_on_batch", "3", "7"),
    ]
    for *_, middle, late, _, _ in lines:
        assert 0 < float(middle.replace(",", "")) <= float(late.replace(",", ""))


def test_a_step_reads_and_multiplies_every_matrix_once() -> None:
    assert bench.work_of_step(forecaster()) == (4 * (7 * 16 + 8), 7 * 16 + 8)


def test_a_sequence_reads_only_recurrent_matrices_at_every_step() -> None:
    read, products = bench.work_of_sequence(forecaster(), 10)
    assert products == 10 * 7 * 16 + 8
    assert read == 4 * (3 * 16 + 10 * 4 * 16 + 8)


def test_the_model_says_how_long_its_sequences_are() -> None:
    layers = [LSTM(4), RepeatVector(5), LSTM(6, return_sequences=True), TimeDistributed(Dense(2))]
    model = Sequential([Input((3, 2)), *layers])
    _, products = bench.work_of_sequence(model, 10)
    assert products == 3 * 6 * 16 + 5 * (10 * 24 + 12)


def test_rows_of_an_embedding_are_not_multiplied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Sequential([Embedding(9, 3, input_shape=(None,)), LSTM(4)])
    assert bench.work_of_sequence(model, 10).products == 10 * 7 * 16
    bench.run(saved(model, tmp_path), batch_sizes=(2,), steps=4)
    assert "predict_on_batch, B=2, T=4" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_is_measured_in_the_precision_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    layers = [LSTM(4, dtype=dtype), Dense(2, dtype=dtype)]
    found = []

    def measured(*arguments: object) -> bench.Machine:
        found.append(arguments)
        return bench.Machine(1.0, 1.0)

    monkeypatch.setattr(bench, "measured", measured)
    bench.run(saved(Sequential([Input((None, 3)), *layers]), tmp_path), (1,), threads=2)
    assert found == [(138 * np.dtype(dtype).itemsize, np.dtype(dtype), 2)]


def test_the_bound_is_the_longer_of_reading_and_multiplying() -> None:
    work, machine = bench.Work(read=600, products=100), bench.Machine(300.0, 200.0)
    assert work.bound(1, machine) == 2.0
    assert work.bound(8, machine) == 4.0


def test_a_layer_that_cannot_be_streamed_is_named_and_batches_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = [Bidirectional(LSTM(4), name="both_ways"), Dense(2)]
    bench.run(saved(Sequential([Input((None, 3)), *layers]), tmp_path), (1, 2), steps=5)
    printed = capsys.readouterr().out
    assert re.search(r"^no streams: .*both_ways", printed, re.MULTILINE)
    assert [line[0] for line in LINE.findall(printed)] == 2 * ["predict_on_batch"]


def test_models_of_several_inputs_and_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = [Input((None, 3)), Input((None, 2))]
    outputs = [LSTM(4)(inputs[0]), LSTM(5, return_sequences=True)(inputs[1])]
    bench.run(saved(Model(inputs, outputs), tmp_path), (2,), steps=5)
    lines = LINE.findall(capsys.readouterr().out)
    assert [line[0] for line in lines] == ["stream.step", "predict_on_batch"]


def test_threads_are_afterwards_what_they_were(tmp_path: Path) -> None:
    before = fastlstm.get_num_threads()
    for threads in (1, 2):
        bench.run(saved(forecaster(), tmp_path), (1,), steps=3, threads=threads)
        assert fastlstm.get_num_threads() == before


def test_latencies_are_of_every_call_but_the_first() -> None:
    calls: list[int] = []
    times = bench.latencies(lambda: calls.append(1), 0.01)
    assert len(times) == len(calls) - 3 > 0
    assert (times >= 0).all()


def test_files_that_are_no_model_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.safetensors").write_text("no model")
    for name in ("missing.safetensors", "text.safetensors"):
        assert main(["bench", str(tmp_path / name)]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("fastlstm bench: ")
        assert name in captured.err
        assert captured.out == ""
