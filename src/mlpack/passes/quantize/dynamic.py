"""Dynamic quantization: 8-bit weights now, ranges of activations at each call; onnxruntime's quantizer, one weight at a time.

Promises: the bytes are those of `quantize_dynamic`. That takes the whole model into memory four times and ends at 2 GiB, because
it writes and reads the model to infer shapes; here shapes are inferred without weights, and a weight is read from its file when it
is its turn. It chooses neither operators nor bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlpack.errors import PassError
from mlpack.graphs import check, quiet, weights

if TYPE_CHECKING:
    import onnx


def quantized(
    model: onnx.ModelProto, operators: Sequence[str], kept: Sequence[str], per_channel: bool, reduce_range: bool
) -> onnx.ModelProto:
    """The graph with weights of these operators in s8, but for the nodes named in `kept`. `model`, an outline or not, is used up.
    PassError where the tool fails."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode, update_opset_version

    options = {"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT}
    try:
        with quiet.engine_tools("quantize"), weights.readable(), _inference_without_weights():
            known = update_opset_version(_with_shapes(model), QuantType.QInt8)
            quantizer = ONNXQuantizer(
                known, per_channel, reduce_range, QuantizationMode.IntegerOps, False, QuantType.QInt8, QuantType.QUInt8, None,
                [], list(kept), list(operators), options,
            )  # fmt: skip
            quantizer.quantize_model()
            quantizer.model.topological_sort()
    except check.TOOL_ERRORS as error:
        raise PassError(
            f"quantize: onnxruntime's quantizer failed ({type(error).__name__}: {error}); simplify the graph first"
        ) from error
    result: onnx.ModelProto = quantizer.model.model
    return result


@contextmanager
def _inference_without_weights() -> Iterator[None]:
    """While the block runs, the quantizer infers shapes by `_with_shapes`."""
    from onnxruntime.quantization import base_quantizer, onnx_quantizer

    name = "save_and_reload_model_with_shape_infer"
    before = getattr(onnx_quantizer, name)
    for module in (base_quantizer, onnx_quantizer):
        setattr(module, name, _with_shapes)
    try:
        yield
    finally:
        for module in (base_quantizer, onnx_quantizer):
            setattr(module, name, before)


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with what ONNX's inference finds in it, in place, marked as the quantizer wants it."""
    import onnx
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    inferred = onnx.shape_inference.infer_shapes(weights.declared(model))
    for field in ("value_info", "output"):
        del getattr(model.graph, field)[:]
        getattr(model.graph, field).extend(getattr(inferred.graph, field))
    add_infer_metadata(model)
    return model
