"""What each program may do, beside the calls that it makes while it really runs: none missing, none spare.

Packages are processes that ask an AWS on loopback, which keeps a log of every request, whichever client sent it. The controller
and the jobs run here, and their clients are listened to.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.rollouts.metrics import Metrics, broken
from tests.support.rollouts.rollouts import ROLLOUT, Account, lead
from tests.support.runtime.around_services import create_tables
from tests.support.runtime.front_doors import event
from tests.support.runtime.tiny_packages import affine, package
from tests.support.runtime.weight_servers import outside
from tests.support.runtime.workers import Place, Process, add_botocore, place, until
from tests.support.services.account import Around, around
from tests.support.services.aws_server import REGION, AwsServer
from tests_slow.test_around import AROUND, ITEM
from tests_slow.test_batch_function import rows
from tests_slow.test_frontdoor_boot import Function as Door
from tests_slow.test_frontdoor_worker import PORTS, REQUEST
from tests_slow.test_runtime_emulator import Booted, boot

from mlpack.deploy import grants
from mlpack.deploy.graph.roles import Grant
from mlpack.targets.format import frontdoor
from mlpack.targets.format.contents import Contents
from mlpack_control.trail import DynamoTrail
from mlpack_jobs import drift, features, validation

__all__ = ["around", "boot", "place"]

INFER = "/v2/models/tiny/infer"
WHOLE = {"inputs": {"pixels": [[1, 2, 3, 4]], "marks": [5]}}
SAME = {
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "dynamodb:TransactWriteItems": "dynamodb:PutItem",
}
"""Calls that IAM knows by another action."""


def granted(given: tuple[Grant, ...]) -> set[str]:
    """All actions; none is for everything that is not on the list."""
    assert grants.wildcards(given) == {}
    assert all(grant.why and grant.resources for grant in given)
    return {action for grant in given for action in grant.actions}


def called(aws: AwsServer) -> set[str]:
    """The actions of all requests. Who asks for an object that is not there must be allowed to list the bucket to be told so."""
    actions = set()
    for one in aws.log():
        action = f"{one.service}:{one.operation}"
        actions.add(SAME.get(action, action))
        if action in ("s3:GetObject", "s3:HeadObject") and one.status == 404:
            actions.add("s3:ListBucket")
    return actions


def test_around_a_model(aws: AwsServer, tmp_path: Path) -> None:
    s3, dynamodb = aws.client("s3"), aws.client("dynamodb")
    for name in ("logs", "weights"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    create_tables(dynamodb, ITEM)
    server = {"max_batch": 4, "max_wait_ms": 1, "port": 8080, "concurrency": 0, "lame_duck_s": 0.0}
    root = package(tmp_path / "package", affine, target="container", worker=server, around=AROUND)
    weights = outside(root, **{"from": "s3://weights/tiny", "cache": ["memory"]})
    s3.put_object(Bucket="weights", Key=f"tiny/{hashlib.sha256(weights).hexdigest()}", Body=weights)
    aws.clear_log()
    process = Process(root, {**aws.environment, "AWS_REGION": REGION}, entrance="serve").ready()
    try:
        for body in ({"customer": "7"}, WHOLE):
            assert process.http("POST", INFER, body)[0] == 200
    finally:
        process.end()
    everything = grants.around(
        features=grants.table("customers"),
        cache=grants.table("predictions"),
        log=grants.below(grants.bucket("logs"), "predictions"),
        weights=grants.below(grants.bucket("weights"), "tiny"),
    )
    assert called(aws) == granted(everything)
    s3.close()
    dynamodb.close()


@pytest.mark.parametrize("results", ["s3://results/answers", "dynamodb://results"])
def test_a_worker_and_its_front_door(place: Place, tmp_path: Path, results: str) -> None:
    made = package(tmp_path / "package", affine, target="cpu-worker", worker={"max_batch": 4}, **PORTS)
    root = add_botocore(made)
    frontdoor.write_zip(Contents(runtime=root, model=root, code=root, labels={}), tmp_path / "frontdoor.zip")
    with zipfile.ZipFile(tmp_path / "frontdoor.zip") as archive:
        archive.extractall(tmp_path / "task")
    where: Any = grants.table("results") if results.startswith("dynamodb") else grants.bucket("results")
    queue, dead = grants.arn("sqs", "work"), grants.arn("sqs", "dead")

    place.aws.clear_log()
    told = {"MLPACK_QUEUE_URL": place.url, "MLPACK_RESULTS": results, "MLPACK_DEADLINE_MS": "4000", "MLPACK_BACKLOG_LIMIT": "100"}
    door = Door(tmp_path / "task", {"PATH": os.environ["PATH"], **place.aws.environment, **told})
    answers = [door(event(REQUEST)), door(event(REQUEST, prefer="respond-async")), door(event(None, "GET", "/v2/requests/nobody"))]
    door.end()
    assert [answer["statusCode"] for answer in answers] == [504, 202, 404]
    assert called(place.aws) == granted(grants.front_door(queue=queue, results=where, prefix="answers"))

    for body, name, more in (("no request", "wrong", {}), (REQUEST, "right", {}), (REQUEST, "other", {"version": "other"})):
        place.send(body, request_id=name, **more)
    place.aws.clear_log()  # from here on nobody but the worker asks
    worker = place.worker(root, results=results, dlq_url=place.dead_url).ready()
    try:
        until(lambda: len({line["request_id"] for line in worker.answers}) >= 2, "both are answered")
        given_back = "sqs:ChangeMessageVisibility"
        until(lambda: {given_back, "sqs:SendMessage"} <= called(place.aws), "one is given back, and one is among the dead letters")
    finally:
        worker.end()
    assert called(place.aws) == granted(grants.worker(queue=queue, dead=dead, results=where, prefix="answers"))


def test_a_function_that_answers_manifests(boot: Any, aws: AwsServer, tmp_path: Path) -> None:
    place, root = Place(aws), add_botocore(package(tmp_path / "tiny", affine))
    place.s3.put_object(Bucket="results", Key="in/m.jsonl", Body=rows(40).encode())
    aws.clear_log()
    function: Booted = boot(
        sys.executable, "-I", "-S", str(root / "bootstrap.py"), MLPACK_BATCH_PART_ITEMS="16", AWS_REGION=REGION, **aws.environment
    )
    answer = function.invoke({"batch": {"manifest": "s3://results/in/m.jsonl", "results": "s3://results/out"}})
    assert answer["done"], answer
    function.log()
    given = grants.batch(manifests=grants.bucket("results"), prefix="in", results=grants.bucket("results"), results_prefix="out")
    assert called(aws) == granted(given)
    place.close()


class Heard:
    """boto3's clients, whose calls are kept as IAM's actions."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self.actions: set[str] = set()
        self._watched: set[str] = set()

    def clients(self, service: str) -> Any:
        """One of them, listened to."""
        client = self._around.clients(service)
        if service not in self._watched:
            self._watched.add(service)
            client.meta.events.register("before-call", self._before)
            client.meta.events.register("after-call", self._after)
        return client

    def _before(self, model: Any, **_: Any) -> None:
        action = f"{model.service_model.signing_name}:{model.name}"
        self.actions.add(SAME.get(action, action))

    def _after(self, model: Any, http_response: Any, **_: Any) -> None:
        if model.name in ("GetObject", "HeadObject") and http_response.status_code == 404:
            self.actions.add("s3:ListBucket")


