"""The compiled core. Importing it chooses the kernels and loads BLAS."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastlstm._core import kernels

# Families of AMD CPUs as CPUID counts them; Zen 3 shares the first and lacks AVX-512.
ZEN_4, ZEN_5 = 0x19, 0x1A


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Set variables for the C library's eyes, and put everything back as it was."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _best_openblas_core() -> str | None:
    """The kernels that OpenBLAS 0.3.34 shall use where its own choice is not the fastest.

    It takes its AVX-512 kernels on Zen 4, whose units are 256 bits wide: a forward pass takes up
    to 1.6 times as long as with the Haswell ones. It does not know Zen 5 and takes the Haswell
    kernels there, which reach half the peak. ``benchmarks/bench_blas.py`` compares them.
    """
    if "avx512" not in kernels.available_isas():
        return None
    family = kernels.amd_family()
    if family == ZEN_4:
        return "Haswell"
    return "SkylakeX" if family == ZEN_5 and kernels.isa_name() == "avx512" else None


def _openblas_settings() -> dict[str, str]:
    """What OpenBLAS shall read while it is loaded, and only then.

    It has one thread, always: its own go on looking for work for some 27 ms after a product, on the
    CPUs that ours need. The user's own choice of kernels wins.
    """
    settings = {"OPENBLAS_NUM_THREADS": "1"}
    core = _best_openblas_core()
    if core is not None and "OPENBLAS_CORETYPE" not in os.environ:
        settings["OPENBLAS_CORETYPE"] = core
    return settings


if sys.platform == "win32":
    os.add_dll_directory(str(Path(__file__).parents[1] / "_openblas"))

with _environment(_openblas_settings()):
    from fastlstm._core import blas  # noqa: F401
