"""A script that is no test."""

collect_ignore = ["write_tf2onnx.py"]
