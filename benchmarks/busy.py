"""LSTM layers on a machine that has other work.

usage: python benchmarks/compare.py --busy

Three tables: rows beside one busy process more than there are CPUs; two threads asked for on one
CPU; eight processes of two threads beside eight of one. Processes that this one starts end with it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import grid

CALLS = 300
BLOCK = 20
SECONDS = 1.0
PROCESSES = 8
# Ends by itself when the one that started it is gone and no longer holds its standard input.
BUSY_LOOP = """
import sys, threading
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.is_set():
    sum(range(10_000))
"""


@contextlib.contextmanager
def started(commands: Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended whatever happens here."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for command in commands:
            processes.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()


# ---- beside busy processes ----------------------------------------------------------------------


def _latencies(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of every call, sorted; contenders take turns, some calls each."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(CALLS // BLOCK):
        for name, run in runs.items():
            for _ in range(BLOCK):
                start = time.perf_counter()
                run()
                found[name].append(time.perf_counter() - start)
    return {name: sorted(times) for name, times in found.items()}


def _own_with(run: Callable[[], object], threads: int) -> Callable[[], object]:
    """The number of threads is the process's, so it is set before every call; that is cheap."""
    import fastlstm

    def run_with() -> object:
        if fastlstm.get_num_threads() != threads:
            fastlstm.set_num_threads(threads)
        return run()

    return run_with


def _row(shape: grid.Shape) -> list[list[str]]:
    import contenders
    import timing

    arrays = contenders.make_arrays(shape)
    own = contenders.fastlstm_inference(arrays, 1)
    runs = {f"fastlstm, {threads}": _own_with(own, threads) for threads in (1, 2)}
    if "ONNX Runtime" in contenders.INFERENCE:
        runs["ONNX Runtime, 2"] = contenders.INFERENCE["ONNX Runtime"](arrays, 2)
    timing.check_same({name: run() for name, run in runs.items()})
    found = _latencies(runs)
    return [
        [
            ",".join(map(str, shape)),
            name,
            f"{1e3 * statistics.median(times):.2f}",
            f"{1e3 * times[int(0.99 * len(times))]:.2f}",
        ]
        for name, times in found.items()
    ]


def beside_busy_processes() -> str:
    import report as tables

    count = len(os.sched_getaffinity(0)) + 1
    heads = ["B,T,F,H", "contender, threads", "p50 ms", "p99 ms"]
    lines = []
    with started([[sys.executable, "-c", BUSY_LOOP]] * count):
        for shape in grid.BUSY:
            lines += _row(shape)
    return f"## beside {count} busy processes\n\n{tables.markdown(heads, lines, words=2)}"


# ---- in processes of their own ------------------------------------------------------------------


def _worker(threads: int, cpus: str) -> list[str]:
    return [sys.executable, __file__, "--threads", str(threads), "--cpus", cpus]


def _calls_a_second(workers: Sequence[subprocess.Popen[str]], row: int) -> float:
    """Of all of them together."""
    for worker in workers:
        assert worker.stdin is not None
        print(row, file=worker.stdin, flush=True)
    return sum(float(_line(worker)) for worker in workers)


def _line(worker: subprocess.Popen[str]) -> str:
    """What a worker says next."""
    assert worker.stdout is not None
    return worker.stdout.readline()


def work(arguments: Sequence[str]) -> None:
    """What a worker does: says that it is ready, then for each row asked for how fast that is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpus")
    options = parser.parse_args(arguments)
    # Before anything is imported that counts them.
    os.sched_setaffinity(0, {int(cpu) for cpu in options.cpus.split(",")})
    import contenders

    runs = [
        contenders.fastlstm_inference(contenders.make_arrays(shape), options.threads)
        for shape in grid.BUSY
    ]
    for run in runs:
        run()
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        run, calls, start = runs[int(line)], 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            run()
            calls += 1
        print(calls / (time.perf_counter() - start), flush=True)


def two_against_one(title: str, processes: int, cpus: str) -> str:
    """Workers of one thread and of two, alternating; medians of three."""
    import report as tables

    lines = []
    commands = [_worker(threads, cpus) for threads in (1, 2) for _ in range(processes)]
    with started(commands) as workers:
        for worker in workers:
            assert _line(worker) == "ready\n"
        sides = workers[:processes], workers[processes:]
        for row, shape in enumerate(grid.BUSY):
            rates = [[_calls_a_second(side, row) for side in sides] for _ in range(3)]
            one, two = (statistics.median(side) for side in zip(*rates, strict=True))
            name = ",".join(map(str, shape))
            lines.append([name, f"{one:.0f}", f"{two:.0f}", f"{two / one:.2f}"])
    heads = ["B,T,F,H", "one thread, calls/s", "two threads, calls/s", "ratio"]
    return f"## {title}\n\n{tables.markdown(heads, lines)}"


def report() -> str:
    import report as tables

    cpus = sorted(os.sched_getaffinity(0))
    parts = [
        tables.heading("On a busy machine"),
        beside_busy_processes(),
        two_against_one("affinity to one CPU", 1, str(cpus[0])),
        two_against_one(f"{PROCESSES} processes", PROCESSES, ",".join(map(str, cpus))),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    work(sys.argv[1:])
