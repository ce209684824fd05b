"""Losses against plain formulas, their gradients against central differences, weights and masks."""

import pickle

import numpy as np
import pytest

from fastlstm import gradcheck, losses

RNG = np.random.default_rng(0)
P = RNG.uniform(0.05, 0.95, size=(4, 3, 5))
SHARES = P / P.sum(axis=-1, keepdims=True)
Y = RNG.uniform(0.05, 0.95, size=(4, 3, 5))
LABELS = RNG.integers(0, 5, size=(4, 3))
ONE_HOT = np.eye(5)[LABELS]
BITS = (RNG.random((4, 3, 5)) < 0.5) * 1.0
LOGITS = RNG.normal(size=(4, 3, 5))
MASK = RNG.random((4, 3)) < 0.6


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def binary(y, p):
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(axis=-1)


def huber(error, delta):
    size = np.abs(error)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)).mean(axis=-1)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# name, arguments, targets, predictions, and the loss of each sample by its own formula
CASES = [
    ("MeanSquaredError", {}, Y, P, ((P - Y) ** 2).mean(axis=-1)),
    ("MeanAbsoluteError", {}, Y, P, np.abs(P - Y).mean(axis=-1)),
    ("Huber", {"delta": 0.2}, Y, P, huber(P - Y, 0.2)),
    ("Huber", {}, Y, 3 * P, huber(3 * P - Y, 1.0)),
    ("LogCosh", {}, Y, P, np.log(np.cosh(P - Y)).mean(axis=-1)),
    ("BinaryCrossentropy", {}, BITS, P, binary(BITS, P)),
    ("BinaryCrossentropy", {"from_logits": True}, BITS, LOGITS, binary(BITS, sigmoid(LOGITS))),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, BITS, P, binary(0.9 * BITS + 0.05, P)),
    ("CategoricalCrossentropy", {}, ONE_HOT, P, -(ONE_HOT * np.log(SHARES)).sum(axis=-1)),
    (
        "CategoricalCrossentropy",
        {"from_logits": True},
        ONE_HOT,
        LOGITS,
        -(ONE_HOT * np.log(softmax(LOGITS))).sum(axis=-1),
    ),
    (
        "CategoricalCrossentropy",
        {"label_smoothing": 0.2},
        ONE_HOT,
        SHARES,
        -((0.8 * ONE_HOT + 0.04) * np.log(SHARES)).sum(axis=-1),
    ),
    (
        "SparseCategoricalCrossentropy",
        {},
        LABELS,
        SHARES,
        -np.log(np.take_along_axis(SHARES, LABELS[..., None], -1))[..., 0],
    ),
    (
        "SparseCategoricalCrossentropy",
        {"from_logits": True},
        LABELS,
        LOGITS,
        -np.log(np.take_along_axis(softmax(LOGITS), LABELS[..., None], -1))[..., 0],
    ),
    ("CosineSimilarity", {}, Y, P, -(unit(Y) * unit(P)).sum(axis=-1)),
    ("KLDivergence", {}, Y, P, (Y * np.log(Y / P)).sum(axis=-1)),
]
IDS = [f"{name}-{'-'.join(arguments)}" for name, arguments, *_ in CASES]


@pytest.mark.parametrize(("name", "arguments", "y", "p", "each"), CASES, ids=IDS)
def test_values(name, arguments, y, p, each):
    loss = getattr(losses, name)
    whole = loss(**arguments)
    assert whole(y, p) == pytest.approx(each.mean(), rel=1e-6)
    np.testing.assert_allclose(loss(reduction=None, **arguments)(y, p), each, rtol=1e-6)
    assert loss(reduction="sum", **arguments)(y, p) == pytest.approx(each.sum(), rel=1e-6)
    by_row, by_step = np.arange(1.0, 5.0), RNG.uniform(0.5, 2, size=(4, 3))
    assert whole(y, p, sample_weight=by_row) == pytest.approx((each * by_row[:, None]).mean())
    assert whole(y, p, sample_weight=by_step) == pytest.approx((each * by_step).mean())
    # A mask takes the mean over the steps that count.
    assert whole(y, p, mask=MASK) == pytest.approx(each[MASK].mean(), rel=1e-6)
    both = whole(y, p, sample_weight=by_step, mask=MASK)
    assert both == pytest.approx((each * by_step)[MASK].sum() / MASK.sum(), rel=1e-6)


