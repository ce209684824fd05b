"""Metrics, by Keras 3's names, arguments and numbers: sums kept from batch to batch.

`direction` says whether "up" or "down" is better, for callbacks that watch a metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastlstm import losses
from fastlstm._core.loss_calls import evaluate, metric_sums
from fastlstm._core.losses import NativeLoss
from fastlstm._numbers import real_number
from fastlstm._reduction import expand_over, match_shape, merge_weights, weighted_rows
from fastlstm._registry import Registry, snake_case
from fastlstm.errors import as_real_array, one_of

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CosineSimilarity",
    "FunctionMetric",
    "Huber",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "direction_of",
    "get",
    "resolve",
]


class Metric:
    """The base of all metrics. Subclass it with `update_state`, `result` and `reset_state`.

    Parameters
    ----------
    name : str, optional
        Under what the metric appears in logs.
    dtype : ignored
        Results are kept in double precision.
    """

    direction: str | None = None

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        self.name = name or snake_case(type(self).__name__)

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> None:
        """Take one batch into account.

        Parameters
        ----------
        y_true, y_pred : array_like
            Targets and predictions.
        sample_weight : array_like, optional
            A weight for each value or, with fewer axes, for each sample.
        mask : array_like of bool, optional
            Where False, a value does not count.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `update_state`.")

    def native(self) -> NativeLoss | None:
        """How the core computes this metric; None if Python does."""
        return None

    def result(self) -> float:
        """The metric over all batches since the last `reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `result`.")

    def reset_state(self) -> None:
        """Forget all batches."""
        raise NotImplementedError(f"{type(self).__name__} must implement `reset_state`.")

    def __call__(self, *arguments: Any, **keywords: Any) -> float:
        """`update_state`, then `result`."""
        self.update_state(*arguments, **keywords)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        """The metric that `get_config` describes."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class _RunningMean(Metric):
    """A weighted sum and the sum of the weights."""

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.reset_state()

    def reset_state(self) -> None:
        self._total = 0.0
        self._count = 0.0

    def result(self) -> float:
        return self._total / self._count if self._count else 0.0

    def add(self, total: float, count: float) -> None:
        """Add a weighted sum of values, and the sum of their weights."""
        self._total += total
        self._count += count

    def _add(self, values: np.ndarray, weights: np.ndarray | None) -> None:
        """Add values of shape (B, ...): each sample counts once, by the mean of its values."""
        per_sample = values.size // len(values) if values.ndim and len(values) else 1
        if weights is None:
            self._total += float(values.sum(dtype=np.float64)) / per_sample
            self._count += len(values) if values.ndim else 1
            return
        weights = np.broadcast_to(weights, np.broadcast_shapes(weights.shape, values.shape))
        self._total += float((values * weights).sum(dtype=np.float64)) / per_sample
        self._count += float(weights.sum(dtype=np.float64)) / per_sample


class Mean(_RunningMean):
    """The weighted mean of numbers.

    Examples
    --------
    >>> mean = Mean()
    >>> mean.update_state(1.0, sample_weight=3)
    >>> mean.update_state(5.0)
    >>> mean.result()
    2.0
    """

    def update_state(  # type: ignore[override]
        self, values: Any, sample_weight: Any = None
    ) -> None:
        """Take a number, or an array of them, into account."""
        if type(values) is float and type(sample_weight) in (int, float, type(None)):
            weight = 1.0 if sample_weight is None else sample_weight
            self._total += values * weight
            self._count += weight
            return
        array = as_real_array(values, np.float64, "Mean: `values`")
        if sample_weight is None:
            self._add(array, None)
            return
        weights = as_real_array(sample_weight, np.float64, "Mean: `sample_weight`")
        self._add(array, expand_over(weights, array.shape, "Mean: `sample_weight`"))


class _MeanMetric(_RunningMean):
    """The mean of values that a subclass finds for each sample or position."""

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """One value for each sample or position."""
        raise NotImplementedError

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> None:
        values = np.asarray(self.values(np.asarray(y_true), np.asarray(y_pred)))
        weights = merge_weights(
            sample_weight,
            mask,
            values.shape,
            np.dtype(np.float64),
            type(self).__name__,
            rescale=False,
        )
        self._add(values, weights)


