"""An LSTM autoencoder and its encoder, beside a plain LSTM network of the same size.

The autoencoder squeezes each window of a two-feature series into one vector of 64 numbers and
unfolds it again; the plain network keeps the time axis throughout, so it has no such vector.
"""

import numpy as np

from fastlstm.layers import LSTM, Dense, RepeatVector, TimeDistributed
from fastlstm.models import Model, Sequential
from fastlstm.utils import set_random_seed

STEPS, FEATURES = 3, 2
# Both errors end between 3e-5 and 4e-4, and which of the two is smaller depends on the seed: over
# thirty seeds, about half the time either. With this one it is the plain network's.
SEED = 5

ramp = np.arange(1, 10) / 10
series = np.stack([ramp, ramp**3], axis=-1)
# Five windows; the first starts at the third row, as in the text that made the example known.
x = np.stack([series[start : start + STEPS] for start in range(2, 7)])


def autoencoder():
    model = Sequential()
    model.add(LSTM(128, activation="relu", input_shape=(STEPS, FEATURES), return_sequences=True))
    model.add(LSTM(64, activation="relu"))
    model.add(RepeatVector(STEPS))
    model.add(LSTM(64, activation="relu", return_sequences=True))
    model.add(LSTM(128, activation="relu", return_sequences=True))
    model.add(TimeDistributed(Dense(FEATURES)))
    return model


def plain_network():
    model = Sequential()
    model.add(LSTM(128, activation="relu", input_shape=(STEPS, FEATURES), return_sequences=True))
    model.add(LSTM(64, activation="relu", return_sequences=True))
    model.add(LSTM(64, activation="relu", return_sequences=True))
    model.add(LSTM(128, activation="relu", return_sequences=True))
    model.add(TimeDistributed(Dense(FEATURES)))
    return model


def train(build, seed):
    set_random_seed(seed)
    model = build()
    model.compile(optimizer="adam", loss="mse")
    model.fit(x, x, epochs=300, batch_size=5, verbose=0)
    return model


def report(title, model):
    print(f"\n{title}")
    model.summary()
    reconstruction = model.predict(x, verbose=0)
    print("---Predicted---")
    print(np.round(reconstruction, 3))
    print("---Actual---")
    print(np.round(x, 3))
    print(f"mean squared error: {np.mean((reconstruction - x) ** 2):.1e}")


if __name__ == "__main__":
    model = train(autoencoder, SEED)
    report("LSTM autoencoder", model)

    encoder = Model(inputs=model.inputs, outputs=model.layers[1].output)
    codes = encoder.predict(x, verbose=0)
    print(f"\nThe encoder alone: {x.shape} becomes {codes.shape}; it shares the trained weights.")

    report("Plain LSTM network", train(plain_network, SEED))
