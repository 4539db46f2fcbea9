"""Optimize: how the runtime is told to load, that it can, and that nothing of this machine is baked in."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.support.models.small_models import calls_dir, onnx_dir
from tests.support.pass_harness import refusal

from mlpack.graphs import check, files
from mlpack.passes import PASSES, optimize, quantize
from mlpack.passes.optimize import Optimize
from mlpack.passes.precision import Precision
from mlpack.passes.quantize import Quantize


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


@pytest.mark.parametrize("name", ["bert-int8", "cnn-int8", "mlp"])
def test_exact_sums_are_asked_of_the_engine_when_it_loads(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    """On x86-64 alone; the file holds the same graph."""
    engine, found = optimised(models[name], tmp_path / "out", exact=True)
    assert engine == {"graph_optimization_level": 99, "session": optimize.EXACT}
    assert found == optimised(models[name], tmp_path / "plain")[1]
    engine, _ = optimised(models[name], tmp_path / "arm", exact=True, arch="arm64")
    assert "session.x64quantprecision" not in engine["session"]


def test_lstm_that_sums_exactly_has_zero_point_for_each_weight(tmp_path: Path) -> None:
    """One for both is not taken by the engine where it makes weights unsigned."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(3)
    stored = {"w": random.integers(-128, 128, (1, 8, 16)), "r": random.integers(-128, 128, (1, 4, 16)), "z": np.zeros((1,))}
    tensors = [numpy_helper.from_array(array.astype("int8"), key) for key, array in stored.items()]
    tensors.append(numpy_helper.from_array(np.full((1,), 0.01, "float32"), "s"))
    names = ["x", "w", "r", "", "", "", "", "", "s", "z", "s", "z"]
    node = helper.make_node("DynamicQuantizeLSTM", names, ["y"], "lstm", domain="com.microsoft", hidden_size=4)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["steps", 1, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["steps", 1, 1, 4])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    (tmp_path / "m").mkdir()
    files.save(
        helper.make_model(helper.make_graph([node], "g", [x], [y], tensors), opset_imports=opsets, ir_version=9), tmp_path / "m"
    )
    optimised(tmp_path / "m", tmp_path / "out", exact=True)
    (made,) = onnx.load(tmp_path / "out" / "model.onnx").graph.node
    assert made.input[9] != made.input[11]
    optimised(tmp_path / "m", tmp_path / "plain")
    (made,) = onnx.load(tmp_path / "plain" / "model.onnx").graph.node
    assert made.input[9] == made.input[11]


def test_products_that_sum_exactly_share_no_weights(tmp_path: Path) -> None:
    """Nor zero points: the engine does not load them where it makes weights unsigned."""
    from onnx import TensorProto, helper, numpy_helper

    names = ["x", "w", "s", "z"]
    nodes = [helper.make_node("DynamicQuantizeMatMul", names, [each], each, domain="com.microsoft") for each in ("p", "q")]
    nodes.append(helper.make_node("Concat", ["p", "q"], ["y"], axis=1))
    w = np.random.default_rng(3).integers(-128, 128, (8, 6)).astype("int8")
    stored = {"w": w, "s": np.full((6,), 0.01, "float32"), "z": np.zeros((6,), "int8")}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 12])
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(array, key) for key, array in stored.items()])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    (tmp_path / "m").mkdir()
    files.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m")
    optimised(tmp_path / "m", tmp_path / "out", exact=True)
    made = [node for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node if node.op_type == "DynamicQuantizeMatMul"]
    held = [node.input[place] for node in made for place in (1, 3)]
    assert len(set(held)) == len(held)


@pytest.mark.parametrize("name", ["mlp", "bert-simple", "cnn-simple"])
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_sixteen_bit_weights_stay_such_in_the_file(models: dict[str, Path], tmp_path: Path, name: str, arch: Any) -> None:
    """Whatever the processor that builds computes in."""
    (tmp_path / "half").mkdir()
    PASSES["precision"].run(models[name], Precision(), tmp_path / "half")
    engine, _ = optimised(tmp_path / "half", tmp_path / "out", arch=arch)
    optimised(models[name], tmp_path / "plain", arch=arch)
    sizes = [sum(path.stat().st_size for path in (tmp_path / each).glob("model.onnx*")) for each in ("out", "plain")]
    assert sizes[0] < 0.75 * sizes[1]
    assert engine["graph_optimization_level"] == 99


def test_no_blocked_layout_is_saved(models: dict[str, Path], tmp_path: Path) -> None:
    optimised(models["cnn-simple"], tmp_path / "out")
    assert "com.microsoft.nchwc" not in {node.domain for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    (model_dir / "model.onnx.data").unlink()
    assert "missing" in refusal("optimize", model_dir, Optimize(), tmp_path / "out")


@pytest.mark.parametrize(("kept", "level"), [((), 0), (("first",), 99), (("last",), 0)])
def test_float_convolutions_between_int8_ones_are_blocked(
    models: dict[str, Path], tmp_path: Path, kept: tuple[str, ...], level: int
) -> None:
    """They would take twice as long; a graph without one has nothing to gain. `last` is a product here."""
    (tmp_path / "int8").mkdir()
    calls = tmp_path / "calls"
    calls_dir(calls, {"image": (1, 3, 16, 16)})
    quantize.run(models["cnn-simple"], Quantize(calibration=calls, keep_float=kept), tmp_path / "int8")
    engine, found = optimised(tmp_path / "int8", tmp_path / "out")
    off = {"optimization.disable_specified_optimizers": "WeightBiasQuantization"}  # it would put the float one into integers
    assert engine == {"graph_optimization_level": level, "session": off if level else {}}
    assert found["QLinearConv"] == 3 - (kept == ("first",))
    assert "com.microsoft.nchwc" not in {node.domain for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}
