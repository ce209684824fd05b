"""`write_tf2onnx.py` needs TensorFlow; it is a tool, not a test."""

collect_ignore = ["write_tf2onnx.py"]
