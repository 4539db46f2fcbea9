"""Overflow: which integer products a processor without VNNI may cut off, told from the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.graphs import files
from mlpack.graphs.facts import overflow

FULL, SEVEN = 127, 64
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]


def tensor(name: str, values: Any, dtype: str = "int8") -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def value(name: str, kind: int = TensorProto.UINT8, shape: tuple[int | str, ...] = (1, 4)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def written(
    folder: Path, nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto], inputs: list[onnx.ValueInfoProto], **more: Any
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, [value("y", TensorProto.INT32, ("a", "b"))], stored)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=OPSETS, ir_version=9, **more), path)
    return path


def found(path: Path, **options: Any) -> list[str]:
    return [risk.node for risk in overflow.risks(path, **options)]


def product(most: int, dtype: str = "int8", of: int = TensorProto.UINT8) -> tuple[Any, ...]:
    """`y = x · w`, whose weights reach to `most`."""
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"], name="product")
    return [node], [tensor("w", np.full((4, 2), most), dtype)], [value("x", of)]


@pytest.mark.parametrize(
    ("most", "dtype", "of", "risky"),
    [
        (FULL, "int8", TensorProto.UINT8, True),
        (-128, "int8", TensorProto.UINT8, True),
        (65, "int8", TensorProto.UINT8, True),
        (-65, "int8", TensorProto.UINT8, True),
        (SEVEN, "int8", TensorProto.UINT8, False),
        (-SEVEN, "int8", TensorProto.UINT8, False),
        (255, "uint8", TensorProto.UINT8, False),
        (FULL, "int8", TensorProto.INT8, False),
        (255, "uint8", TensorProto.INT8, False),
    ],
)
def test_only_unsigned_times_signed_of_eight_bits_may_overflow(tmp_path: Path, most: int, dtype: str, of: int, risky: bool) -> None:
    assert found(written(tmp_path, *product(most, dtype, of))) == ["product"] * risky


def test_a_reason_names_the_operator_and_the_bytes(tmp_path: Path) -> None:
    (risk,) = overflow.risks(written(tmp_path, *product(FULL)))
    assert str(risk) == "MatMulInteger product: bytes up to 255 times bytes of 127 to 127"


def quantized(operator: str, most: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[onnx.ValueInfoProto]]:
    """One node of an operator with integer products, its weights reaching to `most`."""
    scale, zero = tensor("s", 1, "float32"), tensor("z", 0, "uint8")
    square, filters = tensor("w", np.full((4, 4), most)), tensor("w", np.full((4, 2, 3, 3), most))
    image = value("x", TensorProto.UINT8, (1, 2, 5, 5))
    names = {
        "MatMulIntegerToFloat": ["x", "w", "s", "s"],
        "DynamicQuantizeMatMul": ["f", "w", "s"],
        "QLinearMatMul": ["x", "s", "z", "w", "s", "zw", "s", "z"],
        "QLinearConv": ["x", "s", "z", "w", "s", "zw", "s", "z"],
        "QGemm": ["x", "s", "z", "w", "s", "zw"],
        "QAttention": ["x", "w", "b", "s", "s"],
        "DynamicQuantizeLSTM": ["f", "v", "w", "", "", "", "", "", "s", "zw", "s", "zw"],
    }[operator]
    domain = "" if operator in ("QLinearMatMul", "QLinearConv") else "com.microsoft"
    node = helper.make_node(operator, names, ["y"], name="q", domain=domain)
    stored = [scale, zero, tensor("zw", 0), tensor("b", [0.0], "float32"), tensor("v", np.zeros((4, 4)))]
    conv = operator == "QLinearConv"
    stored.append(filters if conv else square)
    return [node], stored, [image if conv else value("x"), value("f", TensorProto.FLOAT)]


@pytest.mark.parametrize(
    "operator",
    ["MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QLinearConv", "QGemm", "QAttention", "DynamicQuantizeLSTM"],
)
def test_every_operator_with_integer_products_is_looked_at(tmp_path: Path, operator: str) -> None:
    assert found(written(tmp_path, *quantized(operator, FULL))) == ["q"]
    assert found(written(tmp_path, *quantized(operator, SEVEN))) == []


def test_depthwise_convolution_sums_in_32_bits_grouped_does_not(tmp_path: Path) -> None:
    (node,), stored, inputs = quantized("QLinearConv", FULL)
    node.attribute.append(helper.make_attribute("group", 4))
    one_each = [each for each in stored if each.name != "w"] + [tensor("w", np.full((4, 1, 3, 3), FULL))]
    assert found(written(tmp_path, [node], one_each, inputs)) == []
    two_each = [each for each in stored if each.name != "w"] + [tensor("w", np.full((8, 1, 3, 3), FULL))]
    assert found(written(tmp_path, [node], two_each, inputs)) == ["q"]


def test_in_conv_integer_the_weights_come_first(tmp_path: Path) -> None:
    node = helper.make_node("ConvInteger", ["x", "w"], ["y"], name="c")
    shape = (1, 1, 5, 5)
    signed = [tensor("w", np.full((1, 1, 3, 3), FULL))]
    unsigned = [tensor("w", np.full((1, 1, 3, 3), 255), "uint8")]
    assert found(written(tmp_path, [node], signed, [value("x", TensorProto.UINT8, shape)])) == []
    assert found(written(tmp_path, [node], unsigned, [value("x", TensorProto.INT8, shape)])) == ["c"]


def pairs(most: int, kind: str = "uint8") -> tuple[Any, ...]:
    """A product between DequantizeLinear and DequantizeLinear, as static quantizers leave it."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "s"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["y"], name="pair"),
    ]
    stored = [tensor("s", 0.1, "float32"), tensor("z", 0, kind), tensor("w", np.full((4, 2), most))]
    return nodes, stored, [value("x", TensorProto.FLOAT)]


