"""Tests of the tests: faults, planted in a copy one at a time, must each make the suite fail.

A fault is an exact text of one file and what stands there instead. It is an error if the text is
missing or comes more than once: then the code has changed, and the fault is to be planted anew. The
chosen tests must pass without any fault. Files that faults are compiled into are rebuilt, others
kept. `tests/test_planted_faults.py` does the same for the reference, in the suite itself.

usage: python tools/plant_faults.py [--only TEXT] [--sample N --seed TEXT] [--list]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# Seconds. Where a fault can make threads wait for ever, a test that takes so long has noticed it;
# elsewhere it would prove nothing but that the machine is slow.
HANG_LIMIT, PROCESS_LIMIT = 60, 900

CORE, GATES, PRODUCTS, PACKING = (
    "csrc/kernels/kernels_template.h",
    "csrc/kernels/gates_template.h",
    "csrc/kernels/gemm_template.h",
    "csrc/layers/pack.c",
)
SOFTMAX = "csrc/kernels/softmax_template.h"
DENSE = "csrc/layers/dense_pack.c"
DENSE_FORWARD, DENSE_BACKWARD = "csrc/layers/dense_forward.c", "csrc/layers/dense_backward.c"
POOL, WAVEFRONT = "csrc/base/pool.c", "csrc/base/wavefront.c"
FORWARD, BACKWARD = "csrc/layers/lstm_forward.c", "csrc/layers/lstm_backward.c"
STEPS = "csrc/model/steps.c"
LSTM_TESTS = "lstm_golden lstm_core"


class Fault(NamedTuple):
    """`old` in the file `path` becomes `new`; one of `tests`, without their "test_", notices."""

    name: str
    path: str
    old: str
    new: str
    tests: str
    can_hang: bool = False

    def planted(self, root: Path) -> str:
        """The text of the file with the fault."""
        text = (root / self.path).read_text()
        found = text.count(self.old)
        if found != 1:
            raise LookupError(f"{self.name}: {self.path} has the text {found} times: {self.old!r}")
        return text.replace(self.old, self.new)

    @property
    def is_compiled(self) -> bool:
        return Path(self.path).suffix in {".c", ".h", ".pyx", ".pxd"}


FAULTS = [
    # ---- gates -------------------------------------------------------------------------------
    Fault(
        "gradients of the input and the forget gate swapped",
        GATES,
        "store(dz, n, vec_mul(vec_mul(dc_step, g), sigmoid_slope(i)));\n    store(dz + units, n,",
        "store(dz + units, n, vec_mul(vec_mul(dc_step, g), sigmoid_slope(i)));\n    store(dz, n,",
        LSTM_TESTS,
    ),
    Fault(
        "output gate without its slope",
        GATES,
        "vec_mul(vec_mul(dh_step, act_c), sigmoid_slope(o))",
        "vec_mul(dh_step, act_c)",
        LSTM_TESTS,
    ),
    Fault(
        "general gates: candidate without its slope",
        GATES,
        "self->activation.backward(n, z + 2 * stride, dzg, dzg);",
        "",
        LSTM_TESTS,
    ),
    Fault(
        "general gates: gradient of c not carried through the forget gate",
        GATES,
        "dc[r][p] = dc_step * y.f[p];",
        "dc[r][p] = dc_step;",
        LSTM_TESTS,
    ),
    Fault(
        "last units of a row left out of the gates",
        GATES,
        "r < r0 + strips && first < shape.count; r++",
        "r < r0 + strips && first + 1 < shape.count; r++",
        LSTM_TESTS,
    ),
    Fault(
        "kept input gate without the division for the product",
        GATES,
        ".gate = vec_mul(size.below, both)",
        ".gate = both",
        LSTM_TESTS,
    ),
    Fault(
        "last element of an array not activated",
        "csrc/kernels/activations_template.h",
        "vec_store_tail(y + p, n - p, f(",
        "vec_store_tail(y + p, n - p - 1, f(",
        "vec_math dense_core",
    ),
    # ---- products ----------------------------------------------------------------------------
    Fault(
        "last tile of rows dropped",
        FORWARD,
        "for (int tile = 0; tile < tiles; tile++) {",
        "for (int tile = 0; tile < tiles - (tiles > 1); tile++) {",
        LSTM_TESTS,
    ),
    Fault(
        "last tile of the rows of a gradient dropped",
        "csrc/layers/tiles.h",
        "for (int tile = 0; tile < tiles; tile++) {\n                const range r",
        "for (int tile = 0; tile < tiles - (tiles > 1); tile++) {\n                const range r",
        "lstm_core dense_core",
    ),
    Fault(
        "wide tile reads its first micro-panel twice",
        PRODUCTS,
        "panel_row b = {panels, panels + depth * NR};",
        "panel_row b = {panels, panels};",
        LSTM_TESTS,
    ),
    Fault(
        "second micro-panel of a wide tile as wide as the first",
        PRODUCTS,
        "b.second += (vectors - of_first) * VEC_WIDTH;",
        "b.second += of_first * VEC_WIDTH;",
        LSTM_TESTS,
    ),
    Fault(
        "last micro-panel without its last vector",
        PRODUCTS,
        "const ptrdiff_t vectors = (wide + VEC_WIDTH - 1) / VEC_WIDTH;",
        "const ptrdiff_t vectors = wide < widest && wide > VEC_WIDTH ? wide / VEC_WIDTH"
        " : (wide + VEC_WIDTH - 1) / VEC_WIDTH;",
        "dense_core lstm_core",
    ),
    Fault(
        "product along the depth without its tail",
        PRODUCTS,
        "if (k < depth)\n        gemm_bt_step(",
        "if (0)\n        gemm_bt_step(",
        "dense_core",
    ),
    Fault(
        "weight gradients without the last element of a row",
        PRODUCTS,
        "const ptrdiff_t last = columns - (vectors - 1) * VEC_WIDTH;",
        "const ptrdiff_t last = columns - (vectors - 1) * VEC_WIDTH - (columns > 1);",
        "dense_core lstm_core",
    ),
    Fault(
        "second part of a long depth begins at zero",
        "csrc/layers/tiles.h",
        "k ? (const const_row *)out : start;",
        "start;",
        "dense_core lstm_core",
    ),
    Fault(
        "last row of plain weights dropped",
        PRODUCTS,
        "for (; k < depth; k++)\n        gemv_rows(1,",
        "for (; k + 1 < depth; k++)\n        gemv_rows(1,",
        LSTM_TESTS,
    ),
    Fault(
        "gates packed without their last row",
        PACKING,
        "k < at_most(all->depth, first + ROWS_AT_ONCE)",
        "k < at_most(all->depth - 1, first + ROWS_AT_ONCE)",
        LSTM_TESTS,
    ),
    Fault(
        "what is left of the gates packed at the distance of whole ones",
        PACKING,
        "memcpy(row + group * left, from",
        "memcpy(row + group * at_most(left + 1, width), from",
        LSTM_TESTS,
    ),
    Fault(
        "columns packed with two lanes exchanged",
        PACKING,
        "store_lanes(to + panel_width, SHUFFLE(a, b, 1, 3));",
        "store_lanes(to + panel_width, SHUFFLE(a, b, 3, 1));",
        LSTM_TESTS,
    ),
    Fault(
        "transposed weights without the last column of a micro-panel",
        PACKING,
        "column < columns ? from[column * depth + k] : 0;",
        "column + 1 < columns ? from[column * depth + k] : 0;",
        "dense_core lstm_core",
    ),
    Fault(
        "column panels without the kernel used for dx",
        "fastlstm/_core/plan.pyx",
        " or with_kernel and not packed.has_kernel",
        "",
        LSTM_TESTS,
    ),
    # ---- passes ------------------------------------------------------------------------------
    Fault(
        "states not carried over masked steps",
        FORWARD,
        "memcpy(after + state, before + state, bytes);",
        "memset(after + state, 0, bytes);",
        LSTM_TESTS,
    ),
    Fault(
        "outputs of masked steps shown",
        "csrc/layers/lstm_common.h",
        "is_set(pass->shown, pass, b, step))\n        memcpy((real *)f->y + out, h",
        "1)\n        memcpy((real *)f->y + out, h",
        LSTM_TESTS,
    ),
    Fault(
        "h of the step before the last handed out",
        FORWARD,
        "copy_states(&my, my.buffers->states[steps % 2], 0);",
        "copy_states(&my, my.buffers->states[(steps + 1) % 2], 0);",
        LSTM_TESTS,
    ),
    Fault(
        "direction of reading ignored",
        "csrc/layers/lstm_common.h",
        "return pass->go_backwards ? ",
        "return 0 ? ",
        LSTM_TESTS,
    ),
    Fault(
        "mode for denormals not restored after a pass on plain weights",
        "csrc/layers/lstm_unpacked.c",
        "(real *)f->c + state);\n        }\n    restore_denormals(mode);",
        "(real *)f->c + state);\n        }\n    (void)mode;",
        LSTM_TESTS,
    ),
    Fault(
        "c after the step for c before it",
        BACKWARD,
        "state_row(pass, g->saved_c, g->c0, b, step - 1) + begin",
        "state_row(pass, g->saved_c, g->c0, b, step) + begin",
        LSTM_TESTS,
    ),
    Fault(
        "c0 for h0 in the recurrent gradient",
        BACKWARD,
        "state_row(pass, g->saved_h, g->h0, b, step - 1)",
        "state_row(pass, g->saved_h, g->c0, b, step - 1)",
        LSTM_TESTS,
    ),
    Fault(
        "gradients of outputs that were not shown counted",
        BACKWARD,
        "if (!is_set(pass->shown, pass, b, step))",
        "if (0)",
        LSTM_TESTS,
    ),
    Fault(
        "dbias without the first row of every stretch",
        BACKWARD,
        "add_panel_rows(my->kernels, rows, count, my->panel, fresh,",
        "add_panel_rows(my->kernels, rows - !fresh, count, my->panel, fresh,",
        LSTM_TESTS,
    ),
    Fault(
        "weight gradients of each block started anew",
        BACKWARD,
        "of_h, rows, h, count, my->panel, fresh,",
        "of_h, rows, h, count, my->panel, 1,",
        LSTM_TESTS,
    ),
    Fault(
        "over BLAS: rows that are skipped keep their gradient of z",
        "fastlstm/_core/lstm_blas.pyx",
        "memset(dz + row, 0, width * sizeof(real))",
        "pass",
        LSTM_TESTS,
    ),
    # ---- threads -----------------------------------------------------------------------------
    Fault(
        "nobody waits at a barrier",
        POOL,
        "const long long waited = wait_until(&at->epoch, 0, epoch);",
        "const long long waited = 0;",
        "determinism pool",
    ),
    Fault(
        "nobody waits for the parts of others",
        POOL,
        "    pool.lost += wait_until(&pool.done, 1, by_workers);\n    return 0;",
        "    return 0;",
        "pool_in_c",
    ),
    Fault(
        "child of a fork waits for the threads of its parent",
        POOL,
        "    if (my_task == TASK)\n        my_task = TASK_BEFORE_FORK;\n",
        "",
        "signals pool_in_c",
        can_hang=True,
    ),
    Fault(
        "nobody is woken",
        POOL,
        "pthread_cond_broadcast(&pool.wake);",
        "",
        "determinism pool",
        can_hang=True,
    ),
    # ---- softmax and dense layer -----------------------------------------------------------------
    Fault(
        "gradient of softmax without the sum",
        SOFTMAX,
        "vec_sub(load(dy + p, count), dot)",
        "load(dy + p, count)",
        "dense_core",
    ),
    Fault(
        "softmax whose largest element may not be among the last",
        SOFTMAX,
        "vec lanes = last_x, sums",
        "vec lanes = vec_load(x), sums",
        "dense_core",
    ),
    Fault(
        "softmax that counts its last vector twice",
        SOFTMAX,
        "vec_load(later_lanes + rest)",
        "vec_set1(1)",
        "dense_core",
    ),
    Fault(
        "narrow kernels packed as they are",
        DENSE,
        "((real *)packed)[u * features + f] =",
        "((real *)packed)[f * units + u] =",
        "dense_core",
    ),
    Fault(
        "swapped weight gradient not turned back",
        DENSE_BACKWARD,
        "((real *)my->g->dkernel)[f * units + u] = my->buffers->transposed[u * features + f];",
        "((real *)my->g->dkernel)[f * units + u] = my->buffers->transposed[f * units + u];",
        "dense_core",
    ),
    Fault(
        "dense weight gradients of each block started anew",
        DENSE_BACKWARD,
        "add_dense_weight_gradient(&my, rows, first == 0);",
        "add_dense_weight_gradient(&my, rows, 1);",
        "dense_core determinism",
    ),
    Fault(
        "dense bias gradient without the last row",
        DENSE_BACKWARD,
        "my->tiles.begin == 0)\n            add_panel_rows(my->kernels, rows,",
        "my->tiles.begin == 0)\n            add_panel_rows(my->kernels, rows - 1,",
        "dense_core",
    ),
    Fault(
        "dz packed before all of it is there",
        DENSE_BACKWARD,
        "if (!dense_goes_on_back(task, &my, block))\n            return;\n        pack_tiles(",
        "pack_tiles(",
        "determinism",
    ),
    Fault(
        "a layer of a stack does not wait for the one before",
        WAVEFRONT,
        "(row == 0 || READ(all->states[row - 1]) > *state + 1)",
        "(row == 0 || READ(all->states[row - 1]) > *state - 1)",
        "determinism pool_in_c",
    ),
    Fault(
        "two threads do one block of a stack",
        WAVEFRONT,
        "} else if (claim(&all->states[row], state)) {",
        "} else if (claim(&all->states[row], state) || state > 8) {",
        "determinism pool_in_c",
        can_hang=True,
    ),
    Fault(
        "the caller waits for a block that its parent's threads had",
        POOL,
        "return my_task != TASK_BEFORE_FORK;",
        "return 1;",
        "pool_in_c",
        can_hang=True,
    ),
    Fault(
        "later blocks of a layer begin with its first states",
        FORWARD,
        "    if (steps.begin == 0)\n        copy_states(",
        "    copy_states(",
        "determinism",
    ),
    Fault(
        "nobody goes on alone",
        POOL,
        "pool.parted = workers * pool.waited > (workers - 1) *",
        "pool.parted = 0 * (workers - 1) *",
        "pool_in_c",
    ),
    Fault(
        "a pass that was left alone counts as a good one",
        POOL,
        "if (!was_left && (pool.lost",
        "if ((pool.lost",
        "pool_in_c",
    ),
    Fault(
        "a caller that goes on alone leaves undone what was its workers'",
        FORWARD,
        "*my = share_of(task, 0, 1);",
        "my->workers_to_meet = 1;",
        "determinism",
    ),
    Fault(
        "workers that a pass has been taken from go on",
        "csrc/layers/tiles.h",
        "said == GO_ON_ALONE && worker > 0 ? LEAVE :",
        "said == GO_ON_ALONE && worker > 0 ? GO_ON :",
        "determinism",
        can_hang=True,
    ),
    Fault(
        "softmax of columns that others have yet to make",
        DENSE_FORWARD,
        "const next_step next = meet(pass->watch, &f->pass.barrier, worker, workers);",
        "const next_step next = GO_ON;",
        "determinism",
    ),
    Fault(
        "mode for denormals not restored after a dense backward pass",
        DENSE_BACKWARD,
        "run_dense_backward_share(argument, worker, workers);\n    restore_denormals(mode);",
        "run_dense_backward_share(argument, worker, workers);\n    (void)mode;",
        "lstm_core",
    ),
    Fault(
        "a dense layer runs on the weights that it had",
        "fastlstm/layers/dense.py",
        "if not own and known is not None and known[0] == made_of:",
        "if not own and known is not None:",
        "layers_others",
    ),
    Fault(
        "over BLAS: pieces by the number of threads",
        "fastlstm/_core/blas_pieces.pyx",
        "return _limited(max(halves, rows // ROWS_OF_A_PIECE), work)",
        "return _limited(min(<Py_ssize_t>the_pool().threads(), halves), work)",
        "determinism",
    ),
    Fault(
        "over BLAS: the initial states of the first rows for all",
        "fastlstm/_core/lstm_blas.pyx",
        "part.h0, part.c0 = moved(g.h0, states), moved(g.c0, states)",
        "part.h0, part.c0 = moved(g.h0, 0), moved(g.c0, 0)",
        "lstm_core",
    ),
    Fault(
        "in C: a step reads the states that it writes",
        STEPS,
        "const real *const before = my->h[my->turn];",
        "const real *const before = my->h[!my->turn];",
        "convert_c",
    ),
    Fault(
        "in C: a reset leaves the cell state",
        STEPS,
        "memset(my->c, 0, (size_t)my->units * sizeof(real));",
        "(void)my->c;",
        "convert_c",
    ),
    Fault(
        "in C: the bias of the first strip for all",
        STEPS,
        "const_row bias = my->bias ? my->bias + column : 0;",
        "const_row bias = my->bias;",
        "convert_c",
    ),
    Fault(
        "in C: a file that goes on behind its model",
        "csrc/model/flat.c",
        "found == layers && reader->position == size;",
        "found == layers;",
        "convert_c",
    ),
    Fault(
        "an engine that was asked for does not run",
        "fastlstm/_core/engine.pyx",
        "if asked != ENGINE_OF_CHOICE:",
        "if False:",
        "lstm_core config",
    ),
    Fault(
        "over BLAS: dense bias gradient without the last row",
        "fastlstm/_core/dense_blas.pyx",
        "bias_gradient_piece(piece, pieces, p.units, p.rows, dz,",
        "bias_gradient_piece(piece, pieces, p.units, p.rows - 1, dz,",
        "dense_core",
    ),
    # ---- checks, updates -------------------------------------------------------------------------
    Fault(
        "bias of any length accepted",
        "fastlstm/_core/plan.pyx",
        "    if found.shape[0] != width:",
        "    if False:",
        "functional_errors",
    ),
    Fault(
        "x with other features accepted",
        "fastlstm/_core/lstm.pyx",
        "if found.shape[2] != plan.features:",
        "if False:",
        "functional_errors",
    ),
    Fault(
        "amsgrad forgets the largest mean square",
        "csrc/kernels/updates_template.h",
        "largest[i] = largest[i] >= v[i] ? largest[i] : v[i];",
        "largest[i] = v[i];",
        "optimizers",
    ),
    # ---- layers ------------------------------------------------------------------------------
    Fault(
        "states of a stateful layer not copied",
        "fastlstm/layers/lstm.py",
        "self.states = [h.copy(), c.copy()]",
        "self.states = [h, c]",
        "layers_lstm",
    ),
    Fault(
        "gradient of inputs without the factors of dropout",
        "fastlstm/layers/lstm.py",
        "dx = dx * call.input_factors",
        "dx = dx + 0",
        "layers_lstm",
    ),
    Fault(
        "gradient of a last output that was not shown",
        "fastlstm/layers/lstm.py",
        "dlast = _zero_unless(call.last_shown, dy)",
        "dlast = dy",
        "layers_lstm",
    ),
    Fault(
        "one recurrent dropout for all gates",
        "fastlstm/layers/lstm.py",
        "self._draw((batch, dropped.GATES, self.units), self.recurrent_dropout),",
        "self._draw((batch, 1, self.units), self.recurrent_dropout).repeat(dropped.GATES, 1),",
        "layers_lstm",
    ),
    Fault(
        "recurrent dropout reads forwards only",
        "fastlstm/layers/recurrent_dropout.py",
        "range(length - 1, -1, -1) if go_backwards else range(length)",
        "range(length)",
        "layers_lstm",
    ),
    Fault(
        "backward outputs of Bidirectional not turned round",
        "fastlstm/layers/bidirectional.py",
        "return sequence[:, ::-1] if self.return_sequences and",
        "return sequence if self.return_sequences and",
        "layers_wrappers",
    ),
    Fault(
        "gradient of the backward half of Bidirectional not turned round",
        "fastlstm/layers/bidirectional.py",
        "[self._in_order(dback), *dstates[half:]]",
        "[dback, *dstates[half:]]",
        "layers_wrappers",
    ),
    Fault(
        "the mask of TimeDistributed not passed on",
        "fastlstm/layers/time_distributed.py",
        "mask=_fold(mask), training=training",
        "mask=None, training=training",
        "layers_wrappers",
    ),
    Fault(
        "small ops: negative indices of an embedding let in",
        "fastlstm/_core/sequence_ops.pyx",
        "if <size_t>indices[k] >= <size_t>limit:",
        "if indices[k] >= limit:",
        "small_ops",
    ),
    Fault(
        "small ops: an axis of a permutation not gone back over",
        "fastlstm/_core/sequence_ops.pyx",
        "x -= position[axis] * strides[axis]",
        "x -= 0",
        "small_ops",
    ),
    Fault(
        "small ops: a product begun with the last factor",
        "fastlstm/_core/merging.pyx",
        "y[i] = a[i] * b[i]\n        a = y",
        "y[i] = a[i] * b[i]\n        a = b",
        "small_ops",
    ),
    Fault(
        "small ops: dropout draws single precision",
        "fastlstm/_core/dropout.pyx",
        "choice[bits.next_double(bits.state) >= rate]",
        "choice[bits.next_uint32(bits.state) >= rate * 4294967296.0]",
        "small_ops",
    ),
    Fault(
        "small ops: the mean of a row as coarse as its rounding",
        "fastlstm/_core/normalization.pyx",
        "y[i] -= mean",
        "y[i] -= 0",
        "small_ops",
    ),
    # ---- training ----------------------------------------------------------------------------
    Fault(
        "weight decay by the first learning rate of a schedule",
        "fastlstm/optimizers/base.py",
        "1.0 - self.weight_decay * learning_rate)",
        "1.0 - self.weight_decay * float(getattr(self._learning_rate, '__call__',"
        " lambda _: learning_rate)(0)))",
        "optimizers",
    ),
    Fault(
        "sample weights ignored in training",
        "fastlstm/models/objective.py",
        "batch.y[k], outputs[k], batch.sample_weight[k], masks[k]",
        "batch.y[k], outputs[k], None, masks[k]",
        "models_training",
    ),
    Fault(
        "bias correction of Adam one update ahead",
        "fastlstm/optimizers/adam.py",
        "t = self.iterations + 1\n        step_size",
        "t = self.iterations + 2\n        step_size",
        "optimizers",
    ),
    Fault(
        "clipnorm twice as large",
        "fastlstm/optimizers/base.py",
        "buffer.bounds, self.clipnorm)",
        "buffer.bounds, 2 * self.clipnorm)",
        "optimizers",
    ),
    Fault(
        "gradient of regularizers missing",
        "fastlstm/models/objective.py",
        "gradients[weight] = own if known is None else known + own",
        "gradients[weight] = own if known is None else known",
        "models_training",
    ),
    Fault(
        "dz of targets taken to add up to 1",
        "csrc/kernels/losses_template.h",
        "(total * p[i] - (keep * t[i] + shift))",
        "(p[i] - (keep * t[i] + shift))",
        "losses",
    ),
    Fault(
        "dz for an output that another layer reads",
        "fastlstm/models/graph.py",
        "if uses[slot] == 1 else None",
        "if uses[slot] else None",
        "models_fused",
    ),
    Fault(
        "dz taken for the gradient of probabilities",
        "fastlstm/models/graph.py",
        "context.takes_dz = step.outputs in dz if isinstance(step.outputs, int) else False",
        "context.takes_dz = False",
        "properties",
    ),
    Fault(
        "dz taken for the gradient of probabilities by ops",
        "fastlstm/_core/program.pyx",
        "op.takes_dz = op.outputs[0] in dz",
        "op.takes_dz = False",
        "models_fused",
    ),
    Fault(
        "a program does not hear of changed weights",
        "fastlstm/_core/versions.pyx",
        "if version is None or version is not seen[k]:",
        "if version is None:",
        "program",
    ),
    Fault(
        "a program does not hear of changed settings",
        "fastlstm/_core/versions.pyx",
        "    changes += 1",
        "    changes += 0",
        "program",
    ),
    Fault(
        "gradients of one value from two ops: only the last counts",
        "fastlstm/_core/program.pyx",
        "add_to(self.total.kind, self.total.size, self.total.data, self.term.data)",
        "pass",
        "program_parts",
    ),
    Fault(
        "the gradient of a shared weight is that of one place",
        "fastlstm/_core/program.pyx",
        "            add_to(self.kind, self.size, self.sum, self.data)",
        "            pass",
        "program",
    ),
    Fault(
        "a stream forgets c",
        "fastlstm/_core/program_lstm.pyx",
        "memcpy(self.c.data, self.c0.data, size)",
        "memset(self.c.data, 0, size)",
        "stream",
    ),
    Fault(
        "a stream steps other rows",
        "fastlstm/_core/stream.pyx",
        "states + places[row] * size, size,",
        "states + row * size, size,",
        "stream",
    ),
    Fault(
        "outputs before the first step that counts are states",
        "fastlstm/_core/program_lstm.pyx",
        "shown[b * steps + s] = counts if shows_valid else seen",
        "shown[b * steps + s] = counts if shows_valid else 1",
        "program_parts",
    ),
    Fault(
        "layers side by side although one turns the steps around",
        "fastlstm/_core/program_lstm.pyx",
        "and not later.f.base.go_backwards and later.is_double == op.is_double",
        "and later.is_double == op.is_double",
        "determinism",
    ),
    Fault(
        "masked losses averaged over all steps",
        "fastlstm/_core/losses.pyx",
        "value = rows / valid if valid > 0 else 1",
        "value = 1",
        "losses",
    ),
    Fault(
        "masked losses of a class of the program averaged over all steps",
        "fastlstm/_reduction.py",
        "mask_weights *= valid.size / count",
        "mask_weights *= 1",
        "losses",
    ),
    Fault(
        "what a masked row holds reaches the loss",
        "csrc/kernels/losses_template.h",
        "if (weight != 0)",
        "if (1)",
        "losses_core",
    ),
    Fault(
        "loss of an epoch as the mean over batches of any size",
        "fastlstm/models/objective.py",
        "self.total.update_state(loss, sample_weight=batch.size)",
        "self.total.update_state(loss, sample_weight=1)",
        "models_training",
    ),
    Fault(
        "batches never shuffled",
        "fastlstm/models/data.py",
        "rows if order is None else order[rows]",
        "rows",
        "models_training",
    ),
    Fault(
        "metrics not reset between epochs",
        "fastlstm/models/objective.py",
        "                metric.reset_state()",
        "                pass",
        "models_training",
    ),
    Fault(
        "validation split taken from the first rows",
        "fastlstm/models/data.py",
        "return ArrayData(first, self._asked_size, self.steps), last",
        "return ArrayData(last, self._asked_size, self.steps), first",
        "models_training",
    ),
    # ---- saving ------------------------------------------------------------------------------
    Fault(
        "weights of the same shape swapped when loaded",
        "fastlstm/saving/model_file.py",
        "weight.restore(arrays[name])",
        "weight.restore(next(arrays[n] for n in reversed(own) if own[n].shape == weight.shape))",
        "saving",
    ),
    Fault(
        "slots of the optimizer not restored",
        "fastlstm/optimizers/base.py",
        "            slot[...] = array",
        "            pass",
        "saving",
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="faults with this text in their name or path")
    parser.add_argument("--sample", type=int, help="so many of them, chosen by --seed")
    parser.add_argument("--seed", default="")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true", help="name them, and plant none")
    options = parser.parse_args()
    check_that_all_can_be_planted()
    chosen = [fault for fault in FAULTS if options.only in f"{fault.path} {fault.name}"]
    if options.sample is not None:
        chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
    if options.list:
        print(*(f"{fault.path}: {fault.name}" for fault in chosen), sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound"
        copy_checkout(sound)
        build(sound)
        check_that_tests_pass(sound, sorted({t for fault in chosen for t in fault.tests.split()}))
        with ThreadPoolExecutor(options.jobs) as pool:
            missed = [name for name in pool.map(lambda f: missed_in(sound, f), chosen) if name]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} faults caught")
    return 1 if missed or not chosen else 0


def check_that_all_can_be_planted() -> None:
    problems = []
    for fault in FAULTS:
        try:
            fault.planted(ROOT)
        except (LookupError, OSError) as error:
            problems.append(str(error))
    if problems:
        sys.exit("\n".join(["These faults cannot be planted:", *problems]))


def copy_checkout(to: Path) -> None:
    """Without what was built, but for the generated C, which saves a build its longest part."""
    shutil.copytree(
        ROOT,
        to,
        ignore=shutil.ignore_patterns(
            ".git",
            "*.so",
            "__pycache__",
            ".*_cache",
            "temp.*",
            "lib.*",
            "bdist.*",
            "_openblas",
            "_c",
        ),
    )


def build(tree: Path) -> None:
    """Compile what is out of date; raises ``RuntimeError`` with the compiler's words."""
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the build failed:\n{done.stdout}{done.stderr}")


