"""The Neural Compressor of the ONNX project: static (QDQ) and dynamic quantization with its defaults, and SmoothQuant.

static       QDQ, calibrated on the calls
smooth       the same after its SmoothQuant
dynamic      no calibration
"""

from __future__ import annotations

from calls import Reader, arguments
from onnx_neural_compressor.quantization import QuantFormat, config, quantize


def main() -> None:
    """Quantize by the preset."""
    preset, model, calls, out = arguments()
    if preset == "dynamic":
        chosen = config.DynamicQuantConfig()
    else:
        chosen = config.StaticQuantConfig(
            calibration_data_reader=Reader(calls),
            quant_format=QuantFormat.QDQ,
            calibration_sampling_size=len(calls),
            extra_options={"SmoothQuant": True} if preset == "smooth" else {},
        )
    quantize(str(model), str(out), chosen)


if __name__ == "__main__":
    main()
