"""Paths and methods to what answers them.

Promises: a path that is not there is 404, and a method that is not taken 405, each with what to send instead.
Will not: read a body, ask the model, or know hooks.
"""

from mlpack_runtime import protocol
from mlpack_runtime.limits import named, quoted
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mlpack_runtime.model import Described

_BEGINNINGS: "tuple[list[str], ...]" = ([], ["health"], ["models"], ["requests"], ["repository"])
MODEL_HEADER = "mlpack-model"
"""Which model a request is for, where a package has several and no path says it."""
_DEPTH = 64  # of a path that is looked at
VERSION = "0.1.0"
"""Of the server, which is mlpack's own: what `GET /v2` says. The model's is in its metadata."""


def find(loaded: "Described", method: str, path: str) -> "Callable[[], Any] | None":
    """A function that gives the JSON value at this path, or None for a request to the model. Raises RequestError: 404 or 405."""
    prefix, parts = split(path)
    if parts is not None:
        return _protocol(loaded, method, parts)
    if method == "POST":
        return None
    if prefix:
        raise _not_found(path)
    return _protocol(loaded, method, [])


def parts_of(path: str) -> "list[str]":
    """What stands between a path's slashes; empty ones and a query do not count."""
    return [part for part in path.partition("?")[0].split("/") if part]


def split(path: str) -> "tuple[list[str], list[str] | None]":
    """What stands before the protocol's own `/v2`, such as a stage, and what behind it; None without one.

    A stage or a base path may be called v2 itself: the first `v2` counts that has a path of the protocol behind it. `/v2/rerank` is
    none: it is the path of Cohere's second version, for a plain request.
    """
    parts = parts_of(path)
    if parts[-2:] == ["v2", "rerank"]:
        return parts, None
    places = [at for at, part in enumerate(parts[:_DEPTH]) if part == "v2"]
    at = next((at for at in places if parts[at + 1 : at + 2] in _BEGINNINGS), places[0] if places else None)
    return (parts, None) if at is None else (parts[:at], parts[at + 1 :])


def _protocol(loaded: "Described", method: str, parts: "list[str]") -> "Callable[[], Any] | None":
    path = "/v2/" + "/".join(parts)
    if parts[:1] == ["models"] and len(parts) > 1:
        if parts[1] != loaded.name:
            raise RequestError(f"no model {quoted(parts[1])} here; this package is {loaded.name!r}", 404, "NotFound")
        if parts[2:3] == ["versions"] and len(parts) > 3:
            if parts[3] != loaded.version:
                raise RequestError(
                    f"no version {quoted(parts[3])} of {loaded.name!r} here; this package is {loaded.version!r}",
                    404,
                    "NotFound",
                )
            del parts[2:4]
        if parts[2:] == ["infer"]:
            allow(method, "POST")
            return None
        known: dict[tuple[str, ...], Callable[[], Any]] = {
            (): lambda: protocol.metadata(loaded.name, loaded.version, loaded.inputs, loaded.outputs, loaded.text_inputs),
            ("ready",): lambda: {"name": loaded.name, "ready": True},
        }
        parts = parts[2:]
    else:
        known = {
            (): lambda: {"name": "mlpack", "version": VERSION, "extensions": ["binary_tensor_data", "classification"]},
            ("health", "live"): lambda: {"live": True},
            ("health", "ready"): lambda: {"ready": True},
        }
    described = known.get(tuple(parts))
    if described is None:
        raise _not_found(path)
    allow(method, "GET", "HEAD")
    return described


def _not_found(path: str) -> RequestError:
    message = f"nothing at {named(path)}; try /v2/health/ready, /v2/models/NAME, POST /v2/models/NAME/infer"
    return RequestError(message, 404, "NotFound")


def allow(method: str, *allowed: str) -> None:
    """Raise RequestError (405, with `Allow`) for any other method."""
    if method not in allowed:
        error = RequestError(f"{named(method)} is not allowed here; use {' or '.join(allowed)}", 405, "MethodNotAllowed")
        error.headers["allow"] = ", ".join(allowed)
        raise error
