"""Where a request goes from the front door: into a queue, or to a worker's HTTP endpoint.

Promises: a message holds the request as over HTTP, with the attributes that workers read; what a queue would not take lies in S3,
and the message says where. A worker is asked within its time, header to last byte. Whatever fails is a `ServiceError`.
Will not: know a model, wait for results, or decide whether to try.
"""

from time import monotonic

from mlpack_runtime import aws
from mlpack_runtime.frontdoor_tickets import ServiceError, failed
from mlpack_runtime.protocol import HEADER_LENGTH, RequestError
from mlpack_runtime.service import RESPONSE_LIMIT_BYTES, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPConnection, HTTPResponse
    from socket import socket
    from typing import Any

MESSAGE_LIMIT_BYTES = 1024 * 1024  # AWS: 1 MiB with its attributes, since August 2025
OLDER_LIMIT_BYTES = 256 * 1024  # what it was before, and what queues from then still have as their MaximumMessageSize
_CHUNK_BYTES = 1 << 16
_PASSED_ON = ("content-type", HEADER_LENGTH, "retry-after")


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


class Worker:
    """A worker's HTTP endpoint at `url` (http or https, a path before /v2 is kept). One connection, kept between calls."""

    def __init__(self, url: str) -> None:
        from urllib.parse import urlsplit

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is no http://HOST:PORT")
        self._url = url
        self._parts = parts
        self._connection: HTTPConnection | None = None

    def ask(self, path: str, body: bytes, headers: "Mapping[str, str]", seconds: float) -> Reply:
        """POST; the worker's answer, whatever its status. Raises TimeoutError, ServiceError."""
        from http.client import HTTPException

        ends = monotonic() + seconds
        for fresh in (self._connection is None, True):
            try:
                return self._exchange(path, body, headers, ends)
            except TimeoutError:
                self.close()
                raise
            except (OSError, HTTPException) as error:
                self.close()
                if fresh:  # else the other side had closed it meanwhile; inference may be asked for twice
                    raise ServiceError(f"the worker at {self._url}: {type(error).__name__}: {error}") from error
        raise AssertionError

    def close(self) -> None:
        """Forget the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _exchange(self, path: str, body: bytes, headers: "Mapping[str, str]", ends: float) -> Reply:
        connection = self._connection or self._open()
        self._connection = connection
        connection.timeout = _left(ends)
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        connection.request("POST", self._parts.path.rstrip("/") + path, body, dict(headers))
        stream = connection.sock  # the connection forgets it when the other side will close
        stream.settimeout(_left(ends))
        answer = connection.getresponse()
        content = _content(answer, stream, ends)
        kept = {name: value for name in _PASSED_ON if (value := answer.headers.get(name)) is not None}
        if answer.will_close or not answer.isclosed():
            self.close()
        binary = kept.get("content-type", "").startswith("application/octet-stream")
        return Reply(answer.status, content, kept, binary=binary)

    def _open(self) -> "HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection

        made = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return made(self._parts.hostname or "", self._parts.port)


def _content(answer: "HTTPResponse", stream: "socket", ends: float) -> bytes:
    """At most a chunk more than may be answered: what is longer is refused anyhow. Raises ConnectionError for half an answer."""
    parts, size, stated = [], 0, answer.headers.get("content-length")
    while size <= RESPONSE_LIMIT_BYTES:
        stream.settimeout(_left(ends))
        part = answer.read1(_CHUNK_BYTES)
        if not part:
            if stated is not None and stated.isdigit() and size < int(stated):  # `read1` does not mind
                raise ConnectionError(f"the answer ended after {size} of {stated} bytes")
            answer.close()  # whole: the connection may be used again
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _left(ends: float) -> float:
    left = ends - monotonic()
    if left <= 0:
        raise TimeoutError("the deadline is over")
    return left


def _digest(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()
