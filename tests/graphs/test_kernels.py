"""Kernels: graphs say the same by operators that the engine is quick at, and what only looks alike stays."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from tests.support.models.foreign_graphs import constant, model, node, port, weights

from mlpack.graphs import check, kernels

_SHAPE = (2, 8, 6, 6)


def restated(made: onnx.ModelProto) -> Counter[str]:
    """The operators afterwards; the numbers are the same."""
    after = onnx.ModelProto.FromString(made.SerializeToString())
    kernels.restate(after)
    kernels.spread_softmax(after)
    onnx.checker.check_model(after)
    random = np.random.default_rng(1)
    for scale in (1, 4):
        feed: dict[str, Any] = {
            value.name: random.normal(0, scale, [axis.dim_value or 3 for axis in value.type.tensor_type.shape.dim]).astype("f4")
            for value in made.graph.input
        }
        want, got = (check.run(check.session_of(each.SerializeToString(), "ORT_DISABLE_ALL"), feed) for each in (made, after))
        for one, other in zip(want, got, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)
    return Counter(each.op_type for each in after.graph.node)


def graph(nodes: list[onnx.NodeProto], *held: onnx.TensorProto, shape: tuple[int, ...] = _SHAPE, **more: Any) -> onnx.ModelProto:
    return model(nodes, [port("x", list(shape))], [port("y", [None] * len(shape), **more)], list(held))


def scalar(name: str, value: float) -> onnx.TensorProto:
    return constant(name, np.float32(value))


SIX = (scalar("three", 3), scalar("zero", 0), scalar("six", 6), scalar("sixth", 1 / 6))


def relu6(by: str = "six") -> list[onnx.NodeProto]:
    return [node("Add", ["three", "x"], ["a"], "shift"), node("Clip", ["a", "zero", by], ["c"], "clip")]


HARD = {
    "gate and then six": [node("Mul", ["x", "c"], ["m"], "gate"), node("Div", ["m", "six"], ["y"], "six")],
    "gate and then a sixth": [node("Mul", ["c", "x"], ["m"], "gate"), node("Mul", ["sixth", "m"], ["y"], "sixth")],
    "six and then the gate": [node("Div", ["c", "six"], ["h"], "six"), node("Mul", ["x", "h"], ["y"], "gate")],
    "no gate": [node("Mul", ["c", "sixth"], ["y"], "sixth")],
}


@pytest.mark.parametrize("form", HARD)
def test_hard_swish_is_a_gate(form: str) -> None:
    found = restated(graph(relu6() + HARD[form], *SIX))
    assert found == Counter(HardSigmoid=1, **({} if form == "no gate" else {"Mul": 1}))


ALIKE = {
    "another divisor": [*relu6(), node("Mul", ["x", "c"], ["m"], "gate"), node("Div", ["m", "three"], ["y"], "by")],
    "six through it": [*relu6(), node("Div", ["six", "c"], ["d"], "by"), node("Clip", ["d", "zero", "six"], ["y"], "end")],
    "the clip read twice": [*relu6(), node("Div", ["c", "six"], ["d"], "by"), node("Add", ["c", "d"], ["y"], "both")],
    "from three": [
        node("Add", ["x", "three"], ["a"], "shift"), node("Clip", ["a", "three", "six"], ["c"], "clip"),
        node("Div", ["c", "six"], ["y"], "by"),
    ],
    "squared": [*relu6(), node("Mul", ["c", "c"], ["m"], "square"), node("Div", ["m", "six"], ["y"], "by")],
    "no upper end": [
        node("Add", ["x", "three"], ["a"], "shift"), node("Clip", ["a", "zero"], ["c"], "clip"),
        node("Div", ["c", "six"], ["y"], "by"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", ALIKE)
def test_what_looks_like_it_stays(form: str) -> None:
    if form == "six through it":
        held = (*SIX[:1], scalar("zero", 0.5), *SIX[2:])
        assert "HardSigmoid" not in restated(graph(ALIKE[form], *held))
    else:
        assert "HardSigmoid" not in restated(graph(ALIKE[form], *SIX))


def test_the_clip_as_an_output_stays() -> None:
    made = graph(relu6() + HARD["six and then the gate"], *SIX)
    made.graph.output.append(port("c", list(_SHAPE)))
    assert "HardSigmoid" not in restated(made)


def test_sums_of_two_are_additions() -> None:
    nodes = [node("Sum", ["x", "x"], ["a"], "two"), node("Sum", ["a", "x", "x"], ["y"], "three")]
    assert restated(graph(nodes)) == Counter(Add=1, Sum=1)


def norm(channels: int = 8) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    f = weights()
    held = [f(name, channels) for name in ("s", "b", "m")] + [constant("v", np.linspace(0.5, 2, channels, dtype="f4"))]
    return [node("BatchNormalization", ["x", "s", "b", "m", "v"], ["n"], "norm")], held


@pytest.mark.parametrize("axes", [(8, 1, 1), (1, 8, 1, 1), ()])
def test_factors_by_channel_go_into_the_normalisation(axes: tuple[int, ...]) -> None:
    nodes, held = norm()
    nodes += [node("Mul", ["n", "f"], ["k"], "factor"), node("Add", ["o", "k"], ["y"], "offset")]
    f = weights(3)
    assert restated(graph(nodes, *held, f("f", *axes), f("o", *axes))) == Counter(BatchNormalization=1)


@pytest.mark.parametrize(("shape", "axes"), [((2, 8, 8), (8, 1, 1)), ((2, 6, 6, 6), (6,)), ((2, 8, 6, 6), (1, 1, 1, 1))])
def test_factors_along_another_axis_stay(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    nodes, held = norm(shape[1])
    nodes.append(node("Mul", ["n", "f"], ["y"], "factor"))
    rank = max(len(shape), len(axes))
    f = weights(3)
    made = model(
        nodes, [port("x", [1 if axes == (8, 1, 1) else shape[0], *shape[1:]])], [port("y", [None] * rank)], [*held, f("f", *axes)]
    )
    assert restated(made)["Mul"] == 1


@pytest.mark.parametrize(("shape", "axis", "spread"), [
    ((2, 8, 6, 6), 1, True), ((2, 8, 6, 6), -2, True), ((2, 8, 6, 6), 3, False), ((2, 8, 6, 6), -1, False), ((2, 8, 6), 1, False),
])  # fmt: skip
@pytest.mark.parametrize("version", [13, 18])
def test_softmax_along_an_inner_axis(shape: tuple[int, ...], axis: int, spread: bool, version: int) -> None:
    nodes = [node("Abs", ["x"], ["a"], "abs"), node("Softmax", ["a"], ["y"], "soft", axis=axis)]
    made = graph(nodes, shape=shape)
    made.opset_import[0].version = version
    assert restated(made)["Softmax"] == (0 if spread else 1)


def test_softmax_of_an_older_operator_set_stays() -> None:
    made = graph([node("Abs", ["x"], ["a"], "abs"), node("Softmax", ["a"], ["y"], "soft", axis=1)])
    made.opset_import[0].version = 11
    made.ir_version = 6
    assert restated(made)["Softmax"] == 1


def test_bodies_keep_what_they_read() -> None:
    gives = [port("z", list(_SHAPE))]
    then = onnx.helper.make_graph([node("Neg", ["c"], ["z"], "neg")], "then", [], gives)
    other = onnx.helper.make_graph([node("Identity", ["x"], ["z"], "same")], "else", [], gives)
    nodes = [
        *relu6(),
        node("Div", ["c", "six"], ["h"], "six"),
        node("If", ["flag"], ["i"], "if", then_branch=then, else_branch=other),
        node("Add", ["h", "i"], ["y"], "end"),
    ]
    made = graph(nodes, *SIX, constant("flag", np.array(True)))
    assert "HardSigmoid" not in restated(made)


def test_a_graph_that_inference_refuses_stays() -> None:
    nodes, held = norm()
    nodes.append(node("Mul", ["n", "f"], ["y"], "factor"))
    made = graph(nodes, *held, weights(3)("f", 8, 1, 1))
    del made.opset_import[:]
    kernels.restate(made)
    assert [each.op_type for each in made.graph.node] == ["BatchNormalization", "Mul"]
