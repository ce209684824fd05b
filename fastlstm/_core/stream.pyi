from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

class Recipe:
    nodes: list[Any]
    slots: int
    inputs: list[Any]
    outputs: list[Any]
    states: list[Any]
    names_outputs: bool

    def __init__(
        self,
        nodes: list[Any],
        slots: int,
        inputs: list[Any],
        outputs: list[Any],
        states: list[Any],
        names_outputs: bool,
    ) -> None: ...

class Stream:
    batch_size: int

    def __new__(cls, describe: Callable[[], Recipe], label: str, batch_size: int) -> Stream: ...
    def step(self, x: Any, out: Any = None, rows: Sequence[int] | None = None) -> Any: ...
    def reset(self, rows: Sequence[int] | None = None) -> None: ...
    @property
    def states(self) -> dict[str, np.ndarray]: ...
    @states.setter
    def states(self, given: Mapping[str, Any]) -> None: ...
    def copy(self) -> Stream: ...
