"""The activation functions by name, and as functions of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastlstm import functional
from fastlstm.errors import one_of

__all__ = ["ELEMENTWISE", "NAMES", "get"]

# fmt: off
ELEMENTWISE = (
    "elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "relu", "selu",
    "sigmoid", "silu", "softplus", "softsign", "tanh",
)
# fmt: on
NAMES = (*ELEMENTWISE, "softmax")
_ALIASES = {"swish": "silu"}


def get(identifier: Any, *, what: str = "`activation`", known: tuple[str, ...] = NAMES) -> str:
    """The canonical name of an activation given by name, by function of this module, or None.

    None means ``"linear"``. Raises ``ValueError`` for an unknown name, ``TypeError`` for a
    function that is not one of this module's: a kernel cannot call into Python.

    Examples
    --------
    >>> get(None), get("swish"), get(tanh)
    ('linear', 'silu', 'tanh')
    """
    if identifier is None:
        return "linear"
    if callable(identifier):
        name = getattr(identifier, "__name__", "")
        if globals().get(name) is not identifier or name not in NAMES:
            raise TypeError(
                f"{what} must be a name or a function of fastlstm.activations, got {identifier!r}."
            )
    else:
        name = _ALIASES.get(identifier, identifier) if isinstance(identifier, str) else identifier
    if not isinstance(name, str) or name not in known:
        raise one_of(what, identifier, known)
    return name


def _function(name: str) -> Callable[[Any], np.ndarray]:
    def activation(x: Any) -> np.ndarray:
        return functional.activation_forward(x, name)

    activation.__name__ = activation.__qualname__ = name
    activation.__doc__ = f"The {name} of every element of `x`, in the precision of `x`."
    return activation


for _name in NAMES:
    globals()[_name] = _function(_name)
