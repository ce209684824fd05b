"""The golden files, with what Keras rounded to float32 on the way replaced from exact.npz."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent / "golden"
with np.load(GOLDEN / "exact.npz") as _file:
    EXACT = {name: _file[name] for name in _file.files}


def load_golden(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The config and the arrays of a case. golden/exact.py says what is replaced and why."""
    with np.load(path) as file:
        config = json.loads(str(file["config"]))
        arrays = {name: file[name] for name in file.files if name != "config"}
    for name, rounded in arrays.items():
        exact = EXACT.get(f"{path.stem}/{name}")
        if exact is not None:
            scale = np.abs(rounded).max()
            np.testing.assert_allclose(exact, rounded, rtol=0, atol=5e-6 * scale)
            arrays[name] = exact
    return config, arrays
