"""Models of PyTorch: `nn.LSTM` and `nn.Linear`, from modules, state dicts and files, and back."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fastlstm._extras import require
from fastlstm.layers import (
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Input,
    Layer,
    ProjectedLSTM,
    TimeDistributed,
)
from fastlstm.layers.weight import Weight, weights_to_load
from fastlstm.models import Model, Sequential
from fastlstm.saving.blame import blaming
from fastlstm.saving.safetensors import read_tensors

__all__ = ["from_torch", "to_torch"]

# The last part of the names of nn.LSTM's weights begins so, that of nn.Linear's is this.
_LSTM_NAMES = ("weight_ih_l", "weight_hh_l", "weight_hr_l", "bias_ih_l", "bias_hh_l")
_LINEAR_NAMES = ("weight", "bias")

Arrays = dict[str, np.ndarray]


def from_torch(source: Any) -> Any:
    """LSTM and linear layers of PyTorch as fastlstm models, with their weights.

    Parameters
    ----------
    source : nn.Module, state dict, str, bytes or path
        `nn.LSTM` with any number of layers and directions, with or without bias or ``proj_size``;
        `nn.Linear`; a module that holds such modules; its state dict, of tensors or arrays; a
        ``.safetensors`` file, or a ``.pt`` file, of which the weights alone are read. Without the
        module itself whatever is called ``weight`` and has two axes is taken for a linear layer's.

    Returns
    -------
    Sequential, or dict of str to Sequential
        For an LSTM a model from (B, T, F) to the sequence of outputs (B, T, H), as with
        ``batch_first=True``; for a linear layer one from (B, ..., F) to (B, ..., U). A dict by the
        modules' names where there are several.

    Raises
    ------
    ValueError
        For modules and weights that are neither, all of them by name, and for incomplete ones.
    ImportError
        For a ``.pt`` file without PyTorch, which the extra ``torch`` installs.

    Examples
    --------
    >>> model = from_torch({"weight": np.ones((2, 3)), "bias": np.zeros(2)})
    >>> model.predict(np.ones((1, 3))).tolist()
    [[3.0, 3.0]]
    """
    if isinstance(source, str | bytes | os.PathLike):
        path = Path(os.fsdecode(source))
        stored = _read(path)
        with blaming(path):
            return _models(stored, {})
    if hasattr(source, "named_modules"):
        return _models(source.state_dict(), _dropout_rates(source))
    return _models(source, {})


def _models(source: Any, rates: Mapping[str, float]) -> Any:
    """Those of a state dict."""
    if not isinstance(source, Mapping) or not all(isinstance(name, str) for name in source):
        kind = type(source).__name__
        raise ValueError(f"from_torch: expected a module, a state dict or a path, got a {kind}.")
    modules = _by_module({name: _array(name, value) for name, value in source.items()})
    with weights_to_load(sum(a.nbytes for arrays in modules.values() for a in arrays.values())):
        models = {
            name: _linear(arrays)
            if "weight" in arrays
            else _recurrent(name, arrays, rates.get(name, 0.0))
            for name, arrays in modules.items()
        }
    return next(iter(models.values())) if len(models) == 1 else models


def _dropout_rates(module: Any) -> dict[str, float]:
    """Those of the LSTMs in a module; refuses modules whose weights only look like ours."""
    torch = require("torch", "torch")
    kinds = (torch.nn.LSTM, torch.nn.Linear)
    parts = dict(module.named_modules())
    strange = [
        f"{type(part).__name__} {name!r}"
        for name, part in parts.items()
        if next(part.parameters(recurse=False), None) is not None and not isinstance(part, kinds)
    ]
    if strange:
        raise ValueError(f"from_torch: these are no nn.LSTM or nn.Linear: {', '.join(strange)}.")
    return {name: part.dropout for name, part in parts.items() if isinstance(part, kinds[0])}


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    torch = require("torch", "torch")
    with path.open("rb") as file, blaming(path):
        _require_unpacked(file)
        # Tensors and plain containers alone: of other objects not even the classes are looked up.
        return torch.load(file, map_location="cpu", weights_only=True)


def _require_unpacked(file: BinaryIO) -> None:
    """Raise ``ValueError`` for an archive whose parts grow when they are read."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("its parts are compressed, as PyTorch does not write them")
    file.seek(0)


