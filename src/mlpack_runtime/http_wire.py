"""A connection's bytes as heads and bodies, within times and sizes: what a worker's server and a front door's client share.

Promises: nothing is allocated because somebody said that it would come; every wait ends when its time is over (TimeoutError); a
body that ends early, or is framed wrongly, is a `MalformedError`, never a shorter body.
Will not: know what a request or an answer means, or write a head.
"""

from time import monotonic

from mlpack_runtime.http_head import MalformedError, begins_well, chunk_size, fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket
    from typing import Protocol

    class Share(Protocol):
        """How much a body may have. Both raise where it is too much."""

        def allow(self, size: int) -> None:
            """It is said to become at least that long."""

        def take(self, size: int) -> None:
            """It is that long."""


PIECE_BYTES = 1 << 18
_ROOM_BYTES = 1 << 16
_LINE_BYTES = 1024  # of a chunk's size with its extensions
_TRAILER_BYTES = 8192
_SLACK_BYTES = 1 << 16  # what the lines around chunks may have beside as many bytes as the chunks themselves


class Pace:
    """When a transfer has to be done: `seconds` after now, and one more for each `rate` bytes that have passed."""

    __slots__ = ("_began_s", "_rate", "_seconds")

    def __init__(self, seconds: float, rate: float = float("inf")) -> None:
        self._began_s = monotonic()
        self._seconds = seconds
        self._rate = rate

    def left(self, passed: int = 0) -> float:
        """Seconds that are left. Raises TimeoutError when none are."""
        left = self._began_s + self._seconds + passed / self._rate - monotonic()
        if left <= 0:
            raise TimeoutError("the deadline is over")
        return left


