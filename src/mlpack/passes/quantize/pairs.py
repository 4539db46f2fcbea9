"""Quantize/dequantize pairs where the processor's engine fuses them: which tensors get one, and who reads its result.

Promises: a tensor has one pair at most. Results of int8 kernels are read rounded by everybody; a float result only by nodes that
compute in integers, unless the engine can make its Add, too, an int8 one. What only moves numbers (MaxPool, Reshape, ...) keeps the
scale of what it moves. Nothing else is touched: Softmax, normalisation, tails. Ranges are measured elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import mlpack.passes.quantize.scales as eight
from mlpack.graphs import files, weights
from mlpack.passes.quantize.writing import Writer, attributes, put

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import onnx

    from mlpack.passes.quantize.ranges import Measured

    Range = tuple[float, float]

_MOVED = ("MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
_CARRIED = (*_MOVED, "AveragePool", "GlobalAveragePool", "Concat")
"""What 8-bit data pass on their way: the engine has a kernel for it."""
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")
_CLIPS = ("Relu", "Clip")
_SUMS = ("Add", "Mul", "LeakyRelu", "Sigmoid")
"""What the engine makes an int8 kernel of where everything around it is in 8 bits. Each operand keeps its own range."""
_GIVES_FLOAT = ("MatMul", "Gemm")
"""Kernels that take 8 bits and give float or 8 bits, as is wanted; convolutions always give 8 bits."""
OPSET = 13
"""The first operator set whose pairs have a scale for each channel."""
FACTOR = 8.0
"""A Concat has one scale for all its inputs: one whose range is an eighth of another's keeps 5 of its 8 bits at most. Pixels beside
scores (600 and 1) leave scores none."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where pairs are. `pairs`: tensors -> whether everybody reads the rounded values; `same`: tensors -> whose scale they have."""

    static: frozenset[str]
    carried: frozenset[str]
    pairs: dict[str, bool] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)

    def source(self, tensor: str) -> str:
        """The tensor whose range is this one's."""
        while tensor in self.same:
            tensor = self.same[tensor]
        return tensor


