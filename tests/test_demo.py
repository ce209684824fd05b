"""The command line: the demo's forecasts, its plot and its messages, and `info`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastlstm
from fastlstm import demo
from fastlstm.__main__ import main

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def errors(printed: str) -> tuple[float, float]:
    """The test errors of the LSTM and of the naive forecast, as printed."""
    lstm, naive = re.findall(r"^  (?:LSTM|same as last year) +([\d.]+)$", printed, re.MULTILINE)
    return float(lstm), float(naive)


def test_series_is_the_whole_of_1700_to_2008() -> None:
    years, observed = demo.load_sunspots()
    np.testing.assert_array_equal(years, np.arange(1700, 2009))
    assert (observed[0], observed[257], observed[-1]) == (5.0, 190.2, 2.9)


def test_demo_beats_the_naive_forecast_and_draws(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastlstm", "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lstm, naive = errors(done.stdout)
    assert lstm < 0.6 * naive
    assert "40/40" in done.stdout
    assert (tmp_path / "fastlstm-demo.png").read_bytes().startswith(PNG_SIGNATURE)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_beat_the_naive_forecast(seed: int) -> None:
    result = demo.forecast(seed=seed)
    assert result.error(result.predicted) < 0.65 * result.error(result.naive)


def test_naive_forecast_is_the_year_before() -> None:
    result = demo.forecast(epochs=1)
    assert result.test_years[0] == demo.FIRST_TEST_YEAR
    before = result.observed[np.searchsorted(result.years, result.test_years - 1)]
    np.testing.assert_array_equal(result.naive, before)


def test_same_seed_same_forecast() -> None:
    first, again, other = (demo.forecast(epochs=2, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.predicted, again.predicted)
    assert not np.array_equal(first.predicted, other.predicted)


def test_nothing_is_learned_from_the_test_years(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast of the first test year depends on the years before it alone."""
    years, observed = demo.load_sunspots()
    changed = np.where(years >= demo.FIRST_TEST_YEAR, 3 * observed + 50, observed)
    forecast = demo.forecast(epochs=2)
    monkeypatch.setattr(demo, "load_sunspots", lambda: (years, changed))
    assert demo.forecast(epochs=2).predicted[0] == forecast.predicted[0]


def test_output_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "here.png"
    assert main(["demo", "--output", str(output), "--epochs", "1", "--seed", "3"]) == 0
    assert output.read_bytes().startswith(PNG_SIGNATURE)
    assert f"Plot: {output}" in capsys.readouterr().out


def test_without_matplotlib_it_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    output = tmp_path / "here.png"
    assert main(["demo", "--output", str(output), "--epochs", "1"]) == 0
    assert 'pip install "fastlstm[plot]"' in capsys.readouterr().out
    assert not output.exists()


def test_missing_folder_is_said_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output", "no/such/folder.png"]) == 1
    captured = capsys.readouterr()
    assert "there is no folder no/such" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments", [["demo", "--epochs", "0"], ["demo", "--seed", "-1"], ["demonstrate"]]
)
def test_bad_arguments_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m fastlstm" in capsys.readouterr().err


def test_info_prints_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    fastlstm.show_config()
    assert printed == capsys.readouterr().out
    assert fastlstm.__version__ in printed


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out
