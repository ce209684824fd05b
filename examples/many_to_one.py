"""A sequence in, a vector out: an LSTM reads five numbers and repeats them all at once."""

import numpy as np

from fastlstm.layers import LSTM, Dense
from fastlstm.models import Sequential
from fastlstm.utils import set_random_seed

numbers = np.arange(5) / 5
x, y = numbers.reshape(1, 5, 1), numbers.reshape(1, 5)


def train(seed):
    set_random_seed(seed)
    model = Sequential()
    model.add(LSTM(5, input_shape=(5, 1)))
    model.add(Dense(5))
    model.compile(loss="mean_squared_error", optimizer="adam")
    model.fit(x, y, epochs=500, batch_size=1, verbose=0)
    return model


if __name__ == "__main__":
    model = train(seed=0)
    # Each of the five outputs sees the five units that are left at the end: 5 * 5 + 5 = 30.
    model.summary()
    for value in model.predict(x, verbose=0)[0]:
        print(f"{value:z.1f}")  # z: a negative zero without its sign
