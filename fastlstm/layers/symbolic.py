"""What a functional model is drawn with before it has any data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastlstm.errors import shape_text
from fastlstm.layers.structure import Shape, as_list

if TYPE_CHECKING:
    from fastlstm.layers.base import Layer

__all__ = ["Node", "SymbolicTensor"]


class SymbolicTensor:
    """A place in the graph of a functional model: a shape, a dtype and the node that fills it."""

    def __init__(
        self, shape: Sequence[int | None], dtype: str, node: Node | None = None, index: int = 0
    ) -> None:
        self.shape: Shape = tuple(shape)
        self.dtype = dtype
        self.node = node
        self.index = index

    @property
    def ndim(self) -> int:
        """The number of dimensions, the batch among them."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<SymbolicTensor shape={shape_text(self.shape)} dtype={self.dtype}>"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(
            "A symbolic Input has no values: build a Model from it and call `predict` with arrays."
        )


class Node:
    """One use of a layer in a graph.

    `inputs` are the tensors of the layer's first argument; `keywords` holds what is passed by
    name, each with its structure: tensors (``initial_state``, ``mask``) and settings
    (``training``).
    """

    def __init__(
        self,
        layer: Layer,
        inputs: Any,
        keywords: dict[str, Any],
        outputs: Any,
    ) -> None:
        self.layer = layer
        self.inputs = inputs
        self.keywords = keywords
        self.outputs = outputs

    def parents(self) -> list[SymbolicTensor]:
        """Every symbolic tensor that the node reads."""
        found = as_list(self.inputs) if self.inputs is not None else []
        for value in self.split_keywords()[0].values():
            found = found + as_list(value)
        return found

    def split_keywords(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The keywords that are tensors, and the rest."""
        tensors: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for name, value in self.keywords.items():
            entries = as_list(value)
            symbolic = bool(entries) and all(isinstance(e, SymbolicTensor) for e in entries)
            (tensors if symbolic else settings)[name] = value
        return tensors, settings
