"""Every row of the table, held to the contract of `pass_harness` on small real models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tests.support.pass_harness import hold

from mlpack.passes import PASSES
from mlpack.passes.convert import Convert
from mlpack.passes.export import Export
from mlpack.passes.optimize import Optimize
from mlpack.passes.precision import Precision
from mlpack.passes.prune import Prune
from mlpack.passes.quantize import Quantize
from mlpack.passes.simplify import Simplify
from mlpack.passes.tensorrt import Tensorrt

CASES: list[tuple[str, str, Any]] = [
    ("export", "bert", Export()),
    ("export", "cnn", Export()),
    ("export", "cnn", Export(exporter="torchscript")),
    ("convert", "regressor", Convert(evaluation=Path("columns"))),
    ("simplify", "bert-onnx", Simplify()),
    ("simplify", "bert-onnx", Simplify(operators="portable")),
    ("simplify", "cnn-onnx", Simplify()),
    ("simplify", "mlp", Simplify()),
    ("quantize", "bert-simple", Quantize()),
    ("quantize", "bert-simple", Quantize(arch="arm64", embeddings=False)),
    ("quantize", "cnn-simple", Quantize(calibration=Path("calls"))),
    ("quantize", "cnn-simple", Quantize(calibration=Path("calls"), arch="arm64", calibration_method="entropy")),
    ("quantize", "mlp", Quantize(method="dynamic")),
    ("prune", "bert", Prune(ratio=0.5)),
    ("prune", "bert", Prune(ratio=0.5, method="magnitude")),
    ("prune", "cnn", Prune(ratio=0.5)),
    ("prune", "cnn", Prune(ratio=0.5, method="magnitude", scope="global")),
    ("precision", "bert-simple", Precision()),
    ("precision", "cnn-simple", Precision()),
    ("precision", "bert-portable", Precision()),
    ("precision", "bert-portable", Precision(type="bf16")),
    ("precision", "cnn-simple", Precision(type="bf16")),
    ("precision", "deconvolution", Precision(type="bf16")),
    ("precision", "mlp", Precision(type="bf16")),
    ("precision", "bert-portable", Precision(type="int8", calibration=Path("texts"))),
    ("precision", "bert-portable", Precision(type="int8", calibration=Path("texts"), attention=True)),
    ("precision", "cnn-simple", Precision(type="int8", calibration=Path("calls"))),
    ("precision", "cnn-simple", Precision(type="int8", rest="float32", calibration=Path("calls"))),
    ("precision", "cnn-simple", Precision(type="int8", calibration=Path("calls"), calibration_method="entropy")),
    ("precision", "deconvolution", Precision(type="int8", calibration=Path("calls"), calibration_method="percentile")),
    ("precision", "bert-portable", Precision(type="mixed", calibration=Path("texts"))),
    ("precision", "cnn-simple", Precision(type="mixed", calibration=Path("calls"))),
    ("precision", "deconvolution", Precision(type="mixed", calibration=Path("calls"))),
    ("optimize", "bert-simple", Optimize()),
    ("optimize", "cnn-simple", Optimize()),
    ("optimize", "bert-int8", Optimize()),
    ("optimize", "cnn-int8", Optimize()),
    ("optimize", "cnn-int8-arm64", Optimize(arch="arm64")),
    ("optimize", "mlp", Optimize(level="basic")),
    ("tensorrt", "mlp", Tensorrt(builder="check")),
    ("tensorrt", "mlp", Tensorrt(builder="rtx", gpus=("sm86", "sm89"))),
    ("tensorrt", "cnn-simple", Tensorrt(builder="deferred", flavour="standard")),
]


def _is_slow(config: Any) -> bool:
    """Whether TensorRT builds, or every node is looked at: seconds a case."""
    return getattr(config, "type", "fp16") != "fp16" or getattr(config, "builder", "check") != "check"


@pytest.mark.parametrize(
    ("name", "model", "config"),
    [pytest.param(*case, marks=pytest.mark.slow if _is_slow(case[2]) else ()) for case in CASES],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pass_keeps_its_contract(name: str, model: str, config: Any, models: dict[str, Path], tmp_path: Path) -> None:
    if getattr(config, "calibration", None) is not None:
        config = dataclasses.replace(config, calibration=models[config.calibration.name], samples=4)
    if getattr(config, "evaluation", None) is not None:
        config = dataclasses.replace(config, evaluation=models[config.evaluation.name])
    hold(PASSES[name], models[model], config, tmp_path)


def test_contract_covers_every_row_of_the_table() -> None:
    assert {name for name, _, _ in CASES} == set(PASSES)