class View:
    """A graph's tensors: who makes and who reads them. Readers inside bodies count as somebody."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.made = {name: node for node in model.graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        self.others = {value.name for value in model.graph.output}
        for node in model.graph.node:
            for name in node.input:
                self.readers[name].append(node)
            for nested in files.subgraphs(node):
                self.others.update(name for inner in files.nodes(nested) for name in inner.input)
                self.others.update(value.name for value in nested.output)

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The one node that reads it, where nothing else does."""
        found = self.readers[tensor]
        return found[0] if len(found) == 1 and tensor not in self.others else None

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that carries which are data."""
        names = list(node.input) if node.op_type == "Concat" else list(node.input[:1])
        return [name for name in names if name]

    def clipped(self, tensor: str) -> str:
        """What the engine's kernel gives: behind a convolution's Relu, which it takes along, or the tensor itself."""
        reader = self.only_reader(tensor)
        if reader is not None and reader.op_type in _CLIPS and reader.input[0] == tensor and self._from_zero(reader):
            return str(reader.output[0])
        return tensor

    def _from_zero(self, node: onnx.NodeProto) -> bool:
        """Whether the lowest value is zero, so that rounding into a range from zero does the rest."""
        if node.op_type == "Relu":
            return True
        if len(node.input) < 2 or node.input[1] not in self.stored:
            return False
        return bool((weights.array(self.stored[node.input[1]]) == 0).all())


def layout(model: onnx.ModelProto, static: Collection[str], barred: Collection[str] = ()) -> Layout:
    """Where pairs belong when these nodes compute in 8 bits. `barred`: nodes that carry nothing."""
    view = View(model)
    chosen = [node for node in model.graph.node if node.name in static]
    carried = _carried(view, chosen, set(barred), set(static))
    found = Layout(frozenset(static), frozenset(carried))
    for node in model.graph.node:
        if node.name in static:
            found.pairs.setdefault(node.input[0], False)
            wanted = node.op_type not in _GIVES_FLOAT or _feeds(view, view.clipped(node.output[0]), carried, set(static))
            if wanted:
                found.pairs[view.clipped(node.output[0])] = True
        elif node.name in carried:
            for name in view.activations(node):
                if name not in view.stored:
                    found.pairs.setdefault(name, False)
            found.pairs[node.output[0]] = True
            if node.op_type in _MOVED:
                found.same[node.output[0]] = node.input[0]
    for name in list(found.pairs):
        found.pairs[name] = found.pairs[name] or _fuses(view, name, found)
    return found


def _carried(view: View, chosen: Iterable[onnx.NodeProto], barred: set[str], static: set[str]) -> set[str]:
    """Nodes that carry: what they take comes out of a kernel in 8 bits. Behind a product, which may as well give float, only where
    another kernel takes it; behind a sum of such results, in a pool too, which leaves less to convert."""
    eight_bits: set[str] = set()
    loose: set[str] = set()
    sums: set[str] = set()
    for node in chosen:
        (loose if node.op_type in _GIVES_FLOAT else eight_bits).add(view.clipped(node.output[0]))
    found: dict[str, bool] = {}
    for node in view.graph.node:
        if node.op_type == "Add" and all(name in eight_bits | sums for name in node.input):
            sums.add(view.clipped(node.output[0]))
        if node.op_type not in _CARRIED or node.domain or node.name in barred or len(node.output) > 1:
            continue
        names = view.activations(node)
        firm = [name for name in names if name in eight_bits or name in view.stored]
        if any(name in eight_bits for name in names) or (node.op_type in _POOLS and names[0] in sums):
            found[node.name] = len(firm) < len(names)
            eight_bits.add(node.output[0])
        elif any(name in loose | sums for name in names):
            found[node.name] = True
            loose.add(node.output[0])
    for node in reversed(view.graph.node):
        if found.get(node.name) and not _feeds(view, node.output[0], set(found), static):
            del found[node.name]
    return set(found)


def _feeds(view: View, tensor: str, carried: set[str], static: set[str]) -> bool:
    return any(reader.name in carried or (reader.name in static and reader.input[0] == tensor) for reader in view.readers[tensor])


def _fuses(view: View, tensor: str, found: Layout) -> bool:
    """Whether the engine makes an int8 kernel of the Add (or the like) whose result this is, if nobody reads it in float."""
    node = view.made.get(tensor)
    if node is not None and node.op_type == "Relu":
        source = node.input[0]
        node = view.made.get(source) if view.only_reader(source) is node else None
    if node is None or node.op_type not in _SUMS or node.domain:
        return False
    names = [name for name in node.input if name not in view.stored]
    return bool(names) and all(found.pairs.get(name, False) for name in names)


def tensors(model: onnx.ModelProto, static: Collection[str]) -> list[str]:
    """All tensors whose ranges may be needed: also those that get a pair only when something else gets none."""
    view, found = View(model), layout(model, static)
    near = set(found.pairs)
    for node in model.graph.node:
        if node.name in found.static or node.name in found.carried:
            near.update((*view.activations(node), *node.output, *(view.clipped(name) for name in node.output)))
    made = (name for node in model.graph.node for name in node.output)
    return [name for name in dict.fromkeys((*(value.name for value in model.graph.input), *made)) if name in near]


def unmeasured(model: onnx.ModelProto, found: Layout, measured: Measured) -> dict[str, str]:
    """Nodes beside tensors that no range is known of, with that as the reason."""
    view = View(model)
    lacking: dict[str, str] = {}
    for node in model.graph.node:
        if node.name not in found.static and node.name not in found.carried:
            continue
        near = [*view.activations(node), *(name for name in node.output if name), *(view.clipped(name) for name in node.output)]
        for name in near:
            if name in found.pairs and (source := found.source(name)) not in measured.ranges:
                lacking[node.name] = f"no range: {measured.refused.get(source, f'{source!r} was not measured')}"
    return lacking


def unlike(model: onnx.ModelProto, found: Layout, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Concats whose inputs' ranges are too far apart for one scale, with that as the reason."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    apart: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "Concat" or node.name not in found.carried:
            continue
        sizes = []
        for name in node.input:
            low, high = ranges.get(found.source(name), (0.0, 0.0)) if name not in stored else _reach(stored[name])
            sizes += [max(abs(low), abs(high))] if low or high else []
        if sizes and max(sizes) > FACTOR * min(sizes):
            apart[node.name] = f"the ranges that it joins are too far apart for one scale ({min(sizes):.3g} and {max(sizes):.3g})"
    return apart


def _reach(tensor: onnx.TensorProto) -> Range:
    values = weights.array(tensor)
    return (float(values.min(initial=0)), float(values.max(initial=0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What pairs and weights are made of."""

    steps: int
    per_channel: bool
    signed: bool
    symmetric: bool
    alike: frozenset[tuple[str, int]] = frozenset()
    """Of dynamic nodes, the weights (by the node's name and the input's place) that have one scale whatever `per_channel` says."""

    def axis(self, node: str, channels: int, place: int = 1) -> int | None:
        """The axis of a weight's channels that have scales of their own; None where it has one scale."""
        return channels if self.per_channel and (node, place) not in self.alike else None


