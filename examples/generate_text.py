"""Text character by character: a model learns to say the next one, then writes with streams.

usage: generate_text.py [TEXT.txt] [--model FILE.safetensors] [--epochs N] ...

Without TEXT.txt it learns a sonnet by heart, in seconds. A megabyte of plays to learn from is
tinyshakespeare/input.txt of https://github.com/karpathy/char-rnn (in the public domain); ten
epochs of it take a minute or two. With --model the model is kept in that file, with its characters
beside it, and comes from there the next time.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastlstm
from fastlstm.layers import LSTM, Dense, Embedding
from fastlstm.models import Sequential
from fastlstm.optimizers import Adam
from fastlstm.utils import set_random_seed

STEPS = 64
# William Shakespeare, Sonnet 18 (1609).
SONNET = """\
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance, or nature's changing course, untrimm'd;
But thy eternal summer shall not fade
Nor lose possession of that fair thou ow'st;
Nor shall Death brag thou wander'st in his shade,
When in eternal lines to time thou grow'st;
So long as men can breathe or eyes can see,
So long lives this, and this gives life to thee.
"""


def build_model(characters, units):
    model = Sequential()
    model.add(Embedding(characters, 32, input_shape=(None,)))
    model.add(LSTM(units, return_sequences=True))
    model.add(Dense(characters, activation="softmax"))
    model.compile(optimizer=Adam(0.003, clipnorm=1.0), loss="sparse_categorical_crossentropy")
    return model


def windows(codes, first=0):
    """Runs of STEPS characters from `first` on, and the characters that follow each of them."""
    count = (len(codes) - first - 1) // STEPS
    inputs, targets = codes[first:], codes[first + 1 :]
    return [part[: count * STEPS].reshape(count, STEPS) for part in (inputs, targets)]


def train(model, codes, epochs, seed):
    """Train on all but the last twentieth, which tells what the model makes of unseen text."""
    kept = len(codes) - len(codes) // 20
    x_unseen, y_unseen = windows(codes[kept:])
    batch_size = 32 if kept > 100_000 else 4
    rng = np.random.default_rng(seed)
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        # Windows that begin elsewhere each time: no place in the text is always at a window's edge.
        x, y = windows(codes[:kept], first=int(rng.integers(STEPS)))
        loss = model.fit(x, y, batch_size=batch_size, verbose=0).history["loss"][0]
        if epoch in (1, epochs) or epoch % max(1, epochs // 10) == 0:
            unseen = ""
            if len(x_unseen):
                unseen = f", of unseen text {model.evaluate(x_unseen, y_unseen, verbose=0):.3f}"
            seconds = time.perf_counter() - start
            print(f"epoch {epoch}: loss {loss:.3f}{unseen} ({seconds:.1f} s)", flush=True)


def draw(probabilities, temperature, rng):
    """One code for each row, (B, V) to (B,).

    The largest of log(p) / temperature + Gumbel noise is at each place as often as p there, made
    sharper or flatter by the temperature, says.
    """
    scores = np.log(np.maximum(probabilities, 1e-30)) / temperature
    return np.argmax(scores + rng.gumbel(size=scores.shape), axis=-1)


def generate(model, prompt, length, temperature, rng, texts=1):
    """So many texts that go on from the codes of a prompt, (texts, length), and the seconds."""
    stream = model.stream(batch_size=texts)
    for code in prompt:
        probabilities = stream.step(np.full(texts, code))
    written = np.empty((texts, length), dtype=np.intp)
    start = time.perf_counter()
    for place in range(length):
        written[:, place] = draw(probabilities, temperature, rng)
        stream.step(written[:, place], out=probabilities)
    return written, time.perf_counter() - start


def trained_model(options):
    """The model and its characters: from --model if it is there, else trained, and kept there."""
    if options.model and options.model.exists():
        return fastlstm.load_model(options.model), json.loads(beside(options.model).read_text())
    text = options.text.read_text(encoding="utf-8") if options.text else SONNET
    if len(text) - len(text) // 20 < 2 * STEPS:  # a window wherever the first begins
        raise ValueError(f"the text has {len(text)} characters, too few to learn from")
    alphabet = "".join(sorted(set(text)))
    code_of = {character: code for code, character in enumerate(alphabet)}
    codes = np.array([code_of[character] for character in text])
    model = build_model(len(alphabet), options.units)
    print(
        f"{len(text):,} characters, {len(alphabet)} different; {model.count_params():,} parameters"
    )
    train(model, codes, options.epochs or (10 if options.text else 300), options.seed)
    if options.model:
        model.save(options.model)
        beside(options.model).write_text(json.dumps(alphabet))
    return model, alphabet


def beside(path):
    return path.with_suffix(".characters.json")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", metavar="TEXT.txt")
    parser.add_argument("--model", type=Path, metavar="FILE.safetensors")
    parser.add_argument("--epochs", type=int, help="default: 10 of a text, 300 of the sonnet")
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--prompt", default="So")
    parser.add_argument("--length", type=int, default=400, help="characters of each text")
    parser.add_argument("--temperature", type=float, default=0.6, help="higher: more daring")
    parser.add_argument("--texts", type=int, default=64, help="how many are written at once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.temperature <= 0:
        parser.error("--temperature must be above 0")

    set_random_seed(options.seed)
    try:
        model, alphabet = trained_model(options)
    except (OSError, ValueError) as error:  # of the files
        parser.error(str(error))
    if not options.prompt or set(options.prompt) - set(alphabet):
        parser.error(f"--prompt must be made of {alphabet!r}")
    prompt = [alphabet.index(character) for character in options.prompt]

    rng = np.random.default_rng(options.seed)
    for texts in (1, options.texts):
        written, seconds = generate(model, prompt, options.length, options.temperature, rng, texts)
        rate = written.size / seconds
        print(f"\n{texts} at once: {rate:,.0f} characters a second. The first of them:")
        print(options.prompt + "".join(alphabet[code] for code in written[0]))


if __name__ == "__main__":
    main()
