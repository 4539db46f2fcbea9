"""The keys of `serve.authorize` and `serve.cors`: who may ask a package over HTTP, and which origins' pages.

Promises: what would let anybody in by mistake is refused here: a key in the place of its digest, tokens for nobody in particular,
keys fetched without TLS, credentials for any origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema  # noqa: TID253

from mlpack.core.files import bounded
from mlpack.core.yaml_positions import Place
from mlpack.recipe.units import Duration, Keys, Text

_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
Header = Annotated[str, Field(pattern=_HEADER, max_length=100)]
_TEXTS = WithJsonSchema(
    {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
)


def _texts(value: Any) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()
    if not values or not all(isinstance(each, str) and each for each in values):
        raise ValueError("must be a string, or a list of strings")
    return values


def _claims(value: Any) -> tuple[str, ...]:
    """A claim's values: texts, whole numbers, true and false, each as JSON writes it."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return _texts(
        [str(each).lower() if isinstance(each, bool) else str(each) if isinstance(each, int) else each for each in values]
    )


def _digests(value: Any) -> dict[str, str]:
    """Digests by tenant; one without a tenant is called by the beginning of its digest, as the runtime calls it."""
    if not isinstance(value, list | tuple | dict) or not value:
        raise ValueError("must be a list of digests, or tenants with a digest each")
    pairs = list(value.items()) if isinstance(value, dict) else [(None, each) for each in value]
    read: dict[str, str] = {}
    for tenant, given in pairs:
        digest = str(given).strip().lower().removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError(
                'a digest is the sha256 of a key in hex, 64 digits, and never the key itself: printf %s "$KEY" | sha256sum'
            )
        read[tenant or digest[:12]] = digest
    return read


Texts = Annotated[tuple[str, ...], PlainValidator(_texts), _TEXTS]
Claims = Annotated[tuple[str, ...], PlainValidator(_claims), WithJsonSchema({"type": ["string", "integer", "boolean", "array"]})]
Digests = Annotated[
    dict[str, str],
    PlainValidator(_digests),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
            ]
        }
    ),
]


class ApiKeyKeys(Keys):
    """API keys, known by their sha256 alone."""

    header: Header = Field(default="x-api-key", description="the header that has the key; `authorization`: as `Bearer KEY`")
    digests: Digests | None = Field(
        default=None, description="sha256 of each key in hex: a list, or a mapping by tenant (`{team-a: 9f86...}`)"
    )
    env: Text | None = Field(
        default=None,
        description="an environment variable with more of them, separated by spaces or commas: `tenant=digest`, or a digest",
    )
    file: Text | None = Field(
        default=None, description="a file with more: the build reads one beside the recipe; an absolute path is read at each start"
    )


class JwtKeys(Keys):
    """JSON Web Tokens, signed by keys that their issuer shows."""

    jwks: Text = Field(description="the https URL of the issuer's JSON Web Key Set")
    issuer: Texts = Field(description="what `iss` has to be, or a list")
    audience: Texts | None = Field(default=None, description="what `aud` has to hold, or a list of which one is enough")
    algorithms: Annotated[tuple[Literal["RS256", "RS384", "RS512", "ES256", "ES384"], ...], Field(min_length=1)] = Field(
        default=("RS256", "ES256"), description="the algorithms that are taken"
    )
    leeway: Duration | None = Field(default=None, description="how far clocks may differ [60s]")
    tenant: Text = Field(default="sub", description="the claim that names the tenant, for limits and the log")
    require: dict[Text, Claims] = Field(
        default_factory=dict, description="claims that a token must have, each with a value or values: `{scope: predict}`; else 403"
    )
    max_age: Duration | None = Field(default=None, description="after this time the keys are fetched again [10min]")
    stale: Duration | None = Field(
        default=None, description="how long keys count beyond that where they cannot be fetched [1440min]"
    )


class RateKeys(Keys):
    """Limits of a tenant."""

    per_second: Annotated[float, Field(gt=0)] | None = Field(default=None, description="requests a second")
    per_day: Annotated[int, Field(ge=1)] | None = Field(default=None, description="requests a day (UTC)")
    burst: Annotated[int, Field(ge=1)] | None = Field(default=None, description="requests at once [per_second, at least 1]")


class LimitKeys(RateKeys):
    """Limits of each tenant, counted by each instance for itself."""

    tenants: dict[Text, RateKeys] = Field(default_factory=dict, description="other limits for some, by name")


