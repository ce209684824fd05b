"""An encoder-decoder: read a sequence of digits, then write it backwards.

The encoder's final states are the only thing that the decoder learns about the sequence. In
training the decoder is given the right digit of the step before (teacher forcing); afterwards
encoder and decoder are cut out of the trained model, and the decoder is fed its own answers.
"""

import numpy as np

from fastlstm.layers import LSTM, Dense, Input
from fastlstm.models import Model
from fastlstm.optimizers import Adam
from fastlstm.utils import set_random_seed

LENGTH, DIGITS, UNITS = 4, 8, 48
START = DIGITS  # a symbol of its own, which opens every answer
SYMBOLS = DIGITS + 1


def one_hot(symbols):
    return np.eye(SYMBOLS, dtype=np.float32)[symbols]


def build():
    """Make the model for training, and the encoder and the decoder that share its weights."""
    questions = Input(shape=(None, SYMBOLS))
    _, *states = LSTM(UNITS, return_state=True)(questions)
    encoder = Model(questions, states)

    answers = Input(shape=(None, SYMBOLS))
    decoder_lstm = LSTM(UNITS, return_sequences=True, return_state=True)
    classify = Dense(SYMBOLS, activation="softmax")
    outputs, *_ = decoder_lstm(answers, initial_state=states)
    model = Model([questions, answers], classify(outputs))

    given_states = [Input(shape=(UNITS,)), Input(shape=(UNITS,))]
    outputs, *new_states = decoder_lstm(answers, initial_state=given_states)
    decoder = Model([answers, *given_states], [classify(outputs), *new_states])
    return model, encoder, decoder


def reverse(encoder, decoder, questions):
    """Answer questions (B, LENGTH), writing one digit at a time."""
    states = encoder.predict(one_hot(questions), verbose=0)
    written = np.full((len(questions), 1), START)
    for _ in range(questions.shape[1]):
        probabilities, *states = decoder.predict([one_hot(written[:, -1:]), *states], verbose=0)
        written = np.hstack([written, probabilities.argmax(axis=-1)])
    return written[:, 1:]


if __name__ == "__main__":
    set_random_seed(1)
    # All 4096 sequences in random order; the last 500 are for testing alone.
    every = np.stack(np.unravel_index(np.arange(DIGITS**LENGTH), (DIGITS,) * LENGTH), axis=-1)
    questions = np.random.default_rng(1).permutation(every)
    answers = questions[:, ::-1]
    shown = np.hstack([np.full((len(answers), 1), START), answers[:, :-1]])
    train, test = slice(None, -500), slice(-500, None)

    model, encoder, decoder = build()
    model.compile(optimizer=Adam(0.01), loss="categorical_crossentropy", metrics=["accuracy"])
    model.summary()
    model.fit(
        [one_hot(questions[train]), one_hot(shown[train])],
        one_hot(answers[train]),
        epochs=6,
        batch_size=64,
        verbose=2,
    )

    written = reverse(encoder, decoder, questions[test])
    for question, answer in zip(questions[test][:5], written, strict=False):
        print(*question, "->", *answer)
    right = np.mean((written == answers[test]).all(axis=1))
    print(f"{right:.1%} of {len(written)} unseen sequences reversed without a mistake")
