"""The node that makes each tensor of a graph, and the nodes that read it.

Promises:
- It changes nothing. Readers inside bodies of If, Loop and Scan count, and so does whoever takes the graph's outputs.
- It describes one moment: a graph that changes needs a new one.
"""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import TYPE_CHECKING

from mlpack.graphs import files, weights

if TYPE_CHECKING:
    import onnx

_FLOAT = 1  # TensorProto.FLOAT


class Readers:
    """`stored`: initializers by name; `made`: the node that makes a tensor; `readers`: nodes of the graph that read it, once for
    each input; `others`: tensors that are also read outside of the graph's own nodes."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.made = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.others = {value.name for value in graph.output}
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)
            for nested in files.subgraphs(node):
                self.others |= files.names_read(nested)

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The one node that reads the tensor, once, if nothing else does."""
        nodes = self.readers[tensor]
        return nodes[0] if len(nodes) == 1 and tensor not in self.others else None

    def scalar(self, name: str) -> float | None:
        """The one value of a stored tensor of floats."""
        tensor = self.stored.get(name)
        if tensor is None or prod(tensor.dims) != 1 or tensor.data_type != _FLOAT:
            return None
        return float(weights.array(tensor).reshape(()))
