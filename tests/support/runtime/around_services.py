"""A service over a package with features, a cache and a log, its tables, and an item of one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlpack_runtime.service import Reply, Service

FEATURES: dict[str, Any] = {
    "table": "customers",
    "key": ["customer"],
    "columns": {"pixels": ["a", "b", "c", "d"], "marks": ["visits"]},
    "defaults": {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5, "visits": 1},
    "deadline_ms": 60_000,
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


def create_tables(dynamodb: Any, item: dict[str, Any]) -> None:
    """The tables of features and of predictions, with one customer."""
    for name, key in (("customers", "customer"), ("predictions", "id")):
        dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    dynamodb.put_item(TableName="customers", Item=item)
