"""NNCF's `quantize` on ONNX, with its defaults but for the number of calls, which is all there are.

performance  its default preset: symmetric activations
mixed        asymmetric activations
transformer  mixed, and its `model_type` for transformers
"""

from __future__ import annotations

import nncf
import onnx
from calls import arguments


def main() -> None:
    """Quantize by the preset."""
    preset, model, calls, out = arguments()
    options = {"preset": nncf.QuantizationPreset.PERFORMANCE if preset == "performance" else nncf.QuantizationPreset.MIXED}
    if preset == "transformer":
        options["model_type"] = nncf.ModelType.TRANSFORMER
    loaded = onnx.load(str(model))
    made = nncf.quantize(loaded, nncf.Dataset(calls), subset_size=max(1, len(calls)), **options)
    onnx.save(made, str(out))


if __name__ == "__main__":
    main()
