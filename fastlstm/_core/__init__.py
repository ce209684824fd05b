"""The compiled core. Importing it chooses the kernels and loads BLAS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fastlstm._core import kernels


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


def _openblas_settings() -> dict[str, str]:
    """What OpenBLAS shall read while it is loaded, and only then.

    It starts with one thread (`set_num_threads` gives it more). On AMD CPUs with AVX-512 it
    would take its Haswell kernels, which reach half the peak of its SkylakeX ones there; the
    user's own OPENBLAS_CORETYPE wins.
    """
    settings = {"OPENBLAS_NUM_THREADS": "1"}
    if (
        "OPENBLAS_CORETYPE" not in os.environ
        and kernels.cpu_is_from_amd()
        and kernels.isa_name() == "avx512"
    ):
        settings["OPENBLAS_CORETYPE"] = "SkylakeX"
    return settings


with _environment(_openblas_settings()):
    from fastlstm._core import blas  # noqa: F401
