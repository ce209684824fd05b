"""Random ONNX graphs of the operators that `from_onnx` knows, with sizes of at least 1."""

from math import prod

import numpy as np
from onnx import helper, numpy_helper

OPSETS = (7, 9, 10, 11, 12, 13, 14, 17, 18, 20, 21)
UNARY = ("Elu", "Exp", "HardSigmoid", "Identity", "LeakyRelu", "Neg", "Relu", "Selu", "Sigmoid",
         "Softplus", "Softsign", "Tanh")  # fmt: skip
GATES = ("Sigmoid", "HardSigmoid", "Relu", "Softsign", "Affine", "Elu")
OTHERS = ("Tanh", "ScaledTanh", "LeakyRelu", "Softsign", "Sigmoid", "ThresholdedRelu", "Elu")
PARAMETERS = {
    "Affine": (0.6, 0.2), "Elu": (0.7,), "HardSigmoid": (0.3, 0.4), "LeakyRelu": (0.2,),
    "ScaledTanh": (0.8, 0.9), "ThresholdedRelu": (0.1,),
}  # fmt: skip


def lstm_activations(rng, directions):
    """`activations` with all of their parameters, in turn."""
    names = [str(rng.choice(kind)) for _ in range(directions) for kind in (GATES, OTHERS, OTHERS)]
    found = {"activations": names}
    for place, key in enumerate(("activation_alpha", "activation_beta")):
        values = [
            PARAMETERS[name][place] for name in names if len(PARAMETERS.get(name, ())) > place
        ]
        if values:
            found[key] = values
    return found