def fake(calls: list[str], service: str) -> set[str]:
    """Methods of boto3's as actions."""
    return {f"{service}:{''.join(word.title() for word in call.split('_'))}" for call in calls}


class Listened:
    """A fake client, whose methods' names are kept."""

    def __init__(self, inner: Any, calls: list[str]) -> None:
        self._inner = inner
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        self._calls.append(name)
        return getattr(self._inner, name)


def test_the_controller_and_the_brake(around: Around) -> None:
    heard, seen = Heard(around), []
    around.clients("dynamodb").create_table(
        TableName="registry",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
    )
    move = {"head": {"when": "2026-01-01T00:00:00.000Z"}, "body": "{}", "revision": 2}
    row = {
        "pk": {"S": "t:name/fashion/rollouts/prod"},
        "sk": {"S": "000000001"},
        "body": {"B": json.dumps({"move": move}).encode()},
    }
    around.clients("dynamodb").put_item(TableName="registry", Item=row)
    registry = {"table": "registry", "scope": "t", "name": "fashion", "alias": "prod", "number": 1}
    policy = {**ROLLOUT["policy"], "provisioned": 2}
    counting = {**ROLLOUT["counting"], "alarms": ["fashion-prod-brake"]}
    rollout = {**ROLLOUT, "policy": policy, "counting": counting, "registry": registry}
    calls: list[str] = []
    for metrics in (Metrics(alarms={"fashion-prod-brake": "OK"}), Metrics(broken)):
        account = Account(metrics=metrics, trail=DynamoTrail(heard.clients("dynamodb"), registry))
        account.metrics = Listened(metrics, seen)
        lead(account, rollout)
        calls += account.api.calls
        registry["number"] += 1
        around.clients("dynamodb").put_item(TableName="registry", Item=row | {"sk": {"S": f"{registry['number']:09d}"}})
    image = Account(metrics=Metrics())
    image.api.image = "host/fashion@sha256:new"
    lead(image, {**ROLLOUT, "release": {"name": "fashion", "version": 8, "digest": "sha256:new"}})
    heard.actions |= fake([*calls, *image.api.calls], "lambda") | fake(seen, "cloudwatch")
    function = grants.arn("lambda", "function:fashion-prod")
    given = grants.controller(grants.moves_function(function), registry=grants.table("registry"))
    assert heard.actions == granted(given)

    account = Account()
    account.send("decide", {"rollout": ROLLOUT})
    account.api.alias.weights, account.api.alias.description = {"7": 0.0, "8": 0.05}, f"mlpack rollout {ROLLOUT['id']}"
    account.api.versions["8"], account.api.calls = ("new-code", "role"), []
    assert account.brake({"rollout": ROLLOUT})
    assert fake(account.api.calls, "lambda") == granted(grants.clears_function(function))