def _array(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f"from_torch: {name!r} says that it is larger than what is stored.")
        value = value.float().numpy() if str(value.dtype) == "torch.bfloat16" else value.numpy()
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        kind = getattr(value, "dtype", type(value).__name__)
        raise ValueError(f"from_torch: {name!r} must hold real numbers, got {kind}.")
    return value.astype(np.float32) if value.dtype == np.float16 else value


def _by_module(arrays: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    """The weights of each module, by its name and theirs."""
    modules: dict[str, Arrays] = {}
    strange = []
    for full_name, array in arrays.items():
        module, _, name = full_name.rpartition(".")
        is_linear = name in _LINEAR_NAMES and array.ndim == (2 if name == "weight" else 1)
        is_recurrent = name.startswith(_LSTM_NAMES) and array.ndim == (
            1 if name.startswith("bias") else 2
        )
        if is_recurrent or is_linear:
            modules.setdefault(module, {})[name] = array
        else:
            strange.append(full_name)
    strange += [f"{name}.bias" for name, found in modules.items() if list(found) == ["bias"]]
    if strange or not modules:
        raise ValueError(
            f"from_torch: these belong to no nn.LSTM or nn.Linear: {', '.join(strange)}."
            if strange
            else "from_torch: there are no weights."
        )
    return modules


# ---- reading -------------------------------------------------------------------------------------


def _linear(arrays: Arrays) -> Sequential:
    weight, bias = arrays["weight"], arrays.get("bias")
    layer = Dense(weight.shape[0], use_bias=bias is not None, dtype=weight.dtype)
    model = Sequential([Input((weight.shape[1],), dtype=weight.dtype), layer])
    layer.set_weights([weight.T] if bias is None else [weight.T, bias])
    return model


class _Direction(NamedTuple):
    """The weights of one layer and direction, as fastlstm has them."""

    weights: list[np.ndarray]
    units: int
    projection_units: int | None
    use_bias: bool

    def layer(self, **options: Any) -> Layer:
        """A layer of this kind that returns sequences."""
        options = {"return_sequences": True, "use_bias": self.use_bias, **options}
        if self.projection_units is None:
            return LSTM(self.units, **options)
        return ProjectedLSTM(self.units, self.projection_units, **options)


def _recurrent(name: str, arrays: Arrays, rate: float) -> Sequential:
    layers: list[Layer] = []
    weights: list[np.ndarray] = []
    unread = set(arrays)
    number = 0
    while f"weight_ih_l{number}" in arrays:
        forward = _direction(name, arrays, f"l{number}", unread)
        dtype = forward.weights[0].dtype
        if number and rate:
            layers.append(Dropout(rate, dtype=dtype))
        if f"weight_ih_l{number}_reverse" in arrays:
            back = _direction(name, arrays, f"l{number}_reverse", unread)
            layers.append(Bidirectional(forward.layer(dtype=dtype), dtype=dtype))
            weights += forward.weights + back.weights
        else:
            layers.append(forward.layer(dtype=dtype))
            weights += forward.weights
        number += 1
    if unread or not layers:
        rest = ", ".join(sorted(unread))
        raise ValueError(f"from_torch: the LSTM {name!r} has no layer for these: {rest}.")
    features = arrays["weight_ih_l0"].shape[1]
    model = Sequential([Input((None, features), dtype=weights[0].dtype), *layers])
    model.set_weights(weights)
    return model


def _direction(name: str, arrays: Arrays, suffix: str, unread: set[str]) -> _Direction:
    def take(kind: str) -> np.ndarray | None:
        unread.discard(f"{kind}_{suffix}")
        return arrays.get(f"{kind}_{suffix}")

    kernel, recurrent_kernel = take("weight_ih"), take("weight_hh")
    bias, recurrent_bias, projection = take("bias_ih"), take("bias_hh"), take("weight_hr")
    if kernel is None or recurrent_kernel is None or (bias is None) != (recurrent_bias is None):
        raise ValueError(f"from_torch: the LSTM {name!r} lacks some of the weights of {suffix}.")
    weights = [kernel.T, recurrent_kernel.T]
    if bias is not None and recurrent_bias is not None:
        weights.append(bias + recurrent_bias)
    if projection is not None:
        weights.append(projection.T)
    return _Direction(
        weights,
        kernel.shape[0] // 4,
        None if projection is None else projection.shape[0],
        bias is not None,
    )


# ---- writing -------------------------------------------------------------------------------------


def to_torch(model: Model) -> Any:
    """The layers of a built Sequential as PyTorch modules with their weights.

    Returns
    -------
    nn.ModuleDict
        By the layers' names, in order: `nn.LSTM` with ``batch_first=True`` for LSTM and
        Bidirectional, `nn.Linear` for Dense and TimeDistributed(Dense), `nn.Dropout` for Dropout.
        PyTorch keeps activations and the choice of the last step outside of its modules, so these
        are not in it.

    Raises
    ------
    ValueError
        For a model that is not built, and for layers and options that these modules do not have,
        all of them at once, by name.
    ImportError
        Without PyTorch.
    """
    model._require_built("to_torch")
    torch = require("torch", "torch")
    problems = [f"- {layer.label}: {reason}" for layer in model.layers if (reason := _lacks(layer))]
    if isinstance(model, Sequential):
        problems += [
            f"- {layer.label}: it is in several places" for layer in model.repeated_layers()
        ]
    else:
        problems.append(f"- {model.label}: it is not a Sequential")
    if problems:
        raise ValueError("to_torch: these cannot be converted:\n" + "\n".join(problems))
    return torch.nn.ModuleDict({layer.name: _module(torch, layer) for layer in model.layers})


def _lacks(layer: Layer) -> str | None:
    """Why PyTorch has no module for a layer; None if it has."""
    if isinstance(layer, Bidirectional):
        reasons = [_lacks_lstm(each, True) for each in (layer.forward_layer, layer.backward_layer)]
        if layer.merge_mode != "concat":
            return f"`merge_mode` is {layer.merge_mode!r}"
        return next((reason for reason in reasons if reason), None)
    if isinstance(layer, TimeDistributed):
        return None if isinstance(layer.layer, Dense) else "its layer is no Dense"
    if isinstance(layer, LSTM | ProjectedLSTM):
        return _lacks_lstm(layer, False)
    return None if isinstance(layer, Dense | Dropout) else "there is no module for it"


def _lacks_lstm(layer: Any, in_pair: bool) -> str | None:
    if isinstance(layer, LSTM):
        names = (layer.activation, layer.recurrent_activation)
        if names != ("tanh", "sigmoid"):
            return f"its activations are {names[0]} and {names[1]}, not tanh and sigmoid"
        if layer.recurrent_dropout:
            return "`recurrent_dropout`"
    if layer.go_backwards and not in_pair:
        return "`go_backwards`"
    return None


def _module(torch: Any, layer: Layer) -> Any:
    if isinstance(layer, Dropout):
        return torch.nn.Dropout(layer.rate)
    if isinstance(layer, TimeDistributed):
        layer = layer.layer
    dtype = getattr(torch, layer.dtype)
    if isinstance(layer, Dense):
        module = torch.nn.Linear(*layer.kernel.shape, bias=layer.use_bias, dtype=dtype)
        _fill(torch, module.weight, layer.kernel.value.T)
        if layer.bias is not None:
            _fill(torch, module.bias, layer.bias.value)
        return module
    directions: list[Any] = [layer]
    if isinstance(layer, Bidirectional):
        directions = [layer.forward_layer, layer.backward_layer]
    first = directions[0]
    module = torch.nn.LSTM(
        first.kernel.shape[0],
        first.units,
        bias=first.use_bias,
        batch_first=True,
        bidirectional=len(directions) == 2,
        proj_size=getattr(first, "projection_units", 0),
        dtype=dtype,
    )
    for suffix, each in zip(("l0", "l0_reverse"), directions, strict=False):
        _fill_direction(torch, module, suffix, each)
    return module


def _fill_direction(torch: Any, module: Any, suffix: str, layer: Any) -> None:
    _fill(torch, getattr(module, f"weight_ih_{suffix}"), layer.kernel.value.T)
    _fill(torch, getattr(module, f"weight_hh_{suffix}"), layer.recurrent_kernel.value.T)
    projection: Weight | None = getattr(layer, "projection", None)
    if projection is not None:
        _fill(torch, getattr(module, f"weight_hr_{suffix}"), projection.value.T)
    if layer.bias is not None:
        _fill(torch, getattr(module, f"bias_ih_{suffix}"), layer.bias.value)
        # PyTorch adds two; one of them is enough.
        _fill(torch, getattr(module, f"bias_hh_{suffix}"), np.zeros_like(layer.bias.value))


def _fill(torch: Any, parameter: Any, values: np.ndarray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values.copy()))
