"""The front door's handler: every kind of event, hostile ones included, and a worker's HTTP endpoint behind it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.runtime.endpoints import Endpoint, answered
from tests.support.runtime.front_doors import REQUEST, Clock, Context, described, event
from tests.support.runtime.source_events import LATTICE, ROWS, sqs

from mlpack_runtime.door.exchange import Door
from mlpack_runtime.door.sending import Worker
from mlpack_runtime.door.settings import Settings
from mlpack_runtime.model import describe

Doors = Callable[..., Door]
Serve = Callable[..., Endpoint]
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture
def frontdoor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, whose own door leads nowhere."""
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(described(tmp_path / "model")))
    monkeypatch.setenv("MLPACK_WORKER_URL", NOWHERE)
    monkeypatch.delitem(sys.modules, "mlpack_runtime.frontdoor", raising=False)
    return import_module("mlpack_runtime.frontdoor")


@pytest.fixture
def door(frontdoor: Any) -> Iterator[Callable[..., Door]]:
    """Makes front doors before a worker's endpoint."""
    workers: list[Worker] = []

    def make(url: str, clock: Clock | None = None, **other: str) -> Door:
        found = clock or Clock()
        workers.append(Worker(url))
        return Door(describe(), Settings({"MLPACK_WORKER_URL": url, **other}), (None, None, workers[-1]), found.now, found.pause)

    yield make
    for worker in workers:
        worker.close()


def test_http_events_of_every_kind_get_the_workers_answer(frontdoor: Any, door: Doors, serve: Serve) -> None:
    sent = json.dumps(REQUEST)
    encoded = base64.b64encode(sent.encode()).decode()
    v1 = {"httpMethod": "POST", "path": "/v2/models/tiny/infer", "requestContext": {"stage": "p"}, "body": sent}
    balancer = {"requestContext": {"elb": {}}, "httpMethod": "POST", "path": "/", "body": sent}
    events = [
        event(sent, x_trace_id="t"),
        event(encoded, x_trace_id="t") | {"isBase64Encoded": True},
        v1 | {"headers": {"X-Trace-Id": "t"}, "multiValueHeaders": None},
        v1 | {"headers": None, "multiValueHeaders": {"X-Trace-Id": ["t"]}},
        balancer | {"headers": {"x-trace-id": "t"}},
        balancer | {"multiValueHeaders": {"x-trace-id": ["t"]}},
    ]
    server = serve(*[answered(b'{"outputs":[]}')] * len(events))
    made = door(server.url)
    answers = [frontdoor.respond(made, one, Context())[1] for one in events]
    assert [(one["statusCode"], one["body"], one["isBase64Encoded"]) for one in answers] == [(200, '{"outputs":[]}', False)] * 6
    headers = {"content-type": "application/json", "x-trace-id": "t", "x-request-id": "invocation-1"}
    assert all(one["headers"] == headers for one in answers[:5])
    assert answers[5]["multiValueHeaders"]["x-trace-id"] == ["t"]
    asked = server.requests[0]
    assert asked.startswith(b"POST /v2/models/tiny/infer HTTP/1.1\r\n")
    for line in (b"x-trace-id: t", b"x-request-id: invocation-1", b"x-deadline-ms: 25000", b"content-type: application/json"):
        assert line + b"\r\n" in asked
    assert json.loads(asked.partition(b"\r\n\r\n")[2]) == REQUEST


