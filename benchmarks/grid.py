"""The shapes that are measured."""

from __future__ import annotations

from typing import NamedTuple

Shape = tuple[int, int, int, int]


def _shapes(text: str) -> list[Shape]:
    return [tuple(int(n) for n in row.split(",")) for row in text.split()]  # type: ignore[misc]


# ---- LSTM layers: B, T, F, H ------------------------------------------------------------------

# One step, single sequences, few rows, batches, sizes that are no multiple of anything.
USUAL = _shapes("""
    1,1,64,128  1,5,1,5  5,3,2,128
    1,100,64,64  1,100,64,128  1,100,256,256  1,100,512,512  1,50,1024,1024
    2,100,256,256  4,50,1536,1536  8,100,128,256
    32,100,64,128  32,100,256,256  64,50,512,512  128,25,1024,1024
    3,17,7,13  10,50,33,100  7,31,65,300
""")
USUAL_TRAINING = _shapes("1,5,1,5  5,3,2,128  32,100,64,128  32,100,256,256  64,25,512,512")

# The LSTM rows of DeepBench (github.com/baidu-research/DeepBench, code/kernels/rnn_problems.h).
DEEPBENCH_INFERENCE: list[Shape] = [
    (batch, steps, units, units)
    for units, steps in ((512, 25), (1024, 25), (2048, 25), (1536, 50), (256, 150))
    for batch in (1, 2, 4)
]
DEEPBENCH_TRAINING: list[Shape] = [
    (batch, steps, units, units)
    for units, steps, batches in (
        (512, 25, (16, 32, 64, 128)),
        (1024, 25, (16, 32, 64, 128)),
        (2048, 25, (16, 32)),
        (1536, 50, (8, 16, 32)),
        (256, 150, (16, 32, 64)),
    )
    for batch in batches
]
INFERENCE = [*USUAL, *DEEPBENCH_INFERENCE]
TRAINING = [*USUAL_TRAINING, *DEEPBENCH_TRAINING]

# Beside busy processes: few rows and many, weights in second-level cache and beyond it.
BUSY = _shapes("1,100,256,256  8,100,128,256  4,25,512,512  32,100,64,128")


# ---- dense layers: B, T, F, N, activation -----------------------------------------------------


class Dense(NamedTuple):
    """(B, T, F) to (B, T, N)."""

    batch: int
    steps: int
    features: int
    units: int
    activation: str


DENSE = [
    Dense(*(int(n) for n in sizes.split(",")), activation)  # type: ignore[arg-type]
    for sizes, activation in (
        ("1,1,64,1", "linear"),
        ("5,3,128,2", "linear"),
        ("1,100,128,2", "softmax"),
        ("1,50,64,64", "relu"),
        ("32,100,128,10", "softmax"),
        ("32,100,64,128", "tanh"),
        ("32,100,256,256", "relu"),
        ("64,50,512,512", "linear"),
        ("32,100,128,1", "sigmoid"),
        ("16,50,256,10000", "softmax"),
        ("1,1,1024,1024", "linear"),
        ("7,31,65,300", "relu"),
    )
]


# ---- whole models -----------------------------------------------------------------------------


class Part(NamedTuple):
    """One layer: `kind` is lstm, bidirectional, repeat or dense."""

    kind: str
    units: int = 0
    sequences: bool = True
    activation: str = "linear"


class Program(NamedTuple):
    """Layers one after the other, on sequences of so many features."""

    name: str
    features: int
    parts: tuple[Part, ...]

    @property
    def is_classifier(self) -> bool:
        return self.parts[-1].activation == "softmax"

    @property
    def makes_sequences(self) -> bool:
        """Whether the outputs are (B, T, ...)."""
        return all(part.sequences for part in self.parts) or any(
            part.kind == "repeat" for part in self.parts
        )


MODEL_STEPS = 100
MODEL_BATCHES = (1, 8, 64)
MODELS = (
    Program("2 x LSTM 128, dense 8", 16, (*[Part("lstm", 128)] * 2, Part("dense", 8))),
    Program(
        "3 x LSTM 64, dense 1",
        16,
        (*[Part("lstm", 64)] * 2, Part("lstm", 64, sequences=False), Part("dense", 1)),
    ),
    Program("Bidirectional 64, dense 10", 16, (Part("bidirectional", 64), Part("dense", 10))),
    Program(
        "autoencoder 128-64-64-128",
        16,
        (
            Part("lstm", 128),
            Part("lstm", 64, sequences=False),
            Part("repeat"),
            Part("lstm", 64),
            Part("lstm", 128),
            Part("dense", 16),
        ),
    ),
    # The next of 65 characters, as in the usual small text.
    Program(
        "LSTM 512, dense 65 softmax",
        65,
        (Part("lstm", 512, sequences=False), Part("dense", 65, activation="softmax")),
    ),
)
MODEL_ROWS = [(program, batch) for program in MODELS for batch in MODEL_BATCHES]
