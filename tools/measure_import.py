"""How long imports take and how large packages are, fastlstm beside others that are installed.

usage: python tools/measure_import.py

Each import runs in processes of its own, in turns; medians. Sizes are those of the package's files
and of all that its distribution requires, without NumPy.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

TURNS = 9
# What is imported, and the distribution that brings it.
PACKAGES = {
    "numpy": "numpy",
    "fastlstm": "fastlstm",
    "onnxruntime": "onnxruntime",
    "torch": "torch",
    "tensorflow": "tensorflow",
}


def import_seconds(module: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True)
    return time.perf_counter() - start


def required(name: str, seen: set[str]) -> set[str]:
    """The distribution and all that it requires and that is installed, without NumPy."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name in seen or name == "numpy":
        return seen
    try:
        requirements = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return seen
    seen.add(name)
    for requirement in requirements:
        if "extra ==" not in requirement:
            required(re.split(r"[^\w.-]", requirement)[0], seen)
    return seen


def installed_megabytes(distribution: str) -> float:
    names = {"numpy"} if distribution == "numpy" else required(distribution, set())
    files = [file for name in names for file in importlib.metadata.files(name) or []]
    paths = [Path(str(file.locate())) for file in files]
    return sum(path.stat().st_size for path in paths if path.exists()) / 1e6


def main() -> None:
    present = [name for name in PACKAGES if importlib.util.find_spec(name)]
    seconds: dict[str, list[float]] = {name: [] for name in ["sys", *present]}
    for _ in range(TURNS):
        for name, found in seconds.items():
            found.append(import_seconds(name))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    print(f"{'package':<14}{'import ms':>10}{'above numpy':>13}{'MB':>8}")
    for name in present:
        own = 1e3 * (medians[name] - medians["sys"])
        above = 1e3 * (medians[name] - medians["numpy"])
        size = installed_megabytes(PACKAGES[name])
        print(f"{name:<14}{own:>10.0f}{above:>13.0f}{size:>8.0f}")


if __name__ == "__main__":
    main()
