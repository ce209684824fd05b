"""Every example runs as a script and prints the numbers that its text promises."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
ECHO = ["0.0", "0.2", "0.4", "0.6", "0.8"]


def run(name: str, *arguments: str) -> str:
    """What the script prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(name: str) -> ModuleType:
    """The script as a module, its main part not run."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parameters(printed: str) -> list[int]:
    """The last column of the tables."""
    rows = re.findall(r"^\w+ \(\w+\)? .*?\) +([\d,]+)", printed, re.MULTILINE)
    return [int(row.replace(",", "")) for row in rows]


def test_every_example_is_tested() -> None:
    files = (__file__, Path(__file__).with_name("test_example_server.py"))
    tests = "".join(Path(file).read_text() for file in files)
    scripts = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert len(scripts) == 16
    assert [name for name in scripts if f'run("{name}"' not in tests] == []


def table(lstm_shape: str, last: str, last_shape: str, last_count: int) -> str:
    """The summary as the tutorials print it, without the blanks at the ends of lines."""
    line, double, total = 65 * "_", 65 * "=", 140 + last_count
    rows = [
        line,
        "Layer (type)                 Output Shape              Param #",
        double,
        f"{'lstm_1 (LSTM)':<29}{lstm_shape:<26}140",
        line,
        f"{last:<29}{last_shape:<26}{last_count}",
        double,
        f"Total params: {total}",
        f"Trainable params: {total}",
        "Non-trainable params: 0",
        line,
    ]
    return "\n".join(rows)


def stripped(printed: str) -> list[str]:
    return [line.rstrip() for line in printed.splitlines()]


def test_one_to_one() -> None:
    expected = table("(None, 5)", "dense_1 (Dense)", "(None, 1)", 6)
    assert stripped(run("one_to_one.py")) == [*expected.splitlines(), *ECHO]


def test_many_to_one() -> None:
    expected = table("(None, 5)", "dense_1 (Dense)", "(None, 5)", 30)
    assert stripped(run("many_to_one.py")) == [*expected.splitlines(), *ECHO]


def test_many_to_many() -> None:
    expected = table("(None, 5, 5)", "time_distributed_1 (TimeDist", "(None, 5, 1)", 6)
    assert stripped(run("many_to_many.py")) == [*expected.splitlines(), *ECHO]


@pytest.mark.parametrize(
    ("name", "least_exact"), [("one_to_one", 8), ("many_to_one", 10), ("many_to_many", 1)]
)
def test_echo_over_ten_seeds(name: str, least_exact: int) -> None:
    """Keras 3 prints exact digits nine, ten and two times, and never errs by 0.1."""
    example = load(name)
    exact = 0
    for seed in range(10):
        result = example.train(seed).predict(example.x, verbose=0).reshape(-1)
        exact += [f"{value:z.1f}" for value in result] == ECHO
        assert np.abs(result - example.numbers).max() < 0.1
    assert exact >= least_exact


def test_return_sequences_and_states() -> None:
    blocks = run("return_sequences_and_states.py").split("\n\n")
    numbers = [
        [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", block)]
        for block in blocks
    ]
    last, sequence, state, both = numbers
    assert [len(values) for values in numbers] == [1, 3, 3, 5]
    assert sequence[-1] == last[0] == state[0] == state[1]
    assert both == [*sequence, *state[1:]]
    assert len({*sequence, state[2]}) == 4
    assert 0 not in sequence


def test_parameter_counts() -> None:
    rows = [line.split() for line in run("parameter_counts.py").splitlines()[1:]]
    assert all(formula == counted for _, _, formula, counted in rows)
    counts = {(int(f), int(h)): counted for f, h, _, counted in rows}
    assert counts[300, 128] == "219,648"
    assert counts[1, 5] == "140"
    assert counts[2, 128] == "67,072"


@pytest.fixture(scope="module")
def autoencoder_output() -> str:
    return run("autoencoder.py")


def test_autoencoder_parameters(autoencoder_output: str) -> None:
    squeezed, plain = autoencoder_output.split("Plain LSTM network")
    assert parameters(squeezed) == [67072, 49408, 0, 33024, 98816, 258]
    assert parameters(plain) == [67072, 49408, 33024, 98816, 258]
    for printed in (squeezed, plain):
        assert "Total params: 248,578" in printed
    assert "(5, 3, 2) becomes (5, 64)" in squeezed


def test_autoencoder_reconstructs(autoencoder_output: str) -> None:
    errors = re.findall(r"mean squared error: (\S+)", autoencoder_output)
    squeezed, plain = map(float, errors)
    assert plain < squeezed < 5e-4


def test_reconstruction_over_seeds() -> None:
    """Keras ends between 0.8e-4 and 1.4e-4, the plain network sometimes higher."""
    example = load("autoencoder")
    for seed in range(3):
        for build in (example.autoencoder, example.plain_network):
            reconstruction = example.train(build, seed).predict(example.x, verbose=0)
            assert np.mean((reconstruction - example.x) ** 2) < 5e-4


def test_autoencoder_windows_are_the_tutorial_s() -> None:
    x = load("autoencoder").x
    np.testing.assert_allclose(x[0], [[0.3, 0.027], [0.4, 0.064], [0.5, 0.125]])
    np.testing.assert_allclose(x[-1], [[0.7, 0.343], [0.8, 0.512], [0.9, 0.729]])


def test_encoder_decoder_reverses_unseen_sequences() -> None:
    printed = run("encoder_decoder.py")
    pairs = re.findall(r"^(\d) (\d) (\d) (\d) -> (\d) (\d) (\d) (\d)$", printed, re.MULTILINE)
    assert len(pairs) == 5
    assert sum(pair[:4] == pair[:3:-1] for pair in pairs) >= 4
    right = re.search(r"([\d.]+)% of 500 unseen", printed)
    assert right is not None
    assert float(right[1]) > 90


def test_rare_events_of_the_made_up_series() -> None:
    printed = run("rare_events.py")
    precision, recall = re.findall(r"^(?:precision|recall) ([\d.]+)", printed, re.MULTILINE)
    assert float(precision) >= 0.9
    assert float(recall) == 1.0
    assert "(5 of 5 events found)" in printed


def test_rare_events_of_a_benchmark_file(tmp_path: Path) -> None:
    """Half-hourly values in the benchmark's form, with one labelled day."""
    example = load("rare_events")
    values, events = example.made_up_series()
    start = np.datetime64("2024-01-01T00:00:00")
    rows = [
        f"{str(start + np.timedelta64(30 * step, 'm')).replace('T', ' ')},{value}"
        for step, value in enumerate(np.repeat(values, 2))
    ]
    series = tmp_path / "nab_made_up.csv"
    series.write_text("\n".join(["timestamp,value", *rows]) + "\n")
    labels = [
        [str(start + np.timedelta64(int(hour), "h")).replace("T", " ") for hour in event]
        for event in events
    ]
    windows = tmp_path / "combined_windows.json"
    windows.write_text(json.dumps({"other/taxi.csv": [], "artificial/made_up.csv": labels}))

    read_values, read_events = example.read_series(series, windows)
    np.testing.assert_allclose(read_values, values)
    assert read_events == events