def test_files_go_on_as_base64(frontdoor: Any, door: Doors, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue's message is text, and so is what a worker is asked over HTTP."""
    data = b"\x89PNG\r\n\x1a\n picture"
    text = base64.b64encode(data).decode()
    form = b'--x\r\nContent-Disposition: form-data; name="%d"; filename="a"\r\n\r\n' + data + b"\r\n"
    monkeypatch.setenv(
        "MLPACK_MODEL_DIR", str(described(tmp_path / "pictures", task={"name": "image-classification", "image": {}}))
    )
    server = serve(*[answered(b'{"label":"cat"}')] * 3)
    made = door(server.url)
    sent = [
        event(text, content_type="image/png"),
        event(base64.b64encode(form % 1 + form % 2 + b"--x--").decode(), content_type="multipart/form-data; boundary=x"),
        event(base64.b64encode(json.dumps({"image": text, "top_k": 2}).encode()).decode()),
    ]
    for one in sent:
        answer = frontdoor.respond(made, one | {"isBase64Encoded": True}, Context())[1]
        assert (answer["statusCode"], answer["body"]) == (200, '{"label":"cat"}')
    got = [json.loads(asked.partition(b"\r\n\r\n")[2]) for asked in server.requests]
    assert got == [{"image": text}, {"images": [text, text]}, {"image": text, "top_k": 2}]
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(described(tmp_path / "tensors")))
    refused = frontdoor.respond(door(NOWHERE), sent[0] | {"isBase64Encoded": True}, Context())[1]
    assert (refused["statusCode"], "not JSON" in refused["body"]) == (400, True)


def test_sounds_go_on_as_base64(frontdoor: Any, door: Doors, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"RIFF\x2e\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80>\0\0\0}\0\0\2\0\x10\0data\2\0\0\0\1\0"
    text = base64.b64encode(data).decode()
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + data + b"\r\n"
    field = b'--x\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n'
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(described(tmp_path / "sounds", task={"name": "audio-classification", "sound": {}})))
    types = ("audio/wav", "audio/x-wav; codecs=1", "application/octet-stream", "application/x-www-form-urlencoded")
    server = serve(*[answered(b'{"label":"dog"}')] * (len(types) + 2))
    made = door(server.url)
    sent = [event(text, content_type=each) for each in types]
    sent.append(event(base64.b64encode(form + field + b"--x--").decode(), content_type="multipart/form-data; boundary=x"))
    sent.append(event(base64.b64encode(json.dumps({"audio": text}).encode()).decode()))
    for one in sent:
        answer = frontdoor.respond(made, one | {"isBase64Encoded": True}, Context())[1]
        assert (answer["statusCode"], answer["body"]) == (200, '{"label":"dog"}')
    got = [json.loads(asked.partition(b"\r\n\r\n")[2]) for asked in server.requests]
    assert got == [{"audio": text}] * len(types) + [{"audio": text, "top_k": 3}, {"audio": text}]
    refused = frontdoor.respond(made, event("iVBORw0KGgo=", content_type="image/png") | {"isBase64Encoded": True}, Context())[1]
    assert (refused["statusCode"], "takes a sound" in refused["body"]) == (400, True)


def test_events_of_other_services_are_refused_with_what_to_do(frontdoor: Any, door: Doors, serve: Serve) -> None:
    """An answer of status 400 would be a success to them: SQS, say, would delete its messages."""
    server = serve(answered(b'{"outputs":[]}'))
    made = door(server.url)
    for row in ROWS:
        if row.outcome in ("batch", "answered", "listed") or row.outcome.startswith("refused"):
            with pytest.raises(frontdoor.InferenceError) as caught:
                frontdoor.respond(made, row.event, Context())
            told = json.loads(str(caught.value))
            assert told["error_type"] == "UnsupportedEvent"
            assert "Instead: " in told["error"]
    with pytest.raises(frontdoor.InferenceError, match="the worker's queue itself"):
        frontdoor.respond(made, sqs(REQUEST), Context())
    assert server.requests == []
    first_version = LATTICE | {"body": json.dumps(REQUEST)}
    assert frontdoor.respond(made, first_version, Context())[1]["statusCode"] == 200


