"""Work counted by hand on graphs small enough for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.graphs.facts import graph_work
from mlpack.graphs.facts.graph_work import GraphWork

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """Names by spaces; `-` is an input that is not given."""
    return helper.make_node(operator, ["" if n == "-" else n for n in inputs.split()], outputs.split(), **attributes)


def work(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int | str]]],
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    out: tuple[int, int] = (FLOAT, 2),
    **shapes: tuple[int, ...],
) -> GraphWork:
    """The work of a graph; `out`: element type and rank of what its last node gives."""
    stored = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    result = helper.make_tensor_value_info(nodes[-1].output[0], out[0], [f"out{axis}" for axis in range(out[1])])
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    made = helper.make_graph(nodes, "test", given, [result], stored)
    onnx.save(helper.make_model(made, opset_imports=domains, ir_version=10), folder / files.MODEL)
    return graph_work.work_of(folder, shapes)


def test_dense_layer_is_one_kernel_with_its_bias_and_activation(tmp_path: Path) -> None:
    weights = {"w": np.ones((64, 32), np.float32), "b": np.ones(32, np.float32)}
    made = work(
        tmp_path,
        [node("MatMul", "x w", "a"), node("Add", "a b", "c"), node("Relu", "c", "y")],
        {"x": (FLOAT, ["n", 64])},
        weights,
        x=(4, 64),
    )
    (kernel,) = made.kernels
    assert (kernel.operator, kernel.fused, kernel.dtype) == ("MatMul", ("Add", "Relu"), "fp32")
    assert kernel.matrix_flops == 2 * 4 * 64 * 32
    assert kernel.vector_flops == 2 * 4 * 32
    assert kernel.weight_bytes == 4 * (64 * 32 + 32)
    assert kernel.activation_bytes == 4 * (4 * 64 + 4 * 32)
    assert (made.input_bytes, made.output_bytes) == (4 * 4 * 64, 4 * 4 * 32)
    assert made.flops == {"fp32": 2 * 4 * 64 * 32, "vector": 256}


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_gemm_counts_the_same_however_it_is_stored(tmp_path: Path, trans_a: int, trans_b: int) -> None:
    weights = {"w": np.ones((5, 7) if trans_b else (7, 5), np.float32), "b": np.ones(5, np.float32)}
    shape = (7, 3) if trans_a else (3, 7)
    made = work(
        tmp_path, [node("Gemm", "x w b", "y", transA=trans_a, transB=trans_b)], {"x": (FLOAT, list(shape))}, weights, x=shape
    )
    assert made.flops == {"fp32": 2 * 3 * 7 * 5, "vector": 15}


def test_grouped_convolution_and_normalisation_are_one_kernel(tmp_path: Path) -> None:
    weights = {"w": np.ones((8, 2, 3, 3), np.float32)} | {n: np.ones(8, np.float32) for n in ("s", "b", "m", "v")}
    made = work(
        tmp_path,
        [node("Conv", "x w", "a", group=2, pads=[1, 1, 1, 1], strides=[2, 2]), node("BatchNormalization", "a s b m v", "y")],
        {"x": (FLOAT, ["n", 4, 10, 10])},
        weights,
        out=(FLOAT, 4),
        x=(2, 4, 10, 10),
    )
    (kernel,) = made.kernels
    assert kernel.matrix_flops == 2 * (2 * 8 * 5 * 5) * (2 * 3 * 3)
    assert kernel.activation_bytes == 4 * (2 * 4 * 100 + 2 * 8 * 25)


def test_a_transposed_convolution_spreads_what_goes_in(tmp_path: Path) -> None:
    made = work(
        tmp_path,
        [node("ConvTranspose", "x w", "y", strides=[2, 2])],
        {"x": (FLOAT, [1, 4, 5, 5])},
        {"w": np.ones((4, 6, 2, 2), np.float32)},
        out=(FLOAT, 4),
        x=(1, 4, 5, 5),
    )
    assert made.flops["fp32"] == 2 * (4 * 25) * (6 * 2 * 2)


def test_attention_written_out_is_its_two_products_and_softmax(tmp_path: Path) -> None:
    """Batch 2, 3 heads, 10 tokens of 8."""
    nodes = [
        node("Transpose", "k", "t", perm=[0, 1, 3, 2]),
        node("MatMul", "q t", "s"),
        node("Softmax", "s", "p"),
        node("MatMul", "p v", "y"),
    ]
    shape: list[int | str] = [2, 3, 10, 8]
    given = dict.fromkeys(("q", "k", "v"), (FLOAT, shape))
    made = work(tmp_path, nodes, given, out=(FLOAT, 4), q=(2, 3, 10, 8), k=(2, 3, 10, 8), v=(2, 3, 10, 8))
    assert made.flops["fp32"] == 2 * 2 * 3 * 10 * 10 * 8 * 2
    assert [kernel.operator for kernel in made.kernels] == ["Transpose", "MatMul", "Softmax", "MatMul"]


def test_fused_attention_counts_as_it_does_written_out(tmp_path: Path) -> None:
    shape: list[int | str] = [2, 10, 24]
    given = dict.fromkeys(("q", "k", "v"), (FLOAT, shape))
    nodes = [node("MultiHeadAttention", "q k v", "y", num_heads=3, domain="com.microsoft")]
    made = work(tmp_path, nodes, given, out=(FLOAT, 3), q=(2, 10, 24), k=(2, 10, 24), v=(2, 10, 24))
    assert made.flops["fp32"] == 2 * 2 * 3 * 10 * 10 * 8 * 2


def test_recurrence_counts_each_step_and_starts_a_kernel_for_it(tmp_path: Path) -> None:
    """7 steps, batch 2, 5 in, 3 hidden, both directions: two operations for each weight, sample and step."""
    weights = {"w": np.ones((2, 12, 5), np.float32), "r": np.ones((2, 12, 3), np.float32)}
    nodes = [node("LSTM", "x w r", "y", hidden_size=3, direction="bidirectional")]
    made = work(tmp_path, nodes, {"x": (FLOAT, [7, 2, 5])}, weights, out=(FLOAT, 4), x=(7, 2, 5))
    assert made.flops["fp32"] == 2 * 7 * 2 * (2 * 12 * 5 + 2 * 12 * 3)
    assert made.launches == 14
    weights = {"w": np.ones((1, 9, 5), np.float32), "r": np.ones((1, 9, 3), np.float32)}
    made = work(
        tmp_path, [node("GRU", "x w r", "y", hidden_size=3)], {"x": (FLOAT, [7, 2, 5])}, weights, out=(FLOAT, 4), x=(7, 2, 5)
    )
    assert made.flops["fp32"] == 2 * 7 * 2 * (9 * 5 + 9 * 3)


def test_a_gather_reads_the_rows_it_gives_not_the_whole_table(tmp_path: Path) -> None:
    nodes = [node("Gather", "table i", "y")]
    made = work(tmp_path, nodes, {"i": (TensorProto.INT64, ["n"])}, {"table": np.ones((30_000, 16), np.float32)}, i=(3,))
    (kernel,) = made.kernels
    assert kernel.weight_bytes == 3 * 16 * 4
    assert kernel.activation_bytes == 3 * 8 + 3 * 16 * 4
    assert made.flops == {"vector": 48}


def test_quantized_operands_make_int8_product_and_int8_traffic(tmp_path: Path) -> None:
    """Quantize and dequantize on both sides, as TensorRT wants it: the weights are stored in int8, and read so."""
    one, zero = np.float32(0.1), np.int8(0)
    weights = {"w8": np.ones((64, 32), np.int8), "s": np.array(one), "z": np.array(zero)}
    nodes = [
        node("Relu", "x", "r"), node("QuantizeLinear", "r s z", "q"), node("DequantizeLinear", "q s z", "d"),
        node("DequantizeLinear", "w8 s z", "w"), node("MatMul", "d w", "y"),
    ]  # fmt: skip
    made = work(tmp_path, nodes, {"x": (FLOAT, ["n", 64])}, weights, x=(4, 64))
    relu, product = made.kernels
    assert (relu.operator, relu.fused) == ("Relu", ("QuantizeLinear",))
    assert relu.activation_bytes == 4 * 64 * 4 + 4 * 64
    assert (product.dtype, product.matrix_flops) == ("int8", 2 * 4 * 64 * 32)
    assert product.weight_bytes == 64 * 32
    assert product.activation_bytes == 4 * 64 + 4 * 32 * 4


def test_int8_weights_alone_are_read_small_multiplied_in_float(tmp_path: Path) -> None:
    weights = {"w8": np.ones((64, 32), np.int8), "s": np.array(np.float32(0.1)), "z": np.array(np.int8(0))}
    nodes = [node("DequantizeLinear", "w8 s z", "w"), node("MatMul", "x w", "y")]
    (kernel,) = work(tmp_path, nodes, {"x": (FLOAT, ["n", 64])}, weights, x=(4, 64)).kernels
    assert (kernel.dtype, kernel.weight_bytes) == ("fp32", 64 * 32)


def test_an_integer_product_is_int8(tmp_path: Path) -> None:
    made = work(
        tmp_path,
        [node("MatMulInteger", "x w", "y")],
        {"x": (TensorProto.INT8, [4, 64])},
        {"w": np.ones((64, 32), np.int8)},
        out=(TensorProto.INT32, 2),
        x=(4, 64),
    )
    assert made.flops["int8"] == 2 * 4 * 64 * 32


def test_half_precision_is_half_the_bytes(tmp_path: Path) -> None:
    (kernel,) = work(
        tmp_path,
        [node("MatMul", "x w", "y")],
        {"x": (HALF, ["n", 64])},
        {"w": np.ones((64, 32), np.float16)},
        out=(HALF, 2),
        x=(4, 64),
    ).kernels
    assert (kernel.dtype, kernel.weight_bytes, kernel.activation_bytes) == ("fp16", 2 * 64 * 32, 2 * (4 * 64 + 4 * 32))


def test_what_depends_on_shapes_or_weights_alone_costs_nothing(tmp_path: Path) -> None:
    weights = {"w": np.ones((32, 64), np.float32), "one": np.array([-1], np.int64)}
    nodes = [
        node("Transpose", "w", "wt", perm=[1, 0]), node("Shape", "x", "s", start=0, end=1), node("Concat", "s one", "r", axis=0),
        node("MatMul", "x wt", "a"), node("Reshape", "a r", "y"),
    ]  # fmt: skip
    made = work(tmp_path, nodes, {"x": (FLOAT, ["n", 64])}, weights, x=(4, 64))
    assert [kernel.operator for kernel in made.kernels] == ["MatMul"]
    assert made.activation_bytes == 4 * (4 * 64 + 4 * 32)


def test_a_residual_joins_the_later_of_its_producers(tmp_path: Path) -> None:
    weights = {"w": np.ones((8, 8), np.float32), "v": np.ones((8, 8), np.float32)}
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "a v", "b"), node("Add", "a b", "y")]
    first, second = work(tmp_path, nodes, {"x": (FLOAT, ["n", 8])}, weights, x=(4, 8)).kernels
    assert (first.fused, second.fused) == ((), ("Add",))
    assert second.activation_bytes == 4 * (4 * 8 + 4 * 8)  # `a` once, whoever needs it, and what comes out


def test_operators_in_no_table_count_as_elementwise_by_name(tmp_path: Path) -> None:
    made = work(tmp_path, [node("Det", "x", "y")], {"x": (FLOAT, ["n", 8, 8])}, out=(FLOAT, 1), x=(4, 8, 8))
    assert made.unknown == ("Det",)
    assert made.flops == {"vector": 4}


def test_shapes_that_inference_misses_are_found_by_running(tmp_path: Path) -> None:
    """How many numbers are not nought depends on the numbers."""
    nodes = [node("NonZero", "x", "i"), node("Cast", "i", "y", to=FLOAT)]
    made = work(tmp_path, nodes, {"x": (FLOAT, ["n"])}, x=(6,))
    assert made.output_bytes > 0
    assert made.unknown == ("NonZero",)


def test_a_shape_that_is_missing_or_does_not_fit_is_named(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "y")]
    weights = {"w": np.ones((64, 32), np.float32)}
    work(tmp_path, nodes, {"x": (FLOAT, ["n", 64])}, weights, x=(4, 64))
    for shapes in ({}, {"x": (4, 63)}, {"x": (4,)}):
        with pytest.raises(PassError, match=r"input 'x'"):
            graph_work.work_of(tmp_path, shapes)


def test_a_damaged_graph_is_an_error(tmp_path: Path) -> None:
    (tmp_path / files.MODEL).write_bytes(b"\x08")
    with pytest.raises(PassError):
        graph_work.work_of(tmp_path, {})
