from typing import Any

import numpy as np

class LSTMCache:
    x: np.ndarray
    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    h0: np.ndarray | None
    c0: np.ndarray | None
    has_bias: bool
    gates: np.ndarray
    h: np.ndarray
    c: np.ndarray
    valid: np.ndarray | None
    shown: np.ndarray | None
    path: str

def forward(
    x: Any,
    kernel: np.ndarray,
    recurrent_kernel: np.ndarray,
    bias: np.ndarray | None,
    h0: Any,
    c0: Any,
    *,
    mask: Any,
    activation: str,
    recurrent_activation: str,
    go_backwards: bool,
    zero_output_for_mask: bool,
    training: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, LSTMCache | None]: ...
def backward(
    cache: LSTMCache, dy: Any, dh: Any, dc: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]: ...
