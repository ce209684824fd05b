"""The dense layer and activations as ops of a program."""

from libc.string cimport memcpy, memset

from fastlstm._core.activations cimport (
    activation_backward_pass, activation_index, activation_pass, has_gradient_from_output,
)
from fastlstm._core.dense_passes cimport (
    compute_backward, compute_forward, prepared, ready_backward, ready_forward, work_of,
)
from fastlstm._core.dense_plan cimport DensePlan
from fastlstm._core.engine cimport backward_engine, forward_engine
from fastlstm._core.kernels cimport ACTIVATION_LINEAR, Engine, table_of, the_pool
from fastlstm._core.passes cimport dense_backward, dense_forward
from fastlstm._core.plan cimport PackedWeights, forget_packed
from fastlstm._core.program cimport (
    DOUBLES, FLOATS, MOST_SHAPE, Gradient, Op, Value, bytes_of, give_memory, rows_of, value_like,
    value_of, wanted_like,
)
from fastlstm._core.versions cimport are_as_seen, are_values_of, versions_of
from fastlstm._core.watch cimport pass_watch
from fastlstm._core.arguments import resized


cdef class DenseOp(Op):
    """A dense layer over the last axis.

    Parameters
    ----------
    plan_for : function of an activation that returns the `DensePlan` of the weights as they are
        now, and with True behind it one that nobody else has
    weights : (kernel, bias or None)
    activation : str
    """

    cdef object plan_for, activation
    cdef list weights, used, seen
    cdef DensePlan plan
    cdef bint is_double, is_ready, has_own_plan
    cdef Engine engine
    cdef int threads
    cdef dense_forward f
    cdef dense_backward g
    cdef PackedWeights kept
    cdef tuple kept_backward
    cdef Value x, y, z, dy, dx
    cdef Gradient dkernel, dbias

    def __init__(self, plan_for, weights, activation):
        self.plan_for, self.weights, self.activation = plan_for, list(weights), activation
        self.used = [weight for weight in weights if weight is not None]

    cdef int _refresh(self) except -1:
        """Take the weights as they are now."""
        # In this order: what changes in the meantime, or is interrupted, is seen next time.
        cdef list seen = versions_of(self.used)
        cdef DensePlan plan = self.plan
        # In training they change at every step, and the layer has no use for what was packed.
        if self.has_own_plan and plan is not None and are_values_of(
            self.weights, (plan.kernel, plan.bias)
        ):
            forget_packed(plan)
        else:
            plan = self.plan_for(self.activation, self.has_own_plan)
        if self.plan is not None and (
            plan.features != self.plan.features or plan.units != self.plan.units
            or plan.is_double != self.plan.is_double
        ):
            raise resized("dense")
        self.plan, self.seen = plan, seen
        return 0

    cdef list bind(self, list inputs, bint training):
        cdef Value x = inputs[0]
        cdef Py_ssize_t shape[MOST_SHAPE]
        self.has_own_plan = training
        self._refresh()
        if x.kind != (DOUBLES if self.plan.is_double else FLOATS) or x.rank < 2 or (
            x.shape[x.rank - 1] != self.plan.features
        ):
            return None
        memcpy(shape, x.shape, sizeof(shape))
        shape[x.rank - 1] = self.plan.units
        self.is_double, self.x = self.plan.is_double, x
        self.y = value_of(x.kind, x.rank, shape)
        self.y.mask = x.mask
        if training and not has_gradient_from_output(self.plan.activation):
            self.z = value_like(self.y)
            give_memory(self.z)
        self.f.base = prepared(self.plan, rows_of(x))
        return [self.y]

    cdef double work(self) noexcept:
        return work_of(&self.f.base)

    cdef int prepare(self, pass_watch *watch) except -1:
        cdef Engine engine
        cdef const void *kernels = table_of(self.is_double)
        cdef bint is_ready = self.is_ready and are_as_seen(self.used, self.seen)
        if not is_ready:
            self._refresh()
        self.f.base.watch = watch
        self.f.base.x, self.f.y = self.x.data, self.y.data
        self.f.z = self.f.y if self.z is None else self.z.data
        engine = forward_engine(self.plan, self.f.base.rows)
        # What is ready stays so until something is another.
        if not is_ready or engine != self.engine or self.threads != the_pool().threads() or (
            self.f.base.kernels != kernels
        ):
            self.engine, self.threads, self.is_ready = engine, the_pool().threads(), False
            self.f.base.kernels = kernels
            self.kept = ready_forward(self.engine, self.plan, &self.f)
            self.is_ready = True
        return 0

    cdef void forward(self) noexcept nogil:
        compute_forward(self.engine, &self.f, self.is_double)

    cdef int rest(self) except -1:
        if self.has_own_plan:
            forget_packed(self.plan)
            self.is_ready = False
            self.kept = self.kept_backward = None
        return 0

    cdef list bind_backward(self, list arriving):
        self.dy, self.dx = arriving[0], wanted_like(self.x)
        self.dkernel = Gradient(
            self.weights[0], self.x.kind, self.plan.features * self.plan.units)
        self.dbias = Gradient(self.weights[1], self.x.kind, self.plan.units)
        return [self.dx]

    cdef int prepare_backward(self, dict gradients, object targets, pass_watch *watch) except -1:
        memset(&self.g, 0, sizeof(self.g))
        self.g.base = self.f.base
        self.g.base.watch = watch
        if self.takes_dz:
            self.g.base.activation = ACTIVATION_LINEAR
        self.g.y, self.g.dy = self.y.data, self.dy.data
        self.g.z = NULL if self.z is None else self.z.data
        self.g.dx = NULL if self.dx is None else self.dx.data
        self.dkernel.prepare(gradients, targets)
        self.dbias.prepare(gradients, targets)
        self.g.dkernel, self.g.dbias = self.dkernel.data, self.dbias.data
        self.kept_backward = ready_backward(backward_engine(self.engine), self.plan, &self.g)
        return 0

    cdef void backward(self) noexcept nogil:
        compute_backward(backward_engine(self.engine), &self.g, self.is_double)
        self.dkernel.add()
        self.dbias.add()


