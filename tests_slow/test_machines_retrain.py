"""The machine of the control plane, in moto and in our interpreter: real jobs, steps and rollout; every state, every way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.support.asl.edges import edges_of, missing, states_of
from tests.support.asl.interpreter import Run
from tests.support.asl.paths import StatesError
from tests.support.machines import BUCKET, TOPIC, retrain_machine, rollout_machine
from tests.support.rollouts.metrics import Metrics, broken
from tests.support.rollouts.rollouts import ROLLOUT, Account
from tests.support.services.moto_machines import Execution, Machines, machines

from mlpack_jobs import building, handler, validation

MACHINE, ROLLOUT_MACHINE = retrain_machine(), rollout_machine()
LAMBDA, SNS = "arn:aws:states:::lambda:invoke", "arn:aws:states:::sns:publish"
BUILD, START = "arn:aws:states:::codebuild:startBuild.sync", "arn:aws:states:::states:startExecution.sync:2"
SETTINGS = {"data": f"s3://{BUCKET}/data/", "artifacts": f"s3://{BUCKET}", "columns": {"x": "number"}}
GIVEN = {"reason": "schedule"}
DOCUMENT = {"rollout": {**ROLLOUT, "policy": {**ROLLOUT["policy"], "steps": [50, 100], "bake_s": 180, "look_s": 180}}}


@dataclass
class Listing:
    """Step Functions with an execution of our interpreter's, and maybe another one that began earlier."""

    others: bool

    def list_executions(self, stateMachineArn: str, statusFilter: str) -> dict[str, Any]:  # noqa: N803
        """ListExecutions."""
        own = {"executionArn": f"{stateMachineArn.replace('stateMachine', 'execution')}:run", "startDate": 2}
        return {"executions": [own, *([{"executionArn": "arn:other", "startDate": 1}] if self.others else [])]}


