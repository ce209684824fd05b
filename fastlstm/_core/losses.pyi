KINDS: dict[str, int]

class NativeLoss:
    kind: int
    fused_kind: int
    reduction: int
    parameter: float
    label_smoothing: float
    has_ignored: bool
    by_element: bool
    ignored: int
    def __init__(
        self,
        kind: str,
        reduction: str | None,
        parameter: float = 0,
        label_smoothing: float = 0,
        ignored: int | None = None,
        fused_kind: str | None = None,
        by_element: bool = False,
    ) -> None: ...
