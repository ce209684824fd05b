"""The compiled LSTM against the reference, and properties that each would catch a real bug."""

import numpy as np
import pytest
from lstm_cases import GRADIENT_NAMES, misaligned, random_case

from fastlstm import functional, reference
from fastlstm._core import lstm
from fastlstm.activations import ELEMENTWISE
from fastlstm.layers import LSTM, Bidirectional, Input
from fastlstm.models import Sequential

NAMES = ("y", "h", "c", *GRADIENT_NAMES)
WEIGHTS = ("kernel", "recurrent_kernel", "bias")

# Around the vector widths 4, 8 and 16: one, width - 1, width, width + 1, 2 width + 3.
UNITS = (1, 2, 3, 4, 5, 7, 8, 9, 11, 15, 16, 17, 19, 35)
TOLERANCE = {
    np.float64: {"rtol": 1e-11, "atol": 1e-12},
    np.float32: {"rtol": 1e-3, "atol": 2e-4},
}


def assert_same(case, dtype):
    y, h, c, cache = case.forward(functional)
    expected = case.forward(reference)
    close = TOLERANCE[dtype]
    for name, got, want in zip("yhc", (y, h, c), expected[:3], strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, err_msg=name, **close)
    gradients = functional.lstm_backward(cache, *case.gradients)
    wanted = reference.lstm_backward(expected[3], *case.gradients)
    for name, got, want in zip(GRADIENT_NAMES, gradients, wanted, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, err_msg=name, **close)
    y_inference, h_inference, c_inference, nothing = case.forward(functional, training=False)
    assert nothing is None
    np.testing.assert_allclose(y_inference, y, **close)
    np.testing.assert_allclose(h_inference, h, **close)
    np.testing.assert_allclose(c_inference, c, **close)


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_equals_reference_at_every_width(core, dtype, units, activation):
    case = random_case((3, 4, 5, units), dtype, activation=activation)
    assert_same(case, dtype)
    assert case.forward(functional)[3].path == f"{core.path(12)} {activation}"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", ELEMENTWISE)
@pytest.mark.parametrize("recurrent_activation", ELEMENTWISE)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 4, 4, 5)])
def test_the_path_of_every_combination(core, dtype, activation, recurrent_activation, shape):
    gates = activation if recurrent_activation == "sigmoid" else "general"
    if activation not in ("tanh", "relu"):
        gates = "general"
    case = random_case(
        shape, dtype, activation=activation, recurrent_activation=recurrent_activation
    )
    assert case.forward(functional)[3].path == f"{core.path(shape[0] * shape[1])} {gates}"


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 7, 3, 5), (2, 3, 1, 1), (9, 3, 2, 6)])
@pytest.mark.parametrize("mask", [None, 0.6])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("zero_output_for_mask", [False, True])
def test_equals_reference_with_options(core, shape, mask, go_backwards, zero_output_for_mask):
    case = random_case(
        shape,
        mask=mask,
        go_backwards=go_backwards,
        zero_output_for_mask=zero_output_for_mask,
    )
    assert_same(case, np.float64)


@pytest.mark.parametrize("activation", ELEMENTWISE)
@pytest.mark.parametrize("recurrent_activation", ELEMENTWISE)
def test_equals_reference_for_every_pair_of_activations(activation, recurrent_activation):
    case = random_case(
        (2, 3, 3, 5), activation=activation, recurrent_activation=recurrent_activation
    )
    # Exponentials of exponentials leave the range of the type.
    for array in case.arrays.values():
        array *= 0.2
    case.arrays["bias"] -= 1
    assert_same(case, np.float64)


@pytest.mark.parametrize("absent", ["bias", "h0", "c0"])
def test_an_absent_argument_is_zeros(absent):
    case = random_case((2, 3, 4, 5))
    zeros = np.zeros_like(case.arrays[absent])
    with_zeros = case._replace(arrays={**case.arrays, absent: zeros})
    without = case._replace(arrays={**case.arrays, absent: None})
    y, h, c, cache = without.forward(functional)
    y0, h0, c0, cache0 = with_zeros.forward(functional)
    np.testing.assert_array_equal(y, y0)
    np.testing.assert_array_equal(h, h0)
    np.testing.assert_array_equal(c, c0)
    for name, got, want in zip(
        GRADIENT_NAMES,
        functional.lstm_backward(cache, *case.gradients),
        functional.lstm_backward(cache0, *case.gradients),
        strict=True,
    ):
        if name == f"d{absent}" == "dbias":
            assert got is None
        else:
            np.testing.assert_array_equal(got, want)


