"""Optimize: how the runtime is told to load, that it can, and that nothing of this machine is baked in."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
from pass_harness import refusal
from small_models import onnx_dir

from mlpack.graphs import check
from mlpack.passes import optimize
from mlpack.passes.optimize import Optimize


def optimised(model_dir: Path, out_dir: Path, **options: Any) -> tuple[dict[str, Any], Counter[str]]:
    out_dir.mkdir()
    optimize.run(model_dir, Optimize(**options), out_dir)
    engine: dict[str, Any] = json.loads((out_dir / "engine.json").read_text())
    return engine, Counter(node.op_type for node in onnx.load(out_dir / "model.onnx").graph.node)


@pytest.mark.parametrize(("name", "level"), [("bert-simple", 0), ("bert-int8", 0), ("cnn-simple", 99), ("cnn-int8", 0), ("mlp", 0)])
def test_engine_file_says_how_to_load(models: dict[str, Path], tmp_path: Path, name: str, level: int) -> None:
    engine, _ = optimised(models[name], tmp_path / "out")
    assert engine == {"graph_optimization_level": level, "session": {}}
    check.session(tmp_path / "out", "ORT_DISABLE_ALL" if level == 0 else "ORT_ENABLE_ALL")


def test_int8_matrix_products_are_one_node(models: dict[str, Path], tmp_path: Path) -> None:
    _, found = optimised(models["bert-int8"], tmp_path / "out")
    assert found["DynamicQuantizeMatMul"] == 6
    assert found["MatMulInteger"] == 0


def test_arm64_keeps_signed_activations(models: dict[str, Path], tmp_path: Path) -> None:
    engine, found = optimised(models["cnn-int8-arm64"], tmp_path / "out", arch="arm64")
    assert engine["session"] == {"session.qdqisint8allowed": "1"}
    assert found["QLinearConv"] == 3
    model = onnx.load(tmp_path / "out" / "model.onnx")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    zero_points = {types[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert zero_points == {onnx.TensorProto.INT8}


def test_no_blocked_layout_is_saved(models: dict[str, Path], tmp_path: Path) -> None:
    optimised(models["cnn-simple"], tmp_path / "out")
    assert "com.microsoft.nchwc" not in {node.domain for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    (model_dir / "model.onnx.data").unlink()
    assert "missing" in refusal("optimize", model_dir, Optimize(), tmp_path / "out")
