"""Pictures of models, trainings and gates, with matplotlib alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastlstm import functional
from fastlstm._extras import require
from fastlstm.layers import LSTM, Bidirectional, Layer, TimeDistributed
from fastlstm.layers.structure import as_list, is_shape
from fastlstm.model_layout import Box, arrange
from fastlstm.models import Model

__all__ = ["plot_gates", "plot_history", "plot_model"]

FORMATS = (".png", ".svg", ".pdf")
_INK, _PAPER, _HEAD = "#22303c", "#ffffff", "#dce6ee"

Path = str | os.PathLike[str]


def _figure(size: tuple[float, float], **options: Any) -> Any:
    return require("matplotlib.figure", "plot").Figure(figsize=size, **options)


def _saved(who: str, figure: Any, to_file: Path | None, dpi: int) -> Any:
    if to_file is not None:
        name = os.fspath(to_file)
        if not name.lower().endswith(FORMATS):
            raise ValueError(f"{who}: `to_file` must end in one of {FORMATS}, got {name!r}.")
        figure.savefig(name, dpi=dpi, facecolor=_PAPER)
    return figure


# ---- models --------------------------------------------------------------------------------------

# In inches: text, its height and margins, and the gaps between boxes.
_POINTS, _LINE, _MARGIN, _GAP_X, _GAP_Y = 9, 0.2, 0.12, 0.45, 0.42
_HEAD_HEIGHT = _LINE + _MARGIN / 2


def plot_model(
    model: Model,
    to_file: Path | None = "model.png",
    show_shapes: bool = True,
    show_params: bool = True,
    dpi: int = 120,
) -> Any:
    """Draw the layers of a built model as boxes, and what they hand on as arrows.

    Each box has the layer's name and class, the shapes that it takes and returns, and how many
    parameters it has; a wrapper names the layer in it.

    Parameters
    ----------
    model : Model
    to_file : str, path or None
        Ends in ``.png``, ``.svg`` or ``.pdf``; None writes nothing.
    show_shapes, show_params : bool
    dpi : int
        Dots per inch of a ``.png``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        Before the model is built, and for another ending.
    ImportError
        Without matplotlib, which the extra ``plot`` installs.

    Examples
    --------
    >>> from fastlstm.layers import LSTM, Dense
    >>> from fastlstm.models import Sequential
    >>> model = Sequential([LSTM(5, input_shape=(None, 1)), Dense(1)])
    >>> len(plot_model(model, None).axes[0].patches) >= 3
    True
    """
    model._require_built("plot_model")
    boxes, arrows = _boxes(model, show_shapes, show_params)
    routes = arrange(boxes, arrows, _GAP_X, _GAP_Y)
    width = max(box.right for box in boxes)
    width = max([width, *(x for route in routes for x, _ in route)]) + _GAP_X / 2
    left = min([0.0, *(x for route in routes for x, _ in route)]) - _GAP_X / 2
    bottom = max(box.bottom for box in boxes) + _GAP_Y / 2
    size = (width - left, bottom + _GAP_Y / 2)
    figure = _figure(size)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, width), ylim=(bottom, -_GAP_Y / 2))
    axes.axis("off")
    for box in boxes:
        _draw_box(axes, box)
    for route in routes:
        _draw_arrow(axes, route)
    return _saved("plot_model", figure, to_file, dpi)


def _boxes(
    model: Model, show_shapes: bool, show_params: bool
) -> tuple[list[Box], list[tuple[int, int]]]:
    """A box for each layer in the order of the graph, and which hands on to which."""
    nodes = [tensor.node for tensor in model.inputs] + [step.node for step in model.graph.steps]
    layers = list(dict.fromkeys(node.layer for node in nodes if node is not None))
    numbers = {layer: number for number, layer in enumerate(layers)}
    arrows = {
        (numbers[tensor.node.layer], numbers[step.layer])
        for step in model.graph.steps
        for tensor in step.node.parents()
        if tensor.node is not None and tensor.node.layer in numbers
    }
    boxes = []
    for layer in layers:
        node = model.node_of(layer)
        lines = [f"{layer.name}  ({_class_of(layer)})"]
        if show_shapes:
            tensors = node.parents()
            if tensors:
                lines.append(f"input  {_shapes([tensor.shape for tensor in tensors])}")
            lines.append(f"output  {_shapes([t.shape for t in as_list(node.outputs)])}")
        if show_params and layer.weights:
            lines.append(f"{layer.count_params():,} parameters")
        width = max(_text_width(line, number == 0) for number, line in enumerate(lines))
        height = _HEAD_HEIGHT + _LINE * (len(lines) - 1) + (_MARGIN if lines[1:] else 0)
        boxes.append(Box(lines, width + 2 * _MARGIN, height))
    return boxes, sorted(arrows)


def _class_of(layer: Layer) -> str:
    name = type(layer).__name__
    if isinstance(layer, TimeDistributed):
        return f"{name} of {_class_of(layer.layer)}"
    if isinstance(layer, Bidirectional):
        return f"{name} of {_class_of(layer.forward_layer)}"
    return name


def _shapes(shapes: list[Any]) -> str:
    return ", ".join(
        f"({', '.join('None' if n is None else str(n) for n in shape)})"
        for shape in shapes
        if is_shape(shape)
    )


def _text_width(text: str, is_head: bool) -> float:
    """The width of a line in inches, with what coarse pixels may add to it."""
    textpath = require("matplotlib.textpath", "plot")
    font = require("matplotlib.font_manager", "plot").FontProperties(
        size=_POINTS, weight="bold" if is_head else "normal"
    )
    width, _, _ = textpath.TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return 1.05 * float(width) / 72


def _draw_box(axes: Any, box: Box) -> None:
    patches = require("matplotlib.patches", "plot")
    place = {"linewidth": 1, "edgecolor": _INK}
    axes.add_patch(
        patches.Rectangle((box.left, box.top), box.width, box.height, facecolor=_PAPER, **place)
    )
    axes.add_patch(
        patches.Rectangle((box.left, box.top), box.width, _HEAD_HEIGHT, facecolor=_HEAD, **place)
    )
    for number, line in enumerate(box.lines):
        middle = _HEAD_HEIGHT + _MARGIN / 2 + _LINE * (number - 0.5)
        axes.text(
            box.left + _MARGIN,
            box.top + (middle if number else _HEAD_HEIGHT / 2),
            line,
            fontsize=_POINTS,
            color=_INK,
            weight="bold" if number == 0 else "normal",
            va="center",
        )


def _draw_arrow(axes: Any, route: list[tuple[float, float]]) -> None:
    *_, (x0, y0), (x1, y1) = route
    axes.plot(*zip(*route[:-1], strict=True), color=_INK, linewidth=1, solid_joinstyle="round")
    axes.annotate(
        "",
        xy=(x1, y1),
        xytext=(x0, y0),
        arrowprops={"arrowstyle": "-|>", "color": _INK, "linewidth": 1, "shrinkA": 0, "shrinkB": 0},
    )


# ---- trainings -----------------------------------------------------------------------------------

_TRAINED, _VALIDATED = "#1f6f9f", "#d1772e"


def plot_history(history: Any, to_file: Path | None = None, dpi: int = 120) -> Any:
    """Draw what `fit` returned: the loss and each metric over the epochs, beside its validation.

    Parameters
    ----------
    history : History or dict of lists
    to_file, dpi
        As for `plot_model`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For an empty history.

    Examples
    --------
    >>> figure = plot_history({"loss": [3, 2], "val_loss": [4, 3], "mae": [1, 0.5]})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'mae']
    """
    results: Mapping[str, list[float]] = getattr(history, "history", history)
    names = [name for name in results if not name.startswith("val_") or name[4:] not in results]
    if not names:
        raise ValueError("plot_history: the history has no results: train for an epoch first.")
    figure = _figure((4.2 * len(names), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for key, label, colour in (
            (name, "training", _TRAINED),
            (f"val_{name}", "validation", _VALIDATED),
        ):
            if key in results:
                epochs = np.arange(1, len(results[key]) + 1)
                axes.plot(epochs, results[key], color=colour, label=label, linewidth=1.8)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(frameon=False)
    return _saved("plot_history", figure, to_file, dpi)


# ---- gates ---------------------------------------------------------------------------------------

_PANELS = ("input gate", "forget gate", "candidate", "output gate", "cell state c", "output h")


def plot_gates(layer: LSTM, x: Any, to_file: Path | None = None, dpi: int = 120) -> Any:
    """Draw what the gates, the cell and the output of an LSTM do over one sequence.

    Heat maps with time to the right and units downwards. Gates are drawn from 0 to 1, all else
    from minus to plus its largest magnitude.

    Parameters
    ----------
    layer : LSTM
        Built.
    x : array (T, F) or (1, T, F)
    to_file, dpi
        As for `plot_model`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError, ValueError
        For another layer, one that is not built, and x of another shape.

    Examples
    --------
    >>> layer = LSTM(4)
    >>> layer.build((None, None, 2))
    >>> figure = plot_gates(layer, np.ones((6, 2)))
    >>> figure.axes[0].get_title()
    'input gate'
    """
    values = gate_values(layer, x)
    figure = _figure((10, 5.2), layout="constrained")
    for axes, name, panel in zip(figure.subplots(2, 3).flat, _PANELS, values, strict=True):
        if name.endswith("gate"):
            limits = {"vmin": 0.0, "vmax": 1.0, "cmap": "viridis"}
        else:
            largest = float(np.abs(panel).max()) or 1.0
            limits = {"vmin": -largest, "vmax": largest, "cmap": "RdBu_r"}
        extent = (0.5, len(panel) + 0.5, panel.shape[1] + 0.5, 0.5)
        image = axes.imshow(
            panel.T, aspect="auto", interpolation="nearest", extent=extent, **limits
        )
        axes.set(title=name, xlabel="time step", ylabel="unit")
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
        figure.colorbar(image, ax=axes, pad=0.02)
    return _saved("plot_gates", figure, to_file, dpi)


def gate_values(layer: LSTM, x: Any) -> list[np.ndarray]:
    """i, f, g, o, c and h over one sequence, (T, H) each, in the order of x."""
    if not isinstance(layer, LSTM):
        raise TypeError(f"plot_gates: `layer` must be an LSTM, got {layer!r}.")
    if not layer.built:
        raise ValueError(f"plot_gates: {layer.label} has no weights yet: call or build it first.")
    array = np.asarray(x, layer.dtype)
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    features = layer.kernel.shape[0]
    if array.ndim != 2 or array.shape[1] != features or not len(array):
        raise ValueError(
            f"plot_gates: `x` must be one sequence (T, F) with F = {features} for {layer.label}, "
            f"got {np.shape(x)}."
        )
    steps = array[::-1] if layer.go_backwards else array
    h = c = np.zeros(layer.units, layer.dtype)
    found = []
    for step in steps:
        i, f, g, o = _gates(layer, step, h)
        c = f * c + i * g
        h = o * functional.activation_forward(c, layer.activation)
        found.append((i, f, g, o, c, h))
    panels = [np.stack(panel) for panel in zip(*found, strict=True)]
    return [panel[::-1] for panel in panels] if layer.go_backwards else panels


def _gates(layer: LSTM, x: np.ndarray, h: np.ndarray) -> list[np.ndarray]:
    z = x @ layer.kernel.value + h @ layer.recurrent_kernel.value
    if layer.bias is not None:
        z = z + layer.bias.value
    gate, candidate = layer.recurrent_activation, layer.activation
    names = (gate, gate, candidate, gate)
    return [
        functional.activation_forward(part, name)
        for part, name in zip(np.split(z, 4), names, strict=True)
    ]
