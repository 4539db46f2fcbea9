"""A worker over HTTP: health, and the Open Inference Protocol through the same batches as the queue's messages.

Promises: `GET /v2/health/live` is 200 while the process can answer at all; `GET /v2/health/ready` is 503, and says why, before the
model is loaded, while the breaker is open and once the end has been asked for; every other request is the service's, unless its
`x-deadline-ms` (the milliseconds that its caller still had when it sent the headers) were over before all of it was here: 504.
Will not: speak TLS or know callers (a load balancer or a network does), take a body of unknown or unreasonable length, or take
back what already waits for the engine.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic

from mlpack_runtime import jsontext
from mlpack_runtime.protocol import RequestError, deadline_ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.service import Service

BODY_LIMIT_BYTES = 256 << 20
IDLE_S = 65  # longer than a load balancer's 60 s: it, not we, closes a connection that nobody uses


class Server:
    """HTTP on `port` (0: any that is free), every address. `ready` says why not, or nothing; `service` is set once it is loaded."""

    def __init__(self, port: int, ready: "Callable[[], str]", host: str = "") -> None:
        self.service: Service | None = None
        self.ready = ready
        self._active = 0
        self._changed = threading.Condition()
        self._http = _Http((host, port), self)
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, name="http", kwargs={"poll_interval": 0.1}, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Take no more, and wait that long for requests that are being answered; whether all were."""
        self._http.shutdown()
        self._http.server_close()
        with self._changed:
            return self._changed.wait_for(lambda: self._active == 0, seconds)

    def answer(
        self, method: str, path: str, headers: "dict[str, str]", body: bytes, spent_s: float = 0.0
    ) -> "tuple[int, dict[str, str], bytes]":
        """(status, headers, body) for a request whose headers were here `spent_s` before the rest of it."""
        parts = [part for part in path.partition("?")[0].split("/") if part]
        if parts == ["v2", "health", "live"] and method in ("GET", "HEAD"):
            return _json(200, {"live": True})
        reason = self.ready()
        if parts == ["v2", "health", "ready"] and method in ("GET", "HEAD"):
            return _json(503, {"ready": False, "reason": reason}) if reason else _json(200, {"ready": True})
        if self.service is None:
            return _json(503, {"error": {"type": "NotReady", "message": reason or "not ready"}})
        request_id = headers.get("x-request-id", "")
        refused = _refused(headers, spent_s) if method == "POST" else None
        if refused is not None:
            reply = self.service.refuse(refused, request_id, headers)
        else:
            reply = self.service.http(method, path, headers, body, request_id)
        return reply.status, reply.headers, reply.body

    def enter(self) -> None:
        """A request begins."""
        with self._changed:
            self._active += 1

    def leave(self) -> None:
        """A request ends."""
        with self._changed:
            self._active -= 1
            self._changed.notify_all()


def _refused(headers: "dict[str, str]", spent_s: float) -> "RequestError | None":
    """Why a request with that deadline is not run, or None."""
    try:
        left_ms = deadline_ms(headers)
    except RequestError as error:
        return error
    late_ms = spent_s * 1000 - left_ms if left_ms is not None else -1
    if late_ms < 0:
        return None
    return RequestError(f"the deadline was {late_ms:.0f} ms ago; nobody waits for this answer", 504, "DeadlineExceeded")


def _json(status: int, value: object) -> "tuple[int, dict[str, str], bytes]":
    return status, {"content-type": "application/json"}, jsontext.dumps(value).encode()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: "tuple[str, int]", owner: Server) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking the name service what this machine is called."""
        self.socket.setsockopt(1, 2, 1)  # SOL_SOCKET, SO_REUSEADDR
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: "Any", client_address: "Any") -> None:
        """A client that went away is nothing to print a traceback for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "mlpack"
    sys_version = ""
    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: _Http

    def do_GET(self) -> None:
        """Any request."""
        arrived_s = monotonic()
        body = self._body()
        if body is None:
            return
        owner = self.server.owner
        owner.enter()
        try:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, sent, answer = owner.answer(self.command, self.path, headers, body, monotonic() - arrived_s)
            self._send(status, sent, answer)
        finally:
            owner.leave()

    do_POST = do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815  (the base class's names)

    def _body(self) -> "bytes | None":
        stated = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers or not stated.isdecimal():
            self._refuse(411, "send the body's Content-Length")
        elif int(stated) > BODY_LIMIT_BYTES:
            self._refuse(413, f"a body may have {BODY_LIMIT_BYTES} bytes, not {stated}")
        else:
            body = self.rfile.read(int(stated))
            if len(body) == int(stated):
                return body
            self._refuse(400, "the body is shorter than its Content-Length")
        return None

    def _refuse(self, status: int, message: str) -> None:
        self.close_connection = True  # what follows is no request
        self._send(*_json(status, {"error": {"type": "InvalidRequest", "message": message}}))

    def _send(self, status: int, headers: "dict[str, str]", body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection or self.server.owner.ready():
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: "Any") -> None:
        """Nothing: the service has logged it."""
