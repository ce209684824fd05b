"""The same bits, whatever the number of threads, the tile, the block or the place in the batch.

Holds for packed weights, and for unpacked ones in their place, where each output of an LSTM or a
dense layer is one sum in one order. BLAS chooses its own, by the height and width of its matrices:
over BLAS only the number of threads changes nothing.
"""

import numpy as np
import pytest
from lstm_cases import GRADIENT_NAMES, random_case
from test_config import printed

from fastlstm import functional
from fastlstm._core import dense, kernels, pool
from fastlstm._core.dense_plan import DensePlan
from fastlstm.layers import LSTM, Input, Masking
from fastlstm.models import Model

PACKED = [name for name in kernels.available_isas() if name != "baseline"]
# Work enough for threads: few rows that share the units, odd everything, and many rows.
SHAPES = [
    (1, 60, 70, 140),
    (3, 40, 33, 145),
    (7, 15, 65, 150),
    (9, 50, 33, 100),
    (37, 20, 17, 70),
]
# For BLAS: two pieces of odd heights, several, and several of the weight gradients.
SHAPES_OVER_BLAS = [*SHAPES, (131, 9, 33, 70), (331, 5, 19, 45), (33, 7, 290, 67)]


# How many threads; and the meeting from which on the caller goes on alone, or 0.
THREADS = [(2, 0), (3, 0), (5, 0), (2, 1), (2, 2), (3, 3), (3, 9), (2, 45)]


@pytest.fixture
def use_threads(set_threads):
    def use(count, meeting):
        set_threads(count)
        pool.part_at(meeting)

    yield use
    pool.part_at(0)


@pytest.fixture(params=PACKED)
def packed_isa(request):
    before = kernels.isa_name()
    kernels.use_isa(request.param)
    yield request.param
    kernels.use_isa(before)


@pytest.fixture(params=kernels.available_isas())
def over_blas(request):
    before = kernels.isa_name()
    kernels.use_isa(request.param)
    kernels.use_engine("blas")
    yield request.param
    kernels.use_engine(None)
    kernels.use_isa(before)


