"""The default metric alone, on bytes that onnxruntime's own quantizer made: it refuses a blind detector and passes a seeing one.

What mlpack's quantizer does about them is `test_foreign_models`'.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from tests.support.models import foreign_torch

from mlpack.evaluation import metrics
from mlpack.graphs.quiet import engine_tools

BUDGET = 0.02


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Pictures one by one."""

    def __init__(self, pictures: Any) -> None:
        self.feeds: Iterator[dict[str, Any]] = iter([{"images": one[None]} for one in pictures])

    def get_next(self) -> Any:
        return next(self.feeds, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detectors")
    foreign_torch.detectors(path)
    return path


def _answers(model: Path, pictures: Any) -> list[dict[str, Any]]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [{"output0": session.run(None, {"images": one[None]})[0]} for one in pictures]


def _found(answers: list[dict[str, Any]], layout: str) -> int:
    rows = np.concatenate([call["output0"] for call in answers])
    scores = rows[..., 4] if layout == "rows" else rows[:, 4]
    return int((scores > 0.5).sum())


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("blind", [True, False], ids=["one scale for boxes and scores", "the join left float"])
def test_default_metric_tells_blind_detector_from_one_that_sees(folder: Path, tmp_path: Path, layout: str, blind: bool) -> None:
    model, int8 = folder / f"{layout}.onnx", tmp_path / "int8.onnx"
    operators = ["Conv", "Concat", "Reshape", "Transpose"] if blind else ["Conv"]
    with engine_tools("quantize"):
        quantize_static(
            model, int8, Reader(np.load(folder / "calib.npz")["images"]), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operators, per_channel=True, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    pictures = np.load(folder / "eval.npz")["images"]
    theirs, ours = _answers(model, pictures), _answers(int8, pictures)
    kept = _found(ours, layout) / _found(theirs, layout)
    assert kept < 0.01 if blind else kept > 0.98
    metric = metrics.find(metrics.DEFAULT)
    scores = metrics.evaluate(metric, ours, None, theirs)
    drop = metrics.paired_drop(metric, metrics.evaluate(metric, theirs, None), scores)
    assert drop.low <= drop.value <= drop.high
    assert drop.value > 0.9 if blind else drop.value <= BUDGET
    if blind:
        cosine = metrics.find("cosine")
        assert metrics.evaluate(cosine, ours, None, theirs).value > 1 - BUDGET  # which is why it is not the default
