"""Lists where a graph departs from the form that TensorRT takes and fuses. Pure.

Promises:
- `trt_problems` is complete for what the precision pass writes: standard operators, types that agree, signed symmetric pairs,
  one for each consumer, float biases and normalisation.

Will not: compile. Only TensorRT's own parser and builder can say that a graph is accepted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlpack.passes.precision import casts

if TYPE_CHECKING:
    import onnx

_NOT_TAKEN = (
    "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear", "DynamicQuantizeMatMul",
)  # fmt: skip
"""Integer operators for processors: TensorRT takes precision from pairs only."""

_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
_AXES = {"Conv": (0,), "Gemm": (0, 1), "MatMul": (1,)}
_FLOAT_TYPES = (1, 10, 16)  # TensorProto.FLOAT, FLOAT16, BFLOAT16
_INT8 = 3


def trt_problems(model: onnx.ModelProto) -> tuple[str, ...]:
    """The parts of this graph that TensorRT would refuse, convert silently or not fuse; empty when there are none."""
    problems = [*_operators(model), *_PairsCheck(model).problems()]
    return tuple(dict.fromkeys(problems)) or tuple(_types(model))


def _operators(model: onnx.ModelProto) -> Iterator[str]:
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"{node.domain}.{node.op_type} is not a standard operator"
        elif node.op_type in _NOT_TAKEN:
            yield f"{node.op_type} computes in integers by itself; TensorRT takes quantize/dequantize pairs"


def _types(model: onnx.ModelProto) -> Iterator[str]:
    """Problems of types: each operator's inputs must have types that its definition allows together."""
    import onnx

    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        yield f"types do not agree: {str(error).strip()[:300]}"


class _PairsCheck:
    """The pairs of a graph, and the nodes that read them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._nodes = list(model.graph.node)
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers = {name: node for node in self._nodes for name in node.output}
        self._uses = Counter(name for node in self._nodes for name in node.input)
        self._uses.update(value.name for value in model.graph.output)

    def problems(self) -> Iterator[str]:
        for node in self._nodes:
            if node.op_type == "QuantizeLinear":
                yield from self._parameters(node)
                yield from self._quantize(node)
            elif node.op_type == "DequantizeLinear":
                yield from self._parameters(node)
                yield from self._dequantize(node)
            else:
                yield from self._consumer(node)

    def _parameters(self, node: onnx.NodeProto) -> Iterator[str]:
        scale = self._stored.get(node.input[1])
        zero = self._stored.get(node.input[2]) if len(node.input) > 2 else None
        if scale is None or scale.data_type not in _FLOAT_TYPES:
            yield f"{node.name}: its scale is not a stored float"
        elif not _all(scale, lambda values: (values > 0) & (values < float("inf"))):
            yield f"{node.name}: a scale is not positive and finite"
        if zero is None or zero.data_type != _INT8:
            yield f"{node.name}: no stored zero point of type int8 says that values are signed"
        elif not _all(zero, lambda values: values == 0):
            yield f"{node.name}: a zero point is not 0; TensorRT's quantization is symmetric"

    def _quantize(self, node: onnx.NodeProto) -> Iterator[str]:
        if node.input[1] in self._stored and self._stored[node.input[1]].dims:
            yield f"{node.name}: an activation has one scale, not one a channel"
        if node.input[0] in self._stored:
            yield f"{node.name}: quantizes a stored weight, which should be stored as int8"
        readers = [other for other in self._nodes if node.output[0] in other.input]
        if [other.op_type for other in readers] != ["DequantizeLinear"] or self._uses[node.output[0]] != 1:
            yield f"{node.name}: its result is read by {len(readers)} nodes, not by the one DequantizeLinear of its pair"

    def _dequantize(self, node: onnx.NodeProto) -> Iterator[str]:
        stored, source = self._stored.get(node.input[0]), self._producers.get(node.input[0])
        if stored is not None and stored.data_type != _INT8:
            yield f"{node.name}: dequantizes a weight that is not int8 (a bias in 32 bits must stay float)"
        paired = source is not None and source.op_type == "QuantizeLinear" and source.input[1:] == node.input[1:]
        if stored is None and not paired:
            yield f"{node.name}: is not preceded by the QuantizeLinear of its pair, with the same scale"
        if self._uses[node.output[0]] != 1:
            yield f"{node.name}: {self._uses[node.output[0]]} nodes read it; each consumer needs a pair of its own"

    def _consumer(self, node: onnx.NodeProto) -> Iterator[str]:
        dequantized = {slot: self._producers[name] for slot, name in enumerate(node.input)
                       if name in self._producers and self._producers[name].op_type == "DequantizeLinear"}  # fmt: skip
        if not dequantized:
            return
        if node.op_type in casts.SENSITIVE and node.op_type != "GlobalAveragePool":
            yield f"{node.name} ({node.op_type}) reads quantized data; it must stay float"
        if _BIAS.get(node.op_type) in dequantized:
            yield f"{node.name} ({node.op_type}): its bias is quantized; it must stay float"
        for slot, pair in dequantized.items():
            scale = self._stored.get(pair.input[1])
            if scale is None or not scale.dims:
                continue
            axis = next((attribute.i for attribute in pair.attribute if attribute.name == "axis"), 1)
            if node.op_type == "ConvTranspose":
                yield f"{node.name}: a transposed convolution's weight has one scale, not one a channel"
            elif axis not in _allowed(node):
                yield f"{node.name} ({node.op_type}): input {slot} is scaled along axis {axis}, not along its output channels"
        if node.op_type in (*_AXES, "ConvTranspose") and not {0, 1} <= set(dequantized):
            yield f"{node.name} ({node.op_type}): one input is quantized and the other is not"


def _allowed(node: onnx.NodeProto) -> tuple[int, ...]:
    if node.op_type == "Gemm":
        return (0,) if any(attribute.name == "transB" and attribute.i for attribute in node.attribute) else (1,)
    return _AXES.get(node.op_type, ())


def _all(tensor: onnx.TensorProto, holds: Any) -> bool:
    import numpy as np
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    return bool(holds(values.astype(np.float32)).all())