@pytest.mark.parametrize(("name", "arguments", "y", "p", "each"), CASES, ids=IDS)
@pytest.mark.parametrize("weight", [None, RNG.uniform(0.5, 2, size=(4, 3))], ids=["", "weighted"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["", "masked"])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
def test_gradients(name, arguments, y, p, each, weight, mask, reduction):
    loss = getattr(losses, name)(reduction=reduction, **arguments)
    gradcheck(
        lambda p: loss.value_and_gradient(y, p, sample_weight=weight, mask=mask),
        p,
        step=1e-4,
        rtol=5e-6,
        atol=1e-8,
    )
    value, _ = loss.value_and_gradient(y, p, sample_weight=weight, mask=mask)
    assert value == pytest.approx(loss(y, p, sample_weight=weight, mask=mask), rel=1e-12)


def test_ignored_class():
    loss = losses.SparseCategoricalCrossentropy(ignore_class=2)
    each = -np.log(np.take_along_axis(SHARES, LABELS[..., None], -1))[..., 0]
    assert loss(LABELS, SHARES) == pytest.approx(each[LABELS != 2].mean(), rel=1e-6)
    _, gradient = loss.value_and_gradient(LABELS, SHARES)
    assert not gradient[LABELS == 2].any()
    assert gradient[LABELS != 2].any(axis=-1).all()


@pytest.mark.parametrize("name", ["mse", "binary_crossentropy"])
def test_targets_without_the_last_axis(name):
    loss, p = losses.get(name), P[:, 0, :1]
    bits = BITS[:, 0, 0]
    assert loss(bits, p) == pytest.approx(loss(bits[:, None], p), rel=1e-12)
    assert loss.value_and_gradient(bits, p)[1].shape == p.shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_has_the_type_of_the_predictions(dtype):
    for name, arguments, y, p, _ in CASES:
        _, gradient = getattr(losses, name)(**arguments).value_and_gradient(y, p.astype(dtype))
        assert gradient.dtype == dtype
        assert gradient.shape == p.shape


def test_certainty_stays_finite():
    sure = np.array([[0.0, 1.0]])
    for name in ("binary_crossentropy", "categorical_crossentropy"):
        value, gradient = losses.get(name).value_and_gradient(np.array([[1.0, 0.0]]), sure)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    far = np.array([[800.0, -800.0]])
    loss = losses.BinaryCrossentropy(from_logits=True)
    assert loss(np.array([[0.0, 1.0]]), far) == pytest.approx(800)


def test_steps_all_masked_cost_nothing():
    value, gradient = losses.get("mse").value_and_gradient(Y, P, mask=np.zeros((4, 3), bool))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("mse", losses.MeanSquaredError),
        ("mean_squared_error", losses.MeanSquaredError),
        ("MSE", losses.MeanSquaredError),
        ("mae", losses.MeanAbsoluteError),
        ("huber", losses.Huber),
        ("log_cosh", losses.LogCosh),
        ("binary_crossentropy", losses.BinaryCrossentropy),
        ("categorical_crossentropy", losses.CategoricalCrossentropy),
        ("sparse_categorical_crossentropy", losses.SparseCategoricalCrossentropy),
        ("cosine_similarity", losses.CosineSimilarity),
        ("kl_divergence", losses.KLDivergence),
    ],
)
def test_names(name, cls):
    assert type(losses.get(name)) is cls


@pytest.mark.parametrize(("name", "arguments", "y", "p", "each"), CASES, ids=IDS)
def test_configs_and_pickles(name, arguments, y, p, each):
    loss = getattr(losses, name)(**arguments)
    for again in (type(loss).from_config(loss.get_config()), pickle.loads(pickle.dumps(loss))):
        assert again(y, p) == loss(y, p)


def test_functions_evaluate_but_do_not_train():
    def quartic(y_true, y_pred):
        return ((y_pred - y_true) ** 4).mean(axis=-1)

    loss = losses.get(quartic)
    assert loss(Y, P) == pytest.approx(((P - Y) ** 4).mean())
    with pytest.raises(TypeError, match="gradient"):
        loss.value_and_gradient(Y, P)


class Quartic(losses.Loss):
    def call(self, y_true, y_pred):
        return ((y_pred - y_true) ** 4).mean(axis=-1)

    def gradient(self, y_true, y_pred):
        return 4 * (y_pred - y_true) ** 3 / y_pred.shape[-1]


