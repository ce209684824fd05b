"""Whose fault an error is that comes up while a file is read: the file's, or the program's."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator

__all__ = ["blaming", "raised_by_program"]

# What this package reads files with.
_OWN = __name__.partition(".")[0]
_LIBRARIES = {*sys.stdlib_module_names, "h5py", "numpy", "torch"}


@contextlib.contextmanager
def blaming(path: str | os.PathLike[str] | bytes) -> Iterator[None]:
    """Whatever is raised inside becomes a ``ValueError`` that names the file and keeps the cause.

    A damaged file can make any check fail first, in this package or in the libraries it reads
    with. What a class of the program raises, given as ``custom_objects`` or defined as a layer,
    goes through as it is, and so does the lack of a library.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        if raised_by_program(error):
            raise
        reason = str(error).rstrip(".")
        if not isinstance(error, OSError | TypeError | ValueError) or not reason:
            reason = f"{type(error).__name__}: {reason}".rstrip(": ")
        raise ValueError(f"{os.fsdecode(path)!r} cannot be loaded: {reason}.") from error


def raised_by_program(error: BaseException) -> bool:
    """Whether the code that raised `error` is neither this package's nor that of a library."""
    last = _OWN
    for frame, _ in traceback.walk_tb(error.__traceback__):
        # Code that a program has made and run may have no module, or None.
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package not in _LIBRARIES:
            last = package
    return last != _OWN
