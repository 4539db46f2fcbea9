"""Servers that never stop talking: of what they send a little is read, whatever they say of its length."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlpack.errors import ServiceError
from mlpack.oci import media, reference
from mlpack.oci.distribution import transport
from mlpack.oci.distribution.transport import HttpError, RegistrySession, TransportOptions

LOTS = 64 << 20
"""What a talkative server would send: much more than sockets buffer."""


class Talker:
    """Answers each connection with `answer(request)` (head and what follows it) and counts the bytes that were taken."""

    def __init__(self, answer: Callable[[str], Iterator[bytes]]) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.taken = 0
        self.requests: list[str] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while head := self._head(connection):
                self.requests.append(head.split("\r\n")[0])
                for piece in self._answer(head):
                    connection.sendall(piece)
                    self.taken += len(piece)

    @staticmethod
    def _head(connection: socket.socket) -> str:
        data = b""
        while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
            data += more
        return data.decode("latin-1")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def talking() -> Iterator[Callable[[Callable[[str], Iterator[bytes]]], Talker]]:
    started: list[Talker] = []

    def start(answer: Callable[[str], Iterator[bytes]]) -> Talker:
        started.append(Talker(answer))
        return started[-1]

    yield start
    for each in started:
        each.close()


def head(status: int, **headers: str) -> bytes:
    lines = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    return f"HTTP/1.1 {status} Words\r\n{lines}\r\n".encode()


def plain(status: int, body: bytes, **headers: str) -> bytes:
    return head(status, Content_Length=str(len(body)), **headers) + body


def endless(**headers: str) -> Callable[[int], Iterator[bytes]]:
    """A body that goes on for `LOTS` bytes, in whatever form the headers say."""

    def sent(status: int) -> Iterator[bytes]:
        yield head(status, **headers)
        chunked = headers.get("Transfer_Encoding") == "chunked"
        block = bytes(1 << 20)
        for _ in range(LOTS >> 20):
            yield b"100000\r\n" + block + b"\r\n" if chunked else block

    return sent


BODIES = {
    "with its length": endless(Content_Length=str(LOTS)),
    "longer than it can be": endless(Content_Length="9" * 18),
    "in chunks": endless(Transfer_Encoding="chunked"),
    "until the end": endless(Connection="close"),
    "said to be gzip": endless(Content_Encoding="gzip", Content_Length=str(LOTS)),
}


def session(host: str, **options: Any) -> RegistrySession:
    named = reference.parse(f"{host}/team/model:v1")
    return RegistrySession(named, "pull", None, TransportOptions(attempts=1, sleep=lambda _: None, **options))


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", [401, 307, 500, 404])
def test_an_endless_answer_is_not_read_to_its_end(status: int, body: str, talking: Callable[..., Talker]) -> None:
    """A 401 without a way in, a redirect to nowhere, and refusals."""
    server = talking(lambda _: BODIES[body](status))
    with session(server.host) as opened, pytest.raises(HttpError) as caught:
        opened.request("GET", opened.url("manifests/v1"))
    assert server.taken < 16 << 20, f"{server.taken:,} bytes taken"
    assert len(str(caught.value)) < 2000
    if status == 500:
        assert caught.value.retryable
        assert caught.value.status == 500


def test_a_bomb_in_gzip_is_not_unpacked(talking: Callable[..., Talker]) -> None:
    import tracemalloc

    bomb = gzip.compress(bytes(LOTS))
    server = talking(lambda _: iter([plain(500, bomb, Content_Encoding="gzip")]))
    tracemalloc.start()
    try:
        with session(server.host) as opened, pytest.raises(HttpError):
            opened.request("GET", opened.url("manifests/v1"))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "answer",
    [b"[" * 100_000, b'{"token":' * 100_000, b"{}", b"[]", b'{"token": 5}', json.dumps({"token": "x" * 100_000}).encode(), b"\xff",
     json.dumps({"token": "a\r\nb"}).encode(), json.dumps({"token": "ä"}).encode()],
)  # fmt: skip
def test_a_token_that_is_none_is_said(answer: bytes, talking: Callable[..., Talker]) -> None:
    def answered(asked: str) -> Iterator[bytes]:
        if asked.startswith("GET /token"):
            yield plain(200, answer)
        else:
            yield plain(401, b"", WWW_Authenticate=f'Bearer realm="http://{server.host}/token"')

    server = talking(answered)
    with session(server.host) as opened, pytest.raises(HttpError, match="signed in without giving a token"):
        opened.request("GET", opened.url("manifests/v1"))


def test_an_endless_token_is_refused(talking: Callable[..., Talker]) -> None:
    def answered(asked: str) -> Iterator[bytes]:
        if asked.startswith("GET /token"):
            yield from BODIES["in chunks"](200)
        else:
            yield plain(401, b"", WWW_Authenticate=f'Bearer realm="http://{server.host}/token"')

    server = talking(answered)
    with session(server.host) as opened, pytest.raises(HttpError, match=f"longer than {media.MAX_JSON_BYTES} bytes"):
        opened.request("GET", opened.url("manifests/v1"))
    assert server.taken < 24 << 20


def test_redirects_in_a_ring_end(talking: Callable[..., Talker]) -> None:
    server = talking(lambda _: iter([plain(302, b"x" * 100, Location="/v2/again")]))
    with session(server.host) as opened, pytest.raises(HttpError, match="redirected more than 5 times"):
        opened.request("GET", opened.url("manifests/v1"))
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "headers", [{"X" * 60_000: "y"}, {f"X-{n}": "y" * 500 for n in range(200)}, {"WWW_Authenticate": " " * 60_000}]
)
def test_a_bomb_of_headers_is_a_service_error(headers: dict[str, str], talking: Callable[..., Talker]) -> None:
    server = talking(lambda _: iter([plain(401, b"", **headers)]))
    with session(server.host) as opened, pytest.raises(ServiceError):
        opened.request("GET", opened.url("manifests/v1"))


def test_a_short_answer_leaves_its_connection_for_the_next(talking: Callable[..., Talker]) -> None:
    server = talking(lambda asked: iter([plain(200, b"" if asked.startswith("HEAD") else b"x" * 1000)]))
    with session(server.host) as opened:
        for method in ("HEAD", "GET", "GET"):
            transport.discard(opened.request(method, opened.url("blobs/x")))
        pool = opened._pool.connection_from_url(f"http://{server.host}")
        assert (pool.num_connections, pool.num_requests) == (1, 3)


@pytest.mark.parametrize(
    ("value", "pause_s"),
    [
        ("²", None), ("-5", None), ("", None), (None, None), ("1.5", None), ("٣", None), ("soon", None), ("NaN", None),
        ("inf", None), ("1e5", None), ("+7", None), ("7", 7.0), (" 7 ", 7.0), ("0", 0.0), ("1" + "0" * 30, 100_000_000.0),
        ("9" * 60_000, 999_999_999.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0), ("Mon, 32 Foo 99999 00:00:00 GMT", None),
        (",", None), (", ,", None), ("(" * 5000, None), ("Mon, 01 Jan 9999 00:00:00 +9999999999", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_a_date_or_nothing(value: str | None, pause_s: float | None) -> None:
    found = transport._retry_after(value)
    assert found == pause_s or (found is not None and pause_s == 0.0 and found == 0.0)


def test_a_long_wait_that_was_asked_for_is_cut() -> None:
    slept: list[float] = []

    def refused() -> None:
        raise HttpError("later", retryable=True, retry_after_s=transport._retry_after("9" * 40))

    with pytest.raises(HttpError):
        transport.retrying(TransportOptions(attempts=3, sleep=slept.append), refused)
    assert slept == [transport.MAX_PAUSE_S] * 2
