"""Static products before a Relu or Clip that nothing in integers reads: they are products in integers all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.support.models.foreign_graphs import constant, model, node, port, weights
from tests.support.recorded_calls import recorded

from mlpack.graphs import check, files
from mlpack.passes import optimize, quantize
from mlpack.passes.optimize import Optimize
from mlpack.passes.quantize import Quantize

LIMITS = {
    "Relu": ("Relu", []),
    "from zero": ("Clip", ["nought", "six"]),
    "around zero": ("Clip", ["less", "one"]),
    "from below": ("Clip", ["less"]),
    "from above": ("Clip", ["", "one"]),
}
HELD = [constant(name, np.float32(value)) for name, value in (("nought", 0), ("six", 6), ("less", -1), ("one", 1))]
INTEGERS = ("QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "MatMulInteger", "QLinearConv")


def made(kind: str, limit: tuple[str, list[str]], *, others: bool = False, output: bool = False) -> onnx.ModelProto:
    """A product, its limits and a float tail; `others`: somebody else reads the product; `output`: it is given, too."""
    f = weights(2)
    op, bounds = limit
    nodes = [
        node(kind, ["x", "w", *(["b"] if kind == "Gemm" else [])], ["h"], "product"),
        node(op, ["h", *bounds], ["r"], "limit"),
        node("Softmax", ["r"], ["s"], "tail"),
        node("Add", ["s", "h"], ["y"], "sum") if others else node("Exp", ["s"], ["y"], "end"),
    ]
    outputs = [port("y", ["n", 48]), *([port("h", ["n", 48])] if output else [])]
    return model(nodes, [port("x", ["n", 64])], outputs, [f("w", 64, 48), f("b", 48), *HELD])


def shipped(graph: onnx.ModelProto, place: Path) -> onnx.ModelProto:
    """What ships of it, near to the float and with no weights that are dequantized at each call."""
    feeds: list[dict[str, Any]] = [{"x": np.random.default_rng(seed).normal(size=(4, 64)).astype("f4")} for seed in range(8)]
    for name in ("in", "int8", "out"):
        (place / name).mkdir(parents=True)
    files.save(graph, place / "in")
    quantize.run(place / "in", Quantize(method="static", calibration=recorded(place / "calls", feeds)), place / "int8")
    optimize.run(place / "int8", Optimize(arch="x86_64"), place / "out")
    exact, ours = check.session(place / "in"), check.session(place / "out", "ORT_DISABLE_ALL")
    for feed in feeds[:3]:
        for one, other in zip(check.run(exact, feed), check.run(ours, feed), strict=True):
            assert np.abs(one - other).max() < 0.08 * max(1.0, float(np.abs(one).max()))
    found = files.load(place / "out")
    stored = {tensor.name for tensor in found.graph.initializer}
    assert not [each for each in found.graph.node if each.op_type == "DequantizeLinear" and each.input[0] in stored]
    assert sum(each.op_type in INTEGERS for each in found.graph.node) == 1
    return found


@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
@pytest.mark.parametrize("limit", LIMITS)
def test_before_limits(limit: str, kind: str, tmp_path: Path) -> None:
    shipped(made(kind, LIMITS[limit]), tmp_path)


@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
def test_where_another_node_reads_the_product_it_gives_float(kind: str, tmp_path: Path) -> None:
    found = shipped(made(kind, LIMITS["Relu"], others=True), tmp_path)
    product = next(each for each in found.graph.node if each.op_type in INTEGERS)
    assert product.op_type in ("QGemm", "MatMulIntegerToFloat")
    assert len([name for name in product.input if name]) <= 7


@pytest.mark.parametrize("limit", ["Relu", "around zero"])
@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
def test_a_product_that_is_given_too(kind: str, limit: str, tmp_path: Path) -> None:
    shipped(made(kind, LIMITS[limit], output=True), tmp_path)
