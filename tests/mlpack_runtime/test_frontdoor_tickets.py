"""Results and tickets in S3 and in DynamoDB: the same words for both, hostile ones included."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.runtime.front_doors import BUCKET, DYNAMODB_RESULTS, S3_RESULTS, TABLE, Edge, described, results_at
from tests.support.services.aws_server import AwsServer, Fault

from mlpack_runtime.aws import AwsError
from mlpack_runtime.door.tickets import ServiceError, open_results, reply_of

if TYPE_CHECKING:
    from mlpack_runtime.door.tickets import Results

TICKET = {"digest": "d", "trace_id": "t", "expires": 2_000}


@pytest.fixture(params=[S3_RESULTS, DYNAMODB_RESULTS])
def edge(request: pytest.FixtureRequest, aws: AwsServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Edge:
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(described(tmp_path)))
    return Edge(aws, request.param)


@pytest.fixture
def results(edge: Edge) -> Results:
    return results_at(edge.results, edge.server)


def kept(results: Results, now_s: float) -> dict[str, Any]:
    """The ticket that is there, without its key."""
    found = results.ticket("tiny/r", now_s)
    assert found is not None
    return {key: value for key, value in found.items() if key != "id"}


def test_a_result_is_there_once_it_was_written(edge: Edge, results: Results) -> None:
    assert results.result("tiny/r") is None
    edge.put("r", 422, '{"error":""}')
    found = results.result("tiny/r")
    assert found is not None
    reply = reply_of(found, "tiny/r")
    assert (reply.status, reply.body, reply.binary) == (422, b'{"error":""}', False)
    assert reply.headers == {"content-type": "application/json"}  # the trace id is the asking request's own


def test_a_binary_result_is_bytes_again(edge: Edge, results: Results) -> None:
    headers = {"Content-Type": "application/octet-stream", "inference-header-content-length": "1"}
    edge.put("r", body="AAEC", binary=True, headers=headers)
    reply = reply_of(results.result("tiny/r") or {}, "tiny/r")
    assert (reply.body, reply.binary) == (b"\x00\x01\x02", True)
    assert reply.headers == {"content-type": "application/octet-stream", "inference-header-content-length": "1"}
    edge.put("s", body="AAE", binary=True)
    with pytest.raises(ServiceError, match="tiny/s says that it is binary, but is not base64"):
        reply_of(results.result("tiny/s") or {}, "tiny/s")


def test_the_first_ticket_stays_until_it_expires(results: Results) -> None:
    assert results.ticket("tiny/r", 1_000) is None
    other = {**TICKET, "digest": "other", "expires": 9_000}
    assert results.accept("tiny/r", TICKET, 1_000)
    assert not results.accept("tiny/r", other, 1_999.9)
    assert results.accept("tiny/r", {**TICKET, "trace_id": "later"}, 1_999.9)  # the same request: it has its ticket
    assert kept(results, 1_999) == TICKET
    assert results.ticket("tiny/r", 2_000) is None
    assert results.accept("tiny/r", other, 2_000)
    assert kept(results, 2_000) == other
    assert results.result("tiny/r") is None


def test_a_ticket_is_noted_as_sent(results: Results) -> None:
    assert results.accept("tiny/r", {**TICKET, "state": "claimed"}, 1_000)
    assert kept(results, 1_000)["state"] == "claimed"
    results.note("tiny/r", TICKET)
    assert "state" not in (results.ticket("tiny/r", 1_000) or {"state": None})


def test_of_many_at_once_one_replaces_a_ticket(edge: Edge, results: Results) -> None:
    digests = [f"d{at}" for at in range(8)]
    assert results.accept("tiny/r", TICKET, 1_000)
    with ThreadPoolExecutor(len(digests)) as pool:
        wanted = [{**TICKET, "digest": digest, "expires": 9_000} for digest in digests]
        won = list(pool.map(lambda ticket: results_at(edge.results, edge.server).accept("tiny/r", ticket, 3_000), wanted))
    assert won.count(True) == 1
    assert kept(results, 3_000) == wanted[won.index(True)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\xff",
        "{}",
        '{"status": "200", "headers": {}, "body": "", "binary": false}',
        '{"status": 200, "headers": {}, "body": {}, "binary": false}',
        '{"status": 200, "headers": {}, "body": "", "binary": 0}',
        '{"status": 101, "headers": {}, "body": "", "binary": false}',
        '{"status": 600, "headers": {}, "body": "", "binary": false}',
        '{"status": true, "headers": {}, "body": "", "binary": false}',
    ],
)
def test_what_is_no_result_is_said(edge: Edge, results: Results, text: str) -> None:
    if edge.results == S3_RESULTS:
        edge.s3.put_object(Bucket=BUCKET, Key="results/tiny/r.json", Body=text.encode("latin-1"))
    else:
        edge.dynamodb.put_item(TableName=TABLE, Item={"id": {"S": "tiny/r"}, "body": {"S": text}})
    with pytest.raises(ServiceError, match=r"what lies at tiny/r is no (result|JSON object)"):
        results.result("tiny/r")


@pytest.mark.parametrize("action", ["close", "error", "cut"])
def test_what_the_services_refuse_is_said(edge: Edge, results: Results, aws: AwsServer, action: str) -> None:
    edge.put("r", body=json.dumps("long" * 1000))
    aws.plan(Fault(action, onward=True, code="AccessDenied", status=403))
    with pytest.raises(ServiceError, match=f"reading (s3://{BUCKET}/results/tiny/r.json|from the table {TABLE}): "):
        results.result("tiny/r")
    if action != "cut":  # what was cut had taken effect
        with pytest.raises(ServiceError, match=f"writing (s3://{BUCKET}/results/tiny/r.ticket|to the table {TABLE}): "):
            results.accept("tiny/r", TICKET, 1_000)
        with pytest.raises(ServiceError, match=f"writing (s3://{BUCKET}/results/tiny/r.ticket|to the table {TABLE}): "):
            results.note("tiny/r", TICKET)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(AwsError, match="is no address"):
        open_results("https://bucket/results")


def test_both_places_are_opened_by_their_address(aws: AwsServer) -> None:
    for uri in (S3_RESULTS, DYNAMODB_RESULTS):
        with pytest.raises(ServiceError, match=r"NoSuchBucket|ResourceNotFoundException"):
            open_results(uri, attempts=1).result("tiny/r")
