"""Static quantization: activation ranges from recorded calls, quantize/dequantize pairs around the nodes that gain by them.

Promises: calibration streams the calls; the ranges of residual Adds' operands are not forced together, because the Adds stay
float; nodes of the same graph and data give the same bytes. It does not choose the method or judge the result.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.graphs import check, files, quiet
from mlpack.passes.quantize import ranges
from mlpack.passes.quantize.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What static quantization needs to know, decided: no defaults."""

    calls: Path
    samples: int
    method: str
    percentile: float
    per_channel: bool
    reduce_range: bool
    signed_activations: bool

    @property
    def ranges(self) -> Ranges:
        """Where ranges come from."""
        return Ranges(calls=self.calls, samples=self.samples, method=self.method, percentile=self.percentile)


WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""What gains by integer arithmetic."""

_CARRIED = (
    "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat",
    "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze",
)  # fmt: skip
"""What 8-bit data passes on its way. Without Relu here a pair of conversions stands before each one, and int8 loses what it
gained: 9 of them cost a fifth of a ten-convolution network's time. Add is not here: its operands keep their own ranges."""

SMALLEST = 16
"""Matrices with fewer rows or columns stay float: they are slower in int8 and are mostly the first and the last layer."""

OPSET = 13
"""The first operator set whose pairs have a scale for each channel."""


def quantized(
    model: onnx.ModelProto, model_dir: Path, settings: Settings, scratch: Path, kept: Sequence[str] = ()
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph with QDQ pairs, and remarks on the calls; `kept`: names of nodes that stay float beside tiny ones.

    Raises PassError when shapes cannot be inferred or the calls do not fit.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    operators = [*WEIGHTED, *_CARRIED]
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        found = ranges.measured(inferred, model_dir, ranges.of_operators(inferred, operators), settings.ranges, scratch)
        kept = [*tiny(model), *kept, *_without_range(inferred, found)]
        with quiet.engine_tools("quantize"):
            quantizer = QDQQuantizer(
                inferred, settings.per_channel, settings.reduce_range, QuantType.QInt8,
                QuantType.QInt8 if settings.signed_activations else QuantType.QUInt8,
                _reached(found), [], kept, operators, {"ActivationSymmetric": False, "WeightSymmetric": True},
            )  # fmt: skip
            quantizer.quantize_model()
            quantizer.model.save_model_to_file(str(scratch / files.MODEL), False)
    except (*check.TOOL_ERRORS, *check.engine_errors(), onnx.shape_inference.InferenceError) as error:
        raise PassError(
            f"quantize: onnxruntime's static quantizer failed ({type(error).__name__}: {str(error)[:600]}); "
            "do the calibration data fit the model's inputs, and was the graph simplified first?"
        ) from error
    return files.load(scratch), found.remarks


def _reached(found: ranges.Measured) -> Any:
    """Ranges as the engine's quantizer takes them."""
    import numpy as np
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

    said = {name: tuple(np.array(end, np.float32) for end in ends) for name, ends in found.ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, said)


def _without_range(model: onnx.ModelProto, found: ranges.Measured) -> list[str]:
    """Names of nodes that read or give what has no range."""
    return [node.name for node in model.graph.node if any(name in found.refused for name in (*node.input, *node.output))]


def tiny(model: onnx.ModelProto) -> list[str]:
    """Names of weighted nodes too small to gain."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        shape = dims.get(node.input[1], ()) if node.op_type in WEIGHTED else ()
        if not shape:
            continue
        inner = shape[1:] if node.op_type == "Conv" else shape[:-1]
        outer = shape[0] if node.op_type == "Conv" else shape[-1]
        if min(prod(inner), outer, prod(shape) // max(1, prod(inner))) < SMALLEST:
            found.append(node.name)
    return found


def quantized_nodes(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each kind read only dequantized data."""
    dequantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    counted = Counter(
        node.op_type for node in model.graph.node if node.op_type in WEIGHTED and set(filter(None, node.input)) <= dequantized
    )
    return dict(sorted(counted.items()))
