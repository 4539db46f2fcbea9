"""The front door of a model whose workers are elsewhere: a Lambda function without engine, weights or hooks.

`mlpack_runtime.frontdoor.handler` is its handler, for API Gateway, function URLs, load balancers and direct invocations. It reads
model.json, refuses what a worker would refuse, gives each request a trace id and a deadline, and sends it to the queue or to a
worker's HTTP endpoint. Settings: `door.settings`.

Promises: an answer to every event, in the forms of a package's own handler: the result where it is there before the deadline and
the end of the function's own time, else a ticket to ask with at `GET /v2/requests/ID`; the same request id is sent once while its
ticket is known, and another request under it is refused. While queue or worker cannot be reached, 503 at once.
An event of another service is an InferenceError: the service can send to the worker's queue itself.
Will not: compute, run hooks (what a `preprocess` hook takes is passed on unseen, so long as it is a JSON object), or keep anything.
"""

import os

from mlpack_runtime import events, jsontext
from mlpack_runtime.door import exchange
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import Reply, fits_direct
from mlpack_runtime.triggers import sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class InferenceError(RuntimeError):
    """A direct invocation or an event failed. The message is the error answer: JSON with the trace id."""


DOOR = exchange.open_door(os.environ)


def _renew() -> None:
    """Another door after a restore: the clients, connections and times of this one were the snapshot's."""
    global DOOR
    from mlpack_runtime import snapshot

    snapshot.renew()
    DOOR = exchange.open_door(os.environ)


if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    from mlpack_runtime import snapshot

    snapshot.register(lambda: None, _renew)


def handler(event: "Any", context: "Any") -> "Any":
    """The Lambda function. Never raises for a bad event; InferenceError for a direct invocation's 5xx, as a package does."""
    reply, envelope = respond(DOOR, event, context)
    return jsontext.loads(reply.body) if envelope is None else envelope


def respond(door: "exchange.Door", event: "Any", context: "Any") -> "tuple[Reply, dict[str, Any] | None]":
    """The answer, and what goes around it for an event in HTTP's form."""
    left_ms = getattr(context, "get_remaining_time_in_millis", None)
    limit_s = door.now() + left_ms() / 1000 - door.settings.margin_s if left_ms is not None else float("inf")
    request_id = getattr(context, "aws_request_id", "") or os.urandom(16).hex()
    if type(event) is dict and event.get("warmup") is True:
        return door.exchange({}, request_id, limit_s).warmup(), None
    source = _source(door, event)
    if source is not None and source.name != sources.LATTICE:
        made = door.exchange({}, request_id, limit_s)
        raise InferenceError(made.refuse(RequestError(_refusal(source), 501, "UnsupportedEvent"), made.request_id).body.decode())
    if source is not None:
        event = sources.as_http(event)
    if not events.is_http(event):
        made = door.exchange({}, request_id, limit_s)
        reply = made.value(event, made.request_id, fits_direct)
        if reply.status >= 500:
            raise InferenceError(reply.body.decode())
        return reply, None
    asked = events.Asked(event)
    made = door.exchange(asked.headers, request_id, limit_s)
    try:
        reply = made.http(asked.method, asked.path, asked.headers, events.body(event), made.request_id, asked.check)
    except RequestError as error:  # the body could not be read
        reply = made.refuse(error, made.request_id, asked.headers)
    return reply, events.envelope(event, reply)


def _source(door: "exchange.Door", event: "Any") -> "sources.Source | None":
    """The other service that an event comes from; None for a request."""
    found = sources.recognize(event) if os.environ.get("MLPACK_EVENTS") != "direct" else None
    if found is not None and found.name in ("map", "batch") and door.described.settings.get("preprocess"):
        return None  # a hook takes what it likes
    return found


def _refusal(source: "sources.Source") -> str:
    """The sentence for an event of another service."""
    if source.name:
        source.instead = "let it send to the worker's queue itself: workers read what AWS puts around a request"
    return sources.refusal(source, "HTTP and direct requests")
