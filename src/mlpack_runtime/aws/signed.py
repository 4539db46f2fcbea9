"""A small client of AWS's services with signed requests: what a request to a model needs of DynamoDB, S3 and Firehose, and no more.

    table = Client("dynamodb")
    table.call("GetItem", {"TableName": ..., "Key": ...}, within_s=0.05)
    bucket = S3()
    bucket.get("models", "weights.bin", first=0, last=1048575)

Promises: the region, the address (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3` ...) and the credentials come from the environment, as
botocore reads it; connections stay open, and any thread may call; a call ends within its time with an answer or an AwsError, tried
again after a throttled, failed or broken attempt with a pause that doubles and is jittered; a clock that is wrong is told once, and
corrected by the service's.
Will not: read profiles' files or use proxies itself, page, or import botocore where the environment has credentials. A call may
arrive twice, as with every client that tries again.

Why it is here, and what it saves: docs/decisions/0054-features-caches-and-logs.md.
"""

import os
from _thread import start_new_thread
from _weakref import ref
from binascii import crc32
from time import monotonic, sleep, time

from mlpack_runtime import jsontext
from mlpack_runtime.aws import AwsError, credentials, is_passing, own_region, sigv4, wire
from mlpack_runtime.starting import AFTER_RESTORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

WITHIN_S = 10.0
CONNECT_S = 2.0
ATTEMPTS = 4
_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_MOST_BYTES = 64 << 20
_OBJECT_BYTES = 5 << 30
_IDLE_S = 50.0  # DynamoDB and S3 close what was idle for a minute or less
_IDLE = 64
_SKEWED = ("RequestTimeTooSkewed", "RequestExpired", "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure")
_ENDED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_SKEW_S = 240
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PREFIXES = {"dynamodb": "DynamoDB_20120810", "firehose": "Firehose_20150804"}
_JSON = {"dynamodb": "application/x-amz-json-1.0", "firehose": "application/x-amz-json-1.1"}


_CLIENTS: "list[ref[Client]]" = []
"""Those that somebody has. Who comes and goes with a model is not kept here, nor are its connections."""


def _close_all() -> None:
    for each in _CLIENTS.copy():  # it grows shorter when somebody lets go of one
        if (client := each()) is not None:
            client.close()


AFTER_RESTORE.append(_close_all)  # connections are the snapshot's


