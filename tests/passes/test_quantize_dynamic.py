"""Dynamic quantization one weight at a time: the bytes of onnxruntime's own way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from mlpack import digest
from mlpack.graphs import files, weights
from mlpack.passes.quantize import dynamic

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
def test_the_bytes_are_those_of_quantize_dynamic(per_channel: bool, tmp_path: Path) -> None:
    for name in ("in", "ours", "theirs"):
        (tmp_path / name).mkdir()
    files.save(model(), tmp_path / "in")
    outline = files.outline(tmp_path / "in")
    assert sum(weights.referred(tensor) is not None for tensor in outline.graph.initializer) == 3
    files.save(dynamic.quantized(outline, OPERATORS, [], per_channel, reduce_range=True), tmp_path / "ours")
    quantize_dynamic(
        files.load(tmp_path / "in"), tmp_path / "theirs.onnx", op_types_to_quantize=OPERATORS, per_channel=per_channel,
        reduce_range=True, weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
    )  # fmt: skip
    files.save(files.load_file(tmp_path / "theirs.onnx"), tmp_path / "theirs")
    assert digest.of_tree(tmp_path / "ours") == digest.of_tree(tmp_path / "theirs")
    assert (tmp_path / "ours" / "model.onnx.data").stat().st_size < 0.6 * (tmp_path / "in" / "model.onnx.data").stat().st_size
