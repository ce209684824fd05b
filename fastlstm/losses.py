"""Losses, by Keras 3's names, arguments and numbers, with their gradients.

A loss computes in the dtype of the predictions. A sample's loss is one number for each position
of ``y_pred.shape[:-1]``; `sample_weight`, the mask and the reduction act on those.

The cross-entropies keep probabilities 1e-7 away from 0 and 1 in their values, as Keras's do, and
their gradients by probabilities beyond that are 0. Where the last layer of a model makes the
probabilities by a softmax or sigmoid, training takes the gradient of what that is applied to, and
there it is the one of the plain formula everywhere: a model that is sure and wrong goes on
learning. Keras on TensorFlow does the same, looking for the logits behind probabilities; on its
other backends such a model gets 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastlstm import config
from fastlstm._core.loss_calls import evaluate
from fastlstm._core.losses import NativeLoss
from fastlstm._numbers import real_number
from fastlstm._reduction import match_rank, match_shape, merge_weights, weighted_rows
from fastlstm._registry import Registry, snake_case
from fastlstm.errors import as_mask, as_real_array, one_of

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CosineSimilarity",
    "FunctionLoss",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "cosine_similarity",
    "get",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_squared_error",
    "sparse_categorical_crossentropy",
]

# Keras's `epsilon`: probabilities are kept this far from 0 and 1 before a logarithm.
EPSILON = 1e-7

REDUCTIONS = ("sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none")

Arrays = tuple[np.ndarray, np.ndarray]

# What says how large a loss is, and what is derived from it.
_VALUE = ("__call__", "call", "elements")
_DERIVATIVE = ("value_and_gradient", "gradient", "element_gradient")
# What brings arguments to the form that these work on.
_PREPARATION = ("match", "own_mask", "_arrays", "_targets", "_weights", "_divisor")


class Loss:
    """The base of all losses. Subclass it with `call` and, to train, `gradient`.

    Parameters
    ----------
    reduction : str or None
        "sum_over_batch_size" or "mean": the sum of the weighted losses over their number;
        "sum"; "mean_with_sample_weight": over the sum of the weights; "none" or None: no reduction,
        for calling the loss only.
    name : str, optional
    dtype : "float32", "float64" or None
        What to compute in; None is the dtype of the predictions.

    Examples
    --------
    >>> import numpy as np
    >>> class Quartic(Loss):
    ...     def call(self, y_true, y_pred):
    ...         return ((y_pred - y_true) ** 4).mean(axis=-1)
    ...     def gradient(self, y_true, y_pred):
    ...         return 4 * (y_pred - y_true) ** 3 / y_pred.shape[-1]
    >>> value, dy = Quartic().value_and_gradient(np.array([[1.0]]), np.array([[3.0]]))
    >>> value, dy.tolist()
    (16.0, [[32.0]])
    """

    # The method that a class has replaced without its derivative, and which class that is.
    _without_derivative: str | None = None
    # Whether no class of the program's own computes otherwise; and neither prepares otherwise.
    _is_ours = _is_plain = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._without_derivative = _value_without_derivative(cls)
        cls._is_ours = not _is_replaced(cls, (*_VALUE, *_DERIVATIVE, "value_and_dz"))
        cls._is_plain = cls._is_ours and not _is_replaced(cls, (*_PREPARATION, "native"))

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        class_name = type(self).__name__
        if reduction is not None and reduction not in REDUCTIONS:
            raise one_of(f"{class_name}: `reduction`", reduction, REDUCTIONS)
        self.reduction = reduction
        self.name = name or snake_case(class_name)
        self.dtype = None if dtype is None else config.real_dtype_name(dtype, class_name)

    # ---- to implement ------------------------------------------------------------------------

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """The loss of every sample, of shape ``y_pred.shape[:-1]``."""
        raise NotImplementedError(f"{type(self).__name__} must implement `call`.")

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """The derivative of a sample's loss by each of its predictions: the shape of `y_pred`."""
        raise self._no_gradient("has no gradient")

    def _no_gradient(self, reason: str) -> TypeError:
        return TypeError(
            f"The loss {self.name!r} {reason}, so a model cannot be trained with it: "
            f"subclass fastlstm.losses.Loss with `call` and `gradient`."
        )

    def match(self, y_true: np.ndarray, y_pred: np.ndarray) -> Arrays:
        """Bring targets and predictions to the shapes that `call` works on, or raise."""
        return match_rank(y_true, y_pred)

    def own_mask(self, y_true: np.ndarray) -> np.ndarray | None:
        """Which samples count, where the targets themselves say so."""
        return None

    def native(self) -> NativeLoss | None:
        """How the core computes this loss; None if a method of the program's own does."""
        return None

    # ---- use ---------------------------------------------------------------------------------

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> Any:
        """The reduced loss, a float; an array of weighted losses if the reduction is none.

        Parameters
        ----------
        y_true, y_pred : array_like
            Targets and predictions.
        sample_weight : array_like, optional
            A weight for each loss or, with fewer axes, for the losses of each sample.
        mask : array_like of bool, optional
            Where False, a loss does not count.

        Raises
        ------
        ValueError
            If the shapes do not fit each other.
        TypeError
            For anything but real numbers.
        """
        y_true, y_pred = self._arrays(y_true, y_pred)
        losses = np.asarray(self.call(y_true, y_pred))
        weights = self._weights(losses.shape, losses.dtype, y_true, sample_weight, mask)
        weighted = losses if weights is None else losses * weights
        if self.reduction in (None, "none"):
            return weighted
        return float(weighted.sum()) / self._divisor(weighted, weights)

    def value_and_gradient(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> tuple[float, np.ndarray]:
        """The reduced loss and its derivative by every prediction.

        Takes what calling the loss takes; the gradient has the shape and dtype of `y_pred`.
        Raises ``ValueError`` also if the reduction is none, ``TypeError`` also if the loss has no
        gradient, or its class inherits one and has replaced what that is the gradient of.
        """
        self._check_trains()
        given = np.asarray(y_pred)
        y_true, y_pred = self._arrays(y_true, y_pred)
        losses = np.asarray(self.call(y_true, y_pred))
        gradient = np.asarray(self.gradient(y_true, y_pred))
        weights = self._weights(losses.shape, losses.dtype, y_true, sample_weight, mask)
        weighted = losses if weights is None else losses * weights
        divisor = self._divisor(weighted, weights)
        if weights is None:
            gradient = gradient * y_pred.dtype.type(1.0 / divisor)
        else:
            gradient = gradient * (_sum_to(weights, losses.shape) / divisor)[..., None]
        dtype = given.dtype if given.dtype.kind == "f" else gradient.dtype
        return float(weighted.sum()) / divisor, gradient.reshape(given.shape).astype(
            dtype, copy=False
        )

    @property
    def fused_activation(self) -> str | None:
        """What must make the predictions for `value_and_dz`; None if the loss knows no dz."""
        return None

    def value_and_dz(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> tuple[float, np.ndarray]:
        """As `value_and_gradient`, but the gradient of z, ``y_pred`` being `fused_activation` of z.

        Nobody then needs the derivative of the activation.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fused activation.")

    def _check_trains(self) -> None:
        if self._without_derivative is not None:
            raise self._no_gradient(
                f"has a gradient that is not its own, since {self._without_derivative} was replaced"
            )
        if self.reduction in (None, "none"):
            raise ValueError(f"The loss {self.name!r} needs a `reduction` to be trained with.")

    def _arrays(self, y_true: Any, y_pred: Any) -> Arrays:
        dtype = self.dtype
        if dtype is None:
            known = getattr(y_pred, "dtype", None)
            dtype = known if known in (np.float32, np.float64) else config.floatx()
        y_pred = as_real_array(y_pred, dtype, f"{type(self).__name__}: the predictions")
        y_true = self._targets(y_true, y_pred.dtype)
        return self.match(y_true, y_pred)

    def _targets(self, y_true: Any, dtype: np.dtype) -> np.ndarray:
        return as_real_array(y_true, dtype, f"{type(self).__name__}: the targets")

    def _weights(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        y_true: np.ndarray,
        sample_weight: Any,
        mask: Any,
    ) -> np.ndarray | None:
        """What losses of that shape and type weigh."""
        own_mask = self.own_mask(y_true)
        if own_mask is not None:
            what = f"{type(self).__name__}: `mask`"
            mask = own_mask if mask is None else own_mask & as_mask(mask, what)
        if sample_weight is None and mask is None:
            return None
        return merge_weights(
            sample_weight,
            mask,
            shape,
            dtype,
            type(self).__name__,
            rescale=self.reduction in ("sum_over_batch_size", "mean"),
        )

    def _divisor(self, weighted: np.ndarray, weights: np.ndarray | None) -> float:
        """What the sum is divided by; 1 in place of 0, the sum then being 0 as well."""
        if self.reduction == "sum":
            return 1.0
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            return float(weights.sum()) or 1.0
        return float(weighted.size or 1)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "reduction": self.reduction}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        """The loss that `get_config` describes."""
        return cls(**config)


def _value_without_derivative(cls: type[Loss]) -> str | None:
    """The method that makes `cls` lose the gradient it inherits; None if there is none."""
    if cls.gradient is Loss.gradient:
        return None
    for base in cls.__mro__:
        if any(name in base.__dict__ for name in _DERIVATIVE):
            return None
        for name in _VALUE:
            if name in base.__dict__:
                return f"`{name}` of {base.__name__}"
    return None


def _is_replaced(cls: type[Loss], names: tuple[str, ...]) -> bool:
    """Whether the first class of `cls` to have one of these methods is the program's own."""
    owner = next(base for base in cls.__mro__ if any(name in base.__dict__ for name in names))
    return owner.__module__ != __name__


def _sum_to(weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The weights in `shape`: several weights of one single loss add up."""
    return weights.sum() if not shape else np.broadcast_to(weights, shape)


class CoreLoss(Loss):
    """A loss that the core computes, of which a class below may replace any method."""

    _kind: str

    def _described(self, reduction: str | None) -> NativeLoss:
        """As the core computes it, whatever a class below replaces."""
        return NativeLoss(self._kind, reduction)

    def native(self) -> NativeLoss | None:
        return self._described(self.reduction) if self._is_plain else None

    def match(self, y_true: np.ndarray, y_pred: np.ndarray) -> Arrays:
        return match_shape(y_true, y_pred, type(self).__name__)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self._run(self._described(None), y_true, y_pred)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self._run(self._described("sum"), y_true, y_pred, gradient=True)[1]

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> Any:
        if not self._is_ours:
            return super().__call__(y_true, y_pred, sample_weight, mask)
        return self._evaluate(y_true, y_pred, sample_weight, mask)

    def value_and_gradient(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> tuple[float, np.ndarray]:
        if not self._is_ours:
            return super().value_and_gradient(y_true, y_pred, sample_weight, mask)
        return self._evaluate(y_true, y_pred, sample_weight, mask, gradient=True)

    def _evaluate(
        self,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any,
        mask: Any,
        *,
        gradient: bool = False,
        fused: bool = False,
    ) -> Any:
        if gradient:
            self._check_trains()
        native = self._described(self.reduction)
        if self._is_plain and self.dtype is None:
            found = evaluate(
                native, y_true, y_pred, sample_weight, mask, gradient=gradient, fused=fused
            )
            if found is not None:
                return found
        given = np.asarray(y_pred)
        y_true, y_pred = self._arrays(y_true, y_pred)
        own_mask = None if self._is_plain else self.own_mask(y_true)
        shape, who = y_pred.shape[:-1], type(self).__name__
        rows = weighted_rows(y_true, y_pred, shape, sample_weight, mask, own_mask, who)
        found = self._run(
            native, *rows.arrays, gradient=gradient, fused=fused, entries=rows.entries
        )
        if not gradient:
            return found
        value, each = found
        if each.size != given.size:
            each = each.reshape(-1, *given.shape).sum(axis=0)
        dtype = given.dtype if given.dtype.kind == "f" else each.dtype
        return value, each.reshape(given.shape).astype(dtype, copy=False)

    def _run(
        self,
        native: NativeLoss,
        y_true: np.ndarray,
        y_pred: np.ndarray,
        sample_weight: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        **wanted: Any,
    ) -> Any:
        """`evaluate` of arrays that match, in any layout."""
        arrays = self.in_core(y_true, y_pred)
        found = evaluate(native, *arrays, sample_weight, mask, **wanted)
        if found is None:
            raise ValueError(
                f"{type(self).__name__}: the predictions must have a last axis that is not empty, "
                f"got {y_pred.shape}."
            )
        return found

    @staticmethod
    def in_core(y_true: np.ndarray, y_pred: np.ndarray) -> Arrays:
        """Arrays that match, in the layout that the core takes."""
        dtype = y_true.dtype if y_true.dtype == np.intp else y_pred.dtype
        targets = np.require(np.atleast_1d(y_true), dtype, ["C", "A"])
        return np.asarray(targets), np.asarray(np.require(y_pred, None, ["C", "A"]))


class _MeanLoss(CoreLoss):
    """A loss whose samples' losses are means over the last axis of a loss of each element."""

    def elements(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """The loss of every element."""
        return super().call(y_true[..., None], y_pred[..., None])

    def element_gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        """The derivative of every element's loss."""
        return super().gradient(y_true[..., None], y_pred[..., None])[..., 0]

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        if type(self).elements is _MeanLoss.elements:
            return super().call(y_true, y_pred)
        return self.elements(y_true, y_pred).mean(axis=-1)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        if type(self).element_gradient is _MeanLoss.element_gradient:
            return super().gradient(y_true, y_pred)
        return self.element_gradient(y_true, y_pred) / max(y_pred.shape[-1], 1)


class MeanSquaredError(_MeanLoss):
    """``mean((y_true - y_pred) ** 2)``.

    Examples
    --------
    >>> MeanSquaredError()([[0.0, 1.0]], [[1.0, 3.0]])
    2.5
    """

    _kind = "squared"


class MeanAbsoluteError(_MeanLoss):
    """``mean(abs(y_true - y_pred))``; the derivative at 0 is 0.

    Examples
    --------
    >>> MeanAbsoluteError()([[0.0, 1.0]], [[1.0, 3.0]])
    1.5
    """

    _kind = "absolute"


class Huber(_MeanLoss):
    """``e ** 2 / 2`` for errors up to `delta`, ``delta * abs(e) - delta ** 2 / 2`` beyond.

    Huber, 1964.

    Examples
    --------
    >>> Huber(delta=1.0)([[0.0, 1.0]], [[1.0, 3.0]])
    1.0
    """

    _kind = "huber"

    def __init__(
        self,
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "huber_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.delta = real_number("Huber: `delta`", delta, low=0.0)

    def _described(self, reduction: str | None) -> NativeLoss:
        return NativeLoss(self._kind, reduction, self.delta)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "delta": self.delta}


class LogCosh(_MeanLoss):
    """``mean(log(cosh(y_pred - y_true)))``, which does not overflow here for large errors.

    Examples
    --------
    >>> round(LogCosh()([[0.0, 0.0]], [[1.0, 0.0]]), 4)
    0.2169
    """

    _kind = "log_cosh"


class _Crossentropy(CoreLoss):
    """What the cross-entropies share."""

    # What makes such predictions of z.
    _activation = "softmax"
    label_smoothing = 0.0
    ignore_class: int | None = None

    def __init__(
        self,
        from_logits: bool,
        axis: int,
        reduction: str | None,
        name: str | None,
        dtype: Any,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.from_logits = bool(from_logits)
        self.axis = _last_axis(axis, self)

    def _described(self, reduction: str | None) -> NativeLoss:
        kind = f"{self._kind}_logits" if self.from_logits else self._kind
        fused_kind = None if self.from_logits else f"{self._kind}_fused"
        return NativeLoss(kind, reduction, 0.0, self.label_smoothing, self.ignore_class, fused_kind)

    @property
    def fused_activation(self) -> str | None:
        """A softmax or a sigmoid, unless a class below has replaced the value or its gradient."""
        return None if self.from_logits or not self._is_ours else self._activation

    def value_and_dz(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None
    ) -> tuple[float, np.ndarray]:
        return self._evaluate(y_true, y_pred, sample_weight, mask, gradient=True, fused=True)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}


def _last_axis(axis: Any, loss: Loss) -> int:
    if axis != -1:
        raise ValueError(
            f"{type(loss).__name__}: `axis` must be -1, got {axis!r}; move the axis to the end."
        )
    return -1


def _smoothing(value: Any, loss: Loss) -> float:
    return real_number(f"{type(loss).__name__}: `label_smoothing`", value, 0.0, 1.0)


class BinaryCrossentropy(_Crossentropy, _MeanLoss):
    """``mean(-t * log(p) - (1 - t) * log(1 - p))``.

    Parameters
    ----------
    from_logits : bool
        Whether the predictions are what a sigmoid would make probabilities of.
    label_smoothing : float
        From 0 to 1; how far targets are moved towards 0.5.
    axis : int
        Only -1.

    Examples
    --------
    >>> round(BinaryCrossentropy()([[1.0], [0.0]], [[0.8], [0.4]]), 4)
    0.367
    """

    _kind = "binary"
    _activation = "sigmoid"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, axis, reduction, name, dtype)
        self.label_smoothing = _smoothing(label_smoothing, self)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "axis": self.axis,
        }


def _sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)) without overflow."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, small) / (1 + small)


