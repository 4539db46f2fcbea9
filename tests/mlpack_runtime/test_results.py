"""Answers in S3 and DynamoDB: the first stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.runtime.workers import Place
from tests.support.services.aws_server import AwsServer, Fault

from mlpack_runtime import aws as aws_module
from mlpack_runtime.queueing.results import TooLargeError, document, open_results
from mlpack_runtime.service import Reply

pytestmark = pytest.mark.slow

BODY = {"status": 200, "headers": {}, "body": "{}", "binary": False, "trace_id": "t", "request_id": "r"}


@pytest.fixture(params=["s3://results/some/where/", "dynamodb://results"])
def opened(place: Place, request: pytest.FixtureRequest) -> Iterator[Any]:
    made: Any = open_results(request.param, keep_s=60)
    yield made
    made._client.close()


def test_the_first_answer_stays(opened: Any) -> None:
    assert opened.status("m", "r") is None
    assert opened.put("m", "r", BODY)
    assert not opened.put("m", "r", BODY | {"body": "another"})
    assert opened.status("m", "r") == 200
    assert opened.status("m", "r2") is None
    assert opened.status("m2", "r") is None
    assert opened.put("m", "refused", BODY | {"status": 422})
    assert opened.status("m", "refused") == 422


def test_result_of_an_older_worker_counts_as_an_answer(place: Place) -> None:
    made: Any = open_results("s3://results", keep_s=60)
    place.s3.put_object(Bucket="results", Key="m/r.json", Body=b"{}")
    assert made.status("m", "r") == 200
    made._client.close()


def test_where_it_lies_in_a_bucket(place: Place) -> None:
    made: Any = open_results("s3://results/some/where", keep_s=60)
    made.put("m", "r", BODY)
    found = place.s3.get_object(Bucket="results", Key="some/where/m/r.json")
    assert (json.loads(found["Body"].read()), found["ContentType"]) == (BODY, "application/json")
    made._client.close()


@pytest.mark.parametrize("operation", [("s3", "PutObject"), ("dynamodb", "PutItem")])
def test_an_answer_whose_confirmation_was_lost_is_there_once(opened: Any, aws: AwsServer, operation: tuple[str, str]) -> None:
    aws.plan(Fault("close", after=True, service=operation[0], operation=operation[1]))
    opened.put("m", "r", BODY)  # whether it says that it was first is no matter: it was confirmed
    assert opened.status("m", "r") == 200


def test_a_conflict_is_tried_again(place: Place, aws: AwsServer) -> None:
    made: Any = open_results("s3://results", keep_s=60)
    aws.plan(Fault("error", service="s3", operation="PutObject", status=409, code="ConditionalRequestConflict"))
    assert made.put("m", "r", BODY)
    aws.plan(Fault("error", service="s3", operation="PutObject", status=409, code="ConditionalRequestConflict", onward=True))
    with pytest.raises(aws_module.failures()):
        made.put("m", "r2", BODY)
    made._client.close()


def test_what_no_item_holds_is_refused_before_it_is_sent(place: Place) -> None:
    made: Any = open_results("dynamodb://results", keep_s=60)
    with pytest.raises(TooLargeError, match="use an S3 place"):
        made.put("m", "r", BODY | {"body": "x" * 410_000})
    assert made.put("m", "r", BODY | {"body": "x" * 300_000})
    made._client.close()


def test_a_binary_body_is_kept_in_base64() -> None:
    kept = document(Reply(200, b"\x00\xff", {"content-type": "application/octet-stream"}, binary=True), "r", "t")
    assert (kept["body"], kept["binary"]) == ("AP8=", True)


@pytest.mark.parametrize("uri", ["ftp://a", "results", "s3://"])
def test_an_address_of_another_form_is_refused(uri: str) -> None:
    with pytest.raises(aws_module.AwsError, match="is no address"):
        open_results(uri, keep_s=60)
