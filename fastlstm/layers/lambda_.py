"""A function as a layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any
from weakref import WeakValueDictionary

from fastlstm.layers.base import Layer
from fastlstm.layers.context import Context
from fastlstm.layers.structure import map_structure_of_shapes

__all__ = ["Lambda"]

# The functions that Lambda layers of this process were made of. A config names a function; only
# these, and those given as custom objects, are looked up, so a config can call nothing else.
_functions: WeakValueDictionary[str, Callable[..., Any]] = WeakValueDictionary()

_FUNCTION_ARGUMENTS = ("function", "output_shape", "mask", "backward")


class Lambda(Layer):
    """Applies a function of arrays.

    Parameters
    ----------
    function : callable
        Called with the inputs and, if it names them, `mask` and `training`.
    output_shape : tuple without the batch, or function of the input shape, optional
        Found by calling `function` on zeros by default.
    mask : array, or function of (inputs, mask), optional
        The mask of the outputs; none by default.
    arguments : dict, optional
        Further keyword arguments of `function`.
    backward : callable, optional
        ``backward(context, dy) -> dx``, needed only to train through the layer;
        `context.inputs` and `context.outputs` are those of the call.

    Examples
    --------
    >>> import numpy as np
    >>> square = Lambda(lambda x: x**2, backward=lambda context, dy: 2 * context.inputs * dy)
    >>> square(np.array([[1.0, 3.0]])).tolist()
    [[1.0, 9.0]]
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: Mapping[str, Any] | None = None,
        backward: Callable[[Context, Any], Any] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        for what, value in (("function", function), ("backward", backward)):
            if not callable(value) and not (what == "backward" and value is None):
                raise TypeError(f"{self.label}: `{what}` must be a function, got {value!r}.")
        self.function = function
        self.declared_output_shape = output_shape
        self.mask = mask
        self.arguments = dict(arguments or {})
        self.gradient = backward
        self.supports_masking = mask is not None
        names = inspect.signature(function).parameters
        self._takes = [name for name in ("mask", "training") if name in names]
        for named in (function, output_shape, mask, backward):
            if isinstance(named, FunctionType) and _full_name(named):
                _functions[_full_name(named)] = named

    def call(self, inputs: Any, mask: Any = None, training: bool = False) -> Any:
        """What the function returns."""
        given = {"mask": mask, "training": training}
        return self.function(
            inputs, **self.arguments, **{name: given[name] for name in self._takes}
        )

    def backward(self, context: Context, dy: Any) -> Any:
        """What the given `backward` returns; ``ValueError`` if there is none."""
        if self.gradient is None:
            raise ValueError(
                f"{self.label} cannot be trained through: give it a `backward` function "
                f"(context, dy) -> dx."
            )
        return self.gradient(context, dy)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """As given by `output_shape`, or found by calling the function."""
        if callable(self.declared_output_shape):
            return self.declared_output_shape(input_shape)
        if self.declared_output_shape is None:
            return self._shape_by_running(input_shape)
        first = input_shape if not isinstance(input_shape[0], list | tuple) else input_shape[0]
        return map_structure_of_shapes(lambda shape: (first[0], *shape), self.declared_output_shape)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """As given by `mask`."""
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, functions by name.

        Raises ``ValueError`` for a function without one, such as a lambda expression.
        """
        config: dict[str, Any] = {**super().get_config(), "arguments": self.arguments}
        for what, value in zip(
            _FUNCTION_ARGUMENTS,
            (self.function, self.declared_output_shape, self.mask, self.gradient),
            strict=True,
        ):
            config[what] = self._written(what, value) if callable(value) else value
        return config

    def _written(self, what: str, function: Callable[..., Any]) -> dict[str, str]:
        name = _full_name(function)
        if not name:
            raise ValueError(
                f"{self.label}: `{what}` cannot be written to a config: define it with `def` at "
                f"the top of a module."
            )
        return {"function": name}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Lambda:
        """The layer that `get_config` describes.

        Functions are looked up in `custom_objects`, by name, and among those that Lambda layers
        of this process have used; ``ValueError`` if one is in neither.
        """
        found = dict(config)
        for what in _FUNCTION_ARGUMENTS:
            written = config.get(what)
            if isinstance(written, Mapping) and "function" in written:
                found[what] = cls._function_named(written["function"], custom_objects or {})
        return cls(**found)

    @staticmethod
    def _function_named(full_name: str, custom_objects: Mapping[str, Any]) -> Callable[..., Any]:
        short_name = full_name.rpartition(".")[2]
        function = custom_objects.get(short_name) or _functions.get(full_name)
        if function is None:
            raise ValueError(
                f"Lambda: the function {full_name!r} of the config is not known here; give it as "
                f"custom_objects={{{short_name!r}: ...}}."
            )
        return function


def _full_name(function: Any) -> str:
    """``module.name`` of a function defined at the top of a module, else an empty string."""
    name = getattr(function, "__qualname__", "<")
    return "" if "<" in name else f"{getattr(function, '__module__', 'builtins')}.{name}"