def test_own_losses_train():
    gradcheck(lambda p: Quartic().value_and_gradient(Y, p, mask=MASK), P, atol=1e-8)
    each = ((P - Y) ** 4).mean(axis=-1)
    assert Quartic()(Y, P, mask=MASK) == pytest.approx(each[MASK].mean(), rel=1e-12)


class Pinball(losses.MeanSquaredError):
    """Replaces what every element costs, and the derivative."""

    def elements(self, y_true, y_pred):
        return np.maximum(0.9 * (y_true - y_pred), 0.1 * (y_pred - y_true))

    def element_gradient(self, y_true, y_pred):
        return np.where(y_true > y_pred, -0.9, 0.1)


class Weighted(losses.MeanSquaredError):
    """Replaces what every sample costs, and the derivative."""

    def call(self, y_true, y_pred):
        return 3 * super().call(y_true, y_pred)

    def gradient(self, y_true, y_pred):
        return 3 * super().gradient(y_true, y_pred)


class Positive(losses.MeanSquaredError):
    """Replaces which samples count; the derivative follows."""

    def own_mask(self, y_true):
        return y_true[..., 0] > 0.5


class Flat(losses.CategoricalCrossentropy):
    """Replaces what targets are compared with; the derivative follows."""

    def match(self, y_true, y_pred):
        y_true, y_pred = super().match(y_true, y_pred)
        return 0.5 * y_true + 0.1, y_pred


@pytest.mark.parametrize("loss_class", [Pinball, Weighted, Positive, Flat])
@pytest.mark.parametrize("weights", [None, RNG.uniform(0.5, 2, size=(4, 3))])
def test_training_heeds_what_a_subclass_replaces(loss_class, weights):
    loss = loss_class()
    value, gradient = loss.value_and_gradient(Y, P, weights)
    assert value == pytest.approx(loss(Y, P, weights), rel=1e-12)
    gradcheck(lambda p: loss.value_and_gradient(Y, p, weights), P, atol=1e-8)
    plain = loss_class.__mro__[1]().value_and_gradient(Y, P, weights)
    assert abs(plain[0] - value) > 1e-3
    assert np.abs(plain[1] - gradient).max() > 1e-3


def test_a_subclass_may_replace_the_gradient_alone():
    class Clipped(losses.MeanSquaredError):
        def gradient(self, y_true, y_pred):
            return np.clip(super().gradient(y_true, y_pred), -0.05, 0.05)

    value, gradient = Clipped().value_and_gradient(Y, P)
    plain, unclipped = losses.MeanSquaredError().value_and_gradient(Y, P)
    assert value == pytest.approx(plain, rel=1e-12)
    np.testing.assert_allclose(gradient, np.clip(unclipped, -0.05 / 12, 0.05 / 12), rtol=1e-12)


@pytest.mark.parametrize("name", ["__call__", "call", "elements"])
@pytest.mark.parametrize("base", [losses.MeanSquaredError, losses.BinaryCrossentropy, Weighted])
def test_a_value_replaced_without_its_gradient_is_refused_in_training(base, name):
    def doubled(self, *arguments, **keywords):
        return 2 * getattr(base, name)(self, *arguments, **keywords)

    loss = type("Doubled", (type("Between", (base,), {name: doubled}),), {})()
    assert loss(Y, P) == pytest.approx(2 * base()(Y, P))
    with pytest.raises(TypeError, match=f"'doubled'.*`{name}` of Between was replaced.*`gradient`"):
        loss.value_and_gradient(Y, P)


def test_a_value_without_any_gradient_is_refused_in_training():
    class Quintic(losses.Loss):
        def call(self, y_true, y_pred):
            return ((y_pred - y_true) ** 5).mean(axis=-1)

    with pytest.raises(TypeError, match="'quintic' has no gradient"):
        Quintic().value_and_gradient(Y, P)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: losses.get("msee"), ValueError, "Did you mean"),
        (lambda: losses.get(3), (TypeError, ValueError), "3"),
        (lambda: losses.get("mse")(np.ones((4, 3)), np.ones((4, 2))), ValueError, r"\(4, 2\)"),
        (lambda: losses.get("mse")(np.full((2, 2), "a"), np.ones((2, 2))), TypeError, "real"),
        (
            lambda: losses.get("sparse_categorical_crossentropy")([5], np.ones((1, 5)) / 5),
            ValueError,
            "5",
        ),
        (lambda: losses.Huber(delta="a"), TypeError, "delta"),
        (lambda: losses.BinaryCrossentropy(label_smoothing=2), ValueError, "label_smoothing"),
        (lambda: losses.MeanSquaredError(reduction="all"), ValueError, "reduction"),
    ],
)
def test_errors(use, error, message):
    with pytest.raises(error, match=message):
        use()


