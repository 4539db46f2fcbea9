"""Simplify: recurrent operators that are told to begin with zeros, however an exporter makes them, begin without being told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.support.models.foreign_graphs import constant, model, node, port, weights

from mlpack.graphs import check, files
from mlpack.passes import simplify
from mlpack.passes.simplify import Simplify

F = weights()
HELD = [F("w", 2, 64, 12), F("r", 2, 64, 16), F("g", 2, 48, 12), F("gr", 2, 48, 16), constant("one", np.array([1]))]
SIZES = [constant("two", np.array([2])), constant("sixteen", np.array([16])), constant("nought", np.float32(0))]
BATCH = [
    node("Shape", ["x"], ["shape"], "shape"),
    node("Slice", ["shape", "one", "two"], ["n"], "slice"),
]


def _expanded() -> list[onnx.NodeProto]:
    """As tf2onnx writes it: a scalar that is spread over the batch, once for each direction."""
    return [
        *BATCH,
        node("Cast", ["n"], ["n32"], "cast", to=TensorProto.INT32),
        node("Cast", ["n32"], ["n64"], "back", to=TensorProto.INT64),
        node("Concat", ["n64", "sixteen"], ["size"], "size", axis=0),
        node("Expand", ["nought", "size"], ["flat"], "zeros"),
        node("Unsqueeze", ["flat", "zero"], ["h1"], "unsqueeze"),
        node("Concat", ["h1", "h1"], ["h"], "both", axis=0),
    ]


def _filled() -> list[onnx.NodeProto]:
    """As torch writes it: a tensor of a shape, filled."""
    return [
        *BATCH,
        node("Concat", ["two", "n", "sixteen"], ["size"], "size", axis=0),
        node("ConstantOfShape", ["size"], ["h"], "fill"),
    ]


def _turned() -> list[onnx.NodeProto]:
    """Constant zeros, cut and turned."""
    return [
        node("Slice", ["wide", "zero", "two", "zero"], ["cut"], "cut"),
        node("Transpose", ["cut"], ["turned"], "turn", perm=[0, 2, 1]),
        node("Identity", ["turned"], ["same"], "same"),
        node("Expand", ["same", "whole"], ["h"], "spread"),
    ]


MADE = {"expanded": _expanded, "filled": _filled, "turned": _turned}
CONSTANTS = [constant("zero", np.array([0])), constant("wide", np.zeros((3, 16, 1), "f4")), constant("whole", np.array([2, 2, 16]))]


def _graph(states: list[onnx.NodeProto], kind: str, *, held: list[Any] | None = None) -> onnx.ModelProto:
    w, r = ("w", "r") if kind == "LSTM" else ("g", "gr")
    begins = ["h", "h"] if kind == "LSTM" else ["h"]
    rnn = node(kind, ["x", w, r, "", "", *begins], ["y"], "rnn", hidden_size=16, direction="bidirectional")
    return model(
        [*states, rnn], [port("x", [5, "n", 12])], [port("y", [5, 2, "n", 16])], [*HELD, *SIZES, *CONSTANTS, *(held or [])]
    )


def simplified(made: onnx.ModelProto, tmp_path: Path) -> onnx.ModelProto:
    """What the pass makes of it, having the same answers."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    files.save(made, tmp_path / "in")
    simplify.run(tmp_path / "in", Simplify(), tmp_path / "out")
    feed = {"x": np.random.default_rng(1).normal(size=(5, 2, 12)).astype("f4")}
    exact, ours = (check.run(check.session(tmp_path / name), feed) for name in ("in", "out"))
    np.testing.assert_allclose(ours[0], exact[0], atol=1e-5)
    return files.load(tmp_path / "out")


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("made", MADE)
def test_states_of_zeros_are_left_out(made: str, kind: str, tmp_path: Path) -> None:
    found = simplified(_graph(MADE[made](), kind), tmp_path)
    assert [node.op_type for node in found.graph.node] == [kind]
    assert not any(found.graph.node[0].input[5:])


def test_constant_zeros_too(tmp_path: Path) -> None:
    found = simplified(_graph([], "LSTM", held=[constant("h", np.zeros((2, 2, 16), "f4"))]), tmp_path)
    assert not any(found.graph.node[0].input[5:])


