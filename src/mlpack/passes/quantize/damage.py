"""Measures the damage of quantization at each node: a few calls run through the float graph with one quantized node at a time.

Promises:
- Each node is judged alone. Its quantized part gets float activations, its result goes on through the float graph to the
  outputs, and these are compared with those of the float graph for the same call.
- The answers for one node at a time are in memory. The weights of both graphs are written once, and mapped.
- The same graphs and calls give the same numbers.

Will not: decide what to do. The ladder does.

A node's damage is what its error does to the outputs, as `fidelity` judges them: each channel's error over its own variance, of
which the worst counts. The error at the node itself does not tell: before a logarithm or a Softmax a thousandth is much, in a
branch that a residual connection outweighs a tenth is little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.core.files import temporary
from mlpack.evaluation.data import reader
from mlpack.evaluation.metrics.fidelity import channels
from mlpack.graphs import check, files
from mlpack.graphs.foreign import versions

if TYPE_CHECKING:
    import onnx

VERSION = 4
FORWARDS = 512
"""The most runs (calls times nodes): a run of a small model takes a millisecond, and its build some seconds."""
_CALLS, _LOOKED_AT = 16, 64
"""Ranks settle after a few calls: a bisection forgives a neighbour in the wrong place. They are those of many on which all nodes
together do most damage: a class that one picture in sixteen shows is what a detector loses first (measured: three nodes of its
scores, a damage of 0.24 to 0.48 on that picture and below 0.002 on others)."""
_BYTES = 64 << 20
"""The most bytes of inputs, all calls together: one may be a second of audio or a large picture."""
_DIGITS = 4
"""The digits that are kept: sums differ in their last bits from one processor to the next, ranks should not."""
_BESIDE, _WHICH, _EACH = "q/", "which/", "which/each"
_NONE, _ALL = -1, -2
"""The number for no node in integers (the float itself), and for all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDamage:
    """One quantized node: its damage, its multiplications, and the values that it reads and writes in the largest call, 0 where
    they are not known."""

    node: str
    damage: float
    work: float = 0.0
    read: float = 0.0
    written: float = 0.0

    @property
    def intensity(self) -> float:
        """Multiplications for each value that is read or written, on which the gain of integers depends; infinite where that is not
        known."""
        return self.work / (self.read + self.written) if self.work else math.inf


