"""Shapes that inference finds, and those that only running finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import TensorProto, helper, numpy_helper

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.graphs.facts import shapes
from mlpack.graphs.facts.operators import TensorInfo


def saved(folder: Path, nodes: list[onnx.NodeProto], rank: int, kind: int = TensorProto.FLOAT) -> Path:
    """A graph of `x` (n, 8) that gives `y`, with a square weight `w`."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    gives = helper.make_tensor_value_info("y", kind, [f"out{axis}" for axis in range(rank)])
    stored = [
        numpy_helper.from_array(np.ones((8, 8), np.float32), "w"),
        numpy_helper.from_array(np.array([2, -1], np.int64), "shape"),
    ]
    made = helper.make_graph(nodes, "g", [given], [gives], stored)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / files.MODEL)
    return folder


def test_lengths_follow_from_the_inputs(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Reshape", ["a", "shape"], ["y"])]
    _, tensors = shapes.resolved(saved(tmp_path, nodes, 2), {"x": (6, 8)})
    assert tensors["a"] == TensorInfo("float", (6, 8))
    assert tensors["y"] == TensorInfo("float", (2, 24))
    assert tensors["w"] == TensorInfo("float", (8, 8))


@pytest.mark.parametrize(
    ("operator", "weight", "given", "expected"),
    [("FusedGemm", (8, 5), (6, 8), (6, 5)), ("FusedConv", (4, 3, 3, 3), (2, 3, 9, 7), (2, 4, 7, 5))],
)
def test_fused_operators_of_the_engine_have_shapes(
    operator: str, weight: tuple[int, ...], given: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    node = helper.make_node(operator, ["x", "w"], ["y"], domain="com.microsoft", activation="Relu")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *given[1:]])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(expected))]
    graph = helper.make_graph([node], "g", inputs, outputs, [numpy_helper.from_array(np.ones(weight, np.float32), "w")])
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    tensors = shapes.inferred(helper.make_model(graph, opset_imports=domains, ir_version=10), {"x": given})
    assert tensors is not None
    assert tensors["y"] == TensorInfo("float", expected)


def test_what_depends_on_numbers_is_found_by_running(tmp_path: Path) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["i"]), helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)]
    _, tensors = shapes.resolved(saved(tmp_path, nodes, 2), {"x": (6, 8)})
    assert tensors["i"] == TensorInfo("int64", (2, 48))  # random numbers are never nought
    assert tensors["y"] == TensorInfo("float", (2, 48))


def test_where_neither_finds_them_the_tensor_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mystery", ["x"], ["i"], domain="com.example"), helper.make_node("Relu", ["i"], ["y"])]
    folder = saved(tmp_path, nodes, 2)
    model = onnx.load(folder / files.MODEL)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, folder / files.MODEL)
    with pytest.raises(PassError, match=r"tensors \('i' first\) cannot be inferred, and the graph does not run"):
        shapes.resolved(folder, {"x": (6, 8)})


def test_what_depends_on_numbers_is_found_on_a_recorded_call(tmp_path: Path) -> None:
    """A range as long as the largest value: an invented one would be of another length."""
    from mlpack.evaluation.data.calls import CallsWriter

    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["k"], to=TensorProto.INT64),
        helper.make_node("Range", ["zero", "k", "one"], ["r"]),
        helper.make_node("Gather", ["x", "r"], ["y"], axis=1),
    ]
    folder = saved(tmp_path, nodes, 2)
    model = onnx.load(folder / files.MODEL)
    model.graph.initializer.extend([numpy_helper.from_array(np.int64(0), "zero"), numpy_helper.from_array(np.int64(1), "one")])
    onnx.save(model, folder / files.MODEL)
    (tmp_path / "calls").mkdir()
    with CallsWriter(tmp_path / "calls") as writer:
        writer.tensors({"x": np.full((3, 8), 7, np.float32)}, 3)
        writer.tensors({"x": np.full((1, 8), 5, np.float32)}, 1)
        writer.finish(None)
    _, tensors = shapes.resolved(folder, {"x": (1, 8)}, tmp_path / "calls")
    assert tensors["y"] == TensorInfo("float", (1, 5))
    _, tensors = shapes.resolved(folder, {"x": (4, 8)}, tmp_path / "calls")
    assert tensors["y"] == TensorInfo("float", (4, 5))


def test_a_graph_too_large_to_be_run_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise EncodeError("Failed to serialize proto")

    monkeypatch.setattr(shapes, "_run", too_large)
    nodes = [helper.make_node("NonZero", ["x"], ["i"]), helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)]
    with pytest.raises(PassError, match="too large to be run"):
        shapes.resolved(saved(tmp_path, nodes, 2), {"x": (6, 8)})
