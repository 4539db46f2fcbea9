"""One scale for all channels of a weight: where it saves time and the channels are alike, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.support.models.foreign_graphs import constant, model, node, port, weights
from tests.support.recorded_calls import recorded

from mlpack.core import digest
from mlpack.graphs import check, files
from mlpack.graphs.facts import overflow
from mlpack.passes import quantize
from mlpack.passes.quantize import Quantize
from mlpack.passes.quantize.choice import alike

LSTM_OUT = ["y", "", ""]


def F(name: str, *shape: int) -> onnx.TensorProto:  # noqa: N802 - as in its neighbours
    """Weights that are the same at every call."""
    made: onnx.TensorProto = weights(sum(map(ord, name)))(name, *shape)
    return made


def uneven(tensor: onnx.TensorProto, axis: int) -> onnx.TensorProto:
    """The same with one channel a thousand times as large as the others are."""
    values = np.array(onnx.numpy_helper.to_array(tensor))
    np.moveaxis(values, axis, 0)[-1] *= 1000
    return onnx.numpy_helper.from_array(values, tensor.name)


def run(made: onnx.ModelProto, place: Path, **config: Any) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """What the pass makes of it, without a product that can overflow, and its notes."""
    for name in ("in", "out"):
        (place / name).mkdir(parents=True)
    files.save(made, place / "in")
    quantize.run(place / "in", Quantize(method="dynamic", **config), place / "out")
    if config.get("arch") != "arm64":
        assert overflow.risks(place / "out" / "model.onnx") == ()
    return files.load(place / "out"), json.loads((place / "out" / "notes.json").read_bytes())


def near(place: Path, feed: dict[str, Any], far: float = 0.03) -> None:
    """Its answers are the float's, but for a share of their spread."""
    exact, ours = (check.run(check.session(place / name), feed) for name in ("in", "out"))
    for one, other in zip(exact, ours, strict=True):
        assert float(np.sqrt(np.mean(np.square(one - other)))) <= far * float(np.std(one))


def scales(found: onnx.ModelProto) -> dict[str, list[list[int]]]:
    """By node in integers, the shapes of its weights' scales."""
    places = {"DynamicQuantizeLSTM": (8, 10), "QAttention": (4,)}
    dims = {tensor.name: list(tensor.dims) for tensor in found.graph.initializer}
    said = {}
    for each in files.nodes(found.graph):
        if each.op_type in places:
            said[each.name.removesuffix("_integer")] = [dims[each.input[place]] for place in places[each.op_type]]
        elif each.op_type == "Mul" and each.input[1] in dims and each.name.endswith("_scales"):
            said[each.name.removesuffix("_scales")] = [dims[each.input[1]]]
    return said


def lstm(**more: Any) -> onnx.ModelProto:
    """Two directions, lengths, states, peepholes."""
    takes = ["x", "w", "r", "b", "len", "h", "h", "p"]
    rnn = node("LSTM", takes, LSTM_OUT, "rnn", hidden_size=32, direction="bidirectional")
    held = {"w": F("w", 2, 128, 40), "r": F("r", 2, 128, 32), "b": F("b", 2, 256), "h": F("h", 2, 2, 32), "p": F("p", 2, 96)} | more
    held["len"] = constant("len", np.array([5, 3], np.int32))
    return model([rnn], [port("x", [5, 2, 40])], [port("y", [5, 2, 2, 32])], list(held.values()))


X = {"x": np.random.default_rng(5).normal(size=(5, 2, 40)).astype("f4")}


def test_an_lstm_of_channels_that_are_alike(tmp_path: Path) -> None:
    found, notes = run(lstm(), tmp_path)
    assert scales(found) == {"rnn": [[2], [2]]}
    assert (notes["one_scale"], notes["per_channel"]) == (["rnn"], True)
    near(tmp_path, X)


@pytest.mark.parametrize("bad", ["w", "r"])
def test_each_weight_of_an_lstm_by_itself(bad: str, tmp_path: Path) -> None:
    """One channel far from the others in one direction, of one of the two."""
    wanted = {"w": F("w", 2, 128, 40), "r": F("r", 2, 128, 32)}
    found, notes = run(lstm(**{bad: uneven(wanted[bad], 1)}), tmp_path)
    assert scales(found) == {"rnn": [[2, 128] if bad == name else [2] for name in ("w", "r")]}
    assert notes["one_scale"] == ["rnn"]
    near(tmp_path, X)


