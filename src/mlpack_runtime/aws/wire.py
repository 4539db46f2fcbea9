"""HTTP/1.1 to a service of AWS: one request and its answer on a connection that stays open, within a time.

Promises: certificates and host names are checked; an answer is read whole, within its bound of bytes, or ConnectionError (also for
what is no HTTP) or TimeoutError is raised and the connection is closed; without TLS neither `socket` nor `ssl` is imported, whose
imports cost more than a call.
Will not: follow redirects, use proxies, or try anything twice, but what a connection that had been closed as idle did not carry.
"""

import os
import sys
from _socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, gaierror, getaddrinfo
from _socket import socket as PlainSocket
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Sink = Callable[[bytes | memoryview], object]

_HEAD_BYTES = 1 << 16
_HEX = frozenset(b"0123456789abcdefABCDEF")
_CHUNK_BYTES = 1 << 18
_BUNDLES = ("/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem")
_CONTEXT: "list[tuple[str, Any]]" = []


class Asked:
    """A request. `path` is percent-encoded and begins with a slash; `query` has no question mark; `headers` have `host`."""

    __slots__ = ("body", "headers", "method", "path", "query")

    def __init__(
        self, method: str, path: str, headers: "Mapping[str, str]", body: "bytes | memoryview" = b"", query: str = ""
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.query = query


class Answer:
    """What a service answered. `headers` have lower-case names."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: "dict[str, str]", body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Connection:
    """A connection to `host`:`port`, opened by the first request. One request at a time."""

    def __init__(self, host: str, port: int, *, tls: bool, connect_s: float) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._connect_s = connect_s
        self._socket: Any = None
        self._buffer = bytearray()
        self._silent = True  # whether the last request got no byte of an answer

    @property
    def is_open(self) -> bool:
        """Whether an earlier answer left it open."""
        return self._socket is not None

    def open(self, until: float) -> None:
        """Connect now, ahead of the first request. Raises OSError."""
        if self._socket is None:
            self._socket = self._connect(until)

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._buffer = bytearray()  # not cleared: a piece of it may be in somebody's hands

    def request(self, asked: Asked, *, until: float, most: int, sink: "Sink | None" = None) -> Answer:
        """The answer to one request; Content-Length is added to its headers. It is sent on another connection where the one that
        was open turns out to have been closed meanwhile.

        Args:
            asked: What is sent.
            until: When to give up, on `time.monotonic`'s clock.
            most: Bytes that the answer's body may have.
            sink: Where the body of a status 200 or 206 goes, piece after piece as it comes; `Answer.body` is empty then. What it
                raises ends the request.

        Raises:
            OSError: It did not arrive, or what came is no HTTP.
            TimeoutError: The time was over.
        """
        was_open = self.is_open
        try:
            return self._exchange(asked, until, most, sink)
        except OSError as error:
            if not was_open or not self._silent or isinstance(error, TimeoutError):
                raise
            return self._exchange(asked, until, most, sink)

    def _exchange(self, asked: Asked, until: float, most: int, sink: "Sink | None") -> Answer:
        self._silent = True
        where = f"{asked.path}?{asked.query}" if asked.query else asked.path
        lines = [f"{asked.method} {where} HTTP/1.1", *[f"{name}: {value}" for name, value in asked.headers.items()]]
        if asked.body or asked.method in ("PUT", "POST"):
            lines.append(f"content-length: {len(asked.body)}")
        head = "\r\n".join(lines) + "\r\n"
        if head.count("\n") != len(lines) or head.count("\r") != len(lines):
            raise ConnectionError("a header or a path has a line break")
        done = False
        try:
            self.open(until)
            self._send(head.encode("latin-1") + b"\r\n", asked.body, until)
            answer = self._answer(asked.method, until, most, sink)
            done = True
            return answer
        except ValueError as error:
            raise ConnectionError(f"{self._host} did not answer in HTTP: {error}") from None
        finally:
            if not done:
                self.close()

    def _connect(self, until: float) -> "Any":
        error: OSError | None = None
        try:
            # As bytes: a text would be encoded as an international name, which imports 5 ms of modules.
            places = getaddrinfo(self._host.encode(), self._port, 0, SOCK_STREAM)
        except gaierror as failed:
            raise ConnectionError(f"{self._host} has no address: {failed}") from None
        for family, kind, protocol, _, where in places:
            opened = self._new(family, kind, protocol)
            try:
                opened.settimeout(min(self._connect_s, _left(until)))
                opened.connect(where)
                opened.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                return _context().wrap_socket(opened, server_hostname=self._host) if self._tls else opened
            except OSError as failed:
                opened.close()
                error = failed
        raise error or ConnectionError(f"{self._host} has no address")

    def _new(self, family: int, kind: int, protocol: int) -> "Any":
        if not self._tls:
            return PlainSocket(family, kind, protocol)
        from socket import socket  # what `ssl` can wrap; both cost some milliseconds

        return socket(family, kind, protocol)

    def _send(self, head: bytes, body: "bytes | memoryview", until: float) -> None:
        self._socket.settimeout(_left(until))
        if len(body) < _CHUNK_BYTES:
            self._socket.sendall(head + bytes(body))
            return
        self._socket.sendall(head)
        for at in range(0, len(body), _CHUNK_BYTES):
            self._socket.settimeout(_left(until))
            self._socket.sendall(body[at : at + _CHUNK_BYTES])

    def _answer(self, method: str, until: float, most: int, sink: "Sink | None") -> Answer:
        status, headers = self._head(until)
        while 100 <= status < 200:
            status, headers = self._head(until)
        length, ends, coding = headers.get("content-length"), False, headers.get("transfer-encoding", "").lower()
        body, sink = b"", sink if status in (200, 206) else None
        if method == "HEAD" or status in (204, 304):
            pass
        elif coding == "chunked":
            body = self._chunks(until, most, sink)
        elif coding:
            raise ValueError(f"Transfer-Encoding {coding[:20]!r}")
        elif length is not None:
            if not length.isascii() or not length.isdecimal():
                raise ValueError(f"Content-Length {length[:20]!r}")
            size = _bounded(int(length[:20]), most)
            if sink is not None:
                self._pass_on(size, until, sink)
            else:
                body = self._take(size, until)
        else:
            body, ends = self._rest(until, most), True
        if sink is not None and body:
            sink(body)
            body = b""
        if ends or headers.get("connection", "").lower() == "close" or self._buffer:
            self.close()
        return Answer(status, headers, body)

    def _head(self, until: float) -> "tuple[int, dict[str, str]]":
        first, *rest = self._line(b"\r\n\r\n", until).decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if not first.startswith("HTTP/1.") or len(parts) < 2 or len(parts[1]) != 3:
            raise ValueError(f"it begins with {first[:40]!r}")
        pairs = (line.partition(":") for line in rest)
        return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}

    def _more(self, until: float) -> bool:
        self._socket.settimeout(_left(until))
        received = self._socket.recv(_CHUNK_BYTES)
        self._silent = self._silent and not received
        self._buffer += received
        return bool(received)

    def _need(self, until: float) -> None:
        if not self._more(until):
            raise ConnectionError(f"{self._host} closed the connection before the end of its answer")

    def _line(self, mark: bytes, until: float) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > _HEAD_BYTES:
                raise ValueError("an endless header")
            self._need(until)
        line = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return line

    def _take(self, size: int, until: float) -> bytes:
        while len(self._buffer) < size:
            self._need(until)
        with memoryview(self._buffer) as view:
            taken = bytes(view[:size])
        del self._buffer[:size]
        return taken

    def _pass_on(self, size: int, until: float, sink: "Sink") -> None:
        """So many bytes, a piece of at most `_CHUNK_BYTES` at a time."""
        while size:
            piece = min(size, _CHUNK_BYTES)
            while len(self._buffer) < piece:
                self._need(until)
            with memoryview(self._buffer) as view, view[:piece] as part:
                sink(part)
            del self._buffer[:piece]
            size -= piece

    def _chunks(self, until: float, most: int, sink: "Sink | None") -> bytes:
        parts: list[bytes] = []
        total = 0
        while size := _of_hex(self._line(b"\r\n", until).partition(b";")[0].strip()):
            total += size
            _bounded(total, most)
            if sink is not None:
                self._pass_on(size, until, sink)
            else:
                parts.append(self._take(size, until))
            self._take(2, until)
        while self._line(b"\r\n", until):  # trailers
            pass
        return b"".join(parts)

    def _rest(self, until: float, most: int) -> bytes:
        while self._more(until):
            _bounded(len(self._buffer), most)
        return self._take(len(self._buffer), until)


def _bounded(size: int, most: int) -> int:
    if not 0 <= size <= most:
        raise ValueError(f"{size} bytes, and {most} are read at most")
    return size


def _of_hex(digits: bytes) -> int:
    if not digits or len(digits) > 16 or not _HEX.issuperset(digits):  # `int` takes signs and underscores, too
        raise ValueError(f"a chunk of {digits[:20]!r} bytes")
    return int(digits, 16)


def _left(until: float) -> float:
    left = until - monotonic()
    if left <= 0:
        raise TimeoutError("the time for this call is over")
    return left


def _context() -> "Any":
    """The certificates that are believed: AWS_CA_BUNDLE's, else Python's own, else those where Linux distributions have them."""
    bundle = os.environ.get("AWS_CA_BUNDLE", "")
    if not _CONTEXT or _CONTEXT[0][0] != bundle:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies host names, TLS 1.2 or later
        if bundle:
            context.load_verify_locations(bundle)
        else:
            context.set_default_verify_paths()
            default = ssl.get_default_verify_paths()
            if default.cafile is None and default.capath is None:
                for place in filter(os.path.isfile, _BUNDLES):
                    context.load_verify_locations(place)
                    break
                else:
                    sys.stderr.write("no certificates are here: set AWS_CA_BUNDLE, or install ca-certificates\n")
        _CONTEXT[:] = [(bundle, context)]
    return _CONTEXT[0][1]
