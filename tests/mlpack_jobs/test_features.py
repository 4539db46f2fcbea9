"""Features out of objects: what goes into the table is what `serve.features` reads, and nothing wrong or older goes in."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.support.services.account import Around

from mlpack_jobs import features, handler
from mlpack_runtime.around import attributes

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "service": "fashion-prod",
    "columns": {"customer_id": "string", "amount": "number", "vip": "boolean", "segment": "string"},
    "key": "customer_id",
    "table": "customers",
    "ttl_days": 90,
}
FIRST, SECOND = "2026-11-30T10:00:00.000Z", "2026-11-30T11:00:00.000Z"
ROWS = [
    {"customer_id": "7", "amount": 3.5, "vip": True, "segment": "basic"},
    {"customer_id": "8", "amount": 1},
    {"customer_id": "7", "amount": 4.25, "segment": "pro"},
]


@pytest.fixture
def table(around: Around) -> Around:
    around.clients("dynamodb").create_table(
        TableName="customers",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "customer_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "customer_id", "AttributeType": "S"}],
    )
    return around


def event(key: str = "in/a.jsonl", at: str = FIRST) -> dict[str, Any]:
    return {"Records": [{"eventTime": at, "s3": {"bucket": {"name": "work"}, "object": {"key": key}}}]}


def message(body: Any, identifier: str = "m-1") -> dict[str, Any]:
    return {"messageId": identifier, "body": body if isinstance(body, str) else json.dumps(body)}


def run(around: Around, rows: list[Any], given: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    around.put("in/a.jsonl", "\n".join(json.dumps(row) for row in rows))
    return features.run(SETTINGS | settings, around.clients, given or event())


def items(around: Around) -> dict[str, dict[str, Any]]:
    found = around.clients("dynamodb").scan(TableName="customers")["Items"]
    return {item["customer_id"]["S"]: {name: value for name, value in item.items() if name != "customer_id"} for item in found}


def test_rows_become_items_as_the_runtime_reads_them(table: Around) -> None:
    told = run(table, ROWS)["objects"]
    assert told == [{"object": "s3://work/in/a.jsonl", "rows": 3, "wrong": 0, "entities": 2, "newer": 0}]
    item = items(table)["7"]
    kinds = {"amount": "FP32", "vip": "BOOL", "segment": "BYTES"}
    read = {name: attributes.value_of(item[name], kind) for name, kind in kinds.items()}
    assert read == {"amount": 4.25, "vip": True, "segment": "pro"}
    assert int(item["expires"]["N"]) == datetime.fromisoformat(FIRST).timestamp() + 90 * 86_400
    assert set(items(table)["8"]) == {"amount", "expires", "features_at"}


def test_features_are_derived_from_an_entitys_rows(table: Around) -> None:
    derive = {
        "visits": {"of": "amount", "by": "count"},
        "spend": {"of": "amount", "by": "sum"},
        "average": {"of": "amount", "by": "mean"},
        "least": {"of": "amount", "by": "min"},
        "most": {"of": "amount", "by": "max"},
        "segment": {"of": "segment", "by": "last"},
        "vips": {"of": "vip", "by": "count"},
    }
    run(table, ROWS, derive=derive)
    told = {name: value for name, value in items(table)["7"].items() if name in derive}
    assert {name: value.get("S") or float(value["N"]) for name, value in told.items()} == {
        "visits": 2, "spend": 7.75, "average": 3.875, "least": 3.5, "most": 4.25, "segment": "pro", "vips": 1,
    }  # fmt: skip
    assert items(table)["8"]["vips"] == {"N": "0"}


def test_what_comes_twice_or_late_changes_nothing_newer(table: Around) -> None:
    run(table, [{"customer_id": "7", "amount": 2}], event(at=SECOND))
    before = items(table)
    assert run(table, [{"customer_id": "7", "amount": 2}], event(at=SECOND))["objects"][0]["newer"] == 0
    assert run(table, [{"customer_id": "7", "amount": 1}], event(at=FIRST))["objects"][0]["newer"] == 1
    assert items(table) == before


def test_an_object_that_is_wrong_is_refused_whole(table: Around) -> None:
    with pytest.raises(features.RefusedObject, match="2 of 3 rows are wrong: row 2 has no customer_id; row 3 has"):
        run(table, [ROWS[0], {"amount": 1}, {"customer_id": "9", "amount": "much"}])
    assert items(table) == {}
    run(table, [*ROWS * 100, {"customer_id": "9", "amount": "much"}])  # one of 301 is tolerated, and left out
    assert set(items(table)) == {"7", "8"}


def test_messages_of_a_queue_fail_each_for_itself(table: Around) -> None:
    table.put("in/odd b.jsonl", "nope")
    bridge = {
        "detail-type": "Object Created",
        "time": FIRST,
        "detail": {"bucket": {"name": "work"}, "object": {"key": "in/a.jsonl"}},
    }
    given = [
        message(event()),
        message("nope", "m-2"),
        message(event("in/odd+b.jsonl"), "m-3"),
        message({"Service": "Amazon S3", "Event": "s3:TestEvent"}, "m-4"),
        message(bridge, "m-5"),
        message({"Records": [{"s3": {}}]}, "m-6"),
        message("[1]", "m-7"),
    ]
    told = run(table, ROWS, {"Records": given})
    assert [one["itemIdentifier"] for one in told["batchItemFailures"]] == ["m-2", "m-3", "m-6", "m-7"]
    assert set(items(table)) == {"7", "8"}


@pytest.mark.parametrize("value", [0.1, 1e100, 12345678901234567890, -0.0, 1e-7, -17, 2**-30])
def test_numbers_stay_as_they_were_written(value: float) -> None:
    assert Decimal(features.attribute(value)["N"]) == Decimal(str(value))


def test_the_handler_takes_events_and_names_of_jobs(table: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(handler.SETTINGS, json.dumps(SETTINGS))
    monkeypatch.setattr(handler, "clients", table.clients)
    table.put("in/a.jsonl", json.dumps(ROWS[0]))
    assert handler.handler(event())["objects"][0]["rows"] == 1
    for odd in ({}, {"job": "nope"}, {"job": None}):
        with pytest.raises(ValueError, match="names no job"):
            handler.handler(odd)
