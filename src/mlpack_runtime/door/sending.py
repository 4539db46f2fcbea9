"""Where a request goes from the front door: into a queue, or to a worker's HTTP endpoint.

Promises: a message holds the request as over HTTP, with the attributes that workers read; what a queue would not take lies in S3,
and the message says where. A worker is asked within its time, header to last byte. Whatever fails is a `ServiceError`; what
answers otherwise than HTTP/1.1 has it is a `NoWorkerError`, and nothing of it is passed on.
Will not: know a model, wait for results, or decide whether to try.
"""

from mlpack_runtime import aws
from mlpack_runtime.door.forms import passed_on
from mlpack_runtime.door.tickets import ServiceError, failed
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import RESPONSE_LIMIT_BYTES, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from socket import socket
    from typing import Any

    from mlpack_runtime.serving.http_head import Status
    from mlpack_runtime.serving.http_wire import Body, Pace, Wire

_CHUNK_BYTES = 1 << 16
_HEAD_BYTES, _HEADERS = 65_536, 100  # of a worker's answer
_INTERIM = 10


class Message:
    """A request on its way: `name` is MODEL/ID, `attributes` are {name: (SQS type, value)}."""

    __slots__ = ("attributes", "body", "name")

    def __init__(self, name: str, body: str, attributes: "Mapping[str, tuple[str, str]]") -> None:
        self.name = name
        self.body = body
        self.attributes = dict(attributes)

    @property
    def digest(self) -> str:
        """The body's SHA-256: whether two requests are the same."""
        return _digest(self.body)

    @property
    def size(self) -> int:
        """Bytes, as SQS counts them: the body, and each attribute's name, type and value."""
        return len(self.body.encode()) + sum(len((key + kind + value).encode()) for key, (kind, value) in self.attributes.items())