def test_pairs_become_products_when_the_engine_fuses_them(tmp_path: Path) -> None:
    for kind in ("uint8", "int8"):  # the engine makes signed activations unsigned on x86-64
        assert found(written(tmp_path, *pairs(FULL, kind))) == ["pair"]
        assert found(written(tmp_path, *pairs(SEVEN, kind))) == []
        assert found(written(tmp_path, *pairs(FULL, kind)), optimised_on_load=False) == []


def test_weights_are_followed_through_what_moves_them(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=tensor("c", np.full((2, 4), SEVEN)))
    turned = helper.make_node("Transpose", ["c"], ["w"])
    (node,), _, inputs = product(FULL)
    assert found(written(tmp_path, [constant, turned, node], [], inputs)) == []
    constant.attribute[0].t.CopyFrom(tensor("c", np.full((2, 4), FULL)))
    assert found(written(tmp_path, [constant, turned, node], [], inputs)) == ["product"]


def test_a_factor_that_is_computed_is_taken_for_the_worst(tmp_path: Path) -> None:
    (node,), _, (x,) = product(FULL)
    assert found(written(tmp_path, [node], [], [x, value("w", TensorProto.INT8, (4, 2))])) == ["product"]
    assert found(written(tmp_path, [node], [], [x, value("w", TensorProto.UINT8, (4, 2))])) == []
    unknown = helper.make_node("Mystery", ["x"], ["w"], domain="com.microsoft")
    (risk,) = overflow.risks(written(tmp_path, [unknown, node], [], [x]))
    assert "computed" in risk.why
    dynamic = helper.make_node("DynamicQuantizeLinear", ["f"], ["w", "ws", "wz"])
    assert found(written(tmp_path, [dynamic, node], [], [x, value("f", TensorProto.FLOAT, (4, 2))])) == []


def test_branches_and_loops_are_searched_with_their_own_names(tmp_path: Path) -> None:
    def branch(most: int, name: str) -> onnx.GraphProto:
        node = helper.make_node("MatMulInteger", ["x", "w"], [f"{name}_y"], name=name)
        return helper.make_graph([node], name, [], [value(f"{name}_y", TensorProto.INT32)], [tensor("w", np.full((4, 2), most))])

    chosen = helper.make_node("If", ["on"], ["y"], then_branch=branch(FULL, "then"), else_branch=branch(SEVEN, "else"))
    inputs = [value("x"), value("on", TensorProto.BOOL, ())]
    assert found(written(tmp_path, [chosen], [], inputs)) == ["then"]
    inner = helper.make_node("MatMulInteger", ["x", "outer"], ["loop_y"], name="inner")
    going = helper.make_node("Identity", ["cond"], ["cond_out"])
    body = helper.make_graph(
        [going, inner],
        "body",
        [value("i", TensorProto.INT64, ()), value("cond", TensorProto.BOOL, ())],
        [value("cond_out", TensorProto.BOOL, ()), value("loop_y", TensorProto.INT32)],
    )
    loop = helper.make_node("Loop", ["n", "on"], ["y"], body=body)
    stored = [tensor("outer", np.full((4, 2), FULL)), tensor("n", 2, "int64")]
    assert found(written(tmp_path, [loop], stored, inputs)) == ["inner"]


def test_what_cannot_overflow_is_left_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["f", "m"], ["g"]),
        helper.make_node("MatMulNBits", ["g", "n", "s"], ["y"], domain="com.microsoft", K=4, N=2, bits=8, block_size=16),
    ]
    stored = [tensor("m", np.ones((4, 4)), "float32"), tensor("n", np.full((2, 1, 16), 255), "uint8")]
    stored.append(tensor("s", [1, 1], "float32"))
    assert found(written(tmp_path, nodes, stored, [value("f", TensorProto.FLOAT)])) == []


def test_operators_of_which_nothing_was_measured_are_listed(tmp_path: Path) -> None:
    node = helper.make_node("QMoE", ["x"], ["y"], name="experts", domain="com.microsoft")
    (risk,) = overflow.risks(written(tmp_path, [node], [], [value("x", TensorProto.FLOAT)]))
    assert "not known" in risk.why


def test_functions_of_a_model_are_not_passed_over(tmp_path: Path) -> None:
    inside = helper.make_node("MatMulInteger", ["a", "b"], ["c"], name="inside")
    function = helper.make_function("own", "Mine", ["a", "b"], ["c"], [inside], OPSETS[:1])
    node = helper.make_node("Mine", ["x", "w"], ["y"], domain="own")
    stored = [tensor("w", np.full((4, 2), SEVEN))]
    path = written(tmp_path, [node], stored, [value("x")], functions=[function])
    assert [risk.node for risk in overflow.risks(path)] == ["inside"]


def test_large_weights_are_read_where_they_lie(tmp_path: Path) -> None:
    nodes, _, inputs = product(FULL)
    for most, risky in ((SEVEN, []), (FULL, ["product"])):
        weights = np.full((4, 600_000), 3, "int8")
        weights[3, 599_999] = most
        (source := tmp_path / f"{most}").mkdir()
        files.save(files.load_file(written(source, nodes, [tensor("w", weights)], inputs)), out := _made(tmp_path / f"out{most}"))
        assert (out / files.DATA).is_file()
        assert found(out / files.MODEL) == risky


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
