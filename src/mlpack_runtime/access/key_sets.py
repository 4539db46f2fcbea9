"""The public keys of whoever makes tokens: a JSON Web Key Set, fetched over HTTPS and kept.

Promises: a set is fetched when the first token comes, again when it is older than `max_age_s`, and for a key that it does not have
at most once in `cooldown_s`, however many such tokens come. Where it cannot be fetched, the keys that are there count for `stale_s`
more; without any nobody is let in: 503. An answer is at most 1 MB, comes within `timeout_s`, and is not looked for elsewhere
(redirects are failures).
Will not: take keys from a token (`jwk`, `jku`, `x5u`), or speak plain HTTP to other machines.

Sources: RFC 7517; RFC 8725, 3.10.
"""

from _thread import allocate_lock
from time import monotonic

from mlpack_runtime import jsontext, telemetry
from mlpack_runtime.access.signatures import ALGORITHMS, Key, KeyUnfitError
from mlpack_runtime.limits import RequestError, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Row = tuple[str | None, str | None, Key]

MAX_AGE_S, STALE_S, COOLDOWN_S, TIMEOUT_S = 600.0, 86_400.0, 30.0, 3.0
_MOST_BYTES = 1 << 20
_MOST_KEYS = 100
LOCAL = ("localhost", "127.0.0.1", "::1")
"""Hosts that may be asked without TLS: this machine, as in tests and beside a proxy."""


class KeySet:
    """The keys at a URL. `fetch` gives its bytes, or raises OSError or ValueError."""

    def __init__(
        self,
        settings: "Mapping[str, Any]",
        fetch: "Callable[[str, float], bytes] | None" = None,
        clock: "Callable[[], float]" = monotonic,
    ) -> None:
        self._url: str = settings["jwks"]
        self._max_age_s = float(settings.get("max_age_s", MAX_AGE_S))
        self._stale_s = float(settings.get("stale_s", STALE_S))
        self._cooldown_s = float(settings.get("cooldown_s", COOLDOWN_S))
        self._timeout_s = float(settings.get("timeout_s", TIMEOUT_S))
        self._fetch = fetch or fetched
        self._clock = clock
        self._lock = allocate_lock()
        self._rows: tuple[Row, ...] = ()
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")
        self._why = ""

    def keys(self, kid: "str | None", algorithm: str) -> "list[Key]":
        """The keys that may have signed: that of this id, or all that fit where a token names none. Raises RequestError: 503 where
        there are no keys to be had."""
        age_s = self._clock() - self._fetched_s
        if age_s > self._max_age_s:
            self._refresh(self._cooldown_s if self._rows else 1.0, wait=not self._rows)
        found = self._fitting(kid, algorithm)
        if not found:
            self._refresh(self._cooldown_s if self._rows else 1.0, wait=True)
            found = self._fitting(kid, algorithm)
        if not self._rows or self._clock() - self._fetched_s > self._max_age_s + self._stale_s:
            raise RequestError(f"the keys that tokens are signed with cannot be had: {self._why}", 503, "Unavailable", 1)
        return found

    def _fitting(self, kid: "str | None", algorithm: str) -> "list[Key]":
        family = ALGORITHMS[algorithm][0]
        fits = [row for row in self._rows if row[2].family == family and row[1] in (None, algorithm)]
        return [key for own, _, key in fits if kid is None or own == kid]

    def _refresh(self, cooldown_s: float, *, wait: bool) -> None:
        """Fetch the set, unless that was tried just now. Where another thread does, `wait` for it, or go on with what is there."""
        asked_s = self._clock()
        if not self._lock.acquire(wait):
            return
        try:
            if self._tried_s >= asked_s or self._clock() - self._tried_s < cooldown_s:
                return
            try:
                rows = parsed(self._fetch(self._url, self._timeout_s))
                if not rows:
                    raise ValueError("it holds no key that could verify anything here")
                self._rows, self._fetched_s, self._why = rows, self._clock(), ""
            except (OSError, ValueError) as error:
                self._why = cut(f"{type(error).__name__}: {error}", 300)
                telemetry.warn(f"the keys at {self._url} cannot be fetched: {self._why}")
            finally:
                self._tried_s = self._clock()
        finally:
            self._lock.release()


def parsed(data: bytes) -> "tuple[Row, ...]":
    """(id, algorithm, key) of each key that may verify signatures. Raises ValueError for what is no set of keys."""
    told = jsontext.loads(data)
    rows = told.get("keys") if type(told) is dict else None
    if type(rows) is not list:
        raise ValueError("it is no JSON Web Key Set: an object with a list of keys")
    found: list[Row] = []
    for row in rows[:_MOST_KEYS]:
        if type(row) is not dict:
            continue
        row = {name: value for name, value in row.items() if value is not None}  # null, as some servers write what they leave out
        operations = row.get("key_ops", ["verify"])
        if row.get("use", "sig") != "sig" or type(operations) is not list or "verify" not in operations:
            continue
        try:
            key = Key(row)
        except KeyUnfitError:  # one of another kind is no reason to go without the others
            continue
        kid, algorithm = row.get("kid"), row.get("alg")
        found.append((kid if type(kid) is str else None, algorithm if type(algorithm) is str else None, key))
    return tuple(found)


def fetched(url: str, timeout_s: float) -> bytes:
    """What is at a URL. Raises OSError or ValueError."""
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from time import monotonic as clock
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    if parts.scheme != "https" and parts.hostname not in LOCAL:
        raise ValueError(f"{url} is not https")
    until_s = clock() + timeout_s
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(
            "GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers={"accept": "application/json"}
        )
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"it answers {answer.status}")
        data = b""
        while piece := answer.read1(65_536):
            data += piece
            if len(data) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES} bytes")
            if clock() > until_s:
                raise TimeoutError(f"it took more than {timeout_s:g} s")
        return data
    except HTTPException as error:
        raise ValueError(f"no HTTP: {type(error).__name__}: {error}") from None
    finally:
        connection.close()
