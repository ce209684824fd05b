from typing import Any

import numpy as np

class LSTMPlan:
    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray | None
    dtype: np.dtype
    features: int
    units: int
    go_backwards: bool
    zero_output_for_mask: bool

    def __init__(
        self,
        kernel: np.ndarray,
        recurrent_kernel: np.ndarray,
        bias: np.ndarray | None,
        activation: str,
        recurrent_activation: str,
        go_backwards: bool,
        zero_output_for_mask: bool,
    ) -> None: ...

class LSTMCache:
    plan: LSTMPlan
    x: np.ndarray
    y: np.ndarray
    path: str

def forward(
    plan: LSTMPlan,
    x: Any,
    h0: Any = None,
    c0: Any = None,
    mask: Any = None,
    training: bool = False,
    sequences: bool = True,
) -> tuple[Any, np.ndarray, np.ndarray, LSTMCache | None]: ...
def forward_pair(
    first: LSTMPlan, second: LSTMPlan, x: Any, sequences: bool = True
) -> tuple[tuple[Any, np.ndarray, np.ndarray], tuple[Any, np.ndarray, np.ndarray]]: ...
def forward_stack(
    plans: list[LSTMPlan], x: Any, mask: Any = None
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]: ...
def backward(
    cache: LSTMCache, dy: Any = None, dh: Any = None, dc: Any = None, wants_dx: bool = True
) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]: ...
