"""Quantize/dequantize pairs where the CPU engine fuses them: which tensors get a pair, and which nodes read its result.

Promises:
- A tensor has one pair at most.
- Every node reads the rounded result of an int8 kernel. Only nodes that compute in integers read a rounded float result, unless
  the engine can make its Add an int8 one, too.
- A node that only moves numbers (MaxPool, Reshape, ...) keeps the scale of its input. A tensor that only a Concat reads has the
  Concat's scale.

Will not: choose the nodes between 8-bit kernels (`between`), or measure ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import mlpack.passes.quantize.scales as eight
from mlpack.graphs import weights
from mlpack.passes.quantize.choice.between import GIVES_FLOAT, MOVED, between, feeds, reasons, results
from mlpack.passes.quantize.view import JOINS, View
from mlpack.passes.quantize.writing import GraphWriter, attributes, put

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx

    from mlpack.passes.quantize.calibration.ranges import MeasuredRanges

    Range = tuple[float, float]

_SUMS = ("Add", "Mul", "LeakyRelu", "Sigmoid")
"""Operators for which the engine has an int8 kernel where everything around is in 8 bits. Each operand keeps its own range."""
OPSET = 13
"""The first operator set whose pairs have a scale for each channel."""
FACTOR = 8.0
"""A Concat has one scale for all its inputs: one whose range is an eighth of another's keeps 5 of its 8 bits at most. Pixels beside
scores (600 and 1) leave scores none."""


@dataclass(frozen=True, slots=True)
class PairLayout:
    """The places of pairs. `pairs`: by tensor, whether every node reads the rounded values; `same`: by tensor, the tensor whose
    numbers it has; `joined`: by tensor, the result of its only reader, a Concat, whose scale it has; `cut`: results of a Relu
    among them; `gates`: by result of a HardSigmoid, its slope; `limits`: Clips and the like that a range replaces."""

    static: frozenset[str]
    carried: frozenset[str]
    pairs: dict[str, bool] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    joined: dict[str, str] = field(default_factory=dict)
    gates: dict[str, float] = field(default_factory=dict)
    limits: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)

    def source(self, tensor: str) -> str:
        """The tensor whose range is this one's."""
        while tensor in self.same:
            tensor = self.same[tensor]
        return tensor

    def scaled_by(self, tensor: str, ranges: Mapping[str, Range]) -> str:
        """The tensor whose range gives this one its scale. A Relu is included only where nothing is below zero."""
        source = self.source(tensor)
        while source in self.joined:
            target = self.source(self.joined[source])
            if source in self.cut and ranges[target][0] < 0:
                break
            source = target
        return source


def layout(model: onnx.ModelProto, static: Collection[str], barred: Collection[str] = ()) -> PairLayout:
    """The places of pairs when these nodes compute in 8 bits. `barred`: nodes that must not carry 8 bits."""
    view = View(model)
    carried = between(view, static, barred)
    laid_out = PairLayout(frozenset(static), frozenset(carried))
    for node in model.graph.node:
        if node.name in static:
            laid_out.pairs.setdefault(node.input[0], False)
            result = view.clipped(node.output[0])
            if node.op_type not in GIVES_FLOAT or feeds(view, result, carried, static) or view.is_clipped(node.output[0]):
                laid_out.pairs[result] = True
        elif node.name in carried:
            for name in view.activations(node):
                if name not in view.stored:
                    laid_out.pairs.setdefault(name, False)
            _carry(view, node, laid_out)
    for name in list(laid_out.pairs):
        laid_out.pairs[name] = laid_out.pairs[name] or _fuses(view, name, laid_out)
    _join(view, laid_out)
    kernels = laid_out.static | laid_out.carried
    for node in model.graph.node:
        if laid_out.pairs.get(node.output[0]) and view.is_rounded_away(node):
            makers = [view.made[name] for name in node.input if name in view.made]
            if all(each.name in kernels and node.output[0] in results(view, each) for each in makers):
                laid_out.limits.add(node.name)
    return laid_out


