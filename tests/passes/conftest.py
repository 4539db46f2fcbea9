"""Small ONNX models made once for all tests of passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.models.estimators import evaluation_dir, sklearn_dir
from tests.support.models.small_models import calls_dir, deconvolution_dir, huggingface_dir, onnx_dir, texts_dir, torch_dir

from mlpack.passes import PASSES
from mlpack.passes.export import Export
from mlpack.passes.quantize import Quantize
from mlpack.passes.simplify import Simplify

REGRESSOR = """
import numpy as np
from sklearn.linear_model import Ridge

def fitted():
    x = np.eye(3, dtype=np.float32)
    return Ridge().fit(x, [1.0, 2.0, 4.0])
"""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models by name: sources, and what earlier passes make of them."""
    root = tmp_path_factory.mktemp("models")
    columns = {"X": np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)}
    made = {
        "regressor": sklearn_dir(root / "regressor", REGRESSOR, columns),
        "columns": evaluation_dir(root / "columns", columns),
        "bert": huggingface_dir(root / "bert"),
        "cnn": torch_dir(root / "cnn"),
        "mlp": onnx_dir(root / "mlp"),
        "deconvolution": deconvolution_dir(root / "deconvolution"),
        "texts": texts_dir(root / "texts"),
        "calls": calls_dir(root / "calls", {"image": (2, 3, 16, 16)}),
    }
    chain: list[tuple[str, str, str, Any]] = [
        ("bert-onnx", "export", "bert", Export()),
        ("bert-simple", "simplify", "bert-onnx", Simplify()),
        ("bert-portable", "simplify", "bert-onnx", Simplify(operators="portable")),
        ("bert-int8", "quantize", "bert-simple", Quantize()),
        ("cnn-onnx", "export", "cnn", Export(exporter="torchscript")),
        ("cnn-simple", "simplify", "cnn-onnx", Simplify()),
        ("cnn-int8", "quantize", "cnn-simple", Quantize(calibration=made["calls"])),
        ("cnn-int8-arm64", "quantize", "cnn-simple", Quantize(calibration=made["calls"], arch="arm64")),
    ]
    for name, step, source, config in chain:
        made[name] = root / name
        made[name].mkdir()
        PASSES[step].run(made[source], config, made[name])
    return made