class _CoreMetric(_MeanMetric):
    """A mean of values that the core finds, of which a class below may replace any method."""

    # Whether there is a value for every prediction, not for every row of them.
    _by_element = False
    # Whether no class of the program's own computes otherwise.
    _is_ours = True

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        names = ("update_state", "values", "_matched", "_add", "add")
        owner = next(b for b in cls.__mro__ if any(name in b.__dict__ for name in names))
        cls._is_ours = owner.__module__ == __name__

    def _described(self, reduction: str | None = "sum") -> NativeLoss:
        """As the core computes it, whatever a class below replaces."""
        raise NotImplementedError

    def native(self) -> NativeLoss | None:
        """How the core computes this metric, for `add`; None if a method of a program does."""
        return self._described() if self._is_ours else None

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> None:
        native = self.native()
        if native is None:
            super().update_state(y_true, y_pred, sample_weight, mask)
            return
        found = metric_sums(native, y_true, y_pred, sample_weight, mask)
        if found is None:
            y_true, y_pred = self._matched(y_true, y_pred)
            shape = y_pred.shape if self._by_element else y_pred.shape[:-1]
            rows = weighted_rows(
                y_true, y_pred, shape, sample_weight, mask, None, type(self).__name__
            )
            found = metric_sums(native, *rows.arrays)
        if found is None:
            raise ValueError(f"{type(self).__name__}: the predictions must not be empty.")
        self.add(*found)

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        y_true, y_pred = self._matched(y_true, y_pred)
        if self._by_element:
            y_true, y_pred = y_true[..., None], y_pred[..., None]
        return evaluate(self._described(None), y_true, y_pred, None, None)

    def _matched(self, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
        """Targets and predictions as the core takes them."""
        name = type(self).__name__
        y_pred = self._predictions(y_pred)
        y_true = as_real_array(y_true, y_pred.dtype, f"{name}: the targets")
        return match_shape(np.asarray(y_true), y_pred, name)

    def _predictions(self, y_pred: Any) -> np.ndarray:
        known = getattr(y_pred, "dtype", None)
        dtype = np.float32 if known == np.float32 else np.float64
        what = f"{type(self).__name__}: the predictions"
        return np.asarray(as_real_array(y_pred, dtype, what))


class FunctionMetric(_MeanMetric):
    """The mean of what a function of (y_true, y_pred) returns.

    Examples
    --------
    >>> metric = FunctionMetric(lambda y_true, y_pred: abs(y_true - y_pred), name="gap")
    >>> metric([[1.0], [2.0]], [[1.5], [2.0]])
    0.25
    """

    def __init__(
        self,
        function: Callable[[np.ndarray, np.ndarray], Any],
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name or getattr(function, "__name__", None), dtype)
        self._function = function

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return np.asarray(self._function(y_true, y_pred))


# ---- accuracy ------------------------------------------------------------------------------------


class Accuracy(_MeanMetric):
    """How often predictions equal targets.

    Examples
    --------
    >>> Accuracy()([[1], [2], [3], [4]], [[0], [2], [3], [4]])
    0.75
    """

    direction = "up"

    def values(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        y_true, y_pred = match_shape(y_true, y_pred, type(self).__name__)
        return y_true == y_pred


class BinaryAccuracy(_CoreMetric):
    """How often predictions above `threshold` meet targets of 1, and others targets of 0.

    Examples
    --------
    >>> BinaryAccuracy()([[1], [1], [0], [0]], [[0.98], [0.5], [0.1], [0.6]])
    0.5
    """

    direction = "up"
    _by_element = True

    def __init__(self, name: str | None = None, dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(name, dtype)
        self.threshold = real_number("BinaryAccuracy: `threshold`", threshold)

    def _described(self, reduction: str | None = "sum") -> NativeLoss:
        return NativeLoss("binary_accuracy", reduction, self.threshold, by_element=True)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "threshold": self.threshold}


class CategoricalAccuracy(_CoreMetric):
    """How often the largest prediction is the class of a one-hot target.

    Examples
    --------
    >>> CategoricalAccuracy()([[0, 1], [1, 0]], [[0.1, 0.9], [0.2, 0.8]])
    0.5
    """

    direction = "up"

    def _described(self, reduction: str | None = "sum") -> NativeLoss:
        return NativeLoss("categorical_accuracy", reduction)


def _match_labels(y_true: np.ndarray, y_pred: np.ndarray, who: str) -> np.ndarray:
    """Class numbers in the shape of the predictions without their last axis."""
    labels = y_true[..., 0] if y_true.shape == (*y_pred.shape[:-1], 1) else y_true
    if labels.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"{who}: the targets must have the shape of the predictions without their last axis, "
            f"{y_pred.shape[:-1]}, got {y_true.shape}."
        )
    return labels


class _LabelMetric(_CoreMetric):
    """A metric whose targets are the numbers of classes; what is no number of a class is -1."""

    def _matched(self, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
        y_pred = self._predictions(y_pred)
        labels = np.asarray(y_true)
        if labels.dtype.kind == "f":
            labels = np.where(labels == np.rint(labels), labels, -1)
        labels = _match_labels(labels, y_pred, type(self).__name__)
        return np.require(np.atleast_1d(labels), np.intp, ["C", "A"]), y_pred


class SparseCategoricalAccuracy(_LabelMetric):
    """How often the largest prediction is the class whose number is the target.

    Examples
    --------
    >>> SparseCategoricalAccuracy()([[1], [0]], [[0.1, 0.9], [0.2, 0.8]])
    0.5
    """

    direction = "up"

    def _described(self, reduction: str | None = "sum") -> NativeLoss:
        return NativeLoss("sparse_accuracy", reduction)


class SparseTopKCategoricalAccuracy(_LabelMetric):
    """How often the class whose number is the target has one of the `k` largest predictions.

    A prediction equal to the k-th largest is among them.

    Examples
    --------
    >>> SparseTopKCategoricalAccuracy(k=2)([2, 2], [[0.1, 0.8, 0.4], [0.3, 0.5, 0.2]])
    0.5
    """

    direction = "up"

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.k = int(real_number(f"{type(self).__name__}: `k`", k, low=1))

    def _described(self, reduction: str | None = "sum") -> NativeLoss:
        return NativeLoss("sparse_top_k", reduction, self.k)

    def _matched(self, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
        labels, y_pred = super()._matched(y_true, y_pred)
        classes = y_pred.shape[-1]
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise ValueError(
                f"{type(self).__name__}: class numbers must be from 0 to {classes - 1}, got "
                f"{labels.min()} to {labels.max()}."
            )
        return labels, y_pred

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}


class TopKCategoricalAccuracy(SparseTopKCategoricalAccuracy):
    """How often the class of a one-hot target has one of the `k` largest predictions.

    Examples
    --------
    >>> TopKCategoricalAccuracy(k=2)([[0, 0, 1]], [[0.1, 0.8, 0.4]])
    1.0
    """

    def _described(self, reduction: str | None = "sum") -> NativeLoss:
        return NativeLoss("top_k", reduction, self.k)

    def _matched(self, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
        return _CoreMetric._matched(self, y_true, y_pred)


# ---- losses as metrics ---------------------------------------------------------------------------


class _LossMetric(_CoreMetric):
    """The mean of a loss."""

    direction = "down"
    _LOSS: type[losses.CoreLoss]

    def __init__(self, name: str | None = None, dtype: Any = None, **arguments: Any) -> None:
        super().__init__(name, dtype)
        self._arguments = arguments
        self._loss = self._LOSS(reduction=None, **arguments)

    def _described(self, reduction: str | None = "sum") -> NativeLoss:
        return self._loss._described(reduction)

    def _matched(self, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._loss.in_core(*self._loss._arrays(y_true, y_pred))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._arguments}


class MeanSquaredError(_LossMetric):
    """The mean of `fastlstm.losses.MeanSquaredError`.

    Examples
    --------
    >>> MeanSquaredError()([[0.0, 1.0]], [[1.0, 3.0]])
    2.5
    """

    _LOSS = losses.MeanSquaredError


class MeanAbsoluteError(_LossMetric):
    """The mean of `fastlstm.losses.MeanAbsoluteError`.

    Examples
    --------
    >>> MeanAbsoluteError()([[0.0, 1.0]], [[1.0, 3.0]])
    1.5
    """

    _LOSS = losses.MeanAbsoluteError


class Huber(_LossMetric):
    """The mean of `fastlstm.losses.Huber`, with its argument `delta`."""

    _LOSS = losses.Huber


class LogCoshError(_LossMetric):
    """The mean of `fastlstm.losses.LogCosh`."""

    _LOSS = losses.LogCosh

    def __init__(self, name: str | None = "logcosh", dtype: Any = None) -> None:
        super().__init__(name, dtype)


class BinaryCrossentropy(_LossMetric):
    """The mean of `fastlstm.losses.BinaryCrossentropy`, with its arguments."""

    _LOSS = losses.BinaryCrossentropy


class CategoricalCrossentropy(_LossMetric):
    """The mean of `fastlstm.losses.CategoricalCrossentropy`, with its arguments."""

    _LOSS = losses.CategoricalCrossentropy


class SparseCategoricalCrossentropy(_LossMetric):
    """The mean of `fastlstm.losses.SparseCategoricalCrossentropy`, with its arguments."""

    _LOSS = losses.SparseCategoricalCrossentropy


class KLDivergence(_LossMetric):
    """The mean of `fastlstm.losses.KLDivergence`."""

    _LOSS = losses.KLDivergence


class CosineSimilarity(_LossMetric):
    """The mean cosine of the angle between targets and predictions: 1 where they agree.

    Examples
    --------
    >>> round(CosineSimilarity()([[1.0, 0.0]], [[3.0, 4.0]]), 4)
    0.6
    """

    direction = "up"
    _LOSS = losses.CosineSimilarity

    def result(self) -> float:
        return -super().result() + 0.0


class RootMeanSquaredError(_CoreMetric):
    """The root of the mean squared error over all values.

    Examples
    --------
    >>> RootMeanSquaredError()([[0.0, 1.0]], [[3.0, 5.0]])
    3.5355339059327378
    """

    direction = "down"
    _by_element = True

    def _described(self, reduction: str | None = "sum") -> NativeLoss:
        return NativeLoss("squared", reduction, by_element=True)

    def _matched(self, y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
        return super()._matched(y_true, np.asarray(y_pred, np.float64))

    def result(self) -> float:
        return math.sqrt(super().result())


# ---- area under a curve --------------------------------------------------------------------------


class AUC(Metric):
    """The area under a curve drawn through a fixed number of thresholds.

    Parameters
    ----------
    num_thresholds : int
        Spread evenly over [0, 1]; at least 2.
    curve : "ROC" or "PR"
        True positive rate over false positive rate, or precision over recall.
    summation_method : "interpolation", "minoring" or "majoring"
        How the area between two thresholds is taken. Interpolation of the precision-recall curve
        is that of Davis and Goadrich, 2006.
    name : str, optional
    thresholds : sequence of float, optional
        Instead of `num_thresholds`, the thresholds between 0 and 1.
    from_logits : bool
        Whether the predictions still have to go through a sigmoid.

    Examples
    --------
    >>> AUC(num_thresholds=3)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])
    0.75
    """

    direction = "up"
    _CURVES = ("ROC", "PR")
    _METHODS = ("interpolation", "minoring", "majoring")

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name, dtype)
        if curve not in self._CURVES:
            raise one_of("AUC: `curve`", curve, self._CURVES)
        if summation_method not in self._METHODS:
            raise one_of("AUC: `summation_method`", summation_method, self._METHODS)
        self.curve = curve
        self.summation_method = summation_method
        self.from_logits = bool(from_logits)
        if thresholds is None:
            count = int(real_number("AUC: `num_thresholds`", num_thresholds, low=2))
            inner = [(i + 1) / (count - 1) for i in range(count - 2)]
        else:
            inner = sorted(real_number("AUC: `thresholds`", t, 0.0, 1.0) for t in thresholds)
        self._given_thresholds = None if thresholds is None else inner
        # Predictions of exactly 0 and 1 lie between the outermost two.
        self._thresholds = np.array([-losses.EPSILON, *inner, 1 + losses.EPSILON])
        self.reset_state()

    @property
    def num_thresholds(self) -> int:
        """The number of thresholds, the outermost two among them."""
        return len(self._thresholds)

    def reset_state(self) -> None:
        # The weight of the positives, and of the negatives, between each threshold and the next.
        self._positives = np.zeros(self.num_thresholds)
        self._negatives = np.zeros(self.num_thresholds)

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> None:
        scores = np.asarray(y_pred)
        if scores.dtype.kind != "f":
            scores = as_real_array(scores, np.float64, "AUC: the predictions")
        labels, scores = match_shape(np.asarray(y_true), scores, "AUC")
        if self.from_logits:
            scores = losses._sigmoid(scores)
        weights = merge_weights(
            sample_weight, mask, scores.shape, np.dtype(np.float64), "AUC", rescale=False
        )
        # In the predictions' own precision, so that equality with a threshold means the same.
        thresholds = self._thresholds.astype(scores.dtype)
        below = np.searchsorted(thresholds, np.clip(scores, 0, 1).ravel(), side="left")
        buckets = np.maximum(below - 1, 0)
        flat = np.ones(buckets.shape)
        if weights is not None:
            flat = np.broadcast_to(weights, scores.shape).ravel()
        positive = labels.astype(bool).ravel()
        for sums, chosen in ((self._positives, positive), (self._negatives, ~positive)):
            sums += np.bincount(buckets[chosen], flat[chosen], minlength=self.num_thresholds)

    def result(self) -> float:
        # Above threshold k lies what is in bucket k and all after it.
        true_positives = np.cumsum(self._positives[::-1])[::-1]
        false_positives = np.cumsum(self._negatives[::-1])[::-1]
        recall = _ratio(true_positives, true_positives[0])
        if self.curve == "ROC":
            x, y = _ratio(false_positives, false_positives[0]), recall
        elif self.summation_method == "interpolation":
            return _interpolated_pr_area(true_positives, false_positives)
        else:
            x, y = recall, _ratio(true_positives, true_positives + false_positives)
        heights = {
            "interpolation": lambda: (y[:-1] + y[1:]) / 2,
            "minoring": lambda: np.minimum(y[:-1], y[1:]),
            "majoring": lambda: np.maximum(y[:-1], y[1:]),
        }[self.summation_method]()
        return float(((x[:-1] - x[1:]) * heights).sum())

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "thresholds": self._given_thresholds,
            "from_logits": self.from_logits,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AUC:
        """The metric that `get_config`, here or in Keras, describes."""
        absent = {"multi_label": False, "num_labels": None, "label_weights": None}
        for name, default in absent.items():
            if config.get(name, default) != default:
                raise ValueError(f"AUC: `{name}` is not supported, got {config[name]!r}.")
        return cls(**{key: value for key, value in config.items() if key not in absent})


def _ratio(numerator: np.ndarray, denominator: Any) -> np.ndarray:
    """The quotient, 0 where the denominator is 0."""
    denominator = np.broadcast_to(denominator, numerator.shape)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def _interpolated_pr_area(true_positives: np.ndarray, false_positives: np.ndarray) -> float:
    """Between two thresholds, the true positives are linear in the positives.

    Davis and Goadrich, 2006: with slope s and TP = s P + i, the area over recall is the integral
    of TP / P, which is s (dTP + i log(P_1 / P_2)) / all positives.
    """
    positives = true_positives + false_positives
    slope = _ratio(true_positives[:-1] - true_positives[1:], positives[:-1] - positives[1:])
    intercept = true_positives[1:] - slope * positives[1:]
    quotient = _ratio(positives[:-1], positives[1:])
    logarithm = np.log(np.where(quotient > 0, quotient, 1))
    steps = slope * (true_positives[:-1] - true_positives[1:] + intercept * logarithm)
    return float(_ratio(steps, true_positives[0]).sum())


# ---- by name -------------------------------------------------------------------------------------

_REGISTRY: Registry[Metric] = Registry(
    "metric",
    Metric,
    [
        AUC,
        Accuracy,
        BinaryAccuracy,
        BinaryCrossentropy,
        CategoricalAccuracy,
        CategoricalCrossentropy,
        CosineSimilarity,
        Huber,
        KLDivergence,
        LogCoshError,
        Mean,
        MeanAbsoluteError,
        MeanSquaredError,
        RootMeanSquaredError,
        SparseCategoricalAccuracy,
        SparseCategoricalCrossentropy,
        SparseTopKCategoricalAccuracy,
        TopKCategoricalAccuracy,
    ],
    {
        "BCE": BinaryCrossentropy,
        "KLD": KLDivergence,
        "MAE": MeanAbsoluteError,
        "MSE": MeanSquaredError,
        "RMSE": RootMeanSquaredError,
        "acc": Accuracy,
        "bce": BinaryCrossentropy,
        "kld": KLDivergence,
        "log_cosh": LogCoshError,
        "logcosh": LogCoshError,
        "mae": MeanAbsoluteError,
        "mse": MeanSquaredError,
        "rmse": RootMeanSquaredError,
    },
)

_LOSS_METRICS: dict[type[losses.Loss], type[_LossMetric]] = {
    cls._LOSS: cls
    for cls in (
        BinaryCrossentropy,
        CategoricalCrossentropy,
        CosineSimilarity,
        Huber,
        KLDivergence,
        LogCoshError,
        MeanAbsoluteError,
        MeanSquaredError,
        SparseCategoricalCrossentropy,
    )
}


def get(identifier: Any) -> Metric:
    """The metric that `identifier` stands for.

    Parameters
    ----------
    identifier : str, Metric, its class, a dict saved by Keras, a function of `fastlstm.losses`, or
        any function of (y_true, y_pred). Given a name, the metric is called that.

    Raises
    ------
    ValueError
        For an unknown name. "accuracy" must go through `resolve` to fit the model's outputs.
    TypeError
        For anything else.

    Examples
    --------
    >>> get("mae").name, get(MeanAbsoluteError).name
    ('mae', 'mean_absolute_error')
    """
    if isinstance(identifier, losses.LossFunction):
        return _LOSS_METRICS[identifier.loss_class](name=identifier.__name__)
    if callable(identifier) and not isinstance(identifier, type | Metric):
        return FunctionMetric(identifier)
    metric = _REGISTRY.get(identifier)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric


def resolve(
    identifier: Any, y_true_shape: Sequence[int | None], y_pred_shape: Sequence[int | None]
) -> Metric:
    """`get`, but "accuracy" and "acc" become the accuracy that fits the shapes.

    Binary for predictions with a last axis of 1; sparse for targets with fewer axes, or a last
    axis of 1; categorical otherwise.

    Examples
    --------
    >>> resolve("accuracy", (None, 1), (None, 10))
    <SparseCategoricalAccuracy name=accuracy>
    """
    if not (isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc")):
        return get(identifier)
    if y_pred_shape[-1] == 1:
        return BinaryAccuracy(name=identifier)
    if len(y_true_shape) < len(y_pred_shape) or y_true_shape[-1] == 1:
        return SparseCategoricalAccuracy(name=identifier)
    return CategoricalAccuracy(name=identifier)


def direction_of(name: str) -> str | None:
    """Whether "up" or "down" is better for the metric called `name`; None if nobody knows.

    Examples
    --------
    >>> direction_of("accuracy"), direction_of("mse"), direction_of("gap")
    ('up', 'down', None)
    """
    return _REGISTRY.class_of(name).direction if name in _REGISTRY else None
