"""Connections to a worker: taken, read, answered and closed, each by a thread of its own, within numbers, times and bytes.

Promises: a request has one answer, and what is no request has at most one, after which its connection is closed. There are never
more connections than `Bounds.connections` and a reserve of `RESERVE`, which only answers what is vital (health); when all are
taken, the one that has waited longest for a head makes room, or else for a body. Heads, bodies and answers that do not move in
their time end their connection; what many of them hold together is bounded, and counted as it comes, not as it is announced.
Will not: speak TLS, keep order between connections, or know what a request means.
"""

import socket
import threading
from select import POLLIN, poll
from time import monotonic, sleep, time

from mlpack_runtime import telemetry
from mlpack_runtime.encodings import decoded
from mlpack_runtime.protocol import RequestError, error_body
from mlpack_runtime.serving.http_head import MalformedError, Request, answer, request
from mlpack_runtime.serving.http_listener import Bounds, listen
from mlpack_runtime.serving.http_wire import Body, Pace, Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    Answer = tuple[int, dict[str, str], bytes]
    Content = bytes | bytearray | memoryview

    class App(Protocol):
        """What the connections are for."""

        @property
        def closing(self) -> bool:
            """Whether connections are to be closed after their next answer."""

        @property
        def body_bytes(self) -> int:
            """How long a request's body may be."""

        def vital(self, head: Request) -> bool:
            """Whether it is answered on the reserve too: at once, and without a body."""

        def reads(self, head: Request) -> bool:
            """Whether the answer depends on the body. It is not received otherwise."""

        def answer(self, head: Request, body: "Content", spent_s: float) -> "Answer":
            """The answer to a request whose head was here `spent_s` before its body."""

        def refuse(self, error: RequestError, head: "Request | None") -> "Answer":
            """The answer to what is no request, or to one that is not looked at."""


RESERVE = 8
_FREE_BYTES = 1 << 16  # of each body or answer: what any connection has, however much the others hold
_HEAD, _BODY = 0, 1
_BODY_S = 1.0  # how long a body may take before its connection has to make room
_DONE = (_HEAD, 0.0)  # it has its answer, and is about to be closed
_FRESH_S = 0.5  # in which a new connection's first request is on its way
_LOOK_S = 0.02
_LINGER_S = 2.0
_DATE = "%a, %d %b %Y %H:%M:%S GMT"
"""How HTTP writes a time."""


class _Connection:
    """`waits`: for what (`_HEAD` or `_BODY`) and since when, None while it is at work. `dropped`: another needed its place.
    `fresh_s`: when it was taken, until its first request is here; then 0."""

    __slots__ = ("dropped", "fresh_s", "reserved", "waits", "wire")

    def __init__(self, connected: socket.socket) -> None:
        self.wire = Wire(connected)
        self.fresh_s = monotonic()
        self.waits: tuple[int, float] | None = (_HEAD, self.fresh_s)
        self.dropped = False
        self.reserved = False


