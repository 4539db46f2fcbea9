"""Messages at their last byte, the queue's faults, and a worker's endpoint that misbehaves: a real server on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.runtime.endpoints import Endpoint, answered
from tests.support.runtime.front_doors import BUCKET, REQUEST, S3_RESULTS, Edge, described
from tests.support.services.aws_server import AwsServer, Fault

from mlpack_runtime.door.sending import Message, NoWorkerError, Worker
from mlpack_runtime.door.tickets import ServiceError
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


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SECOND = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nSECRET"
WRONG = {
    "nonsense": b"nonsense\r\n\r\nCUT",
    "half": answered(b"{CUT", size=99),
    "a status of five digits": answered(b"{}", "99999 What"),
    "a status of 999": answered(b"{}", "999 What"),
    "a status of 099": answered(b"{}", "099 What"),
    "a status of 600": answered(b"{}", "600 What"),
    "another digit": answered(b"{}", "2\xb20 What"),
    "no status": b"HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a folded line": HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a folded type": b"HTTP/1.1 200 OK\r\nContent-Type: a/b;\r\n\tSet-Cookie: a\r\nContent-Length: 2\r\n\r\n{}",
    "a bare CR": HEAD + b"Retry-After: 1\rSet-Cookie: a\r\nContent-Length: 2\r\n\r\n{}",
    "a bare LF": HEAD + b"Retry-After: 1\nSet-Cookie: a\r\nContent-Length: 2\r\n\r\n{}",
    "NUL": HEAD + b"Retry-After: 1\x00\r\nContent-Length: 2\r\n\r\n{}",
    "a space before a colon": HEAD + b"Content-Length : 2\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "two lengths in a list": HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
    "a length of +2": HEAD + b"Content-Length: +2\r\n\r\n{}",
    "a length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "another coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a chunk that is longer": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "half of the chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{CUT",
    "no end of the chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nCUT\r\nCUT",
    "a header of 70 KB": HEAD + b"X: " + b"a" * 70_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "headers without end": HEAD + b"A: b\r\n" * 200 + b"Content-Length: 2\r\n\r\n{}",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + answered(b"{}"),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_what_answers_half_or_nonsense_is_no_worker(serve: Callable[..., Endpoint], answer: bytes) -> None:
    server = serve(answer, answered(b"{}"))
    worker = Worker(server.url)
    with pytest.raises(NoWorkerError, match="the worker at http://127") as caught:
        ask(worker)
    assert (caught.value.status, len(str(caught.value)) < 400, str(caught.value).isprintable()) == (502, True, True)
    assert ask(worker).body == b"{}"
    worker.close()


def test_worker_that_closes_without_an_answer_cannot_be_reached(serve: Callable[..., Endpoint]) -> None:
    server = serve(None, answered(b"{}"))
    worker = Worker(server.url)
    with pytest.raises(ServiceError, match="the worker at http://127") as caught:
        ask(worker)
    assert caught.value.status == 503
    assert ask(worker).body == b"{}"
    worker.close()


@pytest.mark.parametrize("second", [SECOND, b"\r\n", b"S"])
def test_an_answer_that_nobody_asked_for_is_nobodys(serve: Callable[..., Endpoint], second: bytes) -> None:
    server = serve(answered(b"{}") + second, answered(b"[]"))
    worker = Worker(server.url)
    assert [ask(worker).body for _ in range(2)] == [b"{}", b"[]"]
    assert server.connections == 2
    worker.close()


def test_interim_answers_are_passed_over(serve: Callable[..., Endpoint]) -> None:
    worker = Worker(serve(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answered(b"{}")).url)
    assert ask(worker).body == b"{}"
    worker.close()


def test_a_body_without_a_length_ends_with_its_connection(serve: Callable[..., Endpoint]) -> None:
    server = serve(HEAD + b"Connection: close\r\n\r\n{}")
    worker = Worker(server.url)
    assert ask(worker).body == b"{}"


@pytest.mark.parametrize("piece", [HEAD, b"HTTP/1.1 100 Continue\r\n\r\n", b"a"])
def test_the_deadline_holds_while_an_answer_drips(piece: bytes) -> None:
    """A server that sends a byte, and another, for as long as somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sent: list[int] = []

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                end = threading.Event()
                for at in range(10_000):
                    try:
                        connection.sendall(piece[at % len(piece) :][:1])
                    except OSError:
                        return
                    sent.append(at)
                    end.wait(0.01)

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises((TimeoutError, NoWorkerError)):
            ask(Worker(f"http://127.0.0.1:{listener.getsockname()[1]}"), 0.15)
        thread.join(30)
        assert len(sent) < 1000


def test_nobody_listening_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ServiceError, match="ConnectionRefusedError"):
        ask(Worker(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", answered(b"ab", size=5)])
def test_worker_that_is_silent_is_waited_for_until_the_deadline(serve: Callable[..., Endpoint], start: bytes) -> None:
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


@pytest.mark.parametrize(
    "url",
    [
        "",
        "worker:8080",
        "ftp://worker",
        "http://",
        "http://worker?x",
        "http://worker#x",
        "http://a:b",
        "http://a b",
        "http://a/\r\nX: y",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="is no http://HOST:PORT"):
        Worker(url)
