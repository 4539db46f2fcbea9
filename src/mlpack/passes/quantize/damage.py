"""What quantizing does at each node: one pass over a few calls with the float graph and the quantized one side by side.

Promises: the quantized part of every node is also fed with float activations, so that what a node adds is told apart from what came
in; errors are summed inside the graph, so that a call costs the memory of its activations and no more; equal graphs and calls give
equal numbers. It ranks: what to do about it is the ladder's business.

A node's damage is the energy of the error that it adds, over the energy of its output, or of the sum that its output goes into: a
branch that a residual connection outweighs may be wrong by much and do little. What reaches an output of the graph with no other
layer behind it is judged as `fidelity` judges: each channel's error over its own variance, the worst one counting, because a score
that hardly varies is lost in noise that is nothing beside the others. Source of the measure, there on whole activations:
onnxruntime's `qdq_loss_debug`, SQNR.
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
from mlpack.errors import PassError
from mlpack.graphs import check, files, versions

if TYPE_CHECKING:
    import onnx

VERSION = 2
CALLS = 32
"""Ranks settle after a few calls; a bisection forgives a neighbour in the wrong place."""
_BYTES = 64 << 20
"""Of inputs: a call may be a second of audio or a large picture."""

_SHARED, _LOCAL = "q/", "l{}/"
_FOLLOWED = 2
"""A bias and a residual connection."""
_LAYERS = ("Shape", "Size", "Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN", "Attention", "Einsum")
_AHEAD = 64
"""Tensors that are looked at between a layer and an output."""
_CONSTANT = 1e-9
"""Of a channel's energy: less variance than that is rounding."""
_DIGITS = 5
"""Of what is kept: sums differ in their last bits from one processor to the next, ranks should not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantized node. `damage`: what it adds; `arrived`: the error of its output as it is, with all that came in, over the same
    energy; `intensity`: multiplications for each value that is read or written, by which integer arithmetic pays."""

    node: str
    damage: float
    arrived: float
    intensity: float


def rank(float_dir: Path, quantized_dir: Path, nodes: Sequence[str], calls: Path, scratch: Path) -> tuple[Row, ...]:
    """The nodes named, most damage first; equal ones in the graph's order. Nodes whose results cannot be compared come last, with
    a damage of 0. Raises PassError where the graphs cannot be run side by side."""
    model = files.outline(float_dir)
    wanted = [node for node in model.graph.node if node.name in set(nodes)]
    signature = files.signature_of(model)
    both = _Both(model, files.outline(quantized_dir))
    placed = [(node, both.compare(number, node)) for number, node in enumerate(wanted)]
    with temporary.directory("damage", scratch) as work:
        files.save(both.graph(), work)
        opened = check.session(work, "ORT_DISABLE_ALL")
        names = [value.name for value in opened.get_outputs()]
        total: dict[str, Any] = dict.fromkeys(names, 0.0)
        sizes = dict.fromkeys(names, 0.0)
        for feed in _bounded(reader.read(calls, float_dir, signature)):
            for name, value in zip(names, check.run(opened, feed), strict=True):
                total[name] = total[name] + value.astype("float64")
                sizes[name] = max(sizes[name], float(value)) if value.ndim == 0 else 0.0
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    rows = [_row(node, place, total, sizes, weights) for node, place in placed]
    known = {row.node for row in rows}
    rows += [Row(node=name, damage=0.0, arrived=0.0, intensity=math.inf) for name in nodes if name not in known]
    return tuple(sorted(rows, key=lambda row: -row.damage))


