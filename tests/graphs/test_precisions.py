"""What nodes compute in, on graphs of every form that our passes and the engine's tools give."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.graphs.facts import precisions

FLOAT, HALF, U8, INT4 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT4


def graph(nodes: list[Any], stored: dict[str, Any], kind: int = FLOAT) -> onnx.ModelProto:
    """A model whose input is `x` and whose output is `y`."""
    x, y = (helper.make_tensor_value_info(name, kind, None) for name in "xy")
    plain = {name: one for name, one in stored.items() if not isinstance(one, onnx.TensorProto)}
    held = [one for one in stored.values() if isinstance(one, onnx.TensorProto)]
    held += [numpy_helper.from_array(np.asarray(one), name) for name, one in plain.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], held))


def node(op: str, given: str, made: str, name: str = "", **options: Any) -> onnx.NodeProto:
    return helper.make_node(op, given.split(), made.split(), name or made.split()[0], **options)


def of(model: onnx.ModelProto) -> dict[str, str]:
    return {layer.name: layer.precision for layer in precisions.layers(model)}


SCALE = {
    "s": np.float32(0.1), "z": np.uint8(128),
    "w": np.ones((4, 4), np.int8), "ws": np.ones(4, np.float32), "wz": np.zeros(4, np.int8),
}  # fmt: skip


def test_pairs_around_a_product_are_static() -> None:
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"), node("DequantizeLinear", "w ws wz", "dw"),
        node("MatMul", "d dw", "m"), node("QuantizeLinear", "m s z", "mq"), node("DequantizeLinear", "mq s z", "md"),
        node("Relu", "md", "r"), node("QuantizeLinear", "r s z", "rq"), node("DequantizeLinear", "rq s z", "rd"),
        node("Softmax", "rd", "y"),
    ]  # fmt: skip
    found = of(graph(nodes, SCALE))
    assert (found["m"], found["r"], found["y"]) == ("int8 static", "int8 static", "float32")
    assert {found[name] for name in ("q", "d", "dw", "mq")} == {"conversions"}


@pytest.mark.parametrize(
    ("op", "domain", "precision", "was"),
    [
        ("QLinearConv", "", "int8 static", "Conv"), ("QLinearAdd", "com.microsoft", "int8 static", "Add"),
        ("QGemm", "com.microsoft", "int8 static", "Gemm"), ("MatMulInteger", "", "int8 dynamic", "MatMul"),
        ("ConvInteger", "", "int8 dynamic", "Conv"), ("DynamicQuantizeLSTM", "com.microsoft", "int8 dynamic", "LSTM"),
        ("QAttention", "com.microsoft", "int8 dynamic", "Attention"), ("MatMulNBits", "com.microsoft", "4-bit weights", "MatMul"),
        ("QEmbedLayerNormalization", "com.microsoft", "int8 weights", "EmbedLayerNormalization"),
    ],
)  # fmt: skip
def test_the_engines_own_operators_say_it_by_name(op: str, domain: str, precision: str, was: str) -> None:
    (layer,) = precisions.layers(graph([node(op, "x w", "y", domain=domain)], SCALE))
    assert (layer.precision, layer.operator) == (precision, was)


def test_what_the_optimiser_fused_is_what_it_was() -> None:
    fused = node("FusedConv", "x w", "y", domain="com.microsoft")
    (layer,) = precisions.layers(graph([fused], {"w": np.ones((1, 1, 1, 1), np.float32)}))
    assert (layer.operator, layer.precision, layer.product) == ("Conv", "float32", True)


def test_eight_bits_in_blocks_are_told_from_four() -> None:
    (layer,) = precisions.layers(graph([node("MatMulNBits", "x w", "y", domain="com.microsoft", bits=8)], SCALE))
    assert layer.precision == "8-bit weights"


def test_packed_weights_with_float_activations_are_weights_only() -> None:
    four = helper.make_tensor("w4", INT4, [4, 4], np.zeros(16, np.int8))
    eight = of(graph([node("DequantizeLinear", "w ws wz", "dw"), node("Transpose", "dw", "t"), node("MatMul", "x t", "y")], SCALE))
    packed = of(graph([node("DequantizeLinear", "w4 ws", "dw"), node("Gemm", "x dw", "y")], SCALE | {"w4": four}))
    assert (eight["y"], packed["y"]) == ("int8 weights", "4-bit weights")


def test_a_table_of_bytes_that_is_unpacked_after_the_look_up() -> None:
    found = of(graph([node("Gather", "w x", "rows"), node("DequantizeLinear", "rows s", "y")], SCALE))
    assert found == {"rows": "int8 weights", "y": "conversions"}


def test_a_float_product_between_quantized_ones_is_float() -> None:
    stored = SCALE | {"f": np.ones((4, 4), np.float32)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"), node("MatMul", "d f", "y")]
    assert of(graph(nodes, stored))["y"] == "float32"


def test_halves_whole_numbers_booleans_and_strings() -> None:
    nodes = [
        node("Cast", "x", "h", to=HALF), node("MatMul", "h wh", "m"), node("Shape", "m", "shape"),
        node("Gather", "shape zero", "n"), node("Equal", "n zero", "b"), node("Where", "b m m", "chosen"),
        node("Cast", "chosen", "y", to=FLOAT),
    ]  # fmt: skip
    found = of(graph(nodes, {"wh": np.ones((2, 2), np.float16), "zero": np.int64(0)}))
    assert [found[name] for name in ("h", "m", "shape", "n", "b", "chosen", "y")] == [
        "conversions", "fp16", "whole numbers", "whole numbers", "whole numbers", "fp16", "conversions",
    ]  # fmt: skip


def test_bodies_and_functions_are_searched_and_may_be_unknown() -> None:
    then, other = (
        helper.make_graph([node(op, "x wf", f"o_{op}")], op, [], [helper.make_tensor_value_info(f"o_{op}", FLOAT, None)])
        for op in ("MatMul", "Add")
    )
    choose = helper.make_node("If", ["c"], ["y"], "choose", then_branch=then, else_branch=other)
    stored = {"wf": np.ones((2, 2), np.float32), "c": np.array(True)}
    model = graph([choose, node("Mystery", "never", "what", domain="strange")], stored)
    body = helper.make_function("local", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], [helper.make_opsetid("", 17)])
    model.functions.append(body)
    assert of(model) == {"choose": "control", "o_MatMul": "float32", "o_Add": "float32", "what": "unknown", "b": "unknown"}


def test_trees_compute_in_what_they_read() -> None:
    trees = helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "y"], "trees", domain="ai.onnx.ml", nodes_values=[0.5] * 20)
    assert of(graph([trees], {})) == {"trees": "float32"}


def test_odd_nodes_are_no_reason_to_fail() -> None:
    odd = [("Gather", [], []), ("Cast", ["x"], ["y"]), ("DequantizeLinear", ["q"], ["d"]), ("Constant", [], ["c"])]
    odd += [("QLinear", [], ["e"])]
    nodes = [helper.make_node(*each) for each in odd]
    assert len(precisions.layers(graph(nodes, {}))) == 5