def _carry(view: View, node: onnx.NodeProto, pair_layout: PairLayout) -> None:
    """Add the pairs of the results of a node that carries, with their scale."""
    for name in results(view, node):
        pair_layout.pairs[name] = True
        if node.op_type in MOVED:
            pair_layout.same[name] = node.input[0]
        if node.op_type == "HardSigmoid":
            pair_layout.gates[name] = attributes(node).get("alpha", 0.2)


def _join(view: View, pair_layout: PairLayout) -> None:
    """Give the result of a kernel that only a Concat reads the Concat's scale, so that it is rounded once, not twice."""
    for node in view.graph.node:
        for name in node.input if node.op_type == "Concat" and node.name in pair_layout.carried else ():
            maker = view.made.get(name)
            if maker is None or not pair_layout.pairs.get(name) or name in pair_layout.same or name in pair_layout.gates:
                continue
            if view.only_reader(name) is not None and (maker.op_type == "Relu" or not view.is_limit(maker)):
                pair_layout.joined[name] = view.clipped(node.output[0])
                pair_layout.cut.update([name] if maker.op_type == "Relu" else ())


def _fuses(view: View, tensor: str, pair_layout: PairLayout) -> bool:
    """Whether the engine makes an int8 kernel of the Add (or the like) with this result, if no node reads it in float."""
    node = view.made.get(tensor)
    if node is not None and node.op_type == "Relu":
        source = node.input[0]
        node = view.made.get(source) if view.only_reader(source) is node else None
    if node is None or node.op_type not in _SUMS or node.domain:
        return False
    return all(pair_layout.pairs.get(name, False) for name in node.input)


def tensors(model: onnx.ModelProto, static: Collection[str]) -> list[str]:
    """All tensors whose ranges may be needed, also those that get a pair only when something else gets none."""
    view, view_of_graph = View(model), layout(model, static)
    near = set(view_of_graph.pairs)
    for node in model.graph.node:
        if node.name in view_of_graph.static or node.name in view_of_graph.carried:
            near.update((*view.activations(node), *node.output, *results(view, node)))
    produced = (name for node in model.graph.node for name in node.output)
    return [name for name in dict.fromkeys((*(value.name for value in model.graph.input), *produced)) if name in near]


def unmeasured(model: onnx.ModelProto, pair_layout: PairLayout, measured: MeasuredRanges) -> dict[str, str]:
    """Nodes beside tensors without a known range, with that as the reason."""
    view = View(model)
    lacking: dict[str, str] = {}
    for node in model.graph.node:
        if node.name not in pair_layout.static and node.name not in pair_layout.carried:
            continue
        near = [*view.activations(node), *(name for name in node.output if name), *results(view, node)]
        for name in near:
            if name in pair_layout.pairs and (source := pair_layout.source(name)) not in measured.ranges:
                lacking[node.name] = f"no range: {measured.refused.get(source, f'{source!r} was not measured')}"
    return lacking


def reasons_for_float(model: onnx.ModelProto, static: Collection[str], barred: Collection[str]) -> dict[str, str]:
    """Nodes between kernels in 8 bits that stay float, and why."""
    view = View(model)
    return reasons(view, static, between(view, static, barred))


