"""fastlstm beside every other library that is installed, row by row.

usage: python benchmarks/compare.py [--quick] [--turns N] [--threads 1,2] [--only TEXT]
                                    [--against NAME]

All contenders compute the same float32 LSTM in one process, take turns, and must find the same
before anything is timed. "At most" is the ratio that a pass at its bound would reach: all its
operations at the peak, or its weights read at the bandwidth of the cache that holds them. Writes
results.json, results.md and charts to benchmarks/results/. Install the others by
``pip install .[benchmarks]``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import contenders
import grid
import roofline
import timing

RESULTS = Path(__file__).parent / "results"
OWN = "fastlstm"


def measure_row(
    makers: dict[str, Any], shape: grid.Shape, threads: int, turns: int
) -> dict[str, float]:
    """Median seconds of every contender."""
    arrays = contenders.make_arrays(shape)
    runs = {name: maker(arrays, threads) for name, maker in makers.items()}
    timing.check_same({name: run() for name, run in runs.items()})
    return timing.in_turns(runs, turns)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows asked for."""
    jobs = [
        (kind, shape, threads)
        for kind, shapes in (("inference", grid.INFERENCE), ("training", grid.TRAINING))
        for shape in (shapes[:18] if options.quick else shapes)
        for threads in options.threads
        if options.only in kind
    ]
    rows = []
    for number, (kind, shape, threads) in enumerate(jobs, 1):
        name = ",".join(map(str, shape))
        print(f"\r{number}/{len(jobs)} {kind} {name:<18}", end="", file=sys.stderr, flush=True)
        makers = contenders.INFERENCE if kind == "inference" else contenders.TRAINING
        if options.against:
            makers = {name: makers[name] for name in makers if name in (OWN, options.against)}
        seconds = measure_row(makers, shape, threads, options.turns)
        rows.append({"kind": kind, "shape": name, "threads": threads, "seconds": seconds})
    print(file=sys.stderr)
    return rows


# ---- report -----------------------------------------------------------------------------------


def operations(row: dict[str, Any]) -> int:
    return grid.forward_operations(shape_of(row)) * (3 if row["kind"] == "training" else 1)


def shape_of(row: dict[str, Any]) -> grid.Shape:
    batch, steps, features, units = (int(n) for n in row["shape"].split(","))
    return batch, steps, features, units


def least_seconds(row: dict[str, Any], roof: roofline.Roof) -> float:
    """What the row takes at least: training has the operations of three forward passes."""
    if row["kind"] == "training":
        return operations(row) / roof.operations / row["threads"]
    return roofline.bound(roof, shape_of(row), row["threads"])


def ratio(row: dict[str, Any]) -> float:
    """How many times as long the fastest other takes; NaN if there is none."""
    others = [value for name, value in row["seconds"].items() if name != OWN]
    return min(others) / row["seconds"][OWN] if others else math.nan


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def table(rows: list[dict[str, Any]], roof: roofline.Roof) -> str:
    """A Markdown table for one kind of pass and one number of threads."""
    names = list(rows[0]["seconds"])
    heads = ["B,T,F,H", *(f"{name} us" for name in names), "ratio", "at most", "GF/s", "of peak"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for row in rows:
        cells = [f"{1e6 * row['seconds'][name]:.1f}" for name in names]
        rate = operations(row) / row["seconds"][OWN]
        share = rate / (roof.operations * row["threads"])
        most = ratio(row) * row["seconds"][OWN] / least_seconds(row, roof)
        cells += [f"{ratio(row):.2f}", f"{most:.2f}", f"{rate / 1e9:.1f}", f"{share:.0%}"]
        lines.append(f"| {row['shape']} | " + " | ".join(cells) + " |")
    lines.append(f"\nGeometric mean of the ratios: {geometric_mean(map(ratio, rows)):.2f}")
    return "\n".join(lines)


def threads_table(rows: list[dict[str, Any]]) -> str:
    """How many times as fast several threads are as one."""
    alone = {(row["kind"], row["shape"]): row for row in rows if row["threads"] == 1}
    lines = ["| pass | B,T,F,H | threads | times as fast |", "|---|---|---:|---:|"]
    for row in rows:
        one = alone.get((row["kind"], row["shape"]))
        if one is None or one is row:
            continue
        gain = one["seconds"][OWN] / row["seconds"][OWN]
        lines.append(f"| {row['kind']} | {row['shape']} | {row['threads']} | {gain:.2f} |")
    return "\n".join(lines)


def report(rows: list[dict[str, Any]], roof: roofline.Roof) -> str:
    about = "\n".join(f"- {name}: {value}" for name, value in timing.machine().items())
    parts = [f"# Results\n\n{about}\n- peak of a core: {roof.operations / 1e9:.0f} GF/s, float32"]
    for kind, threads in dict.fromkeys((row["kind"], row["threads"]) for row in rows):
        chosen = [row for row in rows if (row["kind"], row["threads"]) == (kind, threads)]
        parts.append(f"## {kind}, {threads} thread{'s' * (threads > 1)}\n\n{table(chosen, roof)}")
    parts.append(f"## threads\n\n{threads_table(rows)}")
    return "\n\n".join(parts) + "\n"


def draw(rows: list[dict[str, Any]], peak: float) -> None:
    """Speed-up and share of peak of every row, as PNG; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    charts = {
        "speed-up": ("times as fast as the fastest other", ratio, 1.0),
        "share-of-peak": (
            "share of the peak",
            lambda row: operations(row) / row["seconds"][OWN] / (peak * row["threads"]),
            None,
        ),
    }
    labels = [f"{row['kind'][:5]} {row['shape']} x{row['threads']}" for row in rows]
    for name, (title, value, line) in charts.items():
        figure, axes = plt.subplots(figsize=(8, 1 + 0.2 * len(rows)), layout="constrained")
        axes.barh(labels, [value(row) for row in rows], color="#4878a8")
        axes.invert_yaxis()
        axes.set_xlabel(title)
        if line is not None:
            axes.axvline(line, color="black", linewidth=1)
        figure.savefig(RESULTS / f"{name}.png", dpi=110)
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without DeepBench's rows")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, by commas")
    parser.add_argument("--only", default="", help="inference or training")
    parser.add_argument("--against", choices=sorted({*contenders.INFERENCE} - {OWN}))
    options = parser.parse_args()
    options.threads = [int(n) for n in options.threads.split(",")]
    roof = roofline.measure()
    peak = roof.operations
    rows = measure(options)
    RESULTS.mkdir(exist_ok=True)
    text = report(rows, roof)
    found = {"machine": timing.machine(), "peak": peak, "rows": rows}
    (RESULTS / "results.json").write_text(json.dumps(found, indent=1))
    (RESULTS / "results.md").write_text(text)
    draw(rows, peak)
    print(text)


if __name__ == "__main__":
    main()