# name, arguments, targets, and what makes probabilities of logits
FUSED = [
    ("CategoricalCrossentropy", {}, ONE_HOT, softmax),
    ("CategoricalCrossentropy", {"label_smoothing": 0.2}, ONE_HOT, softmax),
    ("CategoricalCrossentropy", {}, Y, softmax),  # which do not add up to 1
    ("CategoricalCrossentropy", {"label_smoothing": 0.1}, Y, softmax),
    ("SparseCategoricalCrossentropy", {}, LABELS, softmax),
    ("SparseCategoricalCrossentropy", {}, LABELS[..., None] * 1.0, softmax),
    ("SparseCategoricalCrossentropy", {"ignore_class": 2}, LABELS, softmax),
    ("SparseCategoricalCrossentropy", {"ignore_class": -1}, LABELS - (LABELS == 0), softmax),
    ("BinaryCrossentropy", {}, BITS, sigmoid),
    ("BinaryCrossentropy", {}, Y, sigmoid),
    ("BinaryCrossentropy", {"label_smoothing": 0.1}, BITS, sigmoid),
]
FUSED_IDS = [f"{name}-{'-'.join(arguments)}-{k}" for k, (name, arguments, *_) in enumerate(FUSED)]


@pytest.mark.parametrize(("name", "arguments", "y", "activation"), FUSED, ids=FUSED_IDS)
@pytest.mark.parametrize(
    "weight", [None, RNG.uniform(0.5, 2, size=(4, 3)), np.arange(4.0)], ids=["", "steps", "rows"]
)
@pytest.mark.parametrize("mask", [None, MASK], ids=["", "masked"])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_dz_is_the_gradient_before_the_activation(
    name, arguments, y, activation, weight, mask, reduction
):
    loss = getattr(losses, name)(reduction=reduction, **arguments)
    assert loss.fused_activation == activation.__name__
    counted = {"sample_weight": weight, "mask": mask}
    p = activation(LOGITS)
    value, dz = loss.value_and_dz(y, p, **counted)
    assert value == pytest.approx(loss(y, p, **counted), rel=1e-12)
    gradcheck(
        lambda z: (loss(y, activation(z), **counted), dz), LOGITS, step=1e-4, rtol=5e-6, atol=1e-8
    )
    logits = getattr(losses, name)(reduction=reduction, from_logits=True, **arguments)
    _, want = logits.value_and_gradient(y, LOGITS, **counted)
    np.testing.assert_allclose(dz, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("name", "arguments", "y", "activation"), FUSED, ids=FUSED_IDS)
def test_dz_in_the_types_that_predictions_and_losses_have(name, arguments, y, activation, isa):
    p = activation(LOGITS)
    want_value, want = getattr(losses, name)(**arguments).value_and_dz(y, p)
    loss = getattr(losses, name)(**arguments)
    value, dz = loss.value_and_dz(y, p.astype(np.float32))
    assert value == pytest.approx(want_value, rel=1e-6)
    assert dz.dtype == np.float32
    np.testing.assert_allclose(dz, want, rtol=1e-5, atol=1e-8)
    fine = getattr(losses, name)(dtype="float64", **arguments)
    _, rounded = fine.value_and_dz(y, p.astype(np.float32))
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, want, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 16, 17, 33, 100])
def test_dz_of_any_number_of_classes(classes, isa):
    rng = np.random.default_rng(classes)
    p = softmax(rng.normal(size=(5, classes)))
    labels = rng.integers(0, classes, size=5)
    hot = np.eye(classes)[labels]
    value, dz = losses.CategoricalCrossentropy().value_and_dz(hot, p)
    np.testing.assert_allclose(dz, (p - hot) / 5, rtol=1e-13, atol=1e-17)
    again, same = losses.SparseCategoricalCrossentropy().value_and_dz(labels, p)
    assert again == value
    np.testing.assert_array_equal(same, dz)
    bits = (rng.random((5, classes)) < 0.5) * 1.0
    _, dz = losses.BinaryCrossentropy().value_and_dz(bits, p)
    np.testing.assert_allclose(dz, (p - bits) / (5 * classes), rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("name", "y"),
    [
        ("BinaryCrossentropy", [[1.0, 0.0, 1.0]]),
        ("CategoricalCrossentropy", [[1.0, 0.0, 0.0]]),
        ("SparseCategoricalCrossentropy", [0]),
    ],
)
def test_dz_of_who_is_sure_and_wrong_is_not_lost(name, y, dtype):
    sure = np.array([[1e-9, 1.0, 0.0]], dtype)
    loss = getattr(losses, name)(reduction="sum")
    value, gradient = loss.value_and_gradient(np.array(y), sure)
    assert gradient[0, 0] == 0
    same, dz = loss.value_and_dz(np.array(y), sure)
    assert same == pytest.approx(value, rel=1e-6)
    target = np.array(y) if np.ndim(y) == 2 else np.eye(3)[y]
    share = 3 if name == "BinaryCrossentropy" else 1
    np.testing.assert_allclose(dz, (sure - target) / share, rtol=1e-6)