class AuthorizeKeys(Keys):
    """Who may ask over HTTP. `authorize: module:function` is short for its `hook`."""

    api_keys: ApiKeyKeys | None = Field(default=None, description="API keys by their digests")
    jwt: JwtKeys | None = Field(default=None, description="JSON Web Tokens by their issuer's keys; with `api_keys`, either lets in")
    hook: Text | None = Field(
        default=None,
        description="`module:function`, called with method, path and headers: it returns a tenant, claims or None, or raises "
        "ValueError (401) or PermissionError (403)",
    )
    limits: LimitKeys | None = Field(default=None, description="how much each tenant may ask; else 429")
    public: tuple[Literal["health", "metadata", "metrics"], ...] = Field(
        default=("health",), description="what anybody may ask: health, metadata, metrics"
    )


def _authorize(value: Any) -> Any:
    """A hook alone as the keys that it is short for. Lists become tuples: after this, pydantic takes values for Python's."""
    if isinstance(value, dict):
        return {key: _authorize(item) if isinstance(item, dict | list) else item for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else {"hook": value} if isinstance(value, str) else value


Authorize = Annotated[AuthorizeKeys, BeforeValidator(_authorize)]


class CorsKeys(Keys):
    """Which pages of other origins may ask, and read the answers."""

    origins: Texts = Field(description='`https://app.example.com`, `https://*.example.com` (any below), or "*" for any')
    methods: Annotated[tuple[Literal["GET", "HEAD", "POST", "OPTIONS"], ...], Field(min_length=1)] | None = Field(
        default=None, description="methods that pages may use [all that a package takes]"
    )
    headers: tuple[Header, ...] | None = Field(
        default=None, description="headers that pages may send [all that a package reads]; a key's own header is added"
    )
    max_age: Duration | None = Field(default=None, description="how long a browser remembers it [10min]")
    credentials: bool = Field(default=False, description="whether cookies and the like may come along; not with any origin")


def problems(keys: Any, root: Path) -> Iterator[tuple[Place, str]]:
    """What contradicts itself in `authorize` and `cors`: a place below `serve`, and a sentence."""
    if keys.authorize is not None:
        yield from ((("authorize", *place), text) for place, text in _of_authorize(keys.authorize, root))
    if keys.cors is not None:
        yield from ((("cors", *place), text) for place, text in _of_cors(keys.cors))


def authorize_settings(keys: AuthorizeKeys, root: Path) -> dict[str, Any]:
    """What model.json has as `authorize`."""
    made: dict[str, Any] = {"public": sorted(set(keys.public))}
    if keys.hook is not None:
        made["hook"] = keys.hook
    if keys.api_keys is not None:
        told = keys.api_keys
        made["api_keys"] = {"header": told.header.lower(), **({"env": told.env} if told.env else {})}
        digests = dict(told.digests or {})
        if told.file is not None and told.file.startswith("/"):
            made["api_keys"]["file"] = told.file
        elif told.file is not None:
            digests |= _from_file(root / told.file)
        if digests:
            made["api_keys"]["digests"] = digests
    if keys.jwt is not None:
        told_jwt = keys.jwt
        made["jwt"] = {
            "jwks": told_jwt.jwks,
            "issuer": list(told_jwt.issuer),
            **({"audience": list(told_jwt.audience)} if told_jwt.audience else {}),
            "algorithms": list(told_jwt.algorithms),
            "tenant": told_jwt.tenant,
            **({"require": {name: list(values) for name, values in told_jwt.require.items()}} if told_jwt.require else {}),
            **{f"{key}_s": ms / 1e3 for key in ("leeway", "max_age", "stale") if (ms := getattr(told_jwt, key)) is not None},
        }
    if keys.limits is not None:
        made["limits"] = keys.limits.model_dump(exclude_none=True, exclude_defaults=True)
    return made


def cors_settings(keys: CorsKeys, authorize: dict[str, Any] | None) -> dict[str, Any]:
    """What model.json has as `cors`. `authorize`: its own `authorize`, whose key's header pages may send."""
    made: dict[str, Any] = {"origins": list(keys.origins)}
    if keys.max_age is not None:
        made["max_age_s"] = int(keys.max_age / 1e3)
    if keys.methods is not None:
        made["methods"] = list(keys.methods)
    own = (authorize or {}).get("api_keys", {}).get("header")
    if keys.headers is not None:
        made["headers"] = sorted({*(each.lower() for each in keys.headers), *([own] if own else [])})
    elif own not in (None, "x-api-key", "authorization"):
        made["more_headers"] = [own]
    return made | ({"credentials": True} if keys.credentials else {})


def _of_authorize(keys: AuthorizeKeys, root: Path) -> Iterator[tuple[Place, str]]:
    ways = [name for name in ("api_keys", "jwt", "hook") if getattr(keys, name) is not None]
    if not ways:
        yield (), "lets nobody in: it needs api_keys, jwt or hook"
    if "hook" in ways and len(ways) > 1:
        yield ("hook",), f"decides alone: leave out either the hook or {' and '.join(ways[:-1])}"
    if keys.api_keys is not None:
        yield from ((("api_keys", *place), text) for place, text in _of_api_keys(keys.api_keys, root))
    if keys.jwt is not None:
        if not re.match(r"https://[^/]", keys.jwt.jwks) and not _is_local(keys.jwt.jwks):
            yield ("jwt", "jwks"), f"{keys.jwt.jwks} is no https URL: whoever changes the answer on its way could sign tokens"
        if not keys.jwt.audience and not keys.jwt.require:
            how = "say audience, or require (`{client_id: ...}` where tokens have no aud, as Cognito's access tokens)"
            yield ("jwt",), f"takes a token that its issuer made for any service: {how}"
    if keys.limits is not None:
        for name, rates in {"": keys.limits, **keys.limits.tenants}.items():
            if rates.burst is not None and rates.per_second is None:
                yield ("limits", *(("tenants", name) if name else ()), "burst"), "is of per_second, and there is none"
        if keys.limits.per_second is None and keys.limits.per_day is None and not keys.limits.tenants:
            yield ("limits",), "limits nothing: say per_second or per_day"


def _of_api_keys(keys: ApiKeyKeys, root: Path) -> Iterator[tuple[Place, str]]:
    if keys.digests is None and keys.env is None and keys.file is None:
        yield (), "knows no key: say digests, env or file"
    if keys.env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", keys.env):
        yield ("env",), f"{keys.env!r} is no name of a variable"
    if keys.file is not None and not keys.file.startswith("/"):
        try:
            _from_file(root / keys.file)
        except OSError as error:
            yield ("file",), f"{root / keys.file} cannot be read: {error.strerror or error}"
        except ValueError as error:
            yield ("file",), f"{keys.file}: {error}"


def _from_file(path: Path) -> dict[str, str]:
    """The digests in a file beside the recipe, in the forms that the runtime reads. ValueError, OSError."""
    text = bounded.read(path).decode("utf-8-sig")
    if text.lstrip()[:1] in ("{", "["):
        return _digests(bounded.load_json(text))
    found: dict[str, str] = {}
    for word in text.replace(",", " ").split():
        tenant, separator, digest = word.rpartition("=")
        found |= _digests({tenant: digest} if separator else [digest])
    if not found:
        raise ValueError("has no digest")
    return found


def _is_local(url: str) -> bool:
    return any(re.match(rf"http://{re.escape(host)}(:\d+)?/", url) for host in _LOCAL)


def _of_cors(keys: CorsKeys) -> Iterator[tuple[Place, str]]:
    for origin in keys.origins:
        if origin == "*":
            if len(keys.origins) > 1:
                yield ("origins",), '"*" is any origin: leave the others out'
            if keys.credentials:
                yield (
                    ("credentials",),
                    "with any origin would let every page on the web ask in its visitor's name: list the origins",
                )
        elif not re.fullmatch(r"https?://(\*\.)?[A-Za-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?", origin):
            form = "scheme, host and perhaps port, without a path, such as https://app.example.com or https://*.example.com"
            yield ("origins",), f"{origin!r} is no origin: {form}"
        elif (suffix := _open_suffix(origin)) is not None:
            why = "anybody may have a name below it, and its pages could then ask: name your own domain, such as"
            yield ("origins",), f"{origin!r} is every page below {suffix}: {why} https://*.example.{suffix}"


_PRIVATE = ("corp", "home", "internal", "local", "localhost", "test")
"""Names that are below no registry: RFC 6761 and 6762, ICANN's `.internal`, and those that it never gives away."""
_SECOND = ("ac", "co", "com", "edu", "gob", "gouv", "gov", "govt", "mil", "ne", "net", "or", "org")
"""What registries of countries sell names below (`co.uk`): always behind a label of two letters."""
_SHARED = (
    "amazonaws.com", "appspot.com", "azurestaticapps.net", "azurewebsites.net", "blogspot.com", "cloudfront.net", "firebaseapp.com",
    "fly.dev", "github.io", "gitlab.io", "glitch.me", "herokuapp.com", "hf.space", "netlify.app", "ngrok-free.app", "ngrok.io",
    "on.aws", "onrender.com", "pages.dev", "r2.dev", "run.app", "streamlit.app", "surge.sh", "vercel.app",
    "web.app", "windows.net", "workers.dev",
)  # fmt: skip
"""Where anybody gets a name for nothing, of the private part of the Public Suffix List (publicsuffix.org)."""


def _open_suffix(origin: str) -> str | None:
    """The suffix below which an origin with a star admits names of strangers; None where it does not."""
    _, star, rest = origin.lower().partition("*.")
    if not star:
        return None
    suffix = re.sub(r":\d+$", "", rest).strip(".")
    labels = suffix.split(".")
    if len(labels) == 1:
        return None if suffix in _PRIVATE else suffix
    of_country = len(labels) == 2 and len(labels[1]) == 2 and labels[0] in _SECOND
    return suffix if of_country or suffix in _SHARED else None
