"""Rewrites operators for which onnxruntime has slow CPU kernels, or several, as operators with fast kernels. In place.

Promises:
- The graph computes the same, to the rounding of float32.
- Operators are joined only where nothing else reads what is between them. Only the cases in this module change.
"""

from __future__ import annotations

from math import isclose, prod
from typing import TYPE_CHECKING, Any

from mlpack.graphs import check, weights
from mlpack.graphs.foreign import versions
from mlpack.graphs.readers import Readers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

_FLOAT = 1  # TensorProto.FLOAT
_BATCHED = 4
"""From so many axes on, a Softmax along another than the last takes 3.7 times as long as its parts: measured for (1, 16, 4,
2100)."""


def restate(model: onnx.ModelProto) -> None:
    """Rewrite, in place: a Sum of two as an Add; `clip(x + 3, 0, 6) / 6` as a HardSigmoid; a factor and an offset by channel behind
    a normalisation as part of it."""
    graph = model.graph
    for node in graph.node:
        if node.op_type == "Sum" and not node.domain and len(node.input) == 2:
            node.op_type = "Add"
    fusion = _FusionGraph(graph)
    ranks = ranks_of(model) if any(node.op_type == "BatchNormalization" for node in graph.node) else {}
    for node in list(graph.node):
        if node.op_type == "Clip" and not node.domain:
            _hard_sigmoid(fusion, node)
        if node.op_type == "BatchNormalization" and len(node.output) == 1:
            while _take(fusion, node, ranks):
                pass
    fusion.finish()


def spread_softmax(model: onnx.ModelProto) -> None:
    """Replace a Softmax along another axis than the last by its parts, where there are so many axes that this is faster."""
    import numpy as np
    from onnx import helper, numpy_helper

    graph = model.graph
    softmaxes = [node for node in graph.node if node.op_type == "Softmax" and not node.domain and _axis(node) != -1]
    if not softmaxes or (version := versions.of(model)) < 13:
        return
    ranks = ranks_of(model)
    names_in_use = {name for node in graph.node for name in (*node.output, node.name)} | {
        tensor.name for tensor in graph.initializer
    }
    for node in softmaxes:
        rank, source = ranks.get(node.input[0], 0), node.input[0]
        axis = _axis(node) % rank if rank else 0
        names = [f"{node.name}/{part}" for part in ("axis", "most", "below", "powers", "total")]
        if rank < _BATCHED or axis == rank - 1 or not names_in_use.isdisjoint(names):
            continue
        axes, most, below, powers, total = names
        graph.initializer.append(numpy_helper.from_array(np.array([axis], np.int64), axes))
        highest = helper.make_node("ReduceMax", [source, axes] if version >= 18 else [source], [most], name=most)
        if version < 18:
            highest.attribute.append(helper.make_attribute("axes", [axis]))
        nodes = [
            highest, helper.make_node("Sub", [source, most], [below], name=below),
            helper.make_node("Exp", [below], [powers], name=powers),
            helper.make_node("ReduceSum", [powers, axes], [total], name=total),
            helper.make_node("Div", [powers, total], list(node.output), name=node.name),
        ]  # fmt: skip
        place = list(graph.node).index(node)
        del graph.node[place]
        for number, each in enumerate(nodes):
            graph.node.insert(place + number, each)


