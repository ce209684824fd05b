from typing import Any

import numpy as np

from fastlstm._core.losses import NativeLoss

def evaluate(
    native: NativeLoss,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    sample_weight: np.ndarray | None,
    mask: np.ndarray | None,
    *,
    gradient: bool = False,
    fused: bool = False,
    entries: int = 0,
) -> Any: ...
def metric_sums(
    native: NativeLoss,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    sample_weight: np.ndarray | None,
    mask: np.ndarray | None,
) -> tuple[float, float] | None: ...
