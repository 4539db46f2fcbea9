"""The type in which each node computes: float32, half, integers by static or dynamic scales, or float with packed weights.

Promises:
- The graph alone decides: engine operators and quantize/dequantize pairs alike. Bodies of If, Loop and Scan and local functions
  are included.
- A type that cannot be told is `unknown`, never guessed.

Will not: run anything or read a large weight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpack.graphs import files

if TYPE_CHECKING:
    import onnx

STATIC, DYNAMIC, CONVERSIONS, WHOLE, CONTROL, UNKNOWN = (
    "int8 static", "int8 dynamic", "conversions", "whole numbers", "control", "unknown",
)  # fmt: skip
FLOATS: Mapping[int, str] = {1: "float32", 10: "fp16", 11: "float64", 16: "bf16"}
"""Floating types, by ONNX's numbers."""
PRODUCTS = frozenset({
    "Conv", "ConvTranspose", "FusedConv", "NhwcConv", "NhwcFusedConv", "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "LSTM", "GRU",
    "RNN", "Attention", "MultiHeadAttention", "GroupQueryAttention", "Einsum", "EmbedLayerNormalization",
})  # fmt: skip
"""Operators that a quantizer may put into integers for the sake of their weights or time; those of two activations count too."""
_INTEGER = {
    "ConvInteger": ("Conv", DYNAMIC), "MatMulInteger": ("MatMul", DYNAMIC), "DynamicQuantizeMatMul": ("MatMul", DYNAMIC),
    "MatMulIntegerToFloat": ("MatMul", DYNAMIC), "QAttention": ("Attention", DYNAMIC), "DynamicQuantizeLSTM": ("LSTM", DYNAMIC),
    "QGemm": ("Gemm", STATIC), "QEmbedLayerNormalization": ("EmbedLayerNormalization", "int8 weights"),
}  # fmt: skip
_BLOCKED = {"MatMulNBits": "MatMul", "GatherBlockQuantized": "Gather", "MatMulBnb4": "MatMul"}
_CONVERT = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "CastLike"})
_FUSED = {"FusedConv": "Conv", "NhwcConv": "Conv", "NhwcFusedConv": "Conv", "FusedMatMul": "MatMul", "FusedGemm": "Gemm"}
"""The engine's own operators into which it fuses others."""
_PASSING = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Dropout"})
_TO_BOOL = frozenset({
    "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf",
})  # fmt: skip
_TO_INT64 = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression"})
_TO_FLOAT32 = frozenset({
    "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "DynamicQuantizeLSTM", "QEmbedLayerNormalization",
})  # fmt: skip
_BITS = {2: 8, 3: 8, 4: 16, 5: 16, 21: 4, 22: 4, 23: 4, 17: 8, 18: 8, 19: 8, 20: 8}
"""The bits of quantized types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPrecision:
    """A node: its name (its first output's where it has none), its operator before it was quantized, and the type in which it
    computes. `product`: whether a quantizer would consider it."""

    name: str
    operator: str
    precision: str
    product: bool


def layers(model: onnx.ModelProto) -> tuple[LayerPrecision, ...]:
    """Every node of the graph, of graphs in it and of local functions, in their order."""
    graph = _PrecisionGraph(model)
    return tuple(graph.layer(node) for node in graph.nodes)


class _PrecisionGraph:
    """The element type of every tensor by its name, and whether it came from integers."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = [*files.nodes(model.graph), *(node for function in model.functions for node in files.nodes(function))]
        self._types: dict[str, int] = {}
        self._stored: dict[str, int] = {}
        self._unpacked: dict[str, tuple[str, int]] = {}
        """Of what a DequantizeLinear gives: whether that was a weight or an activation, and its bits."""
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for graph in files.graphs(model.graph):
            for value in (*graph.input, *graph.value_info, *graph.output):
                if value.type.tensor_type.elem_type:
                    self._types[value.name] = value.type.tensor_type.elem_type
            for tensor in graph.initializer:
                self._stored[tensor.name] = self._types[tensor.name] = tensor.data_type
        for node in self.nodes:
            for name in node.input:
                self._readers[name].append(node)
        for node in self.nodes:
            self._note(node)

    def _note(self, node: Any) -> None:
        """Record the types of a node's outputs, which follow from those of its inputs, and where they come from."""
        op, inputs = node.op_type, [name for name in node.input if name]
        element_type = _attribute(node, "to") if op == "Cast" else self._type_of(node, inputs)
        for name in node.output:
            if name and element_type and name not in self._types:
                self._types[name] = int(element_type)
        if op == "DequantizeLinear" and inputs:
            source = inputs[0]
            constant = self._constant(source)
            bits = _BITS.get(constant or self._types.get(source, 2), 8)
            self._unpacked[node.output[0]] = ("weight" if constant else "activation", bits)
        elif op in _PASSING and inputs and inputs[0] in self._unpacked:
            self._unpacked[node.output[0]] = self._unpacked[inputs[0]]
        elif op == "Constant" and element_type:
            self._stored[node.output[0]] = int(element_type)

    def _constant(self, name: str) -> int | None:
        return self._stored.get(name)

    def _type_of(self, node: Any, inputs: list[str]) -> int | None:
        op = node.op_type
        if op in _TO_BOOL:
            return 9
        if op in _TO_INT64:
            return 7
        if op in _TO_FLOAT32:
            return 1
        if op in ("MatMulInteger", "ConvInteger"):
            return 6
        if op in ("Constant", "ConstantOfShape"):
            tensor = _attribute(node, "value")
            plain = {"value_float": 1, "value_floats": 1, "value_int": 7, "value_ints": 7}
            other = next((plain[each.name] for each in node.attribute if each.name in plain), None)
            return int(tensor.data_type) if tensor is not None else other or (1 if op == "ConstantOfShape" else None)
        slot = {"QuantizeLinear": 2, "DequantizeLinear": 1, "Where": 1, "OneHot": 2, "EmbedLayerNormalization": 2}.get(op, 0)
        if op.startswith("QLinear") or op in ("QuantizeLinear", "DynamicQuantizeLinear"):
            at = node.input[slot] if op == "QuantizeLinear" and len(node.input) > slot else ""
            return self._types.get(at, 2)
        return self._types.get(inputs[slot]) if len(inputs) > slot else None

    def layer(self, node: Any) -> LayerPrecision:
        """The precision of one node."""
        op, name = node.op_type, node.name or next(iter(node.output), "") or node.op_type
        if op in _INTEGER:
            return LayerPrecision(name=name, operator=_INTEGER[op][0], precision=_INTEGER[op][1], product=True)
        if op in _BLOCKED:
            bits = _attribute(node, "bits") or 4
            return LayerPrecision(name=name, operator=_BLOCKED[op], precision=f"{bits}-bit weights", product=True)
        if op.startswith("QLinear"):
            plain = op.removeprefix("QLinear")
            return LayerPrecision(name=name, operator=plain, precision=STATIC, product=plain in PRODUCTS)
        return LayerPrecision(name=name, operator=_FUSED.get(op, op), precision=self._precision(node), product=op in PRODUCTS)

    def _precision(self, node: Any) -> str:
        op = node.op_type
        if op in _CONVERT:
            return CONVERSIONS
        if op in ("If", "Loop", "Scan"):
            return CONTROL
        table = node.input[0] if op in ("Gather", "GatherElements", "GatherND") and node.input else ""
        if (bits := _BITS.get(self._stored.get(table, 0))) is not None:
            return f"int{bits} weights" if bits != 4 else "4-bit weights"
        marks = [self._unpacked[name] for name in node.input if name in self._unpacked]
        if marks and (quantized := self._quantized(node, marks)) is not None:
            return quantized
        at = node.input[0] if node.domain == "ai.onnx.ml" and node.input else next(iter(node.output), "")
        kind = self._types.get(at)
        if kind is None:
            return UNKNOWN
        return FLOATS.get(kind) or ("strings" if kind == 8 else WHOLE)

    def _quantized(self, node: Any, marks: list[tuple[str, int]]) -> str | None:
        """The precision of a node between pairs: static where all relevant inputs come from integers; float with packed weights
        where only the weights do."""
        inputs = [name for name in node.input if name and name not in self._stored]
        active = [bits for kind, bits in marks if kind == "activation"]
        if node.op_type in PRODUCTS:
            first_two = [self._unpacked.get(name) for name in node.input[:2]]
            if all(first_two) and active:
                return STATIC if min(active) == 8 else f"int{min(active)} static"
        elif active and all(name in self._unpacked for name in inputs) and self._goes_back(node):
            return STATIC if min(active) == 8 else f"int{min(active)} static"
        bits = min((bits for kind, bits in marks if kind == "weight"), default=None)
        return None if bits is None else f"{bits}-bit weights" if bits == 4 else f"int{bits} weights"

    def _goes_back(self, node: Any) -> bool:
        """Whether every reader quantizes the result again, so that an engine computes the node in integers."""
        readers = [reader for name in node.output for reader in self._readers[name]]
        return bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)


def _attribute(node: Any, name: str) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)
