"""Answers that come back as requests: known in whatever a service puts around them, and told from requests that look like them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.runtime.source_events import dynamodb, item

from mlpack_runtime.queueing.results import AnswerError, check_request, document
from mlpack_runtime.service import Reply

BODY = json.dumps({"error": "the body has 'status': send something else", "type": "BadRequest"}).encode()
DOCUMENT = document(Reply(400, BODY, {"content-type": "application/json"}), "another-1", "t")
ITEM = {"id": "another/1", "status": 400, "body": json.dumps(DOCUMENT), "trace_id": "t", "created": 1, "expires": 2}
RECORD = dynamodb(ITEM)["Records"][0]
BINARY = document(Reply(200, b"\0\1", {"inference-header-content-length": "0"}, binary=True), "r", "t")


@pytest.mark.parametrize(
    "value",
    [
        DOCUMENT,
        BINARY,
        ITEM,
        {**ITEM, "read_by": "somebody", "request": None},
        RECORD,
        {"tableName": "results", "eventName": "INSERT", "dynamodb": {"NewImage": item(ITEM)["M"], "SizeBytes": 9}},
    ],
)
def test_answer_is_known_whoever_wrote_it(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=2)):
        with pytest.raises(AnswerError):
            check_request(text.encode())


@pytest.mark.parametrize(
    "value",
    [
        {"text": json.dumps(DOCUMENT)},
        {**DOCUMENT, "text": "x"},
        {"inputs": [DOCUMENT]},
        [DOCUMENT],
        {"id": "1", "body": "status binary trace_id request_id"},
        {"id": "1", "body": json.dumps([DOCUMENT])},
        {"body": json.dumps(DOCUMENT)},
        {"dynamodb": {"NewImage": {"id": {"S": "1"}, "body": {"S": "{"}}}, "text": "status binary trace_id request_id"},
        {"dynamodb": {"NewImage": {"id": "1", "body": 3}}, "text": "status binary trace_id request_id"},
    ],
)
def test_request_that_only_looks_like_an_answer_is_one(value: Any) -> None:
    check_request(json.dumps(value).encode())
    check_request(json.dumps(value).encode()[:-1])
