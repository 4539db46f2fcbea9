"""Quantize, between kernels in 8 bits: what the engine makes of gates, joins and moves there, counted in its own graph."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.support.models.foreign_graphs import constant, model, node, port, weights
from tests.support.recorded_calls import recorded

from mlpack.graphs import check, files
from mlpack.passes import optimize, quantize
from mlpack.passes.optimize import Optimize
from mlpack.passes.quantize import Quantize

Nodes = list[onnx.NodeProto]
CONVERTED = ("QuantizeLinear", "DequantizeLinear")
_SHAPE = (2, 32, 8, 8)


def scalar(name: str, value: float) -> onnx.TensorProto:
    return constant(name, np.float32(value))


MIDDLES: dict[str, Callable[[], tuple[Nodes, list[onnx.TensorProto]]]] = {
    "silu": lambda: ([node("Sigmoid", ["a"], ["s"], "sigmoid"), node("Mul", ["a", "s"], ["m"], "gate")], []),
    "leaky": lambda: (
        [node("LeakyRelu", ["a"], ["l"], "leaky", alpha=0.2), node("Max", ["l", "low"], ["m"], "limit")],
        [scalar("low", -0.1)],
    ),
    "hard": lambda: (
        [node("HardSigmoid", ["a"], ["s"], "hard", alpha=1 / 6, beta=0.5), node("Mul", ["s", "a"], ["m"], "gate")],
        [],
    ),
    "squeezed": lambda: (
        [
            node("GlobalAveragePool", ["a"], ["p"], "mean"),
            node("Conv", ["p", "v"], ["q"], "excite"),
            node("HardSigmoid", ["q"], ["s"], "hard"),
            node("Mul", ["a", "s"], ["m"], "gate"),
        ],
        [],
    ),
    "residual": lambda: (
        [
            node("Sigmoid", ["a"], ["s"], "sigmoid"),
            node("Mul", ["a", "s"], ["g"], "gate"),
            node("Conv", ["g", "v"], ["b"], "other"),
            node("Add", ["g", "b"], ["t"], "sum"),
            node("Relu", ["t"], ["m"], "relu"),
        ],
        [],
    ),
    "shifted": lambda: (
        [node("Add", ["a", "three"], ["t"], "shift"), node("Mul", ["half", "t"], ["m"], "scale")],
        [scalar("three", 3), scalar("half", -0.5)],
    ),
    "split": lambda: (
        [
            node("Split", ["a", "parts"], ["u", "d"], "split", axis=1),
            node("Sigmoid", ["d"], ["s"], "sigmoid"),
            node("Concat", ["s", "u"], ["m"], "join", axis=1),
        ],
        [constant("parts", np.array([8, 24]))],
    ),
    "moved": lambda: (
        [
            node("Resize", ["a", "", "scales"], ["r"], "resize", mode="nearest"),
            node("Slice", ["r", "from", "to", "axes"], ["c"], "slice"),
            node("MaxPool", ["c"], ["m"], "pool", kernel_shape=[2, 2]),
        ],
        [
            constant("scales", np.array([1, 1, 2, 2], "f4")), constant("from", np.array([1, 0])), constant("to", np.array([9, 8])),
            constant("axes", np.array([2, 3])),
        ],
    ),
    "joined": lambda: (
        [
            node("Conv", ["a", "v"], ["b"], "other"),
            node("Relu", ["b"], ["r"], "relu"),
            node("Conv", ["r", "v"], ["c"], "third"),
            node("Conv", ["r", "v"], ["e"], "fourth"),
            node("Clip", ["e", "low", "high"], ["d"], "limit"),
            node("AveragePool", ["d"], ["f"], "pool", kernel_shape=[3, 3], pads=[1] * 4),
            node("Concat", ["c", "f"], ["j"], "join", axis=1),
            node("Slice", ["j", "from", "to", "axes"], ["m"], "slice"),
        ],
        [
            scalar("low", -0.25), scalar("high", 0.5), constant("from", np.array([16])), constant("to", np.array([48])),
            constant("axes", np.array([1])),
        ],
    ),
    "depthwise": lambda: (
        [
            node("Sigmoid", ["a"], ["s"], "sigmoid"),
            node("Mul", ["a", "s"], ["g"], "gate"),
            node("Conv", ["g", "d", "bias"], ["b"], "depthwise", group=32, pads=[1] * 4),
            node("HardSigmoid", ["b"], ["h"], "hard", alpha=1 / 6),
            node("Mul", ["b", "h"], ["m"], "swish"),
        ],
        [weights(8)("d", 32, 1, 3, 3)],
    ),
    "grouped": lambda: (
        [node("Conv", ["a", "d"], ["b"], "groups", group=4), node("Relu", ["b"], ["m"], "relu")],
        [weights(8)("d", 32, 8, 1, 1)],
    ),
    "normalised": lambda: (
        [
            node("Relu", ["a"], ["r"], "relu"),
            node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[3, 3], pads=[1] * 4),
            node("BatchNormalization", ["p", "bias", "off", "off", "var"], ["n"], "norm"),
            node("Relu", ["n"], ["m"], "relu2"),
        ],
        [weights(8)("off", 32), constant("var", np.linspace(0.01, 4, 32, dtype="f4"))],
    ),
    "limits": lambda: (
        [
            node("Clip", ["a", "low", "high"], ["c"], "limit"),
            node("Conv", ["c", "v"], ["b"], "other"),
            node("Min", ["top", "b"], ["m"], "least"),
        ],
        [scalar("low", -0.5), scalar("high", 0.25), scalar("top", 0.1)],
    ),
}  # fmt: skip
"""What stands between two convolutions: it reads `a` and gives `m`. All of it carries or computes in 8 bits."""


def chain(middle: Nodes, held: list[onnx.TensorProto], *after: onnx.NodeProto) -> onnx.ModelProto:
    """A convolution, the middle, a convolution and what is behind it."""
    f = weights()
    first = node("Conv", ["x", "w", "bias"], ["a"], "first", pads=[1] * 4)
    last = node("Conv", ["m", "w", "bias"], ["z" if after else "y"], "last", pads=[1] * 4)
    stored = [f("w", 32, 32, 3, 3, scale=0.06), f("v", 32, 32, 1, 1), f("bias", 32), *held]
    read = {name for each in (*middle, first, last, *after) for name in each.input}
    ends = ([port("x", ["n", 32, "h", "w"])], [port("y", ["n", "c", "p", "q"])])
    return model([first, *middle, last, *after], *ends, [tensor for tensor in stored if tensor.name in read])


def calls(count: int = 4) -> list[dict[str, Any]]:
    random = np.random.default_rng(5)
    return [{"x": random.normal(size=_SHAPE).astype("f4")} for _ in range(count)]


def quantized(made: onnx.ModelProto, folder: Path, **config: Any) -> tuple[Counter[str], dict[str, Any]]:
    """The engine's own graph of what the pass makes, by operators, and the notes; its answers are those of the float graph."""
    for part in ("float", "int8", "out"):
        (folder / part).mkdir(parents=True)
    files.save(onnx.ModelProto.FromString(made.SerializeToString()), folder / "float")
    files.finish(folder / "float", folder / "float", {})
    data = recorded(folder / "calls", calls())
    quantize.run(folder / "float", Quantize(method="static", calibration=data, **config), folder / "int8")
    optimize.run(folder / "int8", Optimize(arch=config.get("arch"), examples=data), folder / "out")
    assert "rejected" not in json.loads((folder / "out" / "notes.json").read_text())
    entries = {"session.qdqisint8allowed": "1"} if config.get("arch") == "arm64" else {}
    want = check.session(folder / "float")
    for part, level in (("int8", "ORT_DISABLE_ALL"), ("int8", "ORT_ENABLE_ALL"), ("out", "ORT_DISABLE_ALL")):
        got = check.session(folder / part, level, entries)
        for feed in calls():
            assert check.similarity(check.run(got, feed), check.run(want, feed)) > 0.995, (part, level)
    graph = onnx.load(folder / "out" / "model.onnx").graph
    return Counter(each.op_type for each in graph.node), json.loads((folder / "int8" / "notes.json").read_text())


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize("middle", MIDDLES)
def test_nothing_is_converted_between_kernels(middle: str, arch: str, tmp_path: Path) -> None:
    found, notes = quantized(chain(*MIDDLES[middle]()), tmp_path / "m", arch=arch)
    assert [found[kind] for kind in CONVERTED] == [1, 1], found
    assert found["QLinearConv"] == len(notes["nodes"])
    assert not set(found) & {"Sigmoid", "HardSigmoid", "Mul", "Add", "LeakyRelu", "Relu", "Clip", "Max", "Min", "Concat"}
    assert notes["kept"] == {}


