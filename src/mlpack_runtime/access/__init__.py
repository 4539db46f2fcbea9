"""Who may ask, over HTTP: callers told apart by API key, token or the package's own hook; limits for each; and CORS.

Promises: nothing but what `public` names is answered without a caller; what is configured wrong keeps a package from starting; a
refusal is the protocol's error with 401, 403 or 429, and the header that says what to do. A browser's preflight is answered first,
for it carries no credentials, and every answer says which origins may read it.
Will not: look at direct invocations or at messages of a queue, which IAM lets in; or be loaded by a package without its settings.
"""

import os
from time import perf_counter_ns

from mlpack_runtime import routes
from mlpack_runtime.access.cors import Cors
from mlpack_runtime.limits import RequestError
from mlpack_runtime.model import ModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from mlpack_runtime.access.rates import Rates
    from mlpack_runtime.model import Described
    from mlpack_runtime.telemetry import Record

    Identify = Callable[[str, str, Mapping[str, str]], str | None]

_HEALTH = (["ping"], ["startupz"])
OPERATORS, OPERATORS_HEADER = "MLPACK_ACCESS_KEY_SHA256", "x-mlpack-key"
"""A variable with the digest of one more API key, for whoever operates the package: what boots it after a build, or tests it when
it is deployed. And the header of that key."""


class Access:
    """What model.json's `authorize` and `cors` say. Raises ModelError for what cannot be kept: then the package must not start.

    `hooks`: whether the package's own functions are here; a front door has none.
    """

    def __init__(self, described: "Described", environ: "Mapping[str, str] | None" = None, *, hooks: bool = True) -> None:
        settings: dict[str, Any] = described.settings.get("authorize") or {}
        environ = os.environ if environ is None else environ
        self.cors = Cors.of(described.settings)
        self._guarded = bool(settings)
        self._public = frozenset(settings.get("public", ("health",)))
        self._realm = described.name
        self._ways: list[tuple[str, Identify]] = []
        self._rates: Rates | None = None
        self.credentials: list[str] = []
        """Headers that callers are known by."""
        if self._guarded and environ.get(OPERATORS):
            from mlpack_runtime.access.api_keys import ApiKeys

            told = {OPERATORS: f"operator={environ[OPERATORS].strip()}"}
            operator = ApiKeys({"header": OPERATORS_HEADER, "env": OPERATORS}, told)
            self._ways.append(("", operator.identify))
        if "api_keys" in settings:
            from mlpack_runtime.access.api_keys import ApiKeys

            keys = ApiKeys(settings["api_keys"], environ, others=bool(self._ways))
            self.credentials.append(keys.header)
            self._ways.append((f'ApiKey realm="{self._realm}", header="{keys.header}"', keys.identify))
        if "jwt" in settings:
            from mlpack_runtime.access.tokens import Tokens

            self.credentials.append("authorization")
            self._ways.append((f'Bearer realm="{self._realm}"', Tokens(settings["jwt"]).identify))
        if "hook" in settings:
            self._ways.append((f'Custom realm="{self._realm}"', _hook(settings["hook"], described.settings, hooks=hooks)))
        if settings.get("limits"):
            from mlpack_runtime.access import rates

            self._rates = rates.Rates(settings["limits"])
        if self._guarded and not any(challenge for challenge, _ in self._ways):
            raise ModelError("model.json's authorize names no way to know a caller (api_keys, jwt or hook): rebuild the package")
        self.reads_early = self._guarded and "hook" not in settings
        """Whether a caller is known from a request's head alone, at little cost: then no body of a stranger is received."""

    def enter(self, record: "Record", method: str, path: str, headers: "Mapping[str, str]") -> "dict[str, str] | None":
        """Let a request in. The headers of an answer where there is nothing to compute: a preflight (204). Raises RequestError for
        who may not."""
        early = self.cors.preflight(method, headers) if self.cors is not None else None
        if early is not None or not self._guarded or self.is_public(method, path):
            return early
        began_ns = perf_counter_ns()
        try:
            tenant = self._identify(method, path, headers)
        finally:
            record.stages_ms["authorize"] = (perf_counter_ns() - began_ns) / 1e6
        if tenant:
            record.detail["tenant"] = tenant[:200]
        if self._rates is not None:
            self._rates.take(tenant)
        return None

    def mark(self, headers: "Mapping[str, str]", answered: "dict[str, str]") -> None:
        """Add to an answer's headers what lets a browser's page read it."""
        if self.cors is not None:
            self.cors.mark(headers, answered)

    def is_public(self, method: str, path: str) -> bool:
        """Whether a path is answered to anybody."""
        return not self._guarded or _sort(method, path) in self._public

    def check(self, method: str, path: str, headers: "Mapping[str, str]") -> None:
        """Raise RequestError for a request that would not be let in; without counting it."""
        if not self.is_public(method, path):
            self._identify(method, path, headers)

    def _identify(self, method: str, path: str, headers: "Mapping[str, str]") -> str:
        """The caller's tenant, "" for one without a name. Raises RequestError: 401 where no way knows a caller."""
        unknown: RequestError | None = None
        try:
            for _, identify in self._ways:
                try:
                    tenant = identify(method, path, headers)
                except RequestError as error:
                    if error.status != 401:
                        raise
                    unknown = error  # to this way: what is no API key may be a token, in the same header
                    continue
                if tenant is not None:
                    return tenant
            raise unknown or RequestError("this needs credentials: " + self._wanted(), 401, "Unauthorized")
        except RequestError as error:
            if error.status == 401:
                error.headers.setdefault("www-authenticate", ", ".join(challenge for challenge, _ in self._ways if challenge))
            error.stage = "authorize"
            raise

    def _wanted(self) -> str:
        forms = {
            "ApiKey": "an API key in the header that WWW-Authenticate names",
            "Bearer": "a token as `Authorization: Bearer ...`",
        }
        schemes = [challenge.partition(" ")[0] for challenge, _ in self._ways if challenge]
        return " or ".join(forms.get(scheme, "what this package's own check asks for") for scheme in schemes)


