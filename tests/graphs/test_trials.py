"""What changed graphs are compared on: the recipe's calls, invented inputs beside them, and what random numbers leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.recorded_calls import recorded

from mlpack.core.records import Signature, TensorSpec
from mlpack.errors import PassError
from mlpack.evaluation.data import calls
from mlpack.graphs import check, files, trials
from mlpack.passes import optimize, simplify
from mlpack.passes.optimize import Optimize
from mlpack.passes.simplify import Simplify

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def directory(folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any] | None = None) -> Path:
    folder.mkdir(parents=True)
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights or [])
    files.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder)
    files.finish(folder, folder, {})
    return folder


def port(name: str, *shape: Any, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def both(model_dir: Path, tmp_path: Path, examples: Path | None) -> tuple[Path, dict[str, Any]]:
    """Through simplify and optimize; the last directory, and what both noted."""
    noted = {}
    for name, run, config in (("s", simplify.run, Simplify(examples=examples)), ("o", optimize.run, Optimize(examples=examples))):
        (tmp_path / name).mkdir()
        run(model_dir, config, tmp_path / name)
        model_dir = tmp_path / name
        noted[name] = json.loads((model_dir / "notes.json").read_text())
    return model_dir, noted


def table_of_rows(folder: Path) -> Path:
    """Rows chosen by numbers below the count of rows given: no invented number above 0 fits 1 row."""
    nodes = [helper.make_node("Gather", ["rows", "chosen"], ["y"]), helper.make_node("Reshape", ["y", "s"], ["z"])]
    size = numpy_helper.from_array(np.array([-1, 8, 24]), "s")  # eight of them each
    return directory(folder, nodes, [port("rows", "n", 24), port("chosen", "e", kind=INT)], [port("z", "g", 8, 24)], [size])


def test_recorded_calls_are_used_where_no_invented_one_fits(tmp_path: Path) -> None:
    model_dir = table_of_rows(tmp_path / "m")
    feed = {"rows": np.random.default_rng(0).normal(size=(5, 24)).astype(np.float32), "chosen": np.arange(16) % 5}
    out, noted = both(model_dir, tmp_path, recorded(tmp_path / "calls", [feed]))
    assert noted["s"]["compared_on"]["recorded"] == noted["o"]["compared_on"]["recorded"] == 1
    assert "rejected" not in noted["s"]
    assert check.run(check.session(out), feed)[0].shape == (2, 8, 24)


def test_without_any_input_that_fits_the_graph_stays_as_it_was(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["a"]), helper.make_node("Identity", ["a"], ["y"])]
    size = numpy_helper.from_array(np.array([-1, 1021]), "s")
    model_dir = directory(tmp_path / "m", nodes, [port("x", "n")], [port("y", "g", 1021)], [size])
    out, noted = both(model_dir, tmp_path, None)
    assert "no invented ones fit" in noted["s"]["rejected"]["none"]
    assert noted["o"]["compared_on"] == {"recorded": 0, "invented": 0}
    assert json.loads((out / "engine.json").read_text())["graph_optimization_level"] == 0
    assert len(onnx.load(out / "model.onnx").graph.node) == 2


def test_calls_that_the_model_itself_does_not_take_are_named(tmp_path: Path) -> None:
    model_dir = table_of_rows(tmp_path / "m")
    good = {"rows": np.zeros((5, 24), np.float32), "chosen": np.zeros(8, np.int64)}
    bad = {**good, "chosen": np.full(8, 9)}
    with pytest.raises(PassError, match="does not take call 1 of the recipe's own data"):
        both(model_dir, tmp_path, recorded(tmp_path / "calls", [good, bad]))


def test_rewrite_that_differs_on_recorded_calls_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No invented value exceeds 100: only the recipe's own see the difference."""
    model_dir = directory(tmp_path / "m", [helper.make_node("Neg", ["x"], ["y"])], [port("x", "n", 2)], [port("y", "n", 2)])

    def wrong(model: onnx.ModelProto, _scratch: Path) -> onnx.ModelProto:
        model.graph.node[0].CopyFrom(helper.make_node("Min", ["x", "c"], ["m"]))
        model.graph.node.append(helper.make_node("Neg", ["m"], ["y"]))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(100), "c"))
        return model

    monkeypatch.setattr(simplify, "_folded", wrong)
    out, noted = both(model_dir, tmp_path, recorded(tmp_path / "calls", [{"x": np.array([[1.0, 500.0]], np.float32)}]))
    assert noted["s"]["rejected"]["none"].startswith("differs by 8.00e-01")
    assert [node.op_type for node in onnx.load(out / "model.onnx").graph.node] == ["Neg"]