def test_events_are_direct_requests_where_that_is_set(frontdoor: Any, door: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPACK_EVENTS", "direct")
    assert frontdoor.respond(door(NOWHERE), sqs(REQUEST), Context())[0].status == 400


def test_traces_are_passed_on_unless_they_would_break_request(frontdoor: Any, door: Doors, serve: Serve) -> None:
    server = serve(answered(b"{}"), answered(b"{}"))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    made = door(server.url)
    frontdoor.respond(made, event(traceparent=parent, tracestate="a=b"), None)
    frontdoor.respond(made, event(traceparent="x\r\nevil: 1", tracestate="é"), None)
    assert f"traceparent: {parent}\r\ntracestate: a=b\r\n".encode() in server.requests[0]
    assert b"x-trace-id: 0af7651916cd43dd8448eb211c80319c\r\n" in server.requests[0]
    assert b"evil" not in server.requests[1]
    assert b"tracestate" not in server.requests[1]


def test_binary_tensors_are_passed_to_a_worker_as_they_are(frontdoor: Any, door: Doors, serve: Serve) -> None:
    row = {"name": "pixels", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    raw, head = struct.pack("<4f", 1, 2, float("nan"), 4), json.dumps({"inputs": [row]}).encode()
    binary = answered(b"{}ab", "200 OK", "Inference-Header-Content-Length: 2").replace(b"n/json", b"n/octet-stream")
    server = serve(binary)
    sent = event(base64.b64encode(head + raw).decode(), inference_header_content_length=str(len(head))) | {"isBase64Encoded": True}
    answer = frontdoor.respond(door(server.url), sent, None)[1]
    assert (base64.b64decode(answer["body"]), answer["isBase64Encoded"]) == (b"{}ab", True)
    asked = server.requests[0].partition(b"\r\n\r\n")[2]
    size = len(asked) - 16
    assert (json.loads(asked[:size]), asked[size:]) == ({"inputs": [row]}, raw)
    assert f"inference-header-content-length: {size}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        (answered(b'{"error":"x","error_type":"Unprocessable"}', "422 No"), 422, "Unprocessable"),
        (answered(b'{"error":"x","error_type":"Draining"}', "503 No", "Retry-After: 3"), 503, "Draining"),
        (answered(b"<html>", "502 Bad Gateway"), 503, "Unavailable"),
        (answered(b"<html>"), 502, "Unavailable"),
        (answered(b"{}", "302 Found", "Location: http://x"), 502, "Unavailable"),
        (answered(b"{}", "999 What"), 502, "Unavailable"),
        (answered(b"{}", "200 OK", "X: a\r\n b"), 502, "Unavailable"),
        (answered(b"{}", "200 OK", "Content-Length: 3"), 502, "Unavailable"),
        (answered(b"{CUT", size=9), 502, "Unavailable"),
        (None, 503, "Unavailable"),
        (answered(b'"' + b"0" * (6 << 20) + b'"'), 413, "PayloadTooLarge"),
    ],
)
def test_what_a_worker_says_is_told(
    frontdoor: Any, door: Doors, serve: Serve, answer: bytes | None, status: int, kind: str
) -> None:
    told = frontdoor.respond(door(serve(answer).url), event(), Context())[1]
    body = json.loads(told["body"])
    assert (told["statusCode"], body["error_type"]) == (status, kind)
    assert "x-trace-id" in told["headers"]


def test_the_deadline_is_the_workers_time(frontdoor: Any, door: Doors, serve: Serve) -> None:
    server = serve(b"")
    made = door(server.url, MLPACK_MARGIN_MS="100")
    assert frontdoor.respond(made, event(x_deadline_ms="50"), Context())[0].status == 504
    assert frontdoor.respond(made, event(), Context(left_ms=150))[0].status == 504
    assert b"x-deadline-ms: 50\r\n" in server.requests[0]
    assert frontdoor.respond(made, event(), Context(left_ms=100))[0].status == 504
    assert len(server.requests) <= 2


def test_the_circuit_opens_and_closes_with_the_worker(frontdoor: Any, door: Doors, serve: Serve) -> None:
    server, clock = serve(answered(b"{}", "503 No"), None, answered(b"{}"), answered(b"{}")), Clock()
    made = door(server.url, clock, MLPACK_BREAKER_FAILURES="2")
    statuses = [frontdoor.respond(made, event(), None)[0].status for _ in range(3)]
    # the second is asked again on a new connection, as the first was kept
    assert (statuses, len(server.requests)) == ([503, 200, 200], 4)
    nowhere = door(NOWHERE, clock, MLPACK_BREAKER_FAILURES="2")
    kinds = [json.loads(frontdoor.respond(nowhere, event(), None)[0].body)["error_type"] for _ in range(3)]
    assert kinds == ["Unavailable", "Unavailable", "CircuitOpen"]


