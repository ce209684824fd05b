"""What a mask may hold: the same everywhere that one is taken."""

import numpy as np
import pytest

from fastlstm import losses, metrics
from fastlstm.functional import lstm_backward, lstm_forward
from fastlstm.layers import (
    LSTM,
    Bidirectional,
    Concatenate,
    Dense,
    Multiply,
    TimeDistributed,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 3))
Y, P = RNG.uniform(0.1, 0.9, size=(2, 2, 5, 3))
LABELS = RNG.integers(0, 3, size=(2, 5))
MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], bool)
WEIGHTS = [RNG.normal(size=shape) for shape in ((3, 16), (4, 16))]

lstm = LSTM(4, dtype="float64")
both = Bidirectional(LSTM(4, dtype="float64"))
each = TimeDistributed(Dense(2, dtype="float64"))
product, joined = Multiply(dtype="float64"), Concatenate(dtype="float64")
ignoring = losses.SparseCategoricalCrossentropy(ignore_class=1)
counting = metrics.SparseCategoricalCrossentropy(ignore_class=1)


def taken_anew(metric, y, mask):
    metric.reset_state()
    return metric(y, P, mask=mask)


USERS = {
    "lstm_forward": lambda mask: lstm_forward(X, *WEIGHTS, mask=mask)[1],
    "LSTM": lambda mask: lstm(X, mask=mask),
    "Bidirectional": lambda mask: both(X, mask=mask),
    "TimeDistributed": lambda mask: each(X, mask=mask),
    "Multiply": lambda mask: product([X, X], mask=[mask, None]),
    "Concatenate": lambda mask: joined.compute_mask([X, X], mask=[mask, mask]),
    "loss": lambda mask: losses.get("mse")(Y, P, mask=mask),
    "gradient": lambda mask: losses.get("mse").value_and_gradient(Y, P, mask=mask)[1],
    "loss with a mask of its own": lambda mask: ignoring(LABELS, P, mask=mask),
    "metric": lambda mask: taken_anew(metrics.MeanAbsoluteError(), Y, mask),
    "metric with a mask of its own": lambda mask: taken_anew(counting, LABELS, mask),
}
WITHOUT_EFFECT = {"TimeDistributed"}


@pytest.mark.parametrize("use", USERS.values(), ids=USERS)
@pytest.mark.parametrize("kind", [list, "int8", "uint64", "float32", "float64"])
def test_zeros_and_ones_of_any_type_are_a_mask(use, kind):
    mask = MASK.astype(int).tolist() if kind is list else MASK.astype(kind)
    np.testing.assert_array_equal(use(mask), use(MASK))


@pytest.mark.parametrize("name", sorted(USERS.keys() - WITHOUT_EFFECT))
def test_a_mask_matters(name):
    assert np.any(USERS[name](MASK) != USERS[name](np.ones_like(MASK)))


@pytest.mark.parametrize("use", USERS.values(), ids=USERS)
@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (2 * MASK, ValueError, "`mask` must hold booleans, or 0 and 1 only, got 2"),
        (MASK - 1, ValueError, "got -1; compare with a number first"),
        (0.5 * MASK, ValueError, r"got 0\.5"),
        (np.where(MASK, 1.0, np.nan), ValueError, "got nan"),
        (MASK * 1j, TypeError, "`mask` must hold booleans, got an array of dtype complex128"),
        (MASK.astype(str), TypeError, "`mask` must hold booleans, got an array of dtype <U5"),
        (MASK.astype(object), TypeError, "got an array of dtype object"),
        ([[True, False], [True]], ValueError, "`mask` must be a rectangular array"),
    ],
)
def test_anything_else_is_refused_by_name(use, mask, error, message):
    with pytest.raises(error, match=message):
        use(mask)


@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_mask_may_be_written_to_after_the_call(go_backwards):
    def gradients(spoil):
        mask = MASK.copy()
        y, _, _, cache = lstm_forward(
            X, *WEIGHTS, mask=mask, training=True, go_backwards=go_backwards
        )
        if spoil:
            mask[:] = ~mask
        return lstm_backward(cache, dy=np.ones_like(y))

    for found, want in zip(gradients(True), gradients(False), strict=True):
        np.testing.assert_array_equal(found, want)
