"""Small graphs for the quantize pass, one for each kind of thing that quantizers stumble over: `KINDS` by name.

A maker gives a model and inputs that it takes; every weighted node is large enough to be worth it unless the kind is about that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from tests.support.models.foreign_graphs import constant, model, node, port, weights

Made = tuple[onnx.ModelProto, list[dict[str, Any]]]


def feeds(count: int = 3, **shapes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Random inputs of these shapes."""
    random = np.random.default_rng(7)
    return [{name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()} for _ in range(count)]


def _opset(version: int) -> dict[str, Any]:
    return {"opset_imports": [helper.make_opsetid("", version)], "ir_version": 8}


def stacks() -> Made:
    """A product with three-dimensional weights between two that are matrices."""
    f = weights()
    nodes = [
        node("MatMul", ["x", "a"], ["q"], "in"),
        node("MatMul", ["q", "s"], ["u"], "heads"),
        node("MatMul", ["u", "a"], ["y"], "out"),
    ]
    held = [f("a", 64, 64), f("s", 3, 64, 64)]
    return model(nodes, [port("x", [3, 8, 64])], [port("y", [3, 8, 64])], held), feeds(x=(3, 8, 64))


def recurrent() -> Made:
    """A GRU, an RNN and a product."""
    f = weights()
    nodes = [
        node("GRU", ["x", "gw", "gr"], ["g", ""], "gru", hidden_size=32),
        node("Squeeze", ["g", "one"], ["g2"], "squeeze"),
        node("RNN", ["g2", "rw", "rr"], ["r", ""], "rnn", hidden_size=32),
        node("Squeeze", ["r", "one"], ["r2"], "squeeze2"),
        node("MatMul", ["r2", "w"], ["y"], "head"),
    ]
    held = [f("gw", 1, 96, 64), f("gr", 1, 96, 32), f("rw", 1, 32, 32), f("rr", 1, 32, 32), f("w", 32, 48)]
    held.append(constant("one", np.array([1])))
    return model(nodes, [port("x", [6, "n", 64])], [port("y", [6, "n", 48])], held), feeds(x=(6, 2, 64))


def lstms() -> Made:
    """Two LSTMs, one of two directions with biases, initial states and lengths; they share nothing."""
    f = weights()
    nodes = [
        node("LSTM", ["x", "w1", "r1", "b1", "len", "h", "h"], ["a", "", ""], "both", hidden_size=24, direction="bidirectional"),
        node("Transpose", ["a"], ["t"], "turn", perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "flat"], ["s"], "flatten"),
        node("LSTM", ["s", "w2", "r2"], ["c", "", ""], "second", hidden_size=32),
        node("Squeeze", ["c", "one"], ["y"], "squeeze"),
    ]
    held = [f("w1", 2, 96, 40), f("r1", 2, 96, 24), f("b1", 2, 192), f("h", 2, 2, 24), f("w2", 1, 128, 48), f("r2", 1, 128, 32)]
    held += [constant("len", np.array([5, 3], np.int32)), constant("flat", np.array([0, 0, 48])), constant("one", np.array([1]))]
    return model(nodes, [port("x", [5, 2, 40])], [port("y", [5, 2, 32])], held), feeds(x=(5, 2, 40))


def mixed() -> Made:
    """Convolutions with a residual and a pool, a product right behind them, and one behind a Softmax."""
    f = weights()
    nodes = [
        node("Conv", ["x", "c1", "b1"], ["h1"], "stem", pads=[1] * 4),
        node("Relu", ["h1"], ["r1"], "relu"),
        node("Conv", ["r1", "c2"], ["h2"], "body", pads=[1] * 4),
        node("Add", ["h2", "r1"], ["s"], "residual"),
        node("Relu", ["s"], ["r2"], "relu2"),
        node("MaxPool", ["r2"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "c3"], ["h3"], "third"),
        node("GlobalAveragePool", ["h3"], ["g"], "mean"),
        node("Flatten", ["g"], ["f"], "flatten"),
        node("Gemm", ["f", "w1", "d"], ["z"], "behind", transB=1),
        node("Softmax", ["z"], ["q"], "softmax"),
        node("MatMul", ["q", "w2"], ["y"], "last"),
    ]
    held = [f("c1", 32, 16, 3, 3), f("b1", 32), f("c2", 32, 32, 3, 3), f("c3", 48, 32, 1, 1), f("w1", 64, 48), f("d", 64)]
    held.append(f("w2", 64, 32))
    return model(nodes, [port("x", ["n", 16, 8, 8])], [port("y", ["n", 32])], held), feeds(x=(2, 16, 8, 8))


