"""The shapes (B, T, F, H) that are measured."""

from __future__ import annotations

Shape = tuple[int, int, int, int]


def _shapes(text: str) -> list[Shape]:
    return [tuple(int(n) for n in row.split(",")) for row in text.split()]  # type: ignore[misc]


# One step, single sequences, few rows, batches, sizes that are no multiple of anything.
USUAL = _shapes("""
    1,1,64,128  1,5,1,5  5,3,2,128
    1,100,64,64  1,100,64,128  1,100,256,256  1,100,512,512  1,50,1024,1024
    2,100,256,256  4,50,1536,1536  8,100,128,256
    32,100,64,128  32,100,256,256  64,50,512,512  128,25,1024,1024
    3,17,7,13  10,50,33,100  7,31,65,300
""")

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
TRAINING = [
    *_shapes("1,5,1,5  5,3,2,128  32,100,64,128  32,100,256,256  64,25,512,512"),
    *DEEPBENCH_TRAINING,
]


def forward_operations(shape: Shape) -> int:
    """Multiplications and additions of the products of one forward pass; training takes thrice."""
    batch, steps, features, units = shape
    return 2 * batch * steps * 4 * units * (features + units)
