"""A minimal client of the Lambda Runtime API, for images and custom runtimes: next, answer, next.

Promises: one keep-alive connection, reopened when it breaks; a failed init is reported and ends the process with 1; an event
that cannot be answered is reported as that invocation's error, and the loop goes on. Told of a snapshot, it takes part in it.
Will not: stream answers, or import `http`, `socket` or `logging`: the stock client's imports cost more than half of a small
function's start.

Source: AWS Lambda developer guide, "Using the Lambda runtime API" (2018-06-01).
"""

import os
import sys
from _socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, getaddrinfo
from _socket import socket as Socket  # the C class; `socket` itself imports selectors and enum
from time import time

from mlpack_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

API = "/2018-06-01/runtime"
_CHUNK_BYTES = 1 << 16
_TRACE_LINES = 200
"""Of an error's traceback: the platform takes no report of megabytes."""
_HEADER_LIMIT_BYTES = 1 << 18  # client context and identity travel in headers


class RuntimeApiError(RuntimeError):
    """The Runtime API cannot be reached, or does not speak HTTP/1.1 as documented."""


class Context:
    """What a handler is told about its invocation, under the names of the stock client."""

    def __init__(self, headers: "dict[str, str]") -> None:
        env = os.environ.get
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id", "")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.deadline_ms = int(headers.get("lambda-runtime-deadline-ms") or 0)
        self.function_name = env("AWS_LAMBDA_FUNCTION_NAME", "")
        self.function_version = env("AWS_LAMBDA_FUNCTION_VERSION", "")
        self.memory_limit_in_mb = env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.log_group_name = env("AWS_LAMBDA_LOG_GROUP_NAME", "")
        self.log_stream_name = env("AWS_LAMBDA_LOG_STREAM_NAME", "")
        self.client_context = _json_or_none(headers.get("lambda-runtime-client-context"))
        self.identity = _json_or_none(headers.get("lambda-runtime-cognito-identity"))

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends this invocation; never negative."""
        return max(0, self.deadline_ms - int(time() * 1000))


class Connection:
    """HTTP/1.1 over one socket to the Runtime API at `address` ("host:port"). Long polls have no timeout, as documented."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._address = address
        self._port = int(port)
        self._socket: Socket | None = None
        self._buffer = bytearray()

    def request(
        self, method: str, path: str, body: bytes = b"", headers: "dict[str, str] | None" = None
    ) -> "tuple[int, dict[str, str], bytes]":
        """(status, headers with lower-case names, body). Tries once more on a connection that the other side had closed."""
        lines = [f"{method} {API}{path} HTTP/1.1", f"Host: {self._address}", "User-Agent: mlpack"]
        if method == "POST":
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        reused = self._socket is not None
        try:
            return self._exchange(head, body)
        except (OSError, RuntimeApiError):
            self.close()
            if not reused:
                raise
        return self._exchange(head, body)

    def close(self) -> None:
        """Forget the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._buffer.clear()

    def _exchange(self, head: bytes, body: bytes) -> "tuple[int, dict[str, str], bytes]":
        if self._socket is None:
            self._socket = self._connect()
        self._socket.sendall(head + body if len(body) < _CHUNK_BYTES else head)
        if len(body) >= _CHUNK_BYTES:
            self._socket.sendall(body)
        status, headers = self._head()
        while status == 100:
            status, headers = self._head()
        if "chunked" in headers.get("transfer-encoding", "").lower():
            content = self._chunks()
        elif "content-length" in headers:
            content = self._take(_number(headers["content-length"], 10))
        elif status in (204, 304):
            content = b""
        else:
            raise RuntimeApiError("the Runtime API sent neither Content-Length nor chunks")
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, content

    def _connect(self) -> Socket:
        error: OSError | None = None
        # As bytes: a text would be encoded as an international name, which imports 5 ms of modules.
        host = self._host.strip("[]").encode()
        for family, kind, proto, _, where in getaddrinfo(host, self._port, 0, SOCK_STREAM):
            made = Socket(family, kind, proto)
            try:
                made.connect(where)
                made.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                return made
            except OSError as failed:
                made.close()
                error = failed
        raise error or RuntimeApiError(f"{self._host} has no address")

    def _more(self) -> None:
        assert self._socket is not None
        received = self._socket.recv(_CHUNK_BYTES)
        if not received:
            raise RuntimeApiError("the Runtime API closed the connection in the middle of an answer")
        self._buffer += received

    def _until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > _HEADER_LIMIT_BYTES:
                raise RuntimeApiError("the Runtime API sent an endless header")
            self._more()
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return found

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _head(self) -> "tuple[int, dict[str, str]]":
        first, *rest = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if not first.startswith("HTTP/1.") or len(parts) < 2:
            raise RuntimeApiError(f"not an HTTP/1.1 answer: {first[:80]!r}")
        pairs = (line.partition(":") for line in rest)
        return _number(parts[1], 10), {name.strip().lower(): value.strip() for name, _, value in pairs}

    def _chunks(self) -> bytes:
        parts = []
        while size := _number(self._until(b"\r\n").split(b";")[0].decode("latin-1"), 16):
            parts.append(self._take(size))
            self._take(2)
        while self._until(b"\r\n"):  # trailers
            pass
        return b"".join(parts)


def main(arguments: "list[str]") -> int:
    """Load the package, then serve events until the platform ends the process. Returns only after a failure: 1."""
    del arguments  # the platform gives its orders through the environment
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
    if not address:
        sys.stderr.write(
            "AWS_LAMBDA_RUNTIME_API is not set: this is a Lambda package. Start it on Lambda, under the runtime interface emulator"
            " (aws-lambda-rie python3 -I -S bootstrap.py), or with `mlpack run`.\n"
        )
        return 1
    connection = Connection(address)
    try:
        from mlpack_runtime.handler import flush, render

        if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            from mlpack_runtime import snapshot

            snapshot.through(connection)
    except BaseException as error:  # noqa: BLE001  (whatever stops the start is what the platform must be told)
        _report(connection, "/restore/error" if type(error).__name__ == "AfterRestoreError" else "/init/error", error)
        return 1
    try:
        while True:
            _serve(connection, render)
            flush()  # the answer is out, and the function is frozen when it asks for the next event
    except (OSError, RuntimeApiError) as error:
        sys.stderr.write(f"the Runtime API at {address} failed: {error}\n")
        return 1


def _serve(connection: Connection, render: "Any") -> None:
    status, headers, body = connection.request("GET", "/invocation/next")
    if status != 200:
        raise RuntimeApiError(f"next was answered with status {status}: {body[:200]!r}")
    invocation = f"/invocation/{headers.get('lambda-runtime-aws-request-id', '')}"
    trace = headers.get("lambda-runtime-trace-id")
    if trace:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    try:
        answer = render(jsontext.loads(body), Context(headers))
    except Exception as error:  # noqa: BLE001  (one bad event must not end the process)
        _report(connection, f"{invocation}/error", error)
        return
    status, _, said = connection.request("POST", f"{invocation}/response", answer)
    if status >= 300:
        _report(connection, f"{invocation}/error", RuntimeApiError(f"the answer was refused with {status}: {said[:200]!r}"))


def _report(connection: Connection, path: str, error: BaseException) -> None:
    from traceback import format_exception

    trace = "".join(format_exception(error)).splitlines()
    sys.stderr.write("\n".join(trace) + "\n")
    sys.stderr.flush()
    kind = type(error).__name__
    body = jsontext.dumps({"errorMessage": str(error), "errorType": kind, "stackTrace": trace[-_TRACE_LINES:]}).encode()
    try:
        connection.request("POST", path, body, {"Lambda-Runtime-Function-Error-Type": f"Runtime.{kind}"})
    except (OSError, RuntimeApiError) as failed:
        sys.stderr.write(f"and the Runtime API could not be told: {failed}\n")


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise RuntimeApiError(f"the Runtime API sent {text!r} where a number belongs")
    return number


def _json_or_none(text: "str | None") -> "Any":
    try:
        return jsontext.loads(text) if text else None
    except ValueError:
        return None
