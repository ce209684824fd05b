"""The losses and metrics of the core: every kind and type, however arrays and weights come."""

import numpy as np
import pytest

from fastlstm import gradcheck, losses, metrics
from fastlstm._core.loss_calls import evaluate
from fastlstm._core.losses import KINDS

EPSILON = 1e-7
REDUCTIONS = ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight"]


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def binary(t, p):
    p = np.clip(p, EPSILON, 1 - EPSILON)
    return -(t * np.log(p) + (1 - t) * np.log1p(-p)).mean(axis=-1)


def categorical(t, p):
    return -(t * np.log(np.clip(p / p.sum(-1, keepdims=True), EPSILON, 1 - EPSILON))).sum(-1)


def by_logits(t, z):
    return -(t * np.log(softmax(z))).sum(-1)


def hot(labels, n):
    return np.eye(n)[labels]


def huber(e, delta):
    size = np.abs(e)
    return np.where(size <= delta, 0.5 * size**2, delta * size - 0.5 * delta**2).mean(axis=-1)


def kl_divergence(t, p):
    t, p = np.clip(t, EPSILON, 1), np.clip(p, EPSILON, 1)
    return (t * np.log(t / p)).sum(axis=-1)


def cosine(t, p):
    return -(t * p).sum(-1) / np.linalg.norm(t, axis=-1) / np.linalg.norm(p, axis=-1)


# loss, arguments, what targets and predictions are, and the loss of each row by its own formula
CASES = {
    "mse": ("MeanSquaredError", {}, "reals", lambda t, p: ((p - t) ** 2).mean(-1)),
    "mae": ("MeanAbsoluteError", {}, "reals", lambda t, p: np.abs(p - t).mean(-1)),
    "huber": ("Huber", {"delta": 0.7}, "reals", lambda t, p: huber(p - t, 0.7)),
    "log_cosh": ("LogCosh", {}, "reals", lambda t, p: np.log(np.cosh(p - t)).mean(-1)),
    "cosine": ("CosineSimilarity", {}, "reals", cosine),
    "kl": ("KLDivergence", {}, "shares", kl_divergence),
    "bce": ("BinaryCrossentropy", {}, "bits", binary),
    "bce_soft": ("BinaryCrossentropy", {}, "chances", binary),
    "bce_smooth": (
        "BinaryCrossentropy",
        {"label_smoothing": 0.3},
        "bits",
        lambda t, p: binary(0.7 * t + 0.15, p),
    ),
    "bce_logits": (
        "BinaryCrossentropy",
        {"from_logits": True},
        "bits_of_logits",
        lambda t, z: binary(t, sigmoid(z)),
    ),
    "cce": ("CategoricalCrossentropy", {}, "one_hot", categorical),
    "cce_soft": ("CategoricalCrossentropy", {}, "shares", categorical),
    "cce_smooth": (
        "CategoricalCrossentropy",
        {"label_smoothing": 0.3},
        "one_hot",
        lambda t, p: categorical(0.7 * t + 0.3 / t.shape[-1], p),
    ),
    "cce_logits": (
        "CategoricalCrossentropy",
        {"from_logits": True},
        "one_hot_of_logits",
        by_logits,
    ),
    "scce": (
        "SparseCategoricalCrossentropy",
        {},
        "labels",
        lambda t, p: categorical(hot(t, p.shape[-1]), p),
    ),
    "scce_logits": (
        "SparseCategoricalCrossentropy",
        {"from_logits": True},
        "labels_of_logits",
        lambda t, z: by_logits(hot(t, z.shape[-1]), z),
    ),
}
SHAPES = [(1, 1), (5, 1), (3, 7), (2, 3, 1), (4, 3, 5), (3, 2, 33), (2, 65)]


