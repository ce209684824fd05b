"""One value in, one value out: an LSTM learns to repeat five numbers, each a sample of its own."""

import numpy as np

from fastlstm.layers import LSTM, Dense
from fastlstm.models import Sequential
from fastlstm.utils import set_random_seed

numbers = np.arange(5) / 5
x, y = numbers.reshape(5, 1, 1), numbers.reshape(5, 1)


def train(seed):
    set_random_seed(seed)
    model = Sequential()
    model.add(LSTM(5, input_shape=(1, 1)))
    model.add(Dense(1))
    model.compile(loss="mean_squared_error", optimizer="adam")
    model.fit(x, y, epochs=1000, batch_size=5, verbose=0)
    return model


if __name__ == "__main__":
    model = train(seed=0)
    # The LSTM has 4 * ((1 input + 1 bias) * 5 + 5 * 5) = 140 parameters, the dense layer 5 + 1.
    model.summary()
    for row in model.predict(x, verbose=0):
        # A row holds one element. "%.1f" % row, as old tutorials have it, fails from NumPy 2.4 on:
        # take the number out with item(). The z prints a negative zero without its sign.
        print(f"{row.item():z.1f}")
