from typing import Any

import numpy as np

class DenseCache:
    x: np.ndarray
    kernel: np.ndarray
    z: np.ndarray | None
    has_bias: bool

def forward(
    x: Any, kernel: np.ndarray, bias: np.ndarray | None, *, activation: str, training: bool
) -> tuple[np.ndarray, DenseCache | None]: ...
def backward(
    cache: DenseCache, dy: Any, wants_dx: bool = True
) -> tuple[Any, np.ndarray, np.ndarray | None]: ...
