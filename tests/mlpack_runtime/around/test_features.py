"""Features at request time: ids in, the model's inputs out, against a real table over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.around_services import FEATURES, ITEM, Packaged
from tests.support.services.aws_server import AwsServer, Fault

from mlpack_runtime import model
from mlpack_runtime.around import attributes
from mlpack_runtime.aws.signed import LateError
from mlpack_runtime.limits import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHOLE = {"inputs": {"pixels": [[1, 2.5, -3, 1]], "marks": [4]}}
MISSING = {"inputs": {"pixels": [[0.5, 0.5, 0.5, 0.5]], "marks": [1]}}


def _without(*names: str) -> dict[str, Any]:
    return FEATURES | {"defaults": {name: value for name, value in FEATURES["defaults"].items() if name not in names}}


def test_an_entity_is_answered_as_its_values_would_be(packaged: Callable[..., Packaged], table: Any, aws: AwsServer) -> None:
    one = packaged(features=FEATURES)
    assert one.scores({"customer": "7"}) == one.scores(WHOLE)
    reply, line = one.ask({"customer": "7"})
    assert reply.status == 200
    assert {"decode", "features", "infer", "encode"} <= line["stages_ms"].keys()
    assert "features_missing" not in line
    assert {request.operation for request in aws.log("dynamodb")} == {"BatchGetItem"}


def test_several_are_one_call_and_duplicates_are_asked_once(packaged: Callable[..., Packaged], table: Any, aws: AwsServer) -> None:
    one = packaged(features=FEATURES)
    alone, unknown = one.scores({"customer": "7"}), one.scores(MISSING)
    aws.clear_log()
    reply, line = one.ask({"customer": ["7", "none", "7"]})
    (rows,) = (row["data"] for row in json.loads(reply.body)["outputs"] if row["name"] == "scores")
    assert rows == [*alone, *unknown, *alone]
    assert line["features_missing"] == 1
    assert any(metric["Name"] == "features_missing" for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"])
    assert len(aws.log("dynamodb")) == 1


def test_more_than_a_hundred_go_in_several_calls(packaged: Callable[..., Packaged], table: Any, aws: AwsServer) -> None:
    for number in range(0, 250, 50):
        table.put_item(TableName="customers", Item=ITEM | {"customer": {"S": f"c{number}"}})
    one = packaged(features=FEATURES)
    aws.clear_log()
    reply, line = one.ask({"customer": [f"c{number}" for number in range(250)]})
    assert reply.status == 200
    assert line["features_missing"] == 245
    assert [request.operation for request in aws.log("dynamodb")] == ["BatchGetItem"] * 3


def test_what_came_before_the_deadline_counts_as_it_is(
    packaged: Callable[..., Packaged], table: Any, aws: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first hundred keys come, the others do not: each entity is told for itself."""
    table.put_item(TableName="customers", Item={"customer": {"S": "half"}, "a": {"N": "1"}})
    one, strict = packaged(features=FEATURES | {"deadline_ms": 60_000}), packaged(features=_without("b") | {"deadline_ms": 60_000})
    ids = ["7", "half", *(f"c{number}" for number in range(98)), "late"]
    for each in (one, strict):
        assert each.service.around is not None
        assert each.service.around.features is not None
        client = each.service.around.features._client
        assert client is not None

        def call(operation: str, payload: Any, ask: Any = client.call, **more: Any) -> Any:
            if {"customer": {"S": "late"}} in payload["RequestItems"]["customers"]["Keys"]:
                raise LateError("it did not come")
            return ask(operation, payload, **more)

        monkeypatch.setattr(client, "call", call)
    reply, line = one.ask({"customer": ids})
    assert (reply.status, line["features_late"], line["features_missing"]) == (200, 1, 99)
    reply, _ = strict.ask({"customer": ["half"] * 101})  # it came, and has no b: that is its own fault
    assert reply.status == 422
    assert strict.ask({"customer": ["7"] * 3 + ["late"]})[0].status == 503


