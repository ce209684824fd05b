"""Optional dependencies: imported when they are first needed, and missed in one form."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["require"]


def require(module: str, extra: str) -> Any:
    """The module of that name; ``ImportError`` that tells how to install it if it is missing.

    Examples
    --------
    >>> require("numpy", "test").__name__
    'numpy'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ImportError(
            f'This needs {error.name}, which is not installed: pip install "fastlstm[{extra}]".'
        ) from None
