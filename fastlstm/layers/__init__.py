"""Layers, with Keras 3's names, arguments and meaning."""

from fastlstm.layers.activation import Activation
from fastlstm.layers.base import Layer
from fastlstm.layers.bidirectional import Bidirectional
from fastlstm.layers.context import Context
from fastlstm.layers.dense import Dense
from fastlstm.layers.dropout import Dropout
from fastlstm.layers.embedding import Embedding
from fastlstm.layers.input import Input, InputLayer
from fastlstm.layers.lambda_ import Lambda
from fastlstm.layers.lstm import LSTM
from fastlstm.layers.masking import Masking
from fastlstm.layers.merging import (
    Add,
    Average,
    Concatenate,
    Multiply,
    add,
    average,
    concatenate,
    multiply,
)
from fastlstm.layers.normalization import LayerNormalization
from fastlstm.layers.projected_lstm import ProjectedLSTM
from fastlstm.layers.reshaping import Flatten, Permute, RepeatVector, Reshape
from fastlstm.layers.serialization import deserialize, serialize
from fastlstm.layers.symbolic import SymbolicTensor
from fastlstm.layers.time_distributed import TimeDistributed
from fastlstm.layers.weight import Weight

__all__ = [
    "LSTM",
    "Activation",
    "Add",
    "Average",
    "Bidirectional",
    "Concatenate",
    "Context",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Input",
    "InputLayer",
    "Lambda",
    "Layer",
    "LayerNormalization",
    "Masking",
    "Multiply",
    "Permute",
    "ProjectedLSTM",
    "RepeatVector",
    "Reshape",
    "SymbolicTensor",
    "TimeDistributed",
    "Weight",
    "add",
    "average",
    "concatenate",
    "deserialize",
    "multiply",
    "serialize",
]
