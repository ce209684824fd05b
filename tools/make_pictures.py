"""Make the pictures of README.

usage: python tools/make_pictures.py [FOLDER]

Writes model.png, history.png and gates.png, by default to docs/pictures/. Needs matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fastlstm import plots
from fastlstm.demo import load_sunspots
from fastlstm.layers import LSTM, Concatenate, Dense, Input, TimeDistributed
from fastlstm.models import Model
from fastlstm.utils import set_random_seed

WINDOW = 44


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
    folder.mkdir(parents=True, exist_ok=True)
    set_random_seed(0)
    numbers = np.sqrt(load_sunspots()[1])
    numbers = (numbers - numbers.mean()) / numbers.std()
    windows = np.lib.stride_tricks.sliding_window_view(numbers, WINDOW + 1)[..., None]

    series = Input((WINDOW, 1), name="sunspots")
    states = LSTM(24, return_sequences=True, name="lstm")(series)
    joined = Concatenate(name="with_the_input")([series, states])
    model = Model(series, TimeDistributed(Dense(1, name="dense"), name="next_year")(joined))
    model.compile("adam", loss="mse", metrics=["mae"])
    history = model.fit(
        windows[:, :-1], windows[:, 1:], epochs=120, verbose=0, validation_split=0.2
    )
    plots.plot_model(model, folder / "model.png", dpi=100)
    plots.plot_history(history, folder / "history.png", dpi=100)
    lstm = model.get_layer("lstm")
    plots.plot_gates(lstm, windows[-1, :-1], folder / "gates.png", dpi=100)


if __name__ == "__main__":
    main()
