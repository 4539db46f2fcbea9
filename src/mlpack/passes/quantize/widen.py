"""Replaces half-precision weights that the graph casts before use by the float32 values that the cast gives.

Promises:
- The graph computes the same.

Engines without float16 arithmetic put such casts before each product, and quantizers see no constant weight behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlpack.graphs import weights

if TYPE_CHECKING:
    import onnx

    from mlpack.graphs.spill import Spill


def widen(model: onnx.ModelProto, spilled: Spill | None) -> None:
    """Widen the weights, in place, at the top of the graph. Tensors that only the casts read stay: `files.save` drops what nothing
    reads.

    `spilled`: where large weights go; None: the graph is only examined, and widened weights have a type and a shape but no
    values.
    """
    import numpy as np
    from onnx import TensorProto

    graph = model.graph
    half = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    output_names = {value.name for value in graph.output}
    nodes = []
    for node in graph.node:
        to = next((attribute.i for attribute in node.attribute if attribute.name == "to"), 0)
        if node.op_type != "Cast" or node.input[0] not in half or to != TensorProto.FLOAT or node.output[0] in output_names:
            nodes.append(node)
            continue
        name, narrow = node.output[0], half[node.input[0]]
        if spilled is None:
            graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=narrow.dims)
        else:
            graph.initializer.append(spilled.tensor(weights.array(narrow).astype(np.float32), name))
    if len(nodes) == len(graph.node):
        return
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
