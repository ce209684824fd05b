"""Arguments of layers that stay checked when they are assigned later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastlstm import activations

__all__ = ["Setting", "activation_name", "truth"]


class Setting:
    """An attribute of a layer that goes through a check whenever it is assigned.

    The value lies in the layer under the same name, as that of any attribute.

    Parameters
    ----------
    check : function of what messages call it, and a value, that returns the value to keep
        Raises for what cannot be one.
    fixed : bool
        Whether the weights depend on it: assigning another value to a built layer raises
        ``AttributeError``.
    """

    def __init__(self, check: Callable[[str, Any], Any], *, fixed: bool = False) -> None:
        self._check, self._fixed = check, fixed

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, layer: Any, value: Any) -> None:
        what = f"{layer.label}: `{self._name}`"
        value = self._check(what, value)
        if self._fixed and layer.built and value != vars(layer)[self._name]:
            raise AttributeError(
                f"{what} must stay {vars(layer)[self._name]}, which the layer's weights were built "
                f"for, got {value}; make a new layer."
            )
        vars(layer)[self._name] = value


def truth(what: str, value: Any) -> bool:
    """A check that takes anything as true or false, as Python does."""
    return bool(value)


def activation_name(what: str, value: Any) -> str:
    """A check for an activation of any kind."""
    return activations.get(value, what=what)