class ServiceError(AwsError):
    """A service refused a call, or could not be asked. `code`: its own word ("NoSuchKey"), "" where nothing was answered;
    `status`: HTTP's, 0 where nothing was answered."""

    def __init__(self, message: str, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class LateError(ServiceError):
    """A call was not answered within its time."""


class Client:
    """A service in a region. Opened without a word to it. Raises AwsError where no region is known, or the address is none."""

    def __init__(
        self, service: str, *, region: "str | None" = None, endpoint: "str | None" = None, attempts: int = ATTEMPTS
    ) -> None:
        self.service = service
        self.region = region or own_region() or ""
        if not self.region:
            raise AwsError(f"no region for {service}: set AWS_REGION")
        self.attempts = attempts
        self._given = endpoint or _endpoint(service)
        try:
            self._place = credentials.split_url(self._given or _address(service, self.region))
        except ValueError as error:
            raise AwsError(f"the address of {service}: {error}") from None
        self._idle: list[tuple[tuple[str, int], float, wire.Connection]] = []
        self._skew_s = 0.0
        self._closings = 0
        self._opening = False
        _CLIENTS.append(ref(self, _CLIENTS.remove))

    def call(
        self,
        operation: str,
        payload: "Mapping[str, Any]",
        *,
        within_s: float = WITHIN_S,
        headers: "Mapping[str, str] | None" = None,
    ) -> "dict[str, Any]":
        """The answer of an operation of DynamoDB or Firehose, such as `GetItem`. `headers`: those of tracing.
        Raises ServiceError, LateError."""
        body = jsontext.dumps(payload).encode()
        asked = {
            "content-type": _JSON[self.service],
            "x-amz-target": f"{_PREFIXES[self.service]}.{operation}",
            **(headers or {}),
        }
        answer = self.send(wire.Asked("POST", "/", asked, body), within_s=within_s)
        try:
            value = jsontext.loads(answer.body)
        except ValueError as error:
            raise ServiceError(f"{self.service} answered what is not JSON: {error}", status=answer.status) from None
        if type(value) is not dict:
            raise ServiceError(f"{self.service} answered with no object", status=answer.status)
        return value

    def send(
        self, asked: wire.Asked, *, within_s: float = WITHIN_S, most: int = _MOST_BYTES, sink: "wire.Sink | None" = None
    ) -> wire.Answer:
        """The answer to a signed request, with a status below 300. Of its body at most `most` bytes are read; `asked` needs no
        `host`. `sink`: where the body goes, by a client of one attempt: another would begin anew. Raises ServiceError for any other
        status, or where there is none; LateError."""
        until = monotonic() + within_s
        attempt, renewed, failure = 0, False, ServiceError(f"{self.service} was not asked")
        while True:
            try:
                answer = self._once(asked, until, (most, sink), anew=renewed)
            except OSError as error:
                if within_s < CONNECT_S and not self._idle:
                    self._reopen()
                if monotonic() >= until:
                    raise LateError(f"{self.service} did not answer within {within_s:g} s; before: {failure}") from None
                failure, again = ServiceError(f"{self.service} cannot be reached: {error or type(error).__name__}"), True
            else:
                if answer.status < 300:
                    return answer
                failure = self._failure(answer)
                if not renewed and (self._is_skewed(failure, answer) or failure.code in _ENDED or self._moved(answer)):
                    renewed = True
                    continue
                again = is_passing(failure.code, failure.status)
            attempt += 1
            if not again or attempt >= self.attempts:
                raise failure
            pause = min(_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S) * (int.from_bytes(os.urandom(2), "little") / 65536)
            if monotonic() + pause >= until:
                raise LateError(
                    f"{self.service} did not answer within {within_s:g} s; before: {failure}", failure.code, failure.status
                )
            sleep(pause)

    def _once(self, asked: wire.Asked, until: float, body: "tuple[int, wire.Sink | None]", *, anew: bool) -> wire.Answer:
        """`body`: its most bytes, and where it goes. `anew`: with credentials that are asked for again."""
        host, path = self._host_and_path(asked.path)
        scheme, _, port, _ = self._place
        headers = {**asked.headers, "host": credentials.host_header(host, port, scheme)}
        sent = sigv4.signed(
            wire.Asked(asked.method, path, headers, asked.body, asked.query),
            credentials.provide(anew=anew),
            sigv4.Scope(self.service, self.region, time() + self._skew_s),
        )
        connection = self._take(host, port, tls=scheme == "https")
        answer = connection.request(sent, until=until, most=body[0], sink=body[1])
        if connection.is_open and len(self._idle) < _IDLE:
            self._idle.append(((host, port), monotonic(), connection))
        else:
            connection.close()
        if "x-amz-crc32" in answer.headers and answer.headers["x-amz-crc32"] != str(crc32(answer.body)):
            raise ConnectionError("the answer is not what was sent: its checksum differs")
        return answer

    def _take(self, host: str, port: int, *, tls: bool) -> wire.Connection:
        """A connection to use: the one that was used last, or a new one."""
        while self._idle:
            try:
                place, since, connection = self._idle.pop()
            except IndexError:  # another thread took the last
                break
            if place == (host, port) and monotonic() - since < _IDLE_S:
                return connection
            connection.close()
        return wire.Connection(host, port, tls=tls, connect_s=CONNECT_S)

    def open_beside(self, within_s: float) -> None:
        """`open` in a thread of its own. What is closed before that thread comes to it stays closed."""
        start_new_thread(self.open, (within_s, self._closings))

    def open(self, within_s: float, closings: "int | None" = None) -> None:
        """Find the credentials and connect, ahead of the first call, which then takes no more than a later one. Never raises: what
        is wrong, the first call says. `closings`: how often it had been closed when somebody asked for this; else now."""
        scheme, host, port, _ = self._place
        connection = wire.Connection(host, port, tls=scheme == "https", connect_s=within_s)
        closings = self._closings if closings is None else closings
        try:
            credentials.provide()
            if self._closings == closings:
                connection.open(monotonic() + within_s)
                self._idle.append(((host, port), monotonic(), connection))
            if self._closings != closings:  # meanwhile, or before
                self._drop_idle()
        except (OSError, AwsError):
            connection.close()

    def _reopen(self) -> None:
        """Connect beside, for the calls to come: a call that is given milliseconds may never have the time for it. On a part of a
        processor a handshake of TLS takes longer than a deadline of features, and each late call closes its connection."""
        if not self._opening:
            self._opening = True
            start_new_thread(self._open_again, (self._closings,))

    def _open_again(self, closings: int) -> None:
        try:
            self.open(CONNECT_S, closings)
        finally:
            self._opening = False

    def close(self) -> None:
        """Close the connections that are open and not in use, as before a process is frozen for long."""
        self._closings += 1
        self._drop_idle()

    def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()

    def _host_and_path(self, path: str) -> "tuple[str, str]":
        _, host, _, base = self._place
        return host, (base.rstrip("/") + path) if base != "/" else path

    def _moved(self, answer: wire.Answer) -> bool:
        """Whether the answer says another region for what was asked for."""
        region = answer.headers.get("x-amz-bucket-region", "")
        if self.service != "s3" or not region or region == self.region or answer.status not in (301, 307, 400):
            return False
        self.region = region
        if self._given is None:
            self._place = credentials.split_url(_address(self.service, region))
        return True

    def _is_skewed(self, failure: ServiceError, answer: wire.Answer) -> bool:
        """Whether this machine's clock was why, so that the service's is taken from now on."""
        if failure.code not in _SKEWED or "date" not in answer.headers:
            return False
        try:
            skew_s = _date(answer.headers["date"]) - time()
        except (ValueError, IndexError):
            return False
        if abs(skew_s - self._skew_s) < _SKEW_S:
            return False
        from mlpack_runtime import telemetry

        telemetry.warn(f"this machine's clock is wrong by {-skew_s:.0f} s, says {self.service}: its own is used")
        self._skew_s = skew_s
        return True

    def _failure(self, answer: wire.Answer) -> ServiceError:
        text = answer.body[:4096].decode("utf-8", "replace")
        code, message = credentials.tag(text, "Code"), credentials.tag(text, "Message")
        if text.lstrip().startswith("{"):
            try:
                value: Any = jsontext.loads(answer.body)
                code = str(value.get("__type") or value.get("code") or "").rpartition("#")[2]
                message = str(value.get("message") or value.get("Message") or "")
            except ValueError:
                pass
        code = code or answer.headers.get("x-amzn-errortype", "").partition(":")[0]
        what = f"{code}: {message}".strip(": ") or f"status {answer.status}"
        return ServiceError(f"{self.service} refused it: {what}", code, answer.status)


class S3(Client):
    """Objects in buckets."""

    def __init__(self, *, region: "str | None" = None, endpoint: "str | None" = None, attempts: int = ATTEMPTS) -> None:
        super().__init__("s3", region=region, endpoint=endpoint, attempts=attempts)

    def get(
        self,
        bucket: str,
        key: str,
        first: int = 0,
        last: "int | None" = None,
        *,
        within_s: float = 60.0,
        sink: "wire.Sink | None" = None,
    ) -> bytes:
        """An object, or its bytes from `first` to `last`, both included; fewer where it ends before. `sink`: where they go instead,
        as of `send`. Raises ServiceError (status 404: it is not there; 416: it is shorter)."""
        headers = {} if first == 0 and last is None else {"range": f"bytes={first}-{'' if last is None else last}"}
        answer = self.send(wire.Asked("GET", _object(bucket, key), headers), within_s=within_s, most=_OBJECT_BYTES, sink=sink)
        # Some stores that are not Amazon's (rclone's) give a part with status 200.
        if headers and answer.status != 206 and "content-range" not in answer.headers:
            raise ServiceError(f"s3 answered a range with status {answer.status}", status=answer.status)
        return answer.body

    def head(self, bucket: str, key: str, *, within_s: float = WITHIN_S) -> "dict[str, str]":
        """An object's headers: content-length, etag. Raises ServiceError (status 404: it is not there)."""
        return self.send(wire.Asked("HEAD", _object(bucket, key), {}), within_s=within_s).headers

    def put(
        self, bucket: str, key: str, body: "bytes | memoryview", headers: "Mapping[str, str] | None" = None, within_s: float = 60.0
    ) -> "dict[str, str]":
        """Write an object, and give the answer's headers. `headers`: content-type, if-none-match ... Raises ServiceError."""
        answer = self.send(wire.Asked("PUT", _object(bucket, key), headers or {}, body), within_s=within_s).headers
        if "etag" not in answer:  # what is between here and there has answered in its place
            raise ServiceError("s3 did not say that it has the object: its answer has no ETag")
        return answer

    def _host_and_path(self, path: str) -> "tuple[str, str]":
        host, path = super()._host_and_path(path)
        bucket, _, key = path[1:].partition("/")
        if self._given is not None or "." in bucket or not bucket:  # a certificate has no name of two levels
            return host, path
        return f"{bucket}.{host}", f"/{key}"


def _object(bucket: str, key: str) -> str:
    return f"/{sigv4.quoted(bucket)}/{sigv4.quoted(key, slashes=True)}"


def _endpoint(service: str) -> "str | None":
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL") or None


def _address(service: str, region: str) -> str:
    fips = "-fips" if os.environ.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true" else ""
    return f"https://{service}{fips}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _date(text: str) -> float:
    """Seconds since 1970 of HTTP's date: Mon, 30 Nov 2026 22:29:43 GMT."""
    _, day, month, year, clock, _ = text.split(" ")
    return credentials.seconds(int(year), _MONTHS.index(month) + 1, int(day), clock)