class RandomGraph:
    """A chain of operators, each on what the one before made, with what else they read."""

    def __init__(self, rng, length=6, dtype="float32"):
        self.rng, self.dtype = rng, np.dtype(dtype)
        self.opset = int(rng.choice(OPSETS))
        self.nodes, self.constants, self.operators = [], {}, []
        self.shape = tuple(int(size) for size in rng.integers(1, 5, 3))
        self.name = "X"
        self.inputs = {"X": self.numbers(self.shape)}
        steps = [name for name in dir(self) if name.startswith("add_")]
        while len(self.operators) < length:
            step = str(rng.choice(steps))
            before = len(self.nodes)
            getattr(self, step)()
            if len(self.nodes) > before:
                self.operators.append(step[4:])

    def model(self):
        kind = helper.np_dtype_to_tensor_dtype
        sources = [
            helper.make_tensor_value_info(name, kind(array.dtype), [None] * array.ndim)
            for name, array in self.inputs.items()
        ]
        target = helper.make_tensor_value_info(self.name, kind(self.dtype), None)
        initializers = [numpy_helper.from_array(array, n) for n, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "random", sources, [target], initializers)
        opset = helper.make_opsetid("", self.opset)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)

    # ---- parts

    def numbers(self, shape):
        return np.asarray(self.rng.normal(size=shape), self.dtype)

    def constant(self, value, dtype=np.int64):
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(np.asarray(value, dtype))
        return name

    def weights(self, *shape):
        return self.constant(0.5 * self.numbers(shape), self.dtype)

    def node(self, operator, inputs, shape, outputs=1, take=0, **attributes):
        number = len(self.nodes)
        names = [f"{operator}_{number}_{place}" for place in range(outputs)]
        node = helper.make_node(operator, inputs, names, name=f"{operator}_{number}", **attributes)
        self.nodes.append(node)
        self.name, self.shape = names[take], tuple(int(size) for size in shape)

    def axis(self):
        """An axis, half of the time counted from the end."""
        return int(self.rng.integers(-self.rank, self.rank))

    @property
    def rank(self):
        return len(self.shape)

    def changed(self, axis, size):
        shape = list(self.shape)
        shape[axis] = size
        return shape

    def axes_given(self, axes, since):
        """What comes behind the input, and the attributes."""
        if self.opset >= since:
            return [self.constant(axes)], {}
        return [], {"axes": axes}

    # ---- operators

    def add_unary(self):
        self.node(str(self.rng.choice(UNARY)), [self.name], self.shape)

    def add_parameters(self):
        operator, attributes = {
            0: ("Elu", {"alpha": 0.4}),
            1: ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
            2: ("LeakyRelu", {"alpha": 0.3}),
            3: ("Selu", {"alpha": 1.2, "gamma": 0.9}),
        }[int(self.rng.integers(4))]
        self.node(operator, [self.name], self.shape, **attributes)

    def add_arithmetic(self):
        operator = str(self.rng.choice(("Add", "Sub", "Mul")))
        other = [1 if self.rng.random() < 0.3 else size for size in self.shape]
        inputs = [self.name, self.weights(*other[int(self.rng.integers(len(other) + 1)) :])]
        if self.rng.random() < 0.3:
            inputs.reverse()
        self.node(operator, inputs, self.shape)

    def add_division(self):
        self.node(
            "Div", [self.name, self.constant(0.5 + self.rng.random(), self.dtype)], self.shape
        )

    def add_root_of_square(self):
        two = self.constant(2, self.dtype)
        self.node("Pow", [self.name, two], self.shape)
        self.node("Sqrt", [self.name], self.shape)

    def add_product(self):
        if self.rank:
            width = int(self.rng.integers(1, 5))
            weights = self.weights(self.shape[-1], width)
            self.node("MatMul", [self.name, weights], (*self.shape[:-1], width))

    def add_gemm(self):
        if self.rank == 2:
            turned, other = (int(each) for each in self.rng.integers(0, 2, 2))
            rows, depth = self.shape[::-1] if turned else self.shape
            width = int(self.rng.integers(1, 5))
            inputs = [self.name, self.weights(*((width, depth) if other else (depth, width)))]
            bias = [None, (width,), (1, width), (rows, 1), (rows, width), (), (1,)]
            shape = bias[int(self.rng.integers(self.opset < 11, len(bias)))]
            if shape is not None:
                inputs.append(self.weights(*shape))
            self.node(
                "Gemm", inputs, (rows, width), transA=turned, transB=other, alpha=0.7, beta=1.3
            )

    def add_transpose(self):
        order = [int(axis) for axis in self.rng.permutation(self.rank)]
        if self.rng.random() < 0.3 or not order:
            self.node("Transpose", [self.name], self.shape[::-1])
        else:
            self.node("Transpose", [self.name], [self.shape[a] for a in order], perm=order)

    def add_reshape(self):
        sizes = list(self.shape)
        if self.rng.random() < 0.5 and self.rank > 1:
            place = int(self.rng.integers(self.rank - 1))
            sizes[place : place + 2] = [sizes[place] * sizes[place + 1]]
        else:
            sizes.insert(int(self.rng.integers(self.rank + 1)), 1)
        given = list(sizes)
        if self.rng.random() < 0.7:
            given[int(self.rng.integers(len(given)))] = -1
        given = [0 if self.shape[: n + 1][n:] == (sizes[n],) and size > 0 else size
                 for n, size in enumerate(given)]  # fmt: skip
        self.node("Reshape", [self.name, self.constant(given)], sizes)

    def add_flatten(self):
        lowest = -self.rank if self.opset >= 11 else 0
        axis = int(self.rng.integers(lowest, self.rank + 1))
        at = axis + self.rank if axis < 0 else axis
        self.node("Flatten", [self.name], (prod(self.shape[:at]), prod(self.shape[at:])), axis=axis)

    def add_squeeze(self):
        ones = [axis for axis, size in enumerate(self.shape) if size == 1]
        if ones:
            gone = [ones[int(self.rng.integers(len(ones)))]]
            more, attributes = self.axes_given(gone, 13)
            rest = [size for axis, size in enumerate(self.shape) if axis not in gone]
            self.node("Squeeze", [self.name, *more], rest, **attributes)

    def add_unsqueeze(self):
        if self.rank < 4:
            axis = int(self.rng.integers(self.rank + 1))
            more, attributes = self.axes_given([axis], 13)
            shape = (*self.shape[:axis], 1, *self.shape[axis:])
            self.node("Unsqueeze", [self.name, *more], shape, **attributes)

    def add_slice(self):
        if not self.rank:
            return
        axis = self.axis()
        size = self.shape[axis]
        start, end = (int(each) for each in self.rng.integers(-size - 2, size + 3, 2))
        step = int(self.rng.choice((-2, -1, 1, 2))) if self.opset >= 10 else 1
        first, last = (place + size if place < 0 else place for place in (start, end))
        low, high = (0, size) if step > 0 else (-1, size - 1)
        first = min(max(first, 0), high)
        count = len(range(first, min(max(last, low), high), step))
        if not count:
            return
        if self.opset >= 10:
            more = [self.constant([each]) for each in (start, end, axis, step)]
            self.node("Slice", [self.name, *more], self.changed(axis, count))
        elif axis >= 0:
            options = {"starts": [start], "ends": [end], "axes": [axis]}
            self.node("Slice", [self.name], self.changed(axis, count), **options)

    def add_concat(self):
        if self.rank:
            axis = self.axis() if self.opset >= 11 else int(self.rng.integers(self.rank))
            more = self.weights(*self.changed(axis, 2))
            shape = self.changed(axis, self.shape[axis] + 2)
            self.node("Concat", [self.name, more], shape, axis=axis)

    def add_split(self):
        wide = [axis for axis, size in enumerate(self.shape) if size > 1]
        if wide:
            axis = int(self.rng.choice(wide))
            size = self.shape[axis]
            first = int(self.rng.integers(1, size))
            take = int(self.rng.integers(2))
            inputs, attributes = [self.name], {"axis": axis}
            if self.opset >= 18 and self.rng.random() < 0.5:
                attributes["num_outputs"], first = 2, -(-size // 2)
            elif self.opset >= 13:
                inputs.append(self.constant([first, size - first]))
            else:
                attributes["split"] = [first, size - first]
            shape = self.changed(axis, (first, size - first)[take])
            self.node("Split", inputs, shape, 2, take, **attributes)

    def add_gather(self):
        if self.rank:
            axis = self.axis()
            low = -self.shape[axis] if self.opset >= 11 else 0
            places = self.rng.integers(low, self.shape[axis], 2)
            self.node(
                "Gather", [self.name, self.constant(places)], self.changed(axis, 2), axis=axis
            )

    def add_reduction(self):
        if self.rank:
            operator = str(self.rng.choice(("ReduceMax", "ReduceMean", "ReduceSum")))
            keep = int(self.rng.integers(2))
            axis = self.axis() if self.opset >= 11 else int(self.rng.integers(self.rank))
            shape = self.changed(axis, 1)
            if not keep:
                del shape[axis]
            more, attributes = self.axes_given([axis], 13 if operator == "ReduceSum" else 18)
            if not more and self.rng.random() < 0.2:
                attributes, shape = {}, [1] * self.rank if keep else []
            self.node(operator, [self.name, *more], shape, keepdims=keep, **attributes)

    def add_softmax(self):
        if self.rank:
            axis = self.axis() if self.opset >= 11 else int(self.rng.integers(self.rank))
            self.node("Softmax", [self.name], self.shape, axis=axis)

    def add_tile(self):
        if self.rank:
            repeats = self.rng.integers(1, 3, self.rank)
            shape = np.minimum(repeats, 9) * self.shape
            if prod(shape) < 500:
                self.node("Tile", [self.name, self.constant(repeats)], shape)

    def add_expand(self):
        if self.opset >= 8:
            shape = [3 if size == 1 else size for size in self.shape]
            asked = [size if self.rng.random() < 0.7 or size == 3 else 1 for size in shape]
            self.node("Expand", [self.name, self.constant(asked)], shape)

    def add_reverse_sequence(self):
        if self.rank >= 2 and self.opset >= 10:
            time = int(self.rng.integers(2))
            lengths = self.rng.integers(1, self.shape[time] + 1, self.shape[1 - time])
            inputs = [self.name, self.constant(lengths)]
            self.node("ReverseSequence", inputs, self.shape, time_axis=time, batch_axis=1 - time)

    def add_casts(self):
        other = np.float64 if self.dtype == np.float32 else np.float32
        for dtype in (other, self.dtype):
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            self.node("Cast", [self.name], self.shape, to=kind)

    def add_shape_arithmetic(self):
        """Zeros of a shape that the graph computes, as exporters write it."""
        if self.rank >= 2 and self.opset >= 13:
            x, shape = self.name, self.shape
            self.node("Shape", [x], [self.rank])
            self.node("Slice", [self.name, self.constant([0]), self.constant([1])], [1])
            self.node("Concat", [self.name, self.constant(shape[1:])], [self.rank], axis=0)
            value = numpy_helper.from_array(np.full(1, 0.5, self.dtype))
            self.node("ConstantOfShape", [self.name], shape, value=value)
            self.node("Add", [x, self.name], shape)

    def add_dropout(self):
        self.node("Dropout", [self.name], self.shape)

    def add_lstm(self):
        if self.rank != 3:
            return
        rng, (steps, batch, features) = self.rng, self.shape
        units = int(rng.integers(1, 5))
        direction = str(rng.choice(("forward", "reverse", "bidirectional")))
        count = 1 + (direction == "bidirectional")
        inputs = [self.name, self.weights(count, 4 * units, features),
                  self.weights(count, 4 * units, units)]  # fmt: skip
        state = (count, batch, units)
        lengths = rng.integers(0, steps + 1, batch)
        for make in (
            lambda: self.weights(count, 8 * units),
            lambda: self.constant(lengths, np.int32),
            lambda: self.weights(*state),
            lambda: self.weights(*state),
            lambda: self.weights(count, 3 * units),
        ):
            inputs.append(make() if rng.random() < 0.5 else "")
        attributes = {"hidden_size": units, "direction": direction}
        if rng.random() < 0.3:
            attributes["clip"] = 0.4
        if rng.random() < 0.3:
            attributes["input_forget"] = 1
        if rng.random() < 0.4:
            attributes.update(lstm_activations(rng, count))
        take = int(rng.integers(3))
        shape = (count, batch, units) if take else (steps, count, batch, units)
        self.node("LSTM", inputs, shape, 3, take, **attributes)
