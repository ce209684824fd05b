"""What a compiled model minimises and reports: losses and metrics over all its outputs."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlstm import losses, metrics
from fastlstm._numbers import real_number
from fastlstm.layers.weight import Weight
from fastlstm.models.data import Batch

if TYPE_CHECKING:
    from fastlstm.models.graph import Graph

__all__ = ["Objective"]


class Objective:
    """The losses and metrics of one compiled model.

    Parameters
    ----------
    names : list of str
        The outputs.
    loss, loss_weights, metrics, weighted_metrics
        As `Model.compile` takes them: one for all outputs, a list, or a dict by output.
    """

    def __init__(
        self,
        names: Sequence[str],
        loss: Any,
        loss_weights: Any,
        plain_metrics: Any,
        weighted_metrics: Any,
    ) -> None:
        self.names = list(names)
        self.losses: list[losses.Loss | None] = [
            None if spec is None else losses.get(spec)
            for spec in _per_output("loss", loss, self.names)
        ]
        if loss is not None and not any(self.losses):
            raise ValueError("`loss` names no output with a loss.")
        shares = _per_output("loss_weights", loss_weights, self.names, spread=False)
        self.loss_weights = [
            1.0 if share is None else real_number("`loss_weights`", share) for share in shares
        ]
        self._metrics: list[list[tuple[str, metrics.Metric, bool]]] | None = None
        self.total = metrics.Mean(name="loss")
        several = len(self.names) > 1 and any(self.losses)
        self._parts = [
            metrics.Mean(name=f"{name}_loss") if several and loss is not None else None
            for name, loss in zip(self.names, self.losses, strict=True)
        ]
        # Of every reported number, whether "up" or "down" is better.
        self._directions: dict[str, str | None] = {
            mean.name: "down" for mean in (self.total, *self._parts) if mean is not None
        }
        self._specs: list[list[tuple[str, Any, bool]]] = [[] for _ in self.names]
        self._add_metrics("metrics", plain_metrics, weighted=False)
        self._add_metrics("weighted_metrics", weighted_metrics, weighted=True)

    def _add_metrics(self, what: str, given: Any, *, weighted: bool) -> None:
        """Find names for the metrics of all outputs, none of them twice."""
        per_output = _metrics_per_output(what, given, self.names)
        for output, row, specs in zip(self.names, self._specs, per_output, strict=True):
            for spec in _as_specs(specs):
                metric = metrics.get(spec)
                prefix = "" if len(self.names) == 1 else f"{output}_"
                name = _free_name(prefix, metric.name, weighted, self._directions)
                self._directions[name] = metric.direction
                # What one metric has summed up must not meet what it sums up elsewhere.
                known = (other for others in self._specs for _, other, _ in others)
                twice = isinstance(spec, metrics.Metric) and any(spec is other for other in known)
                row.append((name, copy.deepcopy(spec) if twice else spec, weighted))

    # ---- the loss ----------------------------------------------------------------------------

    def evaluate(self, batch: Batch, outputs: Sequence[np.ndarray], masks: Sequence[Any]) -> float:
        """The weighted sum of the losses of one batch, taken into account."""
        self._require_targets(batch)
        values = [
            None if loss is None else loss(y, p, sample_weight=w, mask=m)
            for loss, y, p, w, m in zip(
                self.losses, batch.y, outputs, batch.sample_weight, masks, strict=True
            )
        ]
        return self._add_up(values, batch.size)

    def differentiate(
        self,
        batch: Batch,
        outputs: Sequence[np.ndarray],
        masks: Sequence[Any],
        fused: Sequence[bool],
    ) -> tuple[float, list[np.ndarray | None]]:
        """As `evaluate`, and the gradients of the outputs or, where `fused`, dz."""
        self._require_targets(batch)
        values: list[float | None] = []
        gradients: list[np.ndarray | None] = []
        for k, loss in enumerate(self.losses):
            value = gradient = None
            if loss is not None:
                derivative = loss.value_and_dz if fused[k] else loss.value_and_gradient
                value, gradient = derivative(
                    batch.y[k], outputs[k], batch.sample_weight[k], masks[k]
                )
                if self.loss_weights[k] != 1:
                    gradient = gradient * gradient.dtype.type(self.loss_weights[k])
            values.append(value)
            gradients.append(gradient)
        return self._add_up(values, batch.size), gradients

    def fused(self, graph: Graph) -> list[bool]:
        """For each output whether its loss knows dz for the activation that made it."""
        found = []
        for k, loss in enumerate(self.losses):
            activation = None if loss is None else loss.fused_activation
            found.append(activation is not None and activation == graph.last_activation(k))
        return found

    def _require_targets(self, batch: Batch) -> None:
        for name, loss, target in zip(self.names, self.losses, batch.y, strict=True):
            if loss is not None and target is None:
                raise ValueError(f"The output {name!r} has a loss, but no targets came for it.")

    def _add_up(self, values: Sequence[float | None], size: int) -> float:
        total = 0.0
        for value, share, part in zip(values, self.loss_weights, self._parts, strict=True):
            if value is None:
                continue
            total += share * value
            if part is not None:
                part.update_state(value, sample_weight=size)
        return total

    # ---- what is reported --------------------------------------------------------------------

    def reset(self) -> None:
        """Forget what was taken into account."""
        self.total.reset_state()
        for part in self._parts:
            if part is not None:
                part.reset_state()
        for row in self._metrics or []:
            for _, metric, _ in row:
                metric.reset_state()

    def update(
        self, loss: float, batch: Batch, outputs: Sequence[np.ndarray], masks: Sequence[Any]
    ) -> None:
        """Take the whole loss of one batch, and its metrics, into account."""
        self.total.update_state(loss, sample_weight=batch.size)
        if self._metrics is None:
            self._metrics = self._resolve(batch, outputs)
        for row, y, p, w, m in zip(
            self._metrics, batch.y, outputs, batch.sample_weight, masks, strict=True
        ):
            for _, metric, weighted in row:
                metric.update_state(y, p, sample_weight=w if weighted else None, mask=m)

    def _resolve(self, batch: Batch, outputs: Sequence[np.ndarray]) -> list[Any]:
        resolved = []
        for name, specs, y, p in zip(self.names, self._specs, batch.y, outputs, strict=True):
            if specs and y is None:
                raise ValueError(f"The output {name!r} has metrics, but no targets came for it.")
            shape = () if y is None else y.shape
            resolved.append(
                [(known, metrics.resolve(spec, shape, p.shape), w) for known, spec, w in specs]
            )
        return resolved

    @property
    def reported(self) -> list[str]:
        """The names in `logs`, in their order."""
        means = [mean.name for mean in (self.total, *self._parts) if mean is not None]
        return means + [name for row in self._specs for name, _, _ in row]

    def direction_of(self, name: str) -> str | None:
        """Whether "up" or "down" is better for what is reported as `name`, if that is known."""
        return self._directions.get(name)

    def logs(self) -> dict[str, float]:
        """Every reported number by name, the loss first."""
        found = {"loss": self.total.result()}
        for part in self._parts:
            if part is not None:
                found[part.name] = part.result()
        for row in self._metrics or []:
            for name, metric, _ in row:
                found[name] = metric.result()
        return found


def penalty(weights: Sequence[Weight]) -> float:
    """The sum of the weights' own penalties."""
    return sum(float(w.regularizer(w.value)) for w in weights if w.regularizer is not None)