def test_a_requests_own_value_goes_before_the_tables(packaged: Callable[..., Packaged], table: Any) -> None:
    one = packaged(features=FEATURES)
    assert one.scores({"customer": "7", "a": 9}) == one.scores({"inputs": {"pixels": [[9, 2.5, -3, 1]], "marks": [4]}})
    several = one.scores({"customer": ["7", "7"], "a": [9, 1]})
    assert several == one.scores({"inputs": {"pixels": [[9, 2.5, -3, 1], [1, 2.5, -3, 1]], "marks": [4, 4]}})
    columns = {"pixels": FEATURES["columns"]["pixels"]}
    other = packaged(features=FEATURES | {"columns": columns})
    assert other.scores({"customer": "7", "marks": 4}) == one.scores(WHOLE)
    assert other.ask({"customer": "7"})[0].status == 400  # marks is neither a feature nor in the request
    assert b"unknown input" in one.ask({"customer": "7", "colour": 1})[0].body


def test_without_a_default_what_is_missing_is_refused(packaged: Callable[..., Packaged], table: Any) -> None:
    one = packaged(features=_without("b"))
    reply, _ = one.ask({"customer": "nobody"})
    assert reply.status == 422
    assert json.loads(reply.body)["error_type"] == "FeaturesMissing"
    assert "customer 'nobody' has no features in customers" in json.loads(reply.body)["error"]
    table.put_item(TableName="customers", Item={"customer": {"S": "8"}, "a": {"N": "1"}})
    assert "has no b" in json.loads(one.ask({"customer": "8"})[0].body)["error"]


def test_an_attribute_of_another_type_is_missing_and_told_once(packaged: Callable[..., Packaged], table: Any) -> None:
    table.put_item(TableName="customers", Item=ITEM | {"customer": {"S": "8"}, "a": {"S": "many"}})
    one = packaged(features=FEATURES)
    assert one.scores({"customer": "8"}) == one.scores({"inputs": {"pixels": [[0.5, 2.5, -3, 1]], "marks": [4]}})
    one = packaged(features=FEATURES)
    _, line = one.ask({"customer": "8"})
    assert line["features_missing"] == 1
    assert [row["message"] for row in one.lines if "message" in row] == [
        "customers: a is an S, and numbers (N) are needed; the model takes FP32. It is taken as missing, and this is said once"
    ]
    one.ask({"customer": "8"})
    assert len(one.lines) == 1


@pytest.mark.parametrize("action", ["hang", "error", "nonsense"])
def test_a_table_that_does_not_answer_costs_defaults_or_503(
    packaged: Callable[..., Packaged], table: Any, aws: AwsServer, action: str
) -> None:
    code = "AccessDeniedException" if action == "error" else "ServiceUnavailable"
    metric = "features_late" if action == "hang" else "features_failed"
    aws.plan(Fault(action, service="dynamodb", onward=True, status=400, code=code))
    one = packaged(features=FEATURES | {"deadline_ms": 150})
    assert one.scores({"customer": "7"}) == one.scores(MISSING)
    _, line = one.ask({"customer": ["7", "8"]})
    assert line[metric] == 2
    assert line["stages_ms"]["features"] < 30_000  # the table would hang for an hour
    strict = packaged(features=_without("a") | {"deadline_ms": 150})
    reply, _ = strict.ask({"customer": "7"})
    assert (reply.status, json.loads(reply.body)["error_type"]) == (503, "FeaturesUnavailable")
    assert reply.headers["retry-after"] == "1"


