import numpy as np

def forward(
    x: np.ndarray,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    axes: int,
    epsilon: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
def backward(
    dy: np.ndarray, gamma: np.ndarray | None, normalized: np.ndarray, inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
