"""Quantize on graphs that others brought: old operator sets, stacks of weights, a convolution before a transformer, joined ranges,
calibration data that says little."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.support.models.foreign_graphs import constant, model, node, port, weights
from tests.support.pass_harness import refusal
from tests.support.recorded_calls import recorded

from mlpack.graphs import check, files
from mlpack.passes import quantize
from mlpack.passes.quantize import Quantize


def onnx_dir(folder: Path, graph: onnx.ModelProto) -> Path:
    """The graph as a pass takes it."""
    folder.mkdir(parents=True)
    files.save(onnx.ModelProto.FromString(graph.SerializeToString()), folder)
    files.finish(folder, folder, {})
    return folder


def classifier(*, opset: int, residual: bool = False) -> onnx.ModelProto:
    """Two convolutions with Clip, whose limits were attributes before operator set 11."""
    f = weights()
    limits = ["low", "high"] if opset >= 11 else []
    said: dict[str, Any] = {} if opset >= 11 else {"min": 0.0, "max": 6.0}
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], pads=[1] * 4),
        node("Clip", ["c1", *limits], ["r1"], **said),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1] * 4),
        node("Add", ["c2", "r1"], ["r2"]) if residual else node("Relu", ["c2"], ["r2"]),
        node("GlobalAveragePool", ["r2"], ["p"]),
        node("Flatten", ["p"], ["y"]),
    ]
    held = [f("w1", 32, 16, 3, 3), f("w2", 32, 32, 3, 3)]
    held += [constant("low", np.float32(0)), constant("high", np.float32(6))] if opset >= 11 else []
    for number, each in enumerate(nodes):
        each.name = f"n{number}"
    ends = ([port("x", ["n", 16, 8, 8])], [port("y", ["n", 32])])
    return model(nodes, *ends, held, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def quantized(graph: onnx.ModelProto, folder: Path, feeds: list[dict[str, Any]] | None, **said: Any) -> tuple[Path, dict[str, Any]]:
    """What the pass makes of a graph, and its notes."""
    source, out = onnx_dir(folder / "float", graph), folder / "out"
    out.mkdir()
    calls = recorded(folder / "calls", feeds) if feeds else None
    quantize.run(source, Quantize(calibration=calls, **said), out)
    return out, json.loads((out / "notes.json").read_text())


def pictures(count: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [{"x": random.normal(size=(1, 16, 8, 8)).astype("f4")} for _ in range(count)]


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13])
@pytest.mark.parametrize("residual", [False, True])
def test_operator_sets_without_a_scale_a_channel(tmp_path: Path, opset: int, residual: bool) -> None:
    graph = classifier(opset=opset, residual=residual)
    out, found = quantized(graph, tmp_path, pictures())
    assert found["quantized"] == {"Conv": 2}
    assert found["per_channel"]
    got, want = check.session(out), check.session(tmp_path / "float")
    for feed in pictures(seed=5):
        assert check.similarity(check.run(got, feed), check.run(want, feed)) > 0.99


def test_stack_of_matrices_costs_the_others_nothing(tmp_path: Path) -> None:
    f = weights()
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "flat"),
        node("Unsqueeze", ["a", "axis"], ["b"], "unsqueeze"),
        node("MatMul", ["b", "stack"], ["y"], "stack"),
    ]
    held = [f("w", 64, 96), f("stack", 4, 96, 32), constant("axis", np.array([1]))]
    graph = model(nodes, [port("x", ["n", 3, 64])], [port("y", ["n", 4, 3, 32])], held)
    for method in ("dynamic", "static"):
        random = np.random.default_rng(0)
        feeds = [{"x": random.normal(size=(1, 3, 64)).astype("f4")} for _ in range(3)]
        _, found = quantized(graph, tmp_path / method, feeds, method=method)
        assert found["quantized"]["MatMul"] >= 1


def seer(patches: int, hidden: int) -> onnx.ModelProto:
    """A convolution that cuts patches, and two products."""
    f = weights()
    nodes = [
        node("Conv", ["x", "p"], ["c"], "patch", strides=[4, 4]),
        node("Reshape", ["c", "flat"], ["f"], "flatten"),
        node("Transpose", ["f"], ["t"], "transpose", perm=[0, 2, 1]),
        node("MatMul", ["t", "w1"], ["h"], "first"),
        node("Relu", ["h"], ["r"], "relu"),
        node("MatMul", ["r", "w2"], ["y"], "second"),
    ]
    held = [f("p", patches, 16, 4, 4), f("w1", patches, hidden), f("w2", hidden, 32), constant("flat", np.array([0, patches, -1]))]
    return model(nodes, [port("x", ["n", 16, 8, 8])], [port("y", ["n", 4, 32])], held)


def test_few_convolutions_before_many_products(tmp_path: Path) -> None:
    _, found = quantized(seer(16, 1024), tmp_path / "auto", None)
    assert (found["method"], found["quantized"]["MatMul"], found["kept_float"]["Conv"]) == ("dynamic", 2, 1)
    _, found = quantized(seer(16, 1024), tmp_path / "static", pictures(), method="static")
    assert found["quantized"]["Conv"] == 1


def test_more_convolutions_than_products_though_they_hold_less(tmp_path: Path) -> None:
    """A recogniser of texts: one product for all its characters."""
    f = weights()
    nodes = [node("Conv", ["x", "c"], ["h0"], "c0", pads=[1] * 4), node("Conv", ["h0", "d"], ["h1"], "c1", strides=[8, 8])]
    nodes += [node("Flatten", ["h1"], ["g"], "flatten"), node("MatMul", ["g", "w"], ["y"], "characters")]
    held = [f("c", 32, 16, 3, 3), f("d", 32, 32, 1, 1), f("w", 32, 8000)]
    graph = model(nodes, [port("x", ["n", 16, 8, 8])], [port("y", ["n", 8000])], held)
    _, found = quantized(graph, tmp_path / "m", pictures())
    assert found["nodes"] == {"c0": "static", "c1": "static", "characters": "static"}


def test_many_convolutions_before_a_few_products(tmp_path: Path) -> None:
    _, found = quantized(seer(64, 32), tmp_path / "without", None)
    assert (found["method"], found["quantized"]) == ("dynamic", {"MatMul": 2})
    assert "calibration data" in found["kept"]["patch"]
    _, found = quantized(seer(64, 32), tmp_path / "with", pictures())
    assert found["nodes"] == {"patch": "static", "first": "static", "second": "dynamic"}


@pytest.mark.parametrize("scale", [640.0, 1.0])
@pytest.mark.parametrize("tail", ["", "Transpose", "Reshape"])
def test_what_joins_pixels_and_scores_stays_float(tmp_path: Path, scale: float, tail: str) -> None:
    f = weights()
    nodes = [
        node("Conv", ["x", "w"], ["c"], "body", pads=[1] * 4),
        node("Conv", ["c", "wb"], ["b"], "boxes"),
        node("Conv", ["c", "ws"], ["s"], "scores"),
        node("Sigmoid", ["b"], ["b1"], "sigmoid"),
        node("Mul", ["b1", "size"], ["pixels"], "pixels"),
        node("Sigmoid", ["s"], ["s1"], "probabilities"),
        node("Concat", ["pixels", "s1"], ["joined" if tail else "y"], "join", axis=1),
    ]
    if tail == "Transpose":
        nodes.append(node("Transpose", ["joined"], ["y"], "turn", perm=[0, 2, 3, 1]))
    elif tail:
        nodes.append(node("Reshape", ["joined", "shape"], ["y"], "fold"))
    held = [f("w", 32, 16, 3, 3), f("wb", 16, 32, 1, 1), f("ws", 16, 32, 1, 1), constant("size", np.float32(scale))]
    held.append(constant("shape", np.array([0, 32, -1])))
    shapes: dict[str, Any] = {"": ["n", 32, 8, 8], "Transpose": ["n", 8, 8, 32], "Reshape": ["n", 32, 64]}
    graph = model(nodes, [port("x", ["n", 16, 8, 8])], [port("y", shapes[tail])], held)
    out, _ = quantized(graph, tmp_path, pictures())
    joined = next(each for each in files.load(out).graph.node if each.op_type == "Concat")
    fed = {name for each in files.load(out).graph.node if each.op_type == "DequantizeLinear" for name in each.output}
    assert not fed.intersection(joined.input)  # neither comes out of an int8 kernel: nothing to carry
    (got,) = check.run(check.session(out), pictures(1, 9)[0])
    values = got.transpose(0, 3, 1, 2) if tail == "Transpose" else got
    assert all(len(np.unique(channel)) > 5 for channel in values[0, 16:])


def remarked(folder: Path, feeds: list[dict[str, Any]], **said: Any) -> str:
    return " ".join(quantized(classifier(opset=17), folder, feeds, **said)[1].get("remarks", ()))


def test_calibration_that_says_little_is_said(tmp_path: Path) -> None:
    assert remarked(tmp_path / "good", pictures()) == ""
    assert "one call" in remarked(tmp_path / "one", pictures(1))
    broken = pictures()
    broken[2]["x"][0, 0, 0, 0] = 5000
    said = remarked(tmp_path / "broken", broken)
    assert "call 2 (counted from 0) is an outlier: it alone decides the range of" in said
    assert re.search(r"x \(-\d\.\d+ to \d\.\d+ without it, -\d\.\d+ to 5000 with it, \d{3} times as wide\)", said)


def test_calibration_that_is_zero_is_refused(tmp_path: Path) -> None:
    source = onnx_dir(tmp_path / "float", classifier(opset=17))
    calls = recorded(tmp_path / "calls", [{"x": each["x"] * 0} for each in pictures()])
    assert "x is zero in every call" in refusal("quantize", source, Quantize(calibration=calls), tmp_path / "out")


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "an infinite number")])
@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_calibration_that_is_not_finite_is_named(tmp_path: Path, value: float, word: str, method: Any) -> None:
    feeds = pictures()
    feeds[3]["x"][0, 1, 0, 0] = value
    source, calls = onnx_dir(tmp_path / "float", classifier(opset=17)), recorded(tmp_path / "calls", feeds)
    said = refusal("quantize", source, Quantize(calibration=calls, calibration_method=method), tmp_path / "out")
    assert f"call 3 (counted from 0) holds {word} in x" in said


def test_entropy_leaves_an_outlier_out(tmp_path: Path) -> None:
    feeds = pictures(8)
    feeds[2]["x"][0, 0, 0, 0] = 500
    scales = {}
    for method in ("minmax", "entropy"):
        out, _ = quantized(classifier(opset=17), tmp_path / method, feeds, calibration_method=method)
        stored = {tensor.name: tensor for tensor in files.load(out).graph.initializer}
        scales[method] = float(onnx.numpy_helper.to_array(stored["x_scale"]))
    assert scales["entropy"] < scales["minmax"] / 4