def problem(kind, shape, seed=0):
    """Targets and predictions in double."""
    rng = np.random.default_rng(seed)
    n, rows = shape[-1], shape[:-1]
    z, chances = rng.normal(size=shape), rng.uniform(0.05, 0.95, size=shape)
    labels = rng.integers(0, n, size=rows)
    return {
        "reals": lambda: (rng.normal(size=shape), z),
        "shares": lambda: (rng.uniform(0.05, 0.95, size=shape), chances),
        "bits": lambda: ((rng.random(shape) < 0.5) * 1.0, chances),
        "chances": lambda: (rng.uniform(size=shape), chances),
        "bits_of_logits": lambda: ((rng.random(shape) < 0.5) * 1.0, z),
        "one_hot": lambda: (hot(labels, n), chances),
        "one_hot_of_logits": lambda: (hot(labels, n), z),
        "labels": lambda: (labels, chances),
        "labels_of_logits": lambda: (labels, z),
    }[kind]()


def cast(y, dtype):
    return y if y.dtype.kind == "i" else y.astype(dtype)


def weighings(rows, seed=1):
    """Sample weights and masks of every form over rows of that shape, or None."""
    rng = np.random.default_rng(seed)
    first, full = rows[:1], rows
    yield None, None
    yield rng.uniform(0.5, 2, size=first), None
    yield rng.uniform(0.5, 2, size=(*full, 1)), None
    yield None, rng.random(full) < 0.6
    yield rng.uniform(0.5, 2, size=first), rng.random(full) < 0.6
    yield rng.uniform(0.5, 2, size=full), rng.random(first) < 0.6
    yield np.array([2, 0, 3, 1, 5])[rng.integers(0, 5, size=first)], None
    yield rng.uniform(0.5, 2, size=(1,) * len(rows)), (rng.random(full) < 0.6) * 1.0
    yield rng.uniform(0.5, 2, size=(1, *full[1:])), None
    yield None, np.zeros(full, bool)


class Plain(losses.Loss):
    """The same loss as a class of the program's own, which the core knows nothing of."""

    def __init__(self, each, gradient, reduction):
        super().__init__(reduction)
        self._each, self._gradient = each, gradient

    def call(self, y_true, y_pred):
        return self._each(y_true, y_pred)

    def gradient(self, y_true, y_pred):
        return self._gradient(y_true, y_pred)

    def _targets(self, y_true, dtype):
        return np.asarray(y_true)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients_of_rows(name, shape, isa):
    loss_class, arguments, kind, each = CASES[name]
    y, p = problem(kind, shape)
    if name == "mae" and shape == (1, 1):
        p = p + 1  # away from the kink
    loss = getattr(losses, loss_class)(reduction="sum", **arguments)
    rows = getattr(losses, loss_class)(reduction="none", **arguments)(y, p)
    np.testing.assert_allclose(rows, each(y, p), rtol=2e-6, atol=1e-12)
    assert rows.shape == shape[:-1]
    assert loss(y, p) == pytest.approx(each(y, p).sum(), rel=2e-6, abs=1e-12)
    step = 1e-5 if name in ("mae", "huber") else 1e-4
    gradcheck(lambda p: loss.value_and_gradient(y, p), p, step=step, rtol=5e-6, atol=1e-7)
    value, gradient = loss.value_and_gradient(y, p)
    assert loss(y, p) == value
    narrow, narrow_gradient = loss.value_and_gradient(cast(y, np.float32), p.astype(np.float32))
    assert narrow == pytest.approx(value, rel=2e-6, abs=2e-6)
    assert narrow_gradient.dtype == np.float32
    np.testing.assert_allclose(narrow_gradient, gradient, rtol=5e-5, atol=5e-6)


