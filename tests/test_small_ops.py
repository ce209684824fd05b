"""What the small layers compute, in the core, against plain NumPy: the same bits, or nearer."""

import itertools
import threading

import numpy as np
import pytest

from fastlstm import functional
from fastlstm._core import dropout, merging, normalization, sequence_ops
from fastlstm.layers import (
    Add,
    Context,
    Dropout,
    Embedding,
    LayerNormalization,
    Masking,
    Multiply,
    RepeatVector,
)

REALS = [np.float32, np.float64]
SHAPES = [(3, 5, 7), (2, 1, 1), (1, 33, 17), (0, 3, 2), (3, 0, 2), (2, 3, 0)]


@pytest.fixture(params=REALS, ids=lambda dtype: dtype.__name__)
def dtype(request):
    return request.param


def normal(*shape, dtype, seed=0):
    """Random numbers, among them NaN, infinities, both zeros, huge and tiny ones."""
    x = np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)
    largest, smallest = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, largest, -largest, smallest]
    x.flat[:: max(1, x.size // 11)] = np.resize(odd, x.flat[:: max(1, x.size // 11)].size)
    return x


def assert_same_bits(got, want):
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.flags.c_contiguous
    nan = np.isnan(want) if want.dtype.kind == "f" else np.zeros(want.shape, bool)
    if want.dtype.kind == "f":
        np.testing.assert_array_equal(np.isnan(got), nan)
        np.testing.assert_array_equal(np.signbit(got[~nan]), np.signbit(want[~nan]))
    np.testing.assert_array_equal(got[~nan], want[~nan])


@pytest.mark.parametrize("kind", [np.int64, np.float16, np.int8])
def test_numbers_of_other_types_are_computed_in_double(kind):
    x = np.arange(24).reshape(2, 3, 4).astype(kind)
    wide, counts = x.astype(np.float64), np.ones((2, 3), bool)
    assert_same_bits(sequence_ops.masked(x, counts), wide)
    assert_same_bits(sequence_ops.counting_steps(x, 0.0), counts)
    assert_same_bits(sequence_ops.sum_over_steps(x), wide.sum(axis=1))
    assert_same_bits(merging.divided(x, 2.0), wide / 2)
    assert_same_bits(
        normalization.forward(x, None, None, 1, 0.1)[0],
        normalization.forward(wide, None, None, 1, 0.1)[0],
    )
    assert_same_bits(dropout.scaled(x, x), wide * wide)
    assert merging.add([x, x]) is None
    with pytest.raises(TypeError, match="must be float32 or float64"):
        dropout.random_factors(np.random.default_rng(0), (2,), 0.5, kind)


# ---- Embedding -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "width"), [((3, 5), 7), ((40,), 1), ((0, 4), 3), ((2, 2, 2), 9)])
def test_rows_of_a_table_and_their_gradient(shape, width, dtype):
    table, rng = normal(6, width, dtype=dtype), np.random.default_rng(1)
    indices = rng.integers(0, 6, size=shape)
    assert_same_bits(sequence_ops.rows_of(table, indices), table[indices])
    dy = rng.normal(size=(*shape, width)).astype(dtype)
    want = np.zeros_like(table)
    np.add.at(want, indices, dy)
    got = sequence_ops.gradient_of_table(dy, indices, table.shape, table.dtype)
    assert_same_bits(got, want)
    np.testing.assert_array_equal(sequence_ops.index_mask(indices), indices != 0)


def test_rows_of_another_type_are_moved_as_they_are():
    table = np.arange(12, dtype=np.int16).reshape(4, 3)
    indices = np.array([[3, 0], [2, 2]])
    assert_same_bits(sequence_ops.rows_of(table, indices), table[indices])


def test_the_first_invalid_index_is_found():
    find = sequence_ops.first_invalid
    assert find(np.array([[0, 4], [2, 3]]), 5) == -1
    assert find(np.array([[0, 4], [5, -1]]), 5) == 2
    assert find(np.array([1, -1, 7]), 5) == 1
    assert find(np.array([np.iinfo(np.intp).min, np.iinfo(np.intp).max]), 5) == 0
    assert find(np.zeros((0, 3), np.intp), 5) == -1
    with pytest.raises(IndexError, match="Index 5 is no row of a table of 5"):
        sequence_ops.rows_of(np.zeros((5, 2)), np.array([4, 5]))
    with pytest.raises(IndexError, match="Index -1"):
        sequence_ops.gradient_of_table(
            np.zeros((1, 2)), np.array([-1]), (5, 2), np.dtype(np.float64)
        )


@pytest.mark.parametrize(
    "ids", [np.array([[2**64 - 1]], np.uint64), np.array([[1e30]]), np.array([[2.0**63]])]
)
def test_an_embedding_refuses_what_is_beyond_all_integers(ids):
    with pytest.raises(ValueError, match="must hold integers from 0 to 4"):
        Embedding(5, 2)(ids)


def test_an_embedding_refuses_a_gradient_of_another_shape():
    layer, context = Embedding(5, 2), Context()
    layer(np.array([[1, 2, 3]]), context=context)
    with pytest.raises(ValueError, match=r"`dy` must have shape .* = \(1, 3, 2\), got \(1, 2, 2\)"):
        layer.backward(context, np.zeros((1, 2, 2), np.float32))


# ---- Masking -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES, (4, 9), (2, 3, 2, 5)])
@pytest.mark.parametrize("value", [0.0, 0.1, np.nan, np.inf, 1e300])
def test_steps_that_count_and_the_others_filled(shape, value, dtype):
    x = normal(*shape, dtype=dtype)
    with np.errstate(over="ignore"):
        rounded = np.asarray(value).astype(dtype)
    x[::2] = rounded
    want = (x != rounded).any(axis=-1)
    counts = sequence_ops.counting_steps(x, value)
    assert_same_bits(counts, want)
    assert x.size == 0 or want.all() == np.isnan(value)
    for fill in (0.0, 1.0):
        got = sequence_ops.masked(x, counts, fill)
        assert_same_bits(got, np.where(want[..., None], x, dtype(fill)))


def test_masking_takes_arrays_that_are_not_contiguous(dtype):
    x = normal(5, 4, 6, dtype=dtype)
    x[:, 1] = 0
    layer = Masking(dtype=dtype)
    assert_same_bits(layer(x.transpose(0, 2, 1)), layer(x.transpose(0, 2, 1).copy()))
    assert_same_bits(layer(x[::2, ::-1, 1:]), layer(x[::2, ::-1, 1:].copy()))


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"must have shape \(2, 3\), got \(3, 2\)"):
        sequence_ops.masked(np.zeros((2, 3, 4)), np.zeros((3, 2), bool))


# ---- RepeatVector and Permute --------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_repeated_rows_and_the_sum_over_steps(shape, dtype):
    x = normal(shape[0], shape[2], dtype=dtype)
    assert_same_bits(sequence_ops.repeated(x, 4), np.repeat(x[:, None], 4, axis=1))
    dy = np.random.default_rng(2).normal(size=shape).astype(dtype)
    want = np.zeros((shape[0], shape[2]), dtype)
    for step in range(shape[1]):
        want += dy[:, step]
    assert_same_bits(sequence_ops.sum_over_steps(dy), want)


def test_a_sum_over_steps_is_the_same_for_one_feature_as_for_many(dtype):
    dy = np.random.default_rng(2).normal(size=(3, 1000, 5)).astype(dtype)
    layer, context = RepeatVector(1000, dtype=dtype), Context()
    layer(np.zeros((3, 5), dtype), context=context)
    dx = layer.backward(context, dy)
    for feature in range(5):
        alone = layer.backward(context, dy[:, :, feature : feature + 1])
        assert_same_bits(alone, dx[:, feature : feature + 1])


@pytest.mark.parametrize(
    "shape", [(5,), (3, 4), (2, 3, 5), (3, 1, 4, 2), (2, 3, 1, 2, 3), (2, 0, 3)]
)
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.bool_, np.complex128])
def test_permuted_axes_and_back(shape, kind):
    x = np.random.default_rng(3).integers(0, 99, size=shape).astype(kind)
    for axes in itertools.permutations(range(len(shape))):
        y = sequence_ops.permuted(x, axes)
        assert_same_bits(y, np.ascontiguousarray(x.transpose(axes)))
        assert_same_bits(sequence_ops.permuted_back(y, axes), x)