def concats() -> Made:
    """Two Concats behind convolutions: of like ranges, and of one a hundred times the other."""
    f = weights()
    nodes = [
        node("Conv", ["x", "a"], ["u"], "left"),
        node("Conv", ["x", "b"], ["v"], "right"),
        node("Concat", ["u", "v"], ["k"], "alike", axis=1),
        node("Conv", ["k", "c"], ["big"], "large"),
        node("Concat", ["k", "big"], ["m"], "apart", axis=1),
        node("Conv", ["m", "d"], ["y"], "end"),
    ]
    held = [f("a", 16, 16, 1, 1), f("b", 16, 16, 1, 1), f("c", 32, 32, 1, 1, scale=15.0), f("d", 16, 64, 1, 1)]
    return model(nodes, [port("x", ["n", 16, 6, 6])], [port("y", ["n", 16, 6, 6])], held), feeds(x=(2, 16, 6, 6))


def branches() -> Made:
    """Products, an LSTM and a convolution in the branches of an If, and a product around it; the branches share a weight."""
    f = weights()
    gives = [port("z", [4, 32])]
    then = helper.make_graph([node("MatMul", ["h", "w"], ["m"], "then"), node("Relu", ["m"], ["z"], "relu")], "then", [], gives)
    other = helper.make_graph(
        [
            node("Unsqueeze", ["h", "one"], ["h3"], "unsqueeze"),
            node("LSTM", ["h3", "lw", "lr"], ["l", "", ""], "lstm", hidden_size=32),
            node("Reshape", ["l", "flat"], ["l2"], "flatten"),
            node("MatMul", ["l2", "w"], ["z"], "else"),
        ],
        "else", [], gives,
    )  # fmt: skip
    nodes = [node("MatMul", ["x", "w"], ["h"], "before"), node("If", ["flag"], ["y"], "if", then_branch=then, else_branch=other)]
    held = [f("w", 32, 32), f("lw", 1, 128, 32), f("lr", 1, 128, 32)]
    held += [constant("one", np.array([1])), constant("flat", np.array([4, 32]))]
    made = model(nodes, [port("x", [4, 32]), port("flag", [], TensorProto.BOOL)], [port("y", [4, 32])], held)
    return made, [{**feed, "flag": np.array(number % 2 == 0)} for number, feed in enumerate(feeds(4, x=(4, 32)))]


def old() -> Made:
    """Operator set 11: Squeeze with attributes, Clip with inputs."""
    f = weights()
    nodes = [
        node("Conv", ["x", "a"], ["h"], "first", pads=[1] * 4),
        node("Clip", ["h", "low", "high"], ["r"], "clip"),
        node("Conv", ["r", "b"], ["g"], "second", strides=[8, 8], kernel_shape=[8, 8]),
        node("Squeeze", ["g"], ["s"], "squeeze", axes=[2, 3]),
        node("MatMul", ["s", "w"], ["y"], "product"),
    ]
    held = [f("a", 32, 16, 3, 3), f("b", 32, 32, 8, 8, scale=0.03), f("w", 32, 24)]
    held += [constant("low", np.float32(0)), constant("high", np.float32(6))]
    return model(nodes, [port("x", ["n", 16, 8, 8])], [port("y", ["n", 24])], held, **_opset(11)), feeds(x=(2, 16, 8, 8))


def shared() -> Made:
    """One weight and one bias of three convolutions whose inputs reach 1, 100 and 10,000, and a weight of a Gemm and a MatMul."""
    f = weights()
    nodes = [node("Conv", ["x", "w", "b"], ["h0"], "c0")]
    for number in (1, 2):
        nodes += [
            node("Mul", [f"h{number - 1}", "hundred"], [f"m{number}"], f"m{number}"),
            node("Conv", [f"m{number}", "w", "b"], [f"h{number}"], f"c{number}"),
        ]
    nodes += [
        node("Reshape", ["h2", "flat"], ["r"], "flatten"),
        node("Gemm", ["r", "g"], ["u"], "gemm", transB=1),
        node("MatMul", ["u", "g"], ["y"], "matmul"),
    ]
    held = [f("w", 32, 32, 1, 1), f("b", 32), f("g", 32, 32)]
    held += [constant("hundred", np.float32(100)), constant("flat", np.array([-1, 32]))]
    return model(nodes, [port("x", [1, 32, 4, 4])], [port("y", [16, 32])], held), feeds(x=(1, 32, 4, 4))


