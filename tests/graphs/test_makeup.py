"""What a graph is made of, and what that leaves of `variants: auto`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.graphs import files
from mlpack.graphs.facts import makeup
from mlpack.graphs.facts.makeup import Makeup


def graph(folder: Path, nodes: list[Any], weights: dict[str, tuple[int, ...]], shape: list[Any]) -> Path:
    """A model of these nodes from x to y, with weights of these shapes."""
    folder.mkdir()
    stored = [numpy_helper.from_array(np.ones(dims, "float32"), name) for name, dims in weights.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    made = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], stored), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    files.save(made, folder)
    return folder


@pytest.mark.parametrize(
    ("nodes", "weights", "expected"),
    [
        ([("MatMul", ["x", "w"], ["y"])], {"w": (8, 8)}, Makeup(products=256)),
        ([("Gemm", ["x", "w", "b"], ["y"])], {"w": (8, 8), "b": (8,)}, Makeup(products=288, dense=1)),
        ([("Transpose", ["w"], ["t"]), ("MatMul", ["x", "t"], ["y"])], {"w": (8, 8)}, Makeup(products=256)),
        ([("MatMul", ["x", "w"], ["h"]), ("MatMul", ["h", "w"], ["y"])], {"w": (8, 8)}, Makeup(products=256)),
        ([("Conv", ["x", "w"], ["h"]), ("Add", ["h", "b"], ["y"])], {"w": (8, 8, 3, 3), "b": (8, 1, 1)}, Makeup(convolutions=2304)),
        ([("Mul", ["x", "w"], ["y"])], {"w": (8, 8)}, Makeup()),
        ([("com.microsoft:Attention", ["x", "w", "b"], ["y"])], {"w": (8, 24), "b": (24,)}, Makeup(products=864, attention=1)),
        ([("MatMul", ["x", "x"], ["y"])], {}, Makeup()),
        (
            [("Gemm", ["x", "w"], ["h"]), ("Relu", ["h"], ["r"]), ("Gemm", ["r", "v"], ["y"])],
            {"w": (8, 8), "v": (8, 8)},
            Makeup(products=512, dense=2),
        ),
        ([("Gemm", ["x", "w"], ["h"]), ("MatMul", ["h", "v"], ["y"])], {"w": (8, 8), "v": (8, 8)}, Makeup(products=512)),
        ([("Gemm", ["x", "w"], ["h"]), ("MatMul", ["h", "x"], ["y"])], {"w": (8, 8)}, Makeup(products=256, dense=1)),
    ],
)
def test_weights_count_for_the_layer_that_reads_them(
    nodes: list[tuple[str, list[str], list[str]]], weights: dict[str, tuple[int, ...]], expected: Makeup, tmp_path: Path
) -> None:
    made = [
        helper.make_node(operator.rpartition(":")[2], given, out, f"n{index}", domain=operator.rpartition(":")[0])
        for index, (operator, given, out) in enumerate(nodes)
    ]
    shape = ["n", 8, 4, 4] if nodes[0][0] == "Conv" else [8, 8]
    found = makeup.of(graph(tmp_path / "m", made, weights, shape))
    assert found == expected
    assert Makeup(**makeup.plain(found)) == found


def test_kinds_and_words() -> None:
    assert Makeup().kinds == frozenset()
    assert Makeup().text == "no weights"
    assert Makeup(trees=3).text == "trees"
    assert Makeup(trees=3).kinds == {"trees"}
    both = Makeup(convolutions=300, products=makeup.LARGE_BYTES)
    assert both.kinds == {"convolutions", "products", "large-products"}
    assert both.text == "products 100 %, convolutions 1 % of the weights"
