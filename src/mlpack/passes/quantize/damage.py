"""What quantizing does at each node: a few calls through the float graph, with one node's quantized part after the other in it.

Promises: each node is judged by itself: its own part of the quantized graph is fed with float activations, and what it gives goes
on through the float graph to the outputs, beside the float activations of the same call; nodes go through in groups, so that memory
is bounded; weights of both graphs are written once, and mapped; equal graphs and calls give equal numbers. It ranks: what to do
about it is the ladder's business.

A node's damage is what its error does to the outputs, as `fidelity` judges them: each channel's error over its own variance, the
worst one counting. The error at the node itself does not tell: in front of a logarithm or a Softmax a thousandth is much, in a
branch that a residual connection outweighs a tenth is little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack import temporary
from mlpack.data import reader
from mlpack.graphs import check, files, versions, weights
from mlpack.metrics import channels

if TYPE_CHECKING:
    import onnx

VERSION = 3
FORWARDS = 256
"""Calls times nodes, at most: about what an evaluation on as many samples costs."""
_CALLS = 16
"""Ranks settle after a few: a bisection forgives a neighbour in the wrong place."""
_BYTES = 64 << 20
"""Of inputs, all calls together: one may be a second of audio or a large picture."""
_NODES, _GROUP = 8_000, 16
"""Of a graph that is run at once, about, and quantized nodes in it."""
_DIGITS = 4
"""Of what is kept: sums differ in their last bits from one processor to the next, ranks should not."""
_BESIDE = "q/"
_COPIED_BYTES = 512 << 20
_IN_PLACE = {"session.disable_prepacking": "1"}
"""Above so many bytes of weights that nodes read, they are read from the mapped file: the engine arranges a copy for each node, and
what comes behind a node is here once more for each node of a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantized node. `intensity`: multiplications for each value that is read or written, by which integers pay."""

    node: str
    damage: float
    intensity: float


def rank(
    float_dir: Path, quantized_dir: Path, nodes: Sequence[str], calls: Path, scratch: Path, forwards: int = FORWARDS
) -> tuple[Row, ...]:
    """The nodes named, most damage first; equal ones in the graph's order. Nodes whose results cannot be compared come last, with
    a damage of 0. `forwards`: calls times nodes, at most, but for one call. Raises PassError where the graphs cannot be run side by
    side."""
    model, quantized = files.outline(float_dir), files.outline(quantized_dir)
    signature = files.signature_of(model)
    if versions.of(model) < versions.of(quantized):
        model = versions.raised(model, versions.of(quantized))
    wanted = [node for node in model.graph.node if node.name in set(nodes)]
    size = max(1, min(_GROUP, _NODES // max(1, len(model.graph.node))))
    count = max(1, min(_CALLS, forwards // max(1, len(wanted))))
    feeds = list(_bounded(islice(reader.read(calls, float_dir, signature), count)))
    rows: list[Row] = []
    with temporary.directory("damage", scratch) as work:
        joined = _joined(model, quantized, work)
        for start in range(0, len(wanted), size):
            rows += _of_group(_Both(joined, quantized), wanted[start : start + size], feeds, work)
    known = {row.node for row in rows}
    rows += [Row(node=name, damage=0.0, intensity=math.inf) for name in nodes if name not in known]
    return tuple(sorted(rows, key=lambda row: -row.damage))


def _bounded(feeds: Iterator[Any]) -> Iterator[Any]:
    taken = 0
    for feed in feeds:
        yield feed
        taken += sum(getattr(value, "nbytes", 0) for value in feed.values())
        if taken > _BYTES:
            return


def _of_group(both: _Both, nodes: Sequence[onnx.NodeProto], feeds: Sequence[Any], work: Path) -> Iterator[Row]:
    """Rows of these nodes, by one run of each call."""
    import numpy as np

    places = [(node, both.place(number, node)) for number, node in enumerate(nodes)]
    graph = both.graph()
    (work / files.MODEL).write_bytes(graph.SerializeToString())
    opened = check.session(work, "ORT_DISABLE_ALL", _IN_PLACE if _read_bytes(graph) > _COPIED_BYTES else None)
    names = [value.name for value in opened.get_outputs()]
    seen: dict[str, list[Any]] = {name: [] for name in names}
    for feed in feeds:
        for name, value in zip(names, check.run(opened, feed), strict=True):
            seen[name].append(value)
    for node, place in places:
        moved = [float(np.max(seen[name])) for name in (place.read, place.written) if name]
        work_done = (moved[-1] if moved else 0.0) * _inner(node, both.dims)
        lost = [channels.lost(list(zip(seen[changed], seen[plain], strict=True))) for plain, changed in place.outputs]
        yield Row(
            node=node.name,
            damage=max((_rounded(each) for each in lost), default=0.0),
            intensity=_rounded(work_done / sum(moved)) if work_done else math.inf,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Names of outputs that say how one node does: pairs of an output of the graph and the same with the node's error in it; how
    many values it reads and writes."""

    outputs: tuple[tuple[str, str], ...] = ()
    read: str | None = None
    written: str | None = None


