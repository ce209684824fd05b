"""The LSTM and the time-distributed dense layer, fast on a CPU, under a Keras-shaped API."""

from fastlstm import (
    activations,
    callbacks,
    constraints,
    functional,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    reference,
    regularizers,
    saving,
    utils,
)
from fastlstm._version import __version__
from fastlstm.config import (
    floatx,
    get_include,
    get_num_threads,
    release_memory,
    set_floatx,
    set_num_threads,
    show_config,
)
from fastlstm.gradient_check import gradcheck
from fastlstm.layers import Input, Layer
from fastlstm.models import Model, Sequential
from fastlstm.saving import load_model

__all__ = [
    "Input",
    "Layer",
    "Model",
    "Sequential",
    "__version__",
    "activations",
    "callbacks",
    "constraints",
    "floatx",
    "functional",
    "get_include",
    "get_num_threads",
    "gradcheck",
    "initializers",
    "layers",
    "load_model",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "reference",
    "regularizers",
    "release_memory",
    "saving",
    "set_floatx",
    "set_num_threads",
    "show_config",
    "utils",
]
