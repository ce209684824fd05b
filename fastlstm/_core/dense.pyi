from typing import Any

import numpy as np

from fastlstm._core.dense_plan import DensePlan

class DenseCache:
    plan: DensePlan
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray | None
    path: str

def forward(
    plan: DensePlan, x: Any, training: bool = False
) -> tuple[np.ndarray, DenseCache | None]: ...
def backward(
    cache: DenseCache, dy: Any, wants_dx: bool = True, is_dz: bool = False
) -> tuple[Any, np.ndarray, np.ndarray | None]: ...
