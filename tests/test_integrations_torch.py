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


def assert_close(found, want, dtype=torch.float64):
    for ours_found, theirs_found in zip(found, want, strict=True):
        torch.testing.assert_close(ours_found, theirs_found, **CLOSE[dtype])


def sequences(ours, batch=4, steps=5, dtype=torch.float64):
    """A random input, in the module's order of axes."""
    shape = (batch, steps) if ours.batch_first else (steps, batch)
    return torch.randn(*shape, 3, dtype=dtype)


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
    assert_close(found, want, dtype)


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


def test_dropout_between_layers_is_that_of_torch():
    for arguments in ({}, {"batch_first": True, "bidirectional": True}):
        ours, theirs = pair(num_layers=3, dropout=0.4, **arguments)
        x = torch.randn(5, 7, 3, dtype=torch.float64)
        outputs = []
        for module in (ours, theirs):
            torch.manual_seed(2)
            outputs.append(everything(module, x, None))
        assert_close(*outputs)
        assert (ours(x)[0] != ours(x)[0]).any()
        ours.eval()
        theirs.eval()
        assert_close(everything(ours, x, None), everything(theirs, x, None))


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


# ---- what the layer is used with -----------------------------------------------------------------

LAYOUTS = pytest.mark.parametrize(
    "arguments", [{}, {"batch_first": True, "num_layers": 2, "bidirectional": True}]
)

# PyTorch's own way of loading what it needs.
FORWARD_MODE = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")


@LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lengths", [None, [2, 5, 1, 4]])
def test_gradients_of_gradients(arguments, dtype, lengths):
    ours, theirs = pair(dtype, **arguments)
    x = sequences(ours, dtype=dtype)

    def penalised(module):
        inputs = x.clone().requires_grad_()
        data = inputs
        if lengths is not None:
            data = pack_padded_sequence(inputs, lengths, module.batch_first, enforce_sorted=False)
        y, (_, c) = module(data)
        y = y if lengths is None else pad_packed_sequence(y, module.batch_first)[0]
        loss = y.pow(2).sum() + c.pow(3).sum()
        first = torch.autograd.grad(loss, [inputs, *module.parameters()], create_graph=True)
        penalty = sum(gradient.pow(2).sum() for gradient in first)
        return [*first, *torch.autograd.grad(penalty, [inputs, *module.parameters()])]

    assert_close(penalised(ours), penalised(theirs), dtype)


def test_gradgradcheck():
    ours, _ = pair(bidirectional=True, batch_first=True)
    x = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: ours(x)[0], (x,))


@LAYOUTS
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gradients_in_batches(arguments):
    ours, theirs = pair(**arguments)
    x = sequences(ours)

    def several(module):
        inputs = x.clone().requires_grad_()
        y, _ = module(inputs)
        directions = torch.randn(3, *y.shape, dtype=y.dtype, generator=seeded(3))
        wanted = [inputs, *module.parameters()]
        return torch.autograd.grad(y, wanted, directions, is_grads_batched=True)

    assert_close(several(ours), several(theirs))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@LAYOUTS
@FORWARD_MODE
@pytest.mark.parametrize("transform", ["jacrev", "jacfwd", "hessian"])
def test_function_transforms_of_the_input(arguments, transform):
    ours, theirs = pair(**arguments)
    x = sequences(ours, 2, 3)
    of = getattr(torch.func, transform)
    found, want = (of(lambda x, module=m: module(x)[0].sin().sum())(x) for m in (ours, theirs))
    torch.testing.assert_close(found, want)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_function_transforms_of_the_weights():
    ours, theirs = pair(torch.float32, batch_first=True)
    x = sequences(ours, dtype=torch.float32)

    def of_each_sample(module):
        def loss(parameters, x):
            return torch.func.functional_call(module, parameters, (x[None],))[0].sum()

        gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))
        return gradients(dict(module.named_parameters()), x).values()

    assert_close(of_each_sample(ours), of_each_sample(theirs), torch.float32)


