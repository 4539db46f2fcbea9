"""The cost of each ONNX operator: whether it is a kernel of its own, fuses or is free, and its operations for given shapes. Pure.

Promises:
- Products, convolutions and recurrences are exact (two operations for a multiply and its add; biases count as vector work).
- Elementwise operators are counted by a small table, which is rough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The element type (ONNX's name in small letters) and shape of a tensor, known before anything runs."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The number of elements; 1 for a scalar."""
        return prod(self.shape)

    @property
    def nbytes(self) -> float:
        """The bytes of its numbers; a text counts as 0, since no device holds it."""
        return self.elements * _BITS.get(self.dtype, 32) / 8


_BITS: Mapping[str, int] = {
    "float": 32, "float16": 16, "bfloat16": 16, "double": 64, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32,
    "uint32": 32, "int64": 64, "uint64": 64, "bool": 8, "complex64": 64, "complex128": 128, "int4": 4, "uint4": 4, "float4e2m1": 4,
    "float8e4m3fn": 8, "float8e4m3fnuz": 8, "float8e5m2": 8, "float8e5m2fnuz": 8, "string": 0,
}  # fmt: skip

ARITHMETIC: Mapping[str, str] = {
    "float": "fp32", "double": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8",
}  # fmt: skip
"""An operand's element type, and the arithmetic that its product is done in."""


class FusionKind(Enum):
    """How an operator behaves in a compiler that fuses."""

    KERNEL = "kernel"
    ELEMENTWISE = "elementwise"
    FREE = "free"
    UNKNOWN = "unknown"


FREE = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
"""Operators whose result is another name for the same bytes."""

UNPACKED = FREE | {"Transpose", "Cast"}
"""Operators between stored int8 weights and their product after which it is still an int8 product."""

SHAPE_ONLY = frozenset({"Shape", "Size", "Constant", "ConstantOfShape"})
"""Operators whose result is known as soon as the shapes are."""

ROWS_OF_FIRST_INPUT = frozenset({"Gather", "GatherElements", "GatherND", "EmbedLayerNormalization", "Slice", "Split"})
"""Operators that read only the part of their first input that they return."""

INTEGER_PRODUCTS = frozenset({
    "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "QGemm", "DynamicQuantizeMatMul", "MatMulIntegerToFloat",
    "QAttention", "DynamicQuantizeLSTM",
})  # fmt: skip

_CHEAP = frozenset({
    "Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "Neg", "Abs", "Relu", "LeakyRelu", "PRelu", "Clip", "Where", "Equal",
    "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "Sign", "Floor", "Ceil", "Round", "Cast",
    "CastLike", "QuantizeLinear", "ThresholdedRelu", "HardSigmoid", "HardSwish", "Expand", "IsNaN", "IsInf", "Mod", "BitwiseAnd",
    "BitwiseOr", "BitwiseNot", "Reciprocal", "Sqrt", "Tile",
})  # fmt: skip
_COSTLY = frozenset({
    "Exp", "Log", "Pow", "Erf", "Tanh", "Sigmoid", "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Softplus", "Softsign", "Elu",
    "Celu", "Selu", "Mish", "Swish", "Sin", "Cos", "Tan", "Atan", "Asin", "Acos",
})  # fmt: skip
_COSTLY_FLOPS = 10
"""Operations for a number through an exponential or the like: an assumption. Bytes, not these, bound such kernels."""

