"""The same instruction set on all sides, as far as they can be told. Imported before any of them.

``FASTLSTM_ISA=avx2`` is carried over to the three libraries inside PyTorch that choose for
themselves. OpenVINO is built on oneDNN too and may or may not listen; ONNX Runtime has no switch.
"""

from __future__ import annotations

import os
import sys

OF_PYTORCH = {
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
}

if "torch" in sys.modules:
    raise ImportError("instruction_sets: PyTorch is imported already and has chosen its own.")
ASKED = os.environ.get("FASTLSTM_ISA", "")
os.environ.update(OF_PYTORCH.get(ASKED, {}))


def used() -> dict[str, str]:
    """What each library computes with, by name."""
    from fastlstm._core import kernels

    found = {"fastlstm": kernels.isa_name()}
    if "torch" in sys.modules:
        import torch

        limits = ", ".join(f"{name}={os.environ[name]}" for name in OF_PYTORCH.get(ASKED, {}))
        found["PyTorch"] = f"{torch.backends.cpu.get_cpu_capability()}, {limits or 'unlimited'}"
    if "onnxruntime" in sys.modules:
        found["ONNX Runtime"] = "the best of the CPU: it has no switch"
    if "openvino" in sys.modules:
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
        found["OpenVINO"] = f"its own choice, with ONEDNN_MAX_CPU_ISA={limit or 'not set'}"
    return found