def run_tests(tree: Path, names: list[str], limit: int = 0) -> subprocess.CompletedProcess[str]:
    files = [f"tests/test_{name}.py" for name in names]
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={limit}"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=PROCESS_LIMIT,
    )


def check_that_tests_pass(tree: Path, names: list[str]) -> None:
    done = run_tests(tree, names)
    if done.returncode:
        sys.exit(f"Without any fault the tests fail:\n{done.stdout[-4000:]}{done.stderr}")


def missed_in(sound: Path, fault: Fault) -> str:
    """The fault's name if no test fails with it."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=sound.parent) as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(sound, tree, symlinks=True)
        (tree / fault.path).write_text(fault.planted(tree))
        if fault.is_compiled:
            build(tree)
        found = what_notices(tree, fault)
    seconds = time.perf_counter() - begin
    print(f"{'caught' if found else 'MISSED'} {seconds:3.0f} s  {fault.name}  {found}", flush=True)
    return "" if found else fault.name


def what_notices(tree: Path, fault: Fault) -> str:
    """The first test that fails, or how the tests ended; empty if all of them pass."""
    done = run_tests(tree, fault.tests.split(), HANG_LIMIT if fault.can_hang else 0)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode == 0:
        return ""
    if done.returncode == 1 and failed:
        return failed[0].split(" - ")[0]
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}"
    if fault.can_hang and "Timeout" in done.stdout + done.stderr:
        return "a test hangs"
    raise RuntimeError(f"{fault.name}: pytest could not run:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
