"""Process-wide settings: the default real type, the threads, memory, and `show_config`."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from fastlstm._core import blas, kernels, memory, pool
from fastlstm._cpus import usable_cpus
from fastlstm._version import __version__
from fastlstm.errors import check_positive_int

__all__ = [
    "floatx",
    "get_include",
    "get_num_threads",
    "release_memory",
    "set_floatx",
    "set_num_threads",
    "show_config",
]

REAL_TYPES = ("float32", "float64")

_floatx = "float32"


def floatx() -> str:
    """The real type that layers compute in unless told otherwise: ``"float32"`` at first."""
    return _floatx


def set_floatx(dtype: Any) -> None:
    """Set the default real type, ``"float32"`` or ``"float64"``, for layers made from now on.

    Raises ``TypeError`` for what is no dtype, ``ValueError`` for any other dtype.

    Examples
    --------
    >>> set_floatx("float64")
    >>> floatx()
    'float64'
    >>> set_floatx("float32")
    """
    global _floatx
    if dtype is None:
        raise TypeError("set_floatx: `dtype` must be float32 or float64, got None.")
    _floatx = real_dtype_name(dtype, "set_floatx")


def real_dtype_name(dtype: Any, who: str) -> str:
    """`dtype` as ``"float32"`` or ``"float64"``; None is the default type.

    Raises ``TypeError`` for what is no dtype, ``ValueError`` for any other dtype.
    """
    if dtype is None:
        return _floatx
    try:
        name = np.dtype(dtype).name
    except TypeError:
        raise TypeError(f"{who}: `dtype` must be float32 or float64, got {dtype!r}.") from None
    if name not in REAL_TYPES:
        raise ValueError(f"{who}: `dtype` must be float32 or float64, got {name}.")
    return name


def set_num_threads(count: int) -> None:
    """Let passes use `count` threads, in the whole process.

    They never have more than there are CPUs that the calling thread may run on, and fewer while
    other programs need the CPUs.

    Raises ``TypeError`` for what is no integer, ``ValueError`` below 1.
    """
    count = min(check_positive_int("set_num_threads: `count`", count), MOST_THREADS)
    pool.set_size(count)


def get_num_threads() -> int:
    """The number of threads that passes may use."""
    return pool.get_size()


def release_memory() -> int:
    """Give memory that no pass uses any more back to the system; returns how many bytes.

    What passes free is kept for the next ones, up to 256 MiB in at most 16 blocks, since memory
    that is fresh from the system is slow at first. A program that has trained and goes on to
    something else calls this. Memory in use is left alone, and any thread may call.

    Examples
    --------
    >>> freed = release_memory()
    >>> release_memory()
    0
    """
    return memory.release()


def get_include() -> str:
    """The folder of ``fastlstm.h``, with which C and C++ programs run what `convert.to_c` writes.

    Beside it lie the sources, with a ``CMakeLists.txt``, and a library of them for this platform:
    ``python -m fastlstm cflags`` prints what a compiler needs to be told of both.

    Examples
    --------
    >>> from pathlib import Path
    >>> [path.name for path in Path(get_include()).iterdir()]
    ['fastlstm.h']
    """
    return str(_FOR_C_PROGRAMS / "include")


def compiler_flags() -> list[str]:
    """What a C compiler needs to be told to build a program with ``fastlstm.h``."""
    return [f"-I{get_include()}", str(_FOR_C_PROGRAMS / "libfastlstm.a"), "-lm"]


# csrc/ and what the build has made of it, beside the package's own modules.
_FOR_C_PROGRAMS = Path(__file__).resolve().parent / "_c"

# What OpenBLAS was built for; asking for more gives this many.
MOST_THREADS = 64


def _default_num_threads() -> int:
    """FASTLSTM_NUM_THREADS, or OMP_NUM_THREADS, or as many as this process may use."""
    for variable in ("FASTLSTM_NUM_THREADS", "OMP_NUM_THREADS"):
        # OpenMP allows a list, one number for each nesting level.
        text = os.environ.get(variable, "").split(",")[0].strip()
        if not text:
            continue
        if text.isdecimal() and int(text) >= 1:
            return int(text)
        if variable.startswith("FASTLSTM"):
            raise ValueError(f"{variable} must be a positive integer, got {text!r}.")
    return usable_cpus()


def _library_path() -> str:
    """Where the BLAS library lies: beside the package's own modules."""
    folder = Path(__file__).parent / "_openblas"
    libraries = sorted(folder.glob("libscipy_openblas*"))
    return str(libraries[0]) if libraries else "not found"


def _engine() -> str:
    """What computes the layers, in words."""
    asked = kernels.engine_name()
    if asked is not None:
        return asked
    return "blas" if kernels.isa_name() == "baseline" else "packed, or unpacked for a few rows"


def show_config() -> None:
    """Print the version, the instruction sets, the engine, the BLAS and the threads in use."""
    rows = {
        "fastlstm": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "instruction set": kernels.isa_name(),
        "available": ", ".join(kernels.available_isas()),
        "engine": _engine(),
        "caches": ", ".join(f"{size >> 10} KiB" for size in kernels.caches()),
        "BLAS": blas.openblas_config().split(" DYNAMIC_ARCH")[0],
        "BLAS core": blas.openblas_core(),
        "BLAS path": _library_path(),
        "threads": get_num_threads(),
    }
    for name, value in rows.items():
        print(f"{name + ':':<17}{value}")


set_num_threads(_default_num_threads())