def test_functional_call_uses_the_weights_it_is_given(monkeypatch):
    ours, theirs = pair(num_layers=2)
    x = sequences(ours)
    other = {name: 2 * weight.detach() for name, weight in ours.named_parameters()}
    found, want = (torch.func.functional_call(m, other, (x,)) for m in (ours, theirs))
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(ours(x), theirs(x))
    assert (ours(x)[0] != found[0]).any()


@FORWARD_MODE
def test_forward_mode():
    ours, theirs = pair(batch_first=True)
    x, tangent = sequences(ours), sequences(ours)
    found = []
    for module in (ours, theirs):
        with torch.autograd.forward_ad.dual_level():
            y, _ = module(torch.autograd.forward_ad.make_dual(x, tangent))
            found.append(torch.autograd.forward_ad.unpack_dual(y).tangent)
    assert found[0].abs().max() > 0.01
    torch.testing.assert_close(*found)


def test_fake_and_meta_tensors():
    from torch._subclasses import FakeTensorMode

    ours, theirs = pair(bidirectional=True)
    for module in (ours, theirs):
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            y, (h, _) = module(mode.from_tensor(sequences(ours)))
        assert (y.shape, h.shape) == ((5, 4, 12), (2, 4, 6))
    meta = LSTM(3, 6, device="meta")
    assert meta(torch.empty(5, 4, 3, device="meta"))[0].shape == (5, 4, 6)
    meta.to_empty(device="cpu").load_state_dict(pair(torch.float32)[1].state_dict())
    x = sequences(meta, dtype=torch.float32)
    torch.testing.assert_close(meta(x), pair(torch.float32)[1](x))


def test_operations_are_counted_as_those_of_torch():
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for module in pair():
        with FlopCounterMode(display=False) as counter:
            module(torch.ones(5, 4, 3, dtype=torch.float64))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("what", ["input", "states", "weights"])
def test_tensors_made_in_inference_mode(monkeypatch, what):
    ours, theirs = pair(batch_first=True)
    x, states = sequences(ours), [torch.randn(1, 4, 6, dtype=torch.float64) for _ in "hc"]

    def run(module):
        given, start = x, states
        with torch.inference_mode():
            if what == "input":
                given = x.clone()
            elif what == "states":
                start = [state.clone() for state in states]
            else:
                module = copy.deepcopy(module)
        with torch.no_grad():
            without = module(given, tuple(start))[0]
        for weight in module.parameters():
            weight.requires_grad = what == "input"
        try:
            y = module(given, tuple(start))[0]
        except RuntimeError as error:
            return [without, str(error)[:40]]
        return [without, y]

    for found, want in zip(run(ours), run(theirs), strict=True):
        assert type(found) is type(want)
        if isinstance(found, str):
            assert found == want
        else:
            torch.testing.assert_close(found, want)
    with torch.inference_mode():
        calls = count(monkeypatch)
        ours(x.clone())
    assert calls  # where no gradients can be asked for, it is fast