@pytest.mark.parametrize("name", ["mse", "huber", "bce_soft", "cce", "scce"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(5, 1), (4, 3, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_count_as_in_a_class_of_the_program(name, reduction, shape, dtype):
    loss_class, arguments, kind, _ = CASES[name]
    y, p = problem(kind, shape)
    y, p = cast(y, dtype), p.astype(dtype)
    loss = getattr(losses, loss_class)(reduction=reduction, **arguments)
    plain = Plain(loss.call, loss.gradient, reduction)
    close = 1e-12 if dtype == np.float64 else 2e-6
    for sample_weight, mask in weighings(shape[:-1]):
        want, want_gradient = plain.value_and_gradient(y, p, sample_weight, mask)
        value, gradient = loss.value_and_gradient(y, p, sample_weight, mask)
        assert value == pytest.approx(want, rel=close, abs=close)
        np.testing.assert_allclose(gradient, want_gradient, rtol=5 * close, atol=close / 10)
        assert loss(y, p, sample_weight, mask) == value
        loss.reduction = plain.reduction = None
        rows, want = (one(y, p, sample_weight, mask) for one in (loss, plain))
        np.testing.assert_allclose(rows, want, rtol=5 * close, atol=close)
        loss.reduction = plain.reduction = reduction


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [2.0, [0.5, 1.5, 3.0], [[1.0, 2.0], [0.5, 4.0]]])
def test_weights_of_one_single_loss_add_up(reduction, weight):
    y, p = problem("reals", (5,))
    loss = losses.MeanSquaredError(reduction=reduction)
    plain = Plain(loss.call, loss.gradient, reduction)
    value, gradient = loss.value_and_gradient(y, p, weight)
    want, want_gradient = plain.value_and_gradient(y, p, weight)
    assert value == pytest.approx(want, rel=1e-12)
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-12)
    metric = metrics.MeanSquaredError()
    assert metric(y, p, weight) == pytest.approx(loss.call(y, p), rel=1e-12)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", ["mask", "weight"])
def test_what_a_row_without_weight_holds_reaches_nothing(name, dtype, way):
    loss_class, arguments, kind, _ = CASES[name]
    y, p = problem(kind, (6, 3, 5))
    y, p = cast(y, dtype), p.astype(dtype)
    valid = np.random.default_rng(3).random((6, 3)) < 0.6
    counted = {"mask": valid} if way == "mask" else {"sample_weight": valid * 1.5}
    loss = getattr(losses, loss_class)(**arguments)
    metric = metrics.get(losses.LossFunction(getattr(losses, loss_class), "loss"))
    want, want_gradient = loss.value_and_gradient(y, p, **counted)
    want_metric = metric(y, p, **counted)
    spoilt = np.where(valid[..., None], p, np.nan)
    y = y if y.dtype.kind == "i" else np.where(valid[..., None], y, np.inf).astype(dtype)
    value, gradient = loss.value_and_gradient(y, spoilt, **counted)
    assert value == want
    assert loss(y, spoilt, **counted) == want
    np.testing.assert_array_equal(gradient, want_gradient)
    assert not gradient[~valid].any()
    metric.reset_state()
    assert metric(y, spoilt, **counted) == want_metric
    none = getattr(losses, loss_class)(reduction="none", **arguments)
    assert not none(y, spoilt, **counted)[~valid].any()
    if loss.fused_activation is not None:
        _, dz = loss.value_and_dz(y, spoilt, **counted)
        assert np.isfinite(dz).all()
        assert not dz[~valid].any()
        assert dz[valid].any()


@pytest.mark.parametrize("name", CASES)
def test_no_rows_cost_nothing(name):
    loss_class, arguments, kind, _ = CASES[name]
    loss, metric = (
        getattr(losses, loss_class)(**arguments),
        metrics.get(losses.LossFunction(getattr(losses, loss_class), "loss")),
    )
    for shape in [(0, 5), (0, 3, 5), (3, 0, 5)]:
        y, p = problem(kind, shape)
        for weights in [
            {},
            {"mask": np.ones(shape[:-1], bool)},
            {"sample_weight": np.ones(shape[0])},
        ]:
            value, gradient = loss.value_and_gradient(y, p, **weights)
            assert value == 0
            assert gradient.shape == shape
            metric.update_state(y, p, **weights)
    assert metric.result() == 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_form_that_arrays_come_in_changes_no_bit(name, dtype):
    loss_class, arguments, kind, _ = CASES[name]
    y, p = problem(kind, (4, 3, 5))
    y, p = cast(y, dtype), p.astype(dtype)
    weight, mask = np.arange(1, 5), np.random.default_rng(3).random((4, 3)) < 0.6
    loss = getattr(losses, loss_class)(**arguments)
    want, want_gradient = loss.value_and_gradient(y, p, weight.astype(dtype), mask)
    for other_y, other_p, other_weight, other_mask in [
        (np.asfortranarray(y), np.asfortranarray(p), weight, mask.astype(int)),
        (y[::-1].copy()[::-1], p, weight.tolist(), mask[..., None].tolist()),
        (y.astype(y.dtype.newbyteorder()), p, weight[:, None].astype(float), mask),
        (y if y.ndim == 3 else y[..., None] * 1.0, p, np.float64(weight), mask),
        (y.view(np.memmap), p.view(np.memmap), weight.astype(dtype).view(np.memmap), mask),
    ]:
        value, gradient = loss.value_and_gradient(other_y, other_p, other_weight, other_mask)
        assert value == want
        np.testing.assert_array_equal(gradient, want_gradient)
        assert gradient.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logarithms_are_close_wherever_probabilities_are_kept(dtype, isa):
    rng = np.random.default_rng(0)
    p = np.concatenate(
        [np.exp(rng.uniform(np.log(2e-7), 0, 4000)), 1 - 10 ** rng.uniform(-6, 0, 4000)]
    )
    p = np.clip(p, 2e-7, 1 - 2e-7).astype(dtype)[:, None]
    loss = losses.BinaryCrossentropy(reduction="none")
    wide = p[:, 0].astype(np.longdouble)
    for target, want in [(1, -np.log(wide)), (0, -np.log1p(-wide))]:
        found = loss(np.full(p.shape, target, dtype), p)
        assert np.abs((found - want) / want).max() < 3 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (31,), (32,), (3, 11), (2, 5, 7), (97, 13)])
