"""Tables and charts of measured rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import instruction_sets
import timing
from roofline import Roof

# Its other engines are contenders whose names begin with it.
OWN = "fastlstm"
UNITS = {
    "fit": "us a batch",
    "predict": "us, by `predict(x, batch_size=B)`",
}
HEADS = {
    "inference": "B,T,F,H",
    "training": "B,T,F,H",
    "dense inference": "B,T,F,N,activation",
    "dense training": "B,T,F,N,activation",
}


class Row(NamedTuple):
    """Seconds by name of the contender; multiplications and additions; seconds at the bound."""

    kind: str
    shape: str
    threads: int
    seconds: dict[str, float]
    operations: int
    bound: float

    @property
    def fastest_other(self) -> str:
        """Empty if there is none."""
        others = {name: value for name, value in self.seconds.items() if not name.startswith(OWN)}
        return min(others, key=others.__getitem__, default="")

    @property
    def ratio(self) -> float:
        """How many times as long the fastest other takes; NaN if there is none."""
        return self.seconds.get(self.fastest_other, math.nan) / self.seconds[OWN]

    @property
    def of_bound(self) -> float:
        """1 would be as fast as this machine can be."""
        return self.bound / self.seconds[OWN]


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table, its first columns of words and the others of numbers."""
    rule = "|" + "---|" * words + "---:|" * (len(heads) - words)
    return "\n".join([f"| {' | '.join(line)} |" if line else rule for line in (heads, (), *rows)])


def _table(rows: Sequence[Row]) -> str:
    """One kind of row, and one number of threads."""
    names = list(rows[0].seconds)
    heads = [HEADS.get(rows[0].kind, "model"), *(f"{name} us" for name in names)]
    heads += ["fastest other", "ratio", "at most", "bound us", "of bound", "GF/s"]
    lines = [
        [
            row.shape,
            *(f"{1e6 * row.seconds[name]:.1f}" for name in names),
            row.fastest_other,
            f"{row.ratio:.2f}",
            f"{row.ratio / row.of_bound:.2f}",
            f"{1e6 * row.bound:.1f}",
            f"{row.of_bound:.0%}",
            f"{row.operations / row.seconds[OWN] / 1e9:.1f}",
        ]
        for row in rows
    ]
    mean = geometric_mean(row.ratio for row in rows)
    return f"{markdown(heads, lines)}\n\nGeometric mean of the ratios: {mean:.2f}"


def _behind(rows: Sequence[Row]) -> str:
    """Where another is faster, the worst first."""
    lines = [
        [
            *(row.kind, row.shape, row.fastest_other, str(row.threads), f"{row.ratio:.2f}"),
            *(f"{1e6 * row.seconds[name]:.1f}" for name in (OWN, row.fastest_other)),
        ]
        for row in sorted(rows, key=lambda row: row.ratio)
        if row.ratio < 1
    ]
    heads = ["kind", "row", "fastest", "threads", "ratio", f"{OWN} us", "its us"]
    return markdown(heads, lines, words=3) if lines else "Nowhere."


def _threads_table(rows: Sequence[Row]) -> str:
    """How many times as fast several threads are as one."""
    alone = {(row.kind, row.shape): row for row in rows if row.threads == 1}
    lines = []
    for row in rows:
        one = alone.get((row.kind, row.shape))
        if one is not None and one is not row:
            gain = one.seconds[OWN] / row.seconds[OWN]
            lines.append([row.kind, row.shape, str(row.threads), f"{gain:.2f}"])
    return markdown(["kind", "row", "threads", "times as fast"], lines, words=2)


def heading(title: str) -> str:
    """What the figures depend on."""
    about = {**timing.machine(), "instruction sets": ""}
    lines = [f"- {name}: {value}".rstrip() for name, value in about.items()]
    lines += [f"  - {name}: {value}" for name, value in instruction_sets.used().items()]
    return f"# {title}\n\n" + "\n".join(lines)


def _machine(roof: Roof) -> str:
    costs = ", ".join(f"{name} {1e9 * cost:.2f}" for name, cost in roof.costs.items())
    reading = ", ".join(
        f"{size // 1024} KiB {rate / 1e9:.0f}" for size, rate in roof.bandwidths.items()
    )
    return (
        f"- a core: {roof.operations / 1e9:.0f} GF/s, float32\n- it reads, GB/s: {reading}\n"
        f"- ns an element (of gates, a unit and row): {costs}"
    )


def text(rows: Sequence[Row], roof: Roof) -> str:
    """The whole report, Markdown."""
    parts = [f"{heading('Results')}\n{_machine(roof)}", f"## behind\n\n{_behind(rows)}"]
    for kind, threads in dict.fromkeys((row.kind, row.threads) for row in rows):
        chosen = [row for row in rows if (row.kind, row.threads) == (kind, threads)]
        title = f"{kind}, {threads} thread{'s' * (threads > 1)}, {UNITS.get(kind, 'us')}"
        parts.append(f"## {title}\n\n{_table(chosen)}")
    parts.append(f"## threads\n\n{_threads_table(rows)}")
    return "\n\n".join(parts) + "\n"


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Speed-up and share of the bound of every row, as PNG; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    charts: dict[str, tuple[str, Callable[[Row], float]]] = {
        "speed-up": ("times as fast as the fastest other", lambda row: row.ratio),
        "share-of-bound": ("share of the bound", lambda row: row.of_bound),
    }
    labels = [f"{row.kind} {row.shape} x{row.threads}" for row in rows]
    for name, (title, value) in charts.items():
        figure, axes = plt.subplots(figsize=(8, 1 + 0.2 * len(rows)), layout="constrained")
        axes.barh(labels, [value(row) for row in rows], color="#4878a8")
        axes.invert_yaxis()
        axes.set_xlabel(title)
        axes.axvline(1.0, color="black", linewidth=1)
        figure.savefig(folder / f"{name}.png", dpi=110)
        plt.close(figure)