def run(case, engine="packed"):
    y, h, c, cache = case.forward(functional)
    assert cache.path.split()[1] == engine
    gradients = functional.lstm_backward(cache, *case.gradients)
    return dict(zip(("y", "h", "c", *GRADIENT_NAMES), (y, h, c, *gradients), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mask", [None, 0.7])
def test_any_number_of_threads(packed_isa, use_threads, shape, dtype, mask):
    case = random_case(shape, dtype, mask=mask)
    use_threads(1, 0)
    want = run(case)
    for threads in THREADS:
        use_threads(*threads)
        for name, found in run(case).items():
            np.testing.assert_array_equal(found, want[name], err_msg=f"{name}, {threads}")


@pytest.mark.parametrize("shape", SHAPES_OVER_BLAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mask", [None, 0.7])
def test_any_number_of_threads_over_blas(over_blas, set_threads, shape, dtype, mask):
    case = random_case(shape, dtype, mask=mask)
    set_threads(1)
    want = {**run(case, "blas"), "without a cache": case.forward(functional, training=False)[0]}
    for count in (2, 3, 5):
        set_threads(count)
        found = run(case, "blas")
        found["without a cache"] = case.forward(functional, training=False)[0]
        for name in want:
            np.testing.assert_array_equal(
                found[name], want[name], err_msg=f"{name}, {count} threads"
            )


# Kernels of OpenBLAS that round a row by the height of its matrix; those for AVX-512 hardly do.
BY_HEIGHT = """
import numpy as np
import fastlstm
from fastlstm import functional
from fastlstm._core import pool

pool.oversubscribe(True)
rng = np.random.default_rng(0)
x, kernel, recurrent_kernel = (
    rng.normal(size=s).astype(np.float32) for s in ((131, 9, 33), (33, 280), (70, 280))
)

def passes(threads):
    fastlstm.set_num_threads(threads)
    y, h, c, cache = functional.lstm_forward(x, kernel, recurrent_kernel, training=True)
    found = [y, *functional.lstm_backward(cache, y)]
    y, cache = functional.dense_forward(x, kernel, training=True)
    return [each for each in [*found, y, *functional.dense_backward(cache, y)] if each is not None]

for threads in (2, 3):
    for one, two in zip(passes(1), passes(threads), strict=True):
        np.testing.assert_array_equal(one, two)
print("same")
"""


@pytest.mark.skipif("avx2" not in kernels.available_isas(), reason="Haswell kernels need AVX2")
def test_any_number_of_threads_over_blas_that_rounds_by_height():
    assert printed(BY_HEIGHT, FASTLSTM_ENGINE="blas", OPENBLAS_CORETYPE="Haswell") == "same"


# (layers, B, T, F, H): few rows, weights of all layers that a core's cache holds.
STACKS = [
    (2, 1, 70, 33, 70),
    (3, 3, 41, 17, 45),
    (4, 2, 65, 64, 64),
    (5, 1, 90, 1, 37),
]


def stack_of(shape, dtype, backwards=None, is_begun=False):
    """A model that gives out the last sequence and the states of every layer.

    `backwards` is the number of a layer; with `is_begun` each begins where the one before ended.
    """
    layers, _, steps, features, units = shape
    source = y = Input((steps, features), dtype=dtype)
    if not is_begun:
        y = Masking(dtype=dtype)(y)
    states = []
    for number in range(layers):
        starts = states[-2:] if is_begun else None
        y, *new = LSTM(
            units,
            return_sequences=True,
            return_state=True,
            bias_initializer="normal",
            go_backwards=number == backwards,
            zero_output_for_mask=number % 2 == 1,
            dtype=dtype,
        )(y, initial_state=starts or None)
        states += new
    return Model(source, [y, *states])


@pytest.mark.parametrize("shape", STACKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("share", [1.0, 0.7])
@pytest.mark.parametrize("backwards", [None, 0, 1])
def test_layers_side_by_side_are_as_one_after_the_other(
    packed_isa, caches, use_threads, shape, dtype, share, backwards
):
    caches((1 << 15, 1 << 24, 1 << 26))
    model = stack_of(shape, dtype, backwards)
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape[1:4]).astype(dtype) * (rng.random((*shape[1:3], 1)) < share)
    use_threads(1, 0)
    want = model(x)
    for threads in [*THREADS, (shape[0], 0)]:
        use_threads(*threads)
        for found, wanted in zip(model.predict(x), want, strict=True):
            np.testing.assert_array_equal(found, wanted, err_msg=f"{threads}")


def test_a_layer_that_begins_where_another_ended_waits_for_it(packed_isa, caches, use_threads):
    caches((1 << 15, 1 << 24, 1 << 26))
    model = stack_of(STACKS[2], "float32", is_begun=True)
    x = np.random.default_rng(0).normal(size=STACKS[2][1:4]).astype("float32")
    use_threads(2, 0)
    for found, wanted in zip(model.predict(x), model(x), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_layers_that_could_be_side_by_side_over_blas(over_blas, set_threads):
    model = stack_of(STACKS[1], "float32")
    x = np.random.default_rng(0).normal(size=STACKS[1][1:4]).astype("float32")
    set_threads(2)
    for found, wanted in zip(model.predict(x), model(x), strict=True):
        np.testing.assert_array_equal(found, wanted)


def rows_of(case, rows):
    arrays = dict(case.arrays)
    for name in ("x", "h0", "c0"):
        arrays[name] = arrays[name][rows]
    options = {**case.options, "training": False}
    if options.get("mask") is not None:
        options["mask"] = options["mask"][rows]
    return case._replace(arrays=arrays, options=options).forward(functional)[:3]


@pytest.fixture
def caches():
    """Sets the sizes of caches that decisions are made by; they are afterwards what they were."""
    before = kernels.caches()
    yield kernels.use_caches
    kernels.use_caches(before)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mask", [None, 0.7])
def test_caches_of_any_size(packed_isa, caches, set_threads, shape, mask):
    case = random_case(shape, np.float32, mask=mask)
    set_threads(2)
    want = run(case)
    for second in (1, 1 << 14, 1 << 17, 1 << 30):
        caches((1 << 10, second, 1 << 30))
        for name, found in run(case).items():
            np.testing.assert_array_equal(found, want[name], err_msg=f"{name}, {second} bytes")


@pytest.mark.parametrize("sizes", [(1, 2), (1, 2, 0), ("a", 1, 2)])
def test_sizes_of_caches_that_cannot_be(sizes):
    with pytest.raises(ValueError, match="FASTLSTM_CACHES must be the bytes of three levels"):
        kernels.use_caches(sizes)


@pytest.mark.parametrize("shape", [(17, 9, 5, 37), (8, 70, 40, 130)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mask", [None, 0.7])
def test_any_place_in_the_batch(packed_isa, shape, dtype, mask):
    case = random_case(shape, dtype, mask=mask)
    want = rows_of(case, slice(None))
    rng = np.random.default_rng(1)
    order = rng.permutation(shape[0])
    for found, whole in zip(rows_of(case, order), want, strict=True):
        np.testing.assert_array_equal(found, whole[order])
    for count in (1, 2, 3, 4, 5, 7):
        for found, whole in zip(rows_of(case, slice(count)), want, strict=True):
            np.testing.assert_array_equal(found, whole[:count], err_msg=f"{count} rows")
    padded = np.concatenate([order, order, order])
    for found, whole in zip(rows_of(case, padded), want, strict=True):
        np.testing.assert_array_equal(found, whole[padded])


def test_sequences_in_parts_with_carried_states(packed_isa):
    case = random_case((3, 50, 20, 33), np.float32)
    y, h, c, _ = case.forward(functional, training=False)
    arrays, parts = dict(case.arrays), []
    for start in range(0, 50, 7):
        arrays["x"] = case.arrays["x"][:, start : start + 7]
        part, arrays["h0"], arrays["c0"], _ = functional.lstm_forward(**arrays)
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), y)
    np.testing.assert_array_equal(arrays["h0"], h)
    np.testing.assert_array_equal(arrays["c0"], c)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_as_if_it_were_not_there(packed_isa, side):
    case = random_case((5, 12, 6, 21), np.float32)
    padding = np.full((5, 4, 6), 7.5, np.float32)
    parts = [padding, case.arrays["x"]] if side == "left" else [case.arrays["x"], padding]
    mask = np.zeros((5, 16), bool)
    mask[:, slice(4, None) if side == "left" else slice(12)] = True
    arrays = {**case.arrays, "x": np.concatenate(parts, axis=1)}
    _, h, c, _ = functional.lstm_forward(**arrays, mask=mask)
    _, h_short, c_short, _ = case.forward(functional, training=False)
    np.testing.assert_array_equal(h, h_short)
    np.testing.assert_array_equal(c, c_short)


@pytest.mark.parametrize("units", [1, 15, 16, 37])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_steps_on_weights_that_are_not_packed(packed_isa, units, dtype):
    case = random_case((1, 20, 7, units), dtype, mask=0.8)
    y, h, c, _ = case.forward(functional)
    arrays = dict(case.arrays)
    for step in range(20):
        arrays["x"] = case.arrays["x"][:, step : step + 1]
        mask = case.options["mask"][:, step : step + 1]
        _, arrays["h0"], arrays["c0"], _ = functional.lstm_forward(**arrays, mask=mask)
        if step and mask[0, 0]:
            np.testing.assert_array_equal(arrays["h0"], y[:, step])
    np.testing.assert_array_equal(arrays["h0"], h)
    np.testing.assert_array_equal(arrays["c0"], c)


# ---- the dense layer -----------------------------------------------------------------------------

# (rows, F, U) with work enough for threads: these share rows; columns; tiles of the weight
# gradient, since it has fewer micro-panels; and dot products, since there are few units.
DENSE_SHAPES = [
    (301, 170, 171),
    (7, 1100, 1101),
    (2600, 1100, 5),
    (2700, 1101, 3),
]
DENSE_NAMES = ("y", "dx", "dkernel", "dbias")


def random_dense(shape, dtype):
    rows, features, units = shape
    rng = np.random.default_rng(shape)
    sizes = {"x": (rows, features), "kernel": (features, units), "bias": units, "dy": (rows, units)}
    return {name: rng.normal(size=size).astype(dtype) for name, size in sizes.items()}


def plan_of(arrays, activation):
    return DensePlan(arrays["kernel"], arrays["bias"], activation)


def run_dense(plan, x, dy):
    y, cache = dense.forward(plan, x, True)
    return dict(zip(DENSE_NAMES, (y, *dense.backward(cache, dy)), strict=True)), cache.path


@pytest.mark.parametrize("shape", DENSE_SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["linear", "gelu", "softmax"])
def test_dense_any_number_of_threads(packed_isa, use_threads, shape, dtype, activation):
    arrays = random_dense(shape, dtype)
    plan = plan_of(arrays, activation)
    dense.forward(plan, np.zeros((8, shape[1]), dtype))  # so that the kernel is packed
    use_threads(1, 0)
    want, path = run_dense(plan, arrays["x"], arrays["dy"])
    assert path == "packed"
    for threads in THREADS:
        use_threads(*threads)
        found, _ = run_dense(plan, arrays["x"], arrays["dy"])
        for name in DENSE_NAMES:
            np.testing.assert_array_equal(found[name], want[name], err_msg=f"{name}, {threads}")


@pytest.mark.parametrize("shape", [*DENSE_SHAPES, (33, 900, 70), (1531, 70, 300)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["linear", "gelu", "softmax"])
def test_dense_any_number_of_threads_over_blas(over_blas, set_threads, shape, dtype, activation):
    arrays = random_dense(shape, dtype)
    plan = plan_of(arrays, activation)
    set_threads(1)
    want, path = run_dense(plan, arrays["x"], arrays["dy"])
    assert path == "blas"
    for count in (2, 3, 5):
        set_threads(count)
        found, _ = run_dense(plan, arrays["x"], arrays["dy"])
        for name in DENSE_NAMES:
            np.testing.assert_array_equal(
                found[name], want[name], err_msg=f"{name}, {count} threads"
            )


@pytest.mark.parametrize("shape", [(303, 40, 130), (300, 9, 37), (301, 600, 3), (40, 1100, 20)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["tanh", "softmax"])
def test_dense_any_place_in_the_batch(packed_isa, shape, dtype, activation):
    arrays = random_dense(shape, dtype)
    plan = plan_of(arrays, activation)
    x, dy = arrays["x"], arrays["dy"]
    want, _ = run_dense(plan, x, dy)
    order = np.random.default_rng(1).permutation(shape[0])
    rows = [order, *(order[:count] for count in (1, 2, 3, 4, 5, 6, 7, 8, 13, 100))]
    for chosen in rows:
        found, _ = run_dense(plan, x[chosen], dy[chosen])
        np.testing.assert_array_equal(found["y"], want["y"][chosen])
        # Few rows read the kernel as it is, and sum dx in another order.
        if len(chosen) >= 8:
            np.testing.assert_array_equal(found["dx"], want["dx"][chosen])


@pytest.mark.parametrize("units", [1, 2, 3, 4, 5, 16, 37, 70])
@pytest.mark.parametrize("features", [7, 600])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["relu", "silu", "softmax"])
def test_dense_packed_or_unpacked_weights(packed_isa, units, features, dtype, activation):
    arrays = random_dense((5, features, units), dtype)
    plan = plan_of(arrays, activation)
    plain, path = run_dense(plan, arrays["x"], arrays["dy"])
    assert path == ("packed" if units <= 4 else "unpacked")
    packed, path = run_dense(plan, arrays["x"], arrays["dy"])
    assert path == "packed"
    for name in DENSE_NAMES:
        np.testing.assert_array_equal(packed[name], plain[name], err_msg=name)
