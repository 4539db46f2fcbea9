"""Replaces sequences of tensors among a graph's outputs by one output a tensor, because an answer can hold tensors only.

Promises:
- An output that is a sequence of the same number of tensors on every call becomes that many outputs, `<output>_0`, `<output>_1`
  and so on, in its order and at its place; each computes what the member of the sequence did.
- The graph must state that number: SequenceConstruct, SequenceInsert at the end of an empty sequence, SplitToSequence by
  constant lengths or along an axis of known length. Other sequences, and those within If and Loop, stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    Made = dict[str, onnx.NodeProto]


def rewritten(model: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Change `model` in place. Returns the outputs that replace each sequence, by its name."""
    from onnx import helper

    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    names_in_use = {name for node in graph.node for name in (*node.input, *node.output)} | {value.name for value in graph.output}
    rewrites: dict[str, tuple[str, ...]] = {}
    outputs = []
    for value in graph.output:
        kind = value.type.sequence_type.elem_type.tensor_type.elem_type if value.type.HasField("sequence_type") else 0
        parts = _parts(model, makers, value.name) if kind else None
        if not parts:
            outputs.append(value)
            continue
        names = tuple(_free(f"{value.name}_{number}", names_in_use) for number in range(len(parts)))
        for name, part in zip(names, parts, strict=True):
            graph.node.append(helper.make_node("Identity", [part], [name], name=_free(f"{name}_of_sequence", names_in_use)))
            outputs.append(_value(name, part, kind, graph))
        rewrites[value.name] = names
    if rewrites:
        del graph.output[:]
        graph.output.extend(outputs)
        _without_unread(graph)
    return rewrites


def _value(name: str, part: str, kind: int, graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    """A member's description as far as the graph states it; its shape is inferred like that of any output."""
    import onnx

    element = next((each for each in (*graph.value_info, *graph.input) if each.name == part), None)
    value = onnx.ValueInfoProto(name=name)
    value.type.tensor_type.elem_type = kind
    if element is not None and element.type.tensor_type.HasField("shape"):
        value.type.CopyFrom(element.type)
    return value


def _free(name: str, names: set[str]) -> str:
    while name in names:
        name += "_"
    names.add(name)
    return name


def _parts(model: onnx.ModelProto, makers: Made, name: str) -> list[str] | None:
    """The tensors of a sequence, by name; None where the graph does not state their number."""
    behind: list[str] = []
    for _ in range(len(makers) + 1):
        node = makers.get(name)
        if node is None:
            return None
        if node.op_type == "Identity":
            name = node.input[0]
        elif node.op_type == "SequenceConstruct":
            return [*node.input, *reversed(behind)]
        elif node.op_type == "SequenceEmpty":
            return list(reversed(behind)) or None
        elif node.op_type == "SequenceInsert" and len([each for each in node.input if each]) == 2:
            behind.append(node.input[1])
            name = node.input[0]
        elif node.op_type == "SplitToSequence":
            pieces = _split(model, node)
            return None if pieces is None else [*pieces, *reversed(behind)]
        else:
            return None
    return None


def _split(model: onnx.ModelProto, node: onnx.NodeProto) -> list[str] | None:
    """Replace SplitToSequence by Split, and remove the axis if it does. Returns the parts."""
    import numpy as np
    from onnx import helper, numpy_helper

    graph = model.graph
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    axis, keeps = attributes.get("axis", 0), attributes.get("keepdims", 1)
    by = node.input[1] if len(node.input) > 1 and node.input[1] else ""
    lengths = _lengths(graph, by, _length(model, node.input[0], axis))
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if lengths is None or not lengths or version < _SPLIT_BY_INPUT:
        return None
    stem, inserted = node.output[0], list(graph.node).index(node)
    names = [f"{stem}_part{number}" for number in range(len(lengths))]
    graph.initializer.append(numpy_helper.from_array(np.asarray(lengths, dtype=np.int64), f"{stem}_lengths"))
    nodes = [helper.make_node("Split", [node.input[0], f"{stem}_lengths"], names, name=f"{stem}_split", axis=axis)]
    if not by and not keeps:
        graph.initializer.append(numpy_helper.from_array(np.asarray([axis], dtype=np.int64), f"{stem}_axis"))
        flat = [f"{name}_flat" for name in names]
        nodes += [helper.make_node("Squeeze", [a, f"{stem}_axis"], [b], name=b) for a, b in zip(names, flat, strict=True)]
        names = flat
    for place, each in enumerate(nodes):
        graph.node.insert(inserted + place, each)
    return names


_SPLIT_BY_INPUT = 13
"""The operator set from which Split and Squeeze take lengths and axes as inputs."""


def _lengths(graph: onnx.GraphProto, by: str, whole: int | None) -> list[int] | None:
    """The length of each part: the constant `by`, of an axis that is `whole` long (None: not known)."""
    from onnx import numpy_helper

    if not by:
        return None if whole is None else [1] * whole
    stored = next((tensor for tensor in graph.initializer if tensor.name == by), None)
    if stored is None:
        constant = next((node for node in graph.node if by in node.output and node.op_type == "Constant"), None)
        stored = next((each.t for each in constant.attribute if each.name == "value"), None) if constant is not None else None
    if stored is None:
        return None
    array = numpy_helper.to_array(stored)
    if array.ndim == 1:
        return [int(each) for each in array]
    if whole is None or array.size != 1 or int(array.item()) < 1:
        return None
    step = int(array.item())
    return [min(step, whole - start) for start in range(0, whole, step)]


def _length(model: onnx.ModelProto, name: str, axis: int) -> int | None:
    """The length of a tensor along an axis, from the graph or ONNX's inference; None where neither states it."""
    import onnx

    for graph in (model.graph, onnx.shape_inference.infer_shapes(model).graph if model.ByteSize() < _INFERRED_MOST else None):
        for value in (*graph.input, *graph.value_info) if graph is not None else ():
            if value.name != name or not value.type.tensor_type.HasField("shape"):
                continue
            dims = value.type.tensor_type.shape.dim
            if -len(dims) <= axis < len(dims) and dims[axis].HasField("dim_value"):
                return int(dims[axis].dim_value)
    return None


_INFERRED_MOST = 1 << 28
"""The largest message that is inferred here, in bytes: large weights are not in it (they stay in their files)."""


def _without_unread(graph: onnx.GraphProto) -> None:
    """Remove the nodes of sequences that nothing reads any more."""
    from mlpack.graphs import files

    while True:
        read = files.names_read(graph)
        unread = [node for node in graph.node if _of_sequences(node) and not read & set(node.output)]
        if not unread:
            return
        for node in unread:
            graph.node.remove(node)


def _of_sequences(node: onnx.NodeProto) -> bool:
    return "Sequence" in node.op_type or node.op_type == "Identity"
