"""A graph that the engine refuses: the nodes that it is about are found by halving, and stay float."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.support.models.foreign_graphs import constant, model, node, port
from tests.support.models.quantized_graphs import KINDS
from tests.support.recorded_calls import recorded

from mlpack.errors import PassError
from mlpack.graphs import files
from mlpack.passes import quantize
from mlpack.passes.quantize import Quantize
from mlpack.passes.quantize.choice import held
from mlpack.passes.quantize.choice.choose import NodeChoice
from mlpack.passes.quantize.choice.held import Attempt
from mlpack.passes.quantize.methods import pairs

NAMES = [f"n{number}" for number in range(20)]


class Refusing:
    """An engine that refuses graphs with all of certain nodes in integers."""

    def __init__(self, *together: set[str]) -> None:
        self.together, self.asked, self.there = together, 0, set[str]()

    def refusal(self, _folder: Path) -> str:
        self.asked += 1
        return "the engine refuses the graph: no kernel" if any(each <= self.there for each in self.together) else ""


def settled(judge: Refusing, folder: Path, carried: tuple[str, ...] = (), **kinds: str) -> Attempt:
    def made(attempt: Attempt) -> onnx.ModelProto:
        judge.there = set(attempt.parts)
        return KINDS["stacks"]()[0]

    wanted = Attempt(NodeChoice(dict.fromkeys(NAMES, "static")), carried)
    kinds = dict.fromkeys((*NAMES, *carried), "Conv") | kinds
    any_judge: Any = judge
    return held.settled(wanted, made, any_judge, folder, kinds)


@pytest.mark.parametrize("bad", [[], ["n0"], ["n19"], ["n3", "n4"], ["n2", "n11", "n17"]])
def test_each_culprit_is_found_and_no_other(bad: list[str], tmp_path: Path) -> None:
    judge = Refusing(*({name} for name in bad))
    done = settled(judge, tmp_path)
    assert sorted(done.chosen.kept) == sorted(bad)
    assert all("no kernel" in why for why in done.chosen.kept.values())
    assert set(done.chosen.how) == set(NAMES) - set(bad)
    assert judge.asked <= len(bad) * (1 + math.ceil(math.log2(len(NAMES)))) + 1


def test_what_only_carries_is_blamed_first(tmp_path: Path) -> None:
    done = settled(Refusing({"n5", "turn"}), tmp_path, ("pool", "turn"))
    assert done.chosen.how == dict.fromkeys(NAMES, "static")
    assert (done.carried, sorted(done.barred), list(done.chosen.kept)) == (("pool",), ["turn"], ["turn"])


def test_many_culprits_of_one_kind_cost_the_kind(tmp_path: Path) -> None:
    judge = Refusing(*({name} for name in NAMES[:15]))
    done = settled(judge, tmp_path)
    assert not done.chosen.how
    assert judge.asked < 80


@pytest.mark.parametrize(("bad", "lost"), [(8, NAMES[:8]), (9, [name for name in NAMES if name != "n15"])])
def test_eight_are_found_one_by_one_and_a_ninth_takes_its_kind(bad: int, lost: list[str], tmp_path: Path) -> None:
    judge = Refusing(*({name} for name in NAMES[:bad]))
    done = settled(judge, tmp_path, ("pool",), n15="MatMul", pool="MaxPool")
    assert sorted(done.chosen.kept) == sorted(lost)
    assert set(done.chosen.how) == set(NAMES) - set(lost)
    assert (done.carried, done.barred) == (("pool",), frozenset())


def test_an_attempt_with_some_parts_alone_or_without_some() -> None:
    whole = Attempt(NodeChoice({"a": "static", "b": "dynamic"}, {"c": "tiny"}), ("pool", "turn"), frozenset({"far"}))
    assert whole.parts == ("a", "b", "pool", "turn")
    assert whole.only(["turn", "b"]) == Attempt(NodeChoice({"b": "dynamic"}, {"c": "tiny"}), ("turn",), frozenset({"far", "pool"}))
    less = whole.without({"a": "no kernel", "pool": "no kernel"})
    kept = {"c": "tiny", "a": "no kernel", "pool": "no kernel"}
    assert less == Attempt(NodeChoice({"b": "dynamic"}, kept), ("turn",), frozenset({"far", "pool"}))


def test_a_graph_that_is_refused_in_float_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PassError, match="all of it in float"):
        settled(Refusing(set()), tmp_path)


def test_answers_of_another_shape_or_not_finite_are_refusals(tmp_path: Path) -> None:
    folders = {}
    for name, shape, value in (("float", [2], 1.0), ("other", [3], 1.0), ("infinite", [2], math.inf)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        nodes = [node("Expand", ["c", "shape"], ["y"], "e"), node("Identity", ["x"], ["z"], "i")]
        held_ = [constant("c", np.float32(value)), constant("shape", np.array(shape))]
        files.save(model(nodes, [port("x", [1])], [port("y", ["n"]), port("z", [1])], held_), folders[name])
    judge = held.EngineCheck(folders["float"], files.outline(folders["float"]), None)
    assert judge.refusal(folders["float"]) == ""
    assert "gives (3,) where float gives (2,)" in judge.refusal(folders["other"])
    assert "not finite" in judge.refusal(folders["infinite"])
    # A fault that the float graph has too is not the integers'. It is asked for that once.
    assert "gives (3,)" in judge.refusal(folders["other"])
    fresh = held.EngineCheck(folders["float"], files.outline(folders["float"]), None)
    files.save(files.load(folders["other"]), folders["float"])
    assert fresh.refusal(folders["other"]) == ""
    files.clear(folders["float"])
    assert fresh.refusal(folders["other"]) == ""


def test_a_node_that_the_engine_refuses_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real engine, and a quantizer that puts one wrong scale into the graph."""
    graph, feeds = KINDS["mixed"]()
    for part in ("float", "out"):
        (tmp_path / part).mkdir()
    files.save(graph, tmp_path / "float")
    right = pairs.channels
    monkeypatch.setattr(pairs, "channels", lambda node, said: right(node, said) + (node.name == "third"))
    calls = recorded(tmp_path / "calls", feeds)
    quantize.run(tmp_path / "float", Quantize(calibration=calls), tmp_path / "out")
    notes = json.loads((tmp_path / "out" / "notes.json").read_text())
    assert list(notes["kept"]) == ["third"]
    assert notes["kept"]["third"].startswith("the engine refuses the graph with it in integers: ")
    assert {"stem", "body"} <= set(notes["nodes"])
