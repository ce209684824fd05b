"""Vectors for words: a table that integers select rows of."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastlstm import constraints, initializers, regularizers
from fastlstm._core import sequence_ops
from fastlstm._core.program_elements import EmbeddingOp
from fastlstm.errors import check_positive_int
from fastlstm.layers.base import Layer
from fastlstm.layers.checks import one_shape
from fastlstm.layers.context import Context
from fastlstm.layers.serialization import object_config
from fastlstm.layers.structure import Shape
from fastlstm.layers.weight import Weight

__all__ = ["Embedding"]


class Embedding(Layer):
    """Turns integers into vectors: (B, T) -> (B, T, output_dim), or any other shape likewise.

    Parameters
    ----------
    input_dim : int
        The number of rows of the table: the largest integer + 1.
    output_dim : int
        The length of a vector.
    embeddings_initializer, embeddings_regularizer, embeddings_constraint
        See `fastlstm.initializers`, `fastlstm.regularizers`, `fastlstm.constraints`.
    mask_zero : bool
        Whether 0 is padding, which the layers after this one skip.
    weights : array (input_dim, output_dim) or list of one, optional
        The table to start with.
    input_length : int, optional
        Keras 2's way to give T to the first layer of a Sequential.

    Attributes
    ----------
    embeddings : Weight (input_dim, output_dim)

    Raises
    ------
    ValueError
        For integers out of range and floats that are not whole numbers.
    TypeError
        For inputs that are no numbers.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Embedding(3, 2, weights=np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]]))
    >>> layer(np.array([[2, 1]])).tolist()
    [[[3.0, 4.0], [1.0, 2.0]]]
    """

    casts_inputs = False

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        input_length: int | None = None,
        **keywords: Any,
    ) -> None:
        if input_length is not None and "batch_input_shape" not in keywords:
            keywords.setdefault("input_shape", (input_length,))
        super().__init__(**keywords)
        self.input_dim = check_positive_int(f"{self.label}: `input_dim`", input_dim)
        self.output_dim = check_positive_int(f"{self.label}: `output_dim`", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = bool(mask_zero)
        self.supports_masking = self.mask_zero
        self.embeddings: Weight
        if weights is not None:
            self.ensure_built((None,))
            self.set_weights(weights if isinstance(weights, list) else [weights])

    def check_inputs(self, input_shape: Any) -> None:
        """Raise ``ValueError`` for several inputs."""
        one_shape(self.label, input_shape)

    def build(self, input_shape: Any) -> None:
        """Create `embeddings`."""
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            name="embeddings",
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )

    def _indices(self, inputs: Any) -> np.ndarray:
        array = np.asarray(inputs)
        if array.dtype.kind not in "fiu":
            raise TypeError(
                f"{self.label}: the input must hold integers, got an array of dtype {array.dtype}."
            )
        if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.rint(array))).all():
            raise ValueError(f"{self.label}: the input must hold integers, got fractions.")
        with np.errstate(invalid="ignore"):  # what is too large for it is not in range either
            indices = array.astype(np.intp)
        if sequence_ops.first_invalid(indices, self.input_dim) >= 0:
            raise ValueError(
                f"{self.label}: the input must hold integers from 0 to {self.input_dim - 1} "
                f"(`input_dim` - 1), got {int(array.min())} to {int(array.max())}."
            )
        return indices

    def call(self, inputs: np.ndarray, context: Context | None = None) -> np.ndarray:
        """The vectors (..., output_dim)."""
        indices = self._indices(inputs)
        if context is not None:
            context.cache = indices
        return sequence_ops.rows_of(self.embeddings.value, indices)

    def op(self, training: bool, streaming: bool = False) -> tuple[Any, ...] | None:
        """For integers."""
        return EmbeddingOp, (self.embeddings, self.mask_zero, self.label)

    def entry(self, data: Any) -> np.ndarray:
        """The integers that the op reads."""
        return self._indices(data)

    def time_after(self, has_time: bool, rank: int) -> bool:
        """Each step by itself."""
        return has_time

    def backward(self, context: Context, dy: np.ndarray) -> None:
        """Adds the gradient of the table; integers have none."""
        table = self.embeddings
        gradient = sequence_ops.gradient_of_table(dy, context.cache, table.shape, table.dtype)
        context.add_gradient(table, gradient)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """(..., output_dim)."""
        return (*input_shape, self.output_dim)

    def compute_mask(self, inputs: Any, mask: Any = None) -> np.ndarray | None:
        """True where the input is not 0, if `mask_zero`."""
        return np.asarray(inputs) != 0 if self.mask_zero else None

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments but the starting weights."""
        objects = {
            name: object_config(f"{self.label}: `{name}`", getattr(self, name))
            for name in (
                "embeddings_initializer",
                "embeddings_regularizer",
                "embeddings_constraint",
            )
        }
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            **objects,
            "mask_zero": self.mask_zero,
        }
