"""onnxruntime's own quantizers by the advice of its documentation: pre-process, then static QDQ or dynamic.

static          quantize_static as it is by default: s8 activations, s8 weights, one scale a tensor, QDQ
static-x86      what its docstring advises for x86-64 without VNNI: u8 activations, s8 weights, a scale a channel, 7 bits
dynamic         quantize_dynamic as it is by default
dynamic-x86     with a scale a channel and 7 bits
fused           dynamic, after its optimizer of transformers, as its documentation advises for BERT-like models
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from calls import Reader, arguments
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


def main() -> None:
    """Quantize by the preset."""
    preset, model, calls, out = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        ready = Path(scratch) / "ready.onnx"
        try:
            quant_pre_process(str(model), str(ready))
        except Exception as error:  # noqa: BLE001 - its documentation: skip symbolic shapes where they fail
            print(f"quant_pre_process: {type(error).__name__}: {error}; again without symbolic shapes")
            quant_pre_process(str(model), str(ready), skip_symbolic_shape=True)
        safe = {"per_channel": True, "reduce_range": True}
        if preset == "static":
            quantize_static(str(ready), str(out), Reader(calls), quant_format=QuantFormat.QDQ)
        elif preset == "static-x86":
            types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
            quantize_static(str(ready), str(out), Reader(calls), quant_format=QuantFormat.QDQ, **types, **safe)
        elif preset == "dynamic":
            quantize_dynamic(str(ready), str(out))
        elif preset == "dynamic-x86":
            quantize_dynamic(str(ready), str(out), **safe)
        else:
            quantize_dynamic(str(fused(ready, Path(scratch))), str(out))


def fused(model: Path, scratch: Path) -> Path:
    """The model as its optimizer of transformers leaves it. SystemExit where it finds no attention in it."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.enable_embed_layer_norm = False  # its documentation: where the inputs are not those of BERT's exporter
    made = optimizer.optimize_model(str(model), model_type="bert", optimization_options=options, opt_level=0)
    if not any(node.op_type == "Attention" for node in made.model.graph.node):
        raise SystemExit("onnxruntime.transformers.optimizer fuses no attention in this graph")
    made.save_model_to_file(str(scratch / "fused.onnx"))
    onnx.checker.check_model(str(scratch / "fused.onnx"))
    return scratch / "fused.onnx"


if __name__ == "__main__":
    main()
