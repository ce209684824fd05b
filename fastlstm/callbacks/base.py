"""The hooks, and the list that calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastlstm.errors import one_of

__all__ = ["HOOKS", "Callback", "CallbackList", "History", "LambdaCallback"]

Logs = dict[str, Any] | None


class Callback:
    """The base of all callbacks. Subclass it with the hooks that shall do something.

    Attributes
    ----------
    model : the model that is trained, evaluated or used
    params : dict with "verbose", "epochs" and "steps"

    Examples
    --------
    >>> class Shout(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print("epoch", epoch, logs)
    >>> CallbackList([Shout()]).on_epoch_end(0, {"loss": 0.5})
    epoch 0 {'loss': 0.5}
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Called before anything else with the model."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called before anything else with "verbose", "epochs" and "steps"."""
        self.params = params

    def uses(self, hook: str) -> bool:
        """Whether this callback does something in `hook`: it need not be called otherwise."""
        alias = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
        return self._overrides(hook) or (hook in alias and self._overrides(alias[hook]))

    def _overrides(self, hook: str) -> bool:
        return hook in self.__dict__ or getattr(type(self), hook) is not getattr(Callback, hook)

    def on_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """The old name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs = None) -> None:
        """The old name of `on_train_batch_end`."""

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """An epoch, counted from 0, begins."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """An epoch has ended; `logs` holds its results, those of the validation as ``val_``."""

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """A batch of training begins."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """A batch of training has ended; `logs` holds the results of the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """A batch of evaluation begins, also within `fit`."""

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """A batch of evaluation has ended."""

    def on_predict_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """A batch of prediction begins."""

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """A batch of prediction has ended."""

    def on_train_begin(self, logs: Logs = None) -> None:
        """Training begins."""

    def on_train_end(self, logs: Logs = None) -> None:
        """Training has ended."""

    def on_test_begin(self, logs: Logs = None) -> None:
        """Evaluation begins, also within `fit`."""

    def on_test_end(self, logs: Logs = None) -> None:
        """Evaluation has ended."""

    def on_predict_begin(self, logs: Logs = None) -> None:
        """Prediction begins."""

    def on_predict_end(self, logs: Logs = None) -> None:
        """Prediction has ended."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class CallbackList(Callback):
    """Several callbacks as one.

    Which callback does something in which hook is found out beforehand, so that the others cost
    nothing in the training loop; `calls` tells whether a hook need be called at all.

    Parameters
    ----------
    callbacks : callback or iterable of callbacks, optional
    add_history, add_progbar : bool
        Append a `History` and a progress bar unless there is one.
    model : optional
        Becomes the callbacks' model, and gets the history as `model.history`.
    **params
        "verbose", "epochs" and "steps".

    Raises
    ------
    TypeError
        For what is no callback.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ) -> None:
        super().__init__()
        self.callbacks: list[Callback] = list(_flatten(callbacks))
        if add_history and not any(isinstance(c, History) for c in self.callbacks):
            self.callbacks.append(History())
        if add_progbar:
            self._add_progbar()
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def _add_progbar(self) -> None:
        # The bar needs the hooks of this module.
        from fastlstm.callbacks.logs import ProgbarLogger

        if not any(isinstance(c, ProgbarLogger) for c in self.callbacks):
            self.callbacks.append(ProgbarLogger())

    def append(self, callback: Callback) -> None:
        """Add one more callback."""
        self.callbacks.extend(_flatten(callback))
        self._find_hooks()

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)
            if isinstance(callback, History):
                model.history = callback

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        if params:
            for callback in self.callbacks:
                callback.set_params(params)
        self._find_hooks()

    def _find_hooks(self) -> None:
        self._hooks: dict[str, list[Callable[..., None]]] = {
            hook: [getattr(c, hook) for c in self.callbacks if c.uses(hook)] for hook in HOOKS
        }

    def calls(self, hook: str) -> bool:
        """Whether any callback does something in `hook`."""
        return bool(self._hooks[hook])


def _dispatcher(hook: str) -> Callable[..., None]:
    def dispatch(self: CallbackList, *arguments: Any) -> None:
        for function in self._hooks[hook]:
            function(*arguments)

    dispatch.__name__ = hook
    dispatch.__doc__ = f"Call `{hook}` of every callback that does something in it."
    return dispatch


for _hook in HOOKS:
    setattr(CallbackList, _hook, _dispatcher(_hook))


def _flatten(callbacks: Any) -> Iterable[Callback]:
    if callbacks is None:
        return
    if isinstance(callbacks, list | tuple):
        for entry in callbacks:
            yield from _flatten(entry)
    elif isinstance(callbacks, Callback):
        yield callbacks
    else:
        raise TypeError(
            f"A callback must be a fastlstm.callbacks.Callback object, got {callbacks!r}."
        )


class History(Callback):
    """Keeps the results of every epoch; `fit` returns one.

    Attributes
    ----------
    epoch : list of int
    history : dict of str to list
        The results of every epoch, under the names of the loss and the metrics.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """Hooks given as functions.

    Examples
    --------
    >>> callback = LambdaCallback(on_train_end=lambda logs: print("done"))
    >>> callback.on_train_end(None)
    done
    """

    def __init__(self, **hooks: Callable[..., None] | None) -> None:
        super().__init__()
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(str(one_of("LambdaCallback: a hook", name, HOOKS)))
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"LambdaCallback: `{name}` must be a function, got {function!r}.")
            setattr(self, name, function)
