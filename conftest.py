"""What tests and doctests share: modules for libraries that are not installed are passed over."""

import os
from importlib.util import find_spec

import pytest

# Of Keras's backends the one that needs no framework.
os.environ.setdefault("KERAS_BACKEND", "numpy")

OPTIONAL = {
    "fastlstm/convert/onnx": ("onnx",),
    "fastlstm/plots.py": ("matplotlib",),
    "fastlstm/integrations/keras.py": ("keras", "scipy", "jax"),
    "fastlstm/integrations/sklearn.py": ("sklearn",),
    "fastlstm/integrations/torch.py": ("torch",),
}
collect_ignore = [path for path, modules in OPTIONAL.items() if not all(map(find_spec, modules))]


@pytest.fixture(autouse=True)
def _a_class_of_an_example_is_a_users(doctest_namespace):
    doctest_namespace["__name__"] = "__main__"