def unlike(model: onnx.ModelProto, pair_layout: PairLayout, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Concats whose inputs' ranges are too far apart for one scale, with that as the reason."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    apart: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type != "Concat" or node.name not in pair_layout.carried:
            continue
        sizes = []
        for name in node.input:
            low, high = ranges.get(pair_layout.source(name), (0.0, 0.0)) if name not in stored else _reach(stored[name])
            sizes += [max(abs(low), abs(high))] if low or high else []
        if sizes and max(sizes) > FACTOR * min(sizes):
            apart[node.name] = f"the ranges that it joins are too far apart for one scale ({min(sizes):.3g} and {max(sizes):.3g})"
    return apart


def _reach(tensor: onnx.TensorProto) -> Range:
    values = weights.array(tensor)
    return (float(values.min(initial=0)), float(values.max(initial=0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationScheme:
    """The number formats of pairs and weights."""

    steps: int
    per_channel: bool
    signed: bool
    symmetric: bool
    alike: frozenset[tuple[str, int]] = frozenset()
    """Of dynamic nodes, the weights (by the node's name and the input's place) that have one scale whatever `per_channel` says."""

    def axis(self, node: str, channels: int, place: int = 1) -> int | None:
        """The axis of a weight's channels that have scales of their own; None where it has one scale."""
        return channels if self.per_channel and (node, place) not in self.alike else None


def insert(writer: GraphWriter, pair_layout: PairLayout, ranges: Mapping[str, Range], form: QuantizationScheme) -> None:
    """Add pairs and weights in 8 bits to the writer's model, in place."""
    graph = writer.model.graph
    tensors = _PairGraph(writer, pair_layout, ranges, form)
    nodes = [outputs for value in graph.input for outputs in tensors.behind(value.name, is_graph_output=True)]
    makers = {name: node for node in graph.node for name in node.output if name}
    for node in list(graph.node):
        if node.name in pair_layout.static:
            nodes += _weights(writer, node, tensors.scale(node.input[0])[0], form)
        if node.name in pair_layout.static or node.name in pair_layout.carried:
            for place in range(len(node.input)) if node.op_type in JOINS else (0,):
                node.input[place] = tensors.rounded.get(node.input[place], node.input[place])
            nodes += _operands(writer, node, form) if node.name in pair_layout.carried else []
        outputs, read = list(node.output), list(node.input)
        pairs = [each for name in outputs for each in tensors.behind(name, is_graph_output=False)]
        for place, name in enumerate(outputs):
            node.output[place] = tensors.renamed.get(name, name)
        if node.name in pair_layout.limits and tensors.cuts(outputs[0]):
            kernel = next(makers[name] for name in read if name in makers)
            kernel.output[0] = node.output[0]
        else:
            nodes.append(node)
        nodes += pairs
    put(graph, nodes)


def _operands(writer: GraphWriter, node: onnx.NodeProto, form: QuantizationScheme) -> list[onnx.NodeProto]:
    """The constants of a sum or a product in 8 bits, each exact. A HardSigmoid becomes a sum: the pair behind it clips and
    divides."""
    import numpy as np

    operands = []
    if node.op_type == "HardSigmoid":
        settings = attributes(node)
        offset = np.array(settings.get("beta", 0.5) / settings.get("alpha", 0.2), np.float32)
        node.op_type = "Add"
        del node.attribute[:]
        node.input.append("")
        operands.append(_constant(writer, node, 1, (f"{node.output[0]}_offset", offset), form))
    for place, name in enumerate(node.input if node.op_type in ("Add", "Mul") else ()):
        if name in writer.stored:
            operands.append(_constant(writer, node, place, (name, writer.values(name)), form))
    return operands


def _constant(
    writer: GraphWriter, node: onnx.NodeProto, place: int, stored: tuple[str, Any], form: QuantizationScheme
) -> onnx.NodeProto:  # fmt: skip
    """The node that gives one value from 8 bits, which `node` reads at this place from now on."""
    import numpy as np

    name, value = stored
    step, zero = eight.of_range(float(value.min()), float(value.max()), signed=form.signed, symmetric=False)
    kind = np.int8 if form.signed else np.uint8
    parts = [
        writer.keep(f"{name}_{np.dtype(kind).name}", np.asarray(np.rint(value / step) + zero).astype(kind)),
        writer.keep(f"{name}_scale", np.array(step, np.float32)), writer.keep(f"{name}_zero_point", np.array(zero, kind)),
    ]  # fmt: skip
    wide = node.input[place] = writer.fresh(f"{name}_wide")
    return writer.node("DequantizeLinear", parts, [wide], f"{wide}_dequantize")


class _PairGraph:
    """The pairs of a graph, in the order of its tensors. `rounded`: the tensor that integer nodes read instead of another;
    `renamed`: the new name of a result that every node reads rounded."""

    def __init__(self, writer: GraphWriter, pair_layout: PairLayout, ranges: Mapping[str, Range], form: QuantizationScheme) -> None:
        self.writer, self.layout, self.ranges, self.form = writer, pair_layout, ranges, form
        self.renamed: dict[str, str] = {}
        self.rounded: dict[str, str] = {}

    def scale(self, name: str) -> tuple[float, int]:
        """The scale and zero point of a tensor."""
        if self.layout.source(name) in self.layout.gates:
            return eight.of_range(0.0, 1.0, signed=self.form.signed, symmetric=False)
        low, high = self.ranges[self.layout.scaled_by(name, self.ranges)]
        return eight.of_range(low, high, signed=self.form.signed, symmetric=self.form.symmetric)

    def cuts(self, name: str) -> bool:
        """Whether the range of this tensor ends where the limits before it do. It does not when it was widened to both signs."""
        low, high = self.ranges[self.layout.scaled_by(name, self.ranges)]
        return not (self.form.symmetric and low < 0 < high)

    def behind(self, name: str, *, is_graph_output: bool) -> list[onnx.NodeProto]:
        """The two nodes behind a tensor, or none. `is_graph_output`: it is an input of the graph, which keeps its name."""
        import numpy as np

        if name not in self.layout.pairs:
            return []
        writer, source = self.writer, self.layout.source(name)
        step, zero = self.scale(name)
        kind = np.int8 if self.form.signed else np.uint8
        parts = [
            writer.keep(f"{source}_scale", np.array(step, np.float32)), writer.keep(f"{source}_zero_point", np.array(zero, kind)),
        ]  # fmt: skip
        names, result = name, name
        if self.layout.pairs[name] and not is_graph_output:
            names = self.renamed[name] = writer.fresh(f"{name}_float")
        else:
            result = self.rounded[name] = writer.fresh(f"{name}_rounded")
        middle = writer.fresh(f"{name}_quantized")
        before = parts
        if name in self.layout.gates:
            slope = self.layout.gates[name]
            before = [writer.keep(f"{source}_step", np.array(step / slope, np.float32)), parts[1]]
        return [
            writer.node("QuantizeLinear", [names, *before], [middle], f"{name}_quantize"),
            writer.node("DequantizeLinear", [middle, *parts], [result], f"{name}_dequantize"),
        ]


def _weights(writer: GraphWriter, node: onnx.NodeProto, activation: float, form: QuantizationScheme) -> list[onnx.NodeProto]:
    """The nodes before a node with its weight in 8 bits, and its bias, if any, in 32. A Gemm's factors are folded into them."""
    import numpy as np

    settings = attributes(node)
    name = node.input[1]
    values = writer.values(name)
    axis = channels(node, settings)
    bias = writer.values(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if node.op_type == "Gemm":
        values = values * np.float32(settings.get("alpha", 1.0))
        bias = (
            None if bias is None else np.broadcast_to(bias.reshape(-1), values.shape[axis]) * np.float32(settings.get("beta", 1.0))
        )
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
    writer: GraphWriter, node: onnx.NodeProto, place: int, maker: tuple[Any, Any], axis: int | None
) -> onnx.NodeProto:  # fmt: skip
    """The node that gives the values of stored integers and scales; `node` reads it at this place from now on."""
    import numpy as np

    values, scales = maker
    name, kind = node.input[place], values.dtype.name
    parts = [writer.keep(f"{name}_{kind}", values), writer.keep(f"{name}_{kind}_scale", scales)]
    parts.append(writer.keep(f"{name}_{kind}_zero_point", np.zeros(scales.shape, values.dtype)))
    wide = node.input[place] = writer.fresh(f"{name}_wide")
    return writer.node("DequantizeLinear", parts, [wide], f"{wide}_dequantize", **({} if axis is None else {"axis": axis}))


def channels(node: onnx.NodeProto, settings: Mapping[str, Any]) -> int:
    """The axis of a weight's output channels; for a matrix the axis over which it does not sum."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and settings.get("transB", 0)):
        return 0
    return 1
