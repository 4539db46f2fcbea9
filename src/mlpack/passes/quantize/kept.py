"""Nodes that stay float although their operator would be quantized: a node that cannot be costs itself, not the candidate.

Promises: decided by the graph, and for Concat by the calibration data; the same both times. It quantizes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlpack.graphs import weights
from mlpack.passes.quantize.ranges import Ranges, measured

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

FACTOR = 8.0
"""A Concat has one scale for all its inputs: one whose range is an eighth of another's keeps 5 of its 8 bits at most. Pixels beside
scores (600 and 1) leave scores none."""

_MATRICES = ("MatMul", "Gemm")


def of_dynamic(model: onnx.ModelProto) -> list[str]:
    """Names of nodes that onnxruntime's dynamic quantizer takes for what they are not, or cannot do."""
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        # ONNX has an Attention of its own since operator set 23: queries, keys and values instead of one matrix.
        if (node.op_type == "Attention" and node.domain != "com.microsoft") or (node.op_type in _MATRICES and _stacked(node, ranks))
    ]


def of_static(model: onnx.ModelProto, model_dir: Path, ranges: Ranges) -> list[str]:
    """Names of nodes that lose by one scale, or that the static quantizer cannot do. Reads calibration calls where there is a
    Concat."""
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    stacked = [node.name for node in model.graph.node if node.op_type in _MATRICES and _stacked(node, ranks)]
    return stacked + _unlike(model, model_dir, ranges)


def _stacked(node: onnx.NodeProto, ranks: Mapping[str, int]) -> bool:
    """Whether a weight is a stack of matrices: scales along output channels are for one matrix."""
    return any(ranks.get(name, 2) > 2 for name in node.input[:2])


def _unlike(model: onnx.ModelProto, model_dir: Path, ranges: Ranges) -> list[str]:
    """Concats of inputs whose ranges differ by more than `FACTOR`."""
    import numpy as np

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    floats = _float_names(model)
    joins = [node for node in model.graph.node if node.op_type == "Concat" and floats.issuperset(node.input)]
    names = list(dict.fromkeys(name for node in joins for name in node.input if name not in stored))
    if not names:
        return []
    seen = measured(model, model_dir, names, ranges)
    found = {name: seen.largest(name) if name in seen.ranges else 0.0 for name in names}
    for name in {name for node in joins for name in node.input if name in stored}:
        found[name] = float(np.abs(weights.array(stored[name])).max(initial=0))
    kept = []
    for node in joins:
        sizes = [found[name] for name in node.input if found[name] > 0]
        if sizes and max(sizes) > FACTOR * min(sizes):
            kept.append(node.name)
    return kept


def _float_names(model: onnx.ModelProto) -> set[str]:
    """Tensors that are float32 as far as inference tells."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(weights.skeleton(model))
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    named = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return named | {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