def test_keys_that_were_not_processed_are_asked_again(
    packaged: Callable[..., Packaged], table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = packaged(features=FEATURES)
    assert one.service.around is not None
    assert one.service.around.features is not None
    client = one.service.around.features._client
    assert client is not None
    ask, asked = client.call, []

    def partly(operation: str, payload: Any, **more: Any) -> Any:
        asked.append(payload)
        if len(asked) < 3:
            return {"Responses": {}, "UnprocessedKeys": payload["RequestItems"]}
        return ask(operation, payload, **more)

    monkeypatch.setattr(client, "call", partly)
    assert one.scores({"customer": "7"}) == one.scores(WHOLE)
    assert len(asked) == 3


def test_items_are_kept_for_their_time(packaged: Callable[..., Packaged], table: Any, aws: AwsServer) -> None:
    one = packaged(features=FEATURES | {"keep_s": 60})
    before = one.scores({"customer": "7"})
    table.put_item(TableName="customers", Item=ITEM | {"a": {"N": "100"}})
    assert one.scores({"customer": "7"}) == before
    short = packaged(features=FEATURES | {"keep_s": 0.0001})
    assert short.scores({"customer": "7"}) != before


def test_an_id_is_a_string_or_an_integer(packaged: Callable[..., Packaged], table: Any, aws: AwsServer) -> None:
    one = packaged(features=FEATURES)
    for odd in (None, "", True, 1.5, {"S": "7"}, [], [["7"]], "x" * 2049, "\ud800", ["7", None], 10**38):
        reply, _ = one.ask({"customer": odd})
        assert reply.status == 400, (odd, reply.body)
    says = "The provided key element does not match the schema"  # moto does not look at it
    aws.plan(Fault("error", service="dynamodb", onward=True, status=400, code="ValidationException", message=says))
    reply, _ = one.ask({"customer": 7})
    assert reply.status == 400
    assert b"no id of this table" in reply.body
    assert b"an id or a list of ids" in one.ask({"client": "7"})[0].body


def test_a_stub_invents_and_asks_nobody(packaged: Callable[..., Packaged], aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPACK_AROUND", "stub")
    aws.clear_log()
    one = packaged(features=_without("visits") | {"latency_ms": 20})
    reply, line = one.ask({"customer": "7"})
    assert reply.status == 200
    assert line["stages_ms"]["features"] >= 20
    assert one.scores({"customer": "7"}) == one.scores({"inputs": {"pixels": [[0.5] * 4], "marks": [0]}})
    assert aws.log() == []
    monkeypatch.setenv("MLPACK_AROUND", "off")
    with pytest.raises(model.ModelError, match="MLPACK_AROUND is 'off'"):
        packaged(features=FEATURES)


def test_the_trace_goes_to_the_table(packaged: Callable[..., Packaged], table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = packaged(features=FEATURES)
    assert one.service.around is not None
    assert one.service.around.features is not None
    client = one.service.around.features._client
    assert client is not None
    sent: list[dict[str, str]] = []
    ask = client.call

    def seen(operation: str, payload: Any, **more: Any) -> Any:
        sent.append(more["headers"])
        return ask(operation, payload, **more)

    monkeypatch.setattr(client, "call", seen)
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    one.ask({"customer": "7"}, {"traceparent": f"00-{trace}-{parent}-01", "tracestate": "a=b"})
    assert sent[-1]["traceparent"].startswith(f"00-{trace}-")
    assert sent[-1]["traceparent"].endswith("-01")
    assert parent not in sent[-1]["traceparent"]
    assert sent[-1]["tracestate"] == "a=b"
    one.ask({"customer": "7"}, {"x-amzn-trace-id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"})
    assert sent[-1] == {"x-amzn-trace-id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"}
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-67891233-abcdef012345678912345678")
    one.ask({"customer": "7"}, {"traceparent": "nonsense"})
    assert sent[-1] == {"x-amzn-trace-id": "Root=1-67891233-abcdef012345678912345678"}
    monkeypatch.delenv("_X_AMZN_TRACE_ID")
    _, line = one.ask({"customer": "7"})
    assert sent[-1]["traceparent"].split("-")[1] == line["trace_id"]


def test_preprocess_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Any, packaged: Callable[..., Packaged]
) -> None:
    (tmp_path / "ids_of_test.py").write_text("def read(body):\n    return {'customer': body['user'].strip(), 'a': 1}\n")
    monkeypatch.syspath_prepend(tmp_path)
    one = packaged(features=FEATURES, preprocess="ids_of_test:read")
    assert one.scores({"user": " 7 "}) == one.scores({"user": "7"}) == packaged(features=FEATURES).scores(WHOLE)


@pytest.mark.parametrize(
    ("attribute", "datatype", "value"),
    [
        ({"N": "42"}, "FP32", 42.0),
        ({"N": "9007199254740993"}, "INT64", 9007199254740993),
        ({"N": "4.2E1"}, "INT32", 42),
        ({"N": "42.0"}, "UINT8", 42),
        ({"BOOL": True}, "FP64", 1.0),
        ({"BOOL": False}, "BOOL", False),
        ({"N": "1"}, "BOOL", True),
        ({"S": "basic"}, "BYTES", "basic"),
        ({"NULL": True}, "FP32", None),
        ({"L": [{"N": "1"}, {"N": "2"}]}, "FP32", [1.0, 2.0]),
    ],
)
def test_attributes_are_read_by_the_inputs_type(attribute: Any, datatype: str, value: Any) -> None:
    read = attributes.value_of(attribute, datatype)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("attribute", "datatype"),
    [
        ({"S": "42"}, "FP32"),
        ({"N": "42"}, "BYTES"),
        ({"N": "1E100"}, "FP32"),
        ({"N": "1.5"}, "INT64"),
        ({"N": "300"}, "UINT8"),
        ({"N": "-1"}, "UINT64"),
        ({"N": "2"}, "BOOL"),
        ({"N": "1E30"}, "INT64"),
        ({"L": [{"NULL": True}]}, "FP32"),
        ({"L": [{"L": []}]}, "FP32"),
        ({"M": {}}, "FP32"),
        ({"B": "AA=="}, "BYTES"),
        ({"NS": ["1"]}, "INT64"),
    ],
)
def test_attributes_of_another_type_are_none(attribute: Any, datatype: str) -> None:
    with pytest.raises(attributes.MismatchError):
        attributes.value_of(attribute, datatype)


def test_tables_as_other_people_have_them(packaged: Callable[..., Packaged], aws: AwsServer) -> None:
    """A sort key, numbers as ids, names with dots and of reserved words, ids of any script, a row as one list."""
    dynamodb = aws.client("dynamodb")
    dynamodb.create_table(
        TableName="events",
        KeySchema=[{"AttributeName": "account", "KeyType": "HASH"}, {"AttributeName": "day", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": "account", "AttributeType": "S"}, {"AttributeName": "day", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
    )
    row = [{"N": text} for text in ("1", "2.5", "-3", "1")]
    names = {"user.age": {"N": "4"}, "values": {"L": row}}
    for account, day in (("ключ 1", "20261130"), ("🤖#a/b", "7")):
        dynamodb.put_item(TableName="events", Item={"account": {"S": account}, "day": {"N": day}, **names})
    dynamodb.put_item(TableName="events", Item={"account": {"S": "short"}, "day": {"N": "1"}, "values": {"L": row[:2]}})
    dynamodb.close()
    columns = {"pixels": ["values"], "marks": ["user.age"]}
    one = packaged(features={"table": "events", "key": ["account", "day"], "columns": columns, "deadline_ms": 60_000})
    whole = one.scores(WHOLE)
    assert one.scores({"account": "ключ 1", "day": 20261130}) == whole
    assert one.scores({"account": ["🤖#a/b", "ключ 1"], "day": [7, 20261130]}) == whole * 2
    assert one.ask({"account": ["ключ 1"], "day": [1, 2]})[0].status == 400
    assert one.ask({"account": ["ключ 1"], "day": 1})[0].status == 400
    reply, _ = one.ask({"account": "short", "day": 1})
    assert (reply.status, json.loads(reply.body)["error_type"]) == (422, "FeaturesMissing")
    assert "has no features in events" in json.loads(reply.body)["error"]


def test_a_request_without_http_names_entities_too(packaged: Callable[..., Packaged], table: Any) -> None:
    one = packaged(features=FEATURES)
    reply = one.service.value({"customer": "7"})
    assert (reply.status, json.loads(reply.body)["outputs"][0]["shape"]) == (200, [1, 3])
    reply = one.service.message({}, b'{"customer": ["7", "8"]}', "m-1", {})
    assert (reply.status, json.loads(reply.body)["outputs"][0]["shape"]) == (200, [2, 3])


def test_keys_say_what_is_wrong_with_them() -> None:
    with pytest.raises(RequestError, match="an id is a string of 1 to 2048 bytes, or an integer"):
        attributes.key_of("customer", 1.5)