def insert(writer: Writer, found: Layout, ranges: Mapping[str, Range], form: Form) -> None:
    """Puts pairs and weights in 8 bits into the writer's model, in place."""
    graph = writer.model.graph
    tensors = _Pairs(writer, found, ranges, form)
    nodes = [made for value in graph.input for made in tensors.behind(value.name, given=True)]
    for node in list(graph.node):
        if node.name in found.static:
            nodes += _weights(writer, node, tensors.scale(node.input[0])[0], form)
        if node.name in found.static or node.name in found.carried:
            for place in range(len(node.input)) if node.op_type == "Concat" else (0,):
                node.input[place] = tensors.rounded.get(node.input[place], node.input[place])
        made = list(node.output)
        nodes.append(node)
        nodes += [each for name in made for each in tensors.behind(name, given=False)]
        for place, name in enumerate(made):
            node.output[place] = tensors.renamed.get(name, name)
    put(graph, nodes)


class _Pairs:
    """The pairs of a graph, as its tensors come. `rounded`: what nodes in integers read instead of a tensor; `renamed`: what a node
    gives instead of one that everybody reads rounded."""

    def __init__(self, writer: Writer, found: Layout, ranges: Mapping[str, Range], form: Form) -> None:
        self.writer, self.found, self.ranges, self.form = writer, found, ranges, form
        self.renamed: dict[str, str] = {}
        self.rounded: dict[str, str] = {}

    def scale(self, name: str) -> tuple[float, int]:
        """The scale and zero point of a tensor."""
        low, high = self.ranges[self.found.source(name)]
        return eight.of_range(low, high, signed=self.form.signed, symmetric=self.form.symmetric)

    def behind(self, name: str, *, given: bool) -> list[onnx.NodeProto]:
        """The two nodes behind a tensor, or none. `given`: it is an input of the graph, which keeps its name."""
        import numpy as np

        if name not in self.found.pairs:
            return []
        writer, source = self.writer, self.found.source(name)
        step, zero = self.scale(name)
        kind = np.int8 if self.form.signed else np.uint8
        parts = [
            writer.keep(f"{source}_scale", np.array(step, np.float32)), writer.keep(f"{source}_zero_point", np.array(zero, kind)),
        ]  # fmt: skip
        taken, result = name, name
        if self.found.pairs[name] and not given:
            taken = self.renamed[name] = writer.fresh(f"{name}_float")
        else:
            result = self.rounded[name] = writer.fresh(f"{name}_rounded")
        middle = writer.fresh(f"{name}_quantized")
        return [
            writer.node("QuantizeLinear", [taken, *parts], [middle], f"{name}_quantize"),
            writer.node("DequantizeLinear", [middle, *parts], [result], f"{name}_dequantize"),
        ]


def _weights(writer: Writer, node: onnx.NodeProto, activation: float, form: Form) -> list[onnx.NodeProto]:
    """The weight, and the bias if it has one, of a node in 8 and 32 bits before it. A Gemm's factors become part of them."""
    import numpy as np

    said = attributes(node)
    name = node.input[1]
    values = writer.values(name)
    axis = channels(node, said)
    bias = writer.values(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if node.op_type == "Gemm":
        values = values * np.float32(said.get("alpha", 1.0))
        bias = None if bias is None else np.broadcast_to(bias.reshape(-1), values.shape[axis]) * np.float32(said.get("beta", 1.0))
        for attribute in [each for each in node.attribute if each.name in ("alpha", "beta")]:
            node.attribute.remove(attribute)
    least = None if bias is None else eight.for_bias(bias, activation)
    if least is not None and not form.per_channel:
        least = np.max(least, initial=0)
    whole, steps = eight.of_weight(values, axis if form.per_channel else None, form.steps, least)
    nodes = [stored_before(writer, node, 1, (whole, steps), axis if form.per_channel else None)]
    if bias is not None:
        nodes.append(stored_before(writer, node, 2, eight.of_bias(bias, activation, steps), 0))
    return nodes


def stored_before(
    writer: Writer, node: onnx.NodeProto, place: int, made: tuple[Any, Any], axis: int | None
) -> onnx.NodeProto:  # fmt: skip
    """The node that gives values that are stored as integers and scales; `node` reads it at this place from now on."""
    import numpy as np

    values, scales = made
    name, kind = node.input[place], values.dtype.name
    parts = [writer.keep(f"{name}_{kind}", values), writer.keep(f"{name}_{kind}_scale", scales)]
    parts.append(writer.keep(f"{name}_{kind}_zero_point", np.zeros(scales.shape, values.dtype)))
    given = node.input[place] = writer.fresh(f"{name}_wide")
    return writer.node("DequantizeLinear", parts, [given], f"{given}_dequantize", **({} if axis is None else {"axis": axis}))


def channels(node: onnx.NodeProto, said: Mapping[str, Any]) -> int:
    """The axis of a weight's output channels; for a matrix the one that it is not summed over."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and said.get("transB", 0)):
        return 0
    return 1
