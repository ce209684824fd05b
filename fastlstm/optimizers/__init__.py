"""Optimizers, by Keras 3's names, arguments, defaults and formulas."""

from __future__ import annotations

from typing import Any

from fastlstm._registry import Registry
from fastlstm.optimizers import schedules
from fastlstm.optimizers.adagrad import Adagrad
from fastlstm.optimizers.adam import Adam, AdamW, Nadam
from fastlstm.optimizers.base import Optimizer
from fastlstm.optimizers.rmsprop import RMSprop
from fastlstm.optimizers.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "get",
    "schedules",
]

_CLASSES: list[type[Optimizer]] = [SGD, Adagrad, Adam, AdamW, Nadam, RMSprop]
_REGISTRY: Registry[Optimizer] = Registry(
    "optimizer", Optimizer, _CLASSES, {cls.__name__.lower(): cls for cls in _CLASSES}
)


def get(identifier: Any) -> Optimizer:
    """The optimizer that `identifier` stands for.

    Parameters
    ----------
    identifier : str, Optimizer, its class, or a dict saved by Keras. Names are taken in any case.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else.

    Examples
    --------
    >>> get("adam").learning_rate
    0.001
    """
    if isinstance(identifier, str):
        identifier = identifier.lower()
    return _REGISTRY.get(identifier)
