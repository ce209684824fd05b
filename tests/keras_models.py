"""Random models in words that fastlstm and Keras share, to compare what they predict."""

import numpy as np

STEPS = 5


def random_model(rng, words, make_input, functional, sequential):
    """A model and its inputs; `rng` decides, so that equal seeds give equal models."""
    if rng.random() < 0.3:
        return _chain(rng, words, make_input, sequential)
    return _branches(rng, words, make_input, functional, sequential)


def _series(rng, features):
    x = rng.normal(size=(3, STEPS, features)).astype(np.float32)
    return x * (rng.random((3, STEPS, 1)) < 0.7)


def _to_sequence(rng, words, features):
    """A layer from (B, T, F) to (B, T, ...)."""
    units = int(rng.integers(1, 5))
    return [
        lambda: words.LSTM(units, return_sequences=True, go_backwards=bool(rng.integers(2))),
        lambda: words.Bidirectional(
            words.LSTM(units, return_sequences=True),
            merge_mode=str(rng.choice(["sum", "mul", "concat", "ave"])),
        ),
        lambda: words.TimeDistributed(words.Dense(units, activation="tanh")),
        lambda: words.Dense(units, activation="tanh"),
        lambda: words.LayerNormalization(),
        lambda: words.Dropout(0.3),
        lambda: words.Activation("tanh"),
        lambda: words.Masking(0.0),
        lambda: words.Reshape((STEPS, features)),
    ][rng.integers(9)]()


def _chain(rng, words, make_input, sequential):
    features = int(rng.integers(1, 4))
    kept = [words.Masking(0.0)] if rng.random() < 0.5 else []
    for _ in range(rng.integers(1, 4)):
        kept.append(_plain(rng, words))
    kept.append(words.LSTM(2) if rng.random() < 0.5 else words.Dense(2))
    return sequential([make_input((STEPS, features)), *kept]), _series(rng, features)


def _plain(rng, words):
    layer = _to_sequence(rng, words, 1)
    return words.Dropout(0.1) if type(layer).__name__ == "Reshape" else layer


def _branches(rng, words, make_input, functional, sequential):
    features = int(rng.integers(2, 4))
    series, ids = make_input((STEPS, features)), make_input((STEPS,), dtype="int32")
    embedded = words.Embedding(7, features, mask_zero=bool(rng.integers(2)))(ids)
    tensors = [series, embedded]
    if rng.random() < 0.5:
        tensors.append(words.Masking(0.0)(series))
    shared = words.LSTM(features, return_sequences=True)
    inner = sequential([make_input((STEPS, features)), words.LSTM(features, return_sequences=True)])
    for _ in range(rng.integers(2, 7)):
        x, y = (tensors[i] for i in rng.integers(len(tensors), size=2))
        kind = rng.integers(8)
        if kind < 3:
            made = _to_sequence(rng, words, x.shape[-1])(x)
        elif kind == 3:
            made = words.Concatenate()([x, y])
        elif kind == 4:
            same = [t for t in tensors if t.shape[-1] == x.shape[-1]]
            other = same[rng.integers(len(same))]
            made = [words.Add, words.Multiply, words.Average][rng.integers(3)]()([x, other])
        elif kind == 5 and x.shape[-1] == features:
            made = (shared if rng.random() < 0.5 else inner)(x)
        elif kind == 6:
            units = int(rng.integers(1, 4))
            _, h, c = words.LSTM(units, return_state=True)(x)
            made = words.LSTM(units, return_sequences=True)(y, initial_state=[h, c])
        else:
            state = words.LSTM(2)(x)
            made = words.RepeatVector(STEPS)(state)
        tensors.append(made)
    ends = [words.LSTM(2)(tensors[-1]), words.Dense(2)(tensors[-2])]
    joined = words.Concatenate()([words.Flatten()(words.Dense(1)(t)) for t in tensors])
    inputs = [_series(rng, features), rng.integers(0, 7, (3, STEPS)).astype(np.int32)]
    return functional([series, ids], [*ends, joined]), inputs
