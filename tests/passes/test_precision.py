"""Precision: fewer bytes, the same interface, overflow and unlikeness found, for each type."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.models.small_models import calls_dir, onnx_dir
from tests.support.pass_harness import refusal

from mlpack.core.digest import size_of_tree
from mlpack.errors import PassError
from mlpack.graphs import check, files
from mlpack.passes import precision
from mlpack.passes.precision import Precision


def test_fp16_halves_weights_and_keeps_the_interface(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m", width=512)
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    precision.run(model_dir, Precision(), out_dir)
    assert files.read_signature(out_dir) == files.read_signature(model_dir)
    assert size_of_tree(out_dir) < 0.55 * size_of_tree(model_dir)


def test_keep_float_keeps_operators_float(tmp_path: Path) -> None:
    model_dir, out_dir = onnx_dir(tmp_path / "m"), tmp_path / "out"
    out_dir.mkdir()
    precision.run(model_dir, Precision(keep_float=("Gemm",)), out_dir)
    types = {tensor.name: tensor.data_type for tensor in files.load(out_dir).graph.initializer}
    assert types["w1"] == TensorProto.FLOAT
    assert types["w2"] == TensorProto.FLOAT16


def test_overflow_is_refused(tmp_path: Path) -> None:
    model_dir = onnx_dir(tmp_path / "m")
    model = files.load(model_dir)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("w"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(3e4), tensor.name))
    files.save(model, model_dir)
    assert "leaves fp16's range" in refusal("precision", model_dir, Precision(), tmp_path / "out")


def test_quantized_graph_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    assert "quantized already" in refusal("precision", models["bert-int8"], Precision(), tmp_path / "out")


def made(model_dir: Path, config: Precision, out_dir: Path) -> dict[str, Any]:
    """The notes of a run into a new directory."""
    out_dir.mkdir(exist_ok=True)
    precision.run(model_dir, config, out_dir)
    notes: dict[str, Any] = json.loads((out_dir / "notes.json").read_text())
    return notes


def test_fp16_nodes_stand_in_order(models: dict[str, Path], tmp_path: Path) -> None:
    made(models["bert-portable"], Precision(), tmp_path)
    loaded = files.load(tmp_path)
    there = {value.name for value in loaded.graph.input} | {tensor.name for tensor in loaded.graph.initializer} | {""}
    for node in loaded.graph.node:
        assert set(node.input) <= there, node.name
        there.update(node.output)


def test_bf16_is_half_the_size_and_has_a_twin(tmp_path: Path) -> None:
    notes = made(onnx_dir(tmp_path / "m", width=512), Precision(type="bf16"), tmp_path / "out")
    assert (notes["converted_nodes"], notes["converted_weights"], notes["measured_on"]) == (3, 3, "cpu.onnx")
    sizes = {name: (tmp_path / "out" / name).stat().st_size for name in ("model.onnx.data", "cpu.onnx.data")}
    assert sizes["model.onnx.data"] == sizes["cpu.onnx.data"]
    assert sizes["model.onnx.data"] < 0.55 * (tmp_path / "m" / "model.onnx.data").stat().st_size
    with pytest.raises(PassError, match="refuses"):
        check.session_of(str(tmp_path / "out" / "model.onnx"), "ORT_DISABLE_ALL")
    assert files.signature_of(files.load_file(tmp_path / "out" / "cpu.onnx")) == files.read_signature(tmp_path / "out")


@pytest.mark.parametrize("name", ["cnn-simple", "deconvolution"])
def test_int8_stores_weights_in_a_quarter(models: dict[str, Path], name: str, tmp_path: Path) -> None:
    notes = made(models[name], Precision(type="int8", calibration=models["calls"]), tmp_path)
    kinds = {"cnn-simple": {"Add": 1, "Conv": 3}, "deconvolution": {"Conv": 1, "ConvTranspose": 1}}
    assert notes["quantized"] == kinds[name]
    before, after = (
        sum(math.prod(t.dims) * (1 if t.data_type == TensorProto.INT8 else 4) for t in files.load(folder).graph.initializer)
        for folder in (models[name], tmp_path)
    )
    assert after < 0.4 * before
    assert notes["similarity"] > 0.99


def test_int8_leaves_attention_and_normalisation_float(models: dict[str, Path], tmp_path: Path) -> None:
    notes = made(models["bert-portable"], Precision(type="int8", rest="float32", calibration=models["texts"]), tmp_path)
    assert notes["quantized"] == {"MatMul": 12}
    sensitive = {"Erf": 2, "LayerNormalization": 5, "ReduceSum": 3, "Softmax": 2}
    assert notes["kept_float"] == {"Add": 22, "MatMul": 4} | sensitive
    half = made(models["bert-portable"], Precision(type="int8", calibration=models["texts"]), tmp_path / "half")
    assert half["quantized"] == notes["quantized"]
    assert (half["kept_fp16"], half["kept_float"]) == ({"Add": 22, "MatMul": 4}, sensitive)


@pytest.mark.parametrize("config", [Precision(type="int8"), Precision(type="int8", rest="float32"), Precision(type="mixed")])
def test_engine_measures_the_arithmetic_of_pairs(models: dict[str, Path], config: Precision, tmp_path: Path) -> None:
    """As engine.json says, nothing is fused into kernels that round elsewhere: the same as node by node, and near it otherwise."""
    made(models["cnn-simple"], dataclasses.replace(config, calibration=models["calls"]), tmp_path)
    engine = json.loads((tmp_path / "engine.json").read_text())
    assert engine == {"graph_optimization_level": 1, "session": {"session.disable_quant_qdq": "1"}}
    feeds = check.feeds(files.read_signature(tmp_path), {})
    plain = check.session(tmp_path, "ORT_DISABLE_ALL")
    faithful = check.session(tmp_path, "ORT_ENABLE_BASIC", engine["session"])
    fused = check.session(tmp_path, "ORT_ENABLE_ALL")

    def gap(opened: Any) -> float:
        return max(check.difference(check.run(opened, feed), check.run(plain, feed)) for feed in feeds)

    assert gap(faithful) < (1e-5 if config.rest == "float32" else 2e-3)  # fp16 is summed in float32, in another order
    assert gap(fused) < 0.02


def test_mixed_leaves_what_does_not_hold_in_fp16(models: dict[str, Path], tmp_path: Path) -> None:
    """A weight whose channels hold one value a thousand times the others loses the rest of itself in 8 bits."""
    model = files.load(models["mlp"])
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            values = numpy_helper.to_array(tensor).copy()
            values[0] *= 1000
            tensor.CopyFrom(numpy_helper.from_array(values, "w2"))
        if tensor.name == "w1":  # what the large values are multiplied with is always nothing
            values = numpy_helper.to_array(tensor).copy()
            values[:, 0] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, "w1"))
        if tensor.name == "b1":
            values = numpy_helper.to_array(tensor).copy()
            values[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, "b1"))
    folder, calls = tmp_path / "m", calls_dir(tmp_path / "calls", {"x": (4, 64)})
    folder.mkdir()
    files.save(model, folder)
    notes = made(folder, Precision(type="mixed", calibration=calls), tmp_path / "out")
    assert list(notes["left_fp16"]) == ["second"]
    assert notes["quantized"] == {"Gemm": 1}
    kinds = {tensor.name: tensor.data_type for tensor in files.load(tmp_path / "out").graph.initializer}
    assert kinds["w2_fp16"] == TensorProto.FLOAT16
    assert kinds["w1_axis1_int8"] == TensorProto.INT8
    said = refusal("precision", folder, Precision(type="mixed", calibration=calls, largest_error=1e-6), tmp_path / "none")
    assert "no node holds in int8" in said


def test_int8_whose_output_is_not_alike_is_refused(tmp_path: Path) -> None:
    """One huge input value in every call: all others round to nothing."""
    folder = onnx_dir(tmp_path / "m")
    calls = calls_dir(tmp_path / "calls", {"x": (4, 64)})
    data = np.fromfile(calls / "calls.bin", dtype="<f4").reshape(-1, 64)
    data[0, 0] = 1e5
    data.tofile(calls / "calls.bin")
    assert "outliers" in refusal("precision", folder, Precision(type="int8", calibration=calls), tmp_path / "out")


@pytest.mark.parametrize("kind", ["bf16", "int8", "mixed"])
def test_engines_own_operators_are_refused(models: dict[str, Path], kind: Any, tmp_path: Path) -> None:
    said = refusal("precision", models["bert-simple"], Precision(type=kind, calibration=models["texts"]), tmp_path / "out")
    assert "simplify: {operators: portable}" in said


@pytest.mark.parametrize("kind", ["fp16", "bf16", "int8", "mixed"])
def test_nothing_to_convert_is_refused(kind: Any, tmp_path: Path) -> None:
    made_graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )  # fmt: skip
    folder = tmp_path / "m"
    folder.mkdir()
    files.save(helper.make_model(made_graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder)
    calls = calls_dir(tmp_path / "calls", {"x": (2, 4)})
    assert "nothing to convert" in refusal("precision", folder, Precision(type=kind, calibration=calls), tmp_path / "out")


@pytest.mark.parametrize("kind", ["int8", "mixed"])
def test_calibration_data_is_asked_for(models: dict[str, Path], kind: Any, tmp_path: Path) -> None:
    assert "needs calibration data" in refusal("precision", models["mlp"], Precision(type=kind), tmp_path / "out")


@pytest.mark.parametrize("kind", ["bf16", "mixed"])
def test_infinities_are_refused(kind: Any, tmp_path: Path) -> None:
    model = files.load(onnx_dir(tmp_path / "m"))
    factor = np.float32(1e20 if kind == "bf16" else 3e3)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("w"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * factor, tensor.name))
    files.save(model, tmp_path / "m")
    calls = calls_dir(tmp_path / "calls", {"x": (4, 64)})
    said = refusal("precision", tmp_path / "m", Precision(type=kind, calibration=calls), tmp_path / "out")
    assert f"leaves {'bf16' if kind == 'bf16' else 'fp16'}'s range" in said


def test_not_finite_calibration_is_named(tmp_path: Path) -> None:
    calls = calls_dir(tmp_path / "calls", {"x": (4, 64)})
    np.full(6 * 4 * 64, np.inf, dtype="<f4").tofile(calls / "calls.bin")
    said = refusal("precision", onnx_dir(tmp_path / "m"), Precision(type="int8", calibration=calls), tmp_path / "out")
    assert "calibration call 0 (counted from 0) holds an infinite number in x" in said


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"largest_error": 0.0}, {"largest_error": 5.0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
        Precision(**wrong)