def test_long_inference_goes_block_by_block():
    # 4*H*B*T well beyond BLOCK_ELEMENTS, few and many rows, both directions.
    for shape in [(1, 3001, 3, 33), (70, 61, 2, 33)]:
        for go_backwards in (False, True):
            case = random_case(shape, go_backwards=go_backwards, mask=0.9)
            y, h, c, _ = case.forward(functional, training=False)
            y_ref, h_ref, c_ref, _ = case.forward(reference, training=False)
            np.testing.assert_allclose(y, y_ref, rtol=1e-10, atol=1e-11)
            np.testing.assert_allclose(h, h_ref, rtol=1e-10, atol=1e-11)
            np.testing.assert_allclose(c, c_ref, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("shape", [(0, 3, 2, 4), (3, 0, 2, 4), (0, 0, 2, 4)])
@pytest.mark.parametrize("mask", [None, 0.5])
def test_empty_batches_and_sequences(shape, mask):
    case = random_case(shape, mask=mask)
    y, h, c, cache = case.forward(functional)
    assert y.shape == (shape[0], shape[1], 4)
    np.testing.assert_array_equal(h, case.arrays["h0"])
    np.testing.assert_array_equal(c, case.arrays["c0"])
    dx, dkernel, drecurrent_kernel, dbias, dh0, dc0 = functional.lstm_backward(
        cache, *case.gradients
    )
    assert dx.shape == (shape[0], shape[1], 2)
    assert not dkernel.any()
    assert not drecurrent_kernel.any()
    assert not dbias.any()
    np.testing.assert_array_equal(dh0, case.gradients[1])
    np.testing.assert_array_equal(dc0, case.gradients[2])


def test_no_gradient_in_no_gradient_out():
    case = random_case((3, 4, 2, 5), mask=0.7)
    cache = case.forward(functional)[3]
    dy, dh, dc = (np.zeros_like(g) for g in case.gradients)
    for gradient in functional.lstm_backward(cache, dy, dh, dc) + functional.lstm_backward(cache):
        assert not gradient.any()


def test_backward_twice_is_the_same():
    case = random_case((3, 4, 2, 5), mask=0.7, activation="gelu")
    cache = case.forward(functional)[3]
    first = functional.lstm_backward(cache, *case.gradients)
    second = functional.lstm_backward(cache, *case.gradients)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)


def test_inputs_are_not_written_to():
    case = random_case((3, 4, 2, 5), mask=0.7)
    for array in [*case.arrays.values(), *case.gradients, case.options["mask"]]:
        array.flags.writeable = False
    before = {name: array.copy() for name, array in case.arrays.items()}
    cache = case.forward(functional)[3]
    functional.lstm_backward(cache, *case.gradients)
    for name, array in case.arrays.items():
        np.testing.assert_array_equal(array, before[name])


