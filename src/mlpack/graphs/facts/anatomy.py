"""The anatomy of a graph: bytes by tensor and by layer type, operators by the type in which they compute, and the work of each.

Promises:
- It reads the outline of a model: large weights stay in their files.
- A number that cannot be counted is unknown, which is no failure.
- The same graph gives the same answer.

Will not: run a model or judge anything.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core.records import StepRun
from mlpack.core.trails import Trail
from mlpack.errors import PassError
from mlpack.graphs import files, weights
from mlpack.graphs.facts import graph_work, operators, precisions, shapes
from mlpack.graphs.facts.operators import TensorInfo

if TYPE_CHECKING:
    import onnx

VERSION = 5
"""Raised when the answer for the same graph and shapes changes."""
LARGEST = 20
"""The number of tensors that are listed; the layer types hold the rest."""
_REPLACED = re.compile(r"(?:_integer|_quant|_token_\d+)+$")
"""The suffixes that our quantizer, onnxruntime's and its optimiser add to the name of a node that they replace."""
_MOST_PRODUCTS = 2_000
_MOST_NODES = 4_000
"""Symbolic inference of larger graphs takes minutes."""
_THROUGH = frozenset({
    "DequantizeLinear", "QuantizeLinear", "Cast", "Transpose", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
})  # fmt: skip
"""Operators that may stand between a stored tensor and the layer that it belongs to."""
_ODD = (IndexError, KeyError, ValueError, TypeError, OverflowError, ZeroDivisionError, AttributeError)
"""Exceptions that counting may raise for a graph that no engine has accepted."""

Shapes = Mapping[str, tuple[int, ...]]
Anatomy = dict[str, Any]
"""JSON as documented in docs/interface.md."""


def of_file(path: Path, shapes_given: Shapes | None = None) -> Anatomy:
    """The anatomy of an ONNX file.

    `shapes_given` holds the shape of each input; operations are counted for these shapes, and not at all when it is None. Raises
    PassError when the file is damaged."""
    model = files.load_file(path, outline=True)
    layers = precisions.layers(model)
    stored = _StoredBytes(model, layers)
    work, counted = _operations(model, shapes_given)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for layer in layers:
        if layer.operator == "Constant":
            continue
        row = rows.setdefault(
            (layer.precision, layer.operator),
            {"precision": layer.precision, "operator": layer.operator, "count": 0, "size_bytes": 0, "operations": None},
        )
        row["count"] += 1
        row["size_bytes"] += stored.by_node.get(layer.name, 0)
        if layer.name in work:
            row["operations"] = (row["operations"] or 0) + work[layer.name]
    products = [
        {
            "node": _before(layer.name),
            "operator": layer.operator,
            "precision": layer.precision,
            "size_bytes": stored.by_node.get(layer.name, 0),
            "operations": work.get(layer.name),
        }
        for layer in layers
        if layer.product
    ]
    return {
        "nodes": len(layers),
        "size_bytes": sum(tensor["size_bytes"] for tensor in stored.tensors),
        "layers": stored.layers(),
        "tensors": stored.tensors[:LARGEST],
        "operators": sorted(rows.values(), key=lambda row: (-row["size_bytes"], -row["count"], row["precision"], row["operator"])),
        "products": products[:_MOST_PRODUCTS],
        "kept_float": [],
        "operations": counted,
    }


def with_reasons(anatomy: Anatomy, reasons: Mapping[str, str], damage: Mapping[str, float] | None = None) -> Anatomy:
    """The same anatomy with what stayed float: products beside others in integers, and the nodes that a step left (`reasons`: why,
    by node); the cost of each in bytes and operations, and the damage of quantizing it as a search measured it (`damage`)."""
    floats = set(precisions.FLOATS.values())
    products = {row["node"]: row for row in anatomy["products"]}
    mixed = any(row["precision"] not in floats for row in products.values())
    names = [name for name, row in products.items() if row["precision"] in floats and (mixed or name in reasons)]
    unknown = {"operator": None, "size_bytes": None, "operations": None}
    rows = [
        {"node": name, "why": reasons.get(name), "damage": (damage or {}).get(name)}
        | {key: products.get(name, unknown)[key] for key in unknown}
        for name in dict.fromkeys([*names, *(name for name in reasons if name not in products)])
    ]
    return anatomy | {"kept_float": sorted(rows, key=lambda row: -(row["size_bytes"] or 0))[:_MOST_PRODUCTS]}


def reasons_of(steps: Iterable[StepRun], trail: Trail | None) -> tuple[dict[str, str], dict[str, float]]:
    """The reasons why steps left nodes float, from their notes, and a search's damage. A note of another form is ignored."""
    reasons: dict[str, str] = {}
    for step in steps:
        noted = step.notes.get("kept")
        reasons |= {str(name): str(why) for name, why in noted.items()} if isinstance(noted, Mapping) else {}
    if trail is None:
        return reasons, {}
    floats = trail.tried[trail.taken].kept_float if trail.taken is not None else ()
    return reasons | dict.fromkeys(floats, "the search put it back to float"), dict(trail.damage)