def rank(
    float_dir: Path, quantized_dir: Path, nodes: Sequence[str], calls: Path, scratch: Path, forwards: int = FORWARDS
) -> tuple[NodeDamage, ...]:
    """The nodes, most damage first; equal ones in the graph's order. Nodes whose results cannot be compared come last, with a
    damage of 0. `forwards`: the most runs (calls times nodes), except that one call always runs. Raises PassError where the
    graphs cannot run side by side."""
    model, quantized = files.outline(float_dir), files.outline(quantized_dir)
    signature = files.signature_of(model)
    if versions.of(model) < versions.of(quantized):
        model = versions.raised(model, versions.of(quantized))
    nodes_ranked = [node for node in model.graph.node if node.name in set(nodes)]
    count = max(1, min(_CALLS, forwards // max(1, len(nodes_ranked))))
    feeds = list(_bounded(islice(reader.read(calls, float_dir, signature), max(count, min(_LOOKED_AT, len(nodes_ranked))))))
    both = _MixedGraph(model, quantized)
    with temporary.directory("damage", scratch) as work:
        rows = list(_of(both, [(node, both.place(number, node)) for number, node in enumerate(nodes_ranked)], feeds, count, work))
    ranked = {row.node for row in rows}
    rows += [NodeDamage(node=name, damage=0.0) for name in nodes if name not in ranked]
    return tuple(sorted(rows, key=lambda row: -row.damage))


def _bounded(feeds: Iterator[Any]) -> Iterator[Any]:
    count = 0
    for feed in feeds:
        yield feed
        count += sum(getattr(value, "nbytes", 0) for value in feed.values())
        if count > _BYTES:
            return


def _of(
    both: _MixedGraph, places: Sequence[tuple[onnx.NodeProto, _CountOutputs | None]], feeds: Sequence[Any], count: int, work: Path
) -> Iterator[NodeDamage]:
    """The damage of these nodes: the float graph and all nodes together run on each call, each node alone on the calls that
    matter."""
    import numpy as np

    graph = both.graph()
    files.place_weights(graph, work)
    (work / files.MODEL).write_bytes(graph.SerializeToString())
    opened = check.session(work, "ORT_DISABLE_ALL")
    outputs = len(opened.get_outputs()) - both.counted

    def answers(which: int, feed: Any) -> list[Any]:
        return check.run(opened, {**feed, _WHICH: np.array(which, np.int64)})

    plain = [answers(_NONE, feed) for feed in feeds]
    matter = _worst([each[:outputs] for each in plain], [answers(_ALL, feed)[:outputs] for feed in feeds], count)
    for number, (node, place) in enumerate(places):
        if place is None:
            yield NodeDamage(node=node.name, damage=0.0)
            continue
        counts = {at: max(float(each[outputs + at]) for each in plain) for at in (place.read, place.written) if at is not None}
        changed = {call: answers(number, feeds[call]) for call in matter}
        yield NodeDamage(
            node=node.name,
            damage=_loss([each[:outputs] for each in plain], changed),
            work=_inner(node, both.dims) * counts[place.written],
            read=0.0 if place.read is None else counts[place.read],
            written=counts[place.written],
        )


def _loss(plain: Sequence[Any], changed: Mapping[int, Any]) -> float:
    """The loss of the worst output over all calls, of which these gave other answers."""
    pairs = [
        [(changed[call][at] if call in changed else each[at], each[at]) for call, each in enumerate(plain)]
        for at in range(len(plain[0]) if plain else 0)
    ]
    return max((_rounded(channels.similarity_loss(each)) for each in pairs), default=0.0)


def _worst(plain: Sequence[Any], changed: Sequence[Any], count: int) -> list[int]:
    """So many calls, those whose answers lose most by themselves."""
    if len(plain) <= count:
        return list(range(len(plain)))
    alone = [_loss(plain, {call: each}) for call, each in enumerate(changed)]
    return sorted(range(len(plain)), key=lambda call: -alone[call])[:count]


@dataclass(frozen=True, slots=True, kw_only=True)
class _CountOutputs:
    """The outputs that count the values which a node reads and writes."""

    read: int | None
    written: int


class _MixedGraph:
    """The float graph, in which each node's result may be replaced by that of its quantized part: another input is the number of
    the node. Parts that are not requested are not computed, so a call costs what the float costs. One graph for all nodes opens
    in a second; one with everything behind every node in it took the engine minutes (its time grows with their square)."""

    def __init__(self, model: onnx.ModelProto, quantized: onnx.ModelProto) -> None:
        self._model, self._quantized = model, quantized
        graph = model.graph
        self.dims = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self._stored = {tensor.name for tensor in quantized.graph.initializer}
        self._inputs = {value.name for value in graph.input} - set(self.dims)
        self._floats = self._inputs | {name for node in graph.node for name in node.output if name}
        self._makers = {name: node for node in quantized.graph.node for name in node.output if name}
        self._instead: dict[str, tuple[int, str, list[onnx.NodeProto]]] = {}
        self._sizes: dict[str, int] = {}

    @property
    def counted(self) -> int:
        """The number of counts behind the graph's outputs."""
        return len(self._sizes)

    def place(self, number: int, node: onnx.NodeProto) -> _CountOutputs | None:
        """Add the switch for a node. Returns its counts; None where no tensor of the quantized graph stands for its result."""
        counterpart = self._counterpart(node)
        local = None if counterpart is None else self._slice(*counterpart, f"l{number}/")
        if counterpart is None or local is None or counterpart[1] in self._instead:
            return None
        self._instead[counterpart[1]] = (number, *local)
        read = next((each for each in node.input if each in self._floats), None)
        return _CountOutputs(read=None if read is None else self._size(read), written=self._size(counterpart[1]))

    def graph(self) -> onnx.ModelProto:
        """The whole graph, with the outputs of the float graph first and the counts behind them."""
        from onnx import TensorProto, helper, numpy_helper

        both = type(self._model).FromString(self._model.SerializeToString())
        domains = {(entry.domain or "ai.onnx") for entry in both.opset_import}
        both.opset_import.extend(each for each in self._quantized.opset_import if (each.domain or "ai.onnx") not in domains)
        both.ir_version = max(both.ir_version, self._quantized.ir_version)
        both.functions.extend(each for each in self._quantized.functions if each not in both.functions)
        for tensor in self._quantized.graph.initializer:
            copied = both.graph.initializer.add()
            copied.CopyFrom(tensor)
            copied.name = _BESIDE + tensor.name
        both.graph.input.append(helper.make_tensor_value_info(_WHICH, TensorProto.INT64, []))
        del both.graph.node[:]
        both.graph.initializer.append(numpy_helper.from_array(_number(_ALL), "which/all"))
        both.graph.node.append(helper.make_node("Equal", [_WHICH, "which/all"], [_EACH], "which/equal"))
        for node in self._model.graph.node:
            added = both.graph.node.add()
            added.CopyFrom(node)
            for place, name in enumerate(node.output):
                if name in self._instead:
                    number = self._instead[name][0]
                    added.output[place] = plain = f"f{number}/{name}"
                    both.graph.initializer.append(numpy_helper.from_array(_number(number), f"a{number}/number"))
                    both.graph.node.extend(_switch(name, plain, *self._instead[name]))
        for number, name in enumerate(self._sizes):
            both.graph.node.append(helper.make_node("Size", [name], [f"s/{number}"], f"n/{number}"))
            both.graph.output.append(helper.make_tensor_value_info(f"s/{number}", TensorProto.INT64, []))
        return both

    def _slice(self, name: str, of: str, prefix: str) -> tuple[str, list[onnx.NodeProto]] | None:
        """The nodes that compute this tensor of the quantized graph from tensors that the float graph has too, and its name there.
        `of`: the tensor that it stands for, which is computed here too."""
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
        results = {each for node in needed.values() for each in node.output if each}

        def fed(each: str) -> str:
            if not each or each in self._inputs:
                return each
            if each in results and each not in self._floats - inside:
                return prefix + each
            return _BESIDE + each if each in self._stored else each

        order = [node for node in self._quantized.graph.node if id(node) in needed]
        return prefix + name, [_copy(node, fed, prefix) for node in order]

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
        candidate = next((each for each in (raw, rounded) if each in self._floats), None)
        return None if candidate is None else (rounded, candidate)

    def _size(self, name: str) -> int:
        """The number of the count of a tensor's values."""
        return self._sizes.setdefault(name, len(self._sizes))


def _switch(name: str, plain: str, number: int, result: str, inner: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes that select a tensor: from its quantized part if that is requested, else unchanged."""
    from onnx import TensorProto, helper

    tests = [
        helper.make_node("Equal", [_WHICH, f"a{number}/number"], [f"a{number}/alone"], f"a{number}/equal"),
        helper.make_node("Or", [f"a{number}/alone", _EACH], [f"a{number}/yes"], f"a{number}/or"),
    ]
    results = [helper.make_tensor_value_info(f"{way}{number}/result", TensorProto.FLOAT, None) for way in ("y", "n")]
    last = helper.make_node("Identity", [result], [results[0].name], f"y{number}/result/node")
    yes = helper.make_graph([*inner, last], f"y{number}/graph", [], results[:1])
    same = helper.make_node("Identity", [plain], [results[1].name], f"n{number}/result/node")
    no = helper.make_graph([same], f"n{number}/graph", [], results[1:])
    return [*tests, helper.make_node("If", [f"a{number}/yes"], [name], f"i{number}/if", then_branch=yes, else_branch=no)]


def _number(value: int) -> Any:
    import numpy as np

    return np.array(value, np.int64)


def _copy(node: onnx.NodeProto, read: Callable[[str], str], prefix: str) -> onnx.NodeProto:
    """A copy of the node: results with the prefix, other inputs, those of nested graphs too."""
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
    """Multiplications for each value of a node's result; 0 where that is not known."""
    shape = next((weights[name] for name in node.input[1:2] if len(weights.get(name, ())) >= 2), ())
    if not shape:
        return 0
    if node.op_type == "Conv":
        return prod(shape[1:])
    if node.op_type == "Gemm":
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return shape[1] if turned else shape[0]
    return shape[-2] if node.op_type == "MatMul" else shape[0] if node.op_type == "ConvTranspose" else 0


def plain(rows: Sequence[NodeDamage]) -> list[list[Any]]:
    """The rows for JSON: null is infinite."""
    return [[row.node, row.damage if math.isfinite(row.damage) else None, row.work, row.read, row.written] for row in rows]


def read_rows(rows: Sequence[Sequence[Any]]) -> tuple[NodeDamage, ...]:
    """The inverse of `plain`."""
    return tuple(
        NodeDamage(node=str(node), damage=math.inf if entry is None else float(entry), work=work, read=read, written=written)
        for node, entry, work, read, written in rows
    )
