"""LSTM and Bidirectional as ops of a program."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastlstm._core.dropout cimport multiply_steps
from fastlstm._core.engine cimport backward_engine, forward_engine
from fastlstm._core.kernels cimport GATES, Engine, real, table_of, the_pool
from fastlstm._core.lstm_passes cimport (
    compute_backward, compute_forward, compute_pair, compute_stack, prepared, ready_backward,
    ready_forward, ready_pair, ready_stack, work_of,
)
from fastlstm._core.lstm_weights cimport LSTMWeights
from fastlstm._core.passes cimport lstm_backward, lstm_forward
from fastlstm._core.program cimport (
    DOUBLES, FLAGS, FLOATS, Gradient, Kind, Op, Value, add_to, bytes_of, give_memory, value_like,
    value_of, wanted_like,
)
from fastlstm._core.plan cimport forget_packed
from fastlstm._core.versions cimport are_as_seen, are_values_of, versions_of
from fastlstm._core.watch cimport pass_watch
from fastlstm._core.arrays cimport data_of
from fastlstm._core.arguments import resized


cdef Value own_value(Kind kind, Py_ssize_t first, Py_ssize_t second=-1, Py_ssize_t third=-1):
    """A value with memory of its own."""
    cdef Py_ssize_t shape[3]
    shape[0], shape[1], shape[2] = first, second, third
    cdef Value value = value_of(kind, 1 if second < 0 else 2 if third < 0 else 3, shape)
    give_memory(value)
    return value


cdef void steps_in_order(const unsigned char *mask, Py_ssize_t batch, Py_ssize_t steps,
                         bint go_backwards, bint shows_valid, unsigned char *valid,
                         unsigned char *shown, unsigned char *began) noexcept nogil:
    """Which steps count, in the order in which they are done; and which outputs are states: from
    the first step that counts on, or with `shows_valid` those of the steps that count.

    `began` (B) IN/OUT, or NULL: whether a step has counted already."""
    cdef Py_ssize_t b, s
    cdef unsigned char counts, seen
    for b in range(batch):
        seen = 0 if began == NULL else began[b]
        for s in range(steps):
            counts = mask[b * steps + (steps - 1 - s if go_backwards else s)]
            seen |= counts
            valid[b * steps + s] = counts
            shown[b * steps + s] = counts if shows_valid else seen
        if began != NULL:
            began[b] = seen


cdef void zero_hidden(const unsigned char *shown, Py_ssize_t batch, Py_ssize_t steps,
                      size_t row_bytes, char *rows) noexcept nogil:
    """Make zeros of the rows whose last output is no state."""
    cdef Py_ssize_t b
    for b in range(batch):
        if not shown[b * steps + steps - 1]:
            memset(rows + b * row_bytes, 0, row_bytes)


cdef void drop(Value x, Value factors, Value y) noexcept nogil:
    if x.kind == DOUBLES:
        multiply_steps(<const double *>x.data, <const double *>factors.data, x.shape[0],
                       x.shape[1], x.shape[2], <double *>y.data)
    else:
        multiply_steps(<const float *>x.data, <const float *>factors.data, x.shape[0],
                       x.shape[1], x.shape[2], <float *>y.data)


cdef class LSTMOp(Op):
    """An LSTM without states of its own; inputs x and, if given, h0 and c0.

    A stream gives it flags too, which rows have seen a step that counts, and finds them changed.

    Parameters
    ----------
    plan_for : function of `settings` that returns the `LSTMPlan` of the weights as they are now,
        and with True behind them one that nobody else has
    weights : (kernel, recurrent kernel, bias or None)
    settings : what a plan holds besides weights
    sequences, returns_state : bool
        Whether the output is h after every step; and whether h and c follow it.
    draw : function of (B, F) that returns factors of that shape for the inputs, or None
    """

    cdef object plan_for, settings, draw
    cdef list weights, used, seen
    cdef LSTMWeights plan
    cdef bint is_double, sequences, returns_state, keeps, has_own_plan
    cdef Engine engine
    cdef int threads
    cdef lstm_forward f
    cdef lstm_backward g
    cdef tuple kept, kept_backward
    cdef Value x, mask, h0, c0, y, h, c, output
    # Of masks and dropout; what the backward pass wants to see again.
    cdef Value valid, shown, began, factors, dropped, gates, saved_c, saved_h, first_h, first_c
    # Backward.
    cdef Value dy, dlast, dh_in, dc_in, dh, dc, dx
    cdef Gradient dkernel, drecurrent_kernel, dbias

    def __init__(self, plan_for, weights, settings, bint sequences, bint returns_state, draw):
        self.plan_for, self.settings, self.draw = plan_for, settings, draw
        self.weights = list(weights)
        self.used = [weight for weight in weights if weight is not None]
        self.sequences, self.returns_state = sequences, returns_state

    cdef int _refresh(self) except -1:
        """Take the weights as they are now."""
        # In this order: what changes in the meantime, or is interrupted, is seen next time.
        cdef list seen = versions_of(self.used)
        cdef LSTMWeights plan = self.plan
        # In training they change at every step, and the layer has no use for what was packed.
        if self.has_own_plan and plan is not None and are_values_of(
            self.weights, (plan.kernel, plan.recurrent_kernel, plan.bias)
        ):
            forget_packed(plan)
        else:
            plan = self.plan_for(self.settings, self.has_own_plan)
        if self.plan is not None and (
            plan.features != self.plan.features or plan.units != self.plan.units
            or plan.is_double != self.plan.is_double
        ):
            raise resized("lstm")
        self.plan, self.seen = plan, seen
        return 0

    cdef list bind(self, list inputs, bint training):
        self.keeps = self.has_own_plan = training
        self._refresh()
        cdef Value x = inputs[0]
        cdef Kind kind = DOUBLES if self.plan.is_double else FLOATS
        cdef Py_ssize_t batch, steps, units = self.plan.units
        if x.rank != 3 or x.kind != kind or x.shape[2] != self.plan.features:
            return None
        batch, steps = x.shape[0], x.shape[1]
        self.is_double, self.x, self.mask = self.plan.is_double, x, x.mask
        if len(inputs) > 1:
            self.h0, self.c0 = inputs[1], inputs[2]
            self.began = inputs[3] if len(inputs) > 3 else None
            for state in (self.h0, self.c0):
                if (state.rank, state.kind) != (2, kind) or state.shape[0] != batch or (
                    state.shape[1] != units
                ):
                    return None
        if self.mask is not None:
            if self.mask.rank != 2 or self.mask.shape[0] != batch or self.mask.shape[1] != steps:
                return None
            self.valid, self.shown = own_value(FLAGS, batch, steps), own_value(FLAGS, batch, steps)
        self.f.base = prepared(self.plan, batch, steps)
        self._plan_states(kind, batch, steps, units)
        if self.draw is not None:
            self.dropped = value_like(x)
            give_memory(self.dropped)
            self.factors = own_value(kind, batch, x.shape[2])
        return [self.output, self.h, self.c] if self.returns_state else [self.output]

    cdef int _plan_states(self, Kind kind, Py_ssize_t batch, Py_ssize_t steps,
                          Py_ssize_t units) except -1:
        """The values of outputs and states, and with `keeps` of what the backward pass reads."""
        cdef Py_ssize_t shape[3]
        shape[0], shape[1], shape[2] = batch, steps, units
        if self.sequences or self.keeps:
            self.y = value_of(kind, 3, shape)
        shape[1] = units
        self.h, self.c = value_of(kind, 2, shape), value_of(kind, 2, shape)
        if self.sequences:
            self.output = self.y
            self.output.mask = self.mask
        else:
            self.output = value_like(self.h) if self.returns_state else self.h
            if self.y is not None:
                give_memory(self.y)
        if not self.returns_state:
            give_memory(self.c)
            if self.sequences:
                give_memory(self.h)
        if self.keeps:
            self.gates = own_value(kind, batch, steps, GATES * units)
            self.saved_c = own_value(kind, batch, steps, units)
            if self.mask is not None:
                # The outputs are not the states.
                self.saved_h = own_value(kind, batch, steps, units)
            self.first_h = own_value(kind, batch, units)
            self.first_c = own_value(kind, batch, units)
        return 0

    cdef double work(self) noexcept:
        return work_of(&self.f.base)

    # ---- forward -----------------------------------------------------------------------------

    cdef int begin(self, pass_watch *watch) except -1:
        """All of `prepare` but the engine's part."""
        if not are_as_seen(self.used, self.seen):
            self._refresh()
        if self.draw is not None:
            drawn = self.draw((self.x.shape[0], self.x.shape[2]))
            memcpy(self.factors.data, data_of(drawn), bytes_of(self.factors))
        self.f.base.watch, self.f.base.kernels = watch, table_of(self.is_double)
        self.f.base.x = self.x.data if self.dropped is None else self.dropped.data
        self.f.h, self.f.c = self.h.data, self.c.data
        self.f.y = NULL if self.y is None else self.y.data
        if self.mask is not None:
            self.f.base.valid = <const unsigned char *>self.valid.data
            self.f.base.shown = <const unsigned char *>self.shown.data
        if self.keeps:
            self.f.gates, self.f.saved_c = self.gates.data, self.saved_c.data
            self.f.saved_h = NULL if self.saved_h is None else self.saved_h.data
        self.engine = forward_engine(
            self.plan, <double>self.f.base.batch * self.f.base.steps)
        return 0

    cdef int prepare(self, pass_watch *watch) except -1:
        cdef Engine engine = self.engine
        cdef const void *kernels = self.f.base.kernels
        cdef bint is_ready = self.kept is not None and are_as_seen(self.used, self.seen)
        self.begin(watch)
        # What is ready stays so until something is another.
        if not is_ready or self.engine != engine or self.threads != the_pool().threads() or (
            self.f.base.kernels != kernels
        ):
            self.threads = the_pool().threads()
            self.kept = None
            self.kept = ready_forward(self.engine, self.plan, &self.f)
        return 0

    cdef void enter(self) noexcept nogil:
        """What comes before the steps."""
        cdef size_t size = bytes_of(self.h)
        if self.h0 is not None:
            memcpy(self.h.data, self.h0.data, size)
            memcpy(self.c.data, self.c0.data, size)
        else:
            memset(self.h.data, 0, size)
            memset(self.c.data, 0, size)
        if self.keeps:
            memcpy(self.first_h.data, self.h.data, size)
            memcpy(self.first_c.data, self.c.data, size)
        if self.mask is not None:
            steps_in_order(
                <const unsigned char *>self.mask.data, self.f.base.batch, self.f.base.steps,
                self.f.base.go_backwards, self.plan.zero_output_for_mask,
                <unsigned char *>self.valid.data, <unsigned char *>self.shown.data,
                NULL if self.began is None else <unsigned char *>self.began.data)
        if self.dropped is not None:
            drop(self.x, self.factors, self.dropped)

    cdef void leave(self) noexcept nogil:
        """What comes after the steps."""
        cdef size_t size = bytes_of(self.h)
        if self.sequences:
            return
        if self.returns_state:
            memcpy(self.output.data, self.h.data, size)
        if self.mask is not None:
            zero_hidden(<const unsigned char *>self.shown.data, self.f.base.batch,
                        self.f.base.steps, size // self.f.base.batch, <char *>self.output.data)

    cdef void forward(self) noexcept nogil:
        self.enter()
        compute_forward(self.engine, &self.f, self.is_double)
        self.leave()

    cdef Op joined(self, Op later):
        return joined_lstms([self], later)

    cdef int rest(self) except -1:
        if self.has_own_plan:
            forget_packed(self.plan)
            self.kept = self.kept_backward = None
        return 0

    # ---- backward ----------------------------------------------------------------------------

    cdef list bind_backward(self, list arriving):
        cdef Kind kind = self.x.kind
        cdef Py_ssize_t features = self.plan.features, units = self.plan.units
        self.dy, self.dlast = (arriving[0], None) if self.sequences else (None, arriving[0])
        self.dh_in, self.dc_in = arriving[1:] if self.returns_state else (None, None)
        self.dh, self.dc = value_like(self.h), value_like(self.c)
        give_memory(self.dh)
        give_memory(self.dc)
        self.dx = wanted_like(self.x)
        self.dkernel = Gradient(self.weights[0], kind, features * GATES * units)
        self.drecurrent_kernel = Gradient(self.weights[1], kind, units * GATES * units)
        self.dbias = Gradient(self.weights[2], kind, GATES * units)
        return [self.dx] if self.h0 is None else [self.dx, self.dh, self.dc]

    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1:
        cdef Engine engine = backward_engine(self.engine)
        memset(&self.g, 0, sizeof(self.g))
        self.g.base = self.f.base
        self.g.base.watch = watch
        self.g.gates, self.g.saved_c = self.gates.data, self.saved_c.data
        self.g.saved_h = self.y.data if self.saved_h is None else self.saved_h.data
        self.g.h0, self.g.c0 = self.first_h.data, self.first_c.data
        self.g.dy = NULL if self.dy is None else self.dy.data
        self.g.dh, self.g.dc = self.dh.data, self.dc.data
        self.g.dx = NULL if self.dx is None else self.dx.data
        self.dkernel.prepare(gradients, targets)
        self.drecurrent_kernel.prepare(gradients, targets)
        self.dbias.prepare(gradients, targets)
        self.g.dkernel, self.g.drecurrent_kernel = self.dkernel.data, self.drecurrent_kernel.data
        self.g.dbias = self.dbias.data
        self.kept_backward = ready_backward(engine, self.plan, &self.g)
        return 0

    cdef void backward(self) noexcept nogil:
        cdef size_t size = bytes_of(self.dh)
        self._begin_gradients()
        if self.dc_in is None:
            memset(self.dc.data, 0, size)
        else:
            memcpy(self.dc.data, self.dc_in.data, size)
        if self.dx is not None and self.mask is not None:
            # Steps that do not count are passed over.
            memset(self.dx.data, 0, bytes_of(self.dx))
        compute_backward(backward_engine(self.engine), &self.g, self.is_double)
        if self.dx is not None and self.dropped is not None:
            drop(self.dx, self.factors, self.dx)
        self.dkernel.add()
        self.drecurrent_kernel.add()
        self.dbias.add()

    cdef void _begin_gradients(self) noexcept nogil:
        """The gradient of the last h: that of the state, and that of a last output."""
        cdef size_t size = bytes_of(self.dh)
        if self.dlast is None and self.dh_in is None:
            memset(self.dh.data, 0, size)
            return
        if self.dlast is None:
            memcpy(self.dh.data, self.dh_in.data, size)
            return
        memcpy(self.dh.data, self.dlast.data, size)
        if self.mask is not None:
            zero_hidden(<const unsigned char *>self.shown.data, self.f.base.batch,
                        self.f.base.steps, size // self.f.base.batch, <char *>self.dh.data)
        if self.dh_in is not None:
            add_to(self.dh.kind, self.dh.size, self.dh.data, self.dh_in.data)


# ---- one behind the other ------------------------------------------------------------------------

cdef bint reads_from(LSTMOp later, LSTMOp op):
    """Whether an LSTM can go on with what another one gives out while that is still at work."""
    return (
        op.sequences and later.x is op.y and later.h0 is None and later.draw is None
        and not later.f.base.go_backwards and later.is_double == op.is_double
    )


cdef Op joined_lstms(list members, Op later):
    """LSTMs with one more behind them, if it can be."""
    if type(later) is LSTMOp and reads_from(later, members[len(members) - 1]):
        return StackOp([*members, later])
    return None


cdef class StackOp(Op):
    """LSTMs each of which reads the outputs of the one before: side by side, some steps apart,
    where that is faster than one after the other. In the backward pass each is by itself."""

    cdef list members
    cdef int count
    cdef void **pointers
    cdef lstm_forward **passes
    cdef object kept

    def __cinit__(self, list members):
        cdef int k
        self.members, self.count = members, len(members)
        self.pointers = <void **>malloc(self.count * sizeof(void *))
        self.passes = <lstm_forward **>malloc(self.count * sizeof(void *))
        if self.pointers == NULL or self.passes == NULL:
            raise MemoryError("There is no memory for a program.")
        for k in range(self.count):
            self.pointers[k] = <void *>members[k]
            self.passes[k] = &(<LSTMOp>members[k]).f

    def __dealloc__(self):
        free(self.pointers)
        free(self.passes)

    cdef Op joined(self, Op later):
        return joined_lstms(self.members, later)

    cdef int rest(self) except -1:
        self.kept = None
        return 0

    cdef int prepare(self, pass_watch *watch) except -1:
        cdef LSTMOp op
        for op in self.members:
            op.begin(watch)
        self.kept = ready_stack([(<LSTMOp>op).plan for op in self.members], self.passes,
                                [(<LSTMOp>op).engine for op in self.members])
        if self.kept is None:
            for op in self.members:
                op.kept = None
                op.kept = ready_forward(op.engine, op.plan, &op.f)
        return 0

    cdef void forward(self) noexcept nogil:
        cdef int k
        if self.kept is None:
            for k in range(self.count):
                (<LSTMOp>self.pointers[k]).forward()
            return
        for k in range(self.count):
            (<LSTMOp>self.pointers[k]).enter()
        compute_stack(self.passes, self.count, (<LSTMOp>self.pointers[0]).is_double)
        for k in range(self.count):
            (<LSTMOp>self.pointers[k]).leave()


# ---- both directions -----------------------------------------------------------------------------

cdef enum Merging:
    CONCAT
    SUM
    MUL
    AVE
    APART

cdef dict MERGINGS = {"concat": CONCAT, "sum": SUM, "mul": MUL, "ave": AVE, None: APART}


cdef void merge_rows(int mode, Py_ssize_t n, const real *a, const real *b, real *y) noexcept nogil:
    cdef Py_ssize_t k
    if mode == CONCAT:
        memcpy(y, a, n * sizeof(real))
        memcpy(y + n, b, n * sizeof(real))
    elif mode == MUL:
        for k in range(n):
            y[k] = a[k] * b[k]
    elif mode == SUM:
        for k in range(n):
            y[k] = a[k] + b[k]
    else:
        for k in range(n):
            y[k] = (a[k] + b[k]) / 2


cdef void unmerge_rows(int mode, Py_ssize_t n, const real *dy, const real *a, const real *b,
                       real *da, real *db) noexcept nogil:
    cdef Py_ssize_t k
    if mode == CONCAT:
        memcpy(da, dy, n * sizeof(real))
        memcpy(db, dy + n, n * sizeof(real))
    elif mode == MUL:
        for k in range(n):
            da[k] = dy[k] * b[k]
            db[k] = dy[k] * a[k]
    elif mode == SUM:
        memcpy(da, dy, n * sizeof(real))
        memcpy(db, dy, n * sizeof(real))
    else:
        for k in range(n):
            da[k] = db[k] = dy[k] / 2


cdef inline Py_ssize_t mirrored(Py_ssize_t row, Py_ssize_t steps) noexcept nogil:
    """The place of a row of (B * T) rows with the steps the other way round."""
    return row + steps - 1 - 2 * (row % steps)


cdef class BidirectionalOp(Op):
    """Two LSTMs on one x, one of them backwards, and what becomes of their outputs.

    Parameters
    ----------
    first, second : arguments of `LSTMOp`
    merge_mode : "concat", "sum", "mul", "ave" or None
    """

    cdef LSTMOp first, second
    cdef int mode
    cdef bint is_pair
    cdef Py_ssize_t rows, width, steps
    cdef Value merged, apart, dmerged, dapart, dfirst, dsecond
    cdef tuple kept

    def __init__(self, first, second, merge_mode):
        self.first, self.second = LSTMOp(*first), LSTMOp(*second)
        self.mode = MERGINGS[merge_mode]

    cdef list bind(self, list inputs, bint training):
        cdef Py_ssize_t half = (len(inputs) - 1) // 2
        cdef Value y, y_back
        self.first.inputs = inputs[:1 + half]
        self.second.inputs = [inputs[0], *inputs[1 + half:]]
        outputs = self.first.bind(self.first.inputs, training)
        outputs_back = self.second.bind(self.second.inputs, training)
        if outputs is None or outputs_back is None:
            return None
        y, y_back = outputs[0], outputs_back[0]
        if y.kind != y_back.kind or (y.size != y_back.size):
            return None
        self.steps = y.shape[1] if self.first.sequences else 1
        self.width = y.shape[y.rank - 1]
        self.rows = y.size // self.width
        self.merged = value_like(y)
        self.merged.mask = y.mask
        merged = [self.merged]
        if self.mode == CONCAT:
            self.merged.shape[y.rank - 1] *= 2
            self.merged.size *= 2
        if self.mode == APART:
            self.apart = value_like(y_back)
            self.apart.mask = y_back.mask
            merged.append(self.apart)
        give_memory(y)
        give_memory(y_back)
        return [*merged, *outputs[1:], *outputs_back[1:]]

    cdef double work(self) noexcept:
        return self.first.work() + self.second.work()

    # ---- forward -----------------------------------------------------------------------------

    cdef int prepare(self, pass_watch *watch) except -1:
        self.first.begin(watch)
        self.second.begin(watch)
        self.kept = ready_pair(self.first.plan, &self.first.f, self.first.engine,
                               self.second.plan, &self.second.f, self.second.engine)
        self.is_pair = self.kept is not None
        if not self.is_pair:
            self.kept = (ready_forward(self.first.engine, self.first.plan, &self.first.f),
                         ready_forward(self.second.engine, self.second.plan, &self.second.f))
        return 0

    cdef void forward(self) noexcept nogil:
        self.first.enter()
        self.second.enter()
        if self.is_pair:
            compute_pair(&self.first.f, &self.second.f, self.first.is_double)
        else:
            compute_forward(self.first.engine, &self.first.f, self.first.is_double)
            compute_forward(self.second.engine, &self.second.f, self.second.is_double)
        self.first.leave()
        self.second.leave()
        if self.first.is_double:
            self._merge(<const double *>self.first.output.data)
        else:
            self._merge(<const float *>self.first.output.data)

    cdef void _merge(self, const real *y) noexcept nogil:
        cdef const real *y_back = <const real *>self.second.output.data
        cdef real *merged = <real *>self.merged.data
        cdef Py_ssize_t row, wide = 2 * self.width if self.mode == CONCAT else self.width
        cdef size_t size = self.width * sizeof(real)
        for row in range(self.rows):
            if self.mode == APART:
                memcpy(merged + row * wide, y + row * wide, size)
                memcpy(<real *>self.apart.data + row * wide,
                       y_back + mirrored(row, self.steps) * wide, size)
            else:
                merge_rows(self.mode, self.width, y + row * self.width,
                           y_back + mirrored(row, self.steps) * self.width, merged + row * wide)

    cdef int rest(self) except -1:
        self.kept = None
        self.first.rest()
        return self.second.rest()

    # ---- backward ----------------------------------------------------------------------------

    cdef list bind_backward(self, list arriving):
        cdef Py_ssize_t merged = 2 if self.mode == APART else 1
        cdef list states = arriving[merged:]
        cdef Py_ssize_t half = len(states) // 2
        self.dmerged, self.dapart = arriving[0], arriving[1] if self.mode == APART else None
        self.dfirst = self.dsecond = None
        if self.dmerged is not None:
            self.dfirst = value_like(self.first.output)
            give_memory(self.dfirst)
        if (self.dapart if self.mode == APART else self.dmerged) is not None:
            self.dsecond = value_like(self.second.output)
            give_memory(self.dsecond)
        leaving = self.first.bind_backward([self.dfirst, *states[:half]])
        leaving_back = self.second.bind_backward([self.dsecond, *states[half:]])
        # The first one's dx takes that of the second as well.
        return [*leaving, *leaving_back[1:]]

    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1:
        self.first.prepare_backward(gradients, targets, watch)
        self.second.prepare_backward(gradients, targets, watch)
        return 0

    cdef void backward(self) noexcept nogil:
        if self.first.is_double:
            self._unmerge(<const double *>self.first.output.data)
        else:
            self._unmerge(<const float *>self.first.output.data)
        self.first.backward()
        self.second.backward()
        if self.first.dx is not None:
            add_to(self.first.dx.kind, self.first.dx.size, self.first.dx.data, self.second.dx.data)

    cdef void _unmerge(self, const real *y) noexcept nogil:
        cdef const real *y_back = <const real *>self.second.output.data
        cdef const real *dy = NULL if self.dmerged is None else <const real *>self.dmerged.data
        cdef const real *dapart = NULL if self.dapart is None else <const real *>self.dapart.data
        cdef real *da = NULL if self.dfirst is None else <real *>self.dfirst.data
        cdef real *db = NULL if self.dsecond is None else <real *>self.dsecond.data
        cdef Py_ssize_t row, back, n = self.width
        for row in range(self.rows):
            back = mirrored(row, self.steps)
            if self.mode != APART:
                if dy != NULL:
                    unmerge_rows(self.mode, n, dy + row * (2 * n if self.mode == CONCAT else n),
                                 y + row * n, y_back + back * n, da + row * n, db + back * n)
                continue
            if dy != NULL:
                memcpy(da + row * n, dy + row * n, n * sizeof(real))
            if dapart != NULL:
                memcpy(db + back * n, dapart + row * n, n * sizeof(real))
