"""JSON Web Tokens: signed by a key of a known set, for this package, of a known issuer, and in their time.

Promises: a token counts only where its algorithm is one of those that the package names (`none` and HMAC never are), its signature
is that of a key of its issuer's set, and `exp`, `nbf`, `iss` and `aud` hold; of a header with `crit` nothing counts. What has been
verified is remembered for some minutes by its digest, at most until it expires. A token that gives too few rights is 403.
Will not: make tokens, decrypt them, or trust a key that comes with one.

Sources: RFC 7519, RFC 7515, RFC 8725 (best practices), RFC 6750 (WWW-Authenticate).
"""

from _thread import allocate_lock
from time import time

from mlpack_runtime import jsontext
from mlpack_runtime.access.key_sets import KeySet
from mlpack_runtime.access.signatures import ALGORITHMS, unpadded, verify
from mlpack_runtime.limits import RequestError, quoted
from mlpack_runtime.model import ModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

LEEWAY_S = 60.0
_LONGEST = 16_384
_REMEMBERED_S = 300.0
_REMEMBERED_MOST = 1024
_FORGED_S = 5.0
"""How long a wrong signature is remembered: it takes milliseconds to find out (14 ms for ES384), and a server looks twice."""
_MOST_RSA, _MOST_CURVE = 8, 2
"""How many keys are tried for a token that names none: what is forged costs the time of them all, 0.2 ms each for RSA, 5 for ES256
and 14 for ES384. Two are what an issuer shows while it goes over to another key."""
_WRONG = "the token's signature is wrong"
_SPACED = ("scope", "scp")