@pytest.mark.parametrize(("name", "arguments", "y", "activation"), FUSED, ids=FUSED_IDS)
def test_what_is_masked_may_be_anything(name, arguments, y, activation):
    p = activation(LOGITS)
    loss = getattr(losses, name)(**arguments)
    want, want_dz = loss.value_and_dz(y, p, mask=MASK)
    value, dz = loss.value_and_dz(y, np.where(MASK[..., None], p, np.nan), mask=MASK)
    assert value == want
    np.testing.assert_array_equal(dz, want_dz)
    assert not dz[~MASK].any()
    value, dz = loss.value_and_dz(y, p, mask=np.zeros_like(MASK))
    assert value == 0
    assert not dz.any()


def test_dz_of_arrays_in_any_layout():
    p, flipped = softmax(LOGITS), LOGITS[::-1, :, ::-1]
    dense, sparse = losses.CategoricalCrossentropy(), losses.SparseCategoricalCrossentropy()
    for loss, y, q in [
        (dense, ONE_HOT[::-1], softmax(flipped)),
        (sparse, LABELS.T.copy().T, np.asfortranarray(p)),
        (sparse, LABELS[::-1].astype(np.int8), p[:, ::-1]),
    ]:
        value, dz = loss.value_and_dz(y, q)
        want_value, want = loss.value_and_dz(np.array(y, order="C"), np.array(q, float, order="C"))
        assert value == want_value
        np.testing.assert_array_equal(dz, want)


class Renamed(losses.BinaryCrossentropy):
    """Replaces nothing."""


class Doubled(losses.CategoricalCrossentropy):
    """Replaces value and gradient."""

    def call(self, y_true, y_pred):
        return 2 * super().call(y_true, y_pred)

    def gradient(self, y_true, y_pred):
        return 2 * super().gradient(y_true, y_pred)


class Steeper(losses.BinaryCrossentropy):
    """Replaces the gradient alone."""

    def element_gradient(self, y_true, y_pred):
        return 2 * super().element_gradient(y_true, y_pred)


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        (Renamed(), "sigmoid"),
        (Flat(), "softmax"),
        (Doubled(), None),
        (Steeper(), None),
        (type("Below", (Steeper,), {})(), None),
        (losses.BinaryCrossentropy(from_logits=True), None),
        (losses.SparseCategoricalCrossentropy(from_logits=True), None),
        (losses.MeanSquaredError(), None),
        (losses.FunctionLoss(losses.binary_crossentropy), None),
        (Quartic(), None),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_which_losses_know_dz(loss, activation):
    assert loss.fused_activation == activation


def test_dz_heeds_how_a_subclass_matches():
    value, dz = Flat().value_and_dz(ONE_HOT, softmax(LOGITS))
    plain = losses.CategoricalCrossentropy()
    want_value, want = plain.value_and_dz(0.5 * ONE_HOT + 0.1, softmax(LOGITS))
    assert value == want_value
    np.testing.assert_array_equal(dz, want)


def test_dz_needs_a_reduction():
    with pytest.raises(ValueError, match="`reduction`"):
        losses.BinaryCrossentropy(reduction="none").value_and_dz(BITS, P)
    with pytest.raises(NotImplementedError, match="MeanSquaredError"):
        losses.MeanSquaredError().value_and_dz(Y, P)
