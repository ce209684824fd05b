"""Models of PyTorch: files that it wrote, modules that it builds, and modules for it."""

import zipfile

import numpy as np
import pytest
from golden_files import GOLDEN, load_golden

import fastlstm
from fastlstm import convert, layers
from fastlstm.layers import LSTM, Bidirectional, Dense, Dropout, ProjectedLSTM, TimeDistributed

CLOSE = {"rtol": 2e-5, "atol": 2e-6}
RNG = np.random.default_rng(0)
CASES = ["torch_lstm", "torch_lstm_proj", "torch_lstm_stacked_bi"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".npz"])
def test_golden_files(name, suffix):
    _, arrays = load_golden(GOLDEN / f"{name}.npz")
    source = GOLDEN / f"{name}{suffix}"
    if suffix == ".pt":
        pytest.importorskip("torch")
    if suffix == ".npz":
        source = {key[2:]: array for key, array in arrays.items() if key.startswith("p_")}
    model = convert.from_torch(source)
    np.testing.assert_allclose(model.predict(arrays["x"]), arrays["y"], **CLOSE)


def test_projected_lstm_equals_lstm_without_a_projection():
    plain = LSTM(5, return_sequences=True, return_state=True, go_backwards=True, dtype="float64")
    projected = ProjectedLSTM(
        5, 5, return_sequences=True, return_state=True, go_backwards=True, dtype="float64"
    )
    x, mask = RNG.normal(size=(3, 7, 2)), RNG.random((3, 7)) < 0.6
    want = plain(x, mask=mask)
    projected(x)
    projected.set_weights([*plain.get_weights(), np.eye(5)])
    for found, expected in zip(projected(x, mask=mask), want, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert projected.compute_output_shape((3, 7, 2)) == [(3, 7, 5), (3, 5), (3, 5)]


def test_models_with_projections_are_saved(tmp_path):
    model = convert.from_torch(GOLDEN / "torch_lstm_proj.safetensors")
    model.save(tmp_path / "model.safetensors")
    x = RNG.normal(size=(2, 3, 5))
    again = fastlstm.load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("proj_size", [0, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_modules_of_torch(bias, bidirectional, proj_size, dtype):
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(
        4,
        7,
        num_layers=3,
        bias=bias,
        batch_first=True,
        dropout=0.3,
        bidirectional=bidirectional,
        proj_size=proj_size,
        dtype=getattr(torch, dtype),
    ).eval()
    x = RNG.normal(size=(5, 9, 4)).astype(dtype)
    want = module(torch.from_numpy(x))[0].detach().numpy()
    model = convert.from_torch(module)
    assert sum(isinstance(layer, Dropout) for layer in model.layers) == 2
    np.testing.assert_allclose(model.predict(x), want, **CLOSE)


def test_several_modules():
    torch = pytest.importorskip("torch")

    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.LSTM(3, 4, num_layers=2, dropout=0.4, batch_first=True)
            self.head = torch.nn.Linear(4, 2, bias=False)

        def forward(self, x):
            return self.head(self.encoder(x)[0])

    tagger = Tagger().eval()
    models = convert.from_torch(tagger)
    assert list(models) == ["encoder", "head"]
    assert models["encoder"].layers[1].rate == 0.4
    x = RNG.normal(size=(2, 5, 3)).astype(np.float32)
    found = models["head"].layers[0](models["encoder"].predict(x))
    np.testing.assert_allclose(found, tagger(torch.from_numpy(x)).detach().numpy(), **CLOSE)
    tagger.norm = torch.nn.LayerNorm(4)
    tagger.words = torch.nn.Conv1d(3, 4, 5)
    tagger.tokens = torch.nn.Embedding(9, 3)
    with pytest.raises(ValueError, match=r"no nn\.LSTM") as error:
        convert.from_torch(tagger)
    for name in ("LayerNorm 'norm'", "Conv1d 'words'", "Embedding 'tokens'"):
        assert name in str(error.value)
    with pytest.raises(ValueError, match="belong to no") as error:
        convert.from_torch(tagger.state_dict())
    for name in ("norm.weight", "norm.bias", "words.weight", "words.bias"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "no weights"),
        ({"weight_hh_l0": np.ones((8, 2))}, "weight_hh_l0"),
        ({"weight_ih_l0": np.ones((8, 3))}, "l0"),
        ({"weight": 3}, "weight"),
        (5, "state dict"),
        ({3: np.ones((2, 3))}, "state dict"),
        ({"weight": np.ones((2, 3), int)}, "real numbers"),
        ({"weight": np.ones((2, 3), complex)}, "real numbers"),
        ({"weight_ih_l0": np.ones(8), "weight_hh_l0": np.ones((8, 2))}, "weight_ih_l0"),
    ],
)
def test_bad_sources(source, message):
    with pytest.raises(ValueError, match=message):
        convert.from_torch(source)


def test_modules_for_torch():
    torch = pytest.importorskip("torch")
    model = fastlstm.Sequential(
        [
            layers.Input((None, 3)),
            Bidirectional(LSTM(4, return_sequences=True), name="both"),
            Dropout(0.2, name="drop"),
            LSTM(5, return_sequences=True, use_bias=False, name="one"),
            TimeDistributed(Dense(2), name="steps"),
            Dense(3, use_bias=False, name="head"),
        ]
    )
    for weight in model.weights:
        weight.assign(RNG.normal(size=weight.shape))
    modules = convert.to_torch(model).eval()
    x = RNG.normal(size=(2, 6, 3)).astype(np.float32)
    y = torch.from_numpy(x)
    for module in modules.values():
        y = module(y)
        y = y[0] if isinstance(y, tuple) else y
    np.testing.assert_allclose(model.predict(x), y.detach().numpy(), **CLOSE)
    again = convert.from_torch(modules)
    assert list(again) == ["both", "one", "steps", "head"]
    np.testing.assert_array_equal(again["one"].get_weights()[0], model.layers[2].kernel.value)


def test_layers_that_torch_lacks_are_named_at_once():
    pytest.importorskip("torch")
    model = fastlstm.Sequential(
        [
            layers.Input((4, 3)),
            Bidirectional(LSTM(4, return_sequences=True), merge_mode="sum", name="sum"),
            LSTM(4, activation="relu", return_sequences=True, name="relu"),
            LSTM(4, go_backwards=True, return_sequences=True, name="back"),
            Dense(2, name="fine"),
            layers.Flatten(name="flat"),
        ]
    )
    with pytest.raises(ValueError, match="sum") as error:
        convert.to_torch(model)
    named = [name for name in ("sum", "relu", "back", "fine", "flat") if f'"{name}"' in str(error)]
    assert named == ["sum", "relu", "back", "flat"]


def test_a_layer_in_two_places_is_refused_for_torch():
    pytest.importorskip("torch")
    again = Dense(3, name="again")
    model = fastlstm.Sequential([layers.Input((4, 3)), again, LSTM(3, name="once"), again])
    with pytest.raises(ValueError, match=r'"again".*places') as error:
        convert.to_torch(model)
    assert '"once"' not in str(error.value)


class RunsCode:
    """A pickle of it makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        import os

        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_run_nothing(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    content = {"weight": RunsCode(str(tmp_path / "made"))}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"model\.pt"):
        convert.from_torch(path)
    assert not (tmp_path / "made").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "made").exists()  # had it been run


def test_tensors_larger_than_what_is_stored_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.ones(1, 1).expand(10**7, 10**7)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="larger than what is stored"):
        convert.from_torch(tmp_path / "model.pt")


def test_compressed_parts_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    torch.save({"weight": torch.ones(300, 200)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as to:
        for name in source.namelist():
            to.writestr(name, source.read(name))
    with pytest.raises(ValueError, match=r"packed\.pt.*compressed"):
        convert.from_torch(packed)


def test_paths_of_all_kinds():
    path = GOLDEN / "torch_lstm.safetensors"
    want = convert.from_torch(path).get_weights()
    for kind in (str(path), bytes(path)):
        for found, array in zip(convert.from_torch(kind).get_weights(), want, strict=True):
            np.testing.assert_array_equal(found, array)


def test_files_that_cannot_be_opened_keep_their_errors(tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(FileNotFoundError):
        convert.from_torch(tmp_path / "none.pt")
    with pytest.raises(IsADirectoryError):
        convert.from_torch(tmp_path)
