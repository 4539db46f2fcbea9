"""Smoothing and bias correction: the float numbers stay, the integers come nearer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.support.models.foreign_graphs import constant, model, node, port, weights
from tests.support.models.quantized_graphs import KINDS
from tests.support.pass_harness import refusal
from tests.support.recorded_calls import recorded

from mlpack.core import digest
from mlpack.graphs import check, files
from mlpack.graphs.spill import Spill
from mlpack.passes import quantize
from mlpack.passes.quantize import Quantize, smooth
from mlpack.passes.quantize.calibration import observed
from mlpack.passes.quantize.methods import pairs

OPSETS = (17, 18)


def outlying(*, alone: bool, opset: int = 17) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """A LayerNorm with two channels sixty times the others, two products of it, and, unless they are alone, a residual."""
    f = weights()
    gain = np.ones(64, "f4")
    gain[[5, 40]] = 60
    nodes = [
        node("LayerNormalization", ["x", "gain", "shift"], ["n"], "norm"),
        node("MatMul", ["n", "a"], ["u"], "first"),
        node("Gemm", ["flat", "b"], ["v"], "second", transB=1),
        node("Reshape", ["n", "rows"], ["flat"], "rows"),
        node("Reshape", ["v", "again"], ["w"], "again"),
        node("Add", ["u", "w"], ["s"], "sum"),
        node("Identity", ["s"], ["y"], "end") if alone else node("Add", ["s", "n"], ["y"], "residual"),
    ]
    nodes[2], nodes[3] = nodes[3], nodes[2]
    held = [constant("gain", gain), f("shift", 64), f("a", 64, 64, scale=0.1), f("b", 64, 64, scale=0.1)]
    held += [constant("rows", np.array([-1, 64])), constant("again", np.array([0, 0, 64]))]
    held[-1] = constant("again", np.array([-1, 6, 64]))
    made = model(nodes, [port("x", ["n", 6, 64])], [port("y", ["n", 6, 64])], held, opset_imports=[helper.make_opsetid("", opset)])
    random = np.random.default_rng(2)
    return made, [{"x": random.normal(size=(2, 6, 64)).astype("f4")} for _ in range(4)]


def error(graph: onnx.ModelProto, feeds: list[dict[str, Any]], folder: Path, **config: Any) -> tuple[float, dict[str, Any]]:
    """How far the quantized graph's numbers are from the float's, relatively, and the notes."""
    folder.mkdir()
    for part in ("float", "out", "again"):
        (folder / part).mkdir()
    files.save(onnx.ModelProto.FromString(graph.SerializeToString()), folder / "float")
    calls = recorded(folder / "calls", feeds)
    for part in ("out", "again"):
        quantize.run(folder / "float", Quantize(calibration=calls, **config), folder / part)
    assert digest.of_tree(folder / "out") == digest.of_tree(folder / "again")
    got, want = check.session(folder / "out"), check.session(folder / "float")
    off = size = 0.0
    for feed in feeds:
        for a, b in zip(check.run(got, feed), check.run(want, feed), strict=True):
            off += float(np.square(a - b).sum())
            size += float(np.square(b).sum())
    return (off / size) ** 0.5, json.loads((folder / "out" / "notes.json").read_text())


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_smoothing_brings_integers_nearer(alone: bool, opset: int, method: Any, tmp_path: Path) -> None:
    graph, feeds = outlying(alone=alone, opset=opset)
    rough, _ = error(graph, feeds, tmp_path / "rough", method=method)
    smooth_, notes = error(graph, feeds, tmp_path / "smooth", method=method, smooth=True)
    assert notes["smoothed"] == ["first", "second"]
    assert smooth_ < 0.7 * rough


@pytest.mark.parametrize("alone", [True, False])
def test_smoothing_alone_changes_no_number(alone: bool, tmp_path: Path) -> None:
    graph, feeds = outlying(alone=alone)
    (tmp_path / "float").mkdir()
    files.save(onnx.ModelProto.FromString(graph.SerializeToString()), tmp_path / "float")
    calls = recorded(tmp_path / "calls", feeds)
    on = observed.RecordedCalls(model_dir=tmp_path / "float", calls=calls, samples=9, spilled=Spill(tmp_path))
    form = pairs.QuantizationScheme(steps=64, per_channel=True, signed=False, symmetric=False)
    made, names = smooth.smoothed(files.outline(tmp_path / "float"), {"first", "second"}, on, form)
    assert names
    added = [each.op_type for each in made.graph.node].count("Mul")
    assert added == 2 if not alone else added <= 2
    (tmp_path / "made").mkdir()
    files.save(made, tmp_path / "made")
    got, want = check.session(tmp_path / "made"), check.session(tmp_path / "float")
    for feed in feeds:
        assert check.difference(check.run(got, feed), check.run(want, feed)) < 1e-5


def test_norm_that_only_products_read_takes_the_division_along(tmp_path: Path) -> None:
    f = weights()
    gain = np.ones(64, "f4")
    gain[7] = 90
    nodes = [node("LayerNormalization", ["x", "gain"], ["n"], "norm"), node("MatMul", ["n", "a"], ["y"], "product")]
    graph = model(nodes, [port("x", ["n", 64])], [port("y", ["n", 64])], [constant("gain", gain), f("a", 64, 64)])
    feeds = [{"x": np.random.default_rng(0).normal(size=(4, 64)).astype("f4")}]
    _, notes = error(graph, feeds, tmp_path / "m", method="dynamic", smooth=True)
    assert notes["smoothed"] == ["product"]
    found = files.load(tmp_path / "m" / "out").graph
    assert all(not each.name.endswith("smoothing") for each in found.node)
    assert any(tensor.name == "gain_smooth" for tensor in found.initializer)


def test_what_does_not_outlie_is_left_alone(tmp_path: Path) -> None:
    graph, feeds = KINDS["stacks"]()
    _, notes = error(graph, feeds, tmp_path / "m", method="dynamic", smooth=True)
    assert notes["smoothed"] == []


@pytest.mark.parametrize("bias", ["none", "vector", "add"])
@pytest.mark.parametrize("opset", OPSETS)
def test_bias_correction_takes_the_shift_away(bias: str, opset: int, tmp_path: Path) -> None:
    """Inputs of one sign make rounding's error a shift."""
    f = weights()
    if bias == "add":
        nodes = [node("MatMul", ["x", "w"], ["m"], "product"), node("Add", ["b", "m"], ["y"], "plus")]
        shape: list[Any] = ["n", 64]
        held = [f("w", 64, 32), f("b", 32)]
    else:
        takes = ["x", "w", "b"] if bias == "vector" else ["x", "w"]
        nodes, shape = [node("Conv", takes, ["y"], "product", pads=[1] * 4)], ["n", 64, 6, 6]
        held = [f("w", 32, 64, 3, 3), *([f("b", 32)] if bias == "vector" else [])]
    ends = ([port("x", shape)], [port("y", ["n", 32, *shape[2:]])])
    graph = model(nodes, *ends, held, opset_imports=[helper.make_opsetid("", opset)])
    random = np.random.default_rng(0)
    feeds = [{"x": random.uniform(2, 3, size=(2, *shape[1:])).astype("f4")} for _ in range(4)]
    said: dict[str, Any] = {"method": "mixed", "per_channel": False}
    rough, _ = error(graph, feeds, tmp_path / "rough", **said)
    better, notes = error(graph, feeds, tmp_path / "better", bias_correction=True, **said)
    assert notes["corrected"] == ["product"]
    assert better < 0.8 * rough


@pytest.mark.parametrize("kind", KINDS)
def test_both_on_every_kind_of_graph(kind: str, tmp_path: Path) -> None:
    graph, feeds = KINDS[kind]()
    off, _ = error(graph, feeds, tmp_path / "m", method="mixed", smooth=True, bias_correction=True)
    assert off < 0.12


@pytest.mark.parametrize("option", ["smooth", "bias_correction"])
def test_without_calibration_they_are_refused(option: str, models: dict[str, Path], tmp_path: Path) -> None:
    said: dict[str, Any] = {option: True}
    assert "need calibration data" in refusal("quantize", models["bert-simple"], Quantize(**said), tmp_path / "out")