def test_one_bad_lstm_among_several(tmp_path: Path) -> None:
    nodes = []
    held = [constant("one", np.array([1]))]
    for number, width in enumerate((40, 32, 32)):
        w, r = F(f"w{number}", 1, 128, width), F(f"r{number}", 1, 128, 32)
        held += [uneven(w, 1), uneven(r, 1)] if number == 1 else [w, r]
        took = "x" if number == 0 else f"s{number - 1}"
        nodes.append(node("LSTM", [took, w.name, r.name], [f"y{number}", "", ""], f"rnn{number}", hidden_size=32))
        nodes.append(node("Squeeze", [f"y{number}", "one"], [f"s{number}"], f"squeeze{number}"))
    found, notes = run(model(nodes, [port("x", [5, "n", 40])], [port("s2", [5, "n", 32])], held), tmp_path)
    assert scales(found) == {"rnn0": [[1], [1]], "rnn1": [[1, 128], [1, 128]], "rnn2": [[1], [1]]}
    assert notes["one_scale"] == ["rnn0", "rnn2"]
    near(tmp_path, X, 0.05)


def test_an_lstm_in_the_body_of_a_loop(tmp_path: Path) -> None:
    def states(*names: str) -> list[onnx.ValueInfoProto]:
        return [port(name, [1, 2, 40]) for name in names]

    body = helper.make_graph(
        [
            node("LSTM", ["s", "w", "r", "", "", "h", "c"], ["o", "h2", "c2"], "rnn", hidden_size=40),
            node("Squeeze", ["o", "one"], ["s2"], "squeeze"),
            node("Identity", ["go"], ["on"], "same"),
        ],
        "body",
        [port("i", [], TensorProto.INT64), port("go", [], TensorProto.BOOL), port("s", [5, 2, 40]), *states("h", "c")],
        [port("on", [], TensorProto.BOOL), port("s2", [5, 2, 40]), *states("h2", "c2")],
    )  # fmt: skip
    loop = node("Loop", ["turns", "true", "x", "begin", "begin"], ["y", "hn", "cn"], "loop", body=body)
    held = [F("w", 1, 160, 40), F("r", 1, 160, 40), F("begin", 1, 2, 40)]
    held += [constant("turns", np.array(3)), constant("true", np.array(True)), constant("one", np.array([1]))]
    found, _ = run(model([loop], [port("x", [5, 2, 40])], [port("y", [5, 2, 40])], held), tmp_path)
    assert scales(found) == {"rnn": [[1], [1]]}
    near(tmp_path, X, 0.05)


@pytest.mark.parametrize(("said", "wanted"), [(True, [[2, 128]] * 2), (False, [[2]] * 2)])
def test_what_the_recipe_says_holds(said: bool, wanted: list[list[int]], tmp_path: Path) -> None:
    made = lstm() if said else lstm(w=uneven(F("w", 2, 128, 40), 1), r=uneven(F("r", 2, 128, 32), 1))
    found, notes = run(made, tmp_path, per_channel=said)
    assert scales(found) == {"rnn": wanted}
    assert notes["per_channel"] is said
    assert "one_scale" not in notes


def test_full_range_weights_are_alike_sooner(tmp_path: Path) -> None:
    """Seven bits are what x86-64 without VNNI takes; eight, of arm64, leave a quarter of the noise."""
    values = np.random.default_rng(0).normal(0, 0.1, (1, 128, 40)).astype("f4")
    values[0, :64] *= 0.25
    assert scales(run(lstm(w=F("w", 2, 128, 40)), tmp_path / "even")[0])["rnn"][0] == [2]
    made = [constant("w", np.concatenate([values, values]))]
    for arch, wanted in (("x86_64", [2, 128]), ("arm64", [2])):
        assert scales(run(lstm(w=made[0]), tmp_path / arch, arch=arch)[0])["rnn"][0] == wanted


