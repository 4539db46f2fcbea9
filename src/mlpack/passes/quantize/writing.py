"""Adds tensors and nodes to a graph under names that nothing else has.

Promises:
- The same additions in the same order give the same names and bytes. A tensor that is added twice is stored once.
- Large tensors are on disk, not in memory (`graphs.spill`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlpack.graphs import files, spill, weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]


_LONGEST_NAME = 48


class GraphWriter:
    """Collects the additions to one model; `finish` puts the tensors into it."""

    def __init__(self, model: onnx.ModelProto, spilled: spill.Spill) -> None:
        self.model = model
        self._spilled = spilled
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._taken = {value.name for value in (*model.graph.input, *model.graph.output)} | set(self.stored)
        for node in files.nodes(model.graph):
            self._taken.update((node.name, *node.input, *node.output))
            for nested in files.subgraphs(node):
                self._taken.update(value.name for value in (*nested.input, *nested.output, *nested.initializer))
        self._added: dict[tuple[str, bytes, str], onnx.TensorProto] = {}

    def fresh(self, base: str) -> str:
        """A new name: the end of `base` where that is free. Some exporters' names are longer than their weights."""
        base = base[-_LONGEST_NAME:]
        name, number = base, 1
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name

    def keep(self, base: str, values: Array) -> str:
        """Store these values. Returns the name."""
        key = (base, spill.content(values), f"{values.dtype}{values.shape}")
        if key not in self._added:
            self._added[key] = self._spilled.tensor(values, self.fresh(base))
        return str(self._added[key].name)

    def node(self, kind: str, takes: Sequence[str], gives: Sequence[str], name: str, **attributes: Any) -> onnx.NodeProto:
        """A node with a name of its own."""
        from onnx import helper

        return helper.make_node(kind, takes, gives, name=self.fresh(name), **attributes)

    def values(self, name: str) -> Array:
        """A stored tensor's values; for a large one a view of its file."""
        return weights.array(self.stored[name])

    def imports(self, domain: str) -> None:
        """Declare that the graph uses operators of this domain."""
        if all(entry.domain != domain for entry in self.model.opset_import):
            entry = self.model.opset_import.add()
            entry.domain, entry.version = domain, 1

    def finish(self) -> None:
        """Store the tensors, and remove those that nothing reads any more."""
        graph = self.model.graph
        read = files.names_read(graph)
        for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
            graph.initializer.remove(tensor)
        graph.initializer.extend(tensor for tensor in self._added.values() if tensor.name in read)
        del graph.value_info[:]


def replace(graph: onnx.GraphProto, instead: Mapping[str, Sequence[onnx.NodeProto]]) -> None:
    """Replace the nodes of these names by others, in this graph alone."""
    put(graph, [new for node in graph.node for new in instead.get(node.name, (node,))])


def put(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make these the nodes of the graph."""
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
