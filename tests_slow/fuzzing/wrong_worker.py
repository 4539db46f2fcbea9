"""Answers that are nearly HTTP, to a front door: what it tells its caller is clean, and an answer to that very request, or that the
worker cannot be reached."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from importlib import import_module
from random import Random
from typing import Any

from tests_slow.fuzzing import extremes, harness, oracle, packages
from tests_slow.fuzzing.front_door import Context

from mlpack_runtime.door.exchange import Door
from mlpack_runtime.door.sending import Worker
from mlpack_runtime.door.settings import Settings
from mlpack_runtime.model import describe

_STARTS: tuple[bytes, ...] = (
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.0 200 OK", b"HTTP/1.1 999 What", b"HTTP/1.1 600 What",
    b"HTTP/1.1 204 None", b"HTTP/1.1 304 Same", b"HTTP/1.1 101 Go", b"HTTP/1.1 100 Continue", b"HTTP/1.1 302 Found",
    b"HTTP/1.1 400 No",
    b"HTTP/1.1 422 No", b"HTTP/1.1 500 No", b"HTTP/1.1 503 No", b"HTTP/2 200", b"HTTP/1.1 2000 OK", b"HTTP/1.1 20 OK",
    b"HTTP/1.1 \xb2\xb2\xb2 OK",
    b"HTTP/1.1 200 \x00", b"HTTP/1.1  200 OK", b"200 OK", b"", b"HTTP/1.1 200 " + b"a" * 70_000, b"ICY 200 OK", b"HTTP/1.1 -1 OK",
)  # fmt: skip
_LINES: tuple[bytes, ...] = (
    b"Content-Type: application/octet-stream", b"Content-Type: text/html", b"Content-Type: application/json\r\n folded: yes",
    b"Content-Type: \x00",
    b"Content-Type: a\rb", b"Content-Type: " + b"a" * 9000, b"Retry-After: 5", b"Retry-After: 5\r\n\tmore",
    b"Retry-After: \xe9\xff", b"Retry-After:",
    b"Inference-Header-Content-Length: 5", b"Inference-Header-Content-Length: -1", b"Inference-Header-Content-Length: 99999",
    b"Content-Length: 0",
    b"Inference-Header-Content-Length: x\r\n y", b"Content-Length: 3", b"Content-Length: -3", b"Content-Length: " + b"9" * 5000,
    b"Content-Length: \xb2",
    b"Content-Length : 3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Connection: close",
    b"Connection: keep-alive", b"X-Trace-Id: evil",
    b"Set-Cookie: a=b", b"Location: http://192.0.2.1/", b" folded", b"no colon", b"\x00: \x00", b"X: " + b"a" * 70_000,
    b"Content-Encoding: gzip",
)  # fmt: skip


def draw(seed: int, number: int) -> bytes:
    """What the worker says."""
    random = Random(f"{seed}:answer:{number}")
    body = json.dumps({"outputs": [], "n": number}).encode()
    start = b"HTTP/1.1 200 OK" if random.random() < 0.7 else random.choice(_STARTS)
    lines = [b"Content-Type: application/json", b"Content-Length: %d" % (len(body) + random.choice((0, 0, 0, 0, 0, 0, 1, -1)))]
    if random.random() < 0.1:
        lines.pop()
    for _ in range(random.choice((0, 0, 1, 1, 2, 200 if random.random() < 0.1 else 3))):
        lines.insert(random.randrange(len(lines) + 1), random.choice(_LINES))
    if random.random() < 0.1:
        body = random.choice(
            (
                b"",
                b"<html>",
                b"\xff\xfe",
                b'{"n":1e999}',
                b"[" * 5000,
                b"null",
                b"5\r\nhello\r\n0\r\n\r\n",
                b"fffffffff\r\n",
                body[:-3],
            )
        )
    data = b"\r\n".join([start, *lines, b"", b""]) + body
    if random.random() < 0.1:  # a second answer, for whoever asks next
        data += b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"n":-1}'
    return extremes.mangled(random, data) if random.random() < 0.2 else data


class Endpoint:
    """A server that reads a request and sends `answer`, and keeps its connection where that may be."""

    def __init__(self) -> None:
        self.answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(harness.PATIENCE_S)
                while self._one(connection):
                    pass

    def _one(self, connection: socket.socket) -> bool:
        got = b""
        while b"\r\n\r\n" not in got:
            part = connection.recv(1 << 16)
            if not part:
                return False
            got += part
        head, _, body = got.partition(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < size:
            body += connection.recv(1 << 16)
        connection.sendall(self.answer)
        # Whoever counts on more than is sent would wait for it: the end says that there is none.
        whole = b"Content-Length: %d\r\n" % len(self.answer.partition(b"\r\n\r\n")[2]) in self.answer
        return whole and b"chunked" not in self.answer


class Entrance:
    """A front door before it."""

    def __init__(self, told: harness.Told, output: harness.Output) -> None:
        self.seed = told.seed
        self.output = output
        root = packages.make(told.work / "wrong", packages.NUMBERS)
        os.environ["MLPACK_MODEL_DIR"] = str(root / "model")
        self.endpoint = Endpoint()
        url = os.environ["MLPACK_WORKER_URL"] = f"http://127.0.0.1:{self.endpoint.port}"
        sys.modules.pop("mlpack_runtime.frontdoor", None)
        self.module = import_module("mlpack_runtime.frontdoor")
        settings = Settings({"MLPACK_WORKER_URL": url, "MLPACK_BREAKER_FAILURES": "1000"})
        self.door = Door(describe(), settings, (None, None, Worker(url)))
        output.lines()

    def send(self, number: int) -> tuple[int, str]:
        """A correct request, and whatever the worker says to it."""
        self.endpoint.answer = draw(self.seed, number)
        self.door.worker_breaker.succeeded()  # each answer is the first one
        body = json.dumps(packages.NUMBERS.correct[0])
        headers = {"x-deadline-ms": "500"}
        event: dict[str, Any] = {"requestContext": {"http": {"method": "POST"}}, "rawPath": "/", "headers": headers, "body": body}
        _, made = self.module.respond(self.door, event, Context(number))
        oracle.headers(made["headers"])
        status = made["statusCode"]
        oracle.check(type(status) is int and 200 <= status <= 599, "a status", status)
        for text in self.output.lines():
            oracle.line(text, "frontdoor")
        if made["isBase64Encoded"]:
            return len(body), f"{status} binary"
        value = oracle.strict(made["body"].encode())
        if isinstance(value, dict) and isinstance(value.get("n"), int):
            oracle.check(value["n"] == number or b"chunked" in self.endpoint.answer, "another request's answer", (number, value))
        kind = value["error_type"] if isinstance(value, dict) and isinstance(value.get("error"), str) else ""
        return len(body), f"{status} {kind}".strip()

    def describe(self, number: int) -> str:
        return f"the worker's answer: {harness.shown(draw(self.seed, number))}"


def run(told: harness.Told) -> None:
    """As many as it is told."""
    with harness.Output() as output:
        entrance = Entrance(told, output)
        try:
            harness.Run("wrong_worker", told, output).each(entrance.send, entrance.describe)
        finally:
            entrance.door.worker.close() if entrance.door.worker else None
            entrance.endpoint.close()