cdef class ActivationOp(Op):
    """An activation; softmax over the last axis."""

    cdef int index
    cdef Value x, y, dy, dx
    cdef Py_ssize_t rows, width

    def __init__(self, str activation not None):
        self.index = activation_index(activation, "`activation`", False)

    cdef list bind(self, list inputs, bint training):
        self.x = inputs[0]
        if self.x.kind > DOUBLES:
            return None
        self.y = value_like(self.x)
        self.y.mask = self.x.mask
        self.rows, self.width = rows_of(self.x), self.x.shape[self.x.rank - 1]
        return [self.y]

    cdef void forward(self) noexcept nogil:
        if self.x.kind == DOUBLES:
            activation_pass(self.index, self.rows, self.width, <const double *>self.x.data,
                            <double *>self.y.data)
        else:
            activation_pass(self.index, self.rows, self.width, <const float *>self.x.data,
                            <float *>self.y.data)

    cdef list bind_backward(self, list arriving):
        self.dy, self.dx = arriving[0], wanted_like(self.x)
        return [self.dx]

    cdef void backward(self) noexcept nogil:
        if self.dx is None:
            return
        if self.takes_dz:
            memcpy(self.dx.data, self.dy.data, bytes_of(self.dx))
        elif self.x.kind == DOUBLES:
            activation_backward_pass(
                self.index, self.rows, self.width, <const double *>self.x.data,
                <const double *>self.y.data, <const double *>self.dy.data, <double *>self.dx.data)
        else:
            activation_backward_pass(
                self.index, self.rows, self.width, <const float *>self.x.data,
                <const float *>self.y.data, <const float *>self.dy.data, <float *>self.dx.data)