_REDUCTIONS = frozenset({
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare",
    "ReduceLogSum", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "ArgMax", "ArgMin", "CumSum", "TopK",
})  # fmt: skip
_NORMALISING: Mapping[str, int] = {
    "Softmax": 5, "LogSoftmax": 6, "Hardmax": 2, "LayerNormalization": 8, "SkipLayerNormalization": 9, "RMSNormalization": 6,
    "SimplifiedLayerNormalization": 6, "SkipSimplifiedLayerNormalization": 7, "EmbedLayerNormalization": 10,
    "InstanceNormalization": 8, "GroupNormalization": 8, "GroupNorm": 8, "BatchNormalization": 2, "LpNormalization": 4,
    "MeanVarianceNormalization": 6, "LRN": 10, "DynamicQuantizeLinear": 4,
}  # fmt: skip
"""Operations for each resulting number."""
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_MOVES = frozenset({
    "Transpose", "Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Pad",
    "DepthToSpace", "SpaceToDepth", "Resize", "Upsample", "OneHot", "EyeLike", "Range", "Trilu", "ReverseSequence", "GridSample",
    "RotaryEmbedding",
})  # fmt: skip
"""Copies: bytes and a launch, and one operation for each resulting number."""

_Known = Sequence[TensorInfo | None]
Flops = Callable[["onnx.NodeProto", _Known, _Known], float]


def stored_bytes(tensor: onnx.TensorProto) -> float:
    """The bytes of an initializer as stored in the graph."""
    return TensorInfo(dtype_name(tensor.data_type), tuple(tensor.dims)).nbytes


def dtype_name(data_type: int) -> str:
    """ONNX's own name of an element type in small letters: `float`, `bfloat16`, `int64`."""
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(data_type)).lower()


def kind_of(operator: str) -> FusionKind:
    """The kind of an operator; UNKNOWN where no table here has it."""
    if operator in FREE:
        return FusionKind.FREE
    if operator in _CHEAP or operator in _COSTLY or operator in ("BatchNormalization", "DequantizeLinear"):
        return FusionKind.ELEMENTWISE
    if operator in _PRODUCTS or operator in _REDUCTIONS or operator in _NORMALISING or operator in _POOLS or operator in _MOVES:
        return FusionKind.KERNEL
    return FusionKind.UNKNOWN


def operands(node: onnx.NodeProto) -> tuple[str, ...]:
    """The inputs whose element types decide the arithmetic of a product."""
    if node.op_type in ("Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention"):
        return tuple(node.input[:1])
    return tuple(node.input[:2]) if node.op_type in _PRODUCTS else ()


def flops(node: onnx.NodeProto, inputs: _Known, outputs: _Known) -> tuple[float, float, int]:
    """Operations of products, all other operations, and launches. Tensors of unknown shape count as 0."""
    out = float(sum(tensor.elements for tensor in outputs[:1] if tensor))
    operator = node.op_type
    if operator in _PRODUCTS:
        extra = sum(1 for name in node.input[2:3] if name) * out if operator in _BIASED else 0.0
        return _PRODUCTS[operator](node, inputs, outputs), extra, _steps(node, inputs)
    if operator in _REDUCTIONS:
        return 0.0, float(_elements(inputs, 0)), 1
    if operator in _POOLS:
        return 0.0, out * prod(_attribute(node, "kernel_shape", (1,))), 1
    per_number = _NORMALISING.get(operator, _COSTLY_FLOPS if operator in _COSTLY else 1)
    return 0.0, out * per_number, 1


def _elements(tensors: _Known, index: int) -> int:
    tensor = tensors[index] if index < len(tensors) else None
    return 0 if tensor is None else tensor.elements


def _shape(tensors: _Known, index: int) -> tuple[int, ...]:
    tensor = tensors[index] if index < len(tensors) else None
    return () if tensor is None else tensor.shape


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _matmul(node: onnx.NodeProto, inputs: _Known, outputs: _Known) -> float:
    """Operations of a matrix product: each result is a sum over the inner axis."""
    shape = _shape(inputs, 0)
    inner = (shape[-2] if len(shape) > 1 and _attribute(node, "transA", 0) else shape[-1]) if shape else 0
    return 2.0 * _elements(outputs, 0) * inner


