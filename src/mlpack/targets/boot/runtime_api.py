"""A stub of the Lambda Runtime API: one event for one runtime, on loopback.

Promises:
- `next` gives the event once, with the documented headers. A second `next` waits, as between events on Lambda.
- The runtime's answer, or the error that it reports, is kept.
- `close` frees the port and ends every thread.

Will not: run a runtime.

Source: AWS Lambda developer guide, "Using the Lambda runtime API" (2018-06-01).
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

_PATH = "/2018-06-01/runtime/"
_REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
_ARN = "arn:aws:lambda:us-east-1:123456789012:function:test_function"
_MAX_BODY_BYTES = 16 << 20
"""More than the 6 MB that Lambda passes on, so that the runtime itself has to refuse a larger answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFailure:
    """The error that a runtime reports instead of an answer; `stage` is initialisation or invocation."""

    stage: str
    kind: str
    message: str


class RuntimeApi:
    """Serves from construction to `close`. `done` is set once there is an `outcome`: the answer's bytes, or `Failed`."""

    def __init__(self, event: bytes, timeout_s: float) -> None:
        self.event = event
        self.timeout_s = timeout_s
        self.done = threading.Event()
        self.outcome: bytes | RuntimeFailure | None = None
        self.ready_at = 0.0
        """The time of the runtime's first request for an event, by `time.monotonic`."""
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port`, as AWS_LAMBDA_RUNTIME_API holds it."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def take(self) -> bool:
        """True the first time. Later calls wait for `close` and return False: there is no second event."""
        if self.ready_at:
            self._closed.wait()
            return False
        self.ready_at = time.monotonic()
        return True

    def finish(self, outcome: bytes | RuntimeFailure) -> None:
        """Keep the first outcome."""
        if not self.done.is_set():
            self.outcome = outcome
            self.done.set()

    def close(self) -> None:
        """Free the port and end every call of `take`."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> RuntimeApi:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _handler(api: RuntimeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            # A runtime that is ended while it waits for its next event resets the connection. That is no failure.
            with contextlib.suppress(ConnectionError):
                super().handle()

        def do_GET(self) -> None:
            if self.path != f"{_PATH}invocation/next":
                self._reply(404, b"{}")
            elif api.take():
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": _REQUEST_ID,
                    "Lambda-Runtime-Deadline-Ms": str(int((time.time() + api.timeout_s) * 1000)),
                    "Lambda-Runtime-Invoked-Function-Arn": _ARN,
                    "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
                }
                self._reply(200, api.event, headers)
            else:
                self.close_connection = True

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            if size > _MAX_BODY_BYTES:
                self._reply(413, b'{"errorMessage":"payload too large","errorType":"RequestEntityTooLarge"}')
                self.close_connection = True
                return
            body = self.rfile.read(size)
            if self.path == f"{_PATH}invocation/{_REQUEST_ID}/response":
                outcome: bytes | RuntimeFailure = body
            elif self.path == f"{_PATH}invocation/{_REQUEST_ID}/error":
                outcome = _failure("invocation", body)
            elif self.path == f"{_PATH}init/error":
                outcome = _failure("initialisation", body)
            else:
                self._reply(404, b"{}")
                return
            self._reply(202, b'{"status":"OK"}')
            api.finish(outcome)

        def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is the base class's)
            del format, args

    return Handler


def _failure(stage: str, body: bytes) -> RuntimeFailure:
    try:
        outcome = json.loads(body)
        return RuntimeFailure(stage=stage, kind=str(outcome.get("errorType")), message=str(outcome.get("errorMessage")))
    except (ValueError, AttributeError):
        return RuntimeFailure(stage=stage, kind="Unknown", message=repr(body[:200]))