def test_states_given_to_training_may_be_reused():
    case = random_case((3, 4, 2, 5))
    cache = case.forward(functional)[3]
    wanted = functional.lstm_backward(cache, *case.gradients)
    case.arrays["h0"][:] = 99
    case.arrays["c0"][:] = 99
    for got, want in zip(functional.lstm_backward(cache, *case.gradients), wanted, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("mask", [None, 0.6])
def test_two_runs_with_carried_state_equal_one(mask):
    case = random_case((3, 7, 2, 5), mask=mask)
    y, h, c, _ = case.forward(functional)
    x, mask = case.arrays["x"], case.options.get("mask")
    halves = []
    state = {"h0": case.arrays["h0"], "c0": case.arrays["c0"]}
    for part in (slice(0, 3), slice(3, 7)):
        arrays = {**case.arrays, "x": x[:, part], **state}
        options = {**case.options, "mask": None if mask is None else mask[:, part]}
        y_part, h_part, c_part, _ = functional.lstm_forward(**arrays, **options)
        state = {"h0": h_part, "c0": c_part}
        halves.append(y_part)
    np.testing.assert_allclose(h_part, h, rtol=1e-12)
    np.testing.assert_allclose(c_part, c, rtol=1e-12)
    if mask is None:
        np.testing.assert_allclose(np.concatenate(halves, axis=1), y, rtol=1e-12)


def test_permuting_the_batch_permutes_the_result():
    case = random_case((5, 4, 2, 7), mask=0.7)
    order = np.array([3, 0, 4, 1, 2])
    rows = {name: case.arrays[name][order] for name in ("x", "h0", "c0")}
    permuted = case._replace(
        arrays={**case.arrays, **rows},
        options={**case.options, "mask": case.options["mask"][order]},
    )
    for got, want in zip(
        permuted.forward(functional)[:3], case.forward(functional)[:3], strict=True
    ):
        np.testing.assert_allclose(got, want[order], rtol=1e-12)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mask_equals_shorter_sequences(side):
    case = random_case((4, 6, 2, 5))
    lengths = [6, 1, 4, 0]
    mask = np.array([[t < n for t in range(6)] for n in lengths])
    if side == "left":
        mask = mask[:, ::-1]
    y, h, c, _ = case.forward(functional, mask=mask)
    for b in range(len(lengths)):
        arrays = dict(case.arrays)
        for name in ("x", "h0", "c0"):
            arrays[name] = case.arrays[name][b : b + 1]
        arrays["x"] = arrays["x"][:, mask[b]]
        y_one, h_one, c_one, _ = functional.lstm_forward(**arrays)
        np.testing.assert_allclose(y[b, mask[b]], y_one[0], rtol=1e-12)
        np.testing.assert_allclose(h[b], h_one[0], rtol=1e-12)
        np.testing.assert_allclose(c[b], c_one[0], rtol=1e-12)


@pytest.mark.parametrize("module", [functional, reference])
@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_what_a_masked_step_holds_reaches_nothing(core, module, what, steps, go_backwards):
    # Two steps of three rows are too few to pack weights for.
    case = random_case((3, steps, 3, 5), go_backwards=go_backwards)
    mask = np.arange(steps) % 2 == np.array([[0], [1], [2]])

    def both_passes():
        y, h, c, cache = case.forward(module, mask=mask)
        return dict(
            zip(NAMES, (y, h, c, *module.lstm_backward(cache, *case.gradients)), strict=True)
        )

    wanted = both_passes()
    case.arrays["x"][~mask] = what
    for name, got in both_passes().items():
        np.testing.assert_array_equal(got, wanted[name], err_msg=name)
    assert not wanted["dx"][~mask].any()


@pytest.mark.parametrize("module", [functional, reference])
def test_states_of_rows_without_a_step_reach_no_weight_gradient(core, module):
    case = random_case((3, 4, 3, 5))
    mask = np.array([[True, True, False, True], [False] * 4, [True] * 4])
    wanted = module.lstm_backward(case.forward(module, mask=mask)[3], *case.gradients)
    case.arrays["h0"][1] = np.nan
    case.arrays["c0"][1] = np.nan
    got = module.lstm_backward(case.forward(module, mask=mask)[3], *case.gradients)
    for name, one, two in zip(GRADIENT_NAMES, got, wanted, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=name)


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("zero_output_for_mask", [False, True])
@pytest.mark.parametrize("dtype", [bool, np.uint8])
@pytest.mark.parametrize("module", [functional, reference])
def test_a_mask_may_be_changed_after_the_call(
    core, module, go_backwards, zero_output_for_mask, dtype
):
    case = random_case(
        (3, 4, 2, 5), go_backwards=go_backwards, zero_output_for_mask=zero_output_for_mask
    )
    mask = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]], dtype)
    wanted = module.lstm_backward(case.forward(module, mask=mask.copy())[3], *case.gradients)
    cache = case.forward(module, mask=mask)[3]
    mask[:] = 1 - mask
    got = module.lstm_backward(cache, *case.gradients)
    for name, one, two in zip(GRADIENT_NAMES, got, wanted, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=name)


def denormals_are_numbers():
    # As bits from first to last: where denormals are taken for zero they cannot be made from
    # numbers, and equal it.
    tiny = np.arange(1, 4, dtype=np.uint32)
    return bool(((tiny.view(np.float32) * np.float32(1)).view(np.uint32) == tiny).all())