class Connections:
    """HTTP on `host` (nothing: every address, of both families where there are two) and `port` (0: any that is free)."""

    def __init__(self, host: str, port: int, bounds: Bounds, app: "App") -> None:
        self._bounds = bounds
        self._app = app
        self._listener = listen(host, port)
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self._open: set[_Connection] = set()
        self._reserve: set[_Connection] = set()
        self._active = 0
        self._held = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._accept, name="http", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Take no more connections, and wait that long for requests that are being answered or on their way; whether all were
        answered. Connections that the system has taken for us already are ours: closing the listener would reset them."""
        until_s, self._stopping = monotonic() + seconds, True
        if self._thread.ident:
            self._thread.join()
            self._take_waiting()
        self._listener.close()
        with self._changed:
            while self._busy():
                if monotonic() >= until_s:
                    return False
                self._changed.wait(min(_LOOK_S, max(0.0, until_s - monotonic())))
        return True

    def _busy(self) -> bool:
        """Whether an answer is owed: to a request that is being read or answered, or whose first bytes are here already."""
        recent_s = monotonic() - _FRESH_S
        return self._active > 0 or any(
            one.waits is None or one.waits[0] == _BODY or one.fresh_s > recent_s or _has_more(one.wire)
            for one in (*self._open, *self._reserve)
            if one.waits != _DONE
        )

    def _take_waiting(self) -> None:
        try:
            self._listener.settimeout(0)
            while True:
                self._take(self._listener.accept()[0])
        except OSError:  # there are no more, or it is closed
            pass

    @property
    def count(self) -> int:
        """Connections that are open, the reserve's among them."""
        with self._changed:
            return len(self._open) + len(self._reserve)

    @property
    def held(self) -> int:
        """Bytes of bodies and answers beyond what each has for itself."""
        return self._held

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connected, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # the end, or no more files to be had
                if self._stopping:
                    return
                with self._changed:
                    _drop_oldest(self._open)
                sleep(0.02)
                continue
            self._take(connected)

    def _take(self, connected: socket.socket) -> None:
        made = _Connection(connected)
        with self._changed:
            if len(self._open) < self._bounds.connections or _drop_oldest(self._open):
                self._open.add(made)
            elif len(self._reserve) < RESERVE or _drop_oldest(self._reserve):
                made.reserved = True
                self._reserve.add(made)
            else:
                connected.close()
                return
        try:
            threading.Thread(target=self._serve, args=(made,), name="http connection", daemon=True).start()
        except RuntimeError:  # no more threads to be had
            self._close(made)

    def _serve(self, one: _Connection) -> None:
        try:
            one.wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._exchange(one):
                pass
            with self._changed:
                one.waits = _DONE  # the first to make room
                self._changed.notify_all()
            one.wire.linger(_LINGER_S)
        except OSError:  # it is gone, or did not move in its time
            pass
        finally:
            self._close(one)

    def _close(self, one: _Connection) -> None:
        with self._changed:  # first: nobody shuts down what is closed, whose number may be another's by then
            self._open.discard(one)
            self._reserve.discard(one)
        one.wire.socket.close()

    def _exchange(self, one: _Connection) -> bool:
        """One request and its answer; whether there may be another."""
        head: Request | None = None
        try:
            raw = self._head(one)
            if raw is None:
                return False
            head = self._request(raw)
            share = _Share(self)
            try:
                return self._answered(one, head, share)
            finally:
                share.end()
        except MalformedError as error:
            refused = RequestError(str(error), error.status, "MethodNotAllowed" if error.status == 405 else "InvalidRequest")
            refused.headers = {"allow": "GET, HEAD, POST"} if error.status == 405 else {}
        except RequestError as error:  # a new one: the other's traceback holds the body, in a circle with this frame
            refused = RequestError(str(error), error.status, error.kind)
            refused.headers = error.headers
        self._send(one, self._app.refuse(refused, head), head, kept=False)
        return False

    def _request(self, raw: bytes) -> Request:
        try:
            return request(raw, self._bounds.headers)
        except MalformedError as error:
            more = " (MLPACK_HTTP_HEADERS)" if error.status == 431 else ""
            raise MalformedError(f"{error}{more}", error.status) from None

    def _head(self, one: _Connection) -> "bytes | None":
        bounds = self._bounds
        if not one.wire.begun(bounds.idle_s):
            return None
        try:
            raw = one.wire.head(Pace(bounds.head_s), bounds.head_bytes)
        except TimeoutError:
            raise _late(f"a head has to be here within {bounds.head_s:g} s (MLPACK_HTTP_HEAD_S)") from None
        except MalformedError as error:
            more = " (MLPACK_HTTP_HEAD_BYTES)" if error.status in (414, 431) else ""
            raise MalformedError(f"{error}{more}", error.status) from None
        return raw if self._goes_on(one) else None

    def _goes_on(self, one: _Connection) -> bool:
        """What it waited for is here: from now on nobody may have its place, unless somebody has."""
        with self._changed:
            one.waits, one.fresh_s = None, 0.0
            return not one.dropped

    def _answered(self, one: _Connection, head: Request, share: "_Share") -> bool:
        arrived_s, app = monotonic(), self._app
        if one.reserved and not app.vital(head):
            message = f"all {self._bounds.connections} connections are taken (MLPACK_HTTP_CONNECTIONS): try again"
            raise RequestError(message, 503, "Overloaded")
        body = Body()
        reads = head.length != 0 and app.reads(head) and not app.vital(head)
        if reads:
            self._body(one, head, body, share)
        kept = head.kept and not one.reserved and (reads or head.length == 0)
        with self._changed:
            self._active += 1
        try:
            made = app.answer(head, self._decoded(head, body, share) if reads else body.content(), monotonic() - arrived_s)
            body = Body()  # the other one is gone before its share is given back
            share.end()
            share.count(len(made[2]))
            kept = kept and not app.closing
            self._send(one, made, head, kept=kept)
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()
        if not kept:
            return False
        with self._changed:
            one.waits = (_HEAD, monotonic())
        return True

    def _body(self, one: _Connection, head: Request, body: Body, share: "_Share") -> None:
        bounds = self._bounds
        if head.length is not None:
            share.allow(head.length)
        if head.expects and not one.wire.pending:
            one.wire.send(answer(100, {}), Pace(bounds.body_s))
        with self._changed:
            one.waits = (_BODY, monotonic())
        try:
            one.wire.body(body, head.length, Pace(bounds.body_s, bounds.rate), share)
        except TimeoutError:
            allowed = f"{bounds.body_s:g} s (MLPACK_HTTP_BODY_S) and one for each {bounds.rate:g} bytes (MLPACK_HTTP_RATE)"
            raise _late(f"{body.size} bytes of the body are here after {allowed}") from None
        except MemoryError:
            raise RequestError("there is no memory for the body: try again", 503, "Overloaded") from None
        finally:
            if not self._goes_on(one):
                raise ConnectionAbortedError

    def _decoded(self, head: Request, body: Body, share: "_Share") -> "Content":
        """The body as it was before it was compressed; what it becomes counts while it does."""
        coding = head.headers.pop("content-encoding", "")
        return decoded(coding, body.content(), self._app.body_bytes, lambda size: share.count(body.held + size))

    def _send(self, one: _Connection, made: "Answer", head: "Request | None", *, kept: bool) -> None:
        status, headers, body = made
        more = [
            "Server: mlpack",
            f"Date: {telemetry.written_second(_DATE, int(time()))}",
            *([f"Content-Length: {len(body)}"] if status != 204 else []),
        ]
        if not kept:
            more.append("Connection: close")
        elif head is not None and head.version == (1, 0):
            more.append("Connection: keep-alive")
        data, pace = answer(status, headers, *more), Pace(self._bounds.body_s, self._bounds.rate)
        if head is None or head.method != "HEAD":
            data += body if len(body) <= _FREE_BYTES else b""
        one.wire.send(data, pace)
        if len(body) > _FREE_BYTES and (head is None or head.method != "HEAD"):
            one.wire.send(body, pace)


