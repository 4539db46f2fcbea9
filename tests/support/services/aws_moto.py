"""The process behind `aws_server`: moto, a log of its requests, faults on demand, and order where moto needs it.

Run as a program it prints its port and ends with its standard input. What is said to it in HTTP, at paths that begin with two
underscores, `aws_server.AwsServer` knows.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

ACCOUNT = "123456789012"
_HANG_S = 3600.0
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong at the `number`-th request that matches (from 1, counted from when the plan was made); `onward`: and at
    every later one. `after`: the request takes effect first.

    `action`: "error" (with `status`, `code` and `message`), "hang" (until the client gives up), "close" (the connection, without
    an answer), "cut" (the answer, half-way through its body), "nonsense" (what no AWS says, as a proxy in its place may) or "kill"
    (the process `pid`, with SIGKILL).
    """

    action: str
    after: bool = False
    service: str | None = None
    operation: str | None = None
    number: int = 1
    onward: bool = False
    status: int = 503
    code: str = "ServiceUnavailable"
    message: str = "a fault that the test asked for"
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    """More of an error's body."""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A request that arrived: its number from 1, `dynamodb` or `s3` ..., `PutItem` ..., the path, the status of the answer
    (0: there was none), and the fault that it met."""

    number: int
    service: str
    operation: str
    path: str
    status: int
    fault: str | None
    began_s: float = 0.0
    ended_s: float = 0.0
    """When it arrived and when its answer was ready, by CLOCK_MONOTONIC, which all processes share."""


@dataclass(slots=True)
class _Planned:
    """A fault and how many requests have matched it."""

    fault: Fault
    seen: int = 0

    def strikes(self, service: str, operation: str) -> bool:
        if self.fault.service not in (None, service) or self.fault.operation not in (None, operation):
            return False
        self.seen += 1
        return self.seen == self.fault.number or (self.fault.onward and self.seen > self.fault.number)


class _Middleware:
    """Around moto's application: a log, faults, and order where moto needs it."""

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self._inner = inner
        self._state = threading.Lock()
        self._log: list[Request | None] = []
        self._planned: list[_Planned] = []
        self._let_go = threading.Event()
        # moto's transact_write_items copies the whole table, and a transaction that fails puts that copy back, losing what other
        # threads wrote meanwhile; its conditional uploads look first and write later, and its lists run over a dict that uploads
        # change. So what changes or lists runs one at a time in each service, as if at once, which is what AWS promises.
        # A queue's messages are replaced by what is left after a delete, losing what was sent meanwhile.
        self._order = {"dynamodb": threading.Lock(), "s3": threading.Lock(), "sqs": threading.Lock()}

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        began_s = time.monotonic()
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        path = environ["PATH_INFO"]
        if path.startswith("/__"):
            return _json(start, self._control(environ["REQUEST_METHOD"], path, body))
        if path.startswith("/moto-api/"):
            return self._inner(environ, start)
        service, operation = _name(environ, body)
        with self._state:
            number = len(self._log) + 1
            log = self._log
            log.append(None)
            struck = [one.fault for one in self._planned if one.strikes(service, operation)]
            let_go = self._let_go
        fault = struck[0] if struck else None
        answer = _Answer()
        if operation == "ReceiveMessage":
            _wait_for_messages(environ, body)
        if fault is None or fault.after or fault.action == "cut":
            self._run(service, operation, environ, answer)
        said = f"{fault.action} {'after' if fault.after else 'before'}" if fault else None
        if fault is not None and fault.action == "error":
            answer = _Answer.of_error(fault, service)
        if fault is not None and fault.action == "nonsense":
            answer = _Answer.of_nonsense()
        answered = fault is None or fault.action in ("error", "cut", "nonsense")
        status, ended_s = answer.status if answered else 0, time.monotonic()
        log[number - 1] = Request(number, service, operation, unquote(path), status, said, began_s, ended_s)
        if fault is not None and fault.action == "cut":
            return answer.send_half(start)
        if fault is not None and not answered:
            self._fail(fault, let_go, environ["werkzeug.socket"])
        return answer.send(start)

    def _run(self, service: str, operation: str, environ: dict[str, Any], answer: _Answer) -> None:
        if operation == "GetObject" and (answered := _ranged(self._inner, environ, answer)) is not None:
            answer.chunks = answered
        elif service in self._order and operation not in ("GetObject", "HeadObject", "UploadPart"):
            with self._order[service]:
                answer.take(self._inner(environ, answer.start))
        else:
            answer.take(self._inner(environ, answer.start))

    @staticmethod
    def _fail(fault: Fault, let_go: threading.Event, connection: socket.socket) -> None:
        """Give no answer, one way or another."""
        if fault.action == "kill":
            os.kill(fault.pid, signal.SIGKILL)
        if fault.action == "hang":
            let_go.wait(_HANG_S)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client went first
        raise ConnectionAbortedError

    def _control(self, method: str, path: str, body: bytes) -> object:
        with self._state:
            match method, path:
                case "POST", "/__plan__":
                    self._planned = [_Planned(Fault(**one)) for one in json.loads(body)]
                case "GET", "/__log__":
                    return [dataclasses.asdict(one) for one in self._log if one is not None]
                case "DELETE", "/__log__":
                    self._log = []
                case "POST", "/__iam__":
                    _enforce(json.loads(body))
                case "POST", "/__reset__":
                    self._log, self._planned = [], []
                    self._let_go.set()
                    self._let_go = threading.Event()
                    _enforce(False)
                    with self._order["dynamodb"], self._order["s3"], self._order["sqs"]:
                        _reset()
                case _:
                    raise ValueError(path)
        return "done"