TOLD = b'{"error":"x","error_type":"DeadlineExceeded"}'
PATIENCE: list[tuple[dict[str, str], Context | None]] = [
    ({}, None),
    ({"x_deadline_ms": "9999"}, Context(left_ms=40)),
    ({}, Context(left_ms=40)),
]


def kinds(frontdoor: Any, made: Door, count: int, headers: dict[str, str], context: Context | None = None) -> list[str]:
    answers = [frontdoor.respond(made, event(**headers), context)[0] for _ in range(count)]
    return [json.loads(answer.body).get("error_type", "") for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("headers", [{"x_deadline_ms": "30"}, {"prefer": "wait=1"}])
@pytest.mark.parametrize("answer", [b"", answered(TOLD, "504 Late")])
def test_a_callers_haste_does_not_open_the_circuit(
    frontdoor: Any, serve: Serve, door: Doors, headers: dict[str, str], answer: bytes
) -> None:
    made = door(serve(*[answer] * 2).url, MLPACK_BREAKER_FAILURES="1", MLPACK_DEADLINE_MS="5000")
    assert kinds(frontdoor, made, 2, headers) == ["DeadlineExceeded"] * 2
    made.worker = door(serve(answered(b"{}")).url).worker
    assert kinds(frontdoor, made, 1, {}) == [""]


@pytest.mark.parametrize(("headers", "context"), PATIENCE)
@pytest.mark.parametrize("answer", [b"", answered(TOLD, "504 Late")])
def test_a_worker_that_is_too_slow_opens_the_circuit(
    frontdoor: Any, serve: Serve, door: Doors, headers: dict[str, str], context: Context | None, answer: bytes
) -> None:
    settings = {"MLPACK_BREAKER_FAILURES": "1", "MLPACK_DEADLINE_MS": "50", "MLPACK_MARGIN_MS": "0"}
    made = door(serve(answer).url, **settings)
    assert kinds(frontdoor, made, 2, headers, context) == ["DeadlineExceeded", "CircuitOpen"]


def test_a_probe_in_haste_is_given_back(frontdoor: Any, serve: Serve, door: Doors) -> None:
    clock = Clock()
    made = door(NOWHERE, clock, MLPACK_BREAKER_FAILURES="2")
    nowhere = made.worker
    assert kinds(frontdoor, made, 3, {}) == ["Unavailable", "Unavailable", "CircuitOpen"]
    clock.now_s += 10
    made.worker = door(serve(b"").url).worker
    assert kinds(frontdoor, made, 2, {"x_deadline_ms": "30"}) == ["DeadlineExceeded"] * 2
    made.worker = nowhere
    assert kinds(frontdoor, made, 2, {}) == ["Unavailable", "CircuitOpen"]  # still a probe, whose failure opens at once
    clock.now_s += 20
    made.worker = door(serve(answered(b"{}"), answered(b"{}")).url).worker
    assert kinds(frontdoor, made, 2, {}) == ["", ""]


def test_direct_invocations(frontdoor: Any, door: Doors, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(answered(b'{"outputs":[]}'))
    monkeypatch.setattr(frontdoor, "DOOR", door(server.url))
    assert frontdoor.handler(REQUEST, Context()) == {"outputs": []}
    refused = frontdoor.handler({"row": 1}, Context())
    assert (refused["error_type"], len(refused["trace_id"])) == ("InvalidRequest", 32)
    warm = frontdoor.handler({"warmup": True}, Context())
    assert (warm["warm"], warm["model"], len(server.requests)) == (True, "tiny", 1)


def test_a_direct_invocation_that_fails_is_a_function_error(frontdoor: Any) -> None:
    with pytest.raises(frontdoor.InferenceError) as caught:
        frontdoor.handler(REQUEST, Context())
    told = json.loads(str(caught.value))
    assert (told["error_type"], len(told["trace_id"])) == ("Unavailable", 32)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["headers", "multiValueHeaders", "body", "isBase64Encoded", "rawPath", "path", "httpMethod", "version", "http", "elb"]
)


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, JSON_VALUES), st.dictionaries(KEYS, JSON_VALUES))
def test_no_event_is_too_strange(frontdoor: Any, door: Doors, outer: dict[str, Any], context: dict[str, Any]) -> None:
    reply, envelope = frontdoor.respond(door(NOWHERE), {**outer, "requestContext": context}, None)
    assert envelope["statusCode"] == reply.status
    assert reply.status in (200, 400, 404, 405)
    json.dumps(envelope)


