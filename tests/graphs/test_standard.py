"""The standard form: whoever wrote the file, passes find the same kind of graph, and it computes what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.errors import PassError
from mlpack.graphs import check, files, weights
from mlpack.graphs.foreign import standard, versions

FLOAT = TensorProto.FLOAT


def made(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any] | None = None, opset: int = 17, **options: Any
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights or [])
    options.setdefault("ir_version", 9)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **options)


def port(name: str, *shape: Any, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def answers(model: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    return check.run(check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL"), feed)


def agrees(before: onnx.ModelProto, feed: dict[str, Any]) -> onnx.ModelProto:
    """The standard form of a model, after it gave the same answers."""
    want = answers(before, feed)
    after = standard.standard(type(before).FromString(before.SerializeToString()), Path("m.onnx"))
    assert check.difference(answers(after, feed), want) == 0
    return after


X = np.arange(8, dtype=np.float32).reshape(2, 4)


def relus(count: int = 3, **options: Any) -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    return made(nodes, [port("v0", "n", 4)], [port(f"v{count}", "n", 4)], **options)


def test_every_node_has_a_name_of_its_own_also_in_nested_graphs() -> None:
    body = []
    for i in (0, 1):
        inside = [helper.make_node("Neg", ["x"], [f"y{i}"]), helper.make_node("Abs", [f"y{i}"], [f"z{i}"])]
        body.append(helper.make_graph(inside, "b", [], [port(f"z{i}", "n", 4)]))
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "Neg_0"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("If", ["on"], ["c"], then_branch=body[0], else_branch=body[1]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    after = agrees(
        made(nodes, [port("x", "n", 4), port("on", kind=TensorProto.BOOL)], [port("y", "n", 4)]), {"x": X, "on": np.array(True)}
    )
    names = [node.name for node in files.nodes(after.graph)]
    assert all(names)
    assert len(names) == len(set(names)) == 8
    assert "Neg_0" in names


@pytest.mark.parametrize("form", ["constant", "ints", "shape", "input", "sparse", "sparse constant", "nested"])
def test_weights_become_initializers_however_they_are_written(form: str) -> None:
    eye = np.eye(4, dtype=np.float32)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(4, np.float32), "w"), numpy_helper.from_array(np.arange(4) * 5, "i"), [4, 4]
    )
    product = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs, outputs, weights = [port("x", "n", 4)], [port("y", "n", 4)], [numpy_helper.from_array(eye, "w")]
    if form == "constant":
        model = made([helper.make_node("Constant", [], ["w"], value=weights[0]), *product], inputs, outputs)
    elif form == "ints":
        nodes = [helper.make_node("Constant", [], ["s"], value_ints=[-1, 2]), helper.make_node("Reshape", ["x", "s"], ["y"])]
        model = made(nodes, inputs, [port("y", "n", 2)])
    elif form == "shape":
        value = numpy_helper.from_array(np.array([0.5], np.float32))
        nodes = [
            helper.make_node("Constant", [], ["s"], value_ints=[4, 4]),
            helper.make_node("ConstantOfShape", ["s"], ["w"], value=value), *product,
        ]  # fmt: skip
        model = made(nodes, inputs, outputs)
    elif form == "input":
        model = made(product, [*inputs, port("w", 4, 4)], outputs, weights)
    elif form == "sparse":
        model = made(product, inputs, outputs)
        model.graph.sparse_initializer.append(sparse)
    elif form == "sparse constant":
        model = made([helper.make_node("Constant", [], ["w"], sparse_value=sparse), *product], inputs, outputs)
    else:
        branches = []
        for i in (1, 2):
            ends, own = [port(f"z{i}", "n", 4)], [numpy_helper.from_array(eye * i, "w")]
            branches.append(helper.make_graph([helper.make_node("MatMul", ["x", "w"], [f"z{i}"])], "b", [], ends, own))
        nodes = [
            helper.make_node("Constant", [], ["on"], value=numpy_helper.from_array(np.array(False))),
            helper.make_node("If", ["on"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        ]
        model = made(nodes, inputs, outputs)
    after = agrees(model, {"x": X})
    assert not [node for node in files.nodes(after.graph) if node.op_type.startswith("Constant")]
    assert [value.name for value in after.graph.input] == ["x"]
    assert list(files.tensors(after.graph)) == list(after.graph.initializer)
    assert not after.graph.sparse_initializer


@pytest.mark.parametrize("shape", [[1 << 20, 1 << 20], [-1, 4], [1 << 62, 1 << 62]])
def test_a_described_weight_that_is_no_weight_stays_a_node(shape: list[int]) -> None:
    nodes = [
        helper.make_node("Constant", [], ["s"], value_ints=shape),
        helper.make_node("ConstantOfShape", ["s"], ["w"]),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    after = standard.standard(made(nodes, [port("x", "n", 4)], [port("y", "n", 4)]), Path("m.onnx"))
    assert [node.op_type for node in after.graph.node] == ["ConstantOfShape", "Add"]


@pytest.mark.parametrize(("dims", "places"), [([1 << 30, 1 << 30], [0]), ([4, 4], [99])])
def test_sparse_weights_that_cannot_be_made_dense_are_refused(dims: list[int], places: list[int]) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    model = made([helper.make_node("MatMul", ["x", "w"], ["y"])], [port("x", "n", 4)], [port("y", "n", 4)])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(places), "i"), dims))
    with pytest.raises(PassError, match=r"m\.onnx: .*sparse|not a valid ONNX model"):
        standard.standard(model, Path("m.onnx"))


def test_functions_of_file_are_put_in_the_place_of_their_calls() -> None:
    double = [helper.make_node("Add", ["a", "a"], ["b"])]
    inner = helper.make_function("own", "Twice", ["a"], ["b"], double, [helper.make_opsetid("", 17)])
    outer = helper.make_function(
        "own", "Four", ["a"], ["c"],
        [helper.make_node("Twice", ["a"], ["t"], domain="own"), helper.make_node("Twice", ["t"], ["c"], domain="own")],
        [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )  # fmt: skip
    nodes = [helper.make_node("Four", ["x"], ["m"], domain="own"), helper.make_node("Four", ["m"], ["y"], domain="own")]
    model = made(nodes, [port("x", "n", 4)], [port("y", "n", 4)], functions=[inner, outer])
    model.opset_import.add(domain="own", version=1)
    after = agrees(model, {"x": X})
    assert [node.op_type for node in after.graph.node] == ["Add"] * 4
    assert not after.functions


def test_functions_that_make_a_graph_without_end_are_refused() -> None:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "F0", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], imports)]
    for level in range(1, 24):
        calls = [helper.make_node(f"F{level - 1}", [a], [b], domain="own") for a, b in (("a", "m"), ("m", "b"))]
        functions.append(helper.make_function("own", f"F{level}", ["a"], ["b"], calls, imports))
    model = made([helper.make_node("F23", ["x"], ["y"], domain="own")], [port("x", 4)], [port("y", 4)], functions=functions)
    model.opset_import.add(domain="own", version=1)
    with pytest.raises(PassError, match="make 8,388,608 nodes, more than 1,000,000"):
        standard.standard(model, Path("m.onnx"))


@pytest.mark.parametrize("unknown", ["?", "-1", "", -1, 0, None, "None"])
def test_axes_that_nobody_knows_are_not_one_axis(unknown: Any) -> None:
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    model = made(nodes, [port("a", "n", unknown), port("b", unknown, 3)], [port("y", "n", unknown)])
    after = standard.standard(model, Path("m.onnx"))
    shapes = {spec.name: spec.shape for spec in (*files.signature_of(after).inputs, *files.signature_of(after).outputs)}
    if unknown == 0:  # an output may well hold nothing
        shapes["y"] = ("n", "y_axis1")
    assert shapes == {"a": ("n", "a_axis1"), "b": ("b_axis0", 3), "y": ("n", "y_axis1")}


def test_ranks_and_types_of_outputs_are_inferred() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Add", ["x", "x"], ["y"])]
    unknown = [onnx.ValueInfoProto(name="s"), helper.make_tensor_value_info("y", FLOAT, None)]
    after = agrees(made(nodes, [port("x", "n", 4)], unknown), {"x": X})
    found = files.signature_of(after).outputs
    assert [(spec.name, spec.dtype, len(spec.shape)) for spec in found] == [("s", "int64", 1), ("y", "float32", 2)]


@pytest.mark.parametrize(("ir", "opset"), [(3, 7), (4, 11), (14, 17), (99, 26), (14, 28)])
def test_versions_that_only_count_are_changed(ir: int, opset: int) -> None:
    after = standard.standard(relus(opset=opset, ir_version=ir), Path("m.onnx"))
    assert 8 <= after.ir_version <= versions.newest_ir()
    assert after.opset_import[0].version == min(opset, versions.newest_opset())
    assert np.array_equal(answers(after, {"v0": X})[0], X)


def test_operator_that_the_newest_engine_reads_anew_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "newest_opset", lambda _domain="": 17)
    model = made([helper.make_node("ReduceMean", ["x"], ["y"])], [port("x", "n", 4)], [port("y", 1, 1)], opset=20)
    with pytest.raises(PassError, match=r"m\.onnx: is written for operator set 20 of .* ReduceMean is not what it is in 17"):
        standard.standard(model, Path("m.onnx"))


def test_operator_that_only_takes_more_types_is_the_same() -> None:
    newest = versions.newest_opset()
    ends = [port("x", 4)], [port("y", 4, kind=TensorProto.DOUBLE)]
    model = made([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)], *ends)
    model.opset_import[0].version = max(newest, onnx.defs.onnx_opset_version())
    after = standard.standard(model, Path("m.onnx"))
    assert after.opset_import[0].version == newest
    assert answers(after, {"x": X[0]})[0].dtype == np.float64


@pytest.mark.parametrize(
    ("node", "new", "old", "alike"),
    [
        (helper.make_node("Softmax", ["x"], ["y"]), 13, 12, False),  # another default axis
        (helper.make_node("Cast", ["x"], ["y"], to=1), 24, 13, True),
        (helper.make_node("Cast", ["x"], ["y"], to=1, saturate=0), 24, 13, False),
        (helper.make_node("Squeeze", ["x"], ["y"], axes=[0]), 12, 11, True),
        (helper.make_node("Squeeze", ["x", "a"], ["y"]), 13, 12, False),
        (helper.make_node("Attention", ["q", "k", "v"], ["y"]), 24, 22, False),
    ],
)
def test_what_counts_as_the_same_operator(node: Any, new: int, old: int, alike: bool) -> None:
    assert versions._alike(node, versions._schema(node.op_type, new, ""), versions._schema(node.op_type, old, "")) is alike


def test_operator_sets_before_oldest_are_converted_or_refused() -> None:
    after = standard.standard(relus(opset=6, ir_version=3), Path("m.onnx"))
    assert after.opset_import[0].version == versions.OLDEST
    assert np.array_equal(answers(after, {"v0": X})[0], X)


def test_shared_weights_stay_shared_and_same_bytes_come_twice(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32), "t")
    nodes = [helper.make_node("MatMul", ["x", "t"], ["h"]), helper.make_node("MatMul", ["h", "t"], ["y"])]
    model = made(nodes, [port("x", "n", 64)], [port("y", "n", 64)], [table])
    after = standard.standard(model, Path("m.onnx"))
    assert len(after.graph.initializer) == 1
    again = standard.standard(type(model).FromString(model.SerializeToString()), Path("m.onnx"))
    assert again.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True)


def test_two_nodes_of_one_name_are_told_apart() -> None:
    model = relus()
    for node in model.graph.node:
        node.name = "same"
    after = standard.standard(model, Path("m.onnx"))
    assert [node.name for node in after.graph.node] == ["same", "same_0", "same_1"]
    assert np.array_equal(answers(after, {"v0": X})[0], X)


def test_what_is_no_model_is_refused_in_the_checkers_words() -> None:
    model = made([helper.make_node("Relu", ["nothing"], ["y"])], [port("x", 4)], [port("y", 4)])
    with pytest.raises(PassError, match=r"m\.onnx: not a valid ONNX model"):
        standard.standard(model, Path("m.onnx"))


def test_a_graph_may_be_a_constant(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.arange(3, dtype=np.float32))
    after = standard.standard(made([helper.make_node("Constant", [], ["y"], value=value)], [], [port("y", 3)]), Path("m.onnx"))
    files.save(after, tmp_path)
    assert np.array_equal(check.run(check.session(tmp_path), {})[0], np.arange(3))


def test_large_weights_are_neither_copied_nor_lost(tmp_path: Path) -> None:
    square = np.random.default_rng(0).normal(size=(640, 640)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    unknown = helper.make_tensor_value_info("y", FLOAT, None)
    inside = made(nodes, [port("x", "n", 640)], [unknown], [numpy_helper.from_array(square, "w")])
    outside = type(inside).FromString(inside.SerializeToString())
    onnx.save(outside, tmp_path / "m.onnx", save_as_external_data=True, location="w e.bin")
    given = {"here": inside, "there": files.load_file(tmp_path / "m.onnx", outline=True)}
    for name, model in given.items():
        after = standard.standard(model, tmp_path / "m.onnx")
        assert bool(weights.referred(after.graph.initializer[0])) == (name == "there")
        (tmp_path / name).mkdir()
        assert files.save(after, tmp_path / name).outputs[0].shape == ("n", 640)
    assert (tmp_path / "here/model.onnx.data").read_bytes() == (tmp_path / "there/model.onnx.data").read_bytes() == square.tobytes()