class CategoricalCrossentropy(_Crossentropy):
    """``-sum(t * log(p))`` over the classes, the predictions first divided by their sum.

    Parameters
    ----------
    from_logits : bool
        Whether the predictions are what a softmax would make probabilities of.
    label_smoothing : float
        From 0 to 1; how far targets are moved towards all classes alike.
    axis : int
        Only -1.

    Examples
    --------
    >>> round(CategoricalCrossentropy()([[0.0, 1.0]], [[0.2, 0.8]]), 4)
    0.2231
    """

    _kind = "categorical"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, axis, reduction, name, dtype)
        self.label_smoothing = _smoothing(label_smoothing, self)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "axis": self.axis,
        }


class SparseCategoricalCrossentropy(_Crossentropy):
    """`CategoricalCrossentropy` of targets that are the numbers of the classes.

    Targets have the shape of the predictions without the last axis, or with a last axis of 1.

    Parameters
    ----------
    from_logits : bool
        Whether the predictions are what a softmax would make probabilities of.
    ignore_class : int, optional
        Samples of this class do not count; it need not be a class of the predictions.
    axis : int
        Only -1.

    Raises
    ------
    ValueError
        For a class number that is not whole, or not below the number of classes.

    Examples
    --------
    >>> round(SparseCategoricalCrossentropy()([1], [[0.2, 0.8]]), 4)
    0.2231
    """

    _kind = "sparse"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, axis, reduction, name, dtype)
        self.ignore_class = ignore_class

    def _targets(self, y_true: Any, dtype: np.dtype) -> np.ndarray:
        labels = np.asarray(y_true)
        if labels.dtype.kind in "iub":
            return labels.astype(np.intp, copy=False)
        numbers = super()._targets(y_true, np.dtype(np.float64))
        whole = np.isfinite(numbers) & (numbers == np.rint(numbers))
        if not whole.all():
            wrong = numbers[~whole].flat[0]
            raise ValueError(f"{type(self).__name__}: class numbers must be whole, got {wrong}.")
        return numbers.astype(np.intp)

    def match(self, y_true: np.ndarray, y_pred: np.ndarray) -> Arrays:
        name = type(self).__name__
        if y_pred.ndim < 1:
            raise ValueError(f"{name}: the predictions must have a last axis of classes.")
        labels = y_true[..., 0] if y_true.shape == (*y_pred.shape[:-1], 1) else y_true
        if labels.shape != y_pred.shape[:-1]:
            raise ValueError(
                f"{name}: the targets must have the shape of the predictions without their last "
                f"axis, {y_pred.shape[:-1]}, got {y_true.shape}."
            )
        counted = self.own_mask(labels)
        checked = labels if counted is None else labels[counted]
        if checked.size and not (checked.min() >= 0 and checked.max() < y_pred.shape[-1]):
            raise ValueError(
                f"{name}: class numbers must be from 0 to {y_pred.shape[-1] - 1}, the predictions "
                f"having {y_pred.shape[-1]} classes; got {checked.min()} to {checked.max()}."
            )
        return labels, y_pred

    def own_mask(self, y_true: np.ndarray) -> np.ndarray | None:
        return None if self.ignore_class is None else y_true != self.ignore_class

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "ignore_class": self.ignore_class}


