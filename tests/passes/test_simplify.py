"""Simplify: what is fused, what stays standard, and masks of either side."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.support.models.small_models import onnx_dir
from tests.support.pass_harness import refusal

from mlpack.graphs import check, files
from mlpack.passes import simplify
from mlpack.passes.simplify import Simplify


def operators(model_dir: Path) -> Counter[str]:
    return Counter(node.op_type for node in files.load(model_dir).graph.node)


def test_transformer_blocks_are_fused(models: dict[str, Path]) -> None:
    found = operators(models["bert-simple"])
    assert found["Attention"] == 2
    assert found["SkipLayerNormalization"] == 4
    assert found["EmbedLayerNormalization"] == 1
    assert found["Softmax"] == 0
    assert json.loads((models["bert-simple"] / "notes.json").read_text())["fused"]["BiasGelu"] == 2


def test_portable_uses_standard_operators_only(models: dict[str, Path], tmp_path: Path) -> None:
    simplify.run(models["bert-onnx"], Simplify(operators="portable"), tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert [entry.domain for entry in model.opset_import] == [""]


@pytest.mark.parametrize("side", ["left", "right"])
def test_fused_attention_honours_the_mask(models: dict[str, Path], side: str) -> None:
    """Fusions that turn the mask into a length per row assume right padding and ignore a mask on the left."""
    hidden = np.array([1, 1, 1, 1, 1, 0, 0, 0])
    feed: dict[str, Any] = {
        "input_ids": np.array([[2, 5, 6, 7, 8, 9, 10, 3]] * 2),
        "attention_mask": np.array([np.ones(8, int), hidden if side == "right" else hidden[::-1]]),
        "token_type_ids": np.zeros((2, 8), np.int64),
    }
    got, want = (check.run(check.session(models[name]), feed) for name in ("bert-simple", "bert-onnx"))
    assert check.difference(got, want) <= simplify.TOLERANCE


def test_batch_norm_is_folded_and_the_mean_becomes_pooling(models: dict[str, Path]) -> None:
    found = operators(models["cnn-simple"])
    assert found["BatchNormalization"] == 0
    assert (found["GlobalAveragePool"], found["Flatten"], found["ReduceMean"]) == (1, 1, 0)


def test_truncated_model_is_refused(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    data = (model_dir / "model.onnx").read_bytes()
    (model_dir / "model.onnx").write_bytes(data[: len(data) // 2])
    refusal("simplify", model_dir, Simplify(), tmp_path / "out")


def test_graph_that_the_engine_refuses_is_refused(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    model = files.load(model_dir)
    model.graph.node[1].op_type = "NoSuchOperator"
    files.save(model, model_dir)
    assert "NoSuchOperator" in refusal("simplify", model_dir, Simplify(), tmp_path / "out")


@pytest.mark.slow
def test_limits_are_the_rows_of_the_tables(models: dict[str, Path]) -> None:
    for name in ("bert-onnx", "bert-simple", "bert-int8"):
        assert check.limits(files.load(models[name]))["input_ids"] == 16
