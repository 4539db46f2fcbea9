"""HTTP around a service: health, bodies, and an end that waits for answers."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlpack_runtime import model
from mlpack_runtime.service import open_service
from mlpack_runtime.serving import http_head
from mlpack_runtime.serving.health import Server
from mlpack_runtime.serving.http_head import Request
from mlpack_runtime.serving.http_listener import Bounds

READY: dict[str, str] = {"reason": ""}


@pytest.fixture
def idle(texts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One that was not started."""
    monkeypatch.setattr(model, "ROOT", str(texts))
    monkeypatch.setitem(READY, "reason", "")
    made = Server(0, lambda: READY["reason"], host="127.0.0.1")
    yield made
    made.stop(5)


@pytest.fixture
def server(idle: Server) -> Server:
    idle.start()
    return idle


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None, answer.getheader("connection")
    finally:
        connection.close()


def test_alive_before_it_is_ready(server: Server) -> None:
    READY["reason"] = "the model is being loaded"
    assert ask(server, "GET", "/v2/health/live")[:2] == (200, {"live": True})
    assert ask(server, "GET", "/v2/health/ready") == (503, {"ready": False, "reason": READY["reason"]}, "close")
    assert ask(server, "POST", "/", b'{"text": "cat"}')[0] == 503
    server.service = open_service()
    READY["reason"] = ""
    assert ask(server, "GET", "/v2/health/ready")[:2] == (200, {"ready": True})
    assert ask(server, "HEAD", "/v2/health/ready")[:2] == (200, None)


def test_the_service_answers_the_rest(server: Server) -> None:
    server.service = open_service()
    status, answer, _ = ask(server, "POST", "/v2/models/tiny/infer?x=1", b'{"text": "cat"}', **{"X-Trace-Id": "t"})
    assert (status, answer["parameters"]["trace_id"], answer["outputs"][0]["shape"]) == (200, "t", [1, 5])
    assert ask(server, "GET", "/v2/models/tiny")[1]["name"] == "tiny"
    assert ask(server, "DELETE", "/v2")[0] == 405
    assert ask(server, "GET", "/nothing")[0] == 404


def test_one_connection_takes_many_requests(server: Server) -> None:
    server.service = open_service()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(3):
        connection.request("POST", "/", b'{"text": "cat"}')
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("connection")) == (200, None)
        answer.read()
    connection.close()


@pytest.mark.parametrize("left_ms", ["0", "-5"])
def test_what_arrives_past_its_deadline_is_not_run(server: Server, left_ms: str, capfd: pytest.CaptureFixture[str]) -> None:
    server.service = open_service()
    late = {"X-Deadline-Ms": left_ms, "X-Trace-Id": "t", "X-Request-Id": "r"}
    status, answer, _ = ask(server, "POST", "/v2/models/tiny/infer", b'{"text": "cat"}', **late)
    assert (status, answer["error_type"], answer["trace_id"]) == (504, "DeadlineExceeded", "t")
    assert ask(server, "GET", "/v2/health/ready", **late)[0] == 200
    (line,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert (line["status"], line["request_id"], line["error_type"], line["batch"]) == (504, "r", "DeadlineExceeded", 0)


def test_a_deadline_that_is_not_over_changes_nothing(server: Server) -> None:
    server.service = open_service()
    assert ask(server, "POST", "/", b'{"text": "cat"}', **{"X-Deadline-Ms": "60000"})[0] == 200
    status, answer, _ = ask(server, "POST", "/", b'{"text": "cat"}', **{"X-Deadline-Ms": "soon"})
    assert (status, answer["error_type"]) == (400, "InvalidRequest")


def test_a_body_that_comes_after_its_deadline_is_not_run(server: Server) -> None:
    server.service = open_service()
    body = b'{"text": "cat"}'
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        head = f"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nX-Deadline-Ms: 50\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100")  # the head is there, and its time runs
        time.sleep(0.1)
        client.sendall(body)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["error_type"]) == (504, "DeadlineExceeded")


@pytest.mark.parametrize(
    ("head", "status", "kind"),
    [
        ("Transfer-Encoding: gzip", 400, "InvalidRequest"),
        ("Content-Length: -1", 400, "InvalidRequest"),
        ("Content-Length: many", 400, "InvalidRequest"),
        (f"Content-Length: {(256 << 20) + 1}", 413, "PayloadTooLarge"),
    ],
)
def test_a_body_of_unknown_or_unreasonable_length_is_refused(server: Server, head: str, status: int, kind: str) -> None:
    server.service = open_service()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["error_type"]) == (status, kind)


