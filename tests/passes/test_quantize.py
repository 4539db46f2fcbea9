"""Quantize: the method by architecture, element types, what stays float, and every refusal."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from tests.support.models.small_models import calls_dir, onnx_dir
from tests.support.pass_harness import refusal

from mlpack.core.digest import size_of_tree
from mlpack.graphs import check, files
from mlpack.passes import quantize
from mlpack.passes.quantize import Quantize
from mlpack.passes.quantize.choice import choose


def notes(model_dir: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((model_dir / "notes.json").read_text())
    return loaded


def test_auto_is_dynamic_for_transformers(models: dict[str, Path]) -> None:
    found = notes(models["bert-int8"])
    assert found["method"] == "dynamic"
    assert found["quantized"] == {"Attention": 2, "EmbedLayerNormalization": 1, "MatMul": 6}
    assert found["kept_float"]["SkipLayerNormalization"] == 4
    assert size_of_tree(models["bert-int8"]) < size_of_tree(models["bert-simple"]) / 2


@pytest.mark.parametrize(("name", "float_name", "how"), [("bert", "bert-simple", "dynamic"), ("cnn", "cnn-simple", "static")])
def test_named_nodes_stay_float(models: dict[str, Path], tmp_path: Path, name: str, float_name: str, how: str) -> None:
    whole = notes(models[f"{name}-int8"])
    assert how in whole["nodes"].values()
    assert not set(whole["nodes"]) & set(whole["kept"])
    named = [node for node, done in whole["nodes"].items() if done == how][1]
    calls = models["calls"] if name == "cnn" else None
    quantize.run(models[float_name], Quantize(keep_float=(named,), calibration=calls), tmp_path)
    found = notes(tmp_path)
    assert set(whole["nodes"]) - set(found["nodes"]) == {named}
    assert "keep_float" in found["kept"][named]
    assert [node.op_type for node in files.load(tmp_path).graph.node if node.name == named] == [
        node.op_type for node in files.load(models[float_name]).graph.node if node.name == named
    ]


def test_name_of_no_node_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    assert "'nobody'" in refusal("quantize", models["bert-simple"], Quantize(keep_float=("nobody",)), tmp_path / "out")


def test_auto_is_static_for_convolutions(models: dict[str, Path]) -> None:
    found = notes(models["cnn-int8"])
    assert (found["method"], found["reduce_range"]) == ("static", True)
    assert found["quantized"] == {"Conv": 3}
    assert found["kept_float"] == {"Add": 1, "Gemm": 1}  # ten classes are too few for an int8 kernel


@pytest.mark.parametrize(
    ("name", "activations", "largest"), [("cnn-int8", TensorProto.UINT8, 64), ("cnn-int8-arm64", TensorProto.INT8, 127)]
)
def test_element_types_are_those_of_the_architecture(models: dict[str, Path], name: str, activations: int, largest: int) -> None:
    model = files.load(models[name])
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    zero_points = [stored[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {tensor.data_type for tensor in zero_points} == {activations}
    kernels = [numpy_helper.to_array(t) for t in stored.values() if t.data_type == TensorProto.INT8 and len(t.dims) == 4]
    assert len(kernels) == 3
    assert max(int(np.abs(kernel.astype(int)).max()) for kernel in kernels) <= largest


def test_static_int8_fuses_into_integer_kernels(models: dict[str, Path], tmp_path: Path) -> None:
    """No pair of conversions is left around Relu, Add or pooling: they would eat what the kernels gain."""
    from mlpack.passes.optimize import Optimize, run

    run(models["cnn-int8"], Optimize(), tmp_path)
    found = Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    assert (found["QLinearConv"], found["QLinearAdd"], found["QLinearGlobalAveragePool"]) == (3, 1, 1)
    assert (found["QuantizeLinear"], found["DequantizeLinear"], found["Relu"]) == (1, 1, 0)


def test_int8_stays_close(models: dict[str, Path]) -> None:
    for name, source in (("bert-int8", "bert-simple"), ("cnn-int8", "cnn-simple")):
        model = files.load(models[source])
        opened, original = check.session(models[name]), check.session(models[source])
        for feed in check.feeds(files.signature_of(model), check.limits(model)):
            assert check.similarity(check.run(opened, feed), check.run(original, feed)) > 0.95


def test_dynamic_convolutions_alone_are_refused(tmp_path: Path) -> None:
    from onnx import helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 32, 8, 8]) for name in "xy"]
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", pads=[1, 1, 1, 1])
    made = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(np.ones((32, 32, 3, 3), np.float32), "w")])
    (tmp_path / "m").mkdir()
    files.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m")
    assert "slower than float" in refusal("quantize", tmp_path / "m", Quantize(method="dynamic"), tmp_path / "out")


def test_static_without_calibration_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    assert "needs calibration data" in refusal("quantize", models["cnn-simple"], Quantize(), tmp_path / "out")


def test_quantizing_twice_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    assert "quantized already" in refusal("quantize", models["bert-int8"], Quantize(), tmp_path / "out")


@pytest.mark.parametrize("method", ["auto", "dynamic", "static"])
def test_trees_are_refused_before_a_quantizer_sees_them(tmp_path: Path, method: Any) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    model = files.load(model_dir)
    del model.graph.node[:], model.graph.initializer[:], model.opset_import[:]
    model.graph.node.append(onnx.helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0]))
    model.graph.output[0].CopyFrom(model.graph.input[0])
    model.graph.output[0].name = "y"
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    files.save(model, model_dir)
    assert "nothing to quantize" in refusal("quantize", model_dir, Quantize(method=method), tmp_path / "out")


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_half_weights_behind_casts_are_quantized(tmp_path: Path, method: Any) -> None:
    random = np.random.default_rng(0)
    x, y = (onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy")
    stored = [numpy_helper.from_array(random.normal(size=(64, 64)).astype("f2") / 8, name) for name in "ab"]
    nodes = [
        onnx.helper.make_node("Cast", ["a"], ["wide"], name="c", to=TensorProto.FLOAT),
        onnx.helper.make_node("Cast", ["b"], ["other"], name="d", to=TensorProto.FLOAT),
        onnx.helper.make_node("MatMul", ["x", "wide"], ["h"], name="m"),
        onnx.helper.make_node("MatMul", ["h", "other"], ["y"], name="n"),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], stored)
    source = tmp_path / "m"
    source.mkdir()
    files.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), source)
    feed = {"x": random.normal(size=(8, 64)).astype("f4")}
    made = tmp_path / "out"
    made.mkdir()
    quantize.run(source, Quantize(method=method, calibration=calls_dir(tmp_path / "calls", {"x": (8, 64)})), made)
    (wanted,), (got,) = (check.run(check.session(folder), feed) for folder in (source, made))
    assert 0 < np.abs(got - wanted).max() < 0.2
    assert not any(tensor.data_type == TensorProto.FLOAT16 for tensor in files.load(made).graph.initializer)


def test_nothing_to_quantize_is_refused(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    model = files.load(model_dir)
    del model.graph.node[2], model.graph.node[0]
    model.graph.node[0].input[0], model.graph.node[0].output[0] = "x", "y"
    model.graph.output[0].CopyFrom(model.graph.input[0])
    model.graph.output[0].name = "y"
    del model.graph.initializer[:]
    files.save(model, model_dir)
    assert "nothing to quantize" in refusal("quantize", model_dir, Quantize(), tmp_path / "out")


@pytest.mark.parametrize("damage", ["{", "[]", "[3]", '[{"inputs": {}}]', '[{"inputs": {"image": {"datatype": "FP99"}}}]'])
def test_damaged_calibration_is_refused(models: dict[str, Path], tmp_path: Path, damage: str) -> None:
    calls = calls_dir(tmp_path / "calls", {"image": (2, 3, 16, 16)})
    (calls / "calls.json").write_text(damage)
    assert "calls.json" in refusal("quantize", models["cnn-simple"], Quantize(calibration=calls), tmp_path / "out")


def test_truncated_calibration_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    calls = calls_dir(tmp_path / "calls", {"image": (2, 3, 16, 16)})
    (calls / "calls.bin").write_bytes(b"short")
    assert "call 0 is damaged" in refusal("quantize", models["cnn-simple"], Quantize(calibration=calls), tmp_path / "out")


def test_calibration_of_wrong_shape_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    calls = calls_dir(tmp_path / "calls", {"image": (2, 5, 16, 16)})
    refusal("quantize", models["cnn-simple"], Quantize(calibration=calls), tmp_path / "out")


def test_small_layers_are_named() -> None:
    from onnx import helper

    weights = {"a": (16, 1, 3, 3), "b": (32, 16, 3, 3), "c": (64, 10), "d": (64, 1, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["1"], name="first"),
        helper.make_node("Conv", ["1", "b"], ["2"], name="middle"),
        helper.make_node("Gemm", ["2", "c"], ["3"], name="last"),
    ]
    made = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(np.zeros(s, np.float32), n) for n, s in weights.items()])
    assert choose.tiny(helper.make_model(made)) == ["first", "last"]


def test_run_uses_texts_of_the_calls(models: dict[str, Path], tmp_path: Path) -> None:
    from mlpack.evaluation.data import reader

    (tmp_path / "calls.json").write_text(json.dumps([{"samples": 2, "texts": ["the cat", "a dog sat on the mat"]}]))
    (batch,) = list(reader.read(tmp_path, models["bert-simple"], files.read_signature(models["bert-simple"])))
    assert batch["input_ids"].shape == (2, 8)
    assert batch["attention_mask"].tolist()[0] == [1, 1, 1, 1, 0, 0, 0, 0]
    assert quantize.Quantize().samples == 512
