"""The drop-in nn.LSTM: PyTorch's own is what it must equal."""

import copy
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402

from fastlstm._core import lstm  # noqa: E402
from fastlstm.integrations.torch import LSTM  # noqa: E402

CLOSE = {torch.float32: {"rtol": 2e-4, "atol": 2e-5}, torch.float64: {"rtol": 1e-9, "atol": 1e-10}}
# (arguments, B, T)
CASES = [
    ({"batch_first": True}, 3, 5),
    ({}, 2, 7),
    ({"num_layers": 3, "batch_first": True}, 4, 6),
    ({"bidirectional": True, "batch_first": True}, 3, 5),
    ({"num_layers": 2, "bidirectional": True, "bias": False}, 5, 4),
]


def pair(dtype=torch.float64, **arguments):
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(3, 6, dtype=dtype, **arguments)
    ours = LSTM(3, 6, dtype=dtype, **arguments)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def count(monkeypatch):
    """How often the core runs."""
    calls = []
    real = lstm.forward
    monkeypatch.setattr(lstm, "forward", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


def everything(module, x, states, lengths=None):
    """Outputs, states and all gradients of a sum with random factors."""
    x = x.clone().requires_grad_()
    states = None if states is None else [s.clone().requires_grad_() for s in states]
    data = x
    if lengths is not None:
        data = pack_padded_sequence(x, lengths, module.batch_first, enforce_sorted=False)
    y, (h, c) = module(data, None if states is None else tuple(states))
    if lengths is not None:
        y, _ = pad_packed_sequence(y, module.batch_first, total_length=x.shape[module.batch_first])
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (t * torch.rand(t.shape, generator=generator, dtype=t.dtype)).sum() for t in (y, h, c)
    )
    wanted = [x, *(states or []), *module.parameters()]
    return [y, h, c, *torch.autograd.grad(loss, wanted)]


@pytest.mark.parametrize(("arguments", "batch", "steps"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("packed", ["no", "by length", "of one length"])
def test_equals_torch(monkeypatch, arguments, batch, steps, dtype, given, packed):
    ours, theirs = pair(dtype, **arguments)
    x = torch.randn(batch, steps, 3, dtype=dtype)
    x = x if ours.batch_first else x.transpose(0, 1).contiguous()
    count_states = ours.num_layers * (1 + ours.bidirectional)
    states = [torch.randn(count_states, batch, 6, dtype=dtype) for _ in "hc"] if given else None
    lengths = {
        "no": None,
        "by length": torch.randint(1, steps + 1, (batch,)),
        "of one length": torch.full((batch,), steps - 1),
    }[packed]
    want = everything(theirs, x, states, lengths)
    calls = count(monkeypatch)
    found = everything(ours, x, states, lengths)
    assert len(calls) == count_states
    for ours_found, theirs_found in zip(found, want, strict=True):
        torch.testing.assert_close(ours_found, theirs_found, **CLOSE[dtype])


def test_gradcheck():
    ours, _ = pair(bidirectional=True, batch_first=True)
    x = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ours(x)[0], (x,))


def test_unbatched_and_empty():
    for arguments in ({}, {"batch_first": True}):
        ours, theirs = pair(**arguments)
        x = torch.randn(5, 3, dtype=torch.float64)
        states = tuple(torch.randn(1, 6, dtype=torch.float64) for _ in "hc")
        for given in (None, states):
            for found, want in zip(ours(x, given)[1], theirs(x, given)[1], strict=True):
                torch.testing.assert_close(found, want)
        with pytest.raises(RuntimeError):
            ours(x, tuple(s[None] for s in states))


def test_errors_are_those_of_torch():
    ours, theirs = pair(batch_first=True)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    bad = [
        (torch.randn(2, 5, 4, dtype=torch.float64), None),
        (x.float(), None),
        (x, tuple(torch.zeros(1, 3, 6, dtype=torch.float64) for _ in "hc")),
        (torch.randn(2, dtype=torch.float64), None),
    ]
    for arguments in bad:
        for module in (theirs, ours):
            with pytest.raises((RuntimeError, ValueError)):
                module(*arguments)


def test_training_equals_torch():
    ours, theirs = pair(num_layers=2, batch_first=True)
    x, target = (torch.randn(4, 5, n, dtype=torch.float64) for n in (3, 6))
    for module in (ours, theirs):
        optimizer = torch.optim.Adam(module.parameters(), 0.05)
        for _ in range(5):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(module(x)[0], target).backward()
            optimizer.step()
    for found, want in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, want, rtol=1e-8, atol=1e-9)


def test_every_change_of_a_weight_is_seen():
    ours, theirs = pair(batch_first=True)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        for module in (ours, theirs):
            module(x)
            module.weight_hh_l0.data.mul_(0.5)  # leaves no trace in the tensor's version
        torch.testing.assert_close(ours(x)[0], theirs(x)[0])
        for module in (ours, theirs):
            module.bias_ih_l0 = torch.nn.Parameter(torch.ones_like(module.bias_ih_l0))
        torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    with torch.inference_mode():
        torch.testing.assert_close(ours(x)[0], theirs(x)[0])


def test_a_change_before_the_gradients_is_found():
    ours, _ = pair(batch_first=True)
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    y = ours(x)[0]
    loss = y.sum()
    with torch.no_grad():
        y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_dropout_between_layers():
    module = LSTM(3, 6, num_layers=2, dropout=0.5, batch_first=True)
    x = torch.randn(2, 4, 3)
    module.eval()
    torch.testing.assert_close(module(x)[0], module(x)[0])
    module.train()
    assert not torch.equal(module(x)[0], module(x)[0])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_what_is_not_ours_runs_as_torch(monkeypatch):
    calls = count(monkeypatch)
    module = LSTM(3, 6, proj_size=2, batch_first=True)
    assert module(torch.randn(2, 4, 3))[0].shape == (2, 4, 2)
    half = LSTM(3, 6, batch_first=True, dtype=torch.bfloat16)
    assert half(torch.randn(2, 4, 3, dtype=torch.bfloat16))[0].dtype == torch.bfloat16
    assert not calls


def test_memory_is_shared():
    module = LSTM(3, 6, batch_first=True)
    x = torch.randn(2, 4, 3, requires_grad=True)
    y = module(x)[0]
    assert y.grad_fn.cache.x.ctypes.data == x.data_ptr()
    assert y.grad_fn.cache.y.ctypes.data == y.data_ptr()


def test_copies_and_files():
    module, _ = pair(batch_first=True)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    want = module(x)[0]
    torch.testing.assert_close(copy.deepcopy(module)(x)[0], want)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    torch.testing.assert_close(torch.load(buffer, weights_only=False)(x)[0], want)
    assert list(module.state_dict()) == list(torch.nn.LSTM(3, 6).state_dict())


def test_both_directions_without_gradients():
    ours, theirs = pair(bidirectional=True)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        np.testing.assert_allclose(ours(x)[0].numpy(), theirs(x)[0].numpy(), rtol=1e-10)


@pytest.mark.filterwarnings("ignore")
def test_exports_are_those_of_torch():
    ours, _ = pair(batch_first=True, num_layers=2)
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    want = ours(x)[0]
    exported = torch.export.export(ours, (x,)).module()
    traced = torch.jit.trace(ours, (x,))
    for each in (exported, traced):
        torch.testing.assert_close(each(x)[0], want)
        assert "_Pass" not in str(each.graph)