def biases() -> Made:
    """A bias that would not fit into 32 bits beside a dead channel; a Gemm with factors and a bias of one value, one whose bias is
    a matrix, one whose bias is computed."""
    f = weights()
    dead = np.random.default_rng(0).normal(0, 0.2, (32, 16, 3, 3)).astype("f4")
    dead[3] = 1e-30
    dead[4] = 0
    large = np.linspace(-50, 50, 32, dtype="f4")
    nodes = [
        node("Conv", ["x", "dead", "large"], ["h"], "dead", pads=[1] * 4),
        node("GlobalAveragePool", ["h"], ["g"], "mean"),
        node("Flatten", ["g"], ["f"], "flatten"),
        node("Gemm", ["f", "a", "single"], ["u"], "factors", alpha=0.5, beta=2.0),
        node("Gemm", ["u", "b", "matrix"], ["v"], "matrix"),
        node("Gemm", ["v", "c", "computed"], ["y"], "computed", transB=1),
        node("ReduceMean", ["u"], ["computed"], "reduce", axes=[0], keepdims=0),
    ]
    nodes.insert(5, nodes.pop())
    held = [constant("dead", dead), constant("large", large), f("a", 32, 48), f("b", 48, 32), f("c", 48, 32), f("matrix", 2, 32)]
    held.append(constant("single", np.array([0.25], "f4")))
    return model(nodes, [port("x", [2, 16, 5, 5])], [port("y", [2, 48])], held), feeds(x=(2, 16, 5, 5))


def names() -> Made:
    """Nodes without names, tensors and nodes called as quantizers call theirs, and a very long name."""
    f = weights()
    long = "model_1/block/very/long;" * 12
    nodes = [
        node("Conv", ["x", "x_scale"], ["x_rounded"]),
        node("Conv", ["x_rounded", "w_wide"], [long], "x_quantize"),
        node("Conv", [long, "x_zero_point"], ["x_float"], long),
        node("Flatten", ["x_float"], ["/f.0:0"]),
        node("MatMul", ["/f.0:0", "m"], ["y"], "ünïcode"),
    ]
    held = [f("x_scale", 32, 16, 1, 1), f("w_wide", 32, 32, 1, 1), f("x_zero_point", 32, 32, 1, 1), f("m", 128, 32)]
    return model(nodes, [port("x", ["n", 16, 2, 2])], [port("y", ["n", 32])], held), feeds(x=(2, 16, 2, 2))


def depthwise() -> Made:
    """A depthwise convolution, a transposed one, and one along a single axis."""
    f = weights()
    nodes = [
        node("Conv", ["x", "a"], ["h"], "first", pads=[1] * 4),
        node("Conv", ["h", "d"], ["g"], "depthwise", group=64, pads=[2] * 4),
        node("Conv", ["g", "b"], ["k"], "point"),
        node("ConvTranspose", ["k", "t"], ["u"], "up", strides=[2, 2]),
        node("Reshape", ["u", "flat"], ["v"], "flatten"),
        node("Conv", ["v", "o"], ["y"], "one"),
    ]
    held = [f("a", 64, 16, 3, 3), f("d", 64, 1, 5, 5), f("b", 64, 64, 1, 1), f("t", 64, 32, 2, 2), f("o", 16, 32, 3)]
    held.append(constant("flat", np.array([0, 32, -1])))
    return model(nodes, [port("x", ["n", 16, 6, 6])], [port("y", ["n", 16, 142])], held), feeds(x=(2, 16, 6, 6))