def test_the_jobs(around: Around) -> None:
    bucket, now = grants.bucket("work"), datetime(2026, 11, 30, 12, 30, tzinfo=UTC)
    heard, chance = Heard(around), random.Random(1)
    for hours, mean in ((100, 40), (2, 80)):
        requests = [{"request": {"age": chance.gauss(mean, 10)}, "answer": {}} for _ in range(2000)]
        key = f"log/fashion/3/{now - timedelta(hours=hours):%Y/%m/%d/%H}/lines.jsonl"
        around.put(key, "\n".join(json.dumps({"schema": 1, **one}) for one in requests))
    settings = {"service": "fashion-prod", "log": "s3://work/log", "model": "fashion", "artifacts": "s3://work/kept", "drift": 0.2}
    assert drift.run(settings, heard.clients, now.timestamp())["verdict"] == "drift"
    assert heard.actions == granted(grants.drift(log=bucket, prefix="log/fashion", kept=bucket, kept_prefix="kept"))

    heard = Heard(Around())
    around.put("data/a.jsonl", '{"id": "a", "x": 1}\n')
    looked = {"data": "s3://work/data/", "artifacts": "s3://work", "columns": {"id": "string", "x": "number"}}
    assert validation.run(looked, heard.clients, {"reason": "fresh data", "place": "s3://work/retrain/run-1"})["state"] == "good"
    assert heard.actions == granted(grants.validation(data=bucket, prefix="data", kept=bucket, kept_prefix="retrain"))

    heard = Heard(Around())
    around.clients("dynamodb").create_table(
        TableName="customers",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    event = {
        "Records": [
            {"eventTime": "2026-11-30T10:00:00.000Z", "s3": {"bucket": {"name": "work"}, "object": {"key": "data/a.jsonl"}}}
        ]
    }
    rows = {
        "service": "fashion-prod",
        "columns": {"id": "string", "x": "number"},
        "key": "id",
        "table": "customers",
        "ttl_days": 90,
    }
    assert features.run(rows, heard.clients, event)["objects"]
    assert heard.actions == granted(grants.data_plane(rows=bucket, prefix="data", features=grants.table("customers")))


def test_no_action_is_a_pattern() -> None:
    everything = (
        *grants.around(features="a", cache="b", log="c", weights="d"),
        *grants.moves_function("a"),
        *grants.logs(grants.Id("Logs")),
        *grants.traces(),
        *grants.image("a", grants.Id("Logs")),
    )
    assert granted(everything)
    assert all(re.fullmatch(r"[a-z0-9]+:[A-Za-z]+", action) for action in granted(everything))
    assert grants.wildcards((Grant(actions=("s3:GetObject",), resources=("*",), why="no"),)) == {"s3:GetObject": "no"}
