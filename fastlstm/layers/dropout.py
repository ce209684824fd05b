"""Dropout: at training time, a random part of the inputs is zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastlstm import random
from fastlstm._core import dropout
from fastlstm._core.program_elements import DropoutOp
from fastlstm._core.program_shapes import ReshapeOp
from fastlstm.layers.base import Layer
from fastlstm.layers.checks import check_rate
from fastlstm.layers.context import Context
from fastlstm.layers.setting import Setting

__all__ = ["Dropout", "dropout_factors"]


def dropout_factors(
    generator: np.random.Generator, shape: Sequence[int], rate: float, dtype: Any
) -> np.ndarray:
    """Random factors, 0 at `rate` of the places and 1 / (1 - rate) at the others.

    Their mean is 1: "inverted" dropout, Srivastava et al. 2014, section 10.
    """
    if rate == 1:
        return np.zeros(shape, dtype)
    return dropout.random_factors(generator, shape, rate, dtype)


class Dropout(Layer):
    """Sets a random part of the inputs to zero when training, and scales up the rest.

    Parameters
    ----------
    rate : float
        The part that is dropped, from 0 to 1.
    noise_shape : tuple of int or None, optional
        The shape of the random factors, broadcast over the inputs; None in it takes the inputs'
        size. ``(None, 1, None)`` drops the same features at all steps.
    seed : int, optional
        Taken from `fastlstm.random` by default.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Dropout(0.5, seed=3)
    >>> layer(np.ones((1, 4)))
    array([[1., 1., 1., 1.]], dtype=float32)
    >>> sorted(set(layer(np.ones((9, 9)), training=True).ravel().tolist()))
    [0.0, 2.0]
    """

    supports_masking = True
    rate: Any = Setting(check_rate)

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        self.rate = rate
        self.noise_shape = self._checked_noise_shape(noise_shape)
        self.seed = random.check_seed(seed, self.label)
        self._generator = random.generator(self.seed) if self.rate > 0 else None

    def _checked_noise_shape(self, noise_shape: Any) -> tuple[int | None, ...] | None:
        if noise_shape is None:
            return None
        sizes = tuple(noise_shape) if isinstance(noise_shape, list | tuple) else (noise_shape,)
        whole = all(
            n is None or (isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0)
            for n in sizes
        )
        if not isinstance(noise_shape, list | tuple) or not whole:
            raise ValueError(
                f"{self.label}: `noise_shape` must be a tuple of positive integers and None, "
                f"got {noise_shape!r}."
            )
        return sizes

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` for inputs that `noise_shape` does not broadcast over."""
        if self.noise_shape is None:
            return
        fits = len(self.noise_shape) == len(input_shape) and all(
            noise in (None, 1) or size is None or noise == size
            for noise, size in zip(self.noise_shape, input_shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{self.label}: `noise_shape` {self.noise_shape} must broadcast over the input, "
                f"got shape {tuple(input_shape)}."
            )

    def call(
        self, inputs: np.ndarray, training: bool = False, context: Context | None = None
    ) -> np.ndarray:
        """The inputs, some of them dropped when `training`."""
        if not training or not self.rate:
            return inputs
        factors = self._draw(self._shape_of_factors(inputs.shape), inputs.dtype)
        if context is not None:
            context.cache = factors
        return dropout.scaled(inputs, factors)

    def _draw(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        if self._generator is None:  # the rate was 0 at first
            self._generator = random.generator(self.seed)
        return dropout_factors(self._generator, shape, self.rate, dtype)

    def _shape_of_factors(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the inputs, where `noise_shape` does not say otherwise."""
        noise_shape = shape if self.noise_shape is None else self.noise_shape
        sizes = zip(noise_shape, shape, strict=True)
        return tuple(size if noise is None else noise for noise, size in sizes)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """The inputs as they are where nothing is dropped."""
        if not (training and self.rate):
            return ReshapeOp, (None, True)
        return DropoutOp, (self._draw, self._shape_of_factors, self.noise_shape)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Each step by itself."""
        return has_time

    def backward(self, context: Context, dy: np.ndarray) -> np.ndarray:
        """The gradient of the inputs: zero where they were dropped."""
        return dy if context.cache is None else dropout.scaled(dy, context.cache)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The inputs' own."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "rate": self.rate,
            "noise_shape": None if self.noise_shape is None else list(self.noise_shape),
            "seed": self.seed,
        }