@pytest.mark.parametrize("width", [1, 40])
def test_channels_of_nothing_are_in_nobodys_way(width: int, tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(0, 0.1, (2, 128, width)).astype("f4") if width > 1 else np.full((2, 128, 1), 0.1, "f4")
    w[:, 3] = 0
    made = lstm(w=constant("w", w))
    made.graph.input[0].type.tensor_type.shape.dim[2].dim_value = width
    assert scales(run(made, tmp_path)[0])["rnn"][0] == [2]


def product(
    kind: str, shape: list[int | str], before: list[onnx.NodeProto] | None = None, *held: onnx.TensorProto
) -> onnx.ModelProto:
    """A product of `a`, which these nodes make of `x`."""
    takes = ["a" if before else "x", "m", *(["b"] if kind == "Gemm" else [])]
    nodes = [*(before or []), node(kind, takes, ["y"], "product")]
    rank = 2 if before else len(shape)
    return model(nodes, [port("x", shape)], [port("y", ["i", "j", 64][-rank:])], [F("m", 96, 64), F("b", 64), *held])


FLAT = [node("Flatten", ["x"], ["a"], "flat")]
ROWS = [node("Reshape", ["x", "rows"], ["a"], "rows")]
HEAD = [node("ReduceMean", ["x"], ["a"], "mean", axes=[1], keepdims=0)]
BY_96 = constant("rows", np.array([-1, 96]))


@pytest.mark.parametrize(
    ("made", "one"),
    [
        (lambda: product("Gemm", [1, 96]), True),
        (lambda: product("Gemm", ["n", 96]), True),
        (lambda: product("MatMul", ["n", 96]), True),
        (lambda: product("MatMul", ["n", 1, 96]), True),
        (lambda: product("Gemm", ["n", 4, 24], FLAT), True),
        (lambda: product("Gemm", ["n", "t", 96], HEAD), True),
        (lambda: product("MatMul", ["n", 16, 96]), False),
        (lambda: product("MatMul", ["n", "t", 96]), False),
        (lambda: product("MatMul", [16, 96]), False),
        (lambda: product("Gemm", ["n", 16, 96], ROWS, BY_96), False),
        (lambda: product("Gemm", [1, 96, 1], ROWS, BY_96), True),
        (lambda: product("Gemm", [8, 96, 1], ROWS, BY_96), False),
    ],
)  # fmt: skip
def test_products_of_one_row_a_sample(made: Callable[[], onnx.ModelProto], one: bool, tmp_path: Path) -> None:
    found, notes = run(made(), tmp_path)
    assert scales(found) == {"product": [[] if one else [64]]}
    assert ("one_scale" in notes) == one


def test_products_of_uneven_channels_keep_their_scales(tmp_path: Path) -> None:
    made = product("Gemm", ["n", 96])
    made.graph.initializer[0].CopyFrom(uneven(made.graph.initializer[0], 1))
    assert scales(run(made, tmp_path)[0]) == {"product": [[64]]}


def test_one_weight_of_one_row_here_and_of_many_there(tmp_path: Path) -> None:
    nodes = [*HEAD, node("MatMul", ["x", "m"], ["y"], "many"), node("MatMul", ["a", "m"], ["z"], "single")]
    made = model(nodes, [port("x", ["n", 8, 96])], [port("y", ["n", 8, 64]), port("z", ["n", 64])], [F("m", 96, 64)])
    assert scales(run(made, tmp_path)[0]) == {"many": [[64]], "single": [[]]}


def test_corrected_biases_are_those_of_the_scales_that_ship(tmp_path: Path) -> None:
    """The shift that is taken off belongs to the weights as they are rounded."""
    for name in ("in", "on", "off"):
        (tmp_path / name).mkdir()
    files.save(product("Gemm", ["n", 96]), tmp_path / "in")
    feeds = [{"x": np.random.default_rng(seed).normal(3, 1, (1, 96)).astype("f4")} for seed in range(32)]
    calls = recorded(tmp_path / "calls", feeds)
    exact = check.session(tmp_path / "in")
    means = []
    for name in ("off", "on"):
        config = Quantize(method="dynamic", calibration=calls, bias_correction=name == "on")
        quantize.run(tmp_path / "in", config, tmp_path / name)
        ours = check.session(tmp_path / name)
        means.append(np.mean([check.run(ours, feed)[0] - check.run(exact, feed)[0] for feed in feeds], axis=0))
    assert np.abs(means[1]).max() < 0.5 * np.abs(means[0]).max()


def test_equal_graphs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(lstm(), tmp_path / name)
    assert digest.of_tree(tmp_path / "a" / "out") == digest.of_tree(tmp_path / "b" / "out")


def test_noise_is_held_against_the_weakest_channel() -> None:
    """A channel of half the others' size has four times their noise."""
    values = np.random.default_rng(0).normal(0, 0.1, (400, 32)).astype("f4")
    for factor, wanted in ((1.0, True), (0.5, True), (0.1, False)):
        values[:, 0] = factor * np.random.default_rng(1).normal(0, 0.1, 400)
        assert alike._alike([values], 64) is wanted


@pytest.mark.parametrize("shape", [(40, 32), (0, 32), (40, 0)])
def test_weights_of_nothing_are_alike(shape: tuple[int, int]) -> None:
    """Nought needs no scale, and none is divided by."""
    assert alike._alike([np.zeros(shape, "f4"), np.ones((40, 32), "f4")], 64)
    assert not alike._alike([np.zeros(shape, "f4"), np.array([[1.0, 1e-6]], "f4")], 64)


@pytest.mark.parametrize(("kind", "transposed"), [("MatMul", None), ("Gemm", None), ("Gemm", 0), ("Gemm", 1)])
@pytest.mark.parametrize("large", ["channel", "input"])
def test_the_axis_of_channels_is_the_one_that_counts(kind: str, transposed: int | None, large: str) -> None:
    """A large channel needs a scale of its own. A large input is in all channels alike."""
    values = np.where(np.random.default_rng(0).random((96, 64)) < 0.5, -0.1, 0.1).astype("f4")
    values[(slice(None), -1) if large == "channel" else -1] *= 1000
    options = {} if transposed is None else {"transB": transposed}
    weight = constant("m", np.ascontiguousarray(values.T) if transposed else values)
    made = model([node(kind, ["x", "m"], ["y"], "product", **options)], [port("x", ["n", 96])], [port("y", ["n", 64])], [weight])
    wanted = {("product", 1)} if large == "input" else set()
    assert alike.weights_of_one_scale(made, {"product"}, 64) == wanted
