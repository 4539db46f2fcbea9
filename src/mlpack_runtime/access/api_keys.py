"""API keys by their digests: the package knows sha256 of each, and never a key.

Promises: a key is compared with every digest in a time that does not depend on where it differs; without a digest the package does
not start. Will not: store, make or log a key. Keys have to be random, of 128 bits or more: a digest does not protect a word.
"""

# ruff: noqa: PTH123 - importing pathlib costs more than all modules of this package together

import os
from _operator import _compare_digest  # `hmac.compare_digest`, without the imports of `hmac`

from mlpack_runtime import jsontext, model, telemetry
from mlpack_runtime.limits import RequestError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HEADER = "x-api-key"
_LONGEST = 4096
_SCHEMES = ("bearer ", "apikey ")
_HEX = frozenset("0123456789abcdef")


class ApiKeys:
    """`header`; and digests in lower-case hex, under the names of their tenants: in `digests`, in the variable `env`, or in `file`.

    A variable or a file has `tenant=digest` or a digest a line (or between commas), or a JSON object of them. Raises ModelError:
    where nobody could be let in, unless `others` are, as by the operator's key at a build's boot, where neither is there.
    """

    def __init__(self, settings: "Mapping[str, Any]", environ: "Mapping[str, str]", *, others: bool = False) -> None:
        self.header: str = settings.get("header", HEADER).lower()
        tenants = _tenants(settings.get("digests") or {}, "authorize.api_keys.digests")
        try:
            if settings.get("env"):
                tenants |= _parsed(_variable(settings["env"], environ), settings["env"])
            if settings.get("file"):
                tenants |= _parsed(_read(settings["file"]), settings["file"])
        except model.ModelError as error:
            if not others:
                raise
            telemetry.warn(f"only the operator's key lets in: {error}")
        if not tenants and not others:
            raise model.ModelError(
                "there is no digest of an API key, so that nobody could be let in: name one in serve.authorize.api_keys"
            )
        self._tenants = tenants

    def identify(self, _method: str, _path: str, headers: "Mapping[str, str]") -> "str | None":
        """The tenant whose key a request brings; None where it brings none. Raises RequestError: 401 for an unknown key."""
        given = headers.get(self.header, "").strip()
        if self.header == "authorization":
            scheme = next((each for each in _SCHEMES if given.lower().startswith(each)), None)
            given = given[len(scheme) :].strip() if scheme else ""
        if not given:
            return None
        digest = _sha256(given[:_LONGEST].encode("utf-8", "surrogatepass"))
        found = None
        for known, tenant in self._tenants.items():
            if _compare_digest(known, digest):
                found = tenant
        if found is None:
            raise RequestError("the API key is not known here", 401, "Unauthorized")
        return found


def _sha256(data: bytes) -> str:
    from hashlib import sha256

    return sha256(data).hexdigest()


def _tenants(told: "Any", where: str) -> "dict[str, str]":
    """Tenants by digest. Without a name, a tenant is called by the beginning of its digest."""
    pairs = told.items() if type(told) is dict else ((None, each) for each in told)
    tenants = {}
    for tenant, digest in pairs:
        text = str(digest).strip().lower().removeprefix("sha256:")
        if len(text) != 64 or not _HEX.issuperset(text):
            raise model.ModelError(
                f"{where}: {quoted(str(digest)[:20])} is no sha256 in hex (64 digits): never put a key itself there"
            )
        tenants[text] = tenant or text[:12]
    return tenants


def _variable(name: str, environ: "Mapping[str, str]") -> str:
    text = environ.get(name, "")
    if not text.strip():
        raise model.ModelError(f"{name} is not set: it has to hold the digests of the API keys that are let in")
    return text


def _parsed(text: str, where: str) -> "dict[str, str]":
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _tenants(jsontext.loads(text), where)
        except ValueError as error:
            raise model.ModelError(f"{where} is not JSON: {error}") from None
    tenants: dict[str, str] = {}
    for word in text.replace(",", " ").split():
        name, separator, digest = word.rpartition("=")
        tenants |= _tenants({name: digest} if separator else [digest], where)
    return tenants


def _read(name: str) -> str:
    """A file of the package (`app/keys.txt`), or one that is mounted."""
    places = (
        [name]
        if os.path.isabs(name)
        else [os.path.join(root, name) for root in (os.environ.get("LAMBDA_TASK_ROOT"), model.ROOT) if root]
    )
    for path in places:
        try:
            with open(path, encoding="utf-8") as stream:
                return stream.read(1 << 20).removeprefix("\ufeff")  # as editors of Windows begin a file
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise model.ModelError(f"{path}, the file of the API keys' digests, cannot be read: {error}") from None
    raise model.ModelError(f"{' or '.join(places)}, the file of the API keys' digests, is not there")
