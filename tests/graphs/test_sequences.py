"""Sequences that a graph ends with become outputs of their own, each with the numbers of the sequence's member."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.errors import PassError
from mlpack.graphs import check, files
from mlpack.graphs.foreign import adopt, sequences

Ints = list[int]


def node(kind: str, inputs: list[str], output: str, **said: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=output, **said)


def graph(
    nodes: list[onnx.NodeProto], constants: dict[str, Any] | None = None, axes: tuple[Any, ...] = ("rows", 6)
) -> onnx.ModelProto:
    """X -> `nodes`, which make the sequence `parts`; beside it `sum`, a tensor, before and after."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    outputs = [
        helper.make_tensor_value_info("before", TensorProto.FLOAT, axes),
        helper.make_value_info("parts", helper.make_sequence_type_proto(tensor)),
        helper.make_tensor_value_info("after", TensorProto.FLOAT, axes),
    ]
    ends = [node("Relu", ["X"], "before"), *nodes, node("Neg", ["X"], "after")]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    given = [helper.make_tensor_value_info("X", TensorProto.FLOAT, axes)]
    return helper.make_model(
        helper.make_graph(ends, "g", given, outputs, stored), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def i64(values: Any) -> Any:
    return np.asarray(values, dtype=np.int64)


KNOWN: dict[str, Callable[[], onnx.ModelProto]] = {
    "construct": lambda: graph([node("Abs", ["X"], "a"), node("SequenceConstruct", ["a", "X"], "parts")]),
    "construct-named": lambda: graph([node("SequenceConstruct", ["X", "before"], "s"), node("Identity", ["s"], "parts")]),
    "insert": lambda: graph(
        [
            node("SequenceEmpty", [], "none"),
            node("Abs", ["X"], "a"),
            node("SequenceInsert", ["none", "a"], "one"),
            node("SequenceInsert", ["one", "X"], "parts"),
        ]
    ),
    "split-lengths": lambda: graph([node("SplitToSequence", ["X", "n"], "parts", axis=1)], {"n": i64([1, 3, 2])}),
    "split-steps": lambda: graph([node("SplitToSequence", ["X", "n"], "parts", axis=1)], {"n": i64(4)}),
    "split-ones": lambda: graph([node("SplitToSequence", ["X"], "parts", axis=-1)]),
    "split-flat": lambda: graph([node("SplitToSequence", ["X"], "parts", axis=1, keepdims=0)]),
    "split-inner": lambda: graph([node("Abs", ["X"], "a"), node("SplitToSequence", ["a"], "parts", axis=1)]),
    "split-more": lambda: graph(
        [node("SplitToSequence", ["X", "n"], "s", axis=1), node("SequenceInsert", ["s", "X"], "parts")], {"n": i64([2, 4])}
    ),
}
UNKNOWN: dict[str, Callable[[], onnx.ModelProto]] = {
    "rows": lambda: graph([node("SplitToSequence", ["X"], "parts", axis=0)]),
    "place": lambda: graph(
        [node("SequenceConstruct", ["X"], "s"), node("SequenceInsert", ["s", "before", "p"], "parts")], {"p": i64(0)}
    ),
    "erased": lambda: graph([node("SequenceConstruct", ["X", "before"], "s"), node("SequenceErase", ["s"], "parts")]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_members_are_outputs_in_the_sequences_place(name: str, tmp_path: Path) -> None:
    model = KNOWN[name]()
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    before, parts, after = check.run(check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL"), {"X": x})
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    adopt.adopt(tmp_path / "model.onnx", (), tmp_path / "out")
    specs = files.read_signature(tmp_path / "out").outputs
    assert [spec.name for spec in specs] == ["before", *(f"parts_{number}" for number in range(len(parts))), "after"]
    got = check.run(check.session(tmp_path / "out"), {"X": x})
    for mine, theirs, spec in zip(got, [before, *parts, after], specs, strict=True):
        assert np.array_equal(mine, theirs)
        assert len(spec.shape) == theirs.ndim
    assert "Sequence" not in "".join(each.op_type for each in files.load(tmp_path / "out").graph.node)


@pytest.mark.parametrize("name", UNKNOWN)
def test_sequences_of_unknown_length_are_refused_with_way_out(name: str, tmp_path: Path) -> None:
    onnx.save(UNKNOWN[name](), tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    with pytest.raises(PassError, match=r"'parts' is not a tensor but a sequence of tensors.*output of its own"):
        adopt.adopt(tmp_path / "model.onnx", (), tmp_path / "out")


def test_a_sequence_that_is_read_within_the_graph_stays_there() -> None:
    nodes = [node("SequenceConstruct", ["X", "before"], "parts"), node("SequenceLength", ["parts"], "count")]
    model = graph(nodes)
    model.graph.output.append(helper.make_tensor_value_info("count", TensorProto.INT64, []))
    assert sequences.rewritten(model) == {"parts": ("parts_0", "parts_1")}
    x = np.ones((2, 6), dtype=np.float32)
    *_, count = check.run(check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL"), {"X": x})
    assert count == 2


def test_names_that_are_taken_are_left_alone() -> None:
    model = graph([node("Abs", ["X"], "parts_0"), node("SequenceConstruct", ["parts_0", "X"], "parts")])
    assert sequences.rewritten(model) == {"parts": ("parts_0_", "parts_1")}
    check.session_of(model.SerializeToString(), "ORT_DISABLE_ALL")


def test_what_only_a_graph_in_a_nested_one_reads_stays() -> None:
    """An Identity looks like what made a sequence; its reader may stand any number of graphs deeper."""
    body = helper.make_graph([node("Add", ["same", "same"], "sum0")], "b", [], [helper.make_empty_tensor_value_info("sum0")])
    for level in (1, 2):
        name = f"sum{level}"
        inner = node("If", ["yes"], name, then_branch=body, else_branch=body)
        body = helper.make_graph([inner], f"b{level}", [], [helper.make_empty_tensor_value_info(name)])
    deep = helper.make_node("If", ["yes"], ["deep"], name="deep", then_branch=body, else_branch=body)
    made = graph([node("Identity", ["X"], "same"), deep, node("SequenceConstruct", ["X", "X"], "parts")], {"yes": True})
    made.graph.output.append(helper.make_tensor_value_info("deep", TensorProto.FLOAT, None))
    assert sequences.rewritten(made) == {"parts": ("parts_0", "parts_1")}
    assert not [each for each in made.graph.node if each.op_type == "SequenceConstruct"]
    given = np.arange(12, dtype=np.float32).reshape(2, 6)
    found = check.session_of(made.SerializeToString(), "ORT_DISABLE_ALL").run(["deep"], {"X": given})
    np.testing.assert_array_equal(found[0], 2 * given)
