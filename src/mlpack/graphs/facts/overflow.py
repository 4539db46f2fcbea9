"""Finds integer products of a graph that can overflow on an x86-64 processor without VNNI, from the graph alone.

Such a processor sums two products of an unsigned and a signed byte in 16 bits (`vpmaddubsw`) and cuts the sum off at 32,767:
255 · 127 · 2 is 64,770. Weights within 7 bits (-64 to 64) never reach the limit.

Promises:
- `risks` lists every product that may overflow, with its reason. It leaves out only those that cannot; an unknown factor counts
  as the worst one. Graphs inside If, Loop and Scan are included.

Will not: run anything or use samples. A listed product may still never overflow on real data.

Sources: Intel's manual on VPMADDUBSW; onnxruntime's page on quantization. Which kernels of the engine sum in that way is
measured, kernel by kernel, in tests_slow/test_overflow_kernels.py: a product of two signed or two unsigned bytes does not, nor
does a depthwise QLinearConv, nor MatMulNBits at any width; ConvInteger has the weights as its first factor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.graphs import files, weights

if TYPE_CHECKING:
    import onnx

LEAST, MOST = -(2**15), 2**15 - 1
VERSION = 1
"""Raised when other products would be listed for the same graph."""

_FACTORS: dict[str, tuple[tuple[int | None, int], ...]] = {
    "MatMulInteger": ((0, 1),),
    "MatMulIntegerToFloat": ((0, 1),),
    "ConvInteger": ((1, 0),),
    "QLinearMatMul": ((0, 3),),
    "QLinearConv": ((0, 3),),
    "QGemm": ((0, 3),),
    "QAttention": ((0, 1),),
    "DynamicQuantizeMatMul": ((None, 1),),
    "DynamicQuantizeLSTM": ((None, 1), (None, 2)),
}
"""The inputs that the engine multiplies, the first factor of its kernel first. None: bytes that the node makes itself, unsigned."""
_UNKNOWN = frozenset({"QMoE", "QLinearConvTranspose", "MatMulInteger16", "DynamicQuantizeConv"})
"""Operators with integer products whose kernels were not measured."""
_FUSED = ("Conv", "FusedConv", "MatMul", "Gemm", "FusedMatMul", "TransposeMatMul")
"""Operators that become integer products when the graph is loaded with optimisation, if both factors come from DequantizeLinear."""
_SAME_VALUES = (
    "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Gather", "Split", "Expand", "Tile",
)  # fmt: skip
_SAME_TYPE = (*_SAME_VALUES, "MaxPool", "Concat", "Pad", "Relu", "Clip", "Where")
_ZERO_POINT = {
    "QuantizeLinear": 2, "QLinearMatMul": 7, "QLinearConv": 7, "QGemm": 8, "QLinearAdd": 7, "QLinearMul": 7, "QLinearSigmoid": 4,
    "QLinearLeakyRelu": 4, "QLinearSoftmax": 4, "QLinearAveragePool": 4, "QLinearGlobalAveragePool": 4, "QLinearConcat": 1,
}  # fmt: skip
"""The input that has the type of a quantized operator's result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """A product that may overflow: the node, its operator, and the reason in words."""

    node: str
    operator: str
    why: str

    def __str__(self) -> str:
        return f"{self.operator} {self.node}: {self.why}"


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A factor of a product: its element type (None: unknown) and the range of its raw values."""

    kind: str | None
    low: int
    high: int


_WORST = {"uint8": _Bytes("uint8", 0, 255), "int8": _Bytes("int8", -128, 127)}
_ANY = _Bytes(None, -128, 255)


def risks(path: Path, *, optimised_on_load: bool = True) -> tuple[Risk, ...]:
    """Every product of the graph in this file that may overflow, in its order. `optimised_on_load`: whether the engine still fuses
    pairs of QuantizeLinear and DequantizeLinear. PassError when the file cannot be read."""
    model = files.load_file(path, outline=True)
    products = list(_of(model.graph, _Scope(), optimised_on_load))
    for function in model.functions:
        products += [
            Risk(node=node.name or node.output[0], operator=node.op_type, why=f"it stands in the function {function.name}, unread")
            for node in files.nodes(function)
            if node.op_type in _FACTORS or node.op_type in _UNKNOWN
        ]
    return tuple(products)


def risks_of_package(root: Path) -> tuple[Risk, ...]:
    """The same for an unpacked package's graph, loaded as its model.json says. PassError, and OSError when a file is missing."""
    settings = json.loads((root / "model" / "model.json").read_bytes())
    return risks(root / "model" / settings["graph"], optimised_on_load=bool(settings.get("graph_optimization_level", 99)))


@dataclass
class _Scope:
    """The makers of the tensors that are visible in a graph, its own and those of the graphs around it."""

    stored: dict[str, onnx.TensorProto] = field(default_factory=dict)
    makers: dict[str, onnx.NodeProto] = field(default_factory=dict)
    typed: dict[str, int] = field(default_factory=dict)

    def inside(self, graph: onnx.GraphProto) -> _Scope:
        """The scope inside this graph. Its own names hide those around it."""
        own = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
        stored = {name: tensor for name, tensor in self.stored.items() if name not in own}
        stored |= {tensor.name: tensor for tensor in graph.initializer}
        makers = {name: node for name, node in self.makers.items() if name not in own and name not in stored}
        makers |= {name: node for node in graph.node for name in node.output if name}
        values = (*graph.input, *graph.value_info, *graph.output)
        typed = self.typed | {value.name: value.type.tensor_type.elem_type for value in values}
        return _Scope(stored=stored, makers=makers, typed=typed)