def ranks_of(model: onnx.ModelProto) -> dict[str, int]:
    """The number of axes of tensors, as far as ONNX's inference finds it; empty for a graph that inference refuses."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, *check.TOOL_ERRORS):
        return {}
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in values if value.type.tensor_type.HasField("shape")}


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)


class _FusionGraph(Readers):
    """A graph whose nodes are being fused."""

    def reader(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The one node that reads the result, if nothing else does."""
        return self.only_reader(node.output[0])

    def with_constant(self, node: onnx.NodeProto | None, kinds: tuple[str, ...]) -> tuple[str, Any] | None:
        """The tensor and the constant that a node of these operators takes, in either order; a Div has it second."""
        if node is None or node.op_type not in kinds or node.domain or len(node.input) != 2:
            return None
        for tensor, constant in (node.input, reversed(node.input)):
            stored = self.stored.get(constant)
            if stored is not None and stored.data_type == _FLOAT and tensor not in self.stored:
                return (tensor, weights.array(stored)) if node.op_type != "Div" or constant == node.input[1] else None
        return None

    def keep(self, name: str, values: Any) -> str:
        """Store a tensor under a new name."""
        from onnx import numpy_helper

        while name in self.stored or name in self.made:
            name += "_"
        self.stored[name] = numpy_helper.from_array(values, name)
        self.graph.initializer.append(self.stored[name])
        return name

    def drop(self, node: onnx.NodeProto, result: onnx.NodeProto) -> None:
        """Remove a node whose result another one now gives."""
        result.output[0] = node.output[0]
        self.made[node.output[0]] = result
        node.op_type = ""

    def finish(self) -> None:
        """Remove the dropped nodes from the graph."""
        nodes = [type(node).FromString(node.SerializeToString()) for node in self.graph.node if node.op_type]
        if len(nodes) < len(self.graph.node):
            del self.graph.node[:]
            self.graph.node.extend(nodes)


def _hard_sigmoid(graph: _FusionGraph, clip: onnx.NodeProto) -> None:
    """Replace `clip(x + offset, 0, most)`, divided by `most` at once or behind a product, by a HardSigmoid."""
    from onnx import helper

    bounds = [*clip.input[1:], "", ""][:2]
    low, most = (graph.scalar(name) for name in bounds)
    shift = graph.made.get(clip.input[0])
    moved = graph.with_constant(shift, ("Add",))
    if low != 0 or most is None or most <= 0 or shift is None or moved is None or graph.reader(shift) is None:
        return
    source, offset = moved
    after = graph.reader(clip)
    product = after if after is not None and after.op_type == "Mul" and not _divides(graph, after, most) else None
    divides = after if product is None else graph.reader(product)
    if divides is None or not _divides(graph, divides, most) or offset.size != 1 or offset.ndim > 1:
        return
    clip.CopyFrom(
        helper.make_node(
            "HardSigmoid", [source], list(clip.output), name=clip.name, alpha=1 / most, beta=float(offset.reshape(())) / most
        )
    )
    graph.drop(divides, product if product is not None else clip)
    graph.drop(shift, shift)


def _divides(graph: _FusionGraph, node: onnx.NodeProto | None, by: float) -> bool:
    """Whether a node divides by this number."""
    with_one = graph.with_constant(node, ("Div", "Mul"))
    if node is None or with_one is None or with_one[1].size != 1 or with_one[1].ndim > 1:
        return False
    value = float(with_one[1].reshape(()))
    return isclose(value if node.op_type == "Div" else 1 / value if value else 0.0, by, rel_tol=1e-6)


def _take(graph: _FusionGraph, node: onnx.NodeProto, ranks: Mapping[str, int]) -> bool:
    """Fold a factor or an offset by channel behind a normalisation into it. Returns whether it did."""
    import numpy as np

    after = graph.reader(node)
    with_one = graph.with_constant(after, ("Mul", "Add"))
    scale, bias = (graph.stored.get(name) for name in node.input[1:3])
    if after is None or with_one is None or scale is None or bias is None or scale.data_type != _FLOAT:
        return False
    values, channels = with_one[1], prod(scale.dims)
    by_channel = values.shape in ((channels, 1, 1), (1, channels, 1, 1))
    if not (by_channel and ranks.get(node.input[0]) == _BATCHED) and (values.size != 1 or values.ndim > 1):
        return False
    each = np.broadcast_to(values.reshape(-1).astype(np.float64), (channels,))
    old = [weights.array(tensor).astype(np.float64) for tensor in (scale, bias)]
    new = [old[0] * each, old[1] * each] if after.op_type == "Mul" else [old[0], old[1] + each]
    for place, (base, parameter) in enumerate(zip((scale, bias), new, strict=True), start=1):
        node.input[place] = graph.keep(f"{node.name}_{base.name}", parameter.astype(np.float32))
    graph.drop(after, node)
    return True
