"""Models of ONNX, from files and into them; needs the package ``onnx``, which is an extra."""

from fastlstm.convert.onnx.reading import OnnxModel, from_onnx
from fastlstm.convert.onnx.writing import to_onnx

__all__ = ["OnnxModel", "from_onnx", "to_onnx"]