def test_the_mean_squared_error_by_its_definition(shape, dtype, isa):
    rng = np.random.default_rng(0)
    y, p = (rng.normal(size=shape).astype(dtype) for _ in "yp")
    loss = losses.MeanSquaredError()
    value, gradient = loss.value_and_gradient(y, p)
    np.testing.assert_allclose(value, np.square(p - y, dtype=np.float64).mean(), rtol=1e-12)
    np.testing.assert_array_equal(gradient, (p - y) * dtype(2 / p.size))
    slow, slow_gradient = loss.value_and_gradient(y, p, np.ones(shape[:-1]))
    np.testing.assert_allclose(value, slow, rtol=1e-12)
    np.testing.assert_allclose(gradient, slow_gradient, rtol=1e-6)


def test_a_nan_that_counts_is_seen():
    for loss_class, arguments, kind, _ in CASES.values():
        y, p = problem(kind, (4, 40))
        p[2] = np.nan
        assert np.isnan(getattr(losses, loss_class)(**arguments)(y, p))


REAL, FLOAT = np.ones((4, 3, 5)), np.ones((4, 3, 5), np.float32)


@pytest.mark.parametrize(
    ("name", "y", "p", "weight", "mask"),
    [
        ("mse", FLOAT, REAL, None, None),
        ("mse", REAL.tolist(), REAL, None, None),
        ("mse", REAL, REAL[:, ::-1], None, None),
        ("mse", REAL, REAL.astype(int), None, None),
        ("mse", REAL[0], REAL, None, None),
        ("mse", REAL[:, :, :1], REAL, None, None),
        ("mse", REAL[:, :, 0], REAL, None, None),
        ("mse", np.array(1.0), np.array(1.0), None, None),
        ("mse", REAL[0, 0], REAL[0, 0], np.ones(1), None),
        ("mse", REAL, REAL, np.ones(3), None),
        ("mse", REAL, REAL, np.ones((4, 3, 5)), None),
        ("mse", REAL, REAL, np.ones((4, 3, 1, 1)), None),
        ("mse", REAL, REAL, np.ones(4, int), None),
        ("mse", REAL, REAL, None, np.ones(4, int)),
        ("mse", REAL, REAL, None, np.ones((4, 4), bool)),
        ("categorical_crossentropy", REAL[..., :0], REAL[..., :0].copy(), None, None),
        ("sparse_categorical_crossentropy", np.full((4, 3), 5), REAL, None, None),
        ("sparse_categorical_crossentropy", np.full((4, 3), -1), REAL, None, None),
        ("sparse_categorical_crossentropy", np.ones((4, 3), np.int32), REAL, None, None),
        ("sparse_categorical_crossentropy", np.ones((3, 4), int), REAL, None, None),
        ("sparse_categorical_crossentropy", np.ones((4, 3, 5), int), REAL, None, None),
    ],
)
def test_the_core_leaves_what_does_not_fit(name, y, p, weight, mask):
    assert evaluate(losses.get(name).native(), y, p, weight, mask, gradient=True) is None