def add_penalty_gradients(weights: Sequence[Weight], gradients: dict[Weight, np.ndarray]) -> None:
    """Add the derivative of every penalty to the gradient of its weight."""
    for weight in weights:
        if weight.regularizer is not None:
            own = weight.regularizer.gradient(weight.value)
            known = gradients.get(weight)
            gradients[weight] = own if known is None else known + own


def _per_output(what: str, spec: Any, names: list[str], spread: bool = True) -> list[Any]:
    """One entry for each output; a single value is for all of them where `spread`."""
    if isinstance(spec, Mapping) and not {"class_name", "config"} <= set(spec):
        unknown = sorted(set(spec) - set(names))
        if unknown:
            raise ValueError(f"`{what}` names unknown outputs {unknown}; known are {names}.")
        return [spec.get(name) for name in names]
    if isinstance(spec, (list, tuple)):
        if len(spec) != len(names):
            raise ValueError(
                f"`{what}` must have one entry for each of the outputs {names}, got {len(spec)}."
            )
        return list(spec)
    if not spread and spec is not None:
        if len(names) != 1:
            raise ValueError(f"`{what}` must be a list or a dict by output, got {spec!r}.")
        return [spec]
    return [spec] * len(names)


def _metrics_per_output(what: str, spec: Any, names: list[str]) -> list[Any]:
    if isinstance(spec, (list, tuple)):
        nested = any(isinstance(entry, (list, tuple)) or entry is None for entry in spec)
        if len(names) == 1 and not nested:
            return [spec]
        if not nested and len(spec) != len(names):
            # A flat list is meant for every output.
            return [spec] * len(names)
    return _per_output(what, spec, names)


def _free_name(prefix: str, name: str, weighted: bool, known: Mapping[str, Any]) -> str:
    """A name for a metric that nothing else has; chosen as Keras does.

    "mae", "mae_1", "mae_2", ...; that of a weighted metric may be "weighted_mae" before it is
    numbered. Neither may "val_mae" be that of another, which stands for validation data.
    """
    taken = {key for other in known for key in (other, f"val_{other}")}
    stem = f"{prefix}weighted_{name}" if weighted else f"{prefix}{name}"
    numbered = (f"{stem}_{number}" for number in itertools.count(1))
    for free in itertools.chain([f"{prefix}{name}", stem], numbered):
        if taken.isdisjoint((free, f"val_{free}")):
            break
    return free


def _as_specs(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