class Net(torch.nn.Module):
    """A layer between others, as programs have it."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, torch.nn.Linear(6, 2, dtype=torch.float64)

    def forward(self, x):
        y, _ = self.layer(torch.sin(x))
        return self.head(y)


def nets(**arguments):
    ours, theirs = map(Net, pair(**arguments))
    ours.head = theirs.head
    return ours, theirs


@pytest.mark.filterwarnings("ignore")
def test_script():
    ours, theirs = nets(batch_first=True)
    x = sequences(ours.layer)
    scripted = torch.jit.script(ours)
    torch.testing.assert_close(scripted(x), theirs(x))
    buffer = io.BytesIO()
    torch.jit.save(scripted, buffer)
    buffer.seek(0)
    torch.testing.assert_close(torch.jit.load(buffer)(x), theirs(x))
    # The model that was given trains on, with the weights of the script.
    with torch.no_grad():
        ours.layer.weight_hh_l0.mul_(0.5)
    torch.testing.assert_close(ours(x), scripted(x))
    assert (ours(x) != theirs(x)).any()


def test_symbolic_trace(monkeypatch):
    ours, theirs = nets(batch_first=True)
    x = sequences(ours.layer)
    traced = torch.fx.symbolic_trace(ours)
    assert [node.op for node in traced.graph.nodes].count("call_module") == 2
    calls = count(monkeypatch)
    torch.testing.assert_close(traced(x), theirs(x))
    assert calls
    for alone in (ours.layer, theirs.layer):
        with pytest.raises(torch.fx.proxy.TraceError):
            torch.fx.symbolic_trace(alone)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("allowed", [False, True])
def test_compile(monkeypatch, allowed):
    dynamo = pytest.importorskip("torch._dynamo")
    dynamo.reset()
    ours, theirs = nets(batch_first=True)
    x = sequences(ours.layer)
    graphs = []

    def backend(module, _):
        graphs.append([str(node.target) for node in module.graph.nodes])
        return module

    calls = count(monkeypatch)
    with dynamo.config.patch(allow_rnn=allowed):
        found = gradients_of(torch.compile(ours, backend=backend, fullgraph=allowed), x)
    assert_close(found, gradients_of(theirs, x))
    # Ours where PyTorch leaves its own LSTM out of the graph, and nothing of ours in one.
    assert len(calls) == (0 if allowed else 1)
    assert len(graphs) == (1 if allowed else 0)


def gradients_of(net, x):
    return torch.autograd.grad(net(x).sin().sum(), list(net.parameters()))


def test_autocast_and_bfloat16_run_as_torch(monkeypatch):
    dtype = torch.bfloat16
    calls = count(monkeypatch)
    ours, theirs = pair(torch.float32, batch_first=True)
    x = sequences(ours, dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        found, want = ours(x)[0], theirs(x)[0]
    assert found.dtype == want.dtype
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(ours.to(dtype)(x.to(dtype)), theirs.to(dtype)(x.to(dtype)))
    assert not calls


@LAYOUTS
def test_inputs_and_states_however_they_lie_in_memory(arguments):
    ours, theirs = pair(**arguments)
    shape = (3, *sequences(ours).shape[:2])
    count_states = ours.num_layers * (1 + ours.bidirectional)
    x = torch.randn(*shape, dtype=torch.float64).permute(1, 2, 0)
    states = [torch.randn(6, 4, count_states, dtype=torch.float64).permute(2, 1, 0) for _ in "hc"]
    for given in (x, x[:1].expand(x.shape), x.flip(1)):
        assert_close(everything(ours, given, states), everything(theirs, given, states))
    negated = torch.view_as_complex(torch.randn(*x.shape, 2, dtype=torch.float64)).conj().imag
    torch.testing.assert_close(ours(negated, tuple(states)), theirs(negated, tuple(states)))


def test_outputs_lie_in_memory_as_those_of_torch():
    ours, theirs = pair(bidirectional=True)
    x = sequences(ours)
    for found, want in zip(ours(x)[1], theirs(x)[1], strict=True):
        assert found.stride() == want.stride()
    torch.testing.assert_close(ours(x)[0].view(-1, 12), theirs(x)[0].view(-1, 12))


@pytest.mark.parametrize("trains", ["weight_ih_l0", "weight_hh_l1", "bias_hh_l0", "nothing"])
def test_some_weights_train(trains):
    ours, theirs = pair(num_layers=2)
    x = sequences(ours)
    for module in (ours, theirs):
        for name, weight in module.named_parameters():
            weight.requires_grad = name == trains
        if trains == "nothing":
            assert not module(x)[0].requires_grad
        else:
            module(x)[0].pow(2).sum().backward()
            for name, weight in module.named_parameters():
                assert (weight.grad is None) == (name != trains)
    if trains != "nothing":
        torch.testing.assert_close(getattr(ours, trains).grad, getattr(theirs, trains).grad)


class Half(torch.nn.Module):
    def forward(self, weight):
        return weight / 2


def parametrized(module):
    torch.nn.utils.parametrize.register_parametrization(module, "weight_hh_l0", Half())


def weight_normed(module):
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")


def weight_normed_by_a_hook(module):
    torch.nn.utils.weight_norm(module, "weight_hh_l0")


def pruned(module):
    torch.manual_seed(4)
    from torch.nn.utils import prune

    prune.random_unstructured(module, "weight_hh_l0", 0.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("change", [parametrized, weight_normed, weight_normed_by_a_hook, pruned])
def test_computed_weights(monkeypatch, change):
    ours, theirs = pair(num_layers=2, batch_first=True)
    x = sequences(ours)
    plain = ours(x)[0]
    for module in (ours, theirs):
        change(module)
    calls = count(monkeypatch)
    for _ in range(2):
        assert_close(everything(ours, x, None), everything(theirs, x, None))
        with torch.no_grad():
            for module in (ours, theirs):
                for weight in module.parameters():
                    weight.mul_(0.7)
    assert len(calls) == 4
    assert (ours(x)[0] != plain).any()


def test_hooks():
    ours, theirs = pair(batch_first=True)
    x = sequences(ours)
    found = []
    for module in (ours, theirs):
        seen = []
        module.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
        module.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out[0]))
        module.register_full_backward_hook(
            lambda module, grad_in, grad_out, seen=seen: seen.extend([*grad_in, *grad_out])
        )
        module(x.clone().requires_grad_())[0].pow(2).sum().backward()
        found.append([each for each in seen if each is not None])
    assert len(found[0]) > 2
    torch.testing.assert_close(*found)


def test_checkpointing_and_saved_tensor_hooks():
    from torch.utils.checkpoint import checkpoint

    ours, theirs = pair(batch_first=True)
    x = sequences(ours)
    found = []
    for module in (ours, theirs):
        inputs = x.clone().requires_grad_()
        y, _ = checkpoint(module, inputs, use_reentrant=False)
        with torch.autograd.graph.save_on_cpu():
            z, _ = module(inputs)
        found.append(torch.autograd.grad((y * z).sum(), [inputs, *module.parameters()]))
    assert_close(*found)


def test_replicas():
    ours, theirs = pair(batch_first=True)
    x = sequences(ours)
    want = ours(x)
    replica = ours._replicate_for_data_parallel()
    for name, weight in ours.named_parameters():
        setattr(replica, name, weight.detach() * 2)
        getattr(theirs, name).data.mul_(2)
    torch.testing.assert_close(replica(x), theirs(x))
    torch.testing.assert_close(ours(x), want)


@pytest.mark.parametrize("assign", [False, True])
def test_weights_are_loaded(assign):
    ours, theirs = pair(batch_first=True)
    x = sequences(ours)
    ours(x)
    other = {name: 2 * weight for name, weight in ours.state_dict().items()}
    for module in (ours, theirs):
        module.load_state_dict(other, assign=assign)
        module.flatten_parameters()
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_default_device_is_for_new_tensors_alone():
    ours, theirs = pair(batch_first=True)
    x = sequences(ours)
    packed = pack_padded_sequence(x, [2, 5, 1, 4], True, enforce_sorted=False)
    want = theirs(packed)[0].data
    with torch.device("meta"):
        torch.testing.assert_close(ours(packed)[0].data, want)
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("shape", [(0, 5, 3), (4, 0, 3)])
def test_nothing_to_compute(shape):
    found = []
    for module in pair(batch_first=True):
        try:
            found.append(module(torch.zeros(shape, dtype=torch.float64))[0].shape)
        except RuntimeError as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("what", ["x", "h", "c", "weight_ih_l0", "weight_hh_l0"])
def test_a_change_of_what_the_gradients_need_is_found(what):
    for module in pair():
        x = sequences(module).requires_grad_() * 1
        h, c = (torch.randn(1, 4, 6, dtype=torch.float64) for _ in "hc")
        y, _ = module(x, (h, c))
        with torch.no_grad():
            {"x": x, "h": h, "c": c}.get(what, getattr(module, what, None)).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
