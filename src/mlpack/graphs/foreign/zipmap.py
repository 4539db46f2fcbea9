"""Replaces ZipMap by the tensor of its input. Converters of classical models end classifiers with a ZipMap by default.

Promises:
- An output that was a list of dictionaries (class to probability) becomes the tensor of the probabilities, columns in the order
  of the classes, under the same name. The class of each column is returned.
- Nothing else of the graph changes. Other sequences and maps stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_DOMAIN = "ai.onnx.ml"


def rewritten(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    """Change `model` in place. Returns the classes of each rewritten output, by the output's name."""
    import onnx
    from onnx import TensorProto, helper

    outputs = {value.name: value for value in model.graph.output}
    columns: dict[str, list[str | int]] = {}
    for at, node in enumerate(model.graph.node):
        if node.op_type != "ZipMap" or node.domain != _DOMAIN or node.output[0] not in outputs:
            continue
        if any(node.output[0] in other.input for other in model.graph.node):
            continue  # something in the graph reads the dictionaries
        classes = _classes(node)
        value = outputs[node.output[0]]
        shape = [_rows(model.graph), len(classes)]
        element_type = value.type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type
        value.type.CopyFrom(helper.make_tensor_type_proto(element_type or TensorProto.FLOAT, shape))
        replaced = helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name or f"zipmap_{at}")
        node.CopyFrom(replaced)
        columns[node.output[0]] = classes
    if columns and not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import):
        # Identity is of the standard domain, which a graph of trees alone need not import.
        entry = model.opset_import.add()
        entry.domain, entry.version = "", min(15, onnx.defs.onnx_opset_version())
    return columns


def _classes(node: onnx.NodeProto) -> list[str | int]:
    for attribute in node.attribute:
        if attribute.name == "classlabels_strings" and attribute.strings:
            return [text.decode("utf-8", "replace") for text in attribute.strings]
        if attribute.name == "classlabels_int64s" and attribute.ints:
            return list(attribute.ints)
    return []


def _rows(graph: onnx.GraphProto) -> int | str | None:
    """The first axis of the first input that has one: there is a row of probabilities for each of its indices."""
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in weights and dims:
            return dims[0].dim_value if dims[0].HasField("dim_value") else dims[0].dim_param or None
    return None