def test_estimators_of_scikit_learn() -> None:
    pytest.importorskip("sklearn")
    lines = run("sklearn_forecast.py").splitlines()
    found, same = (float(line.rpartition(" ")[2]) for line in lines[2:4])
    assert found < 0.6 * same
    lines = run("sklearn_anomalies.py").splitlines()
    assert lines[0] == "9 of 299 stretches of 11 years"
    assert len(lines) == 7
    lines = run("sklearn_regression.py").splitlines()
    error, mean = (float(line.rpartition(" ")[2]) for line in lines[2:])
    assert error < 0.9 * mean
    right = re.search(r"right for ([\d.]+)%", run("sklearn_classification.py"))
    assert right is not None
    assert float(right[1]) > 96


def test_generated_text_is_made_of_what_was_learned(tmp_path: Path) -> None:
    """Nearly without chance it says lines by heart; a model that was kept says the same ones."""
    sonnet = load("generate_text").SONNET
    model = tmp_path / "sonnet.safetensors"
    arguments = ("--temperature", "0.2", "--length", "300", "--texts", "3", "--model", str(model))
    first = run("generate_text.py", *arguments)
    assert float(re.findall(r"loss ([\d.]+)", first)[-1]) < 0.3
    texts = first.split("at once: ")[1:]
    assert [text.split("\n")[1][:2] for text in texts] == ["So", "So"]
    for text in texts:
        words = re.findall(r"[\w']+", text.partition("The first of them:")[2])
        known = [word in sonnet for word in words]
        assert np.mean(known) > 0.8
        assert any(line in text for line in sonnet.splitlines())
    again = run("generate_text.py", *arguments)
    assert "epoch" not in again
    shorten = re.compile(r"[\d,]+ characters a second")
    assert shorten.sub("", first).endswith(shorten.sub("", again))


