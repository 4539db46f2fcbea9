"""Dynamic quantization: 8-bit weights now, ranges of activations at each call.

Promises:
- Matrix products, attention and LSTM get the engine's integer operators, inside If, Loop and Scan as well. Two products of one
  activation share its rounding.
- Weights are read from their files one after the other.

Will not: choose nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlpack.passes.quantize.scales as eight
from mlpack.graphs import files
from mlpack.passes.quantize.writing import GraphWriter, attributes, replace

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    import onnx

    from mlpack.passes.quantize.methods.pairs import QuantizationScheme

    Array = np.ndarray[Any, Any]

_MICROSOFT = "com.microsoft"


def insert(writer: GraphWriter, chosen: Collection[str], form: QuantizationScheme) -> None:
    """Replace these nodes of the writer's model by integer operators, in place."""
    _of_graph(writer, writer.model.graph, chosen, _Weights(writer, form))


class _Weights:
    """Weights in 8 bits, each computed once."""

    def __init__(self, writer: GraphWriter, form: QuantizationScheme) -> None:
        self.writer, self.form = writer, form

    def of(self, node: onnx.NodeProto, name: str, values: Array) -> list[str]:
        """The names of a matrix in 8 bits, a column a channel, and of its scales. Zero points are omitted: operators then use 0,
        and zero points of every channel cost a wake word 1 to 2 % of its time."""
        return self.store(name, *eight.of_weight(values, self.form.axis(node.name, 1), self.form.steps))

    def store(self, name: str, whole: Array, scales: Array) -> list[str]:
        """Store the two tensors. Returns their names."""
        return [self.writer.keep(f"{name}_int8", whole), self.writer.keep(f"{name}_scale", scales)]


def _of_graph(writer: GraphWriter, graph: onnx.GraphProto, chosen: Collection[str], weights: _Weights) -> None:
    instead: dict[str, list[onnx.NodeProto]] = {}
    rounded: dict[str, list[str]] = {}
    for node in graph.node:
        for nested in files.subgraphs(node):
            _of_graph(writer, nested, chosen, weights)
        if node.name not in chosen:
            continue
        if node.op_type == "LSTM":
            instead[node.name] = [_lstm(writer, node, weights)]
            continue
        before = [] if node.input[0] in rounded else [_rounded(writer, node.input[0], rounded)]
        after = _attention(writer, node, rounded[node.input[0]], weights) if node.op_type == "Attention" else (
            _product(writer, node, rounded[node.input[0]], weights)
        )  # fmt: skip
        instead[node.name] = [*before, *after]
    if instead:
        replace(graph, instead)


def _rounded(writer: GraphWriter, name: str, rounded: dict[str, list[str]]) -> onnx.NodeProto:
    """The node that finds a tensor's range at each call, and rounds it."""
    rounded[name] = [writer.fresh(f"{name}_{part}") for part in ("quantized", "scale", "zero_point")]
    return writer.node("DynamicQuantizeLinear", [name], rounded[name], f"{name}_quantize")


def _product(writer: GraphWriter, node: onnx.NodeProto, rounded: list[str], weights: _Weights) -> list[onnx.NodeProto]:
    """A product in integers, scaled, and the bias of a Gemm."""
    import numpy as np

    settings = attributes(node)
    values = writer.values(node.input[1])
    if node.op_type == "Gemm":
        values = (values.T if settings.get("transB", 0) else values) * np.float32(settings.get("alpha", 1.0))
    whole, scale = weights.of(node, f"{node.input[1]}_product", values)
    result, name = node.output[0], node.name
    product, cast, scales = (writer.fresh(f"{result}_{part}") for part in ("integer", "cast", "scales"))
    added = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
    scaled = writer.fresh(f"{result}_scaled") if added else result
    nodes = [
        writer.node("MatMulInteger", [rounded[0], whole, rounded[2]], [product], f"{name}_integer"),
        writer.node("Cast", [product], [cast], f"{name}_cast", to=1),  # TensorProto.FLOAT
        writer.node("Mul", [rounded[1], scale], [scales], f"{name}_scales"),
        writer.node("Mul", [cast, scales], [scaled], f"{name}_scale"),
    ]
    if not added:
        return nodes
    if (beta := settings.get("beta", 1.0)) != 1.0:
        factor = writer.keep("gemm_beta", np.array(beta, np.float32))
        times = writer.fresh(f"{result}_added")
        nodes.append(writer.node("Mul", [added, factor], [times], f"{name}_beta"))
        added = times
    return [*nodes, writer.node("Add", [scaled, added], [result], f"{name}_add")]


def _attention(writer: GraphWriter, node: onnx.NodeProto, rounded: list[str], weights: _Weights) -> list[onnx.NodeProto]:
    writer.imports(_MICROSOFT)
    whole, scale = weights.of(node, node.input[1], writer.values(node.input[1]))
    optional = [*node.input[3:5], "", ""][:2]
    takes = [rounded[0], whole, node.input[2], rounded[1], scale, optional[0], rounded[2], "", optional[1]]
    settings = attributes(node)
    return [writer.node("QAttention", takes, list(node.output), f"{node.name}_integer", domain=_MICROSOFT, **settings)]


def _lstm(writer: GraphWriter, node: onnx.NodeProto, weights: _Weights) -> onnx.NodeProto:
    """An LSTM of the engine, which takes each direction's weights transposed, and as many zero points as scales: with fewer it
    reads beyond them without an error."""
    import numpy as np

    writer.imports(_MICROSOFT)
    parts: list[list[str]] = []
    for place, name in enumerate(node.input[1:3], 1):
        axis = weights.form.axis(node.name, 0, place)
        pairs = [eight.of_weight(each, axis, weights.form.steps) for each in writer.values(name)]
        whole = np.ascontiguousarray(np.stack([each for each, _ in pairs]).transpose(0, 2, 1))
        scales = np.stack([scales for _, scales in pairs])
        zero = writer.keep(f"{name}_zero_point", np.zeros(scales.shape, np.int8))
        parts.append([*weights.store(f"{name}_recurrent", whole, scales), zero])
    takes = [node.input[0], parts[0][0], parts[1][0], *[*node.input[3:8], *[""] * 5][:5]]
    takes += [parts[0][1], parts[0][2], parts[1][1], parts[1][2]]
    settings = {name: value for name, value in attributes(node).items() if name != "layout"}
    return writer.node("DynamicQuantizeLSTM", takes, list(node.output), f"{node.name}_integer", domain=_MICROSOFT, **settings)