class Wire:
    """A connected socket, and what was received of it beyond what was asked for."""

    __slots__ = ("_received", "socket")

    def __init__(self, connected: "socket") -> None:
        self.socket = connected
        self._received = bytearray()

    @property
    def pending(self) -> bool:
        """Whether something was received that nobody has asked for."""
        return bool(self._received)

    @property
    def silent(self) -> bool:
        """Whether the other side has sent nothing, not even its end, since what was asked for."""
        if self._received:
            return False
        self.socket.settimeout(0)
        try:
            self._received += self.socket.recv(1)
        except BlockingIOError:
            return True
        except OSError as error:  # TLS says so in its own words
            return type(error).__name__ == "SSLWantReadError"
        return False

    def begun(self, idle_s: float) -> bool:
        """Wait for the first byte of a head; whether it came. Raises TimeoutError."""
        return bool(self._received) or self._more(Pace(idle_s), 0)

    def head(self, pace: Pace, limit: int, *, asks: bool = True) -> "bytes | None":
        """A head without the empty line behind it; None where the other side has closed before the first byte. One empty line
        before it is passed over. `asks`: it is a request's. Raises MalformedError, TimeoutError."""
        received, seen, lead = self._received, 0, 0
        while True:
            if asks and not lead and received.startswith(b"\r\n"):
                lead = 2  # RFC 9112, 2.2: some clients send one too many after a body
            if asks and len(received) > lead and not begins_well(received[lead]) and received != b"\r":
                raise MalformedError("this is no HTTP request; a worker speaks plain HTTP/1.1, no TLS")
            end = received.find(b"\r\n\r\n", max(lead, seen - 3))
            _plain_lines(received, max(lead, seen - 1), len(received) if end < 0 else end)
            if end >= 0 and end <= limit + lead:
                head = bytes(received[lead:end])
                del received[: end + 4]
                return head
            if len(received) > limit + lead:
                long = "header lines" if b"\r\n" in received[lead : limit + lead] else "request line"
                raise MalformedError(f"the {long} may have {limit} bytes", 431 if long == "header lines" else 414)
            seen = len(received)
            if not self._more(pace, seen):
                if received:
                    raise MalformedError("the connection was closed in the middle of a head")
                return None

    def body(self, body: bytearray, length: "int | None", pace: Pace, share: "Share") -> None:
        """Append a body: of that many bytes, in chunks (None), or all that comes until the other side closes (-1). Raises
        MalformedError, TimeoutError, and what `share` raises."""
        if length == -1:
            self._until_closed(body, pace, share)
            return
        if length is not None:
            self._exactly(body, length, pace, share)
            return
        around = 0
        while True:
            line = self._line(pace, len(body), _LINE_BYTES)
            around += len(line) + 4
            if around > _SLACK_BYTES + len(body):
                raise MalformedError("the chunks are smaller than what is said about them: send larger ones")
            size = chunk_size(line)
            if size == 0:
                self._trailers(pace, len(body))
                return
            self._exactly(body, size, pace, share)
            if self._line(pace, len(body), 0):
                raise MalformedError("a chunk is longer than its size says")

    def send(self, data: "bytes | bytearray | memoryview", pace: Pace) -> None:
        """All of it. Raises TimeoutError when the other side takes too long to take it."""
        left = memoryview(data)
        while left:
            self.socket.settimeout(pace.left(len(data) - len(left)))
            left = left[self.socket.send(left[:PIECE_BYTES]) :]

    def linger(self, seconds: float) -> None:
        """Say that nothing more will be sent, and read on for a while: a connection that is closed on bytes that nobody read takes
        the answer before with it."""
        pace = Pace(seconds)
        try:
            self.socket.shutdown(1)  # SHUT_WR
            while self._receive(pace.left()):
                pass
        except OSError:
            return

    def _exactly(self, body: bytearray, size: int, pace: Pace, share: "Share") -> None:
        ends = len(body) + size
        share.allow(ends)
        body += self._received[:size]
        del self._received[:size]
        at = len(body)
        share.take(at)
        try:
            while at < ends:  # never more room than as much again as is here
                body += bytes(min(ends, at + max(at, _ROOM_BYTES)) - at)
                with memoryview(body) as view:
                    while at < len(body):
                        self.socket.settimeout(pace.left(at))
                        got = self.socket.recv_into(view[at : at + PIECE_BYTES])
                        if not got:
                            raise MalformedError(f"the body ends {ends - at} bytes early")
                        at += got
                        share.take(at)
        finally:
            del body[at:]

    def _until_closed(self, body: bytearray, pace: Pace, share: "Share") -> None:
        part: bytes | bytearray = self._received[:]
        del self._received[:]
        while True:
            body += part
            share.take(len(body))
            part = self._receive(pace.left(len(body)))
            if not part:
                return

    def _line(self, pace: Pace, passed: int, limit: int) -> bytes:
        received, seen = self._received, 0
        while (end := received.find(b"\r\n", max(0, seen - 1))) < 0:
            _plain_lines(received, max(0, seen - 1), len(received))
            if len(received) > limit + 1:
                raise MalformedError(f"a line of the body's framing may have {limit} bytes")
            seen = len(received)
            if not self._more(pace, passed):
                raise MalformedError("the connection was closed in the middle of a body")
        if end > limit:
            raise MalformedError(f"a line of the body's framing may have {limit} bytes")
        line = bytes(received[:end])
        del received[: end + 2]
        return line

    def _trailers(self, pace: Pace, passed: int) -> None:
        """Read over what may follow the last chunk: RFC 9110, 6.5.1, has nobody rely on it."""
        lines, size = [], 0
        while line := self._line(pace, passed, _TRAILER_BYTES):
            lines.append(line)
            size += len(line) + 2
            if size > _TRAILER_BYTES:
                raise MalformedError(f"the lines behind the body may have {_TRAILER_BYTES} bytes", 431)
        fields(lines, len(lines))

    def _more(self, pace: Pace, passed: int) -> bool:
        part = self._receive(pace.left(passed))
        self._received += part
        return bool(part)

    def _receive(self, seconds: float) -> bytes:
        self.socket.settimeout(seconds)
        return self.socket.recv(_ROOM_BYTES)


def _plain_lines(received: bytearray, start: int, end: int) -> None:
    """Raise MalformedError for a line that ends without a carriage return: two could see two different heads there."""
    if received.count(b"\n", start, end) != received.count(b"\r\n", max(0, start - 1), end):
        raise MalformedError("a line ends with LF alone; CR LF is needed")