def _sort(method: str, path: str) -> str:
    """What a path is about: `health`, `metrics` or `metadata`; "" for requests to the model, and for results of them."""
    if method not in ("GET", "HEAD"):
        return ""
    _, parts = routes.split(path)
    if parts is None:
        plain = routes.parts_of(path)
        return "metrics" if plain == ["metrics"] else "health" if plain in _HEALTH else "metadata"
    if parts[:1] == ["requests"]:
        return ""
    ready = parts[:1] == ["models"] and parts[2:][-1:] == ["ready"]  # and not the metadata of a model of that name
    return "health" if parts[:1] == ["health"] or ready else "metadata"


def _hook(name: str, settings: "Mapping[str, Any]", *, hooks: bool) -> "Identify":
    """The package's own check: called with method, path and headers; it returns a tenant, or claims with one, or raises."""
    if not hooks:
        raise ModelError(
            f"authorize is the hook {name!r}, and a front door runs no hooks: let an authorizer of API Gateway do it, or build "
            "with api_keys or jwt"
        )
    from mlpack_runtime import hooks as own

    own.extend_path()
    own.preload(settings.get("preload", ()))
    check = own.find(name)

    def identify(method: str, path: str, headers: "Mapping[str, str]") -> "str | None":
        try:
            outcome = check(method, path, dict(headers))
        except RequestError:
            raise
        except PermissionError as error:
            raise RequestError(str(error) or "not allowed", 403, "Forbidden") from error
        except ValueError as error:
            raise RequestError(str(error) or "unknown credentials", 401, "Unauthorized") from error
        except Exception as error:  # whose words a stranger would read: they may name a database, or a user of it
            raise own.failure_of("authorize", f"failed with a {type(error).__name__}: the log says which") from error
        if outcome is False:
            raise RequestError("unknown credentials", 401, "Unauthorized")
        if outcome is not None and not isinstance(
            outcome, (bool, str, int, dict)
        ):  # an answer to be sent, numpy's False, a coroutine
            raise own.failure_of("authorize", f"returned a {type(outcome).__name__}, not a tenant, claims, None, True or False")
        if isinstance(outcome, dict):
            outcome = outcome.get("tenant", outcome.get("sub"))
        return "" if outcome is None or outcome is True else str(outcome)

    return identify