def _qlinear_matmul(_node: onnx.NodeProto, inputs: _Known, outputs: _Known) -> float:
    shape = _shape(inputs, 0)
    return 2.0 * _elements(outputs, 0) * (shape[-1] if shape else 0)


def _conv(weights: int) -> Flops:
    """Operations of a convolution. `weights`: the input that holds them, as (out, in / groups, kernel...)."""

    def counted(_node: onnx.NodeProto, inputs: _Known, outputs: _Known) -> float:
        return 2.0 * _elements(outputs, 0) * prod(_shape(inputs, weights)[1:] or (0,))

    return counted


def _conv_transpose(_node: onnx.NodeProto, inputs: _Known, _outputs: _Known) -> float:
    """Operations of a transposed convolution: each input is spread over the kernel; weights are (in, out / groups, kernel...)."""
    return 2.0 * _elements(inputs, 0) * prod(_shape(inputs, 1)[1:] or (0,))


def _recurrent(_node: onnx.NodeProto, inputs: _Known, _outputs: _Known) -> float:
    """Operations of a recurrence: every step multiplies the input by W and the state by R, of all gates and directions."""
    steps, batch = (*_shape(inputs, 0), 0, 0)[:2]
    return 2.0 * steps * batch * (_elements(inputs, 1) + _elements(inputs, 2))


def _attention(node: onnx.NodeProto, inputs: _Known, outputs: _Known) -> float:
    """Operations of ONNX's Attention and ORT's MultiHeadAttention: queries with keys, then weights with values. ORT's fused form,
    whose second input is a matrix that makes all three, makes them first."""
    query, second = _shape(inputs, 0), _shape(inputs, 1)
    if not query or not second:
        return 0.0
    if node.domain == "com.microsoft" and node.op_type in ("Attention", "QAttention"):
        tokens, length = prod(query[:-1]), query[1]
        return 2.0 * tokens * prod(second) + 2.0 * length * 2 * _elements(outputs, 0)
    return 2.0 * second[-2] * (prod(query) + _elements(outputs, 0))


def _einsum(node: onnx.NodeProto, inputs: _Known, outputs: _Known) -> float:
    """Operations of a product of two: all axes multiplied; 0 where the equation has an ellipsis or one input."""
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    terms = equation.split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, inputs, strict=False):
        if tensor is not None and len(term) == len(tensor.shape):
            sizes |= dict(zip(term, tensor.shape, strict=True))
    if "..." in equation or not sizes:
        return 2.0 * _elements(outputs, 0) * (_shape(inputs, 0) or (1,))[-1]
    return (2.0 if len(terms) > 1 else 1.0) * prod(sizes.values())


def _steps(node: onnx.NodeProto, inputs: _Known) -> int:
    """The launches of a recurrence: one for each step and direction."""
    if node.op_type not in ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"):
        return 1
    return max(1, (_shape(inputs, 0) or (1,))[0]) * max(1, (_shape(inputs, 1) or (1,))[0])


_BIASED = frozenset({"Gemm", "Conv", "FusedConv", "ConvTranspose", "FusedGemm"})

_PRODUCTS: Mapping[str, Flops] = {
    "MatMul": _matmul, "Gemm": _matmul, "FusedMatMul": _matmul, "FusedGemm": _matmul, "MatMulInteger": _matmul,
    "DynamicQuantizeMatMul": _matmul, "MatMulIntegerToFloat": _matmul, "MatMulNBits": _qlinear_matmul, "QGemm": _matmul,
    "QLinearMatMul": _qlinear_matmul, "Conv": _conv(1), "FusedConv": _conv(1), "NhwcConv": _conv(1), "ConvInteger": _conv(1),
    "QLinearConv": _conv(3), "ConvTranspose": _conv_transpose, "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent, "Attention": _attention, "QAttention": _attention, "MultiHeadAttention": _attention,
    "GroupQueryAttention": _attention, "Einsum": _einsum,
}  # fmt: skip
"""Operators that tensor cores compute."""
