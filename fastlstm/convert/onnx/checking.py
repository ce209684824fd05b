"""What ONNX itself says of a model: its structure, and the types of its tensors."""

from __future__ import annotations

from typing import Any

from fastlstm.convert.onnx.tensors import dtype_of

__all__ = ["check_model"]

# The operators have had their present meanings since then; ONNX Runtime has none before either.
OLDEST_OPSET = 7

# Constants above this size say nothing of shapes.
_WEIGHTS = 1 << 16


def check_model(onnx: Any, model: Any, opset: int) -> None:
    """``ValueError`` for a model that ONNX does not call valid, or with types that are not here."""
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ValueError(f"its opset must be {OLDEST_OPSET} to {newest}, got {opset}.")
    if model.graph.sparse_initializer:
        raise ValueError("it has sparse constants, which are not converted.")
    bare = _without_weights(onnx, model)
    shapeless = [
        value.type.tensor_type
        for value in (*bare.graph.input, *bare.graph.output)
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
    ]
    try:
        for kind in shapeless:  # which is an error to the checker alone
            kind.shape.SetInParent()
        onnx.checker.check_model(bare)
        for kind in shapeless:
            kind.ClearField("shape")
        typed = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True)
    except Exception as error:  # of kinds that differ from version to version
        raise ValueError(f"the model is not valid: {error}") from error
    for value in (*typed.graph.input, *typed.graph.value_info, *typed.graph.output):
        if not value.type.HasField("tensor_type"):
            raise ValueError(f"{value.name!r} is no tensor.")
        dtype_of(onnx, value.type.tensor_type.elem_type, repr(value.name))


def _without_weights(onnx: Any, model: Any) -> Any:
    """The model with its large constants as inputs: what there is to check, and no copies of them.

    The shapes that it claims for its results are left out too; files have wrong ones, which
    nothing that runs them reads.
    """
    bare = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    graph, source = bare.graph, model.graph
    graph.name = source.name
    graph.node.extend(source.node)
    graph.input.extend(source.input)
    declared = {each.name for each in source.input}
    for tensor in source.initializer:
        if tensor.ByteSize() <= _WEIGHTS:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    graph.output.extend(source.output)
    for output in graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    return bare