def test_a_client_that_goes_away_harms_nobody(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    server.service = open_service()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert ask(server, "GET", "/v2/health/live")[0] == 200
    assert capfd.readouterr().err == ""


def test_the_end_waits_for_what_is_being_answered(server: Server) -> None:
    begun, go = threading.Event(), threading.Event()

    class Slow:
        """A service whose answers take until they may."""

        model = open_service().model
        access = None

        def http(self, *_: object) -> Any:
            begun.set()
            assert go.wait(30)
            return open_service().warmup()

    server.service = Slow()  # type: ignore[assignment]
    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(ask(server, "POST", "/", b"{}")))
    client.start()
    assert begun.wait(30)
    assert not server.stop(0.05)
    go.set()
    client.join()
    assert answers[0][0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    ["/", "/x", "*", "/v2", "/v2/", "/v2/models", "/v2/v2/models/tiny/infer", "/v2/v2/x", "/v2/health/ready"]
    + [f"/v2/models/{rest}" for rest in ("tiny", "tiny/infer", "tiny/infer/", "tiny/infer/x", "tiny/ready", "other/infer", "infer")]
    + ["//v2//models/tiny/infer", "/stage/v2/models/tiny/infer?a=b"]
    + [f"/v2/models/tiny/versions/{rest}" for rest in ("1/infer", "x/infer", "1", "1/ready")],
)
def test_a_body_is_received_exactly_where_the_service_reads_it(idle: Server, method: str, path: str) -> None:
    service = idle.service = open_service()
    path = path.replace("versions/1/", f"versions/{service.model.version}/")
    reply = service.http(method, path, {}, b"no JSON")
    looks = b"is not JSON" in reply.body
    assert idle.reads(Request(method, path, (1, 1), {})) == looks


def test_what_is_not_here_is_said_before_a_body_is_sent(server: Server) -> None:
    server.service = open_service()
    for path, status in (("/v2/models/other/infer", 404), ("/v2/nothing", 404), ("/v2/models/tiny", 405)):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n".encode())
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.getheader("connection")) == (status, "close")


def test_a_model_that_is_not_loaded_receives_no_body(server: Server) -> None:
    READY["reason"] = "the model is being loaded"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        said = json.loads(answer.read())
        assert (answer.status, said["error_type"]) == (503, "NotReady")
        assert said["trace_id"]
        assert said["trace_id"] == answer.getheader("x-trace-id")


def test_chunks_are_a_body_like_any_other(server: Server) -> None:
    server.service = open_service()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/", iter([b'{"text"', b': "cat"}']), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()


def test_a_request_id_is_short_and_plain(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    server.service = open_service()
    assert ask(server, "POST", "/", b"{", **{"X-Request-Id": "é\x85" + "a" * 60_000})[0] == 400
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["request_id"] == "é?" + "a" * 198
    assert len(line) < 2500


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "a\r\nSet-Cookie: b"},
        {"x": "a\nb"},
        {"x": "a\rb"},
        {"x": "日本"},
        {"x": "a\x00\x1b\x7f\x85\u2028"},
        {"x": "a" * 100_000},
        {"x": "\ud800"},
    ],
)
def test_whatever_a_header_holds_it_stays_one_line_of_latin_1(headers: dict[str, str]) -> None:
    made = http_head.answer(200, headers, "Server: mlpack")
    first, *lines = made.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert (first, [line.partition(b":")[0] for line in lines]) == (b"HTTP/1.1 200 OK", [b"Server", b"x"])
    assert not made.replace(b"\r\n", b"").translate(None, bytes([*range(0x20, 0x7F), *range(0xA0, 0x100)]))
    assert len(made) < 10_000


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)])
def test_compressed_and_chunked_bodies_are_decoded(server: Server, coding: str, compress: Any, chunked: bool) -> None:
    server.service = open_service()
    body = compress(b'{"text": "the cat sat on the mat"}')
    status, answer, closes = ask(
        server, "POST", "/", iter([body[:5], body[5:]]) if chunked else body, **{"Content-Encoding": coding}
    )
    assert (status, answer["outputs"][0]["shape"], closes) == (200, [1, 5], None)


@pytest.mark.parametrize("method", ["TRACE", "QUERY", "DELETE"])
def test_methods_that_nothing_takes_are_no_fault_of_ours(server: Server, method: str) -> None:
    server.service = open_service()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(method, "/v2/models/tiny/infer")
    answer = connection.getresponse()
    assert (answer.status, "POST" in str(answer.getheader("allow"))) == (405, True)
    assert json.loads(answer.read())["error_type"] == "MethodNotAllowed"
    connection.close()


def test_compressed_body_that_is_too_much_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPACK_LIMIT_BODY_BYTES", "100000")
    server.service = open_service()
    status, answer, _ = ask(server, "POST", "/", gzip.compress(b" " * 100_001), **{"Content-Encoding": "gzip"})
    assert (status, answer["error_type"]) == (413, "PayloadTooLarge")
    assert server.connections.held == 0


def test_what_a_body_becomes_counts_among_bytes_that_are_held(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "ROOT", str(texts))
    server = Server(0, lambda: "", host="127.0.0.1", bounds=Bounds({"MLPACK_HTTP_HELD_BYTES": "200000"}))
    server.service = open_service()
    server.start()
    try:
        status, answer, _ = ask(server, "POST", "/", gzip.compress(b" " * 1_000_000), **{"Content-Encoding": "gzip"})
        assert (status, "MLPACK_HTTP_HELD_BYTES" in answer["error"]) == (413, True)
        assert server.connections.held == 0
    finally:
        server.stop(5)


def test_encoding_that_is_not_known_is_told_what_is(server: Server) -> None:
    server.service = open_service()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/", b'{"text": "cat"}', {"Content-Encoding": "br"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("accept-encoding")) == (415, "gzip, deflate")
    assert json.loads(answer.read())["error_type"] == "UnsupportedMediaType"
    connection.request("GET", "/v2/models/tiny", None, {"Content-Encoding": "br"})  # without a body there is nothing to decode
    assert connection.getresponse().status == 200
    connection.close()
