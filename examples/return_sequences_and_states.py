"""What an LSTM layer returns: the last output, the output of every step, the states, or all."""

import numpy as np

from fastlstm.layers import LSTM, Input
from fastlstm.models import Model
from fastlstm.utils import set_random_seed

data = np.array([0.1, 0.2, 0.3]).reshape(1, 3, 1)


def outputs(**options):
    """One unit over three steps. Untrained, so the values depend on the seed alone."""
    set_random_seed(1)
    inputs = Input(shape=(3, 1))
    return Model(inputs=inputs, outputs=LSTM(1, **options)(inputs)).predict(data, verbose=0)


if __name__ == "__main__":
    print("LSTM(1): the hidden state after the last step, (batch, units)")
    print(outputs())

    print("\nreturn_sequences=True: the hidden state after each step, (batch, steps, units)")
    print(outputs(return_sequences=True))

    print("\nreturn_state=True: the output, then the hidden state (the same) and the cell state")
    print(outputs(return_state=True))

    print("\nboth: the last row of the sequence is the hidden state")
    print(outputs(return_sequences=True, return_state=True))