@pytest.mark.parametrize("weights", [None, np.ones(2)])
@pytest.mark.parametrize("label", [-1, 3])
def test_numbers_that_are_no_classes_are_refused(label, weights):
    loss = losses.SparseCategoricalCrossentropy()
    low, high = sorted((0, label))
    message = f"numbers must be from 0 to 2, the predictions having 3 classes; got {low} to {high}"
    for use in (loss, loss.value_and_gradient, loss.value_and_dz):
        with pytest.raises(ValueError, match=message):
            use(np.array([0, label]), np.full((2, 3), 1 / 3), weights)
    ignoring = losses.SparseCategoricalCrossentropy(ignore_class=label)
    want = -np.log(np.float64(1) / 3)
    assert ignoring(np.array([0, label]), np.full((2, 3), 1 / 3), weights) == pytest.approx(want)


# ---- how a program is told -----------------------------------------------------------------------


def test_what_losses_tell_of_themselves():
    told = losses.Huber(0.3, reduction="sum").native()
    assert (told.kind, told.parameter, told.fused_kind) == (KINDS["huber"], 0.3, -1)
    told = losses.BinaryCrossentropy(label_smoothing=0.2).native()
    assert told.fused_kind == KINDS["binary_fused"]
    assert told.label_smoothing == 0.2
    told = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1).native()
    assert (told.kind, told.has_ignored, told.ignored) == (KINDS["sparse_logits"], True, -1)
    assert metrics.BinaryAccuracy(threshold=0.3).native().parameter == 0.3
    assert losses.FunctionLoss(losses.mean_squared_error).native() is None
    assert metrics.AUC().native() is metrics.Accuracy().native() is None


@pytest.mark.parametrize(
    "name",
    [
        "__call__",
        "call",
        "elements",
        "value_and_gradient",
        "gradient",
        "element_gradient",
        "match",
        "own_mask",
        "native",
    ],
)
def test_a_loss_with_a_method_of_the_program_is_not_told(name):
    def own(self, *arguments):
        return None

    replaced = type("Replaced", (losses.MeanSquaredError,), {name: own})
    assert replaced().native() is None
    assert type("Below", (replaced,), {})().native() is None
    assert type("Renamed", (losses.MeanSquaredError,), {})().native() is not None


# ---- metrics -------------------------------------------------------------------------------------

SCORES = np.random.default_rng(5).uniform(size=(6, 3, 5))
CLASSES = np.random.default_rng(6).integers(0, 5, size=(6, 3))
BITS = np.random.default_rng(7).integers(0, 2, size=(6, 3, 5))
CHOSEN = np.take_along_axis(SCORES, CLASSES[..., None], -1)
RANKS = (SCORES - CHOSEN > 0).sum(-1)

