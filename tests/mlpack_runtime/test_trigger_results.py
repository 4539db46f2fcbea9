"""Answers to events where MLPACK_RESULTS says, on an AWS over HTTP: once each, and failures told all the same."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.runtime.functions import function
from tests.support.runtime.source_events import OBJECTS, REQUEST, bridge, dynamodb, kinesis, s3, sns, sqs
from tests.support.runtime.tiny_packages import package, wide
from tests.support.runtime.workers import Place
from tests.support.services.aws_server import Fault
from tests.support.services.fake_stores import FakeStores

pytestmark = pytest.mark.slow

Function = Callable[..., Any]
S3, DYNAMODB = "s3://results/answers", "dynamodb://results"


@pytest.fixture
def call(tiny: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Function:
    return function(tiny, monkeypatch, MLPACK_RESULTS=S3)


def failures(answer: Any) -> list[str]:
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


def again(event: dict[str, Any], receives: int = 2) -> dict[str, Any]:
    """The same messages, as SQS brings them once more."""
    copied: dict[str, Any] = json.loads(json.dumps(event))
    for record in copied["Records"]:
        record["attributes"]["ApproximateReceiveCount"] = str(receives)
    return copied


def lines(captured: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in captured.readouterr().out.splitlines()]


@pytest.mark.parametrize("row", OBJECTS, ids=lambda row: row.samples.split()[0])
def test_a_request_that_is_an_object_is_fetched(tiny: Path, place: Place, monkeypatch: pytest.MonkeyPatch, row: Any) -> None:
    place.s3.put_object(Bucket="results", Key="in/one.json", Body=json.dumps(REQUEST).encode())
    answer = function(tiny, monkeypatch)(row.event)
    if row.outcome == "batch":
        assert answer == {"batchItemFailures": []}
    else:
        assert answer["outputs"][1]["data"] == [2]


def test_object_is_what_its_notification_is_about(call: Function, place: Place) -> None:
    """Its key as it was, its version, its binary tensors, and bytes that were compressed."""
    import gzip

    key = "in/ü 1+1=2.json"
    place.s3.put_object(Bucket="results", Key=key, Body=gzip.compress(json.dumps(REQUEST).encode()), ContentEncoding="gzip")
    event = s3("in/%C3%BC+1%2B1%3D2.json")
    assert call(event)["outputs"][1]["data"] == [2]
    (name,) = [one["Key"] for one in place.s3.list_objects_v2(Bucket="results", Prefix="answers/tiny/in-")["Contents"]]
    assert name.startswith("answers/tiny/in---1-1-2.json.")
    call(event)  # a notification may come twice
    assert len(place.s3.list_objects_v2(Bucket="results", Prefix="answers/tiny/in-")["Contents"]) == 1


def test_object_that_is_not_there_or_too_large_fails(call: Function, place: Place) -> None:
    with pytest.raises(RuntimeError, match="nothing at 's3://results/gone'"):
        call(s3("gone"))
    large = s3("in/one.json")
    large["Records"][0]["s3"]["object"]["size"] = 1 << 40
    with pytest.raises(RuntimeError, match="MLPACK_LIMIT_BODY_BYTES"):
        call(large)


@pytest.mark.parametrize("uri", [S3, DYNAMODB])
def test_answers_are_written_once_and_poison_keeps_failing(
    uri: str, tiny: Path, place: Place, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    call, event = function(tiny, monkeypatch, MLPACK_RESULTS=uri), sqs(REQUEST, "wrong", REQUEST)
    assert failures(call(event)) == ["m-1"]
    before = written(place, uri)
    assert {name: document["status"] for name, document in before.items()} == {"m-0": 200, "m-1": 400, "m-2": 200}
    assert before["m-0"]["trace_id"]
    capfd.readouterr()
    # The mapping did not delete what was answered, say: it is not computed again, and what is wrong still fails.
    assert failures(call(again(event))) == ["m-1"]
    assert [line["request_id"] for line in lines(capfd) if "batch" in line] == ["m-1"]
    assert written(place, uri) == before


def written(place: Place, uri: str) -> dict[str, Any]:
    """The results, by request id."""
    if uri == S3:
        found = place.s3.list_objects_v2(Bucket="results", Prefix="answers/tiny/")["Contents"]
        texts = [place.s3.get_object(Bucket="results", Key=one["Key"])["Body"].read() for one in found]
    else:
        texts = [one["body"]["S"] for one in place.dynamodb.scan(TableName="results")["Items"] if "body" in one]
    documents = [json.loads(text) for text in texts if text.startswith(b"{" if uri == S3 else "{")]
    return {document["request_id"]: document for document in documents if "request_id" in document}


def test_the_same_request_twice_in_a_batch_has_one_result(call: Function, place: Place) -> None:
    event = sqs(REQUEST, REQUEST)
    for record in event["Records"]:
        record["messageAttributes"] = {"request_id": {"stringValue": "mine", "dataType": "String"}}
    assert failures(call(event)) == []
    assert written(place, S3).keys() == {"mine"}


def test_message_says_of_itself_what_a_workers_does(call: Function, place: Place) -> None:
    event = sqs(REQUEST, REQUEST, REQUEST, REQUEST)
    attributes = [{"deadline_ms": "1000"}, {"model": "another"}, {"request_id": "../x"}, {"trace_id": "edge-1"}]
    for record, told in zip(event["Records"], attributes, strict=True):
        record["messageAttributes"] = {name: {"stringValue": text, "dataType": "String"} for name, text in told.items()}
    assert failures(call(event)) == ["m-1", "m-2"]  # nobody waits for the first: its result says so
    found = written(place, S3)
    assert {name: one["status"] for name, one in found.items()} == {"m-0": 504, "m-1": 404, "m-2": 400, "m-3": 200}
    assert found["m-3"]["trace_id"] == "edge-1"


def test_asynchronous_events_are_written_and_returned(call: Function, place: Place) -> None:
    assert call(sns(request_id="topic"))["outputs"][1]["data"] == [2]
    assert call(bridge(REQUEST))["outputs"][1]["data"] == [2]
    assert written(place, S3).keys() == {"topic", "e-1"}
    with pytest.raises(RuntimeError, match="not JSON"):
        call(sns("wrong", request_id="bad"))
    assert written(place, S3)["bad"]["status"] == 400


def test_service_that_is_away_makes_records_come_again(call: Function, place: Place) -> None:
    place.aws.plan(Fault("error", service="s3", operation="PutObject", status=403, code="AccessDenied", number=3))
    assert failures(call(sqs(REQUEST, REQUEST, REQUEST))) in (["m-0"], ["m-1"], ["m-2"])
    assert len(written(place, S3)) == 2
    place.aws.plan(Fault("error", service="s3", operation="PutObject", status=403, code="AccessDenied", onward=True))
    with pytest.raises(RuntimeError, match="AccessDenied"):
        call(sqs(REQUEST))


def test_answers_of_its_own_are_passed_over(tiny: Path, place: Place, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """A notification or a stream of the place for answers would go round for ever."""
    call = function(tiny, monkeypatch, MLPACK_RESULTS=S3)
    assert call(s3("answers/tiny/m-0.json")) == {"nothing": "it is about an answer of this package in s3://results/answers"}
    assert failures(call(sqs(s3("answers/tiny/m-0.json")))) == []
    call = function(tiny, monkeypatch, MLPACK_RESULTS=DYNAMODB)
    assert failures(call(dynamodb({"id": "tiny/0", "body": "{}"}, table="results"))) == []
    assert len([line for line in lines(capfd) if "is passed over: it is about an answer" in line.get("message", "")]) == 3
    assert place.dynamodb.scan(TableName="results")["Items"][1:] == []


def around(answer: str) -> list[Any]:
    """What services make of an answer that another package has written below s3://results/other."""
    table = json.loads(answer)
    row = {"id": "other/1", "status": 200, "body": answer, "trace_id": "t", "created": 1, "expires": 2}
    record = dynamodb(row, table="others")["Records"][0]
    created = {"bucket": {"name": "results"}, "object": {"key": "other/1.json"}}
    return [
        s3("other/1.json"),
        sqs(s3("other/1.json")),
        sns(json.dumps(s3("other/1.json"))),
        bridge(created, "Object Created", "aws.s3"),
        sqs(table),
        bridge(table),
        kinesis(base64.b64encode(json.dumps(record).encode()).decode()),
        dynamodb(row, table="others"),
        dynamodb({**row, "seen": True}, name="MODIFY", table="results"),
        sqs(record),
    ]