@dataclass
class World:
    """What the machine finds. `codes`: mlpack's exit codes by its verb; `silent`: a step that leaves nothing."""

    data: str = '{"x": 1}\n'
    known: bool = False
    codes: dict[str, int] = field(default_factory=dict)
    silent: str = ""
    away: str = ""
    """What fails: jobs, train."""
    others: bool = False
    listing: Listing | None = None
    account: Account = field(default_factory=Account)
    ends: str = "Live"
    clients: Callable[[str], Any] = lambda _: None
    steps: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)

    def fill(self, clients: Callable[[str], Any]) -> None:
        """The bucket, with data, source, and what the last run was made of."""
        self.clients = clients
        s3 = clients("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        s3.put_object(Bucket=BUCKET, Key="data/a.jsonl", Body=self.data)
        s3.put_object(Bucket=BUCKET, Key="source/recipe.yaml", Body="name: fashion")
        if self.known:
            digest = validation.run(SETTINGS, clients, {})["digest"]
            s3.put_object(Bucket=BUCKET, Key=validation.LAST, Body=json.dumps({"digest": digest}))

    def jobs(self, event: Any) -> Any:
        """Our function of jobs."""
        if self.away == "jobs":
            raise RuntimeError("the jobs are away")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(handler.SETTINGS, json.dumps(SETTINGS))
            patch.setattr(handler, "clients", self._clients)
            return handler.handler(event)

    def _clients(self, service: str) -> Any:
        return self.listing if service == "stepfunctions" and self.listing else self.clients(service)

    def train(self, event: Any) -> Any:
        """Somebody's training: it leaves a model."""
        if self.away == "train":
            raise ValueError("the loss is NaN")
        place = event["model"].removeprefix(f"s3://{BUCKET}/")
        self.clients("s3").put_object(Bucket=BUCKET, Key=f"{place}/model/model.onnx", Body=b"onnx")
        return {}

    def build(self, environment: dict[str, str]) -> Any:
        """CodeBuild, which runs a step as it is."""
        step = environment["MLPACK_STEP"]
        self.steps.append(step)
        if step == self.silent:
            return {}
        with TemporaryDirectory() as folder:
            work = Path(folder)
            told = {**environment, "MLPACK_SOURCE": f"s3://{BUCKET}/source"}
            if code := building.run(told, work, self.clients, self._mlpack):
                raise StatesError("States.TaskFailed", f"exit {code}")
        return {}

    def _mlpack(self, arguments: list[str], folder: Path) -> building.Told:
        verb = arguments[0]
        if verb == "build":
            assert (folder / "model" / "model.onnx").read_bytes() == b"onnx"
            (folder / "out").mkdir()
            (folder / "out" / "build.json").write_text("{}")
        said = {"build": "", "publish": "fashion@9\n", "rollout": json.dumps(DOCUMENT)}[verb]
        return self.codes.get(verb, 0), said, f"{verb} ended"

    def control(self, event: Any) -> Any:
        """The controller."""
        return self.account.send(event["do"], event["document"])


SCENARIOS: dict[str, Callable[[], World]] = {
    "a release that gets all the traffic": World,
    "the data of the last run": lambda: World(known=True, ends="NothingNew"),
    "data that are wrong": lambda: World(data='{"x": "much"}\n', ends="BadData"),
    "another execution at work": lambda: World(others=True, ends="AtWork"),
    "jobs that are away": lambda: World(away="jobs", ends="Failed"),
    "training that fails": lambda: World(away="train", ends="Failed"),
    "a build over its budgets": lambda: World(codes={"build": 5}, ends="Refused"),
    "a build that fails": lambda: World(codes={"build": 3}, ends="Failed"),
    "a build without its services": lambda: World(codes={"build": 4}, ends="Failed"),
    "a build that says nothing": lambda: World(silent="build", ends="Failed"),
    "a release that gates refuse": lambda: World(codes={"rollout": 5}, ends="Refused"),
    "a release that cannot be published": lambda: World(codes={"publish": 3}, ends="Failed"),
    "a registry that is away": lambda: World(codes={"publish": 4}, ends="Failed"),
    "a registration that says nothing": lambda: World(silent="register", ends="Failed"),
    "a release that fails": lambda: World(account=Account(metrics=Metrics(broken)), ends="RolledBack"),
}


def interpreted(name: str) -> tuple[Run, World]:
    one = SCENARIOS[name]()
    functions = {"jobs:live": one.jobs, "train": one.train, "control:live": one.control}

    def call(parameters: Any) -> Any:
        return {
            "StatusCode": 200,
            "Payload": functions[parameters["FunctionName"].partition(":function:")[2]](parameters["Payload"]),
        }

    def built(parameters: Any) -> Any:
        return {"Build": one.build({each["Name"]: each["Value"] for each in parameters["EnvironmentVariablesOverride"]})}

    def roll(parameters: Any) -> Any:
        inner = Run(ROLLOUT_MACHINE, {**tasks, LAMBDA: lambda told: (setattr(one.account, "now", inner.now), call(told))[1]})
        if inner.execute(parameters["Input"]).status != "SUCCEEDED":
            raise StatesError("States.TaskFailed", inner.error)
        return {"Status": inner.status, "Output": inner.output}

    tasks = {LAMBDA: call, BUILD: built, START: roll}
    tasks[SNS] = lambda parameters: one.subjects.append(parameters["Subject"])
    with machines() as moto:
        one.fill(moto.client)
        one.listing = Listing(one.others)
        run = Run(MACHINE, tasks)
        return run.execute(GIVEN), one


def in_moto(name: str) -> tuple[Execution, World]:
    one = SCENARIOS[name]()

    def turn(seconds: float) -> None:
        one.account.now += seconds

    with machines() as moto:
        one.fill(moto.client)
        moto.turn, moto.build = turn, one.build
        for function, run in (("jobs:live", one.jobs), ("train", one.train), ("control:live", one.control)):
            moto.function(function, run)
        moto.client("sns").create_topic(Name=TOPIC.rpartition(":")[2])
        moto.machine("rollout", ROLLOUT_MACHINE)
        moto.machine("retrain", MACHINE)
        if one.others:
            return _behind_another(moto, one), one
        return moto.run("retrain", GIVEN), one


def _behind_another(moto: Machines, one: World) -> Execution:
    """An execution while another one is in its training."""
    there, go = threading.Event(), threading.Event()

    def train(_: Any) -> Any:
        there.set()
        assert go.wait(60)
        raise ValueError("enough")

    moto.function("train", train)
    first = moto.start("retrain", GIVEN, "first")
    assert there.wait(60)
    second = moto.run("retrain", GIVEN, "second")
    go.set()
    moto.end(first)
    return second


@cache
def both(name: str) -> tuple[Run, World, Execution, World]:
    return *interpreted(name), *in_moto(name)


@pytest.mark.parametrize("name", SCENARIOS)
def test_moto_and_our_interpreter_go_the_same_way(name: str) -> None:
    ours, here, theirs, there = both(name)
    assert [state for state, _ in theirs.trace] == [state for state, _ in ours.trace]
    assert (theirs.status, theirs.error) == (ours.status, ours.error)
    assert ours.trace[-1][0] == here.ends
    assert here.steps == there.steps


def test_every_state_and_every_way_of_retraining_is_gone() -> None:
    runs = [both(name) for name in SCENARIOS]
    for who, at in (("our interpreter", 0), ("moto", 2)):
        entered = {state for run in runs for state, _ in run[at].trace}
        gone = {edge for run in runs for edge in run[at].edges}
        states, edges = states_of(MACHINE), edges_of(MACHINE)
        print(f"retrain in {who}: {len(entered & states)} of {len(states)} states, {len(gone & edges)} of {len(edges)} ways")
        assert missing(MACHINE, entered, gone) == (set(), set())


def test_failed_services_are_tried_again_and_refusals_are_not() -> None:
    assert both("a build without its services")[1].steps == ["build"] * 3
    assert both("a registry that is away")[1].steps == ["build"] + ["register"] * 3
    assert both("a build over its budgets")[1].steps == ["build"]


def test_the_release_has_the_traffic_only_at_the_good_end() -> None:
    for name in SCENARIOS:
        one = both(name)[3]
        alias = one.account.api.alias
        assert (alias.main, alias.weights) == ("8" if one.ends == "Live" else "7", {})
