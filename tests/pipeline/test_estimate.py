"""From a model's directory and recorded calls to estimates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.core.records import Target
from mlpack.core.text import words
from mlpack.errors import PassError
from mlpack.evaluation.data import calls
from mlpack.graphs import files
from mlpack.pipeline.estimates import estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The keys of a GPU target that estimates read."""

    gpus: tuple[str, ...] = ("sm75", "sm89")
    max_batch: int = 8


def target(**keys: Any) -> Target:
    return Target(kind="gpu-worker", arch="x86_64", config=Worker(**keys))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A dense layer over sequences: (batch, length, 64) to (batch, length, 32)."""
    folder = tmp_path / "model"
    folder.mkdir()
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 64])
    gives = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 32])
    weights = numpy_helper.from_array(np.ones((64, 32), np.float32), "w")
    made = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [given], [gives], [weights])
    files.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder)
    return folder


def recorded(folder: Path, *shapes: tuple[int, ...]) -> Path:
    """Calls of these shapes, their first axis the samples."""
    folder.mkdir()
    with calls.CallsWriter(folder) as writer:
        for shape in shapes:
            writer.tensors({"x": np.zeros(shape, np.float32)}, shape[0])
        writer.finish(None)
    return folder


def test_latency_is_of_batch_one_throughput_of_the_largest(model: Path, tmp_path: Path) -> None:
    data = recorded(tmp_path / "calls", (4, 10, 64), (2, 10, 64), (1, 99, 64))
    found = estimate.of_candidate(model, data, target())
    assert {each.device for each in found} == {"T4", "L4", "L40S"}
    one_sample = words.number(2 * 10 * 64 * 32 / 1e9)
    assert f"fp32, 1 kernel, {one_sample} GFLOP" in found[0].basis
    assert all("throughput at batch 8" in each.basis for each in found)
    assert all(each.throughput_per_s > 1000 / each.latency_ms for each in found)


def test_of_equally_frequent_shapes_the_largest_counts(model: Path, tmp_path: Path) -> None:
    data = recorded(tmp_path / "calls", (1, 10, 64), (1, 99, 64))
    signature = files.signature_of(files.load(model))
    assert estimate.usual_shapes(data, model, signature) == (("x", (0, 99, 64)),)


def test_specification_says_the_precision_and_bounds_the_batch(model: Path, tmp_path: Path) -> None:
    data = recorded(tmp_path / "calls", (1, 10, 64))
    profile = {"x": {"min": [1, 1, 64], "opt": [2, 10, 64], "max": [4, 128, 64]}}
    (model / estimate.SPECIFICATION).write_text(json.dumps({"precision": "mixed", "profiles": [profile]}))
    (first, *_) = estimate.of_candidate(model, data, target())
    assert "mixed" in first.basis
    assert "throughput at batch 4" in first.basis


def test_a_target_without_gpus_has_no_estimates(model: Path, tmp_path: Path) -> None:
    data = recorded(tmp_path / "calls", (1, 10, 64))
    assert estimate.of_candidate(model, data, target(gpus=())) == ()
    assert estimate.of_candidate(model, data, Target(kind="lambda-zip", arch="x86_64", config=None)) == ()


def test_damage_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PassError, match=r"calls.json: missing or damaged"):
        estimate.of_candidate(model, tmp_path, target())
    data = recorded(tmp_path / "calls", (1, 10, 64))
    (model / estimate.SPECIFICATION).write_text("{")
    with pytest.raises(PassError, match=r"tensorrt.json: damaged"):
        estimate.of_candidate(model, data, target())
    for written in ("[]", '[{"samples": 1, "inputs": {}}]', '[{"samples": 1}]', "{}"):
        (data / "calls.json").write_text(written)
        (model / estimate.SPECIFICATION).write_text("{}")
        with pytest.raises(PassError, match=r"calls|evaluation data"):
            estimate.of_candidate(model, data, target())


def test_texts_are_as_long_as_models_own_tokenizer_makes_them(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / files.TOKENIZER))
    given = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    gives = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 16])
    table = numpy_helper.from_array(np.ones((2, 16), np.float32), "table")
    made = helper.make_graph([helper.make_node("Gather", ["table", "input_ids"], ["y"])], "g", [given], [gives], [table])
    files.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder)
    data = tmp_path / "calls"
    data.mkdir()
    with calls.CallsWriter(data) as writer:
        writer.texts(["a a a", "a b a"])
        writer.texts(["a"])
        writer.texts(["b a a"])
        writer.finish(None)
    assert estimate.usual_shapes(data, folder, files.signature_of(files.load(folder))) == (("input_ids", (0, 3)),)
    assert len(estimate.of_candidate(folder, data, target())) == 3
