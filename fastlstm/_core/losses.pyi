import numpy as np

def mean_squared_error(
    y_true: np.ndarray, y_pred: np.ndarray
) -> tuple[float, np.ndarray] | None: ...
