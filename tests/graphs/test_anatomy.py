"""Where a graph's bytes and operations are, and which layers stayed float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.support.models.written_graphs import write

from mlpack.core.records import StepRun
from mlpack.core.trails import SearchStep, Trail
from mlpack.errors import PassError
from mlpack.graphs.facts import anatomy

FLOAT = TensorProto.FLOAT


def test_bytes_belong_to_the_layer_that_reads_them_unpacked(tmp_path: Path) -> None:
    stored = {
        "w": np.ones((8, 16), np.int8), "s": np.float32(0.5), "b": np.ones(16, np.float32), "idle": np.ones(100, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"]),
        helper.make_node("MatMul", ["x", "d"], ["m"], "product"),
        helper.make_node("Add", ["m", "b"], ["y"], "bias"),
    ]
    found = anatomy.of_file(write(tmp_path, nodes, stored), {"x": (2, 8)})
    assert found["layers"] == [
        {"layer": None, "size_bytes": 400, "tensors": 1},
        {"layer": "MatMul", "size_bytes": 132, "tensors": 2},
        {"layer": "Add", "size_bytes": 64, "tensors": 1},
    ]
    assert found["size_bytes"] == 596
    assert found["tensors"][1] == {
        "name": "w", "dtype": "int8", "shape": [8, 16], "size_bytes": 128, "layer": "MatMul", "node": "product",
    }  # fmt: skip
    (product,) = found["products"]
    assert (product["precision"], product["size_bytes"], product["operations"]) == ("int8 weights", 132, 2 * 2 * 8 * 16 + 2 * 16)
    assert found["operations"] == {"total": 2 * 2 * 8 * 16 + 2 * 16, "unknown_shapes": 0, "inputs": {"x": [2, 8]}}


@pytest.mark.slow
def test_large_weights_stay_in_their_file(tmp_path: Path) -> None:
    import tracemalloc

    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = write(tmp_path, nodes, {"w": np.zeros((8, 4 << 20), np.float32)}, save_as_external_data=True, location="model.onnx.data")
    tracemalloc.start()
    found = anatomy.of_file(path, {"x": (1, 8)})
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()
    assert (found["size_bytes"], found["operations"]["total"]) == (128 << 20, 2 * 8 * (4 << 20))


def test_tables_of_trees_are_bytes_of_their_node(tmp_path: Path) -> None:
    trees = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], "trees", domain="ai.onnx.ml", nodes_values=[0.5] * 20, nodes_featureids=[1] * 20,
        nodes_modes=["BRANCH_LEQ"] * 20,
    )  # fmt: skip
    found = anatomy.of_file(write(tmp_path, [trees], {}), {"x": (1, 8)})
    assert found["layers"] == [{"layer": "TreeEnsembleRegressor", "size_bytes": 20 * (4 + 8 + 10), "tensors": 3}]
    assert found["tensors"][0]["name"] == "trees.nodes_modes"


def test_shapes_that_nobody_knows_leave_operations_unknown(tmp_path: Path) -> None:
    path = write(tmp_path, [helper.make_node("Mystery", ["x"], ["y"], domain="strange")], {})
    assert anatomy.of_file(path, {"x": (1, 9)})["operations"] is None  # the graph takes 8
    assert anatomy.of_file(path)["operations"] is None
    assert (anatomy.of_file(path, {"x": (1, 8)})["operations"] or {"unknown_shapes": 1})["unknown_shapes"] == 1


def test_a_graph_of_three_hundred_nodes_names_the_largest(tmp_path: Path) -> None:
    names = ["x", *(f"h{i}" for i in range(299)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], f"layer{i}") for i in range(300)]
    found = anatomy.of_file(write(tmp_path, nodes, {f"w{i}": np.ones((8, 8), np.float32) for i in range(300)}), {"x": (1, 8)})
    assert (found["nodes"], len(found["tensors"]), len(found["products"])) == (300, anatomy.LARGEST, 300)
    assert found["operators"] == [
        {"precision": "float32", "operator": "MatMul", "count": 300, "size_bytes": 300 * 256, "operations": 300 * 128}
    ]
    assert found == anatomy.of_file(tmp_path / "model.onnx", {"x": (1, 8)})
    assert anatomy.with_reasons(found, {})["kept_float"] == []  # nothing is quantized, so nothing was kept


def row(node: str, precision: str, size: int = 0) -> dict[str, Any]:
    return {"node": node, "operator": "Conv", "precision": precision, "size_bytes": size, "operations": None}


def test_what_stayed_float_has_its_reason_and_its_cost() -> None:
    found = {"products": [row("a", "int8 static", 10), row("b", "float32", 40), row("c", "float32", 80)]}
    steps = [StepRun(name="quantize", config={}, seconds=0.0, cached=False, notes={"kept": {"b": "it is tiny", "join": "ranges"}}),
             StepRun(name="simplify", config={}, seconds=0.0, cached=False, notes={"kept": ["odd"]})]  # fmt: skip
    form = {"options": {}, "fits": True, "why": "", "seconds": 1.0}
    tried = (SearchStep(name="int8", kept_float=(), **form), SearchStep(name="one back", kept_float=("c",), **form))  # type: ignore[arg-type]
    trail = Trail(layers=3, most=8, tried=tried, taken=1, ended="inside", damage=(("c", 0.25), ("a", 0.01)))
    kept = anatomy.with_reasons(found, *anatomy.reasons_of(steps, trail))["kept_float"]
    assert [(one["node"], one["why"], one["size_bytes"], one["damage"]) for one in kept] == [
        ("c", "the search put it back to float", 80, 0.25), ("b", "it is tiny", 40, None), ("join", "ranges", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"not onnx", b"\x08\x07" * 50])
def test_a_damaged_file_is_an_error_with_its_name(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(PassError, match=r"model\.onnx"):
        anatomy.of_file(tmp_path / "model.onnx")


def test_the_engines_own_integer_operators_are_counted(tmp_path: Path) -> None:
    """As an optimised graph has them: channels last, and names that onnx's inference does not know."""
    one, zero = np.float32(0.1), np.uint8(128)
    stored = {
        "s": one, "z": zero, "w": np.ones((4, 2, 1, 1), np.int8), "ws": np.ones(4, np.float32), "wz": np.zeros(4, np.int8),
        "shape": np.array([-1, 2, 2, 2]), "flat": np.array([-1, 16]), "m": np.ones((16, 3), np.int8), "ms": one, "mz": np.int8(0),
    }  # fmt: skip
    own = {"domain": "com.microsoft"}
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s", "z"], ["c"], "conv_token_12", channels_last=1, **own),
        helper.make_node("QLinearAdd", ["c", "s", "z", "c", "s", "z", "s", "z"], ["a"], "add", **own),
        helper.make_node("Reshape", ["a", "flat"], ["f"]),
        helper.make_node("DequantizeLinear", ["f", "s", "z"], ["d"]),
        helper.make_node("DynamicQuantizeMatMul", ["d", "m", "ms", "mz"], ["y"], "product_integer", **own),
    ]
    found = anatomy.of_file(write(tmp_path, nodes, stored), {"x": (5, 8)})
    assert found["operations"]["unknown_shapes"] == 0
    products = {row["node"]: (row["precision"], row["operations"]) for row in found["products"]}
    assert products["product"] == ("int8 dynamic", 2 * 5 * 16 * 3)
    assert products["conv"][0] == "int8 static"
    assert products["conv"][1] >= 2 * (5 * 2 * 2 * 4) * 2
