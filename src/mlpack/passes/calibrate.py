"""Static quantization: activation ranges from recorded calls, quantize/dequantize pairs around the nodes that gain by them.

Promises: calibration streams the calls; the ranges of residual Adds' operands are not forced together, because the Adds stay
float; nodes of the same graph and data give the same bytes. It does not choose the method or judge the result.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpack.errors import PassError
from mlpack.passes import calls, graph

if TYPE_CHECKING:
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
    operators: tuple[str, ...]


def quantized(model: onnx.ModelProto, model_dir: Path, settings: Settings, scratch: Path) -> onnx.ModelProto:
    """The graph with QDQ pairs. Raises PassError when shapes cannot be inferred or the calls do not fit."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile,
    }  # fmt: skip
    signature = graph.signature_of(model)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the engine's package carries no types
        def __init__(self) -> None:
            self._calls = islice(calls.read(settings.calls, model_dir, signature), settings.samples)

        def get_next(self) -> Any:
            return next(self._calls, None)

    try:
        quantize_static(
            inferred, scratch / graph.MODEL, Reader(), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(settings.operators), per_channel=settings.per_channel, reduce_range=settings.reduce_range,
            activation_type=QuantType.QInt8 if settings.signed_activations else QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=methods[settings.method],
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True, "DedicatedQDQPair": False},
        )  # fmt: skip
    except (RuntimeError, ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError, NotImplementedError) as error:
        raise PassError(
            f"quantize: onnxruntime's static quantizer failed ({type(error).__name__}: {error}); simplify the graph first"
        ) from error
    return graph.load(scratch)


def quantized_nodes(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each kind read only dequantized data."""
    dequantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    counted = Counter(
        node.op_type
        for node in model.graph.node
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and set(filter(None, node.input)) <= dequantized
    )
    return dict(sorted(counted.items()))
