"""The rollout's machine with the very controller, in moto and in our interpreter: the same trace, every state, every way."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from tests.support.asl.edges import edges_of, missing, states_of
from tests.support.asl.interpreter import Run
from tests.support.machines import TOPIC, rollout_machine
from tests.support.rollouts.metrics import Metrics, broken, healthy
from tests.support.rollouts.rollouts import ROLLOUT as MINUTES
from tests.support.rollouts.rollouts import Account, end_of
from tests.support.services.moto_machines import Execution, machines

MACHINE = rollout_machine()
ROLLOUT: dict[str, Any] = {**MINUTES, "policy": {**MINUTES["policy"], "bake_s": 180, "look_s": 90}}
LAMBDA, SNS = "arn:aws:states:::lambda:invoke", "arn:aws:states:::sns:publish"


class World:
    """An account with a controller, whose calls may fail: `fails(do, document)` raises. Each call is noted."""

    def __init__(self, account: Account, fails: Callable[[Account, str, Any], None]) -> None:
        self.account = account
        self._fails = fails
        self.subjects: list[str] = []

    def control(self, event: Any) -> Any:
        """The function."""
        self._fails(self.account, event["do"], event["document"])
        return self.account.send(event["do"], event["document"])


def nothing(_account: Account, _do: str, _document: Any) -> None:
    """No call fails."""


def fault(do: str, error: Exception) -> Callable[[Account, str, Any], None]:
    """Each such call ends with this error, before it does anything."""

    def fail(_account: Account, what: str, _document: Any) -> None:
        if what == do:
            raise error

    return fail


def other(do: str) -> Callable[[Account, str, Any], None]:
    """Somebody moves the alias by hand before such a call."""

    def move(account: Account, what: str, _document: Any) -> None:
        if what == do:
            account.api.update_alias(FunctionName="fashion-prod", Name="live", Description="by hand")

    return move


def another(account: Account, do: str, document: Any) -> None:
    """Another controller leads the rollout from its second look on."""
    if do == "decide" and document.get("looks") == 1:
        account.trail.record(2, {"state": "another", "observed": {}, "at": 0})


def policy(**changes: Any) -> dict[str, Any]:
    return {**ROLLOUT, "policy": {**ROLLOUT["policy"], **changes}}


def quiet(metric: str, version: str) -> float | None:
    """One request a minute: too few for any verdict."""
    return healthy(metric, version) and 1.0


def failing() -> Account:
    """The release fails."""
    return Account(metrics=Metrics(broken))


DOWN = RuntimeError("the service is away")
SHORT = {"give_up_s": 600, "expire_s": 1500, "look_s": 300}
SCENARIOS: dict[str, tuple[Callable[[], Account], dict[str, Any], Callable[[Account, str, Any], None], str]] = {
    "a healthy release": (Account, ROLLOUT, nothing, "Finalised"),
    "a broken release": (failing, ROLLOUT, nothing, "RolledBack"),
    "too few requests: asked, then given up": (lambda: Account(metrics=Metrics(quiet)), policy(**SHORT), nothing, "RolledBack"),
    "environments that get warm": (Account, policy(provisioned=2), nothing, "Finalised"),
    "publishing fails": (Account, ROLLOUT, fault("publish", DOWN), "RolledBack"),
    "another release's code": (Account, {**ROLLOUT, "release": {"sha256": "other"}}, nothing, "RolledBack"),
    "warming fails": (Account, ROLLOUT, fault("warm", DOWN), "RolledBack"),
    "shifting fails": (Account, ROLLOUT, fault("shift", DOWN), "RolledBack"),
    "finalising fails": (Account, ROLLOUT, fault("finalise", DOWN), "RolledBack"),
    "deciding fails": (Account, ROLLOUT, fault("decide", DOWN), "RolledBack"),
    "nothing works": (Account, ROLLOUT, lambda *_: (_ for _ in ()).throw(DOWN), "Stuck"),
    "somebody moves the alias before a shift": (Account, ROLLOUT, other("shift"), "Overtaken"),
    "somebody moves the alias before the end": (Account, ROLLOUT, other("finalise"), "Overtaken"),
    "somebody moves the alias before the roll-back": (
        lambda: Account(metrics=Metrics(broken)),
        ROLLOUT,
        other("roll_back"),
        "Overtaken",
    ),
    "another controller": (Account, ROLLOUT, another, "Overtaken"),
    "a rollout that has ended": (Account, ROLLOUT, nothing, "RolledBack"),
}
PROVISIONING = ["IN_PROGRESS", "IN_PROGRESS", "READY"]


def world(name: str) -> World:
    make, _, fails, _ = SCENARIOS[name]
    account = make()
    account.api.provisioning = list(PROVISIONING)
    return World(account, fails)


def document(name: str) -> Any:
    if name == "a rollout that has ended":
        return both("a broken release")[0].trace[-1][1]
    return {"rollout": SCENARIOS[name][1]}


def interpreted(name: str) -> tuple[Run, World]:
    one = world(name)

    def call(parameters: Any) -> Any:
        one.account.now = run.now
        return {"StatusCode": 200, "Payload": one.control(parameters["Payload"])}

    run = Run(MACHINE, {LAMBDA: call, SNS: lambda parameters: one.subjects.append(parameters["Subject"])})
    return run.execute(document(name)), one


def in_moto(name: str) -> tuple[Execution, World]:
    one = world(name)

    def turn(seconds: float) -> None:
        one.account.now += seconds

    with machines() as moto:
        moto.turn = turn
        moto.function("control:live", one.control)
        moto.client("sns").create_topic(Name=TOPIC.rpartition(":")[2])
        moto.machine("rollout", MACHINE)
        return moto.run("rollout", document(name)), one


@cache
def both(name: str) -> tuple[Run, World, Execution, World]:
    return *interpreted(name), *in_moto(name)


@pytest.mark.parametrize("name", SCENARIOS)
def test_moto_and_our_interpreter_go_the_same_way(name: str) -> None:
    ours, here, theirs, there = both(name)
    assert [state for state, _ in theirs.trace] == [state for state, _ in ours.trace]
    assert theirs.trace == [(state, json.loads(json.dumps(given))) for state, given in ours.trace]
    assert (theirs.status, theirs.output, theirs.error) == (ours.status, ours.output, ours.error)
    assert ours.trace[-1][0] == SCENARIOS[name][3]
    assert here.account.api.history == there.account.api.history


def test_every_state_and_every_way_of_the_rollout_is_gone() -> None:
    runs = [both(name) for name in SCENARIOS]
    for who, at in (("our interpreter", 0), ("moto", 2)):
        entered = {state for run in runs for state, _ in run[at].trace}
        gone = {edge for run in runs for edge in run[at].edges}
        states, edges = states_of(MACHINE), edges_of(MACHINE)
        print(f"rollout in {who}: {len(entered & states)} of {len(states)} states, {len(gone & edges)} of {len(edges)} ways")
        assert missing(MACHINE, entered, gone) == (set(), set())


def test_weights_are_those_of_the_steps_and_none_is_left() -> None:
    for name, (_, _, _, end) in SCENARIOS.items():
        _, _, _, there = both(name)
        weights = [(main, share) for main, share, _ in there.account.api.history]
        if end == "Finalised":
            assert weights == [("7", {"8": 0.05}), ("7", {"8": 0.25}), ("7", {"8": 0.5}), ("8", {})]
        if end == "Stuck":  # then the dead man's rule calls the brake
            there.account.brake(end_of(ROLLOUT))
        if end in ("RolledBack", "Stuck"):
            assert (there.account.api.alias.main, there.account.api.alias.weights) == ("7", {})


def test_people_hear_of_each_end_once_and_of_questions() -> None:
    assert both("a healthy release")[1].subjects == ["fashion-prod: the release has all the traffic"]
    assert both("nothing works")[1].subjects == ["fashion-prod: the rollout cannot be rolled back"]
    asked, rolled = "fashion-prod: the rollout needs a decision", "fashion-prod: the rollout was rolled back"
    assert both("too few requests: asked, then given up")[1].subjects == [asked, rolled]


def test_a_machine_that_takes_too_long_times_out() -> None:
    one = Account(metrics=Metrics(quiet))
    run = Run(rollout_machine(longest_s=500), {LAMBDA: lambda parameters: {"Payload": one.send(**parameters["Payload"])}})
    assert run.execute({"rollout": ROLLOUT}).status == "TIMED_OUT"
    assert one.api.alias.weights == {"8": 0.05}
    one.brake(end_of(ROLLOUT))  # the dead man's rule
    assert (one.api.alias.main, one.api.alias.weights) == ("7", {})
