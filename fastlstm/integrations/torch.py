"""`nn.LSTM` of PyTorch on fastlstm's kernels."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastlstm._core import lstm, pool
from fastlstm._extras import require
from fastlstm.integrations.plans import Plans

torch = require("torch", "torch")
rnn = require("torch.nn.utils.rnn", "torch")

__all__ = ["LSTM"]

_OWN = (torch.Tensor, torch.nn.Parameter)  # of other classes anything may be done to operations

Tensor = Any
States = tuple[Tensor, Tensor]
Weights = list[list[Tensor]]  # of each layer and direction, as `torch.nn.LSTM` lists them
Plain = Callable[..., tuple[Tensor, Tensor, Tensor]]


# PyTorch's OpenMP threads go on looking for work after each of its operations, for milliseconds.
# Passes run on those: threads of our own would have to share the CPUs with them. A child that is
# forked in the midst of a pass, as a signal's handler can, waits for those of its parent for ever.
with contextlib.suppress(AttributeError, OSError):  # where PyTorch was built with other threads
    pool.use_openmp(ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")))


def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compiler.disable`, without the second of imports that it needs before a program does.

    Between two graphs PyTorch would compile our functions one by one.
    """
    disabled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        nonlocal disabled
        if disabled is None and "torch._dynamo" in sys.modules:
            disabled = torch.compiler.disable(function)
        return (disabled or function)(*arguments)

    return run


