"""The progress bar that `fit`, `evaluate` and `predict` show."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

__all__ = ["Progbar", "is_terminal"]


def is_terminal() -> bool:
    """Whether what is printed can be redrawn in place."""
    isatty = getattr(sys.stdout, "isatty", None)
    return bool(isatty and isatty()) or "ipykernel" in sys.modules


class Progbar:
    """A line of progress: steps done, a bar, time, and the values of metrics.

    On a terminal the line is redrawn in place; elsewhere it is printed once, at the end.

    Parameters
    ----------
    target : int or None
        The number of steps; None if nobody knows.
    width : int
        Of the bar, in characters.
    verbose : 0, 1 or 2
        Nothing; a bar; one line at the end.
    interval : float
        The least time between two drawings, in seconds.
    stateful_metrics : iterable of str, optional
        Values to show as they are; others are averaged over the steps.
    stateless_metrics : iterable of str, optional
        Instead: values to average; others are shown as they are.
    unit_name : str
        What a step is called.

    Examples
    --------
    >>> bar = Progbar(target=2, verbose=2)
    >>> bar.update(1, [("loss", 0.5)])
    >>> bar.update(2, [("loss", 0.25)])  # doctest: +ELLIPSIS
    2/2 - 0s - .../step - loss: 0.3750
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ) -> None:
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError(
                "Progbar: only one of `stateful_metrics` and `stateless_metrics` can be given."
            )
        self.target = target
        self.width = width
        self.verbose = verbose
        self.interval = interval
        self.unit_name = unit_name
        self._shown_as_is = set(stateful_metrics or ())
        self._averaged = None if stateless_metrics is None else set(stateless_metrics)
        self._redraws = is_terminal()
        self._done, self._rest = _bar_characters()
        self._seen = 0
        self._sums: dict[str, tuple[float, float]] = {}
        self._start = time.perf_counter()
        self._after_first_step: float | None = None
        self._first_steps = 0
        self._last_drawing = -interval
        self._drawn_width = 0

    def add(self, n: int, values: Iterable[tuple[str, float]] | None = None) -> None:
        """Tell that `n` more steps are done."""
        self.update(self._seen + n, values)

    def update(
        self,
        current: int,
        values: Iterable[tuple[str, float]] | None = None,
        finalize: bool | None = None,
    ) -> None:
        """Tell that `current` steps are done in all.

        `values` are pairs of a name and a number. `finalize` ends the line; by default the last
        step does.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        self._take(values or (), max(current - self._seen, 1))
        self._seen = current
        if current and self._after_first_step is None:
            self._after_first_step = time.perf_counter()
            self._first_steps = current
        if finalize and self.verbose:
            line = self._bar_line(current, True) if self.verbose == 1 else self._plain_line(current)
            self._draw(line + "\n")
        elif self.verbose == 1 and self._redraws:
            now = time.perf_counter()
            if now - self._last_drawing >= self.interval:
                self._draw(self._bar_line(current, False))
                self._last_drawing = now

    def _take(self, values: Iterable[tuple[str, float]], steps: int) -> None:
        for name, value in values:
            averaged = (
                name not in self._shown_as_is if self._averaged is None else name in self._averaged
            )
            total, count = self._sums.get(name, (0.0, 0.0)) if averaged else (0.0, 0.0)
            weight = steps if averaged else 1
            self._sums[name] = (total + value * weight, count + weight)

    def _draw(self, line: str) -> None:
        text = line.rstrip("\n")
        if self._redraws and self.verbose == 1:
            padding = " " * max(self._drawn_width - len(text), 0)
            sys.stdout.write(f"\r{text}{padding}{line[len(text) :]}")
        else:
            sys.stdout.write(line)
        sys.stdout.flush()
        self._drawn_width = len(text)

    def _bar_line(self, current: int, finished: bool) -> str:
        per_step = self._seconds_per_step(current)
        if self.target:
            done = int(self.width * min(current / self.target, 1))
            bar = self._done * done + self._rest * (self.width - done)
            head = f"{self._counter(current)} {bar}"
        else:
            head = f"{current:7d}/Unknown"
        if finished or not self.target:
            clock = f"{self._elapsed():.0f}s"
        else:
            clock = _time_left(per_step * (self.target - current))
        return f"{head} {clock} {self._pace(per_step)}{self._values_text()}"

    def _plain_line(self, current: int) -> str:
        pace = self._pace(self._seconds_per_step(current))
        counter = self._counter(current) if self.target else f"{current}"
        return f"{counter} - {self._elapsed():.0f}s - {pace}{self._values_text()}"

    def _counter(self, current: int) -> str:
        return f"{current:{len(str(self.target))}d}/{self.target}"

    def _elapsed(self) -> float:
        return time.perf_counter() - self._start

    def _seconds_per_step(self, current: int) -> float:
        """Without the first step, which warms up, once there are others."""
        if not current:
            return 0.0
        if self._after_first_step is not None and current > self._first_steps:
            since = time.perf_counter() - self._after_first_step
            return since / (current - self._first_steps)
        return self._elapsed() / current

    def _pace(self, seconds: float) -> str:
        if seconds >= 1 or seconds == 0:
            return f"{seconds:.0f}s/{self.unit_name}"
        if seconds >= 1e-3:
            return f"{seconds * 1e3:.0f}ms/{self.unit_name}"
        return f"{seconds * 1e6:.0f}us/{self.unit_name}"

    def _values_text(self) -> str:
        text = ""
        for name, (total, count) in self._sums.items():
            value = total / count
            text += f" - {name}: {value:.4f}" if abs(value) > 1e-3 else f" - {name}: {value:.4e}"
        return text


def _bar_characters() -> tuple[str, str]:
    """Heavy and light lines, or what an encoding without them has."""
    try:
        "━─".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "=", "."
    return "━", "─"


def _time_left(seconds: float) -> str:
    whole = int(seconds)
    if whole > 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}" if whole > 60 else f"{whole}s"