@pytest.mark.parametrize("inside", [False, True])
def test_outputs_of_random_numbers_are_held_to_their_shape(tmp_path: Path, inside: bool) -> None:
    noise = [helper.make_node("RandomNormalLike", ["x"], ["r"]), helper.make_node("Add", ["x", "r"], ["noisy"])]
    if inside:
        draws = [[helper.make_node("RandomNormalLike", ["x"], [name])] for name in "tu"]
        then, other = (helper.make_graph(each, "b", [], [port(each[0].output[0], "n", 3)]) for each in draws)
        noise = [
            helper.make_node("Constant", [], ["on"], value=numpy_helper.from_array(np.array(True))),
            helper.make_node("If", ["on"], ["r"], then_branch=then, else_branch=other),
            helper.make_node("Add", ["x", "r"], ["noisy"]),
        ]
    nodes = [*noise, helper.make_node("Neg", ["x"], ["plain"])]
    model_dir = directory(tmp_path / "m", nodes, [port("x", "n", 3)], [port("noisy", "n", 3), port("plain", "n", 3)])
    _, noted = both(model_dir, tmp_path, recorded(tmp_path / "calls", [{"x": np.ones((1, 3), np.float32)}]))
    assert noted["s"]["random_outputs"] == noted["o"]["random_outputs"] == ["noisy"]
    assert "rejected" not in noted["s"]


def test_two_recorded_calls_are_also_run_as_one(tmp_path: Path) -> None:
    signature = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=("n", 2)),), outputs=())
    seen: list[tuple[int, ...]] = []

    def run(feed: Any) -> list[Any]:
        seen.append(feed["x"].shape)
        return [feed["x"]]

    one = {"x": np.ones((1, 2), np.float32)}
    found = trials.of_signature(run, signature, {}, [one, one])
    assert seen[:3] == [(1, 2), (1, 2), (2, 2)]
    assert found.recorded == 3
    assert found.example(signature)["x"].shape[0] > 1


def test_an_excerpt_has_the_shapes_that_differ_and_is_bounded(tmp_path: Path) -> None:
    feeds = [{"x": np.full((1, 3 if number in (7, 11) else 2), number, np.float32)} for number in range(40)]
    folder = recorded(tmp_path / "calls", feeds)
    (tmp_path / "few").mkdir()
    calls.excerpt(folder, tmp_path / "few", 4, 1 << 20)
    listed = json.loads((tmp_path / "few/calls.json").read_text())
    assert [call["inputs"]["x"]["shape"] for call in listed].count([1, 3]) >= 1
    assert len(listed) == 4
    signature = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=("n", "w")),), outputs=())
    values = [float(feed["x"][0, 0]) for feed in trials.recorded(tmp_path / "few", tmp_path, signature)]
    assert values == sorted(values)
    assert values[0] == 0
    assert 7 in values
    (tmp_path / "one").mkdir()
    calls.excerpt(folder, tmp_path / "one", 4, 1)
    assert len(json.loads((tmp_path / "one/calls.json").read_text())) == 1


def test_recipes_calls_alone_are_compared_where_others_are_not() -> None:
    def run(feed: dict[str, Any]) -> list[Any]:
        if feed["x"].shape[-1] < 4:
            raise PassError("too short")
        return [feed["x"] * 2]

    signature = Signature(inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", "n")),), outputs=())
    calls_ = [{"x": np.full((1, 5), value, np.float32)} for value in (1, 2)]
    tried = trials.of_calls(run, signature, calls_)
    assert tried.recorded == len(tried.feeds) == len(tried.references) == 3  # both, and both together
    short = {"x": np.zeros((1, 3), np.float32)}
    with pytest.raises(PassError, match="does not take call 1 of the recipe's own data: too short"):
        trials.of_calls(run, signature, [calls_[0], short])
    feeds, references = trials.accepted(run, [short, calls_[0]])
    assert len(feeds) == len(references) == 1
    assert feeds[0] is calls_[0]
