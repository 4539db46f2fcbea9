"""The table of operators: disjoint, and what single rows of it count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mlpack.graphs.facts import operators
from mlpack.graphs.facts.operators import FusionKind, TensorInfo


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("MatMul", FusionKind.KERNEL), ("Softmax", FusionKind.KERNEL), ("Transpose", FusionKind.KERNEL),
        ("MaxPool", FusionKind.KERNEL),
        ("Add", FusionKind.ELEMENTWISE), ("Erf", FusionKind.ELEMENTWISE), ("BatchNormalization", FusionKind.ELEMENTWISE),
        ("Reshape", FusionKind.FREE), ("NonMaxSuppression", FusionKind.UNKNOWN), ("Loop", FusionKind.UNKNOWN),
    ],
)  # fmt: skip
def test_what_an_operator_is(operator: str, kind: FusionKind) -> None:
    assert operators.kind_of(operator) is kind


@pytest.mark.parametrize(
    ("dtype", "size"), [("float", 48), ("bfloat16", 24), ("int8", 12), ("int4", 6), ("int64", 96), ("string", 0)]
)
def test_bytes_follow_the_element_type(dtype: str, size: int) -> None:
    assert TensorInfo(dtype, (3, 4)).nbytes == size


def test_every_element_type_of_onnx_has_a_name() -> None:
    names = {operators.dtype_name(number) for number in TensorProto.DataType.values()}
    assert {"float", "float16", "bfloat16", "int8"} <= names


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_einsum_counts_as_the_product_it_is(batch: int, rows: int, inner: int, columns: int) -> None:
    inputs = [TensorInfo("float", (batch, rows, inner)), TensorInfo("float", (batch, inner, columns))]
    outputs = [TensorInfo("float", (batch, rows, columns))]
    einsum = helper.make_node("Einsum", ["a", "b"], ["y"], equation="bij,bjk->bik")
    matmul = helper.make_node("MatMul", ["a", "b"], ["y"])
    assert operators.flops(einsum, inputs, outputs)[0] == operators.flops(matmul, inputs, outputs)[0]


def test_pool_looks_at_its_window_reduction_at_all_of_it() -> None:
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3])
    assert operators.flops(pool, [TensorInfo("float", (1, 2, 9, 9))], [TensorInfo("float", (1, 2, 7, 7))]) == (0.0, 98.0 * 9, 1)
    mean = helper.make_node("ReduceMean", ["x"], ["y"])
    assert operators.flops(mean, [TensorInfo("float", (4, 100))], [TensorInfo("float", (4, 1))]) == (0.0, 400.0, 1)


def test_unknown_shapes_count_as_nothing() -> None:
    for operator in ("MatMul", "Conv", "ConvTranspose", "LSTM", "Attention", "Einsum", "Gemm", "QLinearConv", "Relu", "ReduceSum"):
        node = helper.make_node(operator, ["a", "b", "c", "d"], ["y"])
        assert operators.flops(node, [None] * 4, [None])[:2] == (0.0, 0.0)
