"""Graphs that the engine runs and tools trip over: through adopt, simplify and optimize they give what their source gives, on every
call of data that no invented input resembles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlpack.evaluation.data import calls, reader, sources
from mlpack.graphs import check, files
from mlpack.graphs.foreign import adopt
from mlpack.passes import optimize, simplify
from mlpack.passes.optimize import Optimize
from mlpack.passes.simplify import Simplify

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RANDOM = np.random.default_rng(0)
node = helper.make_node
Made = tuple[onnx.ModelProto, dict[str, Any]]


def port(name: str, *shape: Any, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(RANDOM.normal(0, 0.2, shape).astype(np.float32), name)


def value(name: str, given: Any, kind: Any = np.int64) -> Any:
    return numpy_helper.from_array(np.asarray(given, kind), name)


def values(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], stored: list[Any], opset: int = 18) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if opset < 9 else 10)


def messages_between_nodes() -> Made:
    """Edges are numbers of nodes: below their count, which no invented number knows."""
    nodes = [
        node("Gather", ["edge", "first"], ["source"], axis=0),
        node("Gather", ["edge", "second"], ["sink"], axis=0),
        node("Gather", ["x", "source"], ["m"]),
        node("MatMul", ["m", "w"], ["mm"]),
        node("Shape", ["mm"], ["size"]),
        node("Unsqueeze", ["sink", "one"], ["column"]),
        node("Expand", ["column", "size"], ["places"]),
        node("ScatterElements", ["x", "places", "mm"], ["y"], axis=0, reduction="add"),
    ]
    stored = [weight("w", 8, 8), value("first", 0), value("second", 1), value("one", [1])]
    made = model(nodes, [port("x", "nodes", 8), port("edge", 2, "edges", kind=INT)], [port("y", "nodes", 8)], stored)
    return made, {"x": values(6, 9, 8), "edge": RANDOM.integers(0, 9, (6, 2, 5))}


def multiples_of_64() -> Made:
    nodes = [
        node("Conv", ["x", "a"], ["down"], strides=[64, 64]),
        node("ConvTranspose", ["down", "b"], ["up"], strides=[64, 64]),
        node("Add", ["up", "x"], ["y"]),
    ]
    stored = [weight("a", 4, 3, 64, 64), weight("b", 4, 3, 64, 64)]
    return model(nodes, [port("x", "n", 3, "h", "w")], [port("y", "n", 3, "h", "w")], stored), {"x": values(5, 3, 128, 64)}


def size_as_an_input() -> Made:
    nodes = [
        node("Conv", ["image", "a"], ["m"], pads=[1, 1, 1, 1]),
        node("Shape", ["m"], ["s"], start=0, end=2),
        node("Concat", ["s", "size"], ["to"], axis=0),
        node("Resize", ["m", "", "", "to"], ["mask"], mode="linear"),
    ]
    ends = [port("image", "n", 3, 16, 16), port("size", 2, kind=INT)], [port("mask", "n", 2, "H", "W")]
    made = model(nodes, *ends, [weight("a", 2, 3, 3, 3)])
    return made, {"image": values(4, 1, 3, 16, 16), "size": np.array([[20 + i, 31] for i in range(4)])}


def halves_of_100() -> Made:
    nodes = [node("Split", ["x", "at"], ["a", "b"], axis=1), node("Mul", ["a", "b"], ["y"])]
    return model(nodes, [port("x", "n", "t")], [port("y", "n", "h")], [value("at", [50, 50])]), {"x": values(6, 100)}


def noise_and_length() -> Made:
    nodes = [
        node("Conv", ["x", "a"], ["c"], pads=[1, 1]),
        node("RandomNormalLike", ["c"], ["r"]),
        node("Add", ["c", "r"], ["noisy"]),
        node("ReduceMean", ["c", "one"], ["length"], keepdims=0),
    ]
    outputs = [port("noisy", "n", 32, "t"), port("length", "n", "t")]
    stored = [weight("a", 32, 16, 3), value("one", [1])]
    return model(nodes, [port("x", "n", 16, "t")], outputs, stored), {"x": values(4, 1, 16, 30)}


def opset_7_with_weights_as_inputs() -> Made:
    nodes = [
        node("Conv", ["x", "a"], ["c"], pads=[1, 1, 1, 1]),
        node("Upsample", ["c"], ["u"], scales=[1.0, 1.0, 2.0, 2.0]),
        node("GlobalAveragePool", ["u"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    stored = [weight("a", 16, 3, 3, 3), weight("w", 10, 16), weight("b", 10)]
    inputs = [port("x", "n", 3, 8, 8), port("a", 16, 3, 3, 3), port("w", 10, 16), port("b", 10)]
    return model(nodes, inputs, [port("y", "n", 10)], stored, 7), {"x": values(6, 3, 8, 8)}


def branches_within_branches() -> Made:
    inner = [
        helper.make_graph([node("MatMul", ["x", "k"], ["i0"])], "a", [], [port("i0", "n", 6)], [weight("k", 6, 6)]),
        helper.make_graph([node("Neg", ["x"], ["i1"])], "b", [], [port("i1", "n", 6)]),
    ]
    outer = [
        helper.make_graph([node("If", ["big"], ["o0"], then_branch=inner[0], else_branch=inner[1])], "c", [], [port("o0", "n", 6)]),
        helper.make_graph([node("Mul", ["x", "k"], ["o1"])], "d", [], [port("o1", "n", 6)], [weight("k", 6)]),
    ]
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "none"], ["some"]),
        node("Greater", ["s", "two"], ["big"]),
        node("If", ["some"], ["y"], then_branch=outer[0], else_branch=outer[1]),
    ]
    stored = [value("none", 0, np.float32), value("two", 2, np.float32)]
    return model(nodes, [port("x", "n", 6)], [helper.make_tensor_value_info("y", FLOAT, None)], stored), {"x": values(12, 6)}


def steps_of_a_loop() -> Made:
    nodes = [
        node("MatMul", ["s", "k"], ["m"]),
        node("Tanh", ["m"], ["t"]),
        node("Identity", ["go"], ["on"]),
        node("Neg", ["t"], ["each"]),
    ]
    inside = [port("i", kind=INT), port("go", kind=BOOL), port("s", "n", 8)]
    outside = [port("on", kind=BOOL), port("t", "n", 8), port("each", "n", 8)]
    body = helper.make_graph(nodes, "b", inside, outside, [weight("k", 8, 8)])
    ends = [port("x", "n", 8), port("steps", kind=INT)], [port("last", "n", 8), port("all", "k", "n", 8)]
    return model([node("Loop", ["steps", "", "x"], ["last", "all"], body=body)], *ends, []), {
        "x": values(5, 1, 8), "steps": np.array([1, 2, 0, 3, 5])
    }  # fmt: skip


def nobodys_axes() -> Made:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "z"], ["y"])]
    made = model(nodes, [port("x", -1, "?", 8), port("z", -1, "?", 8)], [port("y", -1, "?", 8)], [weight("w", 8, 8)])
    return made, {"x": values(6, 1, 3, 8), "z": values(6, 1, 1, 8)}


def nodes_in_any_order() -> Made:
    nodes = [node("Relu", ["m"], ["y"]), node("MatMul", ["x", "w"], ["m"])]
    return model(nodes, [port("x", "n", 16)], [port("y", "n", 16)], [weight("w", 16, 16)]), {"x": values(6, 16)}


def queries_in_groups() -> Made:
    nodes = [
        node("MatMul", ["x", "a"], ["q"]),
        node("MatMul", ["x", "b"], ["k"]),
        node("Attention", ["q", "k", "k"], ["y"], q_num_heads=8, kv_num_heads=2, is_causal=1),
    ]
    stored = [weight("a", 64, 64), weight("b", 64, 16)]
    return model(nodes, [port("x", "n", "t", 64)], [port("y", "n", "t", 64)], stored, 23), {"x": values(4, 1, 10, 64)}


def an_output_that_is_said_wrongly() -> Made:
    made = model([node("MatMul", ["x", "w"], ["y"])], [port("x", "n", 6)], [port("y", 1, 4)], [weight("w", 6, 4)])
    return made, {"x": values(6, 6)}


MAKERS: tuple[Callable[[], Made], ...] = (
    messages_between_nodes, multiples_of_64, size_as_an_input, halves_of_100, noise_and_length, opset_7_with_weights_as_inputs,
    branches_within_branches, steps_of_a_loop, nobodys_axes, nodes_in_any_order, queries_in_groups, an_output_that_is_said_wrongly,
)  # fmt: skip


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_the_source_and_its_package_give_the_same(maker: Callable[[], Made], tmp_path: Path) -> None:
    made, data = maker()
    onnx.save(made, tmp_path / "m.onnx")
    np.savez(tmp_path / "eval.npz", **data)
    places = {name: tmp_path / name for name in ("taken", "simple", "optimised", "calls", "few")}
    for place in places.values():
        place.mkdir()
    adopt.adopt(tmp_path / "m.onnx", (), places["taken"])
    signature = files.read_signature(places["taken"])
    sources.read("eval.npz", signature, (tmp_path,), places["calls"], tokenised=False)
    calls.excerpt(places["calls"], places["few"], 4, 1 << 26)
    simplify.run(places["taken"], Simplify(examples=places["few"]), places["simple"])
    optimize.run(places["simple"], Optimize(examples=places["few"]), places["optimised"])
    noted = json.loads((places["simple"] / "notes.json").read_text())
    assert noted["compared_on"]["recorded"] >= 4
    assert "rejected" not in noted
    how = json.loads((places["optimised"] / "engine.json").read_text())["graph_optimization_level"]
    ours = check.session(places["optimised"], "ORT_ENABLE_ALL" if how else "ORT_DISABLE_ALL")
    theirs = check.session_of(str(tmp_path / "m.onnx"), "ORT_DISABLE_ALL")
    judged = [i for i, spec in enumerate(signature.outputs) if spec.name not in noted.get("random_outputs", ())]
    for feed in reader.read(places["calls"], places["taken"], signature):
        got, want = check.run(ours, feed), check.run(theirs, feed)
        assert check.difference([got[i] for i in judged], [want[i] for i in judged]) < 1e-5
    assert judged
