"""Lambda's HTTP events, to and from: what test_handler sees of them through a model, here at their edges."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlpack_runtime import events
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import RESPONSE_LIMIT_BYTES, Reply

ELB: dict[str, Any] = {"requestContext": {"elb": {}}}


@pytest.mark.parametrize(
    ("event", "method", "path", "headers"),
    [
        ({"requestContext": {}}, "POST", "/", {}),
        ({"requestContext": {"http": {"method": "get"}}, "rawPath": "/a", "path": "/b"}, "GET", "/a", {}),
        ({"requestContext": {"http": []}, "httpMethod": "put", "path": "/b"}, "PUT", "/b", {}),
        ({"requestContext": {}, "headers": {"A": 1, "B": None}, "multiValueHeaders": {"A": ["x"], "C": ["1", "2"], "D": []}},
         "POST", "/", {"a": "1", "c": "2"}),
        ({"requestContext": {}, "headers": [], "multiValueHeaders": "no"}, "POST", "/", {}),
        ({"version": "2.0", "path": "/v2", "method": "GET", "headers": {"A": ["x", "y"], "B": []}, "requestContext":
          {"serviceNetworkArn": "arn:aws:vpc-lattice:..."}}, "GET", "/v2", {"a": "y", "b": ""}),  # VPC Lattice's version 2
        ({"requestContext": {"http": {"method": {}}}, "path": [], "headers": {"A": {}}}, "POST", "/", {"a": ""}),
    ],
)  # fmt: skip
def test_asked(event: dict[str, Any], method: str, path: str, headers: dict[str, str]) -> None:
    asked = events.Asked(event)
    assert (asked.method, asked.path, asked.headers) == (method, path, headers)


def test_http_events_are_told_from_others() -> None:
    assert events.is_http({"requestContext": {}})
    assert not any(events.is_http(event) for event in (None, [], "x", {}, {"requestContext": []}))


def test_body() -> None:
    assert events.body({}) == b""
    assert events.body({"body": "é"}) == "é".encode()
    assert events.body({"body": "YQ==", "isBase64Encoded": True}) == b"a"
    for wrong in ("YQ", "Y Q==", "é"):
        with pytest.raises(RequestError, match="not base64"):
            events.body({"body": wrong, "isBase64Encoded": True})
    with pytest.raises(RequestError, match="body is a list"):
        events.body({"body": []})


@pytest.mark.parametrize(("event", "limit"), [({"requestContext": {}}, RESPONSE_LIMIT_BYTES), (ELB, 1 << 20)])
def test_answers_are_held_against_what_their_sender_passes_on(event: dict[str, Any], limit: int) -> None:
    check = events.Asked(event).check
    room = limit - 2048
    check(Reply(200, b"x" * room, {}))
    check(Reply(200, b"x" * (room // 4 * 3), {}, binary=True))
    for body, binary in ((b"x" * (room + 1), False), (b'"' + b"x" * (room - 1), False), (b"x" * (room // 4 * 3 + 1), True)):
        with pytest.raises(RequestError) as caught:
            check(Reply(200, body, {}, binary=binary))
        assert caught.value.status == 413


def test_envelopes() -> None:
    reply = Reply(200, b"\x00", {"a": "b"}, binary=True)
    assert events.envelope({"requestContext": {}}, reply) == {
        "statusCode": 200,
        "body": "AA==",
        "isBase64Encoded": True,
        "headers": {"a": "b"},
    }
    assert events.envelope(ELB, reply)["multiValueHeaders"] == {"a": ["b"]}
    assert json.dumps(events.envelope(ELB | {"headers": {}}, Reply(200, b"{}", {})))