class _Answer:
    """What moto said, held back until it is known whether the client may see it."""

    def __init__(self) -> None:
        self.head: list[tuple[str, str]] = []
        self.line = ""
        self.chunks: list[bytes] = []

    @property
    def status(self) -> int:
        return int(self.line.split()[0])

    def start(self, line: str, head: list[tuple[str, str]], _error: object = None) -> None:
        self.line, self.head = line, head

    def take(self, chunks: Iterable[bytes]) -> None:
        self.chunks = list(chunks)
        if hasattr(chunks, "close"):
            chunks.close()

    @classmethod
    def of_error(cls, fault: Fault, service: str) -> _Answer:
        made = cls()
        if service in ("s3", "sts", "iam"):
            said = {"Code": fault.code, "Message": fault.message, "RequestId": "planned"} | fault.details
            error = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in said.items())
            text = f"<Error>{error}</Error>" if service == "s3" else f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"
            kind = "application/xml"
        else:
            text = json.dumps({"__type": f"planned#{fault.code}", "message": fault.message} | fault.details)
            kind = "application/x-amz-json-1.0"
        made.line, made.chunks = f"{fault.status} planned", [text.encode()]
        made.head = [("Content-Type", kind), ("Content-Length", str(len(made.chunks[0]))), *fault.headers.items()]
        return made

    @classmethod
    def of_nonsense(cls) -> _Answer:
        made = cls()
        made.start("200 OK", [("Content-Type", "application/x-amz-json-1.0"), ("Content-Length", "2")])
        made.chunks = [b"[]"]
        return made

    def send(self, start: Callable[..., Any]) -> Iterable[bytes]:
        start(self.line, self.head)
        return self.chunks

    def send_half(self, start: Callable[..., Any]) -> Iterator[bytes]:
        start(self.line, self.head)
        whole = b"".join(self.chunks)
        yield whole[: len(whole) // 2]
        raise ConnectionAbortedError


def _ranged(inner: Callable[..., Iterable[bytes]], environ: dict[str, Any], answer: _Answer) -> list[bytes] | None:
    """A range of an object. moto would read the whole object for each one, which no gigabyte survives: so its answer to HEAD
    is taken, with its permissions and conditions, and the bytes are read from where moto has them."""
    match = _RANGE.fullmatch(environ.get("HTTP_RANGE", ""))
    if match is None:
        return None
    from moto.s3.models import s3_backends

    head = environ | {"REQUEST_METHOD": "HEAD"}
    del head["HTTP_RANGE"]
    answer.take(inner(head, answer.start))
    if answer.status != 200:
        return None  # the answer to GET says why
    _, bucket, key = unquote(environ["PATH_INFO"]).split("/", 2)
    found = s3_backends[ACCOUNT]["aws"].get_object(bucket, key)
    size, begin = found.size, int(match[1])
    end = min(int(match[2]), size - 1)
    if begin > end:
        wrong = _Answer.of_error(Fault("error", status=416, code="InvalidRange"), "s3")
        answer.line, answer.head = wrong.line, wrong.head
        return wrong.chunks
    with found.lock:
        found._value_buffer.seek(begin)
        data = found._value_buffer.read(end - begin + 1)
    kept = [(name, value) for name, value in answer.head if not name.lower().startswith(("content-length", "x-amz-checksum-"))]
    where = [("Content-Length", str(len(data))), ("Content-Range", f"bytes {begin}-{end}/{size}")]
    answer.start("206 PARTIAL CONTENT", [*kept, *where])
    return [data]


def _wait_for_messages(environ: dict[str, Any], body: bytes) -> None:
    """The wait of a long poll, before its turn comes: moto would wait in the middle of it. What remains is a short poll."""
    from moto.sqs.models import sqs_backends

    asked = json.loads(body)
    until_s = time.monotonic() + int(asked.get("WaitTimeSeconds", 0))
    queues = [queue for region in sqs_backends[ACCOUNT].values() for queue in list(region.queues.values())]
    found = [queue for queue in queues if queue.name == asked["QueueUrl"].rpartition("/")[2]]
    while found and time.monotonic() < until_s and not found[0].messages:
        time.sleep(0.002)
    short = json.dumps(asked | {"WaitTimeSeconds": 0}).encode()
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(short), str(len(short))


def _name(environ: dict[str, Any], body: bytes) -> tuple[str, str]:
    """Which service and operation a request is for, as their API names them."""
    credential = re.search(r"Credential=[^,&]*?/\d{8}/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    service = credential[1] if credential else "s3"
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return service, target.rpartition(".")[2]
    if service == "s3":
        return service, _s3_operation(environ)
    action = parse_qs(body.decode(errors="replace")).get("Action") if service != "lambda" else None
    return service, action[0] if action else f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"


def _s3_operation(environ: dict[str, Any]) -> str:
    method, query = environ["REQUEST_METHOD"], parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
    if not bucket:
        return "ListBuckets"
    verb = {"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete", "POST": "Post"}[method]
    if not key:
        if method == "GET" and "uploads" in query:
            return "ListMultipartUploads"
        if "list-type" in query:
            return "ListObjectsV2"
        kinds = [name for name in query if name.islower()]
        create = {"PUT": "CreateBucket", "POST": "DeleteObjects"}.get(method, f"{verb}Bucket")
        return f"{verb}Bucket:{kinds[0]}" if kinds and method != "POST" else create
    if "uploads" in query:
        return "CreateMultipartUpload"
    if "uploadId" in query:
        kinds = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload", "GET": "ListParts"}
        return kinds[method]
    return f"{verb}Object"


def _json(start: Callable[..., Any], value: object) -> list[bytes]:
    data = json.dumps(value).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]


def _enforce(enforced: bool) -> None:
    from moto import settings
    from moto.core.responses import ActionAuthenticatorMixin

    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0 if enforced else float("inf")
    ActionAuthenticatorMixin.request_count = 0


def _reset() -> None:
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()


def _serve() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from tests.support.services import moto_hurry
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log(self, *_arguments: object) -> None:
            """Nothing: the log is ours."""

        log_request = log

    moto_hurry.hurry()
    server = make_server("127.0.0.1", 0, _Middleware(DomainDispatcherApplication(create_backend_app)), True, request_handler=Quiet)
    print(server.port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()  # ends with whoever started this


if __name__ == "__main__":
    _serve()
