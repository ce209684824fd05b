"""Pictures: what is in them, that nothing overlaps, and that the gates are the layer's own."""

import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg

from fastlstm import plots
from fastlstm.layers import (
    LSTM,
    Add,
    Bidirectional,
    Concatenate,
    Dense,
    Input,
    RepeatVector,
    TimeDistributed,
)
from fastlstm.model_layout import Box, arrange
from fastlstm.models import Model, Sequential
from fastlstm.utils import plot_model


def branched():
    series, weather = Input((None, 3), name="series"), Input((None, 2), name="weather")
    shared = LSTM(4, return_sequences=True, name="shared")
    y, h, c = LSTM(8, return_sequences=True, return_state=True, name="encoder")(series)
    z = LSTM(8, return_sequences=True, name="decoder")(weather, initial_state=[h, c])
    both = Bidirectional(LSTM(4, return_sequences=True), name="both")(z)
    sums = Add(name="sums")([shared(y), shared(z)])
    joined = Concatenate(name="joined")([both, z, sums])
    inner = Sequential([LSTM(3, input_shape=(None, 20)), Dense(2)], name="inner")
    steps = TimeDistributed(Dense(1), name="steps")(joined)
    return Model([series, weather], [inner(joined), steps])


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_boxes_say_what_the_layers_are(tmp_path):
    model = branched()
    figure = plot_model(model, tmp_path / "model.png")
    found = texts(figure)
    for layer in model.layers:
        assert any(text.startswith(f"{layer.name}  (") for text in found), layer.name
    assert "both  (Bidirectional of LSTM)" in found
    assert "steps  (TimeDistributed of Dense)" in found
    assert "input  (None, None, 2), (None, 8), (None, 8)" in found
    assert "output  (None, None, 8), (None, 8), (None, 8)" in found
    assert f"{model.get_layer('encoder').count_params():,} parameters" in found
    bare = plots.plot_model(model, None, show_shapes=False, show_params=False)
    assert len([text for text in texts(bare) if text]) == len(model.layers)


@pytest.mark.parametrize("name", ["model.png", "model.svg", "model.pdf"])
def test_files(tmp_path, name):
    stacked = Sequential([LSTM(5, input_shape=(9, 1)), RepeatVector(9), LSTM(5), Dense(1)])
    plots.plot_model(stacked, tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match="png"):
        plots.plot_model(stacked, tmp_path / "model.bmp")
    with pytest.raises(ValueError, match="not built"):
        plots.plot_model(Sequential([LSTM(5)]))


def rectangles(figure):
    """The boxes, without their heads, as (left, top, right, bottom)."""
    whole = figure.axes[0].patches[::2]
    return [
        (p.get_x(), p.get_y(), p.get_x() + p.get_width(), p.get_y() + p.get_height()) for p in whole
    ]


def crosses(line, box):
    """Whether points along a line lie inside a box."""
    (x0, y0), (x1, y1) = line
    left, top, right, bottom = box
    along = np.linspace(0, 1, 200)
    x, y = x0 + along * (x1 - x0), y0 + along * (y1 - y0)
    slack = 1e-6
    inside = (x > left + slack) & (x < right - slack) & (y > top + slack) & (y < bottom - slack)
    return inside.any()


def test_nothing_overlaps():
    figure = plots.plot_model(branched(), None)
    boxes = rectangles(figure)
    for (left, top, right, bottom), other in combinations(boxes, 2):
        assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
    for line in figure.axes[0].lines:
        points = list(zip(*line.get_data(), strict=True))
        for piece in pairwise(points):
            assert not any(crosses(piece, box) for box in boxes)
    # Text stays within its box, and boxes within the picture.
    renderer = FigureCanvasAgg(figure).get_renderer()
    to_data = figure.axes[0].transData.inverted()
    for text in figure.axes[0].texts:
        if text.get_text():
            (x0, y0), (x1, y1) = to_data.transform(text.get_window_extent(renderer))
            inside = [
                left <= x0 and x1 <= right and top <= min(y0, y1) and max(y0, y1) <= bottom
                for left, top, right, bottom in boxes
            ]
            assert sum(inside) == 1, text.get_text()
    (left, right), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    for box in boxes:
        assert left <= box[0]
        assert box[2] <= right
        assert top <= box[1]
        assert box[3] <= bottom


def test_random_graphs_do_not_overlap():
    rng = np.random.default_rng(0)
    for _ in range(50):
        count = int(rng.integers(2, 12))
        boxes = [Box(["x"], *rng.uniform(0.5, 3, 2)) for _ in range(count)]
        arrows = [(a, b) for a, b in combinations(range(count), 2) if rng.random() < 0.3]
        routes = arrange(boxes, arrows, 0.4, 0.4)
        assert len(routes) == len(arrows)
        for one, other in combinations(boxes, 2):
            apart = one.right <= other.left + 1e-9 or other.right <= one.left + 1e-9
            assert apart or one.bottom <= other.top or other.bottom <= one.top
        for (source, target), route in zip(arrows, routes, strict=True):
            assert route[0] == (boxes[source].middle, boxes[source].bottom)
            assert route[-1] == (boxes[target].middle, boxes[target].top)


def test_history():
    model = Sequential([Dense(1, input_shape=(2,))])
    model.compile("sgd", loss="mse", metrics=["mae"])
    history = model.fit(np.ones((8, 2)), np.ones(8), epochs=3, verbose=0, validation_split=0.5)
    figure = plots.plot_history(history)
    for axes, name in zip(figure.axes, ("loss", "mae"), strict=True):
        training, validation = axes.lines
        assert training.get_xdata().tolist() == [1, 2, 3]
        assert list(training.get_ydata()) == history.history[name]
        assert list(validation.get_ydata()) == history.history[f"val_{name}"]
    with pytest.raises(ValueError, match="no results"):
        plots.plot_history({})


@pytest.mark.parametrize("options", [{}, {"go_backwards": True, "activation": "relu"}])
def test_gates_are_those_of_the_layer(options):
    layer = LSTM(5, return_sequences=True, dtype="float64", bias_initializer="normal", **options)
    x = np.random.default_rng(0).normal(size=(7, 3))
    y = layer(x[None])[0]
    i, f, g, o, c, h = plots.gate_values(layer, x)
    np.testing.assert_allclose(h[::-1] if layer.go_backwards else h, y, rtol=1e-12)
    assert all(panel.shape == (7, 5) for panel in (i, f, g, o, c, h))
    assert all(((gate > 0) & (gate < 1)).all() for gate in (i, f, o))
    figure = plots.plot_gates(layer, x[None])
    images = [axes.images[0] for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(images[1].get_array(), f.T)
    assert images[0].get_clim() == (0, 1)
    low, high = images[4].get_clim()
    assert low == -high == -np.abs(c).max()


def test_gates_of_what_has_none():
    built = LSTM(3)
    built.build((None, None, 2))
    with pytest.raises(TypeError, match="LSTM"):
        plots.plot_gates(Dense(3), np.ones((4, 2)))
    with pytest.raises(ValueError, match="no weights"):
        plots.plot_gates(LSTM(3), np.ones((4, 2)))
    for x in (np.ones((4, 3)), np.ones((2, 4, 2)), np.ones((0, 2))):
        with pytest.raises(ValueError, match="F = 2"):
            plots.plot_gates(built, x)


def test_the_pictures_of_readme(tmp_path):
    script = Path(__file__).parent.parent / "tools" / "make_pictures.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True)
    for name in ("model.png", "history.png", "gates.png"):
        assert 5_000 < (tmp_path / name).stat().st_size < 100_000
