"""Intel Neural Compressor 2.6, the last line that takes ONNX: post-training quantization with its defaults.

static       calibrated on the calls
dynamic      no calibration
"""

from __future__ import annotations

from calls import Calls, arguments
from neural_compressor import quantization
from neural_compressor.config import PostTrainingQuantConfig


class Loader:
    """The calls as it wants a data loader: a batch size, and (inputs, label)."""

    batch_size = 1

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def __iter__(self):
        for call in self.calls:
            yield dict(call), 0


def main() -> None:
    """Quantize by the preset."""
    preset, model, calls, out = arguments()
    config = PostTrainingQuantConfig(approach=preset, calibration_sampling_size=[len(calls)])
    made = quantization.fit(str(model), config, calib_dataloader=Loader(calls))
    if made is None:
        raise SystemExit("neural_compressor.quantization.fit gave no model: see its log above")
    made.save(str(out))


if __name__ == "__main__":
    main()
