"""Rollouts from their start to their end, with their trail in registries of both kinds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.registry.places import PLACES, move
from tests.support.rollouts.metrics import broken
from tests.support.rollouts.registries import SETTINGS, Cloud, stocked

from mlpack.deploy.rollouts import leading, trail
from mlpack.deploy.rollouts.leading import Leader, StartRequest
from mlpack.errors import MlpackError, RecipeError, ServiceError
from mlpack.registry import Key, Put
from mlpack.registry.aliases import aliases
from mlpack.registry.aliases.aliases import MoveRequest, prospect
from mlpack.registry.rows import rows
from mlpack_control import Policy, replay
from mlpack_control.handler import Controller
from mlpack_control.trail import DynamoTrail

REQUEST = StartRequest(reference="fashion@2", alias="prod", settings=SETTINGS, here=True)


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def leader(tmp_path: Path, cloud: Cloud) -> Leader:
    return stocked(str(tmp_path / "registry"), tmp_path, cloud)


def live(leader: Leader) -> list[tuple[int, str]]:
    """The versions that prod had, newest first, and how it got there."""
    return [(each.version, each.kind) for each in aliases.history(leader.place, rows.parse_reference("fashion:prod"))]


@pytest.mark.parametrize("kind", PLACES)
def test_a_rollout_ends_with_the_registrys_alias(kind: str, tmp_path: Path, cloud: Cloud, request: pytest.FixtureRequest) -> None:
    where = str(tmp_path / "registry") if kind == "directory" else request.getfixturevalue("aws").make_place()
    leader = stocked(where, tmp_path, cloud)
    leading.start(leader, REQUEST)
    assert [weights for _, weights, _ in cloud.api.history] == [{"8": 0.05}, {"8": 0.25}, {"8": 0.5}, {}]
    assert live(leader) == [(2, "promote"), (1, "promote")]
    seen = leading.state(leader, "fashion", "prod")
    assert seen.end is not None
    assert (seen.end.phase, seen.traffic) == ("finalised", {"version": "8", "weights": {}, "ours": True})
    assert all(each.same for each in replay(Policy.of(SETTINGS["policy"]), seen.looks))
    assert [gate["gate"] for gate in next(aliases.history(leader.place, rows.parse_reference("fashion:prod"), whole=True)).gates]


def test_a_rollout_is_prepared_for_somebody_else_to_start(leader: Leader, cloud: Cloud) -> None:
    rollout = leading.start(leader, dataclasses.replace(REQUEST, prepare=True))
    assert (rollout.document["id"], rollout.document["policy"], cloud.api.history) == (rollout.id, SETTINGS["policy"], [])
    assert leading.state(leader, "fashion", "prod").end is None
    with pytest.raises(RecipeError, match="is under way"):
        leading.start(leader, REQUEST)
    leading.abort(leader, "fashion", "prod", "nobody started it")
    leading.start(leader, REQUEST)


def test_a_broken_release_leaves_the_alias(leader: Leader, cloud: Cloud) -> None:
    cloud.metrics.series = broken
    leading.start(leader, REQUEST)
    seen = leading.state(leader, "fashion", "prod")
    assert seen.end is not None
    assert (seen.end.phase, live(leader), cloud.api.alias.weights) == ("rolled_back", [(1, "promote")], {})
    assert "errors is bad" in seen.end.why


def test_who_promotes_meanwhile_keeps_the_alias(leader: Leader, cloud: Cloud) -> None:
    began = cloud.now

    def meddle(seconds: float) -> None:
        cloud.sleep(seconds)
        if began + 120 < cloud.now and len(live(leader)) == 1:
            move(leader.place, "fashion", 2)
            aliases.rollback(leader.place, rows.parse_reference("fashion:prod"), MoveRequest(who="bob"))

    leading.start(dataclasses.replace(leader, sleep=meddle), REQUEST)
    assert live(leader) == [(1, "rollback"), (2, "promote"), (1, "promote")]
    end = leading.state(leader, "fashion", "prod").end
    assert end is not None
    assert end.phase == "finalised"


def test_one_rollout_of_an_alias_at_a_time(leader: Leader, cloud: Cloud) -> None:
    move_ = prospect(leader.place, rows.parse_reference("fashion@2"), "prod", MoveRequest(who="a"), lambda _new, _old: ())
    assert move_ is not None
    trail.begin(leader.place, move_, 1, {"policy": {}, "target": {}})
    with pytest.raises(RecipeError, match="fashion-prod-1: the rollout of fashion@2 is under way"):
        leading.start(leader, REQUEST)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reference": "fashion@1"}, "is at fashion@1 already"),
        ({"reference": "fashion"}, "roll out NAME@VERSION"),
        ({"reference": "fashion@9"}, "no release fashion@9"),
        ({"alias": "PROD"}, "small letters"),
        ({"here": False}, "lead it from here with --here"),
        ({"force": True}, "--force needs --why"),
    ],
)
def test_what_cannot_be_rolled_out_is_told(change: dict[str, Any], words: str, leader: Leader, cloud: Cloud) -> None:
    with pytest.raises(RecipeError, match=words):
        leading.start(leader, dataclasses.replace(REQUEST, **change))
    assert cloud.api.calls == []


def test_a_function_without_the_releases_code_is_told(leader: Leader, cloud: Cloud) -> None:
    cloud.api.code = "other"
    with pytest.raises(RecipeError, match="apply the stack of this release first"):
        leading.start(leader, REQUEST)
    end = leading.state(leader, "fashion", "prod").end
    assert end is not None
    assert end.phase == "rolled_back"


def test_an_interruption_rolls_back(leader: Leader, cloud: Cloud) -> None:
    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leading.start(dataclasses.replace(leader, sleep=stop), REQUEST)
    assert [weights for _, weights, _ in cloud.api.history] == [{"8": 0.05}, {}]


def test_a_person_who_moves_the_alias_is_told_of(leader: Leader, cloud: Cloud) -> None:
    def meddle(seconds: float) -> None:
        cloud.sleep(seconds)
        where = {"FunctionName": "fashion-prod", "Name": "live", "Description": "by hand"}
        cloud.api.update_alias(**where, RoutingConfig={"AdditionalVersionWeights": {"8": 0.9}})

    with pytest.raises(ServiceError, match="somebody moved it meanwhile"):
        leading.start(dataclasses.replace(leader, sleep=meddle), REQUEST)
    end = leading.state(leader, "fashion", "prod").end
    assert end is not None
    assert (end.phase, cloud.api.alias.weights) == ("overtaken", {"8": 0.9})


def test_a_question_is_answered(leader: Leader, cloud: Cloud) -> None:
    policy = {**SETTINGS["policy"], "give_up_s": 240, "look_s": 120}
    cloud.metrics.series = lambda metric, _version: 1.0 if metric in ("Invocations", "total") else 0.0
    asked: list[str] = []

    def answer(seconds: float) -> None:
        cloud.sleep(seconds)
        looks = leading.state(leader, "fashion", "prod").looks
        if looks and looks[-1]["action"]["kind"] == "ask":
            asked.append(looks[-1]["why"])
            leading.answer(leader, "fashion", "prod", "advance" if len(asked) < 3 else "roll_back")
            with pytest.raises(RecipeError, match="answered about this step already"):
                leading.answer(leader, "fashion", "prod", "advance")

    request = dataclasses.replace(REQUEST, settings={**SETTINGS, "policy": policy})
    leading.start(dataclasses.replace(leader, sleep=answer), request)
    assert len(asked) == 3
    assert [weights for _, weights, _ in cloud.api.history] == [{"8": 0.05}, {"8": 0.25}, {"8": 0.5}, {}]
    assert cloud.api.alias.main == "7"
    with pytest.raises(RecipeError, match="nothing under way"):
        leading.answer(leader, "fashion", "prod", "advance")


def test_what_was_never_started_is_told(leader: Leader) -> None:
    for verb in (leading.state, lambda *names: leading.abort(*names, None)):
        with pytest.raises(MlpackError, match="there was no rollout to fashion:prod"):
            verb(leader, "fashion", "prod")  # type: ignore[operator]


@pytest.mark.slow
def test_the_machines_controller_writes_the_same_trail(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    aws = request.getfixturevalue("aws")
    cloud = Cloud(dynamodb=aws.client("dynamodb"))
    leader = stocked(aws.make_place(), tmp_path, cloud)
    leading.start(leader, dataclasses.replace(REQUEST, here=False))
    [text] = cloud.machines.running.values()
    document, send = json.loads(text), Controller(cloud.client, lambda: cloud.now)
    while (document.get("state") or {}).get("phase") not in ("finalised", "rolled_back"):
        document = send.run({"do": "decide", "document": document})
        if document["action"]["kind"] == "hold":
            cloud.sleep(60)
        else:
            document = send.run({"do": document["action"]["kind"], "document": document})
    assert document["registry"] == "written"
    seen = leading.state(leader, "fashion", "prod")
    assert seen.end is not None
    assert (seen.end.phase, len(seen.looks), live(leader)[0]) == ("finalised", document["looks"], (2, "promote"))
    assert all(each.same for each in replay(Policy.of(SETTINGS["policy"]), seen.looks))
    kept = DynamoTrail(aws.client("dynamodb"), document["rollout"]["registry"])
    assert kept.record(1, seen.looks[1]) == seen.looks[0]
    assert (kept.finish("finalised", "again", cloud.now), kept.answer(0)) == (True, None)


@pytest.mark.slow
def test_an_abort_clears_and_ends_the_machine(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    aws = request.getfixturevalue("aws")
    cloud = Cloud(dynamodb=aws.client("dynamodb"))
    leader = stocked(aws.make_place(), tmp_path, cloud)
    leading.start(leader, dataclasses.replace(REQUEST, here=False))
    document, send = json.loads(next(iter(cloud.machines.running.values()))), Controller(cloud.client, lambda: cloud.now)
    for do in ("decide", "publish", "decide", "warm", "decide", "shift"):
        document = send.run({"do": do, "document": document})
    end = leading.abort(leader, "fashion", "prod", "it smells")
    assert (end.phase, cloud.api.alias.weights, cloud.machines.running) == ("rolled_back", {}, {})
    assert end.why.endswith("it smells")
    assert live(leader) == [(1, "promote")]
    leading.start(leader, dataclasses.replace(REQUEST, here=False))
    cloud.machines.running.clear()
    unfinished = leading.state(leader, "fashion", "prod")
    assert (unfinished.rollout.number, unfinished.end) == (2, None)


@pytest.mark.parametrize(
    ("sort", "body", "words"),
    [
        ("000000003", b"[]", "its evidence is not an object"),
        ("000000003", b'{"why":"x"}', "action is missing"),
        ("000000003", b'{"why":"x","action":{"kind":"shift"},"verdicts":[]}', "percent is missing"),
        ("000000003", b'{"why":"x","action":{"kind":"hold"},"verdicts":[1],"state":{}}', "a verdict is not an object"),
        ("000000003", b'{"why":"x","action":{"kind":"hold"},"verdicts":[],"state":{}}', "its keys are not"),
        ("000000003", b"\xff", "not UTF-8"),
    ],
)
def test_a_damaged_look_is_named(sort: str, body: bytes, words: str, leader: Leader) -> None:
    leading.start(leader, dataclasses.replace(REQUEST, settings={**SETTINGS, "policy": {**SETTINGS["policy"], "steps": [100]}}))
    key = Key("name/fashion/rollout/prod/000000001", sort)
    row = leader.place.table.get(key)
    assert row is not None
    leader.place.table.commit(Put(key=key, head=row.head, body=body, expect=row.revision))
    with pytest.raises(ServiceError, match=words):
        leading.state(leader, "fashion", "prod")
