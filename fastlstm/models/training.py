"""compile, fit, evaluate and predict: the loops around a graph."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlstm import optimizers, random
from fastlstm._numbers import real_number
from fastlstm.callbacks import CallbackList, History
from fastlstm.errors import check_positive_int, one_of
from fastlstm.layers.symbolic import SymbolicTensor
from fastlstm.models.data import (
    ArrayData,
    Batch,
    IterableData,
    check_lengths,
    in_order,
    in_precision_of,
    is_iterable_of_batches,
    numeric,
    with_class_weights,
)
from fastlstm.models.objective import Objective, add_penalty_gradients, penalty
from fastlstm.program import Program

if TYPE_CHECKING:
    from fastlstm.models.graph import Graph

__all__ = ["Trainer"]

# What hooks get before there is anything to tell.
NO_LOGS: dict[str, float] = {}
# Keras's arguments that say how TensorFlow or JAX shall run the model; nothing to choose here.
_WITHOUT_EFFECT = ("run_eagerly", "steps_per_execution", "jit_compile", "auto_scale_loss")


class Trainer:
    """The half of `Model` that trains, evaluates and predicts."""

    inputs: list[SymbolicTensor]
    outputs: list[SymbolicTensor]
    optimizer: optimizers.Optimizer | None = None
    history: History | None = None
    stop_training = False
    _objective: Objective | None = None
    _compile_arguments: Mapping[str, Any] | None = None
    _programs: dict[str, Program]
    _fused: Sequence[bool] = ()
    if TYPE_CHECKING:

        @property
        def graph(self) -> Graph:
            """What computes the outputs."""

    # Of the running `fit`: what shuffles, and where a callback wants it to begin.
    _shuffler: np.random.Generator | None = None
    _resume_epoch: int | None = None

    # ---- compiling ---------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **keywords: Any,
    ) -> None:
        """Say how to train.

        Parameters
        ----------
        optimizer : Optimizer or str
        loss : Loss, str, or for several outputs a list or a dict by output name
        loss_weights : list or dict of float, optional
            What each output's loss counts in the sum.
        metrics, weighted_metrics : list, or for several outputs a list of lists or a dict
            `weighted_metrics` are those that sample weights reach.
        run_eagerly, steps_per_execution, jit_compile, auto_scale_loss
            Accepted for Keras's sake, without effect.

        Raises
        ------
        ValueError, TypeError
            For unknown names and arguments; the model then stays compiled as it was.
        """
        for keyword in keywords:
            if keyword not in _WITHOUT_EFFECT:
                known = ["optimizer", "loss", "loss_weights", "metrics", "weighted_metrics"]
                error = one_of(f"{self._label}: an argument of `compile`", keyword, known)
                raise TypeError(str(error))
        arguments = {
            "loss": loss,
            "loss_weights": loss_weights,
            "plain_metrics": metrics,
            "weighted_metrics": weighted_metrics,
        }
        new_optimizer = optimizers.get(optimizer)
        objective = Objective(self.output_names, **arguments)  # type: ignore[attr-defined]
        self.optimizer, self._objective, self._compile_arguments = (
            new_optimizer,
            objective,
            arguments,
        )
        self.stop_training = False

    @property
    def _label(self) -> str:
        return self.label  # type: ignore[attr-defined]

    @property
    def compiled(self) -> bool:
        """Whether `compile` has been called."""
        return self._objective is not None

    @property
    def loss(self) -> Any:
        """What `compile` was given as the loss."""
        return None if self._compile_arguments is None else self._compile_arguments["loss"]

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns."""
        return self._compiled_objective("metrics_names").reported

    def _compiled_objective(self, what: str) -> Objective:
        if self._objective is None:
            raise ValueError(f"{self._label} must be compiled before `{what}`: call `compile`.")
        return self._objective

    # ---- data --------------------------------------------------------------------------------

    def _standard_inputs(self, who: str, x: Any) -> list[np.ndarray]:
        """Arrays for the inputs, checked against their shapes; builds an unbuilt Sequential."""
        if not self.built:  # type: ignore[attr-defined]
            # A Sequential, which has one input.
            (only,) = in_order(f"{self._label}: {who}: x", x, ["input"])
            array = numeric(f"{self._label}: {who}: the input", only, None)
            self.ensure_built(array.shape)  # type: ignore[attr-defined]
        names = self.input_names  # type: ignore[attr-defined]
        arrays = []
        given, dtypes = in_order(f"{who}: x", x, names), self.graph.input_dtypes
        for name, tensor, dtype, value in zip(names, self.inputs, dtypes, given, strict=True):
            what = f"{self._label}: {who}: the input {name!r}"
            array = numeric(what, value, dtype)
            if not _fits(array.shape, tensor.shape):
                raise ValueError(f"{what} must have shape {tensor.shape}, got {array.shape}.")
            arrays.append(array)
        return arrays

    def _standard_batch(
        self,
        who: str,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
    ) -> Batch:
        """`x`, `y` and weights as checked arrays."""
        arrays = self._standard_inputs(who, x)
        if y is None and sample_weight is None:
            nothing: list[Any] = [None] * len(self.outputs)
            return self._checked_batch(who, Batch(arrays, nothing, nothing))
        names = self.output_names  # type: ignore[attr-defined]
        targets = [
            None
            if value is None
            else in_precision_of(
                output.dtype, numeric(f"{self._label}: {who}: the targets {name!r}", value, None)
            )
            for output, name, value in zip(
                self.outputs, names, in_order(f"{who}: y", y, names), strict=True
            )
        ]
        weights = [
            None if value is None else numeric(f"{who}: `sample_weight`", value, "float64")
            for value in in_order(f"{who}: sample_weight", sample_weight, names, spread=True)
        ]
        return self._checked_batch(who, Batch(arrays, targets, weights))

    def _checked_batch(self, who: str, batch: Batch) -> Batch:
        check_lengths(f"{self._label}: {who}", batch)
        if batch.size == 0:
            raise ValueError(f"{self._label}: {who}: there are no samples in x.")
        return batch

    def _data(
        self,
        who: str,
        x: Any,
        y: Any,
        sample_weight: Any,
        batch_size: int | None,
        steps: int | None,
    ) -> ArrayData | IterableData:
        if steps is not None:
            check_positive_int(f"{who}: the number of steps", steps)
        if is_iterable_of_batches(x):
            if y is not None or sample_weight is not None:
                raise ValueError(
                    f"{self._label}: {who}: batches from an iterable bring their own targets "
                    f"and weights; leave out `y` and `sample_weight`."
                )

            def standardize(x: Any, y: Any, sample_weight: Any) -> Batch:
                return self._standard_batch(who, x, y, sample_weight)

            return IterableData(x, standardize, steps)
        if batch_size is not None:
            check_positive_int(f"{who}: `batch_size`", batch_size)
        return ArrayData(self._standard_batch(who, x, y, sample_weight), batch_size, steps)

    # ---- one batch ---------------------------------------------------------------------------

    def _train(self, batch: Batch, objective: Objective) -> None:
        """One update. Everything that can fail has been done before a weight changes."""
        assert self.optimizer is not None
        program = self._programs["train"]
        outputs, masks, tape = program.run(batch.x, keep=True)
        loss, doutputs = objective.differentiate(batch, outputs, masks, self._fused)
        gradients = program.backward(tape, doutputs, self._fused, self.optimizer.targets)
        loss += sum(tape.penalties)
        if self._regularized:
            add_penalty_gradients(self._regularized, gradients)
            loss += penalty(self._regularized)
        objective.update(loss, batch, outputs, masks)
        self.optimizer.apply(gradients)

    def _test(self, batch: Batch, objective: Objective) -> None:
        program = self._compile_program("evaluate", penalties=True)
        outputs, masks, tape = program.run(batch.x)
        loss = objective.evaluate(batch, outputs, masks)
        loss += sum(tape.penalties) + penalty(self._regularized)
        objective.update(loss, batch, outputs, masks)

    def _prepare(
        self, who: str, data: ArrayData | IterableData | None = None, *, training: bool
    ) -> Objective:
        """Collect what a loop needs that may have changed since the last one."""
        objective = self._compiled_objective(who)
        if training and not any(objective.losses):
            raise ValueError(f"{self._label}: `{who}` needs a loss; `compile` got none.")
        unbuilt = not self.built  # type: ignore[attr-defined]
        if unbuilt and isinstance(data, IterableData) and data.first() is None:
            raise ValueError(f"{self._label}: {who}: the data gave no batches to build from.")
        names = self.output_names  # type: ignore[attr-defined]
        if objective.names != names:
            assert self._compile_arguments is not None
            self._objective = objective = Objective(names, **self._compile_arguments)
        self._look_at_layers(training=training)
        return objective

    def _look_at_layers(self, *, training: bool) -> None:
        """Collect what follows from the settings of the layers: these may be set at any time."""
        trainable = self.trainable_weights  # type: ignore[attr-defined]
        self._regularized = [w for w in trainable if w.regularizer is not None]
        if training:
            assert self.optimizer is not None
            assert self._objective is not None
            self.optimizer.build(trainable)
            self._compile_program("train", training=True, penalties=True)
            self._fused = self._objective.fused(self.graph)

    def _compile_program(
        self, use: str, *, training: bool = False, penalties: bool = False
    ) -> Program:
        """The graph compiled for `use`, anew where its layers are not as they were."""
        program = self._programs.get(use)
        if program is None or program.graph is not self.graph or not program.is_current():
            program = Program(self.graph, training=training, penalties=penalties)
            self._programs[use] = program
        return program

    # ---- loops -------------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        x : array (N, ...), list or dict of arrays for several inputs, or an iterable of batches
            Batches are (x,), (x, y) or (x, y, sample_weight).
        y : array (N, ...), list or dict of arrays
        batch_size : int, optional
            32 by default.
        epochs, initial_epoch : int
            Epochs are counted from `initial_epoch` up to `epochs`.
        verbose : "auto", 0, 1 or 2
            A bar ("auto" and 1), one line an epoch (2), or nothing (0).
        callbacks : list of Callback, optional
            What they freeze, unfreeze or set in layers between epochs counts from the next one on.
        validation_split : float in [0, 1)
            The last part of the arrays, before shuffling, is kept for validation, without the
            weights of classes.
        validation_data : (x, y) or (x, y, sample_weight), or an iterable of batches, optional
        shuffle : bool
            Whether each epoch takes the samples in a new order.
        class_weight : dict of label to float, optional
            Targets are labels if they have fewer axes than the outputs or a last axis of 1, else
            one-hot over the last axis.
        sample_weight : array (N,) or (N, T), optional
        steps_per_epoch, validation_steps : int, optional
            How many batches make an epoch, which goes on where the one before stopped; validation
            begins at the first batch of arrays every time. Of arrays, so many batches are a pass
            over all rows unless there is a `batch_size`.
        validation_batch_size : int, optional
            `batch_size` by default.
        validation_freq : int or list of int
            After every how manieth epoch, or after which ones, counted from 1.

        Returns
        -------
        History, whose `history` is a dict of lists, one entry an epoch.

        Raises
        ------
        ValueError, TypeError
            For data that do not fit the model or each other, and for a generator that cannot last
            for the epochs; no weight has changed then. One that runs out in spite of its
            `steps_per_epoch` ends training with a warning.
        """
        self._compiled_objective("fit")
        epochs = check_positive_int("fit: `epochs`", epochs)
        if initial_epoch:
            check_positive_int("fit: `initial_epoch`", initial_epoch)
        data = self._data("fit", x, y, sample_weight, batch_size, steps_per_epoch)
        validation = self._validation_data(
            validation_data, validation_batch_size or batch_size, validation_steps
        )
        if not 0 <= real_number("fit: `validation_split`", validation_split) < 1:
            raise ValueError(f"fit: `validation_split` must be in [0, 1), got {validation_split}.")
        if validation_split and validation is None:
            if not isinstance(data, ArrayData):
                raise ValueError("fit: `validation_split` needs arrays, not an iterable.")
            data, kept = data.split(validation_split)
            validation = ArrayData(kept, validation_batch_size or batch_size, validation_steps)
        if isinstance(data, IterableData) and epochs - initial_epoch > 1:
            data.require_more_than_one_epoch("fit: `x`", "`steps_per_epoch`")
        data.adjust(lambda batch: with_class_weights("fit", batch, class_weight, self.outputs))
        due = _due_epochs(validation_freq, initial_epoch, epochs)
        if isinstance(validation, IterableData) and len(due) > 1:
            validation.require_more_than_one_epoch("fit: `validation_data`", "`validation_steps`")
        objective = self._prepare("fit", data, training=True)
        steps = len(data) if steps_per_epoch is None else steps_per_epoch
        run = self._callbacks(
            callbacks, verbose, add_history=True, epochs=epochs, steps=steps or None
        )
        # A model that was saved while it was fitted goes on in the order that it was in.
        self._shuffler = (self._shuffler or random.generator()) if shuffle else None
        self.stop_training, self._resume_epoch = False, None
        try:
            run.on_train_begin(NO_LOGS)
            logs: dict[str, float] = {}
            for epoch in range(self._resume_epoch or initial_epoch, epochs):
                if data.is_spent():
                    warnings.warn(
                        f"{self._label}: fit: the data ran out after epoch {epoch} of {epochs}.",
                        stacklevel=2,
                    )
                    break
                run.on_epoch_begin(epoch, NO_LOGS)
                if callbacks:
                    self._look_at_layers(training=True)
                objective.reset()
                batches = data.batches(epoch - initial_epoch, self._shuffler)
                logs = self._run_epoch(batches, objective, run, steps_per_epoch)
                if validation is not None and epoch + 1 in due:
                    if validation.is_spent():
                        warnings.warn(
                            f"{self._label}: fit: no validation data are left after epoch {epoch}.",
                            stacklevel=2,
                        )
                    else:
                        found = self._run_test(validation, objective, run)
                        logs.update({f"val_{name}": value for name, value in found.items()})
                run.on_epoch_end(epoch, logs)
                data.end_epoch()
                if self.stop_training:
                    break
            run.on_train_end(logs)
        finally:
            self._shuffler = None
        assert self.history is not None
        return self.history

    def _run_epoch(
        self,
        batches: Iterable[Batch],
        objective: Objective,
        run: CallbackList,
        steps: int | None,
    ) -> dict[str, float]:
        number = 0
        for number, batch in enumerate(batches, 1):
            run.on_train_batch_begin(number - 1, NO_LOGS)
            self._train(batch, objective)
            if run.calls("on_train_batch_end"):
                run.on_train_batch_end(number - 1, objective.logs())
            if self.stop_training:
                break
        if not number:
            raise ValueError(f"{self._label}: fit: the data gave no batches for this epoch.")
        if steps is not None and number < steps and not self.stop_training:
            warnings.warn(
                f"{self._label}: fit: the data ran out after {number} of {steps} steps.",
                stacklevel=3,
            )
        return objective.logs()

    def _run_test(
        self,
        data: ArrayData | IterableData,
        objective: Objective,
        run: CallbackList,
    ) -> dict[str, float]:
        objective.reset()
        run.on_test_begin(NO_LOGS)
        number = 0
        for number, batch in enumerate(data.batches(0), 1):
            run.on_test_batch_begin(number - 1, NO_LOGS)
            self._test(batch, objective)
            if run.calls("on_test_batch_end"):
                run.on_test_batch_end(number - 1, objective.logs())
        if not number:
            raise ValueError(f"{self._label}: the data to evaluate gave no batches.")
        logs = objective.logs()
        run.on_test_end(logs)
        return logs

    def _validation_data(
        self, given: Any, batch_size: int | None, steps: int | None
    ) -> ArrayData | IterableData | None:
        if given is None:
            return None
        if is_iterable_of_batches(given):
            return self._data("validation", given, None, None, None, steps)
        if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= 3:
            raise ValueError(
                "fit: `validation_data` must be (x, y) or (x, y, sample_weight), "
                f"got {type(given).__name__}."
            )
        x, y, weights = [*given, None, None][:3]
        return self._data("validation", x, y, weights, batch_size, steps)

    def _callbacks(self, callbacks: Any, verbose: Any, **keywords: Any) -> CallbackList:
        level = _verbosity(verbose)
        return CallbackList(
            callbacks.callbacks if isinstance(callbacks, CallbackList) else callbacks,
            add_progbar=level > 0,
            model=self,
            verbose=level,
            **keywords,
        )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss and metrics over some data, computed as `fit` does, without training.

        Returns the loss, a list [loss, metric, ...] if there are metrics, or a dict by name.
        """
        self._compiled_objective("evaluate")
        data = self._data("evaluate", x, y, sample_weight, batch_size, steps)
        objective = self._prepare("evaluate", data, training=False)
        count = len(data) if steps is None else steps
        run = self._callbacks(callbacks, verbose, epochs=1, steps=count or None)
        return _returned(self._run_test(data, objective, run), return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = 0,
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for x, an array (N, ...) or a list of them for several outputs.

        Unlike Keras 3 it prints nothing by default, as the Keras of the tutorials did. Safe to
        call from several threads at once, unless a layer is stateful.

        Raises ``ValueError`` for a model that is not built, which has no weights to predict with,
        and ``ValueError`` or ``TypeError`` for data that do not fit the inputs.
        """
        self._require_built("predict")  # type: ignore[attr-defined]
        data = self._data("predict", x, None, None, batch_size, steps)
        count = len(data) if steps is None else steps
        level = _verbosity(verbose)
        run = None
        if level or callbacks:
            run = CallbackList(
                callbacks,
                add_progbar=level > 0,
                model=self,
                verbose=level,
                epochs=1,
                steps=count or None,
            )
            run.on_predict_begin(NO_LOGS)
        program = self._compile_program("predict")
        parts: list[list[np.ndarray]] = []
        for number, batch in enumerate(data.batches(0)):
            if run is not None:
                run.on_predict_batch_begin(number, NO_LOGS)
            parts.append(program.run(batch.x)[0])
            if run is not None:
                run.on_predict_batch_end(number, {"outputs": parts[-1]})
        if run is not None:
            run.on_predict_end(NO_LOGS)
        if not parts:
            raise ValueError(f"{self._label}: predict: the iterable gave no batches.")
        columns = zip(*parts, strict=True)
        return self._structured(  # type: ignore[attr-defined]
            [
                _unshared(column[0], batch) if len(column) == 1 else np.concatenate(column)
                for column in columns
            ]
        )

    # ---- by hand -----------------------------------------------------------------------------

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One update on one batch; returns the loss before it, or as `evaluate` does."""
        self._compiled_objective("train_on_batch")
        batch = self._standard_batch("train_on_batch", x, y, sample_weight)
        batch = with_class_weights("train_on_batch", batch, class_weight, self.outputs)
        objective = self._prepare("train_on_batch", training=True)
        objective.reset()
        self._train(batch, objective)
        return _returned(objective.logs(), return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """The loss of one batch, or as `evaluate` does."""
        self._compiled_objective("test_on_batch")
        batch = self._standard_batch("test_on_batch", x, y, sample_weight)
        objective = self._prepare("test_on_batch", training=False)
        objective.reset()
        self._test(batch, objective)
        return _returned(objective.logs(), return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch; refuses what `predict` refuses."""
        self._require_built("predict_on_batch")  # type: ignore[attr-defined]
        batch = self._standard_batch("predict_on_batch", x)
        program = self._compile_program("predict")
        outputs = [_unshared(y, batch) for y in program.run(batch.x)[0]]
        return self._structured(outputs)  # type: ignore[attr-defined]


def _unshared(output: np.ndarray, batch: Batch) -> np.ndarray:
    """The output, copied where writing to it would change the user's data: Reshape gives views."""
    is_alone = output.base is None and all(output is not x for x in batch.x)
    if is_alone or not any(np.may_share_memory(output, x) for x in batch.x):
        return output
    return output.copy()


def _fits(shape: tuple[int, ...], known: tuple[int | None, ...]) -> bool:
    """Whether arrays of that shape may be batches for an input of the known one."""
    if len(shape) != len(known):
        return False
    sizes = zip(shape[1:], known[1:], strict=True)
    return all(size is None or size == own for own, size in sizes)


def _returned(logs: dict[str, float], return_dict: bool) -> Any:
    if return_dict:
        return logs
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _verbosity(verbose: Any) -> int:
    if verbose == "auto":
        return 1
    if verbose not in (0, 1, 2):
        raise ValueError(f"`verbose` must be 'auto', 0, 1 or 2, got {verbose!r}.")
    return int(verbose)


def _due_epochs(frequency: int | Sequence[int], initial_epoch: int, epochs: int) -> list[int]:
    """After which epochs, counted from 1, to validate."""
    if isinstance(frequency, Collection) and not isinstance(frequency, str):
        return [epoch for epoch in range(initial_epoch + 1, epochs + 1) if epoch in frequency]
    every = check_positive_int("fit: `validation_freq`", frequency)
    return [epoch for epoch in range(initial_epoch + 1, epochs + 1) if epoch % every == 0]
