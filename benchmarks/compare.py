"""fastlstm beside every other library that is installed, row by row.

usage: python benchmarks/compare.py [--quick] [--turns N] [--threads 1,2] [--only KINDS]
                                    [--against NAME] [--output FOLDER] [--busy]

All contenders compute the same in float32 in one process, take turns, and must find the same before
anything is timed. The bound of a row is what must happen in it at the measured speed of this
machine (work.py, roofline.py); "at most" is the ratio that fastlstm would reach there. Writes
results.json, results.md and charts to benchmarks/results/; with --busy instead busy.md, of rows
beside busy processes (busy.py). Install the others by ``pip install .[benchmarks]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import busy
import contenders
import dense_contenders
import grid
import model_contenders
import report
import roofline
import timing
import work


class Kind(NamedTuple):
    """One sort of row: `quick` shapes of all, who takes part, what is made for them of a shape."""

    shapes: Sequence[Any]
    quick: Sequence[Any]
    makers: Mapping[str, Callable[..., contenders.Run]]
    make_arrays: Callable[[Any], Any]
    works: Callable[[Any], list[work.Work]]
    name_of: Callable[[Any], str]
    # How many units of work a run does: the batches of a fit.
    repeats: Callable[[Any], int] = lambda shape: 1


def _comma_name(shape: Sequence[Any]) -> str:
    return ",".join(map(str, shape))


def _model_name(row: tuple[grid.Program, int]) -> str:
    return f"{row[0].name}; B = {row[1]}"


def _fit_batches(row: tuple[grid.Program, int]) -> int:
    return model_contenders.EPOCHS * model_contenders.batches(row[1])


KINDS = {
    "inference": Kind(
        grid.INFERENCE,
        grid.USUAL,
        contenders.INFERENCE,
        contenders.make_arrays,
        lambda shape: [work.lstm_inference(shape)],
        _comma_name,
    ),
    "training": Kind(
        grid.TRAINING,
        grid.USUAL_TRAINING,
        contenders.TRAINING,
        contenders.make_arrays,
        lambda shape: [work.lstm_training(shape)],
        _comma_name,
    ),
    "dense inference": Kind(
        grid.DENSE,
        grid.DENSE,
        dense_contenders.INFERENCE,
        dense_contenders.make_arrays,
        lambda shape: [work.dense_inference(shape)],
        _comma_name,
    ),
    "dense training": Kind(
        grid.DENSE,
        grid.DENSE,
        dense_contenders.TRAINING,
        dense_contenders.make_arrays,
        lambda shape: [work.dense_training(shape)],
        _comma_name,
    ),
    "predict": Kind(
        grid.MODEL_ROWS,
        grid.MODEL_ROWS,
        model_contenders.PREDICT,
        model_contenders.make_task,
        work.predict,
        _model_name,
    ),
    "fit": Kind(
        grid.MODEL_ROWS,
        [row for row in grid.MODEL_ROWS if row[1] < max(grid.MODEL_BATCHES)],
        model_contenders.FIT,
        model_contenders.make_task,
        work.fit,
        _model_name,
        _fit_batches,
    ),
}


def measure_row(
    kind: Kind, shape: Any, threads: int, turns: int, against: str | None
) -> dict[str, float]:
    """Median seconds of every contender for one unit of work."""
    names = [name for name in kind.makers if against in (None, name) or name.startswith(report.OWN)]
    arrays = kind.make_arrays(shape)
    runs = {name: kind.makers[name](arrays, threads) for name in names}
    timing.check_same({name: run() for name, run in runs.items()})
    seconds = timing.in_turns(runs, turns)
    return {name: value / kind.repeats(shape) for name, value in seconds.items()}


def measure(options: argparse.Namespace, roof: roofline.Roof) -> list[report.Row]:
    """All rows asked for."""
    jobs = [
        (name, shape, threads)
        for name in options.only
        for shape in (KINDS[name].quick if options.quick else KINDS[name].shapes)
        for threads in options.threads
    ]
    rows = []
    for number, (name, shape, threads) in enumerate(jobs, 1):
        kind = KINDS[name]
        label = kind.name_of(shape)
        print(f"\r\033[K{number}/{len(jobs)} {name} {label}", end="", file=sys.stderr, flush=True)
        works = kind.works(shape)
        rows.append(
            report.Row(
                name,
                label,
                threads,
                measure_row(kind, shape, threads, options.turns, options.against),
                sum(each.operations for each in works),
                sum(work.least_seconds(roof, each, threads) for each in works),
            )
        )
    print(file=sys.stderr)
    return rows


def _kinds(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",")]
    if unknown := [name for name in found if name not in KINDS]:
        raise argparse.ArgumentTypeError(f"{unknown} not among {', '.join(KINDS)}")
    return found


def _others() -> list[str]:
    return sorted(name for name in contenders.INFERENCE if not name.startswith(report.OWN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="without DeepBench's rows, and `fit` without its largest batches",
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, by commas")
    parser.add_argument("--only", type=_kinds, default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--against", choices=_others())
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--busy", action="store_true", help="beside busy processes, nothing else")
    options = parser.parse_args()
    options.threads = [int(n) for n in options.threads.split(",")]
    options.output.mkdir(parents=True, exist_ok=True)
    if options.busy:
        text = busy.report()
        (options.output / "busy.md").write_text(text)
        print(text)
        return
    roof = roofline.measure()
    rows = measure(options, roof)
    text = report.text(rows, roof)
    found = {
        "machine": timing.machine(),
        "roof": roof._asdict(),
        "rows": [row._asdict() for row in rows],
    }
    (options.output / "results.json").write_text(json.dumps(found, indent=1))
    (options.output / "results.md").write_text(text)
    report.draw(rows, options.output)
    print(text)


if __name__ == "__main__":
    main()