class Queue:
    """An SQS queue; `payloads`: the bucket and prefix for what is larger than `limit` bytes, where there is one."""

    def __init__(self, sqs: "Any", url: str, limit: int, s3: "Any" = None, payloads: "tuple[str, str] | None" = None) -> None:
        self._sqs = sqs
        self._url = url
        self._limit = limit
        self._s3 = s3
        self._payloads = payloads

    def check(self, message: Message) -> None:
        """Raise RequestError (413) for what is too large and has no other place."""
        if message.size > self._limit and self._payloads is None:
            raise RequestError(
                f"the request has {message.size} bytes as a message; {self._limit} are passed on. Send fewer samples a call, or"
                " set MLPACK_PAYLOADS to s3://BUCKET/PREFIX for larger ones",
                413,
                "PayloadTooLarge",
            )

    def send(self, message: Message, trace_header: "str | None" = None) -> None:
        """Hand it over. `trace_header`: X-Ray's, for the message's system attribute. Raises ServiceError."""
        body, attributes = message.body, dict(message.attributes)
        if message.size > self._limit:
            attributes["payload"] = ("String", self._put(message))
            body = "{}"
        more: dict[str, Any] = {}
        if trace_header:
            more["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace_header}}
        if self._url.endswith(".fifo"):  # the same request within five minutes is one message
            more["MessageGroupId"] = more["MessageDeduplicationId"] = _digest(message.name)
        described = {key: {"DataType": kind, "StringValue": value} for key, (kind, value) in attributes.items()}
        try:
            self._sqs.send_message(QueueUrl=self._url, MessageBody=body, MessageAttributes=described, **more)
        except aws.failures() as error:
            raise failed(error, f"sending to {self._url}") from error

    def backlog(self) -> int:
        """About how many messages wait. Raises ServiceError."""
        try:
            answer = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"])
            return int(answer["Attributes"]["ApproximateNumberOfMessages"])
        except aws.failures() as error:
            raise failed(error, f"reading the attributes of {self._url}") from error

    def _put(self, message: Message) -> str:
        assert self._payloads is not None
        (bucket, prefix), data = self._payloads, message.body.encode()
        # By its content: the same id with another body never changes what an accepted message refers to.
        key = f"{prefix}/{message.name}.{message.digest[:16]}.payload".lstrip("/")
        try:
            self._s3.put_object(Bucket=bucket, Key=key, Body=data, ContentType="application/json")
        except aws.failures() as error:
            raise failed(error, f"writing s3://{bucket}/{key}") from error
        return f"s3://{bucket}/{key}"


class NoWorkerError(ServiceError):
    """What answers at a worker's address does not speak as one. A gateway says 502 then."""

    status = 502


class Worker:
    """A worker's HTTP endpoint at `url` (http or https, a path before /v2 is kept). One connection, kept between calls."""

    def __init__(self, url: str) -> None:
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        try:
            wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment
            self._port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:  # its port is none
            wrong = True
        if wrong or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError(f"{url!r} is no http://HOST:PORT")
        self._url = url
        self._host: str = parts.hostname or ""
        self._is_tls = parts.scheme == "https"
        self._before = f" HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nAccept-Encoding: identity\r\n"
        self._prefix = parts.path.rstrip("/")
        self._wire: Wire | None = None

    def ask(self, path: str, body: bytes, headers: "Mapping[str, str]", seconds: float) -> Reply:
        """POST; the worker's answer, whatever its status. Raises TimeoutError when not all of it is here in time, ServiceError."""
        from mlpack_runtime.serving.http_head import MalformedError, clean
        from mlpack_runtime.serving.http_wire import Pace

        pace = Pace(seconds)
        lines = "".join(f"{name}: {clean(value)}\r\n" for name, value in headers.items())
        asked = f"POST {self._prefix}{path}{self._before}Content-Length: {len(body)}\r\n{lines}\r\n".encode("latin-1", "replace")
        try:
            while True:
                pace.left()
                fresh = not self._kept()
                wire = self._wire = self._open(pace) if self._wire is None else self._wire
                try:
                    wire.send(asked + body, pace)
                    head = self._head(wire, pace)
                except OSError as error:
                    if fresh or isinstance(error, TimeoutError):
                        raise
                    self.close()  # the other side had closed it meanwhile; inference may be asked for twice
                    continue
                return self._reply(wire, head, pace)
        except TimeoutError:
            self.close()
            raise
        except MalformedError as error:
            self.close()
            raise NoWorkerError(f"the worker at {self._url} does not answer as one: {error}") from error
        except OSError as error:
            self.close()
            raise ServiceError(f"the worker at {self._url}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Forget the connection; the next call opens another."""
        if self._wire is not None:
            self._wire.socket.close()
        self._wire = None

    def _kept(self) -> bool:
        """Whether there is a connection from before. One that was closed meanwhile, or on which something came that nobody had
        asked for, is none: the next answer on it would be another's."""
        if self._wire is not None and not self._wire.silent:
            self.close()
        return self._wire is not None

    def _head(self, wire: "Wire", pace: "Pace") -> "Status":
        from mlpack_runtime.serving.http_head import MalformedError, status

        for _ in range(_INTERIM):
            raw = wire.head(pace, _HEAD_BYTES, asks=False)
            if raw is None:
                raise ConnectionResetError("it closed the connection without an answer")
            head = status(raw, _HEADERS)
            if head.code >= 200:
                return head
            if head.code == 101:
                break
        raise MalformedError("interim answers, and no final one")

    def _reply(self, wire: "Wire", head: "Status", pace: "Pace") -> Reply:
        from mlpack_runtime.serving.http_wire import Body

        body, is_whole = Body(), True
        try:
            wire.body(body, head.length, pace, _AtMost())
        except _EnoughError:
            is_whole = False
        if not is_whole or not head.kept or wire.pending:
            self.close()
        kept = passed_on(head.headers, body.size)
        binary = kept.get("content-type", "").startswith("application/octet-stream")
        return Reply(head.code, bytes(body.content()[: RESPONSE_LIMIT_BYTES + _CHUNK_BYTES]), kept, binary=binary)

    def _open(self, pace: "Pace") -> "Wire":
        import socket

        from mlpack_runtime.serving.http_wire import Wire

        failure: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(pace.left())
                made.connect(address)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Wire(self._secured(made, pace) if self._is_tls else made)
            except OSError as error:
                made.close()
                failure = error
        raise failure or OSError(f"{self._host} has no address")

    def _secured(self, made: "socket", pace: "Pace") -> "socket":
        from ssl import create_default_context

        made.settimeout(pace.left())
        return create_default_context().wrap_socket(made, server_hostname=self._host)


class _EnoughError(Exception):
    pass


class _AtMost:
    """An answer is read no further than it may be long: what is longer is refused anyhow."""

    def allow(self, size: int) -> None:
        """However long it says that it will be."""

    def take(self, body: "Body") -> None:
        """Stop beyond it."""
        if body.size > RESPONSE_LIMIT_BYTES:
            raise _EnoughError


def _digest(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()