def test_as_many_axes_as_an_array_may_have_are_permuted(dtype):
    rank = 32 if np.lib.NumpyVersion(np.__version__) < "2.0.0" else 64
    shape = np.ones(rank, int)
    shape[[0, 3, rank // 2, rank - 1]] = 2, 3, 4, 5
    x = np.random.default_rng(4).normal(size=shape).astype(dtype)
    axes = np.random.default_rng(5).permutation(rank).tolist()
    assert_same_bits(sequence_ops.permuted(x, axes), np.ascontiguousarray(x.transpose(axes)))
    assert_same_bits(sequence_ops.permuted(np.array(2.0), ()), np.array(2.0))


def test_axes_that_are_no_permutation_are_refused():
    for axes in ((0, 0), (0, 2), (0,), (-1, 0)):
        with pytest.raises(ValueError, match="must be the numbers from 0 to 1"):
            sequence_ops.permuted(np.zeros((2, 3)), axes)


# ---- merging -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES, (9,)])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_sums_and_products_are_taken_from_the_left(shape, count, dtype):
    arrays = [normal(*shape, dtype=dtype, seed=k)[..., ::-1].copy() for k in range(count)]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        total, product = arrays[0].copy(), arrays[0].copy()
        for x in arrays[1:]:
            total, product = total + x, product * x
        mean = total / count
    assert_same_bits(merging.add(arrays), total)
    assert_same_bits(merging.multiply(arrays), product)
    assert_same_bits(merging.divided(total, count), mean)


def test_what_is_not_alike_is_left_to_numpy():
    a, b = np.ones((2, 3)), np.ones((2, 3), np.float32)
    for arrays in ([a, b], [a, a[:, :1]], [a, a.T], [a, a[:, ::-1]], [a[None], a]):
        assert merging.add(arrays) is None
        assert merging.multiply(arrays) is None


def test_a_sum_of_one_is_a_copy_in_every_layout():
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    for given in (x, x[::2], x.transpose(0, 2, 1)):
        for layer in (Add(), Multiply()):
            y = layer([given])
            np.testing.assert_array_equal(y, given)
            assert not np.shares_memory(y, given)


@pytest.mark.parametrize("shape", [(3, 4, 5), (0, 4, 5), (3, 0, 5), (4,)])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.bool_])
def test_parts_side_by_side_and_taken_apart(shape, kind):
    rng = np.random.default_rng(6)
    for axis in range(-len(shape), len(shape)):
        arrays = []
        for size in (shape[axis], 1, 0, 7):
            sizes = list(shape)
            sizes[axis] = size
            arrays.append(rng.integers(0, 9, size=sizes).astype(kind))
        for count in (1, 2, 4):
            whole = merging.concatenated(arrays[:count], axis)
            assert_same_bits(whole, np.concatenate(arrays[:count], axis))
            found = merging.parts(whole, [x.shape[axis] for x in arrays[:count]], axis)
            for got, want in zip(found, arrays, strict=False):
                assert_same_bits(got, want)
            assert len(found) == count


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"must be equal outside of axis 1, got \(3, 2\)"):
        merging.concatenated([np.zeros((2, 2)), np.zeros((3, 2))], -1)
    with pytest.raises(ValueError, match=r"must add up to 4, axis 1"):
        merging.parts(np.zeros((2, 4)), [2, 3], 1)
    with pytest.raises(IndexError):
        merging.parts(np.zeros((2, 4)), [4], 2)


