from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

class Op: ...

class Run:
    bytes: float

    def __init__(
        self,
        nodes: list[Any],
        count: int,
        inputs: list[int],
        outputs: list[tuple[int, int]],
        wanted: list[bool],
        training: bool,
        slots: list[Any],
        masks: list[Any],
    ) -> None: ...
    def forward(self, slots: list[Any], masks: list[Any]) -> bool: ...
    def backward(
        self,
        slots: list[Any],
        dz: Collection[int],
        gradients: dict[Any, np.ndarray],
        targets: Mapping[Any, np.ndarray],
    ) -> None: ...
    def release(self) -> None: ...