@pytest.mark.parametrize("uri", [S3, DYNAMODB])
def test_answers_of_other_packages_are_passed_over(
    uri: str, tiny: Path, place: Place, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Two packages that are fed with one another's answers would go on for ever."""
    call = function(tiny, monkeypatch, MLPACK_RESULTS=S3)
    assert failures(call(sqs("wrong", REQUEST))) == ["m-0"]
    answers = written(place, S3)
    call = function(tiny, monkeypatch, MLPACK_RESULTS=uri)
    for answer in answers.values():
        place.s3.put_object(Bucket="results", Key="other/1.json", Body=json.dumps(answer).encode())
        capfd.readouterr()
        for event in around(json.dumps(answer)):
            assert call(event) in ({"batchItemFailures": []}, {"nothing": "it is an answer that a package has written"})
        assert len([line for line in lines(capfd) if "is passed over: it is a" in line.get("message", "")]) == 10
    assert written(place, S3) == answers
    assert uri == S3 or written(place, uri) == {}


def test_front_doors_callers_get_an_answer_to_an_answer(call: Function, place: Place) -> None:
    """A front door says of what strangers send that it is a request, and waits."""
    event = sqs({"status": 200, "headers": {}, "body": "", "binary": False, "trace_id": "t", "request_id": "r"}, REQUEST)
    event["Records"][0]["messageAttributes"] = {"envelope": {"stringValue": "none", "dataType": "String"}}
    assert failures(call(event)) == ["m-0"]
    assert written(place, S3)["m-0"]["status"] == 400


@pytest.mark.parametrize("uri", [f"{S3}/", "s3://results//answers", "s3://results//answers//"])
def test_answers_are_known_however_their_place_is_written(
    uri: str, tiny: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = function(tiny, monkeypatch, MLPACK_RESULTS=uri)
    assert failures(call(sqs(REQUEST))) == []
    (name,) = [one["Key"] for one in place.s3.list_objects_v2(Bucket="results", Prefix="answers/tiny/m-")["Contents"]]
    assert "nothing" in call(s3(name))


def test_refusal_that_cannot_be_written_is_its_records_failure(call: Function, place: Place) -> None:
    call(sqs(REQUEST))
    place.aws.plan(Fault("error", service="s3", operation="PutObject", status=403, code="AccessDenied", onward=True))
    for event in (sqs("wrong"), sns("wrong"), sqs("wrong", "wrong")):
        with pytest.raises(RuntimeError, match="AccessDenied") as caught:
            call(event)
        assert json.loads(str(caught.value))["trace_id"]


def test_answer_that_goes_nowhere_and_does_not_fit_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5.6 MB of binary outputs fit into an answer, but not in base64, as destinations get them."""
    call = function(package(tmp_path / "wide", wide), monkeypatch)
    rows = {"inputs": [{"name": "size", "shape": [1], "datatype": "INT64", "data": [700_000]}]}
    with pytest.raises(RuntimeError, match="Send fewer samples"):
        call(sns(json.dumps({**rows, "parameters": {"binary_data_output": True}})))


def numbers(size: int) -> dict[str, Any]:
    """A request whose answer has so many, of some 21 bytes each as the stock client writes them."""
    return {"inputs": [{"name": "size", "shape": [1], "datatype": "INT64", "data": [size]}]}


def test_answer_that_no_destination_takes_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a destination gets has the request in it, too."""
    root = package(tmp_path / "wide", wide)
    call, padding = function(root, monkeypatch), {"id": "x" * 1000, "parameters": {"note": "y" * 600_000}}
    for event in (sns(json.dumps(numbers(30_000))), bridge(numbers(30_000))):
        assert len(call(event)["outputs"][0]["data"]) == 30_000
    for event in (
        sns(json.dumps(numbers(60_000))),
        bridge(numbers(60_000)),
        sns(json.dumps({**numbers(30_000), **padding})),
        bridge({**numbers(30_000), **padding}),
    ):
        with pytest.raises(RuntimeError, match="1048576 are passed on"):
            call(event)
    call = function(root, monkeypatch, MLPACK_ANSWER_BYTES="262144")  # an SNS topic
    assert call(sns(json.dumps(numbers(8_000))))["outputs"]
    with pytest.raises(RuntimeError, match="262144 are passed on"):
        call(sns(json.dumps(numbers(15_000))))
    call = function(root, monkeypatch, MLPACK_ANSWER_BYTES="6000000")  # no destination at all
    assert call(bridge({**numbers(60_000), **padding}))["outputs"]


def test_answer_that_no_destination_takes_lies_where_answers_go(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = function(package(tmp_path / "wide", wide), monkeypatch, MLPACK_RESULTS=S3)
    answer = call(sns(json.dumps(numbers(60_000)), request_id="large"))
    assert (answer["request_id"], answer["results"]) == ("large", S3)
    assert written(place, S3)["large"]["status"] == 200


def test_answers_that_no_state_machine_takes_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = package(tmp_path / "wide", wide)
    call = function(root, monkeypatch)
    assert len(call({"Items": [numbers(4_000), numbers(4_000)]})) == 2
    with pytest.raises(RuntimeError, match="262144 are passed on"):
        call({"Items": [numbers(8_000), numbers(8_000)]})
    assert call(numbers(15_000))["outputs"]  # whoever calls directly may take 6 MB
    call = function(root, monkeypatch, MLPACK_ANSWER_BYTES="262144")  # or be a state machine's task
    assert "262144 are passed on" in call(numbers(15_000))["error"]
    call = function(root, monkeypatch, MLPACK_ANSWER_BYTES="262144", MLPACK_RAISE="refused")
    with pytest.raises(RuntimeError, match="262144 are passed on"):
        call(numbers(15_000))


def test_answer_that_no_item_holds_is_a_failure_with_its_result(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = function(package(tmp_path / "wide", wide), monkeypatch, MLPACK_RESULTS=DYNAMODB)
    rows = {"inputs": [{"name": "size", "shape": [1], "datatype": "INT64", "data": [200_000]}]}
    small = {"inputs": [{"name": "size", "shape": [1], "datatype": "INT64", "data": [2]}]}
    assert failures(call(sqs(rows, small))) == ["m-0"]
    assert written(place, DYNAMODB)["m-0"]["status"] == 413


def test_place_that_does_not_keep_the_first_is_not_written_to(
    tiny: Path, stores: FakeStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.buckets.add("results")
    stores.switches = dataclasses.replace(stores.switches, none_match="ignored")
    with pytest.raises(RuntimeError, match="does not keep conditional writes"):
        function(tiny, monkeypatch, MLPACK_RESULTS="s3://results/answers")(sqs(REQUEST))
    call = function(tiny, monkeypatch, MLPACK_RESULTS="s3://results/answers", MLPACK_RESULTS_UNCONDITIONAL="1")
    assert failures(call(sqs(REQUEST))) == []
