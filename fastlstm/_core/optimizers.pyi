import numpy as np

def sgd(
    parameters: np.ndarray,
    gradients: np.ndarray,
    velocity: np.ndarray | None,
    learning_rate: float,
    momentum: float,
    nesterov: bool,
) -> None: ...
def rmsprop(
    parameters: np.ndarray,
    gradients: np.ndarray,
    mean_square: np.ndarray,
    velocity: np.ndarray | None,
    mean: np.ndarray | None,
    learning_rate: float,
    decay: float,
    momentum: float,
    epsilon: float,
) -> None: ...
def adam(
    parameters: np.ndarray,
    gradients: np.ndarray,
    mean: np.ndarray,
    mean_square: np.ndarray,
    largest: np.ndarray | None,
    step_size: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None: ...
def nadam(
    parameters: np.ndarray,
    gradients: np.ndarray,
    mean: np.ndarray,
    mean_square: np.ndarray,
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    mean_factor: float,
    gradient_factor: float,
    square_factor: float,
) -> None: ...
def adagrad(
    parameters: np.ndarray,
    gradients: np.ndarray,
    square_sum: np.ndarray,
    learning_rate: float,
    epsilon: float,
) -> None: ...
def squared_norm(x: np.ndarray) -> float: ...
def clip_norm(gradients: np.ndarray, bounds: np.ndarray, limit: float) -> None: ...
