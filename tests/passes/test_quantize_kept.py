"""Quantize: a node that cannot be in 8 bits costs itself, not the candidate; and a Concat that would lose half its inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.models.small_models import calls_dir

from mlpack.graphs import check, files
from mlpack.passes import quantize
from mlpack.passes.quantize import Quantize

RANDOM = np.random.default_rng(3)


def weight(name: str, *shape: int, scale: float = 0.1) -> Any:
    return numpy_helper.from_array(RANDOM.normal(0, scale, shape).astype(np.float32), name)


def directory(folder: Path, nodes: list[Any], shape: list[Any], result: list[Any], weights: list[Any], opset: int = 23) -> Path:
    folder.mkdir()
    for number, node in enumerate(nodes):
        node.name = f"n{number}_{node.op_type}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, each) for name, each in (("x", shape), ("y", result))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    files.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), folder)
    files.finish(folder, folder, {})
    return folder


def quantized(model_dir: Path, feed: dict[str, Any], **options: Any) -> tuple[dict[str, int], Any, Any]:
    """What was quantized, the 8-bit answer and the float one."""
    out = model_dir.parent / "out"
    out.mkdir()
    quantize.run(model_dir, Quantize(**options), out)
    (got,), (want,) = check.run(check.session(out), feed), check.run(check.session(model_dir), feed)
    return json.loads((out / "notes.json").read_text())["quantized"], got, want


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_onnxs_own_attention_and_stacked_weights_stay_float(tmp_path: Path, method: Any) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["q"]),
        helper.make_node("Attention", ["q", "q", "q"], ["t"], q_num_heads=4, kv_num_heads=4),
        helper.make_node("MatMul", ["t", "heads"], ["u"]),
        helper.make_node("MatMul", ["u", "a"], ["y"]),
    ]
    stored = [weight("a", 64, 64), weight("heads", 3, 64, 64)]
    model_dir = directory(tmp_path / "m", nodes, [3, 8, 64], [3, 8, 64], stored)
    calls = calls_dir(tmp_path / "calls", {"x": (3, 8, 64)})
    feed = {"x": RANDOM.normal(size=(3, 8, 64)).astype(np.float32)}
    found, got, want = quantized(model_dir, feed, method=method, calibration=calls)
    assert found == {"MatMul": 2}
    assert check.similarity([got], [want]) > 0.99


def test_dynamic_leaves_convolutions_float(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["p"], strides=[4, 4]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "a"], ["y"]),
    ]
    model_dir = directory(tmp_path / "m", nodes, ["n", 3, 16, 16], ["n", 32], [weight("c", 32, 3, 4, 4), weight("a", 512, 32)], 18)
    found, got, want = quantized(model_dir, {"x": RANDOM.normal(size=(2, 3, 16, 16)).astype(np.float32)}, method="dynamic")
    assert found == {"MatMul": 1}
    assert check.similarity([got], [want]) > 0.99


@pytest.mark.parametrize("transposed", [False, True])
def test_scores_beside_pixels_keep_their_range(tmp_path: Path, transposed: bool) -> None:
    """One scale for 600 pixels and probabilities leaves every score 0."""
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["h", "b"], ["raw"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["raw", "many"], ["pixels"]),
        helper.make_node("Conv", ["h", "s"], ["logits"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Concat", ["pixels", "scores"], ["joined"], axis=1),
        helper.make_node("Reshape", ["joined", "to"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["y"], perm=[0, 2, 1] if transposed else [0, 1, 2]),
    ]
    stored = [
        weight("c", 32, 16, 3, 3), weight("b", 16, 32, 3, 3), weight("s", 16, 32, 3, 3),
        numpy_helper.from_array(np.float32(300), "many"), numpy_helper.from_array(np.array([0, 32, -1]), "to"),
    ]  # fmt: skip
    result = ["n", 64, 32] if transposed else ["n", 32, 64]
    model_dir = directory(tmp_path / "m", nodes, ["n", 16, 8, 8], result, stored, 18)
    calls = calls_dir(tmp_path / "calls", {"x": (2, 16, 8, 8)})
    found, got, want = quantized(model_dir, {"x": RANDOM.normal(size=(2, 16, 8, 8)).astype(np.float32)}, calibration=calls)
    assert found == {"Conv": 3}
    got, want = (each if transposed else each.transpose(0, 2, 1) for each in (got, want))
    assert np.abs(got[..., 16:] - want[..., 16:]).max() < 0.2
    assert np.corrcoef(got[..., 16:].ravel(), want[..., 16:].ravel())[0, 1] > 0.98


def test_a_concat_of_like_ranges_stays_in_8_bits(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["x", "b"], ["d"], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["a", "d"], ["j"], axis=1),
        helper.make_node("Conv", ["j", "s"], ["y"], pads=[1, 1, 1, 1]),
    ]
    stored = [weight("c", 16, 16, 3, 3), weight("b", 16, 16, 3, 3), weight("s", 16, 32, 3, 3)]
    model_dir = directory(tmp_path / "m", nodes, ["n", 16, 8, 8], ["n", 16, 8, 8], stored, 18)
    calls = calls_dir(tmp_path / "calls", {"x": (2, 16, 8, 8)})
    quantized(model_dir, {"x": np.ones((1, 16, 8, 8), np.float32)}, calibration=calls)
    model = files.load(tmp_path / "out")
    (join,) = [node for node in model.graph.node if node.op_type == "Concat"]
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    assert [made[name] for name in join.input] == ["DequantizeLinear"] * 2


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_static_takes_operator_sets_before_scales_for_channels(tmp_path: Path, opset: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "c"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    stored = [weight("c", 32, 16, 3, 3), weight("b", 32, 32, 3, 3)]
    model_dir = directory(tmp_path / "m", nodes, ["n", 16, 8, 8], ["n", 32, 8, 8], stored, opset)
    calls = calls_dir(tmp_path / "calls", {"x": (2, 16, 8, 8)})
    found, got, want = quantized(model_dir, {"x": RANDOM.normal(size=(2, 16, 8, 8)).astype(np.float32)}, calibration=calls)
    assert found == {"Conv": 2}
    assert check.similarity([got], [want]) > 0.99