def test_generated_text_of_a_file(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(150 * "abcdefgh\n")
    printed = run(
        "generate_text.py", str(text), *["--prompt", "ab", "--epochs", "12", "--temperature", "0.2"]
    )
    assert "1,350 characters, 9 different" in printed
    assert "of unseen text" in printed
    texts = printed.split("The first of them:\n")[1:]
    assert len(texts) == 2
    assert all(text.startswith("abcdefgh\nabcdefgh\nabcdefgh\n") for text in texts)


def refused(
    script: str,
    arguments: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """What the script says about arguments that it does not take."""
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as ended:
        load(script).main()
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("length", [0, 1, 64, 127, 133])
def test_texts_too_short_to_learn_from_are_refused(
    length: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(("abcdefg\n" * 20)[:length])
    said = refused("generate_text", [str(text)], monkeypatch, capsys)
    assert f"the text has {length} characters" in said


def test_the_shortest_text_gives_a_window_wherever_the_first_begins() -> None:
    example = load("generate_text")
    for first in range(example.STEPS):
        assert len(example.windows(np.arange(2 * example.STEPS), first)[0]) >= 1


def test_a_model_without_its_characters_or_of_other_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "sonnet.safetensors"
    arguments = ["--model", str(model)]
    load("generate_text").build_model(3, 4).save(model)
    said = refused("generate_text", arguments, monkeypatch, capsys)
    assert "sonnet.characters.json" in said
    model.write_bytes(b"x")
    said = refused("generate_text", arguments, monkeypatch, capsys)
    assert "no safetensors file" in said


def test_temperature_sharpens_and_flattens() -> None:
    draw, rng = load("generate_text").draw, np.random.default_rng(0)
    p = np.array([0.5, 0.3, 0.2])
    rows = np.tile(p, (20_000, 1))
    for temperature in (0.5, 1.0, 2.0):
        wanted = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        counts = np.bincount(draw(rows, temperature, rng), minlength=3)
        np.testing.assert_allclose(counts / len(rows), wanted, atol=0.02)


def test_alarms_of_the_made_up_sensor(tmp_path: Path) -> None:
    plot = tmp_path / "alarms.png"
    printed = run("score_sensor.py", "--plot", str(plot))
    alarms = [line for line in printed.splitlines() if line.startswith("alarm ")]
    assert [line.split()[1][:10] for line in alarms] == ["2024-01-12", "2024-01-17", "2024-01-22"]
    assert all(line.endswith("in an event") for line in alarms)
    assert "3 of 3 events met by an alarm" in printed
    if "no plot" not in printed:
        assert plot.read_bytes().startswith(b"\x89PNG")


def test_alarms_of_a_benchmark_file(tmp_path: Path) -> None:
    example = load("score_sensor")
    times, values, events = example.made_up_series()
    stamps = [str(time).replace("T", " ") for time in times]
    rows = [f"{time},{value}" for time, value in zip(stamps, values, strict=True)]
    series, windows = tmp_path / "nab_made_up.csv", tmp_path / "combined_windows.json"
    series.write_text("\n".join(["timestamp,value", *rows]) + "\n")
    labels = [[str(moment).replace("T", " ") for moment in event] for event in events]
    windows.write_text(json.dumps({"other/taxi.csv": [], "artificial/made_up.csv": labels}))

    read_times, read_values, read_events = example.read_series(series, windows)
    np.testing.assert_array_equal(read_times, times)
    np.testing.assert_allclose(read_values, values)
    assert read_events == events
    arguments = [series, "--windows", windows, "--plot", tmp_path / "alarms.png"]
    printed = run("score_sensor.py", *map(str, arguments))
    assert "3 of 3 events met by an alarm" in printed


def test_a_score_needs_no_value_that_comes_later() -> None:
    """And each forecast is what the model predicts from all values up to then."""
    example = load("score_sensor")
    values = np.random.default_rng(0).normal(size=90).astype("float32")
    model = example.forecaster(values, epochs=1)
    scores, limits = example.score_live(model, values, normal=60, deviations=3)
    for count in (61, 80):
        shorter = example.score_live(model, values[:count], normal=60, deviations=3)
        np.testing.assert_array_equal(shorter, (scores[:count], limits[:count]))
    changes = model.predict(values[None, :, None], verbose=0)[0, :, 0]
    expected, score = values[0], 0.0
    for value, change, found in zip(values, changes, scores, strict=True):
        score = example.smoothed(score, abs(value - expected))
        assert found == pytest.approx(score, rel=1e-6)
        expected = value + change


def test_without_matplotlib_there_is_no_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tmp_path / "alarms.png"
    assert not load("score_sensor").draw(path, [], [], [], [], [], [])
    assert not path.exists()
