"""Weights of branched models come in Keras's order, so that they go over as lists."""

import numpy as np
import pytest

from fastlstm import layers, models

keras = pytest.importorskip("keras")

WIDTH, STEPS = 4, 5


class Builder:
    """Builds one random model, the same in both libraries: every choice comes from the seed."""

    def __init__(self, seed, masks, library, model_class):
        self.rng = np.random.default_rng(seed)
        self.masks, self.layers, self.model_class = masks, library, model_class
        self.count = 0
        self.shared = {}

    def make(self, kind, *arguments, **keywords):
        """A layer with a name of its own, or now and then one that has been used before."""
        key = (kind, *arguments, *keywords.items())
        may_be_shared = kind in ("Dense", "LSTM", "LayerNormalization")
        if may_be_shared and self.rng.random() < 0.25 and key in self.shared:
            return self.shared[key]
        self.count += 1
        layer = getattr(self.layers, kind)(*arguments, name=f"layer_{self.count}", **keywords)
        self.shared[key] = layer
        return layer

    def pick(self, tensors, count=None):
        if count is None:
            return tensors[self.rng.integers(len(tensors))]
        return [tensors[k] for k in self.rng.choice(len(tensors), count)]

    def source(self):
        """An input and the sequence that it becomes."""
        self.count += 1
        name = f"input_{self.count}"
        if self.rng.random() < 0.5:
            tokens = self.layers.Input((STEPS,), dtype="int32", name=name)
            masked = bool(self.rng.random() < 0.7) and self.masks
            return tokens, self.make("Embedding", 9, WIDTH, mask_zero=masked)(tokens)
        series = self.layers.Input((STEPS, WIDTH), name=name)
        masked = self.rng.random() < 0.7
        return series, self.make("Masking")(series) if masked and self.masks else series

    def lstm(self, **keywords):
        return self.make("LSTM", WIDTH, **keywords)

    def longer(self, sequences):
        """Another sequence."""
        x = self.pick(sequences)
        choice = self.rng.integers(9)
        if choice == 0:
            return self.lstm(return_sequences=True)(x)
        if choice == 1:
            inner = self.layers.LSTM(WIDTH, return_sequences=True)
            return self.make("Bidirectional", inner, merge_mode="sum")(x)
        if choice == 2:
            return self.make("TimeDistributed", self.layers.Dense(WIDTH))(x)
        if choice == 3:
            return self.make("Dropout", 0.5)(x)
        if choice == 4:
            return self.make("Add")(self.pick(sequences, 3))
        if choice == 5:
            joined = self.make("Concatenate")(self.pick(sequences, 2))
            return self.make("Dense", WIDTH, activation="tanh")(joined)
        if choice == 6:
            return self.make("LayerNormalization")(x)
        if choice == 7:
            _, h, c = self.lstm(return_state=True)(x)
            other = self.pick(sequences)
            return self.lstm(return_sequences=True)(other, initial_state=[h, c])
        return self.make("Dense", WIDTH)(x)

    def nested(self, x):
        """A model inside: of its own input, with two layers that have weights."""
        inside = self.layers.Input((STEPS, WIDTH))
        hidden = self.lstm(return_sequences=True)(inside)
        self.count += 1
        return self.model_class(inside, self.lstm()(hidden), name=f"model_{self.count}")(x)

    def build(self):
        sources = [self.source() for _ in range(self.rng.integers(1, 4))]
        sequences = [sequence for _, sequence in sources]
        for _ in range(self.rng.integers(3, 9)):
            sequences.append(self.longer(sequences))
        vectors = [self.lstm()(x) for x in sequences[:: int(self.rng.integers(1, 3))]]
        if self.rng.random() < 0.4:
            vectors.append(self.nested(self.pick(sequences)))
        for _ in range(self.rng.integers(0, 4)):
            if self.rng.random() < 0.5:
                vectors.append(self.make("Dense", WIDTH)(self.pick(vectors)))
            else:
                vectors.append(self.make("Add")(self.pick(vectors, 2)))
        joined = self.make("Concatenate")(vectors)
        outputs = [self.make("Dense", 2)(joined), self.make("Dense", 3)(sequences[-1])]
        shown = outputs[: self.rng.integers(1, 3)]
        if self.rng.random() < 0.5:
            shown = shown[::-1]
        return self.model_class([given for given, _ in sources], shown)


def with_weights(model):
    return [layer.name for layer in model.layers if layer.weights]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("seed", range(24))
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_weights_go_over_from_keras(seed, masks):
    theirs = Builder(seed, masks, keras.layers, keras.Model).build()
    ours = Builder(seed, masks, layers, models.Model).build()
    assert with_weights(ours) == with_weights(theirs)
    weights = theirs.get_weights()
    ours.set_weights(weights)
    for got, want in zip(ours.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, want)