def tables() -> Made:
    """An embedding table read twice, one that is read along its second axis, and products behind."""
    f = weights()
    nodes = [
        node("Gather", ["table", "ids"], ["e"], "words"),
        node("Gather", ["table", "others"], ["o"], "again"),
        node("Gather", ["wide", "ids"], ["c"], "columns", axis=1),
        node("Add", ["e", "o"], ["s"], "sum"),
        node("MatMul", ["s", "w"], ["m"], "product"),
        node("ReduceMean", ["c"], ["r"], "reduce", axes=[0], keepdims=0),
        node("MatMul", ["m", "v"], ["n"], "second"),
        node("Unsqueeze", ["r", "last"], ["r2"], "unsqueeze"),
        node("Add", ["n", "r2"], ["y"], "end"),
    ]
    held = [f("table", 200, 64), f("wide", 64, 100), f("w", 64, 64), f("v", 64, 32), constant("last", np.array([-1]))]
    ends = [port(name, ["n", 5], TensorProto.INT64) for name in ("ids", "others")]
    random = np.random.default_rng(3)
    calls = [{name: random.integers(0, 100, (2, 5)) for name in ("ids", "others")} for _ in range(3)]
    return model(nodes, ends, [port("y", ["n", 5, 32])], held), calls


def loop() -> Made:
    """A product in the body of a Loop and one in a Scan."""
    f = weights()
    body = helper.make_graph(
        [
            node("MatMul", ["state", "w"], ["next"], "inner"),
            node("Identity", ["go"], ["still"], "same"),
        ],
        "body", [port("i", [], TensorProto.INT64), port("go", [], TensorProto.BOOL), port("state", [4, 32])],
        [port("still", [], TensorProto.BOOL), port("next", [4, 32])],
    )  # fmt: skip
    step = helper.make_graph(
        [
            node("MatMul", ["s", "w"], ["p"], "scanned"),
            node("Add", ["p", "row"], ["t"], "plus"),
            node("Identity", ["t"], ["o"], "out"),
        ],
        "step", [port("s", [4, 32]), port("row", [4, 32])], [port("t", [4, 32]), port("o", [4, 32])],
    )  # fmt: skip
    nodes = [
        node("Loop", ["count", "true", "x"], ["h"], "loop", body=body),
        node("Unsqueeze", ["h", "zero"], ["rows"], "unsqueeze"),
        node("Scan", ["x", "rows"], ["y", "all"], "scan", body=step, num_scan_inputs=1),
    ]
    held = [f("w", 32, 32), constant("count", np.array(2)), constant("true", np.array(True)), constant("zero", np.array([0]))]
    return model(nodes, [port("x", [4, 32])], [port("y", [4, 32])], held), feeds(x=(4, 32))


def twice() -> Made:
    """A convolution's result that is an output too, read by an int8 node, a float one and a branch."""
    f = weights()
    gives = [port("z", [1, 32, 4, 4])]
    then = helper.make_graph([node("Neg", ["h"], ["z"], "neg")], "then", [], gives)
    other = helper.make_graph([node("Exp", ["h"], ["z"], "exp")], "else", [], gives)
    nodes = [
        node("Conv", ["x", "a"], ["h"], "first"),
        node("Conv", ["h", "b"], ["g"], "second"),
        node("Tanh", ["h"], ["t"], "tanh"),
        node("If", ["flag"], ["i"], "if", then_branch=then, else_branch=other),
        node("Sum", ["g", "t", "i"], ["y"], "sum"),
    ]
    held = [f("a", 32, 16, 1, 1), f("b", 32, 32, 1, 1)]
    ends = [port("x", [1, 16, 4, 4]), port("flag", [], TensorProto.BOOL)]
    made = model(nodes, ends, [port("y", [1, 32, 4, 4]), port("h", [1, 32, 4, 4])], held)
    return made, [{**feed, "flag": np.array(number % 2 == 0)} for number, feed in enumerate(feeds(4, x=(1, 16, 4, 4)))]


def vectors() -> Made:
    """A product of a vector, and one of a matrix that shares its weight."""
    f = weights()
    nodes = [
        node("MatMul", ["x", "w"], ["v"], "product"),
        node("Unsqueeze", ["v", "zero"], ["y"], "unsqueeze"),
        node("Gemm", ["m", "w"], ["z"], "other"),
    ]
    ends = ([port("x", [64]), port("m", [2, 64])], [port("y", [1, 96]), port("z", [2, 96])])
    return model(nodes, *ends, [f("w", 64, 96), constant("zero", np.array([0]))]), feeds(x=(64,), m=(2, 64))


KINDS: dict[str, Callable[[], Made]] = {
    each.__name__: each
    for each in (
        stacks, recurrent, lstms, mixed, concats, branches, old, shared, biases, names, depthwise, tables, loop, twice, vectors,
    )
}  # fmt: skip
