"""Dynamic quantization: onnxruntime's own numbers, one weight at a time, in nested graphs too."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from mlpack.graphs import check, files, weights
from mlpack.passes import quantize
from mlpack.passes.quantize import Quantize

OPERATORS = ["MatMul", "Gemm", "Gather"]


def model() -> onnx.ModelProto:
    """A table, a Gemm with a transposed weight, and a MatMul in both branches of an If that share it."""
    random = np.random.default_rng(0)
    stored = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("table", (700, 512)), ("b", (1024, 512)), ("bias", (1024,)), ("w", (1024, 512)))
    ]
    y = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 512])]
    then, other = (
        helper.make_graph([helper.make_node("MatMul", ["h", "w"], ["m"]), helper.make_node(kind, ["m"], ["z"])], kind, [], y)
        for kind in ("Relu", "Tanh")
    )
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], name="gather"),
        helper.make_node("Gemm", ["x", "b", "bias"], ["h"], name="gemm", transB=1),
        helper.make_node("If", ["flag"], ["y"], name="if", then_branch=then, else_branch=other),
    ]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
    ]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 512])], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("per_channel", [True, False])
def test_no_further_from_float_than_quantize_dynamic(per_channel: bool, tmp_path: Path) -> None:
    for name in ("in", "ours"):
        (tmp_path / name).mkdir()
    files.save(model(), tmp_path / "in")
    assert sum(weights.referred(tensor) is not None for tensor in files.outline(tmp_path / "in").graph.initializer) == 3
    quantize.run(tmp_path / "in", Quantize(method="dynamic", per_channel=per_channel), tmp_path / "ours")
    quantize_dynamic(
        files.load(tmp_path / "in"), tmp_path / "theirs.onnx", op_types_to_quantize=OPERATORS, per_channel=per_channel,
        reduce_range=True, weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT, "EnableSubgraph": True},
    )  # fmt: skip
    exact, ours = (check.session(tmp_path / name) for name in ("in", "ours"))
    theirs = check.session_of(str(tmp_path / "theirs.onnx"), "ORT_ENABLE_ALL")
    random = np.random.default_rng(4)
    for flag in (True, False):
        feed = {"ids": random.integers(0, 700, 9), "flag": np.array(flag)}
        (want,), (mine,), (its,) = (check.run(each, feed) for each in (exact, ours, theirs))
        assert np.abs(mine - want).max() < 1.5 * np.abs(its - want).max()
    assert (tmp_path / "ours" / "model.onnx.data").stat().st_size < 0.27 * (tmp_path / "in" / "model.onnx.data").stat().st_size


def test_branches_share_a_weight_and_round_for_themselves(tmp_path: Path) -> None:
    for name in ("in", "ours"):
        (tmp_path / name).mkdir()
    files.save(model(), tmp_path / "in")
    quantize.run(tmp_path / "in", Quantize(method="dynamic"), tmp_path / "ours")
    notes = json.loads((tmp_path / "ours" / "notes.json").read_text())
    assert notes["quantized"] == {"Gather": 1, "Gemm": 1, "MatMul": 2}
    found = Counter(node.op_type for node in files.nodes(files.load(tmp_path / "ours").graph))
    assert (found["DynamicQuantizeLinear"], found["MatMulInteger"], found["MatMul"]) == (3, 3, 0)
    assert (
        sum(
            tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2
            for tensor in files.load(tmp_path / "ours").graph.initializer
        )
        == 3
    )


def test_products_of_one_activation_round_it_once(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy"]
    held = [numpy_helper.from_array(random.normal(size=(64, 64)).astype("f4"), name) for name in "ab"]
    nodes = [helper.make_node("MatMul", ["x", name], [name * 2], name=name) for name in "ab"]
    nodes.append(helper.make_node("Add", ["aa", "bb"], ["y"], name="sum"))
    made = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], held), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    for name in ("in", "ours"):
        (tmp_path / name).mkdir()
    files.save(made, tmp_path / "in")
    quantize.run(tmp_path / "in", Quantize(method="dynamic"), tmp_path / "ours")
    found = Counter(node.op_type for node in files.load(tmp_path / "ours").graph.node)
    assert (found["DynamicQuantizeLinear"], found["MatMulInteger"]) == (1, 2)
