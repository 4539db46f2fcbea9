"""Brief graphs: other names between nodes, the same numbers, and every name that somebody looks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.support.models.foreign_graphs import constant, model, node, port, weights
from tests.support.models.quantized_graphs import KINDS

from mlpack.graphs import brief, check, files

LONG = "functional_1/some/block/of/layers/"


def shortened(made: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of it in brief, which is no different the second time."""
    copy = type(made).FromString(made.SerializeToString())
    brief.shorten(copy)
    again = type(copy).FromString(copy.SerializeToString())
    brief.shorten(again)
    assert again.SerializeToString(deterministic=True) == copy.SerializeToString(deterministic=True)
    onnx.checker.check_model(copy)
    return copy


def same(made: onnx.ModelProto, feeds: list[dict[str, Any]]) -> onnx.ModelProto:
    """It in brief, having the same answers."""
    copy = shortened(made)
    before, after = (check.session_of(each.SerializeToString(), "ORT_DISABLE_ALL") for each in (made, copy))
    for feed in feeds:
        for one, other in zip(check.run(before, feed), check.run(after, feed), strict=True):
            np.testing.assert_array_equal(one, other)
    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_names_of_layers_stay(kind: str) -> None:
    made, feeds = KINDS[kind]()
    copy = same(made, feeds)
    assert copy.graph.input == made.graph.input
    assert copy.graph.output == made.graph.output
    assert copy.graph.initializer == made.graph.initializer
    assert [each.name for each in files.nodes(copy.graph)] == [each.name for each in files.nodes(made.graph)]
    assert copy.ByteSize() <= made.ByteSize()


def test_long_names_go() -> None:
    names = [f"{LONG}{number}/StatefulPartitionedCall:0" for number in range(12)]
    nodes = [node("Relu", [take], [give], f"n{k}") for k, (take, give) in enumerate(zip(["x", *names], [*names, "y"], strict=True))]
    copy = same(model(nodes, [port("x", [2])], [port("y", [2])], []), [{"x": np.array([1, -1], "f4")}])
    assert not any(LONG in name for each in copy.graph.node for name in (*each.input, *each.output))


def test_names_that_are_taken_are_not_given() -> None:
    """An input, an output, a weight and a body's names are called as new names are."""
    gives = [port("t3", [2])]
    then = helper.make_graph([node("Add", ["t0", "h"], ["t3"], "a")], "then", [], gives, [constant("t5", np.ones(2, "f4"))])
    other = helper.make_graph([node("Neg", ["h"], ["z"], "b"), node("Mul", ["z", "t1"], ["t3"], "c")], "else", [], gives)
    nodes = [
        node("Exp", ["t0"], ["h"], "exp"),
        node("If", ["flag"], ["t4"], "if", then_branch=then, else_branch=other),
        node("Add", ["t4", "t1"], ["t2"], "add"),
        node("Sqrt", ["h"], ["s"], "root"),
        node("Sub", ["s", "t2"], ["y"], "less"),
    ]
    made = model(
        nodes, [port("t0", [2]), port("flag", [], TensorProto.BOOL)], [port("t2", [2]), port("y", [2])],
        [constant("t1", np.array([2, 3], "f4"))],
    )  # fmt: skip
    feeds = [{"t0": np.array([0.5, 2], "f4"), "flag": np.array(flag)} for flag in (True, False)]
    copy = same(made, feeds)
    given = [name for each in files.nodes(copy.graph) for name in each.output]
    assert {"t0", "t1", "t5"}.isdisjoint(given)


def test_branches_may_use_one_name_each() -> None:
    """Names of one branch are not seen in the other, nor behind the two."""
    gives = [port("z", [2])]
    then, other = (
        helper.make_graph([node(kind, ["h"], ["inner"], "a"), node("Exp", ["inner"], ["z"], "b")], kind, [], gives)
        for kind in ("Neg", "Abs")
    )
    nodes = [
        node("Tanh", ["x"], ["h"], "tanh"),
        node("If", ["flag"], ["i"], "if", then_branch=then, else_branch=other),
        node("Relu", ["h"], ["inner2"], "relu"),
        node("Add", ["i", "inner2"], ["y"], "add"),
    ]
    made = model(nodes, [port("x", [2]), port("flag", [], TensorProto.BOOL)], [port("y", [2])], [])
    same(made, [{"x": np.array([0.5, -2], "f4"), "flag": np.array(flag)} for flag in (True, False)])