# ---- Dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", ["PCG64", "MT19937", "Philox", "SFC64"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999])
def test_factors_come_from_the_numbers_that_numpy_draws(bits, rate, dtype):
    ours, theirs = (np.random.Generator(getattr(np.random, bits)(7)) for _ in range(2))
    for shape in ((3, 5, 7), (0, 4), (1000,), ()):
        kept = theirs.random(shape) >= rate
        want = np.where(kept, dtype(1 / (1 - rate)), dtype(0))
        assert_same_bits(dropout.random_factors(ours, shape, rate, dtype), want)
    assert ours.random() == theirs.random()


def test_one_generator_serves_threads_one_after_the_other():
    generator, count, found = np.random.default_rng(1), 20000, []

    def draw():
        found.extend(dropout.random_factors(generator, (count,), 0.5, np.float32) for _ in range(5))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rng = np.random.default_rng(1)
    want = {dropout.random_factors(rng, (count,), 0.5, np.float32).tobytes() for _ in range(20)}
    assert {factors.tobytes() for factors in found} == want


@pytest.mark.parametrize("shape", [*SHAPES, (6, 4), (2, 3, 2, 3)])
def test_factors_of_every_shape_that_broadcasts(shape, dtype):
    x, rng = normal(*shape, dtype=dtype), np.random.default_rng(8)
    for ones in itertools.product((False, True), repeat=len(shape)):
        sizes = [1 if one else size for one, size in zip(ones, shape, strict=True)]
        factors = rng.choice([0.0, 1 / 0.7], size=sizes).astype(dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            want = x * factors
            assert_same_bits(dropout.scaled(x, factors), want)


def test_a_layer_drops_what_it_dropped_before(dtype):
    x = np.random.default_rng(9).normal(size=(4, 5, 6)).astype(dtype)
    for noise, drawn in ((None, x.shape), ((None, 1, None), (4, 1, 6)), ((1, None, 1), (1, 5, 1))):
        layer, context = Dropout(0.4, noise_shape=noise, seed=3, dtype=dtype), Context()
        kept = np.random.default_rng(3).random(drawn) >= 0.4
        factors = np.where(kept, dtype(1 / 0.6), dtype(0))
        assert_same_bits(layer(x, training=True, context=context), x * factors)
        assert_same_bits(layer.backward(context, x[:, ::-1]), x[:, ::-1] * factors)


# ---- LayerNormalization --------------------------------------------------------------------------


def plain(x, dy, gamma, epsilon):
    """The text-book formulas, in the type of x."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    normalized = centred * inverse
    d = dy * gamma
    along = (d * normalized).mean(axis=-1, keepdims=True)
    dx = inverse * (d - d.mean(axis=-1, keepdims=True) - normalized * along)
    return normalized * gamma, dx, (dy * normalized).sum(axis=0), dy.sum(axis=0)


def normalized_by_core(x, dy, gamma, epsilon):
    y, *cache = normalization.forward(x, gamma, None, 1, epsilon)
    return (y, *normalization.backward(dy, gamma, *cache))


@pytest.mark.parametrize("width", [1, 2, 7, 15, 16, 17, 100, 255, 256, 257, 1000, 5001])
@pytest.mark.parametrize("offset", [0, 5, 300])
def test_normalized_rows_are_as_accurate_as_those_of_numpy(width, offset, dtype):
    rng = np.random.default_rng([width, offset])
    rows = max(5, 20000 // width)
    x, dy = (rng.normal(size=(rows, width)).astype(dtype) for _ in range(2))
    x += dtype(offset)
    gamma = rng.normal(size=width).astype(dtype)
    epsilon = dtype(1e-3)
    wide = (a.astype(np.longdouble) for a in (x, dy, gamma))
    exact = plain(*wide, epsilon)
    ours, theirs = (f(x, dy, gamma, epsilon) for f in (normalized_by_core, plain))

    def error(got, want):
        return np.sqrt(np.mean(np.square(got - want)))

    for got, other, want, what in zip(ours[:2], theirs, exact, ("y", "dx"), strict=False):
        rounding = np.finfo(dtype).eps * np.abs(want).max()
        assert error(got, want) <= max(1.1 * error(other, want), 0.1 * rounding), what
    np.testing.assert_array_equal(ours[3].shape, exact[3].shape)
    for got, want in zip(ours[2:], exact[2:], strict=True):
        bound = 40 * np.finfo(dtype).eps * np.sqrt(rows) * max(1, np.abs(want).max())
        np.testing.assert_allclose(got.astype(np.longdouble), want, rtol=0, atol=bound)


def test_far_from_zero_a_normalized_row_keeps_its_digits(dtype):
    x = np.random.default_rng(0).normal(size=(50, 64)).astype(dtype) + dtype(1000)
    exact = plain(*(a.astype(np.longdouble) for a in (x, x, np.ones(64))), 1e-3)[0]
    y = normalization.forward(x, None, None, 1, 1e-3)[0]
    np.testing.assert_allclose(y.astype(np.longdouble), exact, rtol=0, atol=8 * np.finfo(dtype).eps)


def test_a_row_is_normalized_alike_wherever_it_is(dtype):
    rng = np.random.default_rng(1)
    gamma, beta = rng.normal(size=(2, 77)).astype(dtype)
    memory = np.empty(10 * 77 + 3, dtype)
    for shift in (0, 1, 3):
        x = memory[shift : shift + 770].reshape(10, 77)
        x[:] = np.random.default_rng(2).normal(size=(10, 77))
        together = normalization.forward(x, gamma, beta, 1, 1e-3)
        for row in (0, 4, 9):
            alone = normalization.forward(x[row : row + 1], gamma, beta, 1, 1e-3)
            for one, all_of_them in zip(alone, together, strict=True):
                assert_same_bits(one[0:1], all_of_them[row : row + 1].copy())


@pytest.mark.parametrize("axis", [[-1], [1], [-1, 1], [1, 2], [1, 2, 3], [0, -1]])
def test_normalization_over_any_axes_is_that_over_the_last(axis, dtype):
    x, dy = np.random.default_rng(3).normal(size=(2, 2, 3, 4, 5)).astype(dtype)
    layer, context = LayerNormalization(axis=axis, dtype=dtype), Context()
    layer.build(x.shape)
    rng = np.random.default_rng(4)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    axes = sorted(a % 4 for a in axis)
    order = [*(a for a in range(4) if a not in axes), *axes]
    back = np.argsort(order)
    last = LayerNormalization(axis=list(range(-len(axis), 0)), dtype=dtype)
    moved, moved_dy = x.transpose(order), dy.transpose(order)
    last.build(moved.shape)
    last.set_weights(layer.get_weights())
    other = Context()
    want = last(moved, context=other)
    assert_same_bits(layer(x, context=context), np.ascontiguousarray(want.transpose(back)))
    want_dx = last.backward(other, moved_dy)
    got_dx = layer.backward(context, dy)
    assert_same_bits(got_dx, np.ascontiguousarray(want_dx.transpose(back)))
    for mine, theirs in zip(layer.weights, last.weights, strict=True):
        assert_same_bits(context.gradients[mine], other.gradients[theirs])


def test_rows_that_are_constant_infinite_or_nan(dtype):
    x = np.full((5, 33), 7.3, dtype)
    x[1, 4], x[2, 5], x[3] = np.nan, np.inf, np.finfo(dtype).max / 64
    x[3, 0] = -x[3, 0]
    y = normalization.forward(x, None, None, 1, 1e-3)[0]
    assert not y[[0, 4]].any()
    assert np.isnan(y[1:3]).all()
    # The square of what is so large is infinite.
    assert not y[3].any()


def test_normalization_of_nothing():
    for shape in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        x = np.zeros(shape, np.float32)
        y, *cache = normalization.forward(x, None, None, 1, 1e-3)
        dx, dgamma, dbeta = normalization.backward(x, None, *cache)
        assert y.shape == dx.shape == shape
        assert dgamma.tolist() == dbeta.tolist() == [0.0] * shape[2]


# ---- Activation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["softmax", "tanh", "gelu", "linear"])
@pytest.mark.parametrize("shape", [(), (5,), (0,), (0, 3), (3, 0), (2, 3, 5)])
def test_activations_take_every_shape(shape, activation, dtype):
    x, dy = np.random.default_rng(5).normal(size=(2, *shape)).astype(dtype)
    x, dy = np.asarray(x), np.asarray(dy)
    y = functional.activation_forward(x, activation)
    dx = functional.activation_backward(x, dy, activation)
    assert y.shape == dx.shape == shape
    assert y.dtype == dx.dtype == dtype
    width = shape[-1] if shape else 1
    rows = [np.atleast_2d(a).reshape(-1, width) for a in (x, dy, y, dx)] if x.size else []
    for row, drow, yrow, dxrow in zip(*rows, strict=True):
        assert_same_bits(functional.activation_forward(row, activation), yrow)
        assert_same_bits(functional.activation_backward(row, drow, activation), dxrow)
