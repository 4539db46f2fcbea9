"""A package with features, a cache and a log, and an AWS for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.services.aws_server import REGION, AwsServer, aws, aws_server

from mlpack_runtime import model
from mlpack_runtime.around import prediction_log
from mlpack_runtime.service import Reply, Service, open_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["aws", "aws_server"]

FEATURES: dict[str, Any] = {
    "table": "customers",
    "key": ["customer"],
    "columns": {"pixels": ["a", "b", "c", "d"], "marks": ["visits"]},
    "defaults": {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5, "visits": 1},
    "deadline_ms": 5000,
}
ITEM = {"customer": {"S": "7"}, "a": {"N": "1"}, "b": {"N": "2.5"}, "c": {"N": "-3"}, "d": {"BOOL": True}, "visits": {"N": "4"}}


class Packaged:
    """A service over a package with these settings, and what it logged."""

    def __init__(self, service: Service, capfd: pytest.CaptureFixture[str]) -> None:
        self.service = service
        self._capfd = capfd
        self.lines: list[dict[str, Any]] = []

    def ask(self, value: object, headers: dict[str, str] | None = None) -> tuple[Reply, dict[str, Any]]:
        """The answer over HTTP, and its line in the log."""
        reply = self.service.http("POST", "/v2/models/tiny/infer", headers or {}, json.dumps(value).encode())
        self.lines = [json.loads(line) for line in self._capfd.readouterr().out.splitlines()]
        return reply, next(line for line in reversed(self.lines) if "latency_ms" in line)

    def scores(self, value: object) -> list[float]:
        """The scores of an answer with status 200."""
        reply, _ = self.ask(value)
        assert reply.status == 200, reply.body
        (scores,) = (row["data"] for row in json.loads(reply.body)["outputs"] if row["name"] == "scores")
        return list(scores)


@pytest.fixture
def packaged(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, aws: AwsServer, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Packaged]]:
    """Makes services whose model.json has these settings around."""
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "nowhere")  # a function, whose log has no thread
    monkeypatch.setattr(prediction_log, "OPEN", {})
    monkeypatch.setattr(model, "ROOT", str(tiny))
    read, made = model.read_settings, []

    def make(**around: Any) -> Packaged:
        hooks = {name: around.pop(name) for name in ("preprocess", "postprocess") if name in around}
        monkeypatch.setattr(model, "read_settings", lambda place: {**read(place), "around": around, **hooks})
        prediction_log.OPEN.clear()
        made.append(Packaged(open_service(), capfd))
        return made[-1]

    yield make
    for one in made:
        assert one.service.around is not None
        one.service.around.close()
        if one.service.around.log is not None:
            one.service.around.log.close(1)


@pytest.fixture
def table(aws: AwsServer) -> Any:
    """A client of DynamoDB with the tables that the settings name; customer 7 is known."""
    dynamodb = aws.client("dynamodb")
    for name, key in (("customers", "customer"), ("predictions", "id")):
        dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    dynamodb.put_item(TableName="customers", Item=ITEM)
    aws.clear_log()
    yield dynamodb
    dynamodb.close()