class CosineSimilarity(CoreLoss):
    """Minus the cosine of the angle between targets and predictions, -1 where they agree.

    Examples
    --------
    >>> round(CosineSimilarity()([[1.0, 0.0]], [[3.0, 4.0]]), 4)
    -0.6
    """

    _kind = "cosine"

    def __init__(
        self,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.axis = _last_axis(axis, self)


class KLDivergence(CoreLoss):
    """``sum(t * log(t / p))``, both kept within 1e-7 and 1. Kullback and Leibler, 1951.

    Examples
    --------
    >>> round(KLDivergence()([[0.5, 0.5]], [[0.25, 0.75]]), 4)
    0.1438
    """

    _kind = "kl_divergence"


class FunctionLoss(Loss):
    """A function of (y_true, y_pred) as a loss, reduced and weighted like any other.

    Parameters
    ----------
    function : callable
        Returns the loss of every sample, or one number.
    gradient : callable, optional
        Returns what `Loss.gradient` returns; without it, the loss can be evaluated but a model
        cannot be trained with it. By default the function's own attribute `gradient`, if any.

    Examples
    --------
    >>> import numpy as np
    >>> FunctionLoss(lambda t, p: np.abs(t - p).max(axis=-1))([[0.0, 1.0]], [[1.0, 3.0]])
    2.0
    """

    def __init__(
        self,
        function: Callable[[np.ndarray, np.ndarray], np.ndarray],
        gradient: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name or getattr(function, "__name__", None), dtype)
        self._function = function
        self._gradient = gradient or getattr(function, "gradient", None)

    def call(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return self._function(y_true, y_pred)

    def gradient(self, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        if self._gradient is None:
            return super().gradient(y_true, y_pred)
        return self._gradient(y_true, y_pred)


class LossFunction:
    """A loss class as a function of (y_true, y_pred) that returns the loss of every sample."""

    def __init__(self, loss_class: type[Loss], name: str) -> None:
        self.loss_class = loss_class
        self.__name__ = self.__qualname__ = name

    def __call__(self, y_true: Any, y_pred: Any, **arguments: Any) -> np.ndarray:
        """The loss of every sample; `arguments` are those of the class."""
        return self.loss_class(reduction=None, **arguments)(y_true, y_pred)

    def __repr__(self) -> str:
        return f"<function {self.__name__}>"


binary_crossentropy = LossFunction(BinaryCrossentropy, "binary_crossentropy")
categorical_crossentropy = LossFunction(CategoricalCrossentropy, "categorical_crossentropy")
cosine_similarity = LossFunction(CosineSimilarity, "cosine_similarity")
huber = LossFunction(Huber, "huber")
kl_divergence = LossFunction(KLDivergence, "kl_divergence")
log_cosh = LossFunction(LogCosh, "log_cosh")
mean_absolute_error = LossFunction(MeanAbsoluteError, "mean_absolute_error")
mean_squared_error = LossFunction(MeanSquaredError, "mean_squared_error")
sparse_categorical_crossentropy = LossFunction(
    SparseCategoricalCrossentropy, "sparse_categorical_crossentropy"
)

_REGISTRY: Registry[Loss] = Registry(
    "loss",
    Loss,
    [
        BinaryCrossentropy,
        CategoricalCrossentropy,
        CosineSimilarity,
        Huber,
        KLDivergence,
        LogCosh,
        MeanAbsoluteError,
        MeanSquaredError,
        SparseCategoricalCrossentropy,
    ],
    {
        "BCE": BinaryCrossentropy,
        "KLD": KLDivergence,
        "MAE": MeanAbsoluteError,
        "MSE": MeanSquaredError,
        "bce": BinaryCrossentropy,
        "huber_loss": Huber,
        "kld": KLDivergence,
        "kullback_leibler_divergence": KLDivergence,
        "logcosh": LogCosh,
        "mae": MeanAbsoluteError,
        "mse": MeanSquaredError,
    },
)


def get(identifier: Any) -> Loss:
    """The loss that `identifier` stands for.

    Parameters
    ----------
    identifier : str, Loss, its class, a function of this module, a dict saved by Keras, or a
        function of (y_true, y_pred), which then serves for evaluation only.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything else.

    Examples
    --------
    >>> get("mse").name, get(huber).name
    ('mean_squared_error', 'huber_loss')
    """
    if isinstance(identifier, LossFunction):
        return identifier.loss_class()
    if callable(identifier) and not isinstance(identifier, type | Loss):
        return FunctionLoss(identifier)
    return _REGISTRY.get(identifier)