def _joined(model: onnx.ModelProto, quantized: onnx.ModelProto, work: Path) -> onnx.ModelProto:
    """The float graph with the weights of both, which lie in `work` from now on."""
    both = type(model).FromString(model.SerializeToString())
    known = {(entry.domain or "ai.onnx") for entry in both.opset_import}
    both.opset_import.extend(each for each in quantized.opset_import if (each.domain or "ai.onnx") not in known)
    both.ir_version = max(both.ir_version, quantized.ir_version)
    both.functions.extend(each for each in quantized.functions if each not in both.functions)
    for tensor in quantized.graph.initializer:
        copied = both.graph.initializer.add()
        copied.CopyFrom(tensor)
        copied.name = _BESIDE + tensor.name
    files.place_weights(both, work)
    return both


def _read_bytes(model: onnx.ModelProto) -> int:
    """The bytes of weights that nodes read, as many times over as they are read: each reader may have a copy arranged for it."""
    sizes = {tensor.name: weights.size_of(tensor) for tensor in model.graph.initializer if tensor.data_location}
    return sum(sizes.get(name, 0) for node in files.nodes(model.graph) for name in node.input)


class _Both:
    """The float graph as it is (`_joined`), and for each node of a group its quantized part and what comes behind it once more."""

    def __init__(self, model: onnx.ModelProto, quantized: onnx.ModelProto) -> None:
        self._model, self._quantized = model, quantized
        graph = model.graph
        self.dims = {each.name: tuple(each.dims) for each in graph.initializer if not each.name.startswith(_BESIDE)}
        self._stored = {tensor.name for tensor in quantized.graph.initializer}
        self._inputs = {value.name for value in graph.input} - set(self.dims)
        self._floats = self._inputs | {name for node in graph.node for name in node.output if name}
        self._makers = {name: node for node in quantized.graph.node for name in node.output if name}
        self._added: list[onnx.NodeProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._sizes: dict[str, str] = {}

    def place(self, number: int, node: onnx.NodeProto) -> _Place:
        """Add what says how this node does; an empty place where the quantized graph has nothing that stands for its result."""
        found = self._counterpart(node)
        local = None if found is None else self._slice(*found, f"l{number}/")
        if found is None or local is None:
            return _Place()
        read = next((each for each in node.input if each in self._floats), None)
        return _Place(
            outputs=self._onward(found[1], local, f"t{number}/"),
            read=None if read is None else self._size(read),
            written=self._size(found[1]),
        )

    def graph(self) -> onnx.ModelProto:
        """Everything, with the outputs of the float graph first."""
        both = type(self._model).FromString(self._model.SerializeToString())
        both.graph.node.extend(self._added)
        both.graph.output.extend(self._outputs)
        return both

    def _slice(self, name: str, of: str, prefix: str) -> str | None:
        """What makes this tensor of the quantized graph from tensors that the float graph has too, once more, fed with those. `of`:
        the tensor that it stands for, which is made here too."""
        inside = {name, of}
        needed: dict[int, onnx.NodeProto] = {}
        waiting = [self._makers[name]]
        while waiting:
            node = waiting.pop()
            if id(node) in needed:
                continue
            if any(True for _ in files.subgraphs(node)):
                return None
            needed[id(node)] = node
            inner = [each for each in node.input if each and each not in self._floats - inside]
            waiting.extend(self._makers[each] for each in inner if each in self._makers)
        made = {each for node in needed.values() for each in node.output if each}

        def fed(each: str) -> str:
            if not each or each in self._inputs:
                return each
            if each in made and each not in self._floats - inside:
                return prefix + each
            return _BESIDE + each if each in self._stored else each

        order = [node for node in self._quantized.graph.node if id(node) in needed]
        self._added.extend(_copy(node, fed, prefix) for node in order)
        return prefix + name

    def _onward(self, name: str, local: str, prefix: str) -> tuple[tuple[str, str], ...]:
        """What comes behind this tensor, once more with the error in it: pairs of an output and the same with the error."""
        changed = {name: local}

        def fed(each: str) -> str:
            return changed.get(each, each)

        for node in self._model.graph.node:
            if any(each in changed for each in _reads(node)):
                self._added.append(_copy(node, fed, prefix))
                changed |= {each: prefix + each for each in node.output if each}
        pairs = []
        for value in self._model.graph.output:
            if value.name in changed:
                made = type(value).FromString(value.SerializeToString())
                made.name = changed[value.name]
                self._outputs.append(made)
                pairs.append((value.name, made.name))
        return tuple(pairs)

    def _counterpart(self, node: onnx.NodeProto) -> tuple[str, str] | None:
        """A tensor of the quantized graph and one of the float graph that stand for the node's first result."""
        name = str(node.output[0])
        if name in self._makers:
            return name, name
        # A quantizer took a Relu into the node before it: what it gives has the Relu's name, and is cut where it is rounded.
        twin = next((each for each in self._quantized.graph.node if each.name == node.name), None)
        if twin is None:
            return None
        raw = rounded = str(twin.output[0])
        for kind in ("QuantizeLinear", "DequantizeLinear"):
            after = (n.output[0] for n in self._quantized.graph.node if n.op_type == kind and n.input[0] == rounded)
            rounded = str(next(after, rounded))
        known = next((each for each in (raw, rounded) if each in self._floats), None)
        return None if known is None else (rounded, known)

    def _size(self, name: str) -> str:
        """An output with the number of a tensor's values."""
        from onnx import TensorProto, helper

        if name not in self._sizes:
            made = self._sizes[name] = f"s/{len(self._sizes)}"
            self._added.append(helper.make_node("Size", [name], [made], f"n/{made}"))
            self._outputs.append(helper.make_tensor_value_info(made, TensorProto.INT64, []))
        return self._sizes[name]


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, nested graphs included."""
    yield from node.input
    for nested in files.subgraphs(node):
        yield from (value.name for value in nested.output)
        for inner in nested.node:
            yield from _reads(inner)


def _copy(node: onnx.NodeProto, read: Callable[[str], str], prefix: str) -> onnx.NodeProto:
    """The node once more: results with the prefix, other inputs, those of nested graphs too."""
    copied = type(node).FromString(node.SerializeToString())
    copied.name = f"{prefix}{node.name or node.output[0]}/node"
    copied.output[:] = [prefix + name if name else name for name in node.output]
    _feed(copied, read)
    return copied


def _feed(node: onnx.NodeProto, read: Callable[[str], str]) -> None:
    node.input[:] = [read(name) for name in node.input]
    for nested in files.subgraphs(node):
        for value in nested.output:
            value.name = read(value.name)
        for inner in nested.node:
            _feed(inner, read)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _inner(node: onnx.NodeProto, weights: dict[str, tuple[int, ...]]) -> int:
    """Multiplications for each value that a node gives; 0 where that is not known."""
    shape = next((weights[name] for name in node.input[1:2] if len(weights.get(name, ())) >= 2), ())
    if not shape:
        return 0
    if node.op_type == "Conv":
        return prod(shape[1:])
    if node.op_type == "Gemm":
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return shape[1] if turned else shape[0]
    return shape[-2] if node.op_type == "MatMul" else shape[0] if node.op_type == "ConvTranspose" else 0


def plain(rows: Sequence[Row]) -> list[list[Any]]:
    """Rows for JSON: null is infinite."""
    return [[row.node, *(each if math.isfinite(each) else None for each in (row.damage, row.intensity))] for row in rows]


def read_rows(rows: Sequence[Sequence[Any]]) -> tuple[Row, ...]:
    """What `plain` gave."""

    def number(value: Any) -> float:
        return math.inf if value is None else float(value)

    return tuple(Row(node=str(node), damage=number(lost), intensity=number(work)) for node, lost, work in rows)
