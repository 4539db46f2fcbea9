"""CORS: which pages of other origins may ask a package, and read what it answers.

Promises: a preflight is answered without a model and without credentials; every answer to an origin that is allowed says so, errors
too, and says that it depends on the origin where it does. Credentials and any origin never go together.

Source: the Fetch standard of WHATWG, 3.2 "CORS protocol".
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

METHODS = ("GET", "HEAD", "POST", "OPTIONS")
HEADERS = (
    "authorization", "content-encoding", "content-type", "idempotency-key", "inference-header-content-length", "mlpack-model",
    "prefer", "traceparent", "tracestate", "x-api-key", "x-deadline-ms", "x-request-id", "x-trace-id",
)  # fmt: skip
EXPOSED = (
    "inference-header-content-length", "location", "preference-applied", "retry-after", "www-authenticate",
    "x-prediction-cache", "x-request-id", "x-trace-id",
)  # fmt: skip
MAX_AGE_S = 600
_HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")


class Cors:
    """model.json's `cors`: `origins` (["*"]: any; `https://*.example.com`: any below), `methods`, `headers`, `max_age_s`,
    `credentials`."""

    def __init__(self, settings: "Mapping[str, Any]") -> None:
        self._any = "*" in settings["origins"]
        self._credentials = settings.get("credentials") is True and not self._any
        self._exact = frozenset(origin.lower() for origin in settings["origins"] if "*" not in origin)
        self._below = tuple(
            tuple(origin.lower().split("*", 1)) for origin in settings["origins"] if "*" in origin and origin != "*"
        )
        self._allowed = {
            "access-control-allow-methods": ", ".join(settings.get("methods") or METHODS),
            "access-control-allow-headers": ", ".join((*(settings.get("headers") or HEADERS), *settings.get("more_headers", ()))),
            "access-control-max-age": str(settings.get("max_age_s", MAX_AGE_S)),
        }

    @classmethod
    def of(cls, settings: "Mapping[str, Any]") -> "Cors | None":
        """That of a model.json; None where it has none."""
        return cls(settings["cors"]) if settings.get("cors") else None

    def preflight(self, method: str, headers: "Mapping[str, str]") -> "dict[str, str] | None":
        """The headers of the answer (204, without a body) to a browser's question whether a page may ask; None for every other
        request."""
        if method != "OPTIONS" or "origin" not in headers or "access-control-request-method" not in headers:
            return None
        answered = dict(self._allowed if self._admits(headers["origin"]) else {})
        self.mark(headers, answered)
        answered.pop("access-control-expose-headers", None)
        answered["vary"] = "origin, access-control-request-method, access-control-request-headers"
        return answered

    def mark(self, headers: "Mapping[str, str]", answered: "dict[str, str]") -> None:
        """Add to an answer's headers what lets the page that asked read it. Twice is as once."""
        origin = headers.get("origin", "")
        if not self._any and "vary" not in answered:
            answered["vary"] = "origin"
        elif not self._any and "origin" not in answered["vary"].lower():
            answered["vary"] += ", origin"
        if not origin or not self._admits(origin):
            return
        answered["access-control-allow-origin"] = "*" if self._any else origin
        answered["access-control-expose-headers"] = ", ".join(EXPOSED)
        if self._credentials:
            answered["access-control-allow-credentials"] = "true"

    def _admits(self, origin: str) -> bool:
        given = origin.lower()
        return self._any or given in self._exact or any(_is_below(given, start, end) for start, end in self._below)


def _is_below(origin: str, start: str, end: str) -> bool:
    """Whether an origin has something of a host's name between the two halves of a pattern."""
    inner = origin[len(start) : len(origin) - len(end)]
    return origin.startswith(start) and origin.endswith(end) and inner != "" and _HOST.issuperset(inner)