class LSTM(torch.nn.LSTM):  # type: ignore[name-defined]
    """A drop-in `torch.nn.LSTM` for CPUs: arguments, `state_dict`, autograd, packed sequences.

    Inputs, outputs and states share their memory with PyTorch's tensors. Weights are packed again
    when their values have changed. What fastlstm does not have (projections, other devices, other
    types than float32 and float64, tensors without values as tracing and exporting use them,
    `torch.func`, forward-mode gradients) runs as `torch.nn.LSTM`. Gradients of gradients, and
    gradients in batches, are those of the same steps in PyTorch's operations.

    ``torch.compile`` leaves the layer out of its graphs, as it does `torch.nn.LSTM`, unless
    ``torch._dynamo.config.allow_rnn`` is set; ``torch.fx.symbolic_trace`` records one call of it;
    ``torch.jit.script`` puts a `torch.nn.LSTM` with the same parameters in its place, in the model
    that it is given too.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, \
device, dtype
        As for `torch.nn.LSTM`. With ``batch_first=True`` nothing has to be transposed.

    Examples
    --------
    >>> y, (h, c) = LSTM(3, 4, batch_first=True)(torch.ones(2, 5, 3))
    >>> tuple(y.shape), tuple(h.shape)
    ((2, 5, 4), (1, 2, 4))
    """

    def forward(self, input: Any, hx: States | None = None) -> tuple[Any, States]:
        """The outputs and the last states (h, c), as `torch.nn.LSTM` returns them."""
        if isinstance(input, torch.fx.Proxy):
            return self._record(input, hx)
        if torch.compiler.is_compiling():  # or exporting: what is traced here must have one
            found: tuple[Any, States] = torch.nn.LSTM.forward(self, input, hx)
            return found
        return self._forward(input, hx)

    @_uncompiled
    def _forward(self, input: Any, hx: States | None) -> tuple[Any, States]:
        # Once: a parametrization computes them.
        weights = [[getattr(self, name) for name in names] for names in self._all_weights]
        if self._is_ours(input, hx, weights):
            return self._compute(input, hx, weights)
        found: tuple[Any, States] = torch.nn.LSTM.forward(self, input, hx)
        return found

    def _is_ours(self, input: Any, hx: States | None, weights: Weights) -> bool:
        """Whether all is plain and fits; `torch.nn.LSTM` has the errors for what does not."""
        is_packed = isinstance(input, rnn.PackedSequence)
        data = input.data if is_packed else input
        tensors = [data, *(hx or ()), *itertools.chain.from_iterable(weights)]
        return (
            self.proj_size == 0
            and _computes_at_once()
            and _are_plain(tensors)
            and data.dtype in (torch.float32, torch.float64)
            and (is_packed or data.dim() in (2, 3))
            and data.shape[-1] == self.input_size
            and data.numel() > 0
            and (hx is None or [state.shape for state in hx] == [self._states_shape(input)] * 2)
        )

    def _states_shape(self, input: Any) -> tuple[int, ...]:
        """Of h and c: (layers * directions, B, H), without B for unbatched inputs."""
        count = len(self._all_weights)
        if isinstance(input, rnn.PackedSequence):
            return count, int(input.batch_sizes[0]), self.hidden_size
        if input.dim() == 2:
            return count, self.hidden_size
        return count, input.shape[0 if self.batch_first else 1], self.hidden_size

    def _record(self, input: Any, hx: Any) -> Any:
        """One call in the graph of `torch.fx`, as for every module of PyTorch's own."""
        name = input.tracer.path_of_module(self)
        if not name:  # traced alone
            return torch.nn.LSTM.forward(self, input, hx)
        return input.tracer.create_proxy("call_module", name, (input, hx), {})

    def __prepare_scriptable__(self) -> Any:
        """What `torch.jit.script` compiles."""
        twin = torch.nn.LSTM.__new__(torch.nn.LSTM)
        twin.__dict__.update(self.__getstate__())
        twin._init_flat_weights()
        return twin

    def _compute(self, input: Any, hx: States | None, weights: Weights) -> tuple[Any, States]:
        if isinstance(input, rnn.PackedSequence):
            return self._run_packed(input, hx, weights)
        if input.dim() == 2:
            states = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
            y, (h, c) = self._run(input.unsqueeze(0), states, None, weights)
            return y.squeeze(0), (h.squeeze(1), c.squeeze(1))
        if self.batch_first:
            return self._run(input, hx, None, weights)
        y, states = self._run(input.transpose(0, 1), hx, None, weights)
        return y.transpose(0, 1).contiguous(), states

    def _run_packed(self, packed: Any, hx: States | None, weights: Weights) -> tuple[Any, States]:
        """Padded, with a mask, and packed again: a mask costs nothing."""
        if hx is not None:
            hx = self.permute_hidden(hx, packed.sorted_indices)
        data, states = self._run_in_order(packed.data, packed.batch_sizes, hx, weights)
        output = rnn.PackedSequence(
            data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        return output, self.permute_hidden(states, packed.unsorted_indices)

    def _run_in_order(
        self, data: Tensor, batch_sizes: Tensor, hx: States | None, weights: Weights
    ) -> tuple[Tensor, States]:
        """Sequences in the order of their lengths, as the states of packed ones are."""
        if batch_sizes[0] == batch_sizes[-1]:
            steps = data.unflatten(0, (len(batch_sizes), -1))
            y, states = self._run(steps.transpose(0, 1), hx, None, weights)
            return y.transpose(0, 1).flatten(0, 1), states
        in_order = rnn.PackedSequence(data, batch_sizes)
        x, lengths = rnn.pad_packed_sequence(in_order, batch_first=True)
        mask = np.arange(x.shape[1]) < as_array(lengths)[:, None]
        y, states = self._run(x, hx, mask, weights)
        return rnn.pack_padded_sequence(y, lengths, batch_first=True).data, states

    def _run(
        self, x: Tensor, hx: States | None, mask: Any, weights: Weights
    ) -> tuple[Tensor, States]:
        """All layers and directions on x (B, T, F)."""
        last: list[States] = []
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                number = len(last)
                start = None if hx is None else (hx[0][number], hx[1][number])
                y, h, c = self._direction(x, start, mask, weights[number], number, bool(direction))
                outputs.append(y)
                last.append((h, c))
            x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
            if self.dropout and self.training and layer + 1 < self.num_layers:
                # Drawn in PyTorch's order of axes: the same seed drops the same.
                kept = x.new_ones(x.shape[1], x.shape[0], x.shape[2])
                x = x * torch.nn.functional.dropout(kept, self.dropout).transpose(0, 1)
        h, c = (torch.stack(states) for states in zip(*last, strict=True))
        return x, (h, c)

    def _direction(
        self,
        x: Tensor,
        start: States | None,
        mask: Any,
        given: list[Tensor],
        number: int,
        is_reverse: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel, recurrent_kernel, *biases = given
        weights = [kernel.t(), recurrent_kernel.t()]
        if biases:
            weights.append(biases[0] + biases[1])
        plan = self._plans.plan(number, list(map(as_array, weights)), "tanh", "sigmoid", is_reverse)
        y, h, c = run_lstm(plan, mask, x, *(start or (None, None)), *weights, plain=step_by_step)
        # Outputs of the reverse direction come in the order in which it read.
        return (y.flip(1) if is_reverse else y), h, c

    @property
    def _plans(self) -> Plans:
        plans: Plans = self.__dict__.setdefault("_kept_plans", Plans())
        return plans

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_kept_plans", None)
        return state


def as_array(tensor: Tensor) -> np.ndarray:
    """The values of a tensor on the CPU, where possible without a copy."""
    array: np.ndarray = tensor.detach().resolve_neg().numpy()
    return array


def run_lstm(
    plan: lstm.LSTMPlan,
    mask: Any,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    *weights: Tensor,
    plain: Plain | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """A plan on tensors: y (B, T, H) in the order read, h and c (B, H), with their gradients.

    It starts at zero where `h0` and `c0` (B, H) are None.
    `weights`, the kernel (F, 4H), the recurrent kernel (H, 4H) and the bias (4H,) if there is one,
    receive the gradients; their values are those of the plan. `plain` computes the same in
    PyTorch's operations: without it there are no gradients of gradients, nor gradients in batches.
    """
    found: tuple[Tensor, Tensor, Tensor] = _Pass.apply(plan, mask, plain, x, h0, c0, *weights)
    return found


def step_by_step(
    plan: lstm.LSTMPlan,
    mask: Any,
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a plan with the usual activations computes, in PyTorch's operations."""
    z = x @ kernel if bias is None else x @ kernel + bias
    if h is None or c is None:
        h = c = x.new_zeros(x.shape[0], recurrent_kernel.shape[0])
    counts = None if mask is None else torch.from_numpy(mask)[:, :, None]
    outputs = []
    steps = range(x.shape[1])
    for t in reversed(steps) if plan.go_backwards else steps:
        i, f, g, o = (z[:, t] + h @ recurrent_kernel).chunk(4, dim=-1)
        new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        new_h = o.sigmoid() * new_c.tanh()
        if counts is None:
            h, c = new_h, new_c
            outputs.append(h)
        else:
            h, c = torch.where(counts[:, t], new_h, h), torch.where(counts[:, t], new_c, c)
            outputs.append(torch.where(counts[:, t], h, 0))
    return torch.stack(outputs, dim=1), h, c


def _are_plain(tensors: Sequence[Any]) -> bool:
    """Whether these are PyTorch's own tensors of one type on the CPU, which autograd may keep."""
    dtype = getattr(tensors[0], "dtype", None)
    for tensor in tensors:
        if not (
            type(tensor) in _OWN
            and tensor.dtype is dtype
            and tensor.is_cpu
            and tensor.layout is torch.strided
        ):
            return False
    return not (torch.is_grad_enabled() and any(tensor.is_inference() for tensor in tensors))


def _is_batched(gradient: Tensor | None) -> bool:
    """Whether this is several gradients, as ``is_grads_batched=True`` passes them."""
    functorch = torch._C._functorch
    return gradient is not None and (
        functorch.is_batchedtensor(gradient) or functorch.is_legacy_batchedtensor(gradient)
    )


def _computes_at_once() -> bool:
    """Whether an operation is computed when it is called: no one records or transforms it."""
    return not (
        torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch.autograd.forward_ad._current_level >= 0
    )


class _Pass(torch.autograd.Function):  # type: ignore[name-defined]
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        plan, mask, plain, x, h0, c0, *weights = arguments
        training = any(ctx.needs_input_grad)
        inputs, start_h, start_c = (
            None if each is None else as_array(each.contiguous()) for each in (x, h0, c0)
        )
        y, h, c, cache = lstm.forward(plan, inputs, start_h, start_c, mask, training)
        found = (torch.from_numpy(y), torch.from_numpy(h), torch.from_numpy(c))
        if training:
            ctx.cache, ctx.mask, ctx.plain = cache, mask, plain
            # The cache reads x and y again, `plain` the others: PyTorch finds out if one of them
            # is changed before.
            ctx.save_for_backward(found[0], x, h0, c0, *weights)
            ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @_uncompiled
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        is_once = not (torch.is_grad_enabled() or any(map(_is_batched, gradients)))
        found = (_from_cache if is_once or ctx.plain is None else _from_plain)(ctx, *gradients)
        return (None, None, None, *found)


@torch.autograd.function.once_differentiable
def _from_cache(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
    _ = ctx.saved_tensors  # raises if one of them has changed
    needed = ctx.needs_input_grad[3:]
    dy, dh, dc = (None if g is None else as_array(g.contiguous()) for g in gradients)
    dx, dkernel, drecurrent_kernel, dbias, dh0, dc0 = lstm.backward(
        ctx.cache, dy, dh, dc, needed[0]
    )
    found = (dx, dh0, dc0, dkernel, drecurrent_kernel, dbias)
    return tuple(
        torch.from_numpy(array) if needs else None
        for array, needs in zip(found, needed, strict=False)  # there may be no bias
    )


def _from_plain(ctx: Any, *gradients: Any) -> list[Any]:
    """Gradients that can be differentiated again, or of which there are several at once."""
    _, *given = ctx.saved_tensors
    with torch.enable_grad():
        outputs = ctx.plain(ctx.cache.plan, ctx.mask, *given)
    needed = ctx.needs_input_grad[3:]
    known = [k for k, gradient in enumerate(gradients) if gradient is not None]
    found = iter(
        torch.autograd.grad(
            [outputs[k] for k in known],
            list(itertools.compress(given, needed)),
            [gradients[k] for k in known],
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )
    )
    return [next(found) if needs else None for needs in needed]
