"""AWS's signature, version 4, of one request: the headers that prove who sends it. A pure function of its arguments.

Promises: the signature is the one that AWS computes, for any key, query and header that HTTP can carry; a header that may change
on the way (tracing, user agent) is not signed.
Will not: sign a stream, or for several regions at once (version 4A).

Source: AWS Identity and Access Management user guide, "Create a signed AWS API request"; Amazon S3 API reference for its paths.
"""

import hashlib
from hmac import digest as hmac
from time import gmtime, strftime, time

from mlpack_runtime.aws.wire import Asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = frozenset(("expect", "transfer-encoding", "user-agent", "x-amzn-trace-id", "traceparent", "tracestate", "connection"))
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~")
_AS_IT_IS = [chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in range(256)]


class Credentials:
    """A key with its secret, and the session's token. `ends`: when they end, in seconds since 1970; None where nobody says."""

    __slots__ = ("ends", "key", "secret", "token")

    def __init__(self, key: str, secret: str, token: str = "", ends: "float | None" = None) -> None:
        self.key = key
        self.secret = secret
        self.token = token
        self.ends = ends

    def __repr__(self) -> str:
        return f"Credentials({self.key[:4]}...)"

    def is_fresh(self, seconds: float) -> bool:
        """Whether they hold for so long."""
        return self.ends is None or time() < self.ends - seconds


class Scope:
    """What a signature holds for: a service in a region, from `now` (seconds since 1970) on for some minutes."""

    __slots__ = ("day", "region", "second", "service")

    def __init__(self, service: str, region: str, now: float) -> None:
        self.service = service
        self.region = region
        self.second = strftime("%Y%m%dT%H%M%SZ", gmtime(now))
        self.day = self.second[:8]

    def __str__(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


def quoted(text: "str | bytes", *, slashes: bool = False) -> str:
    """A name as a path or a query carries it: every byte of its UTF-8 that is not unreserved as %XX. `slashes`: they stay."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    encoded = "".join([_AS_IT_IS[byte] for byte in data])
    return encoded.replace("%2F", "/") if slashes else encoded


def query_string(pairs: "Iterable[tuple[str, str]]") -> str:
    """The query of these names and values, in the order in which it is signed."""
    return "&".join(f"{name}={value}" for name, value in sorted((quoted(name), quoted(value)) for name, value in pairs))


def sha256(body: "bytes | memoryview") -> str:
    """The digest of a body, in hexadecimal."""
    return str(hashlib.sha256(body).hexdigest())


def signed(asked: Asked, keys: Credentials, scope: Scope) -> Asked:
    """The request with the headers that sign it; names of headers are lower-case then. Its query is as `query_string` gives it."""
    method, path, digest = asked.method, asked.path, sha256(asked.body)
    every = {name.lower(): value for name, value in asked.headers.items()}
    every["x-amz-date"] = scope.second
    if keys.token:
        every["x-amz-security-token"] = keys.token
    if scope.service == "s3":
        every["x-amz-content-sha256"] = digest
    names = sorted(every.keys() - _UNSIGNED)
    lines = "".join([f"{name}:{' '.join(every[name].split())}\n" for name in names])
    # S3 reads a path as it stands; other services take what came for a path that is still to be encoded.
    path = path if scope.service == "s3" else quoted(_normal(path), slashes=True)
    canonical = f"{method}\n{path}\n{asked.query}\n{lines}\n{';'.join(names)}\n{digest}"
    text = f"{_ALGORITHM}\n{scope.second}\n{scope}\n{sha256(canonical.encode())}"
    key = f"AWS4{keys.secret}".encode()
    for part in (scope.day, scope.region, scope.service, "aws4_request", text):
        key = hmac(key, part.encode(), "sha256")
    every["authorization"] = f"{_ALGORITHM} Credential={keys.key}/{scope}, SignedHeaders={';'.join(names)}, Signature={key.hex()}"
    return Asked(method, asked.path, every, asked.body, asked.query)


def _normal(path: str) -> str:
    """A path without empty, `.` and `..` parts, as RFC 3986 removes them."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts) + ("/" if parts and path.endswith("/") else "")
