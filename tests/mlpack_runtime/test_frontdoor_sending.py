"""Messages at their last byte, the queue's faults, and a worker's endpoint that misbehaves: a real server on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from endpoints import Endpoint, answered
from front_doors import BUCKET, REQUEST, S3_RESULTS, Edge, described
from tests.aws_server import AwsServer, Fault

from mlpack_runtime.frontdoor_sending import Message, Worker
from mlpack_runtime.frontdoor_tickets import ServiceError
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import RESPONSE_LIMIT_BYTES

LIMIT = 2048


@pytest.fixture
def edge(aws: AwsServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Edge:
    monkeypatch.setenv("MLPACK_MODEL_DIR", str(described(tmp_path)))
    return Edge(aws, S3_RESULTS)


def message(size: int, name: str = "tiny/r") -> Message:
    made = Message(name, "", {"request_id": ("String", "r"), "trace_id": ("String", "t")})
    made.body = "x" * (size - made.size)
    assert made.size == size
    return made


def test_size_counts_bytes_of_everything() -> None:
    assert Message("n", "é", {"ab": ("Number", "12")}).size == 2 + 2 + 6 + 2


def test_messages_fit_to_their_last_byte(edge: Edge) -> None:
    queue = edge.queue(LIMIT, (BUCKET, "in"))
    queue.send(message(LIMIT))
    queue.send(message(LIMIT + 1), "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1")
    first, second = sorted(edge.messages(), key=lambda one: len(one["body"]), reverse=True)
    assert first["body"] == message(LIMIT).body
    assert "payload" not in first
    assert (second["body"], second["request_id"]) == ("{}", "r")
    assert second["system"]["AWSTraceHeader"].startswith("Root=1-")
    assert second["payload"].startswith(f"s3://{BUCKET}/in/tiny/r.")
    key = second["payload"].removeprefix(f"s3://{BUCKET}/")
    assert edge.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode() == message(LIMIT + 1).body


def test_messages_without_another_place_are_refused_beyond_it(edge: Edge) -> None:
    queue = edge.queue(LIMIT, None)
    queue.check(message(LIMIT))
    with pytest.raises(RequestError, match="MLPACK_PAYLOADS") as caught:
        queue.check(message(LIMIT + 1))
    assert (caught.value.status, caught.value.kind) == (413, "PayloadTooLarge")


def test_a_fifo_queue_takes_a_request_once(edge: Edge) -> None:
    url = edge.sqs.create_queue(QueueName="requests.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    queue = edge.queue(LIMIT, None, url)
    for name in ("tiny/r", "tiny/r", "tiny/s"):
        queue.send(message(LIMIT, name))
    assert queue.backlog() == 2


@pytest.mark.parametrize("action", ["close", "error"])
def test_what_the_services_refuse_is_said(edge: Edge, aws: AwsServer, action: str) -> None:
    queue = edge.queue(LIMIT, (BUCKET, ""))
    aws.plan(Fault(action, service="sqs", onward=True), Fault(action, service="s3", onward=True))
    with pytest.raises(ServiceError, match="sending to http://"):
        queue.send(message(LIMIT))
    with pytest.raises(ServiceError, match=f"writing s3://{BUCKET}/tiny/r"):
        queue.send(message(LIMIT + 1))
    with pytest.raises(ServiceError, match="reading the attributes of http://"):
        queue.backlog()


def ask(worker: Worker, seconds: float = 20.0) -> Any:
    return worker.ask("/v2/models/tiny/infer", str(REQUEST).encode(), {"x-trace-id": "t"}, seconds)


def test_a_worker_is_asked_on_one_connection(serve: Callable[..., Endpoint]) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    binary = answered(b"\x00\x01", "200 OK", "Inference-Header-Content-Length: 1").replace(b"n/json", b"n/octet-stream")
    server = serve(answered(b"{}"), answered(b"", "503 Busy", "Retry-After: 7", "Set-Cookie: no"), chunked, binary)
    worker = Worker(server.url + "/stage/")
    first, second, third, fourth = (ask(worker) for _ in range(4))
    assert (first.status, first.body, first.headers) == (200, b"{}", {"content-type": "application/json"})
    assert (second.status, second.headers["retry-after"], len(second.headers)) == (503, "7", 2)
    assert third.body == b"abcde"
    assert (fourth.binary, fourth.headers["inference-header-content-length"]) == (True, "1")
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /stage/v2/models/tiny/infer HTTP/1.1\r\n")
    assert b"x-trace-id: t\r\n" in server.requests[0]
    worker.close()


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(serve: Callable[..., Endpoint]) -> None:
    server = serve(answered(b"{}"), None, answered(b"[]"), answered(b"1", "200 OK", "Connection: close"), answered(b"2"))
    worker = Worker(server.url)
    assert [ask(worker).body for _ in range(4)] == [b"{}", b"[]", b"1", b"2"]
    assert server.connections == 3
    worker.close()


@pytest.mark.parametrize("answer", [None, b"nonsense\r\n\r\nCUT", answered(b"{CUT", size=99), answered(b"{}", "99999 What")])
def test_a_worker_that_answers_half_or_nonsense_cannot_be_reached(serve: Callable[..., Endpoint], answer: bytes | None) -> None:
    server = serve(answer, answered(b"{}"))
    worker = Worker(server.url)
    with pytest.raises(ServiceError, match="the worker at http://127"):
        ask(worker)
    assert ask(worker).body == b"{}"
    worker.close()


def test_nobody_listening_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ServiceError, match="ConnectionRefusedError"):
        ask(Worker(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", answered(b"ab", size=5)])
def test_a_worker_that_is_silent_is_waited_for_until_the_deadline(serve: Callable[..., Endpoint], start: bytes) -> None:
    server = serve(start)
    worker = Worker(server.url)
    with pytest.raises(TimeoutError):
        ask(worker, 0.2)
    with pytest.raises(TimeoutError, match="the deadline is over"):
        ask(worker, 0.0)


def test_an_answer_is_read_no_further_than_it_may_be_long(serve: Callable[..., Endpoint]) -> None:
    server = serve(answered(b"0" * (RESPONSE_LIMIT_BYTES + (4 << 20)), "200 OK", "Connection: close"))
    worker = Worker(server.url)
    assert RESPONSE_LIMIT_BYTES < len(ask(worker).body) <= RESPONSE_LIMIT_BYTES + (1 << 16)


@pytest.mark.parametrize("url", ["", "worker:8080", "ftp://worker", "http://", "http://worker?x", "http://worker#x"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="is no http://HOST:PORT"):
        Worker(url)
