"""`nn.LSTM` of PyTorch on fastlstm's kernels."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from fastlstm._core import kernels, lstm
from fastlstm._extras import require
from fastlstm.integrations.plans import Plans

torch = require("torch", "torch")
rnn = require("torch.nn.utils.rnn", "torch")

__all__ = ["LSTM"]

Tensor = Any
States = tuple[Tensor, Tensor]


# PyTorch's OpenMP threads go on looking for work after each of its operations, for milliseconds.
# Passes run on those: threads of our own would have to share the CPUs with them.
with contextlib.suppress(AttributeError, OSError):  # where PyTorch was built with other threads
    kernels.use_openmp(ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")))


class LSTM(torch.nn.LSTM):  # type: ignore[name-defined]
    """A drop-in `torch.nn.LSTM` for CPUs: arguments, `state_dict`, autograd, packed sequences.

    Inputs, outputs and states share their memory with PyTorch's tensors. Weights are packed again
    when their values have changed. What fastlstm does not have (projections, other devices, other
    types than float32 and float64) runs as `torch.nn.LSTM`, and is exported as such, to ONNX too.
    Gradients of gradients are not available.

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
        if not self._is_ours(input):
            found: tuple[Any, States] = torch.nn.LSTM.forward(self, input, hx)
            return found
        if isinstance(input, rnn.PackedSequence):
            return self._run_packed(input, hx)
        if input.dim() == 2:
            return self._run_unbatched(input, hx)
        if hx is not None:
            self.check_forward_args(input, hx, None)
        x = input if self.batch_first else input.transpose(0, 1)
        y, states = self._run(x, hx, None)
        return (y if self.batch_first else y.transpose(0, 1)), states

    def _is_ours(self, input: Any) -> bool:
        data = input.data if isinstance(input, rnn.PackedSequence) else input
        weights = self._flat_weights
        return (
            self.proj_size == 0
            and isinstance(data, torch.Tensor)
            and data.device.type == "cpu"
            and data.dtype in (torch.float32, torch.float64)
            and (isinstance(input, rnn.PackedSequence) or data.dim() in (2, 3))
            and data.shape[-1] == self.input_size
            and all(w.dtype == data.dtype and w.device.type == "cpu" for w in weights)
            and not torch.is_autocast_enabled("cpu")
            and not torch.jit.is_tracing()
            and not torch.compiler.is_exporting()
        )

    def _run_unbatched(self, input: Tensor, hx: States | None) -> tuple[Tensor, States]:
        x = input.unsqueeze(0)
        if hx is not None:
            if hx[0].dim() != 2 or hx[1].dim() != 2:
                raise RuntimeError(
                    "For unbatched 2-D input, hx and cx should also be 2-D but got "
                    f"({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
                )
            hx = (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
            self.check_forward_args(x if self.batch_first else x.transpose(0, 1), hx, None)
        y, (h, c) = self._run(x, hx, None)
        return y.squeeze(0), (h.squeeze(1), c.squeeze(1))

    def _run_packed(self, packed: Any, hx: States | None) -> tuple[Any, States]:
        """Padded, with a mask, and packed again: a mask costs nothing."""
        if hx is not None:
            self.check_forward_args(packed.data, hx, packed.batch_sizes)
            hx = self.permute_hidden(hx, packed.sorted_indices)
        data, states = self._run_in_order(packed.data, packed.batch_sizes, hx)
        output = rnn.PackedSequence(
            data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        return output, self.permute_hidden(states, packed.unsorted_indices)

    def _run_in_order(
        self, data: Tensor, batch_sizes: Tensor, hx: States | None
    ) -> tuple[Tensor, States]:
        """Sequences in the order of their lengths, as the states of packed ones are."""
        if batch_sizes[0] == batch_sizes[-1]:
            steps = data.unflatten(0, (len(batch_sizes), -1))
            y, states = self._run(steps.transpose(0, 1), hx, None)
            return y.transpose(0, 1).flatten(0, 1), states
        in_order = rnn.PackedSequence(data, batch_sizes)
        x, lengths = rnn.pad_packed_sequence(in_order, batch_first=True)
        mask = torch.arange(x.shape[1])[None, :] < lengths[:, None]
        y, states = self._run(x, hx, mask.numpy())
        return rnn.pack_padded_sequence(y, lengths, batch_first=True).data, states

    def _run(self, x: Tensor, hx: States | None, mask: Any) -> tuple[Tensor, States]:
        """All layers and directions on x (B, T, F)."""
        last: list[States] = []
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                number = len(last)
                start = None if hx is None else (hx[0][number], hx[1][number])
                y, h, c = self._direction(x, start, mask, number, bool(direction))
                outputs.append(y)
                last.append((h, c))
            x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
            if self.dropout and layer + 1 < self.num_layers:
                x = torch.nn.functional.dropout(x, self.dropout, self.training)
        h, c = (torch.stack(states) for states in zip(*last, strict=True))
        return x, (h, c)

    def _direction(
        self, x: Tensor, start: States | None, mask: Any, number: int, is_reverse: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel, recurrent_kernel, *biases = [getattr(self, n) for n in self._all_weights[number]]
        weights = [kernel.t(), recurrent_kernel.t()]
        if biases:
            weights.append(biases[0] + biases[1])
        if start is None:
            zeros = x.new_zeros(x.shape[0], self.hidden_size)
            start = (zeros, zeros)
        plan = self._plans.plan(number, list(map(as_array, weights)), "tanh", "sigmoid", is_reverse)
        y, h, c = run_lstm(plan, mask, x, *start, *weights)
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
    array: np.ndarray = tensor.detach().numpy()
    return array


def run_lstm(
    plan: lstm.LSTMPlan, mask: Any, x: Tensor, h0: Tensor, c0: Tensor, *weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A plan on tensors: y (B, T, H) in the order read, h and c (B, H), with their gradients.

    `weights`, the kernel (F, 4H), the recurrent kernel (H, 4H) and the bias (4H,) if there is one,
    receive the gradients; their values are those of the plan.
    """
    found: tuple[Tensor, Tensor, Tensor] = _Pass.apply(plan, mask, x, h0, c0, *weights)
    return found


class _Pass(torch.autograd.Function):  # type: ignore[name-defined]
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        plan, mask, x, h0, c0, *weights = arguments
        training = any(ctx.needs_input_grad)
        start_h, start_c = as_array(h0.contiguous()), as_array(c0.contiguous())
        inputs = as_array(x.contiguous())
        y, h, c, cache = lstm.forward(plan, inputs, start_h, start_c, mask, training)
        found = (torch.from_numpy(y), torch.from_numpy(h), torch.from_numpy(c))
        if training:
            ctx.cache, ctx.has_bias = cache, len(weights) == 3
            # The cache reads these again: PyTorch finds out if they are changed before.
            ctx.save_for_backward(x, found[0])
            ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        _ = ctx.saved_tensors
        dy, dh, dc = (None if g is None else as_array(g.contiguous()) for g in gradients)
        dx, dkernel, drecurrent_kernel, dbias, dh0, dc0 = lstm.backward(
            ctx.cache, dy, dh, dc, ctx.needs_input_grad[2]
        )
        found = [dx, dh0, dc0, dkernel, drecurrent_kernel, *([dbias] if ctx.has_bias else [])]
        tensors = (None if array is None else torch.from_numpy(array) for array in found)
        return (None, None, *tensors)