def _bounded(feeds: Iterator[Any]) -> Iterator[Any]:
    taken = 0
    for feed in islice(feeds, CALLS):
        yield feed
        taken += sum(getattr(value, "nbytes", 0) for value in feed.values())
        if taken > _BYTES:
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Names of the outputs that say how one node does. `error` and `arrived` are sums of squares, None where there is none."""

    signal: str
    error: str | None
    arrived: str
    read: str | None
    written: str
    channels: tuple[str, str, str, str] | None = None
    """Of a layer with none behind it, by channel: sums of squared errors, of values, of their squares; and how many there are."""


class _Both:
    """The float graph as it is, the quantized one beside it under other names, and a copy of each quantized node's own part."""

    def __init__(self, model: onnx.ModelProto, quantized: onnx.ModelProto) -> None:
        if versions.of(model) < versions.of(quantized):
            model = versions.raised(model, versions.of(quantized))
        self._model, self._quantized = model, quantized
        graph = model.graph
        self._stored = {tensor.name for tensor in quantized.graph.initializer}
        stored = {tensor.name for tensor in graph.initializer}
        self._inputs = {value.name for value in graph.input} - stored
        self._floats = self._inputs | {name for node in graph.node for name in node.output if name}
        self._makers = {name: node for node in quantized.graph.node for name in node.output if name}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._results = {value.name for value in graph.output}
        self._added: list[onnx.NodeProto] = []
        self._outputs: list[Any] = []
        self._dims = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self._known: dict[tuple[str, ...], str] = {}

    def compare(self, number: int, node: onnx.NodeProto) -> _Place | None:
        """Add what compares this node's first result; None where the quantized graph has nothing of that name."""
        found = self._counterpart(node)
        if found is None:
            return None
        there, name = found
        local = self._slice(there, name, _LOCAL.format(number))
        read = next((each for each in node.input if each in self._floats), None)
        return _Place(
            signal=self._reduced("ReduceSumSquare", self._reference(name)),
            error=None if local is None else self._difference(local, name),
            arrived=self._difference(_SHARED + there, name),
            read=None if read is None else self._reduced("Size", read),
            written=self._reduced("Size", name),
            channels=None if local is None or not self._ends(name) else self._by_channel(local, name, node),
        )

    def graph(self) -> onnx.ModelProto:
        """Everything, with the sums as outputs."""
        both = type(self._model).FromString(self._model.SerializeToString())
        known = {(entry.domain or "ai.onnx") for entry in both.opset_import}
        both.opset_import.extend(each for each in self._quantized.opset_import if (each.domain or "ai.onnx") not in known)
        both.ir_version = max(both.ir_version, self._quantized.ir_version)
        both.functions.extend(each for each in self._quantized.functions if each not in both.functions)
        for tensor in self._quantized.graph.initializer:
            copied = both.graph.initializer.add()
            copied.CopyFrom(tensor)
            copied.name = _SHARED + tensor.name
        beside = self._renamed
        both.graph.node.extend(_copy(node, beside) for node in self._quantized.graph.node)
        both.graph.node.extend(self._added)
        del both.graph.output[:]
        both.graph.output.extend(self._outputs)
        return both

    def _renamed(self, name: str) -> str:
        return name if not name or name in self._inputs else _SHARED + name

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
            return _SHARED + each if each in self._stored else each

        def written(each: str) -> str:
            return prefix + each if each else each

        order = [node for node in self._quantized.graph.node if id(node) in needed]
        self._added.extend(_copy(node, fed, written) for node in order)
        return prefix + name

    def _ends(self, name: str) -> bool:
        """Whether an output of the graph is reached from this tensor with no layer in between."""
        waiting, seen = [name], {name}
        while waiting and len(seen) < _AHEAD:
            if (each := waiting.pop(0)) in self._results:
                return True
            after = [node for node in self._readers.get(each, []) if node.op_type not in _LAYERS]
            new = [out for node in after for out in node.output if out and out not in seen]
            seen.update(new)
            waiting += new
        return False

    def _by_channel(self, local: str, name: str, node: onnx.NodeProto) -> tuple[str, str, str, str] | None:
        """Outputs with the sums of a layer's channels; None where its channels are not known."""
        from onnx import TensorProto, helper

        count = _channels(node, self._dims)
        if count is None:
            return None
        first = node.op_type in ("Conv", "ConvTranspose")
        label = f"c/{len(self._known)}"
        made = [
            helper.make_node("Constant", [], [f"{label}/shape"], value_ints=[0, count, -1] if first else [1, -1, count]),
            helper.make_node("Constant", [], [f"{label}/axes"], value_ints=[0, 2] if first else [0, 1]),
            helper.make_node("Reshape", [self._float(name), f"{label}/shape"], [f"{label}/y"]),
            helper.make_node("Reshape", [self._float(local), f"{label}/shape"], [f"{label}/q"]),
            helper.make_node("Sub", [f"{label}/q", f"{label}/y"], [f"{label}/d"]),
            helper.make_node("Mul", [f"{label}/d", f"{label}/d"], [f"{label}/dd"]),
            helper.make_node("Mul", [f"{label}/y", f"{label}/y"], [f"{label}/yy"]),
        ]
        sums = []
        for kind in ("dd", "y", "yy"):
            sums.append(f"s/{label}/{kind}")
            made.append(helper.make_node("ReduceSum", [f"{label}/{kind}", f"{label}/axes"], [sums[-1]], keepdims=0))
        for each in made:
            each.name = f"n/{each.output[0]}"
        self._added += made
        self._outputs += [helper.make_tensor_value_info(each, TensorProto.FLOAT, [count]) for each in sums]
        self._known["c", local, name] = label
        return sums[0], sums[1], sums[2], self._reduced("Size", name)

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

    def _reference(self, name: str) -> str:
        """The tensor that this one is to be held against: itself, or the sum that it alone goes into."""
        for _ in range(_FOLLOWED):
            readers = self._readers.get(name, [])
            if name in self._results or len(readers) != 1 or readers[0].op_type != "Add":
                break
            name = str(readers[0].output[0])
        return name

    def _difference(self, one: str, other: str) -> str:
        from onnx import helper

        known = self._known.get(("-", one, other))
        if known is None:
            difference = f"d/{len(self._known)}"
            self._added.append(helper.make_node("Sub", [self._float(one), self._float(other)], [difference], f"n/{difference}"))
            known = self._known["-", one, other] = self._reduced("ReduceSumSquare", difference, cast=False)
        return known

    def _float(self, name: str) -> str:
        from onnx import TensorProto, helper

        key = ("float", name)
        if key not in self._known:
            self._known[key] = f"f/{len(self._known)}"
            self._added.append(helper.make_node("Cast", [name], [self._known[key]], f"n/{self._known[key]}", to=TensorProto.FLOAT))
        return self._known[key]

    def _reduced(self, operator: str, name: str, *, cast: bool = True) -> str:
        """An output of the whole: one number of a tensor."""
        from onnx import TensorProto, helper

        key = (operator, name)
        if key not in self._known:
            result = self._known[key] = f"s/{len(self._known)}"
            if operator == "Size":
                self._added.append(helper.make_node("Size", [name], [f"{result}/count"], f"n/{result}/count"))
                self._added.append(helper.make_node("Cast", [f"{result}/count"], [result], f"n/{result}", to=TensorProto.FLOAT))
            else:
                source = self._float(name) if cast else name
                self._added.append(helper.make_node(operator, [source], [result], f"n/{result}", keepdims=0))
            self._outputs.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, []))
        return self._known[key]


