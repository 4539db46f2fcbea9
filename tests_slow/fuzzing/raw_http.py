"""Bytes that are nearly HTTP, over real sockets to a real worker: at most one answer to each request, none to what is no request
but a refusal that ends the connection, and no connection that outlives its time."""

from __future__ import annotations

import json
import socket
import threading
from random import Random
from typing import Any

from tests_slow.fuzzing import extremes, harness, http_reading, oracle, packages
from tests_slow.fuzzing.worker import Client, Watched

THREADS = 8
BOUNDS = {"http_head_s": 2, "http_body_s": 2, "http_idle_s": 3}
OPEN_EVERY = 250
"""One connection in so many is left open by its caller: the worker has to end it."""
REFUSALS = {
    400: {"InvalidRequest"}, 404: {"NotFound"}, 408: {"InvalidRequest", "RequestTimeout"}, 411: {"InvalidRequest"},
    414: {"InvalidRequest"},
    415: {"InvalidRequest"}, 417: {"InvalidRequest"}, 431: {"InvalidRequest", "PayloadTooLarge"}, 501: {"InvalidRequest",
    "NotImplemented"},
    505: {"InvalidRequest"}, 503: {"Overloaded", "Unavailable"},
}  # fmt: skip
_INNER = b"GET /v2/models/SMUGGLED HTTP/1.1\r\nHost: x\r\n\r\n"
_LINES: tuple[bytes, ...] = (
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length : 5", b" Content-Length: 5", b"Content-Length:5, 5",
    b"Content-Length: +5",
    b"Content-Length: 0x5", b"Content-Length: 5 5", b"Content-Length: -1", b"Content-Length: " + b"9" * 5000,
    b"Content-Length: 1e1", b"content-length:\t5",
    b"Content-Length: \xb2", b"Content_Length: 5", b"Content-Length\x00: 5", b"Content-Length: 5\x00", b"Content-Length: 005",
    b"Content-Length:",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding:\r\n chunked", b"TE: trailers",
    b"Foo : bar", b": bar", b"Foo", b"Foo\x0b: bar", b"Foo: a\r\n b", b"Foo: a\rb", b"Foo: a\nContent-Length: 5", b"Foo: \x00",
    b"F\xe9: x", b"Foo: \xe9",
    b"Host: y", b"Host: a b", b"Host:", b"Connection: close", b"Connection: keep-alive", b"Connection: Transfer-Encoding",
    b"Expect: 100-continue",
    b"Expect: 200-ok", b"Upgrade: h2c", b"X: " + b"a" * 70_000, b"X: " + b"a" * 8_000, b"(x): y", b'"x": y', b"x y: z",
    b"\tX: y", b"X:y", b"X:  y  ",
)  # fmt: skip
_STARTS: tuple[bytes, ...] = (
    b"GET  / HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET /", b"GET", b"GET / HTTP/1.0", b"GET / HTTP/0.9",
    b"GET / HTTP/2.0",
    b"GET / HTTP/1.10", b"GET / http/1.1", b"GET / HTTP/1,1", b"GET /a b HTTP/1.1", b"GET\t/\tHTTP/1.1", b"G\x00T / HTTP/1.1",
    b"get / HTTP/1.1",
    b"TRACE / HTTP/1.1", b"CONNECT x:80 HTTP/1.1", b"BREW / HTTP/1.1", b"PRI * HTTP/2.0", b"GET http://x/v2 HTTP/1.1",
    b"GET * HTTP/1.1",
    b"OPTIONS * HTTP/1.1", b"GET //x/../v2 HTTP/1.1", b"GET /\x80 HTTP/1.1", b"GET /#a HTTP/1.1", b"GET /?%00 HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01",
    b"POST / HTTP/1.1\r", b"GET / HTTP/1.1\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1", b"", b"\x00",
)  # fmt: skip


