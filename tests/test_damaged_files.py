"""Files of every format that were cut off or changed: loaded, or refused by a ``ValueError``."""

import io
import re

import numpy as np
import pytest
from golden_files import GOLDEN

import fastlstm
from fastlstm import convert, layers, load_model

pytestmark = pytest.mark.filterwarnings("ignore")

FILES = 60


def small_model():
    return fastlstm.Sequential(
        [
            layers.Input((4, 3)),
            layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
            layers.TimeDistributed(layers.Dense(2)),
            layers.LSTM(3),
        ],
        name="small",
    )


def of_fastlstm(path):
    model = small_model()
    model.compile("adam", "mse")
    model.fit(np.ones((2, 4, 3)), np.ones((2, 3)), verbose=0)
    model.save(path, include_optimizer=True)
    return load_model


def of_keras(path):
    pytest.importorskip("h5py")
    convert.to_keras(small_model(), path)
    return convert.from_keras


def of_keras_2(path):
    pytest.importorskip("h5py")
    from test_convert_keras import old_file

    old_file(path, "sigmoid")
    return convert.from_keras


def weights_of_keras(path):
    pytest.importorskip("h5py")
    path.write_bytes((GOLDEN / "keras_sequential.weights.h5").read_bytes())
    model = convert.from_keras(GOLDEN / "keras_sequential.keras")
    return lambda path: convert.load_keras_weights(model, path)


def of_torch(path, **options):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.LSTM(3, 2, bidirectional=True).state_dict(), path, **options)
    return convert.from_torch


def of_old_torch(path):
    return of_torch(path, _use_new_zipfile_serialization=False)


def of_torch_as_safetensors(path):
    path.write_bytes((GOLDEN / "torch_lstm.safetensors").read_bytes())
    return convert.from_torch


KINDS = {
    of_fastlstm: "model.safetensors",
    of_keras: "model.keras",
    of_keras_2: "model.h5",
    weights_of_keras: "model.weights.h5",
    of_torch: "model.pt",
    of_old_torch: "model.pt",
    of_torch_as_safetensors: "model.safetensors",
}


def cut_off(content, rng):
    step = max(1, len(content) // FILES)
    for end in range(int(rng.integers(step)), len(content), step):
        yield content[:end]


def flipped(content, rng):
    """In the first bytes, where the formats describe what follows, and anywhere."""
    for number in range(FILES):
        changed = bytearray(content)
        for place in rng.integers(min(len(content), 3000 if number % 2 else len(content)), size=3):
            changed[place] ^= 1 << int(rng.integers(8))
        yield bytes(changed)


def overwritten(content, rng):
    for _ in range(FILES):
        begin = int(rng.integers(len(content)))
        size = int(rng.integers(1, 16))
        yield content[:begin] + bytes([int(rng.choice([0, 255]))]) * size + content[begin + size :]


@pytest.mark.parametrize("damaged", [cut_off, flipped, overwritten])
@pytest.mark.parametrize("make", KINDS)
def test_damaged_files_are_loaded_or_refused(tmp_path, make, damaged):
    path = tmp_path / KINDS[make]
    load = make(path)
    load(path)
    refused = 0
    for content in damaged(path.read_bytes(), np.random.default_rng(0)):
        path.write_bytes(content)
        try:
            load(path)
        except ValueError as error:
            assert str(error).count(path.name) == 1  # noqa: PT017 - many files load
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("index", "size"), [(0, 0), (1, 2**64 - 16), (7, 2**64 - 23), (0, 8)], ids=str
)
def test_texts_in_which_hdf5_would_go_round_for_ever(tmp_path, index, size):
    path = tmp_path / "model.h5"
    of_keras_2(path)
    content = bytearray(path.read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 2] = index.to_bytes(2, "little")
    content[first + 8 : first + 16] = size.to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.h5.*text at byte {first}"):
        convert.from_keras(path)


def test_texts_that_hdf5_would_read_again_and_again(tmp_path):
    path = tmp_path / "model.h5"
    of_keras_2(path)
    content = bytearray(path.read_bytes())
    text = re.compile(rb'"recurrent_kernel|"recurrent_constraint"').search(content).start()
    content[text : text + 16] = b"GCOL\x01\0\0\0" + (64).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError, match="overlap"):
        convert.from_keras(path)


def test_signatures_are_found_wherever_blocks_of_a_file_end(monkeypatch):
    from fastlstm.convert import keras_hdf5

    monkeypatch.setattr(keras_hdf5, "_BLOCK_BYTES", 7)
    content, want = bytearray(range(1, 200)), [0, 9, 14, 40, 90, 194]
    for place in want:
        content[place : place + 5] = b"GCOL\x01"
    assert list(keras_hdf5._places(io.BytesIO(content), b"GCOL\x01")) == want
