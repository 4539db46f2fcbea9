"""A connection's bytes as heads and bodies, within times and sizes: what a worker's server and a front door's client share.

Promises: nothing is allocated because somebody said that it would come; every wait ends when its time is over (TimeoutError); a
body that ends early, or is framed wrongly, is a `MalformedError`, never a shorter body.
Will not: know what a request or an answer means, or write a head.
"""

from socket import MSG_DONTWAIT, SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET
from struct import pack
from time import monotonic

from mlpack_runtime.serving.http_head import MalformedError, begins_well, chunk_size, fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap
    from socket import socket
    from typing import Protocol, TypeVar

    T = TypeVar("T")

    class Share(Protocol):
        """How much a body may have. Both raise where it is too much."""

        def allow(self, size: int) -> None:
            """It is said to become at least that long."""

        def take(self, body: "Body") -> None:
            """So much of it is here."""


PIECE_BYTES = 1 << 16
_STEP_BYTES = 1 << 20
_LARGE_BYTES = 1 << 22
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


class Body:
    """Bytes as they come. What was announced gets no room for itself: as much again as is here, and up to `_STEP_BYTES` where a
    part of that is. What is large has pages of its own, which are the system's until bytes lie in them, and again as soon as
    the body is gone: malloc does not promise that to threads."""

    __slots__ = ("_room", "size")

    def __init__(self) -> None:
        self.size = 0
        self._room: bytearray | mmap = bytearray()

    @property
    def held(self) -> int:
        """Bytes of memory."""
        return len(self._room) if isinstance(self._room, bytearray) else self.size

    def append(self, part: "bytes | bytearray", ends: int) -> None:
        """These too, of a body that ends there. Raises MemoryError."""
        until = self.size + len(part)
        if until > len(self._room):
            self._grow(until, ends)
        self._room[self.size : until] = part
        self.size = until

    def receive(self, source: "socket", ends: int) -> int:
        """Some more, of a body that ends there; how many. Raises MemoryError."""
        if self.size == len(self._room):
            self._grow(self.size, ends)
        with memoryview(self._room) as room:
            got = source.recv_into(room[self.size : min(ends, self.size + 4 * PIECE_BYTES)])
        self.size += got
        return got

    def content(self) -> "bytearray | memoryview":
        """All of it, not copied."""
        if isinstance(self._room, bytearray):
            del self._room[self.size :]
            return self._room
        return memoryview(self._room)[: self.size]

    def _grow(self, here: int, ends: int) -> None:
        size = min(ends, here + max(PIECE_BYTES, here, min(31 * here, _STEP_BYTES)))
        if isinstance(self._room, bytearray) and size <= _LARGE_BYTES:
            made = bytearray(size)
            made[: self.size] = self._room
            self._room = made
            return
        try:
            if isinstance(self._room, bytearray):
                from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

                pages = mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS)  # a shared one cannot grow
                pages[: self.size] = bytes(self._room)
                self._room = pages
            else:
                self._room.resize(size)
        except OSError as error:
            raise MemoryError from error