# Few rows run on plain weights.
@pytest.mark.parametrize("shape", [(2, 3, 2, 4), (2, 4, 2, 4)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_mode_for_denormals_comes_back_after_a_pass(core, shape, dtype):
    case = random_case(shape, dtype)
    cache = case.forward(functional)[3]
    assert denormals_are_numbers()
    functional.lstm_backward(cache, *case.gradients)
    assert denormals_are_numbers()


def test_the_mode_for_denormals_comes_back_after_two_passes_side_by_side():
    model = Sequential([Input((300, 64)), Bidirectional(LSTM(64))])
    model.predict(np.ones((1, 300, 64), np.float32))
    assert denormals_are_numbers()


def test_the_mode_for_denormals_comes_back_after_layers_side_by_side(set_threads):
    set_threads(2)
    layers = [LSTM(64, return_sequences=True), LSTM(64)]
    Sequential([Input((300, 64)), *layers]).predict(np.ones((1, 300, 64), np.float32))
    assert denormals_are_numbers()


def test_the_mode_for_denormals_comes_back_after_activations(isa):
    x = np.arange(1, 7, dtype=np.uint32).reshape(3, 2).view(np.float32)
    assert not functional.activation_forward(x, "tanh").any()
    assert denormals_are_numbers()
    functional.activation_backward(x, x, "tanh")
    assert denormals_are_numbers()


# Few rows run on a plain kernel, unless that is narrow.
@pytest.mark.parametrize(("rows", "units"), [(3, 3), (3, 7), (9, 7)])
def test_the_mode_for_denormals_comes_back_after_dense_layers(core, rows, units):
    x, kernel = np.ones((rows, 2), np.float32), np.ones((2, units), np.float32)
    y, cache = functional.dense_forward(x, kernel, activation="tanh", training=True)
    assert denormals_are_numbers()
    functional.dense_backward(cache, y)
    assert denormals_are_numbers()


# The backward pass goes by blocks of 256 rows, or of 1024 where there are many weights.
@pytest.mark.parametrize("shape", [(3, 301, 2, 5), (5, 211, 9, 509)])
@pytest.mark.parametrize("mask", [None, 0.8])
def test_gradients_over_several_blocks_equal_the_reference(isa, shape, mask):
    case = random_case(shape, mask=mask)
    case.arrays["recurrent_kernel"] *= 0.5
    gradients = functional.lstm_backward(case.forward(functional)[3], *case.gradients)
    wanted = reference.lstm_backward(case.forward(reference)[3], *case.gradients)
    for name, got, want in zip(GRADIENT_NAMES, gradients, wanted, strict=True):
        np.testing.assert_allclose(got, want, err_msg=name, rtol=1e-10, atol=1e-10)


# So many rows are cut into pieces where BLAS computes.
@pytest.mark.parametrize("shape", [(33, 20, 17, 35), (131, 9, 21, 40)])
@pytest.mark.parametrize("mask", [None, 0.7])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_many_rows_equal_the_reference(core, shape, mask, go_backwards):
    case = random_case(shape, mask=mask, go_backwards=go_backwards)
    case.arrays["recurrent_kernel"] *= 0.5
    assert_same(case, np.float64)


def test_input_gradients_after_a_backward_pass_without_them(core):
    case = random_case((3, 4, 7, 5))
    cache = case.forward(functional)[3]
    wanted = functional.lstm_backward(case.forward(functional)[3], *case.gradients)
    nothing, *others = lstm.backward(cache, *case.gradients, wants_dx=False)
    assert nothing is None
    for got in (others, lstm.backward(cache, *case.gradients)[1:]):
        for one, two in zip(got, wanted[1:], strict=True):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(lstm.backward(cache, *case.gradients)[0], wanted[0])


@pytest.mark.parametrize("shape", [(1, 1 << 17, 1, 3), (1 << 17, 1, 1, 3), (512, 256, 1, 3)])
def test_weight_gradients_of_many_rows_are_sums_of_short_sums(core, shape):
    # One running sum would lose a digit or two: it is off by up to 5e-5.
    case = random_case(shape, np.float32)
    for name in ("x", "recurrent_kernel"):
        case.arrays[name] = np.abs(case.arrays[name])
    case.arrays["recurrent_kernel"] *= 0.1
    dy = np.ones(case.gradients[0].shape, np.float32)
    double = case._replace(arrays={n: a.astype(np.float64) for n, a in case.arrays.items()})
    got = functional.lstm_backward(case.forward(functional)[3], dy)[1:4]
    wanted = functional.lstm_backward(double.forward(functional)[3], dy)[1:4]
    for name, one, two in zip(GRADIENT_NAMES[1:4], got, wanted, strict=True):
        worst = np.abs(one / two - 1).max()
        assert worst < 3e-6, name


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_misaligned_arrays_are_copied(core, dtype):
    case = random_case((3, 4, 2, 5), dtype)
    y, h, c, cache = case.forward(functional)
    wanted = y, h, c, *functional.lstm_backward(cache, *case.gradients)
    arrays = {name: misaligned(array) for name, array in case.arrays.items()}
    y, h, c, cache = case._replace(arrays=arrays).forward(functional)
    for array in (cache.x, cache.plan.kernel, cache.plan.recurrent_kernel, cache.plan.bias):
        assert array.flags.aligned
    gradients = functional.lstm_backward(cache, *map(misaligned, case.gradients))
    for name, got, want in zip(NAMES, (y, h, c, *gradients), wanted, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=name)


def test_other_layouts_and_types_are_converted_once():
    case = random_case((3, 4, 2, 5), np.float32)
    want = case.forward(functional)[0]
    x = case.arrays["x"]
    for other in (
        np.asfortranarray(x),
        x.astype(np.float64),
        x[:, ::-1][:, ::-1],
        x.tolist(),
    ):
        got = case._replace(arrays={**case.arrays, "x": other}).forward(functional)[0]
        np.testing.assert_array_equal(got, want)
    integers = case._replace(arrays={**case.arrays, "x": np.arange(24).reshape(3, 4, 2)})
    floats = case._replace(arrays={**case.arrays, "x": np.arange(24.0).reshape(3, 4, 2)})
    np.testing.assert_array_equal(integers.forward(functional)[0], floats.forward(functional)[0])