@pytest.mark.parametrize("given_event", [None, [], "text", 3, {}, {"requestContext": None}, {"Records": []}])
def test_direct_events_of_any_kind_are_answered(frontdoor: Any, given_event: object) -> None:
    assert frontdoor.handler(given_event, None)["error_type"] == "InvalidRequest"


def test_settings_that_make_no_sense_stop_the_start(tmp_path: Path) -> None:
    sources = str(Path(frontdoor_file()).parent.parent)
    script = f"import sys; sys.path.insert(0, {sources!r})\nimport mlpack_runtime.frontdoor"
    env = {**os.environ, "MLPACK_MODEL_DIR": str(described(tmp_path)), "MLPACK_MODE": "http"}
    run = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False, env=env)
    assert run.returncode == 1
    assert "SettingsError: MLPACK_MODE is 'http', and MLPACK_WORKER_URL is not set" in run.stderr


def frontdoor_file() -> str:
    import mlpack_runtime

    return mlpack_runtime.__file__


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (json.dumps({**REQUEST, "parameters": {"x": 7}}).replace("7", "1e400"), 400, "cannot be passed on as JSON"),
        (json.dumps({**REQUEST, "id": "x" * 2000}), 400, "MLPACK_LIMIT_ID_CHARS"),
        (json.dumps({"inputs": {"pixels": [[1, 2, 3, 4]] * 6}}), 413, "MLPACK_LIMIT_ROWS"),
        (json.dumps({"inputs": [{"name": "pixels", "shape": [200_000, 0], "datatype": "FP32", "data": []}]}), 400, "has shape"),
    ],
)
def test_a_front_door_holds_the_workers_limits(
    body: str, status: int, said: str, frontdoor: Any, door: Doors, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLPACK_LIMIT_ROWS", "5")
    endpoint = serve()
    reply, envelope = frontdoor.respond(door(endpoint.url), event(body), Context())
    assert (reply.status, envelope["statusCode"]) == (status, status)
    assert said in reply.body.decode()
    assert len(reply.body) < 1000


def test_bytes_after_what_a_hook_takes_belong_to_nothing(frontdoor: Any, door: Doors, tmp_path: Path) -> None:
    described(tmp_path / "model", preprocess="app:preprocess")
    sent = event('{"row":1}abc', inference_header_content_length="9")
    reply, _ = frontdoor.respond(door(NOWHERE), sent, Context())
    assert reply.status == 400
    assert b"3 bytes after the JSON" in reply.body


def test_credentials_are_looked_at_and_passed_on(frontdoor: Any, door: Doors, serve: Serve) -> None:
    keys = {"api_keys": {"digests": {"a": hashlib.sha256(b"key").hexdigest()}}}
    described(Path(os.environ["MLPACK_MODEL_DIR"]), authorize=keys, cors={"origins": ["https://app.example.com"]})
    endpoint = serve(answered(b'{"outputs":[]}'))
    made = door(endpoint.url)
    page = {"origin": "https://app.example.com"}
    asked = {
        **event(""),
        "requestContext": {"http": {"method": "OPTIONS"}},
        "headers": {**page, "access-control-request-method": "POST"},
    }
    stranger, caller = event(json.dumps(REQUEST), **page), event(json.dumps(REQUEST), **page, x_api_key="key")
    answers = [frontdoor.respond(made, one, Context())[1] for one in (asked, stranger, caller)]
    assert [one["statusCode"] for one in answers] == [204, 401, 200]
    assert {one["headers"]["access-control-allow-origin"] for one in answers} == {page["origin"]}
    (sent,) = endpoint.requests
    assert b"x-api-key: key" in sent.lower()