@pytest.mark.parametrize("middle", MIDDLES)
def test_ranges_around_zero_keep_the_numbers(middle: str, tmp_path: Path) -> None:
    quantized(chain(*MIDDLES[middle]()), tmp_path / "m", symmetric_activations=True)


FLOAT: dict[str, tuple[Callable[[], tuple[Nodes, list[onnx.TensorProto]]], str]] = {
    "Softmax": (lambda: ([node("Softmax", ["a"], ["m"], "left", axis=-1)], []), "takes as long"),
    "Tanh": (lambda: ([node("Tanh", ["a"], ["m"], "left")], []), "has no Tanh"),
    "Resize": (
        lambda: (
            [node("Resize", ["a", "", "scales"], ["m"], "left", mode="linear")],
            [constant("scales", np.array([1, 1, 2, 2], "f4"))],
        ),
        "nearest",
    ),
    "Mul": (
        lambda: (
            [node("Mul", ["a", "each"], ["m"], "left")],
            [constant("each", np.linspace(1, 2, 32, dtype="f4").reshape(32, 1, 1))],
        ),
        "several values",
    ),
    "HardSigmoid": (lambda: ([node("HardSigmoid", ["a"], ["m"], "left", beta=0.0)], []), "float anyway"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FLOAT)
def test_what_stays_float_between_kernels_says_why(kind: str, tmp_path: Path) -> None:
    middle, why = FLOAT[kind]
    _, notes = quantized(chain(*middle()), tmp_path / "m")
    assert why in notes["kept"]["left"]


def test_limits_that_leave_out_zero_stay(tmp_path: Path) -> None:
    middle = [node("Clip", ["a", "low", "high"], ["m"], "limit")]
    found, _ = quantized(chain(middle, [scalar("low", 0.1), scalar("high", 0.5)]), tmp_path / "m")
    assert found["Clip"] == 1


def test_groups_that_end_in_float_stay_float(tmp_path: Path) -> None:
    """Depthwise right behind the input, and last: not between two kernels in 8 bits."""
    f = weights(8)
    middle = [node("Conv", ["e", "d"], ["m"], "inner", group=32, pads=[1] * 4)]
    made = chain(middle, [f("d", 32, 1, 3, 3)], node("Conv", ["z", "d"], ["y"], "last_one", group=32))
    made.graph.node.insert(1, node("Softmax", ["a"], ["e"], "soft", axis=1))
    _, notes = quantized(made, tmp_path / "m")
    assert set(notes["nodes"]) == {"first", "last"}
    assert all("groups" in notes["kept"][name] or "tiny" in notes["kept"][name] for name in ("inner", "last_one"))


@pytest.mark.parametrize(("config", "kept"), [({"keep_float": ("norm",)}, True), ({"per_channel": False}, True), ({}, False)])
def test_a_normalisation_stays_one_where_it_is_not_exact(config: dict[str, Any], kept: bool, tmp_path: Path) -> None:
    found, notes = quantized(chain(*MIDDLES["normalised"]()), tmp_path / "m", **config)
    assert found["BatchNormalization"] == kept
    assert ("norm" in notes["nodes"]) is not kept


@pytest.mark.parametrize("kind", ["Sigmoid", "HardSigmoid"])
def test_a_tail_stays_float(kind: str, tmp_path: Path) -> None:
    gate = [node("Sigmoid", ["a"], ["s"], "sigmoid"), node("Mul", ["a", "s"], ["m"], "gate")]
    found, _ = quantized(chain(gate, [], node(kind, ["z"], ["y"], "tail")), tmp_path / "m")
    assert [found[each] for each in (*CONVERTED, kind)] == [1, 1, 1]


def test_a_join_that_ends_in_float_is_joined_in_float(tmp_path: Path) -> None:
    f = weights()
    tail = [
        node("Conv", ["m", "v"], ["o"], "boxes"),
        node("Concat", ["z", "o"], ["j"], "join", axis=1),
        node("Softmax", ["j"], ["y"], "end", axis=1),
    ]
    made = chain(*MIDDLES["silu"](), *tail)
    made.graph.initializer.extend([] if any(t.name == "v" for t in made.graph.initializer) else [f("v", 32, 32, 1, 1)])
    found, _ = quantized(made, tmp_path / "m")
    assert found["Concat"] == 1
    assert found["QLinearConcat"] == 0


def test_the_recipe_keeps_a_gate_float(tmp_path: Path) -> None:
    found, notes = quantized(chain(*MIDDLES["silu"]()), tmp_path / "m", keep_float=("sigmoid",))
    assert "recipe" in notes["kept"]["sigmoid"]
    assert found["QLinearSigmoid"] == 0
    assert found["QLinearConv"] == 2


def test_the_engine_puts_no_float_convolution_in_integers(tmp_path: Path) -> None:
    found, notes = quantized(
        chain([node("Conv", ["a", "v"], ["m"], "kept")], []), tmp_path / "m", keep_float=("kept",)
    )  # fmt: skip
    assert "recipe" in notes["kept"]["kept"]
    assert found["QLinearConv"] == 2
    assert found["Conv"] == 1


@pytest.mark.parametrize("seed", range(8))
def test_any_chain_keeps_the_numbers(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    nodes: Nodes = []
    tensors = ["a"]
    for number in range(int(random.integers(3, 9))):
        kind = random.choice(["Sigmoid", "Mul", "Add", "LeakyRelu", "Relu", "HardSigmoid", "Tanh", "Max", "Conv", "Concat"])
        first, second = (str(random.choice(tensors[-3:])) for _ in range(2))
        made = f"t{number}"
        takes = {"Mul": [first, second], "Add": [first, second], "Max": [first, "low"], "Conv": [first, "v"]}.get(kind, [first])
        if kind == "Concat":
            nodes += [
                node("Concat", [first, second], [f"{made}j"], f"join{number}", axis=1),
                node("Slice", [f"{made}j", "from", "to", "axes"], [made], f"slice{number}"),
            ]
        else:
            nodes.append(node(str(kind), takes, [made], f"{kind}{number}"))
        tensors.append(made)
    nodes.append(node("LeakyRelu", [tensors[-1]], ["m"], "end"))
    held = [scalar("low", -0.3), *(constant(name, np.array([value])) for name, value in (("from", 16), ("to", 48), ("axes", 1)))]
    quantized(chain(nodes, held, node("Sigmoid", ["z"], ["y"], "tail")), tmp_path / "m")