def test_bodies_within_bodies() -> None:
    """A Loop in a branch; its body reads what the graph and the branch made, and carries a state."""
    body = helper.make_graph(
        [
            node("Add", ["state", "far"], ["more"], "more"),
            node("Add", ["more", "near"], ["next"], "next"),
            node("Identity", ["go"], ["on"], "on"),
        ],
        "body", [port("i", [], TensorProto.INT64), port("go", [], TensorProto.BOOL), port("state", [2])],
        [port("on", [], TensorProto.BOOL), port("next", [2])],
    )  # fmt: skip
    gives = [port("z", [2])]
    then = helper.make_graph(
        [node("Exp", ["far"], ["near"], "near"), node("Loop", ["three", "", "near"], ["z"], "loop", body=body)], "then", [], gives
    )
    other = helper.make_graph([node("Identity", ["far"], ["z"], "same")], "else", [], gives)
    nodes = [node("Tanh", ["x"], ["far"], "far"), node("If", ["flag"], ["y"], "if", then_branch=then, else_branch=other)]
    made = model(nodes, [port("x", [2]), port("flag", [], TensorProto.BOOL)], [port("y", [2])], [constant("three", np.array(3))])
    same(made, [{"x": np.array([0.5, -2], "f4"), "flag": np.array(flag)} for flag in (True, False)])


def test_a_node_without_a_name_is_called_by_its_result() -> None:
    nodes = [node("Relu", ["x"], [f"{LONG}a"]), node("Exp", [f"{LONG}a"], [f"{LONG}b"], "named"), node("Neg", [f"{LONG}b"], ["y"])]
    copy = same(model(nodes, [port("x", [2])], [port("y", [2])], []), [{"x": np.array([1, -1], "f4")}])
    assert [each.name or each.output[0] for each in copy.graph.node] == [f"{LONG}a", "named", "y"]


def test_tensors_that_are_annotated_keep_their_names() -> None:
    made = model([node("Relu", ["x"], ["h"], "a"), node("Exp", ["h"], ["y"], "b")], [port("x", [2])], [port("y", [2])], [])
    made.graph.quantization_annotation.add().tensor_name = "h"
    copy = type(made).FromString(made.SerializeToString())
    brief.shorten(copy)
    assert copy == made


def test_attributes_that_say_what_holds_anyway_go() -> None:
    """By the operator set of the graph; those of other domains, and those with another value, stay."""
    f = weights()
    nodes = [
        node("Gemm", ["x", "w"], ["h"], "gemm", alpha=1.0, beta=1.0, transA=0, transB=1),
        node("Softmax", ["h"], ["s"], "old", axis=1),
        node("FusedGemm", ["s", "v"], ["t"], "fused", alpha=1.0, domain="com.microsoft"),
        node("Cast", ["t"], ["c"], "cast", to=1),
        node("Transpose", ["c"], ["y"], "turn", perm=[1, 0]),
    ]
    said = {"opset_imports": [helper.make_opsetid("", 11), helper.make_opsetid("com.microsoft", 1)], "ir_version": 8}
    made = model(nodes, [port("x", [2, 8])], [port("y", [8, 2])], [f("w", 8, 8), f("v", 8, 8)], **said)
    copy = type(made).FromString(made.SerializeToString())
    brief.shorten(copy)
    left = {each.name: sorted(attribute.name for attribute in each.attribute) for each in copy.graph.node}
    assert left == {"gemm": ["transB"], "old": [], "fused": ["alpha"], "cast": ["to"], "turn": ["perm"]}
    made.opset_import[0].version = 17  # where Softmax has another default
    brief.shorten(made)
    assert [attribute.name for attribute in made.graph.node[1].attribute] == ["axis"]
