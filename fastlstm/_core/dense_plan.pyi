from typing import Any

import numpy as np

class DensePlan:
    kernel: np.ndarray
    bias: np.ndarray | None
    dtype: np.dtype
    features: int
    units: int

    def __init__(self, kernel: Any, bias: Any, activation: str) -> None: ...
