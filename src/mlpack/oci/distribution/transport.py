"""HTTP requests to one repository of one registry: signing in, redirects, and retries.

Promises:
- Credentials go to the registry and to the token service that it names, never to another host that a redirect leads to.
- No redirect from https to http is followed, nor from a public registry to an address inside a private network.
- Temporary failures (408, 429, 5xx, broken connections) are retried after the pause that the server asked for, else after
  growing pauses. A token that expires is renewed.
- Plain http is used only for loopback hosts and the hosts that the caller names.
- No more than a limit is read of any answer or header, whatever length the server states.

Sources: distribution-spec 1.1; distribution's "Token Authentication Specification".
"""

from __future__ import annotations

import email.utils
import ipaddress
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from mlpack.core import retry
from mlpack.core.files import bounded
from mlpack.errors import ServiceError
from mlpack.oci.distribution import auth
from mlpack.oci.media import MAX_JSON_BYTES, is_printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import urllib3
    from urllib3 import BaseHTTPResponse

    from mlpack.oci.distribution.auth import Credentials
    from mlpack.oci.reference import ImageReference

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 300
"""A registry may hash or copy tens of gigabytes before it answers the end of an upload."""
MAX_PAUSE_S = 120
_PAUSES = retry.spread(1.0, MAX_PAUSE_S, least=0.5)
_DIGITS = 9
"""Numbers of seconds with more digits are longer than `MAX_PAUSE_S` in any case."""
_MAX_REDIRECTS = 5
_UNREACHABLE_ATTEMPTS = 3
_BLOCK_BYTES = 1 << 20
_SHORT_BYTES = 64 << 10
"""So much of an answer that is not needed is read, so that its connection can be used again; a longer one is closed."""
_SHORT_S = 10
_HEADER_BYTES = 4096
"""So much of a header is parsed: twice the longest challenge of a real registry."""
_TOKEN_BYTES = 32 << 10
"""No server accepts a header with a longer token."""
_WORDS_BYTES = 4096
_SHOWN = 500
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_CONFLICT_HINTS = {
    401: "sign in to this registry first (docker login)",
    403: "sign in to this registry first (docker login), or ask for access to this repository",
    404: "is the name right? Some registries also answer this for want of access, and some want the repository created first",
    413: "the registry, or a proxy before it, takes no upload of this size",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """The progress of a blob. `state`: `present` (nothing to do), `mounted`, `moving`, `done`."""

    digest: str
    state: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """How to send requests to registries. The defaults suit a CI job."""

    attempts: int = 5
    parallel: int = 4
    """Blobs moved at the same time."""
    sleep: Callable[[float], None] = time.sleep
    progress: Callable[[TransferProgress], None] | None = None
    """Called from several threads, one at a time."""
    proxy: str | None = None
    """URL of an HTTP proxy for https registries."""
    plain_http: tuple[str, ...] = ()
    """Hosts, as in references, to speak plain http with; loopback hosts need not be named."""
    mount_from: tuple[str, ...] = ()
    """Repositories of the same registry whose blobs may be mounted, such as the base's."""


class HttpError(ServiceError):
    """A registry refused a request or broke it off. `status` is None when there was no answer."""

    def __init__(
        self, message: str, *, retryable: bool = False, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, retryable=retryable)
        self.status = status
        self.retry_after_s = retry_after_s


class UnreachableError(HttpError):
    """No connection was made. It is retried less often than a broken connection, since more likely the name is wrong."""


def retrying(options: TransportOptions, attempt: Callable[[], T]) -> T:
    """The result of `attempt`, which is called up to `options.attempts` times while its ServiceError says that a retry could
    help."""

    def again(error: Exception, number: int) -> float | None:
        if not isinstance(error, ServiceError) or not error.retryable:
            return None
        if isinstance(error, UnreachableError) and number >= _UNREACHABLE_ATTEMPTS:
            return None
        pause_s = error.retry_after_s if isinstance(error, HttpError) else None
        return _PAUSES(number) if pause_s is None else min(pause_s, MAX_PAUSE_S)

    return retry.call(attempt, options.attempts, again, sleep=options.sleep)


class RegistrySession:
    """Requests about one repository. Threads may share it. Close it, or use it as a context manager."""

    def __init__(
        self, repository: ImageReference, actions: str, credentials: Credentials | None, options: TransportOptions
    ) -> None:
        self.named = repository
        self.options = options
        self._credentials = credentials
        plain = is_loopback(repository.api_host) or repository.host in options.plain_http
        self.origin = f"{'http' if plain else 'https'}://{repository.api_host}"
        self._scopes = [f"repository:{repository.repository}:{actions}"]
        self._scopes += [f"repository:{other}:pull" for other in options.mount_from if other != repository.repository]
        self._authorization: str | None = None
        self._known: auth.Identity | None = None
        self._accepted, self._sent, self._offered = False, False, ""
        self._lock = threading.Lock()
        self._pool = _pool(options)

    def __enter__(self) -> RegistrySession:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.clear()

    def url(self, path: str) -> str:
        """The address of `path` (such as `blobs/sha256:…`) in this repository."""
        return f"{self.origin}/v2/{self.named.repository}/{path}"

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], BinaryIO] | None = None,
        accept: frozenset[int] = frozenset({200}),
    ) -> BaseHTTPResponse:
        """One request: it signs in if required, and follows redirects of GET and HEAD. The caller reads the answer's body.

        HttpError for a broken connection or a status that is not in `accept`.
        """
        for _ in range(_MAX_REDIRECTS):
            used = self._authorization
            response = self._send(method, url, headers or {}, body, used)
            if response.status == 401 and self._is_registry(url):
                challenge = response.headers.get("WWW-Authenticate", "")[:_HEADER_BYTES]
                discard(response)
                if self._sign_in(challenge, used):
                    response = self._send(method, url, headers or {}, body, self._authorization)
            if response.status in _REDIRECTS and method in {"GET", "HEAD"}:
                target = response.headers.get("Location", "")
                discard(response)
                url = self.follow(url, target)
                continue
            if response.status not in accept:
                raise _refusal(method, url, response, self._hint(response.status) if self._is_registry(url) else "")
            return response
        raise HttpError(f"{method} {_shown(url)} was redirected more than {_MAX_REDIRECTS} times")

    def follow(self, url: str, location: str) -> str:
        """The address that `location`, in an answer from `url`, means. HttpError when it must not be followed."""
        target = urllib.parse.urljoin(url, location)
        parts = urllib.parse.urlsplit(target)
        if not location or not is_printable(location) or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise HttpError(f"{_shown(url)} led to {location!r:.200}, which is no address")
        if parts.scheme == "http" and self.origin.startswith("https:"):
            raise HttpError(f"{_shown(url)} led from https to http ({_shown(target)}): refused, anybody could read or change it")
        if _is_private(parts.hostname) and not _is_private(urllib.parse.urlsplit(self.origin).hostname or ""):
            raise HttpError(f"{_shown(url)} led to a private address ({_shown(target)}): refused")
        return target

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Callable[[], BinaryIO] | None,
        authorization: str | None,
    ) -> BaseHTTPResponse:
        import urllib3

        all_headers = {"User-Agent": "mlpack", **headers}
        if authorization and self._is_registry(url):
            all_headers["Authorization"] = authorization
        opened = body() if callable(body) else body
        try:
            return self._pool.request(
                method, url, headers=all_headers, body=opened, preload_content=False, redirect=False, retries=False
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _broken(method, url, error) from error
        finally:
            if opened is not None and not isinstance(opened, bytes):
                opened.close()

    def _is_registry(self, url: str) -> bool:
        return url.startswith(f"{self.origin}/")

    def _sign_in(self, header: str, used: str | None) -> bool:
        """Get another authorization than the refused one. Returns whether there is one."""
        with self._lock:
            if self._authorization != used:
                return True
            offered = {challenge.scheme: challenge for challenge in auth.challenges(header)}
            self._known = identity = auth.identity_for(self._credentials, self.named)
            if identity and identity.user == auth.REGISTRY_USER:
                bearer = f"Bearer {identity.password}" if is_printable(identity.password) else None
            elif "bearer" in offered:
                bearer = f"Bearer {self._token(offered['bearer'], identity)}"
                self._accepted = identity is not None
            else:
                bearer = auth.basic(identity.user, identity.password) if "basic" in offered and identity else None
            self._sent, self._offered = self._sent or (bearer is not None and identity is not None), ", ".join(offered)
            if bearer is None or (bearer == used and "bearer" not in offered):
                return False
            self._authorization = bearer
            return True

    def _hint(self, status: int) -> str:
        """What to do about a refusal that concerns the identity; "" for others."""
        if status == 401 and self._known and not self._sent:
            offered = f"by {self._offered[:100]} alone" if self._offered else "in no way that it says"
            return f"the registry lets in {offered}; mlpack can answer Basic and Bearer"
        if status == 401:
            return auth.advice(self._credentials, self.named, self._known, accepted=self._accepted)
        if status == 403 and self._known:
            return f"{self._known.who} is signed in and may not do this: ask for access to {self.named.repository}"
        return ""

    def _token(self, challenge: auth.Challenge, identity: auth.Identity | None) -> str:
        realm = self.follow(f"{self.origin}/v2/", challenge.get("realm"))
        query = [("service", challenge.get("service"))] if challenge.get("service") else []
        scopes = [("scope", scope) for scope in self._scopes]
        if identity and identity.user == auth.IDENTITY_USER:
            query += [("scope", " ".join(self._scopes)), ("client_id", "mlpack")]
            query += [("grant_type", "refresh_token"), ("refresh_token", identity.password)]
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._send("POST", realm, form, urllib.parse.urlencode(query).encode(), None)
        else:
            headers = {"Authorization": auth.basic(identity.user, identity.password)} if identity else {}
            glue = "&" if urllib.parse.urlsplit(realm).query else "?"
            response = self._send("GET", f"{realm}{glue}{urllib.parse.urlencode(query + scopes)}", headers, None, None)
        if response.status != 200:
            hint = (
                auth.advice(self._credentials, self.named, identity, accepted=False) if response.status in {400, 401, 403} else ""
            )
            raise _refusal("signing in at", realm, response, hint)
        try:
            answer = bounded.load_json(read_bounded(response))
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_BYTES or not (token.isascii() and is_printable(token)):
            raise HttpError(f"{_shown(realm)} signed in without giving a token that can be read")
        return token


def read_bounded(response: BaseHTTPResponse, limit_bytes: int = MAX_JSON_BYTES) -> bytes:
    """The body of an answer; HttpError when it is longer than `limit_bytes`, breaks off or never ends."""
    data = _received(response, limit_bytes, READ_TIMEOUT_S)
    if len(data) > limit_bytes:
        response.close()
        raise HttpError(f"an answer is longer than {limit_bytes} bytes: refused")
    response.release_conn()
    return data


def discard(response: BaseHTTPResponse) -> None:
    """Finish with an answer whose body is not needed, after reading only a little of it.

    urllib3's `drain_conn` would read to the end: before 2.7 into memory, and decompressed.
    """
    try:
        if (response.length_remaining or 0) <= _SHORT_BYTES and len(_received(response, _SHORT_BYTES, _SHORT_S)) <= _SHORT_BYTES:
            response.release_conn()
            return
    except HttpError:
        pass  # its errors do not matter any more
    response.close()


def _received(response: BaseHTTPResponse, limit_bytes: int, within_s: float) -> bytes:
    """The body as it was sent, up to `limit_bytes` and one more byte."""
    import urllib3

    data, deadline = bytearray(), time.monotonic() + within_s
    try:
        while len(data) <= limit_bytes:
            chunk = response.read1(min(_BLOCK_BYTES, limit_bytes + 1 - len(data)), decode_content=False)
            if not chunk:
                break
            data += chunk
            if time.monotonic() > deadline:
                response.close()
                raise HttpError(f"an answer did not end within {within_s:.0f} s", retryable=True)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise HttpError(f"an answer broke off: {error}", retryable=True) from error
    return bytes(data)


def is_loopback(host: str) -> bool:
    """Whether `host[:port]` is this machine."""
    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _is_private(hostname: str) -> bool:
    try:
        return not ipaddress.ip_address(hostname).is_global
    except ValueError:
        return hostname == "localhost"


def _pool(options: TransportOptions) -> urllib3.PoolManager:
    import urllib3

    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    if options.proxy:
        return urllib3.ProxyManager(options.proxy, maxsize=options.parallel, timeout=timeout, blocksize=_BLOCK_BYTES)
    return urllib3.PoolManager(maxsize=options.parallel, timeout=timeout, blocksize=_BLOCK_BYTES)


def _refusal(method: str, url: str, response: BaseHTTPResponse, hint: str = "") -> HttpError:
    status, pause = response.status, _retry_after(response.headers.get("Retry-After"))
    try:
        text = _received(response, _WORDS_BYTES, _SHORT_S)[:500].decode("utf-8", "replace").strip()
    except HttpError:
        text = ""
    response.close()
    text = "".join(each if is_printable(each) else " " for each in text)
    if status == 404 and "NAME_UNKNOWN" in text:
        hint = f"there is no such repository, or it is not shown to whoever asks: {_CONFLICT_HINTS[404]}"
    if status == 404 and "MANIFEST_UNKNOWN" in text:
        hint = f"there is no such tag or digest in this repository: {_CONFLICT_HINTS[404]}"
    passing = "the registry is overloaded or broken: try again later" if status in _PASSING else ""
    hint = hint or _CONFLICT_HINTS.get(status, passing)
    message = f"{method} {_shown(url)} was answered with {status}" + (f" {text}" if text else "") + (f": {hint}" if hint else "")
    return HttpError(message, retryable=status in _PASSING, status=status, retry_after_s=pause)


def _broken(method: str, url: str, error: Exception) -> HttpError:
    import urllib3.exceptions

    reason = f"{error}".rpartition(": ")[2].strip(" ()'")
    if isinstance(error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)):
        hint = "is the name right, and does this machine have a way to it?"
        return UnreachableError(f"{_shown(url)} cannot be reached ({reason}): {hint}", retryable=True)
    lasting = isinstance(error, urllib3.exceptions.SSLError)
    return HttpError(f"{method} {_shown(url)} broke off ({reason})", retryable=not lasting)


def _retry_after(value: str | None) -> float | None:
    """The seconds to wait, from either form of `Retry-After` (RFC 9110 §10.2.3); None when there are none or they cannot be
    read."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:_DIGITS])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value[:_HEADER_BYTES]).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):  # the parser raises these on garbage
        return None


def _shown(url: str) -> str:
    """An address for a message, without its query, which may hold a signature."""
    shown = urllib.parse.urlsplit(url)._replace(query="", fragment="").geturl()
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