@pytest.mark.parametrize(
    "states",
    [
        [
            *BATCH,
            node("Concat", ["two", "n", "sixteen"], ["s"], axis=0),
            node("ConstantOfShape", ["s"], ["h"], value=constant("v", np.array([1], "f4"))),
        ],
        [
            *BATCH,
            node("Concat", ["one", "n", "sixteen"], ["s"], axis=0),
            node("ConstantOfShape", ["s"], ["z"]),
            node("Exp", ["z"], ["e"]),
            node("Concat", ["z", "e"], ["h"], axis=0),
        ],
        [node("Slice", ["some", "zero", "two", "zero"], ["h"])],
    ],
    ids=["ones", "one of two", "nearly"],
)
def test_other_states_stay(states: list[onnx.NodeProto], tmp_path: Path) -> None:
    nearly = np.zeros((2, 2, 16), "f4")
    nearly[1, 1, 15] = 1e-3
    found = simplified(_graph(states, "LSTM", held=[constant("some", nearly)]), tmp_path)
    rnn = next(node for node in found.graph.node if node.op_type == "LSTM")
    assert all(rnn.input[5:7])


def test_a_state_that_a_loop_hands_on_stays(tmp_path: Path) -> None:
    """It is zeros at first, and the body calls it `h` as the graph calls its zeros; another is zeros in every turn."""
    body = helper.make_graph(
        [
            node("LSTM", ["x", "w", "r", "", "", "s", "z"], ["o", "s2", ""], "rnn", hidden_size=16, direction="bidirectional"),
            node("Identity", ["go"], ["on"], "same"),
        ],
        "body", [port("i", [], TensorProto.INT64), port("go", [], TensorProto.BOOL), port("s", None)],
        [port("on", [], TensorProto.BOOL), port("s2", None), port("o", None)],
    )  # fmt: skip
    nodes = [
        *_filled(),
        node("Identity", ["h"], ["z"], "z"),
        node("Loop", ["turns", "true", "h"], ["last", "y"], "loop", body=body),
    ]
    held = [*HELD, *SIZES, constant("turns", np.array(3)), constant("true", np.array(True))]
    made = model(nodes, [port("x", [5, "n", 12])], [port("y", [3, 5, 2, "n", 16])], held)
    found = simplified(made, tmp_path)
    rnn = next(node for node in files.nodes(found.graph) if node.op_type == "LSTM")
    assert rnn.input[5]
    assert len(rnn.input) < 7 or not rnn.input[6]


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "in any order"])
def test_what_is_not_read_is_gone(order: int, tmp_path: Path) -> None:
    """A chain, a branch of a node of which something else is read, and what only a body that goes read. Not every file has nodes
    in the order in which they compute."""
    gives = [port("z", [5, 2, 2, 16])]
    then = helper.make_graph([node("Neg", ["y"], ["z"], "neg"), node("Exp", ["y"], ["e"], "unread")], "then", [], gives)
    other = helper.make_graph([node("Abs", ["kept"], ["z"], "abs")], "else", [], gives)
    never = helper.make_graph([node("Abs", ["only"], ["z"], "abs")], "never", [], gives)
    nodes = [
        *_filled(),
        node("LSTM", ["x", "w", "r", "", "", "h", "h"], ["y", "yh", "yc"], "rnn", hidden_size=16, direction="bidirectional"),
        node("Cos", ["yc"], ["cosine"], "cosine"),
        node("Sin", ["cosine"], ["sine"], "sine"),
        node("Sqrt", ["y"], ["only"], "only"),
        node("Sign", ["y"], ["kept"], "kept"),
        node("If", ["flag"], ["never"], "never", then_branch=never, else_branch=never),
        node("If", ["flag"], ["i"], "if", then_branch=then, else_branch=other),
        node("Split", ["i", "halves"], ["first", "second"], "split", axis=2),
    ]
    held = [*HELD, *SIZES, constant("halves", np.array([1, 1]))]
    inputs = [port("x", [5, 2, 12]), port("flag", [], TensorProto.BOOL)]
    made = model(nodes[::order], inputs, [port("second", [5, 2, 1, 16])], held)
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    files.save(made, tmp_path / "in")
    simplify.run(tmp_path / "in", Simplify(), tmp_path / "out")
    found = Counter(node.op_type for node in files.nodes(files.load(tmp_path / "out").graph))
    assert found == Counter(["LSTM", "Sign", "If", "Neg", "Abs", "Split"])
    for flag in (True, False):
        feed = {"x": np.random.default_rng(1).normal(size=(5, 2, 12)).astype("f4"), "flag": np.array(flag)}
        exact, ours = (check.run(check.session(tmp_path / name), feed) for name in ("in", "out"))
        np.testing.assert_allclose(ours[0], exact[0], atol=1e-5)