# metric, targets, and the value of every row or element
METRICS = [
    (metrics.BinaryAccuracy, {"threshold": 0.3}, BITS, (SCORES > 0.3) == BITS),
    (metrics.RootMeanSquaredError, {}, BITS, (SCORES - BITS) ** 2),
    (metrics.CategoricalAccuracy, {}, np.eye(5)[CLASSES], SCORES.argmax(-1) == CLASSES),
    (metrics.SparseCategoricalAccuracy, {}, CLASSES, SCORES.argmax(-1) == CLASSES),
    (
        metrics.SparseCategoricalAccuracy,
        {},
        CLASSES - 0.5 * (CLASSES == 4),
        (SCORES.argmax(-1) == CLASSES) & (CLASSES != 4),
    ),
    (metrics.SparseTopKCategoricalAccuracy, {"k": 2}, CLASSES, RANKS < 2),
    (metrics.TopKCategoricalAccuracy, {"k": 3}, np.eye(5)[CLASSES], RANKS < 3),
    (metrics.MeanAbsoluteError, {}, BITS, np.abs(SCORES - BITS).mean(-1)),
    (
        metrics.CategoricalCrossentropy,
        {"label_smoothing": 0.1},
        np.eye(5)[CLASSES],
        categorical(0.9 * np.eye(5)[CLASSES] + 0.02, SCORES),
    ),
]


@pytest.mark.parametrize(("metric", "arguments", "y", "values"), METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_metrics_are_weighted_means_of_their_values(metric, arguments, y, values, dtype):
    p, y = SCORES.astype(dtype), y.astype(np.intp if y.dtype == CLASSES.dtype else dtype)
    if y.shape == BITS.shape:
        y = y.astype(dtype)
    forms = list(weighings((6, 3)))[:-1]
    if values.ndim == 3:
        forms += [
            (np.random.default_rng(8).uniform(size=values.shape), None),
            (np.arange(6.0), np.random.default_rng(9).random(values.shape) < 0.5),
        ]
    for sample_weight, mask in forms:
        weights = np.ones(values.shape)
        for each in (sample_weight, mask):
            if each is not None:
                each = np.asarray(each, float)
                each = each[..., 0] if each.ndim > values.ndim else each
                weights = weights * each.reshape(each.shape + (1,) * (values.ndim - each.ndim))
        want = (values * weights).sum() / weights.sum()
        found = metric(**arguments)
        if isinstance(found, metrics.RootMeanSquaredError):
            want = np.sqrt(want)
        assert found(y, p, sample_weight, mask) == pytest.approx(want, rel=2e-6)
        again = metric(**arguments)
        again.update_state(y.tolist(), p[:, ::-1][:, ::-1], sample_weight, mask)
        assert again.result() == pytest.approx(found.result(), rel=1e-6)
    np.testing.assert_allclose(metric(**arguments).values(y, p), values, rtol=2e-6, atol=1e-6)


def test_a_metric_heeds_what_a_subclass_replaces():
    class Far(metrics.MeanAbsoluteError):
        def values(self, y_true, y_pred):
            return super().values(y_true, y_pred) > 0.5

    y, p = SCORES[:, :, ::-1].copy(), SCORES
    assert Far().native() is None
    assert Far()(y, p) == pytest.approx((np.abs(y - p).mean(-1) > 0.5).mean())
    assert metrics.MeanAbsoluteError().native() is not None


@pytest.mark.parametrize("label", [-1, 5])
def test_top_k_refuses_numbers_that_are_no_classes(label):
    metric = metrics.SparseTopKCategoricalAccuracy(k=2)
    with pytest.raises(ValueError, match="class numbers must be from 0 to 4"):
        metric.update_state(np.full((6, 3), label), SCORES)
    assert metric.result() == 0
