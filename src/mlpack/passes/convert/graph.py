"""Finishes a converter's graph: tensors only, inputs as the recipe says, and one name for the batch axis.

Promises:
- It changes names and types of the interface, not what the graph computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.graphs.foreign import locales, sequences, zipmap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from mlpack.core.records import TensorSpec


def finished(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> onnx.ModelProto:
    """The graph with these inputs, in their order: cast where it computes in float64, probabilities as tensors."""
    from onnx import TensorProto, helper

    zipmap.rewritten(model)
    locales.portable(model)
    inputs_by_name = {value.name: value for value in model.graph.input}
    if missing := [spec.name for spec in inputs if spec.name not in inputs_by_name]:
        raise PassError(f"the estimator does not use {', '.join(missing)}: leave it out of the recipe's inputs")
    specs, casts = [], []
    for spec in inputs:
        kind = TensorProto.STRING if spec.dtype == files.STRING else helper.np_dtype_to_tensor_dtype(_numpy(spec.dtype))
        if inputs_by_name[spec.name].type.tensor_type.elem_type != kind:
            inner = f"{spec.name}_as_float64"
            _renamed(model.graph, spec.name, inner)
            casts.append(helper.make_node("Cast", [spec.name], [inner], name=inner, to=TensorProto.DOUBLE))
        specs.append(helper.make_tensor_value_info(spec.name, kind, list(spec.shape)))
    del model.graph.input[:]
    model.graph.input.extend(specs)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _batched(model, inputs)
    return model


def targets_apart(model: onnx.ModelProto, classes: list[Any]) -> None:
    """Split probabilities of several targets, each over classes of its own, into an output for each: `probabilities_0`, ...

    Converters write them as a sequence, or as [targets, rows, classes]. `classes`: of each target; empty: nothing to do.
    """
    from onnx import helper, numpy_helper

    sequences.rewritten(model)
    wide = next((value for value in model.graph.output if value.name == "probabilities"), None)
    for target, names in enumerate(classes):
        for value in model.graph.output:
            if value.name == f"probabilities_{target}":
                kind = value.type.tensor_type.elem_type
                value.CopyFrom(helper.make_tensor_value_info(value.name, kind, [None, len(names)]))
    if not classes or wide is None:
        return
    at = list(model.graph.output).index(wide)
    model.graph.output.remove(wide)
    for target, names in reversed(list(enumerate(classes))):
        stem, which = f"probabilities_{target}", f"target_{target}"
        ends = [f"{which}_{name}" for name in ("start", "end", "axis")]
        model.graph.initializer.append(numpy_helper.from_array(np_int64(target), which))
        for name, value in zip(ends, (0, len(names), 1), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np_int64([value]), name))
        model.graph.node.append(helper.make_node("Gather", [wide.name, which], [f"{stem}_all"], name=f"{stem}_all", axis=0))
        model.graph.node.append(helper.make_node("Slice", [f"{stem}_all", *ends], [stem], name=stem))
        kind = wide.type.tensor_type.elem_type
        model.graph.output.insert(at, helper.make_tensor_value_info(stem, kind, [None, len(names)]))


def np_int64(value: Any) -> Any:
    """The values as an int64 array."""
    import numpy as np

    return np.asarray(value, dtype=np.int64)


def turn_outputs(model: onnx.ModelProto, names: list[str]) -> None:
    """Reverse the two columns of outputs, into the order of the classes."""
    from onnx import helper, numpy_helper

    for name in names:
        inner, order = f"{name}_as_made", f"{name}_order"
        for node in model.graph.node:
            for names_of in (node.input, node.output):
                for at, each in enumerate(names_of):
                    if each == name:
                        names_of[at] = inner
        model.graph.initializer.append(numpy_helper.from_array(np_int64([1, 0]), order))
        model.graph.node.append(helper.make_node("Gather", [inner, order], [name], name=f"{name}_turned", axis=1))


def rename_outputs(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Rename outputs by an Identity behind each."""
    from onnx import helper

    names_in_use = {name for node in model.graph.node for name in (*node.input, *node.output)}
    for value in model.graph.output:
        if (name := names.get(value.name)) is not None and name not in names_in_use:
            model.graph.node.append(helper.make_node("Identity", [value.name], [name], name=f"{name}_named"))
            value.name = name


def keep_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    """Remove the other outputs."""
    for value in [value for value in model.graph.output if value.name not in names]:
        model.graph.output.remove(value)


def _batched(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> None:
    """Give outputs the first axis of the inputs."""
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
    """Make readers of a tensor read another one, in nested graphs too, unless those have one of that name themselves."""
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name == old:
                node.input[at] = new
        for nested in files.subgraphs(node):
            if old not in {value.name for value in nested.input}:
                _renamed(nested, old, new)
