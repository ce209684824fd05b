"""`exact.py` needs Keras and JAX; it is a tool, not a test."""

collect_ignore = ["exact.py"]
