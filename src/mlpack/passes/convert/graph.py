"""What a converter's graph needs before it is a model of ours: tensors only, inputs as the recipe says, batches of one name.

Promises: changes what the graph is called, not what it computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlpack.errors import PassError
from mlpack.graphs import files, locales, zipmap

if TYPE_CHECKING:
    import onnx

    from mlpack.records import TensorSpec


def finished(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> onnx.ModelProto:
    """The graph with these inputs, in their order: cast where it computes in float64, probabilities as tensors."""
    from onnx import TensorProto, helper

    zipmap.rewritten(model)
    locales.portable(model)
    given = {value.name: value for value in model.graph.input}
    if missing := [spec.name for spec in inputs if spec.name not in given]:
        raise PassError(f"the estimator does not use {', '.join(missing)}: leave it out of the recipe's inputs")
    wanted, casts = [], []
    for spec in inputs:
        kind = TensorProto.STRING if spec.dtype == files.STRING else helper.np_dtype_to_tensor_dtype(_numpy(spec.dtype))
        if given[spec.name].type.tensor_type.elem_type != kind:
            inner = f"{spec.name}_as_float64"
            _renamed(model.graph, spec.name, inner)
            casts.append(helper.make_node("Cast", [spec.name], [inner], name=inner, to=TensorProto.DOUBLE))
        wanted.append(helper.make_tensor_value_info(spec.name, kind, list(spec.shape)))
    del model.graph.input[:]
    model.graph.input.extend(wanted)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _batched(model, inputs)
    return model


def keep_outputs(model: onnx.ModelProto, kept: tuple[str, ...]) -> None:
    """Leave the others out."""
    for value in [value for value in model.graph.output if value.name not in kept]:
        model.graph.output.remove(value)


def _batched(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> None:
    """Outputs have a row for each of the inputs'."""
    rows = inputs[0].shape[0] if inputs and inputs[0].shape else None
    for value in model.graph.output:
        kind = value.type.tensor_type
        if rows is None or not kind.HasField("shape") or not kind.shape.dim:
            continue
        first = kind.shape.dim[0]
        if isinstance(rows, int):
            first.dim_value = rows
        else:
            first.dim_param = rows


def _numpy(name: str) -> object:
    import numpy as np

    return np.dtype(name)


def _renamed(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Readers of a tensor read another one, in nested graphs too, unless they have one of that name themselves."""
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name == old:
                node.input[at] = new
        for nested in files.subgraphs(node):
            if old not in {value.name for value in nested.input}:
                _renamed(nested, old, new)