class Tokens:
    """`jwks`, `issuer`, `audience`, `algorithms`, `leeway_s`, `tenant` (the claim that names one) and `require` (claims and what
    they have to be or hold). Raises ModelError."""

    def __init__(self, settings: "Mapping[str, Any]", keys: "KeySet | None" = None, now: "Callable[[], float]" = time) -> None:
        self._algorithms = tuple(settings.get("algorithms") or ("RS256", "ES256"))
        if strange := [name for name in self._algorithms if name not in ALGORITHMS]:
            raise ModelError(f"authorize.jwt.algorithms: {strange[0]!r} is none of {', '.join(ALGORITHMS)}")
        self._issuers = _list(settings.get("issuer"))
        self._audiences = _list(settings.get("audience"))
        self._leeway_s = float(settings.get("leeway_s", LEEWAY_S))
        self._tenant: str = settings.get("tenant", "sub")
        self._require: Mapping[str, Any] = settings.get("require") or {}
        self._keys = keys or KeySet(settings)
        self._now = now
        self._lock = allocate_lock()
        self._remembered: dict[bytes, tuple[float, dict[str, Any]]] = {}
        self._forged: dict[bytes, float] = {}

    def identify(self, _method: str, _path: str, headers: "Mapping[str, str]") -> "str | None":
        """The tenant of a request's token; None where it brings none. Raises RequestError: 401, 403, 503."""
        scheme, _, token = headers.get("authorization", "").strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        claims = self._claims(token.strip())
        self._check_rights(claims)
        tenant = claims.get(self._tenant)
        return str(tenant) if type(tenant) in (str, int) else ""

    def _claims(self, token: str) -> "dict[str, Any]":
        """The claims of a valid token."""
        from hashlib import sha256

        if len(token) > _LONGEST:
            raise _refused(f"the token has {len(token)} characters; {_LONGEST} are read")
        digest, now_s = sha256(token.encode("utf-8", "surrogatepass")).digest(), self._now()
        known = self._remembered.get(digest)
        if known is not None and known[0] > now_s:
            return known[1]
        if self._forged.get(digest, 0.0) > now_s:
            raise _refused(_WRONG)
        claims = self._verified(token)
        if claims is None:
            with self._lock:
                if len(self._forged) >= _REMEMBERED_MOST:
                    self._forged.clear()
                self._forged[digest] = now_s + _FORGED_S
            raise _refused(_WRONG)
        expires_s = self._check_times(claims)
        self._check_parties(claims)
        with self._lock:
            if len(self._remembered) >= _REMEMBERED_MOST:
                self._remembered.clear()
            self._remembered[digest] = (min(expires_s, now_s + _REMEMBERED_S), claims)
        return claims

    def _verified(self, token: str) -> "dict[str, Any] | None":
        """The claims, where the signature is that of a known key; None where it is wrong."""
        parts = token.split(".")
        if len(parts) != 3 or not all(parts):
            raise _refused("the token is no signed JSON Web Token: three parts with points between them")
        try:
            header, claims, signature = _object(parts[0]), _object(parts[1]), unpadded(parts[2])
        except ValueError as error:
            raise _refused(f"the token cannot be read: {error}") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if type(algorithm) is not str or algorithm not in self._algorithms:
            raise _refused(f"the token's algorithm is {quoted(algorithm)}; {' and '.join(self._algorithms)} are taken")
        if "crit" in header:
            raise _refused("the token's header has `crit`, and no such extension is known here")
        if kid is not None and type(kid) is not str:
            raise _refused("the token's key id is no text")
        signed = f"{parts[0]}.{parts[1]}".encode()
        keys = self._keys.keys(kid, algorithm)
        if not keys:
            raise _refused(f"the token is signed by a key that its issuer does not show: {quoted(kid)}")
        if len(keys) > (most := _MOST_RSA if algorithm.startswith("RS") else _MOST_CURVE):
            why = f"its issuer shows {len(keys)} that may have signed it, and {most} are tried for {algorithm}: name it in `kid`"
            raise _refused(f"the token does not say by which key it is signed: {why}")
        return claims if any(verify(key, algorithm, signed, signature) for key in keys) else None

    def _check_times(self, claims: "Mapping[str, Any]") -> float:
        """Refuse a token before or after its time; until when it counts otherwise."""
        now_s, times = self._now(), {}
        for name in ("exp", "nbf"):
            value = claims.get(name)
            if value is not None and (type(value) not in (int, float) or not -1e12 < value < 1e12):
                raise _refused(f"the token's {name} is no time")
            times[name] = value
        if times["exp"] is None:
            raise _refused("the token never expires: it has no exp")
        if now_s >= times["exp"] + self._leeway_s:
            raise _refused("the token has expired")
        if times["nbf"] is not None and now_s < times["nbf"] - self._leeway_s:
            raise _refused("the token is not valid yet")
        return float(times["exp"]) + self._leeway_s

    def _check_parties(self, claims: "Mapping[str, Any]") -> None:
        if self._issuers and claims.get("iss") not in self._issuers:
            raise _refused(f"the token's issuer is {quoted(claims.get('iss'))}, which is not known here")
        if self._audiences:
            given = claims.get("aud")
            audiences = given if type(given) is list else [given]
            if not any(type(each) is str and each in self._audiences for each in audiences):
                raise _refused("the token is for another audience")

    def _check_rights(self, claims: "Mapping[str, Any]") -> None:
        for name, wanted in self._require.items():
            given = claims.get(name)
            holds = given.split() if name in _SPACED and type(given) is str else given if type(given) is list else [given]
            told = [_as_text(value) for value in holds]
            if not any(value in told for value in (wanted if type(wanted) in (list, tuple) else [wanted])):
                error = RequestError(f"the token's {name} does not allow this", 403, "Forbidden")
                error.headers["www-authenticate"] = 'Bearer error="insufficient_scope"'
                raise error


def _refused(why: str) -> RequestError:
    error = RequestError(why, 401, "Unauthorized")
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\' else "'" for letter in why)
    error.headers["www-authenticate"] = f'Bearer error="invalid_token", error_description="{plain}"'
    return error


def _as_text(value: object) -> object:
    """A claim's value as a recipe writes it: `true`, `7`."""
    return {True: "true", False: "false"}[value] if type(value) is bool else str(value) if type(value) is int else value


def _object(part: str) -> "dict[str, Any]":
    value = jsontext.loads(unpadded(part))
    if type(value) is not dict:
        raise ValueError("a part of it is no JSON object")
    return value


def _list(told: "Any") -> "tuple[str, ...]":
    return () if told is None else (told,) if type(told) is str else tuple(told)