class _StoredBytes:
    """The bytes that a graph stores, each with the layer that reads it."""

    def __init__(self, model: onnx.ModelProto, layers: tuple[precisions.LayerPrecision, ...]) -> None:
        nodes = [*files.nodes(model.graph), *(node for function in model.functions for node in files.nodes(function))]
        self._layers = {id(node): layer for node, layer in zip(nodes, layers, strict=True)}
        self._readers: dict[str, Any] = {}
        for node in reversed(nodes):  # the first reader stays
            for name in node.input:
                self._readers[name] = node
        self.by_node: dict[str, int] = defaultdict(int)
        self.tensors: list[dict[str, Any]] = []
        for graph in files.graphs(model.graph):
            for tensor in graph.initializer:
                self._add(tensor.name, _kind(tensor), list(tensor.dims), _bytes(tensor), self._owner(tensor.name))
            for sparse in graph.sparse_initializer:
                size = _bytes(sparse.values) + _bytes(sparse.indices)
                self._add(sparse.values.name, _kind(sparse.values), list(sparse.dims), size, self._owner(sparse.values.name))
        for node in nodes:
            for name, kind, dims, size in _attributes(node):
                owner = self._owner(node.output[0]) if node.op_type == "Constant" and node.output else node
                self._add(f"{node.name or next(iter(node.output), '')}.{name}", kind, dims, size, owner)
        self.tensors.sort(key=lambda one: (-one["size_bytes"], one["name"]))

    def _add(self, name: str, kind: str, dims: list[int], size: int, owner: Any) -> None:
        layer = None if owner is None else self._layers[id(owner)]
        if layer is not None:
            self.by_node[layer.name] += size
        self.tensors.append({
            "name": name, "dtype": kind, "shape": dims, "size_bytes": size, "layer": layer.operator if layer else None,
            "node": layer.name if layer else None,
        })  # fmt: skip

    def _owner(self, name: str) -> Any:
        """The node that a stored tensor belongs to: its first reader, behind nodes that only unpack or transpose it."""
        visited: set[str] = set()
        node = self._readers.get(name)
        while node is not None and node.op_type in _THROUGH and node.output and node.output[0] not in visited:
            visited.add(node.output[0])
            after = self._readers.get(node.output[0])
            if after is None:
                break
            node = after
        return node

    def layers(self) -> list[dict[str, Any]]:
        """Bytes and tensors of each layer type, the largest first."""
        sums: dict[str | None, list[int]] = defaultdict(lambda: [0, 0])
        for tensor in self.tensors:
            sums[tensor["layer"]][0] += tensor["size_bytes"]
            sums[tensor["layer"]][1] += 1
        rows = [{"layer": layer, "size_bytes": size, "tensors": count} for layer, (size, count) in sums.items()]
        return sorted(rows, key=lambda row: (-row["size_bytes"], str(row["layer"])))


def _operations(model: onnx.ModelProto, input_shapes: Shapes | None) -> tuple[dict[str, int], dict[str, Any] | None]:
    """Operations by node, each fused node counted with its kernel; and their sum, for which shapes, and the number of tensors
    without a known shape. None where nothing can be counted."""
    if input_shapes is None or len(model.graph.node) > _MOST_NODES:
        return {}, None
    try:
        tensors = shapes.inferred(weights.declared(model), input_shapes)
        if tensors is None:
            return {}, None
        work = graph_work.count(model, tensors)
    except (PassError, *_ODD):
        return {}, None
    counts: dict[str, int] = defaultdict(int)
    holes = [name for node in model.graph.node for name in node.output if name and name not in tensors]
    blind = {node.name or node.output[0] for node in model.graph.node if set(node.output) & set(holes)}
    for kernel in work.kernels:
        if kernel.name not in blind:
            counts[kernel.name] += round(kernel.matrix_flops + kernel.vector_flops)
    unknown = len(holes)
    summary = {
        "total": sum(counts.values()),
        "unknown_shapes": unknown,
        "inputs": {name: list(axes) for name, axes in input_shapes.items()},
    }
    return dict(counts), summary


def _before(name: str) -> str:
    """The name of a node before it was quantized and fused."""
    return _REPLACED.sub("", name) or name


def _attributes(node: Any) -> Iterator[tuple[str, str, list[int], int]]:
    """Numbers that a node itself holds: constants, and the tables of trees. Single settings are no weights."""
    for attribute in node.attribute:
        for tensor in ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors):
            yield attribute.name, _kind(tensor), list(tensor.dims), _bytes(tensor)
        for kind, values, size in (("float", attribute.floats, 4), ("int64", attribute.ints, 8)):
            if len(values) > 8:
                yield attribute.name, kind, [len(values)], size * len(values)
        if len(attribute.strings) > 8:
            yield attribute.name, "string", [len(attribute.strings)], sum(map(len, attribute.strings))


def _kind(tensor: Any) -> str:
    try:
        return operators.dtype_name(tensor.data_type)
    except ValueError:
        return f"type {tensor.data_type}"


def _bytes(tensor: Any) -> int:
    """The bytes that are there, whatever a foreign shape says. The shape counts only for numbers in fields of their own."""
    if tensor.string_data:
        return sum(map(len, tensor.string_data))
    if (place := weights.referred(tensor)) is not None:
        return place.length
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    values = max(len(getattr(tensor, name)) for name in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"))
    return int(-(-TensorInfo(_kind(tensor), (values,)).nbytes // 1)) if values else 0