def _of(graph: onnx.GraphProto, around: _Scope, optimised: bool) -> Iterator[Risk]:
    scope = around.inside(graph)
    for node in graph.node:
        name = node.name or next(iter(node.output), node.op_type)
        if node.op_type in _UNKNOWN:
            yield Risk(node=name, operator=node.op_type, why="its kernel is not known to keep every sum")
        elif not (node.op_type == "QLinearConv" and _is_depthwise(node, scope)):
            for first, second in _pairs(node, scope, optimised):
                if (why := _reason(first, second)) is not None:
                    yield Risk(node=name, operator=node.op_type, why=why)
                    break
        for nested in files.subgraphs(node):
            yield from _of(nested, scope, optimised)


def _pairs(node: onnx.NodeProto, scope: _Scope, optimised: bool) -> Iterator[tuple[_Bytes, _Bytes]]:
    """The factors of every integer product that the node is, or becomes."""
    for first, second in _FACTORS.get(node.op_type, ()):
        if second < len(node.input):
            one = _WORST["uint8"] if first is None else _range_of(node.input[first], scope)
            yield one, _range_of(node.input[second], scope)
    if optimised and node.op_type in _FUSED and len(node.input) > 1:
        sources = [scope.makers.get(name) for name in node.input[:2]]
        if all(source is not None and source.op_type == "DequantizeLinear" for source in sources):
            one, other = (_range_of(source.input[0], scope) for source in sources if source is not None)
            # On x86-64 the engine makes signed activations unsigned, unless it is told not to.
            yield (_WORST["uint8"] if one.kind == "int8" else one), other


def _reason(first: _Bytes, second: _Bytes) -> str | None:
    """The reason why the sum of two products of these factors may not fit into 16 bits; None where it always does, or is not summed
    so."""
    if first.kind not in ("uint8", None) or second.kind not in ("int8", None):
        return None
    highest = 2 * max(first.high, 0) * max(second.high, 0)
    lowest = 2 * max(first.high, 0) * min(second.low, 0)
    if lowest >= LEAST and highest <= MOST:
        return None
    if second.kind is None:
        return "its second factor is computed, and may be any signed bytes"
    return f"bytes up to {first.high} times bytes of {second.low} to {second.high}"


def _is_depthwise(node: onnx.NodeProto, scope: _Scope) -> bool:
    """Whether each group has one input and one output channel: another kernel, which sums in 32 bits."""
    weight = scope.stored.get(node.input[3])
    group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return weight is not None and len(weight.dims) > 1 and weight.dims[0] == group and weight.dims[1] == 1


def _range_of(name: str, scope: _Scope, depth: int = 64) -> _Bytes:
    """A tensor's values where it is constant, else its type."""
    if (tensor := scope.stored.get(name)) is not None:
        return _values(tensor)
    node = scope.makers.get(name)
    if node is not None and depth:
        if node.op_type in ("Constant", "ConstantOfShape"):
            value = next((attribute.t for attribute in node.attribute if attribute.HasField("t")), None)
            return _ANY if value is None else _values(value)
        if node.op_type in _SAME_VALUES:
            return _range_of(node.input[0], scope, depth - 1)
        if (kind := _type(node, scope, depth)) is not None:
            return _WORST.get(kind, _Bytes(kind, 0, 0))
    return _of_type(scope.typed.get(name, 0))


def _type(node: onnx.NodeProto, scope: _Scope, depth: int) -> str | None:
    """The element type of a node's first result, where it follows from an input."""
    if node.op_type == "DynamicQuantizeLinear":
        return "uint8"
    if node.op_type in _SAME_TYPE:
        return _range_of(node.input[1 if node.op_type == "Where" else 0], scope, depth - 1).kind
    place = _ZERO_POINT.get(node.op_type)
    if place is None:
        return None
    if place < len(node.input) and node.input[place]:
        return _range_of(node.input[place], scope, depth - 1).kind
    data_type = next((attribute.i for attribute in node.attribute if attribute.name == "output_dtype"), 0)
    return _of_type(data_type).kind if data_type else "uint8" if node.op_type == "QuantizeLinear" else None


def _of_type(number: int) -> _Bytes:
    import onnx

    if not number:
        return _ANY
    kind = onnx.TensorProto.DataType.Name(number).lower()
    return _WORST.get(kind, _Bytes(kind, 0, 0))


def _values(tensor: onnx.TensorProto) -> _Bytes:
    """The range of a constant's raw bytes; for types that are no bytes, the type alone."""
    element_bytes = _of_type(tensor.data_type)
    if element_bytes.kind not in _WORST:
        return element_bytes
    array: Any = weights.array(tensor)
    return _Bytes(element_bytes.kind, int(array.min()), int(array.max())) if array.size else _Bytes(element_bytes.kind, 0, 0)