def draw(seed: int, number: int) -> tuple[bytes, list[int], bool]:
    """(what a caller sends, where its pieces begin, whether it then leaves the connection open)."""
    random = Random(f"{seed}:http:{number}")
    data = b"".join(_request(random, f"M{number}x{at}") for at in range(random.choice((1, 1, 2, 3))))
    how = random.random()
    if how < 0.2:
        data = extremes.mangled(random, data)
    elif how < 0.27:
        data = data.replace(b"\r\n", random.choice((b"\n", b"\r", b"\r\r\n", b"\n\r")), random.choice((1, 2, -1)))
    elif how < 0.32:
        data = data[: random.randrange(len(data) + 1)]
    elif how < 0.35:
        data = random.choice((b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\x00")) + data
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 0, 0, 1, 3))))
    return data, cuts, number % OPEN_EVERY == OPEN_EVERY - 1


def _request(random: Random, mark: str) -> bytes:
    method = random.choice((b"GET", b"POST", b"POST", b"HEAD", b"PUT"))
    start = method + b" /v2/models/" + mark.encode() + b" HTTP/1.1" if random.random() < 0.9 else random.choice(_STARTS)
    lines = [b"Host: x"] if random.random() < 0.97 else []
    body = random.choice((b"", b"", b"hello", _INNER, _INNER, json.dumps({"inputs": {"x": [[1, 2, 3, 4]]}}).encode()))
    if random.random() < 0.3:
        lines.append(b"Transfer-Encoding: chunked")
        body = _chunked(random, body)
    elif body or random.random() < 0.3:
        lines.append(b"Content-Length: %d" % (len(body) + random.choice((0,) * 12 + (-1, 1, 5))))
    for _ in range(random.choice((0, 0, 0, 0, 0, 1, 1, 2, 150 if random.random() < 0.1 else 2))):
        lines.insert(random.randrange(len(lines) + 1), random.choice(_LINES))
    return b"\r\n".join([start, *lines, b"", b""]) + body


def _chunked(random: Random, body: bytes) -> bytes:
    made = b""
    while body:
        size = random.choice((1, 3, len(body)))
        part, body = body[:size], body[size:]
        line = b"%x" % len(part)
        if random.random() < 0.1:
            line = random.choice(
                (
                    b"0x" + line,
                    line + b" ",
                    line + b";a=b",
                    line + b";" + b"a" * 20_000,
                    b"+" + line,
                    line + b"g",
                    b"f" * 17,
                    b"",
                    b"-1",
                    b"0" * 30 + line,
                )
            )
        made += line + b"\r\n" + part + (b"\r\n" if random.random() < 0.97 else random.choice((b"", b"\n", b"xx\r\n")))
    trailer = random.choice((b"", b"", b"", b"A: b\r\n", b"A : b\r\n", b"Content-Length: 3\r\n", b"x" * 20_000 + b"\r\n"))
    return made + b"0\r\n" + trailer + b"\r\n"


def exchange(port: int, data: bytes, cuts: list[int], *, left_open: bool) -> tuple[bytes, bool]:
    """(what the worker sent until it ended the connection, whether it did). A reset after its answer is an end too."""
    with socket.create_connection(("127.0.0.1", port), timeout=harness.PATIENCE_S) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got = b""
        try:
            for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                caller.sendall(data[begin:end])
            if not left_open:
                caller.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all of it was sent
        try:
            while part := caller.recv(1 << 16):
                got += part
        except TimeoutError:
            return got, False
        except OSError:
            pass
        return got, True