class _Share:
    """What one request or answer holds of the bytes that all may hold together."""

    __slots__ = ("_had", "_whole")

    def __init__(self, whole: Connections) -> None:
        self._whole = whole
        self._had = 0

    def allow(self, size: int) -> None:
        """Refuse what is said to become too long."""
        most = self._whole._app.body_bytes
        if size > most:
            raise RequestError(f"a body may have {most} bytes (MLPACK_LIMIT_BODY_BYTES)", 413, "PayloadTooLarge")

    def take(self, body: Body) -> None:
        """Count what is there, or refuse it."""
        self.count(body.held)

    def count(self, size: int) -> None:
        """The same, of an answer."""
        if size <= _FREE_BYTES:
            return
        whole = self._whole
        with whole._changed:
            most = whole._bounds.held_bytes or 2 * whole._app.body_bytes
            if whole._held + size - self._had > most:
                if size > most:
                    message = f"a body of {size} bytes; {most} may be held (MLPACK_HTTP_HELD_BYTES)"
                    raise RequestError(message, 413, "PayloadTooLarge")
                message = f"bodies on their way hold {whole._held} of {most} bytes (MLPACK_HTTP_HELD_BYTES): try again"
                raise RequestError(message, 503, "Overloaded")
            whole._held += size - self._had
            self._had = size

    def end(self) -> None:
        """Give it back."""
        if not self._had:  # of almost every request
            return
        with self._whole._changed:
            self._whole._held -= self._had
            self._had = 0


def refusal(error: RequestError, trace_id: str) -> "tuple[int, dict[str, str], bytes]":
    """An answer in the service's form of errors."""
    headers = {"content-type": "application/json", telemetry.TRACE_HEADER: trace_id, **error.headers}
    if error.status == 503:
        headers.setdefault("retry-after", "1")
    return error.status, headers, error_body(error.kind, error, trace_id)


def _late(message: str) -> RequestError:
    return RequestError(message, 408, "RequestTimeout")


def _drop_oldest(connections: "set[_Connection]") -> bool:
    """Close the one that has waited longest for a head, else for a body that is slow; if there is one. Its thread sees the end."""
    recent = (_BODY, monotonic() - _BODY_S)
    waiting = [(one.waits, id(one), one) for one in connections if one.waits is not None and one.waits <= recent]
    if not waiting:
        return False
    one = min(waiting)[2]
    one.dropped = True
    connections.discard(one)
    try:
        one.wire.socket.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other side was quicker
        pass
    return True


def _has_more(wire: Wire) -> bool:
    """Whether bytes of the other side, or its end, are here that nobody has read: its own thread is about to."""
    looked = poll()
    try:
        looked.register(wire.socket, POLLIN)
    except ValueError:  # it was closed just now
        return False
    return wire.pending or any(event & POLLIN for _, event in looked.poll(0))
