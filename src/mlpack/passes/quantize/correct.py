"""Corrects biases: rounded weights shift the mean of a node's results, and the shift is subtracted from the node's bias.

Promises:
- Only nodes with a constant bias of one value a channel, or without a bias, change, and only their bias does. Nodes keep their
  names.
- The shift is measured on the calls, node by node with exact inputs.

Source: M. Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019; the empirical
form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlpack.passes.quantize.scales as eight
from mlpack.passes.quantize.calibration.observed import ObservedGraph, RecordedCalls
from mlpack.passes.quantize.methods.pairs import channels
from mlpack.passes.quantize.view import View
from mlpack.passes.quantize.writing import GraphWriter, attributes

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    import onnx

    from mlpack.passes.quantize.methods.pairs import QuantizationScheme

    Array = np.ndarray[Any, Any]

_KINDS = ("Conv", "Gemm", "MatMul")


def corrected(
    model: onnx.ModelProto, chosen: Collection[str], on: RecordedCalls, form: QuantizationScheme
) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of the graph with corrected biases of these nodes, and the nodes' names."""
    result = type(model).FromString(model.SerializeToString())
    writer, view = GraphWriter(result, on.spilled), View(result)
    nodes = [node for node in result.graph.node if node.name in chosen and node.op_type in _KINDS and _place(view, writer, node)]
    shifts = _shifts(model, nodes, writer, on, form)
    for node in nodes:
        at, place = _place(view, writer, node) or (node, 2)
        if len(at.input) <= place:
            at.input.append("")
        bias = writer.values(at.input[place]).reshape(-1) if at.input[place] else 0
        settings = attributes(at)
        factor = settings.get("beta", 1.0) or 1.0 if at.op_type == "Gemm" else 1.0
        at.input[place] = writer.keep(f"{node.name}_corrected", (bias - shifts[node.name] / factor).astype("float32"))
    writer.finish()
    return result, [node.name for node in nodes]


def _place(view: View, writer: GraphWriter, node: onnx.NodeProto) -> tuple[onnx.NodeProto, int] | None:
    """The node and the input that hold the bias; None where a bias is not constant, or no vector."""
    size = writer.stored[node.input[1]].dims[channels(node, attributes(node))]
    if node.op_type in ("Conv", "Gemm"):
        if len(node.input) < 3 or not node.input[2]:
            return (node, 2)
        bias = writer.stored.get(node.input[2])
        return (node, 2) if bias is not None and list(bias.dims) in ([size], [1, size]) else None
    reader = view.only_reader(node.output[0])
    if reader is None or reader.op_type != "Add":
        return None
    place = 1 - list(reader.input).index(node.output[0])
    bias = writer.stored.get(reader.input[place])
    return (reader, place) if bias is not None and list(bias.dims) == [size] else None


def _shifts(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], writer: GraphWriter, on: RecordedCalls, form: QuantizationScheme
) -> dict[str, Array]:  # fmt: skip
    """By node, the mean over calls of what rounding its weights adds to each channel: the output of the weights' differences."""
    import numpy as np

    beside = ObservedGraph(model)
    for node in nodes:
        values, axis = writer.values(node.input[1]), channels(node, attributes(node))
        own = form.axis(node.name, axis)
        whole, steps = eight.of_weight(values, own, form.steps)
        spread = steps if own is None else steps.reshape([-1 if place == own else 1 for place in range(values.ndim)])
        copy = type(node).FromString(node.SerializeToString())
        copy.name = copy.output[0] = f"{node.name}/shift"
        del copy.input[2:]
        copy.input[1] = f"{node.name}/off"
        beside.add(copy, on.spilled.tensor(np.asarray(whole * spread - values, np.float32), copy.input[1]))
        if node.op_type == "Conv":
            beside.reduce("ReduceMean", copy.output[0], [0, *range(2, values.ndim)])
        else:
            beside.reduce("ReduceMean", beside.table(copy.output[0], values.shape[axis]), [0])
    total = [np.zeros(1)] * len(nodes)
    count = 0
    for observation in beside.seen(on) if nodes else ():
        count += 1
        total = [one + np.nan_to_num(value.astype(np.float64)) for one, value in zip(total, observation, strict=True)]
    return {node.name: each / max(1, count) for node, each in zip(nodes, total, strict=True)}