class Entrance:
    """One worker, and callers that do not know HTTP well."""

    def __init__(self, told: harness.Told) -> None:
        self.told = told
        self.worker = Watched(packages.make(told.work / "raw", packages.NUMBERS), max_wait_ms=0, **BOUNDS).ready()
        self.sizes: list[int] = []
        self._client = Client(self.worker.port)
        self._lock = threading.Lock()
        self._asked = 0

    def send(self, _: int, number: int) -> tuple[int, str]:
        """One connection, held against every promise."""
        data, cuts, left_open = draw(self.told.seed, number)
        got, ended = exchange(self.worker.port, data, cuts, left_open=left_open)
        oracle.check(ended, f"the connection was open after {harness.PATIENCE_S} s; so far it said", got[:300])
        expected = http_reading.asked(data)
        answers = http_reading.answered(got, expected)
        self._counted(expected, answers)
        for at, one in enumerate(answers):
            target = expected.requests[at][1] if at < len(expected.requests) else ""
            self._form(one, target)
        oracle.check(not self.worker.broken, self.worker.broken)
        with self._lock:
            self._asked += 1
            if self._asked % max(1, self.told.count // 20) == 0:
                self.sizes.append(harness.rss_bytes(self.worker.process.pid))
                self.alive()
        last = answers[-1].status if answers else "nothing"
        return len(data), f"{expected.rest or 'whole'}, last {last}"

    def _counted(self, expected: http_reading.Asked, answers: list[http_reading.Answered]) -> None:
        most, last = len(expected.requests), answers[-1] if answers else None
        ends = last is not None and last.headers.get("connection", "").lower() == "close"
        told = [(one.status, one.body[:200]) for one in answers]
        oracle.check(len(answers) <= most + bool(expected.rest), f"{len(answers)} answers to {most} requests", told)
        oracle.check(len(answers) <= most or ends, "what is no request got an answer that does not close", told)
        oracle.check(len(answers) >= most or ends, f"{len(answers)} answers to {most} requests", told)
        for one in answers[:-1]:
            oracle.check(one.headers.get("connection", "").lower() != "close", "an answer after one that closes", told)

    def _form(self, one: http_reading.Answered, target: str) -> None:
        own = {name: value for name, value in one.headers.items() if name not in ("server", "date", "content-length", "connection")}
        if "/v2/health" not in target:
            value = oracle.answer(one.status, own, one.body, REFUSALS, "HEAD" if not one.body else "POST")
            quoted = value["error"] if isinstance(value, dict) and "error" in value else ""
            if one.status == 404:
                oracle.check("SMUGGLED" not in quoted or "SMUGGLED" in target, "a body was answered as a request", value)
            if one.status == 404 and target.startswith("/v2/models/M") and value is not None:
                name = target.removeprefix("/v2/models/").partition("/")[0].partition("?")[0]
                oracle.check(not name.isalnum() or name[:40] in quoted, f"an answer to another request than {target[:200]}", quoted)

    def alive(self) -> None:
        """Other callers are answered, and rightly."""
        body = json.dumps({"inputs": {"x": [[1, 0, 0, 2]]}}).encode()
        data = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        status, _, answer = self._client.ask(data, "POST")
        oracle.check(
            status == 200 and json.loads(answer)["outputs"][0]["data"] == [18, 21, 24], "a correct request", (status, answer)
        )

    def describe(self, number: int) -> str:
        data, cuts, left_open = draw(self.told.seed, number)
        return f"pieces at {cuts}{', left open' if left_open else ''}: {harness.shown(data)}"

    def bounded(self) -> str:
        """Memory and threads, in words; Broken where they grew."""
        pid = self.worker.process.pid
        self._client.close()
        peak, threads = harness.status_bytes(pid, "VmHWM"), harness.status_bytes(pid, "Threads")
        if len(self.sizes) > 3:
            oracle.check(self.sizes[-1] - self.sizes[2] <= harness.GROWTH_BYTES, "the worker grew", self.sizes)
        oracle.check(threads <= 2 * THREADS + 8, f"the worker has {threads} threads")
        return f"{[size >> 20 for size in self.sizes[1::6]]} MB, peak {peak >> 20} MB, {threads} threads"

    def end(self) -> None:
        """Ended as asked, with nothing on stderr."""
        self._client.close()
        code: Any = self.worker.end()
        oracle.check(code == 0 and not self.worker.stderr, "how the worker ended", (code, self.worker.stderr[:500]))


def run(told: harness.Told) -> None:
    """As many as it is told."""
    run_, entrance = harness.Run("raw_http", told), Entrance(told)
    try:
        run_.spread(THREADS, entrance.send, entrance.describe)
        run_.tell(run_.took_s, entrance.bounded())
    finally:
        entrance.end()
