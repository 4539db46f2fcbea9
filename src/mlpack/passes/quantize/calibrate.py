"""Static quantization: activation ranges from recorded calls, quantize/dequantize pairs around the nodes that gain by them.

Promises: calibration streams the calls; the ranges of residual Adds' operands are not forced together, because the Adds stay
float; nodes of the same graph and data give the same bytes. It does not choose the method or judge the result.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, Any

from mlpack.data import reader
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
    per_channel: bool
    reduce_range: bool
    signed_activations: bool

    @property
    def ranges(self) -> Ranges:
        """Where ranges come from."""
        return Ranges(calls=self.calls, samples=self.samples, method=self.method)


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
) -> onnx.ModelProto:
    """The graph with QDQ pairs; `kept`: names of nodes that stay float beside tiny ones.

    Raises PassError when shapes cannot be inferred or the calls do not fit.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    operators = [*WEIGHTED, *_CARRIED]
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        with quiet.engine_tools("quantize"):
            reached = ranges.collected(inferred, model_dir, settings.ranges, operators, scratch)
            quantizer = QDQQuantizer(
                inferred, settings.per_channel, settings.reduce_range, QuantType.QInt8,
                QuantType.QInt8 if settings.signed_activations else QuantType.QUInt8,
                reached, [], [*tiny(model), *kept], operators, {"ActivationSymmetric": False, "WeightSymmetric": True},
            )  # fmt: skip
            quantizer.quantize_model()
            quantizer.model.save_model_to_file(str(scratch / files.MODEL), False)
    except (*check.TOOL_ERRORS, *check.engine_errors(), onnx.shape_inference.InferenceError) as error:
        raise PassError(
            f"quantize: onnxruntime's static quantizer failed ({type(error).__name__}: {str(error)[:600]}); "
            "do the calibration data fit the model's inputs, and was the graph simplified first?"
        ) from error
    return files.load(scratch)


def largest(model: onnx.ModelProto, model_dir: Path, names: Sequence[str], settings: Ranges) -> dict[str, float]:
    """For each of these tensors, the absolute value that the calls reach: all of them, or what the method says is worth keeping.

    Calls are read and forgotten one by one. Raises PassError when they do not fit the model.
    """
    import numpy as np
    from onnx import helper

    probe = type(model).FromString(model.SerializeToString())
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)  # TensorProto.FLOAT
    opened = check.session_of(probe.SerializeToString(), "ORT_ENABLE_BASIC")
    found = dict.fromkeys(names, 0.0)
    collector = None if settings.method == "minmax" else _collector(settings.method)
    for feed in islice(reader.read(settings.calls, model_dir, files.signature_of(model)), settings.samples):
        for name, values in zip(names, check.run(opened, feed), strict=True):
            if not np.isfinite(values).all():
                raise PassError(f"calibration: {name!r} is not finite on the calibration data; does the model's input fit it?")
            if collector is None:
                found[name] = max(found[name], float(np.abs(values).max(initial=0)))
            else:
                with quiet.engine_tools("calibration"):
                    collector.collect({name: values})
    if collector is not None:
        with quiet.engine_tools("calibration"):
            for name, (low, high, *_) in collector.compute_collection_result().items():
                found[name] = max(abs(float(low)), abs(float(high)))
    return found


def _collector(method: str) -> Any:
    from onnxruntime.quantization.calibrate import HistogramCollector

    # The engine's own settings for the two methods, but for the bins of "entropy": 128 quantized ones need more to choose from.
    bins = 2048 if method == "percentile" else 1024
    return HistogramCollector(
        method=method, symmetric=True, num_bins=bins, num_quantized_bins=128, percentile=99.999, scenario="same"
    )


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
