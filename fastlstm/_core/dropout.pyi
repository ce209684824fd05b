from collections.abc import Sequence
from typing import Any

import numpy as np

def random_factors(
    generator: np.random.Generator, shape: Sequence[int], rate: float, dtype: Any
) -> np.ndarray: ...
def scaled(x: np.ndarray, factors: np.ndarray) -> np.ndarray: ...