class Wire:
    """A connected socket, and what was received of it beyond what was asked for.

    The system keeps the times of a plain socket. Python would keep them with two calls more for each of ours (its mode is set, and
    it is polled), and in each of them the interpreter goes to another thread.
    """

    __slots__ = ("_is_plain", "_received", "socket")

    def __init__(self, connected: "socket") -> None:
        self.socket = connected
        self._received = bytearray()
        self._is_plain = not hasattr(connected, "do_handshake")  # TLS reads when it writes, and keeps its own time
        if self._is_plain:
            connected.settimeout(None)

    @property
    def pending(self) -> bool:
        """Whether something was received that nobody has asked for."""
        return bool(self._received)

    @property
    def silent(self) -> bool:
        """Whether the other side has sent nothing, not even its end, since what was asked for."""
        if self._received:
            return False
        if not self._is_plain:
            self.socket.settimeout(0)
        try:
            self._received += self.socket.recv(1, MSG_DONTWAIT if self._is_plain else 0)
        except BlockingIOError:
            return True
        except OSError as error:  # TLS says so in its own words
            return type(error).__name__ == "SSLWantReadError"
        return False

    def begun(self, idle_s: float) -> bool:
        """Wait for the first byte of a request's head; whether it came. One empty line before it is passed over: some clients send
        one too many after a body (RFC 9112, 2.2). Raises TimeoutError."""
        pace, received, is_first = Pace(idle_s), self._received, True
        while True:
            if is_first and received.startswith(b"\r\n"):
                del received[:2]
                is_first = False
            if received and not (is_first and received == b"\r"):
                return True
            if not self._more(pace, 0):
                return False

    def head(self, pace: Pace, limit: int, *, asks: bool = True) -> "bytes | None":
        """A head without the empty line behind it; None where the other side has closed before the first byte. `asks`: it is a
        request's. Raises MalformedError, TimeoutError."""
        received, seen = self._received, 0
        while True:
            if asks and received and not begins_well(received[0]):
                raise MalformedError("this is no HTTP request; a worker speaks plain HTTP/1.1, no TLS")
            end = received.find(b"\r\n\r\n", max(0, seen - 3))
            _plain_lines(received, max(0, seen - 1), len(received) if end < 0 else end)
            if 0 <= end <= limit:
                head = bytes(received[:end])
                del received[: end + 4]
                return head
            if len(received) > limit:
                long = "header lines" if b"\r\n" in received[:limit] else "request line"
                raise MalformedError(f"the {long} may have {limit} bytes", 431 if long == "header lines" else 414)
            seen = len(received)
            if not self._more(pace, seen):
                if received:
                    raise MalformedError("the connection was closed in the middle of a head")
                return None

    def body(self, body: Body, length: "int | None", pace: Pace, share: "Share") -> None:
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
            line = self._line(pace, body.size, _LINE_BYTES)
            around += len(line) + 4
            if around > _SLACK_BYTES + body.size:
                raise MalformedError("the chunks are smaller than what is said about them: send larger ones")
            size = chunk_size(line)
            if size == 0:
                self._trailers(pace, body.size)
                return
            self._exactly(body, size, pace, share)
            self._chunk_end(pace, body.size)

    def send(self, data: "bytes | bytearray | memoryview", pace: Pace) -> None:
        """All of it. Raises TimeoutError when the other side takes too long to take it."""
        left = memoryview(data)
        while left:
            self._allow(pace.left(len(data) - len(left)), SO_SNDTIMEO)
            left = left[_timely(self.socket.send, left[: 4 * PIECE_BYTES]) :]

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

    def _exactly(self, body: Body, size: int, pace: Pace, share: "Share") -> None:
        ends = body.size + size
        share.allow(ends)
        body.append(self._received[:size], ends)
        del self._received[:size]
        share.take(body)
        while body.size < ends:
            self._allow(pace.left(body.size), SO_RCVTIMEO)
            if not _timely(body.receive, self.socket, ends):
                raise MalformedError(f"the body ends {ends - body.size} bytes early")
            share.take(body)

    def _until_closed(self, body: Body, pace: Pace, share: "Share") -> None:
        body.append(self._received, 1 << 62)
        del self._received[:]
        while True:
            share.take(body)
            self._allow(pace.left(body.size), SO_RCVTIMEO)
            if not _timely(body.receive, self.socket, 1 << 62):
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

    def _chunk_end(self, pace: Pace, passed: int) -> None:
        while len(self._received) < 2 and self._more(pace, passed):
            pass
        if self._received[:2] != b"\r\n":
            raise MalformedError("a chunk does not end where its size says")
        del self._received[:2]

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

    def _receive(self, seconds: float, most: int = PIECE_BYTES) -> bytes:
        self._allow(seconds, SO_RCVTIMEO)
        return _timely(self.socket.recv, most)

    def _allow(self, seconds: float, option: int) -> None:
        """Let the next call for reading (`SO_RCVTIMEO`) or writing (`SO_SNDTIMEO`) wait that long."""
        if not self._is_plain:
            self.socket.settimeout(seconds)
            return
        micros = max(1, int(seconds * 1e6))  # 0 would be for ever
        self.socket.setsockopt(SOL_SOCKET, option, pack("ll", *divmod(micros, 1_000_000)))


def _timely(function: "Callable[..., T]", *arguments: object) -> "T":
    """What a call to a socket gives. Raises TimeoutError."""
    try:
        return function(*arguments)
    except BlockingIOError:  # the system's word for a time that it kept
        raise TimeoutError("timed out") from None


def _plain_lines(received: bytearray, start: int, end: int) -> None:
    """Raise MalformedError for a line that ends without a carriage return: two could see two different heads there."""
    if received.count(b"\n", start, end) != received.count(b"\r\n", max(0, start - 1), end):
        raise MalformedError("a line ends with LF alone; CR LF is needed")