def _copy(node: onnx.NodeProto, read: Callable[[str], str], write: Callable[[str], str] | None = None) -> onnx.NodeProto:
    """The node under other names, with what nested graphs of it read and hold."""
    write = write or read
    copied = type(node).FromString(node.SerializeToString())
    copied.name = write(f"{node.name or node.output[0]}/node")
    copied.input[:] = [read(name) for name in node.input]
    copied.output[:] = [write(name) for name in node.output]
    for nested in files.subgraphs(copied):
        for value in (*nested.input, *nested.output, *nested.initializer, *nested.value_info):
            value.name = write(value.name)
        inner = [_copy(each, read, write) for each in nested.node]
        del nested.node[:]
        nested.node.extend(inner)
    return copied


def _row(node: onnx.NodeProto, place: _Place | None, total: Any, sizes: Any, weights: Any) -> Row:
    if place is None:
        return Row(node=node.name, damage=0.0, arrived=0.0, intensity=math.inf)
    read = sizes[place.read] if place.read else 0.0
    moved = max(1.0, read + sizes[place.written])
    work = sizes[place.written] * _inner(node, weights)
    added = 0.0 if place.error is None else _share(total[place.error], total[place.signal])
    return Row(
        node=node.name,
        damage=max(added, _worst(place.channels, total) if place.channels else 0.0),
        arrived=_share(total[place.arrived], total[place.signal]),
        intensity=_rounded(work / moved) if work else math.inf,
    )


def _worst(names: tuple[str, str, str, str], total: dict[str, Any]) -> float:
    """The error of the worst channel over its variance; a channel that never varies says nothing."""
    import numpy as np

    errors, sums, squares, count = (total[name] for name in names)
    values = count / len(errors)
    spread = squares - sums**2 / values
    varies = spread > _CONSTANT * squares
    if values < 2 or not varies.any():
        return 0.0
    worst = float(np.max(errors[varies] / spread[varies]))
    return _rounded(worst) if math.isfinite(worst) else math.inf


def _channels(node: onnx.NodeProto, dims: dict[str, tuple[int, ...]]) -> int | None:
    """How many channels a layer gives, where its weight says it."""
    shape = dims.get(node.input[1], ()) if len(node.input) > 1 else ()
    if len(shape) < 2:
        return None
    if node.op_type == "Conv":
        return shape[0]
    if node.op_type == "Gemm":
        return shape[0] if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else shape[1]
    return shape[-1] if node.op_type == "MatMul" else None


def _share(error: float, signal: float) -> float:
    """The one over the other; what is not finite, or is an error of nothing, is as bad as can be."""
    if math.isfinite(error) and math.isfinite(signal):
        return _rounded(error / signal) if signal > 0 else math.inf if error > 0 else 0.0
    return math.inf


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


def read_rows(rows: Sequence[Sequence[Any]]) -> tuple[Row, ...]:
    """What `plain` gave."""
    names = ("node", "damage", "arrived", "intensity")
    return tuple(Row(**dict(zip(names, (row[0], *(math.inf if v is None else v for v in row[1:])), strict=True))) for row in rows)


def plain(rows: Sequence[Row]) -> list[list[Any]]:
    """Rows for JSON: null is infinite."""
    return [[row.node, *(v if math.isfinite(v) else None for v in (row.damage, row.arrived, row.intensity))] for row in rows]


__all__ = ["CALLS", "VERSION", "PassError", "Row", "plain", "rank", "read_rows"]
