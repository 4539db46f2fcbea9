"""AWS Lambda events to answers: HTTP (API Gateway, function URLs, load balancers, VPC Lattice), direct invocations, and what
`triggers` takes of other services.

`mlpack_runtime.handler.handler` is the function's handler. Importing this module loads the model, so that loading happens in the
init phase; a package that cannot load raises there, loudly, before any event is taken.

Promises: every HTTP-like event gets {statusCode, headers, body, isBase64Encoded} with the trace id in `x-trace-id`; a direct
invocation gets the answer itself, which carries the trace id; {"warmup": true} gets a short answer without running the model.
A direct invocation that fails by the package's own fault raises `InferenceError`: a direct answer has no status, and only a
function error is counted by Lambda, retried by asynchronous invocations and caught by Step Functions. So does an event of another
service that is not answered (`triggers.dispatch`).
Will not: exceed Lambda's response size (413 instead, saying what to do), or log anything itself.
"""

import os
import sys

if os.path.exists(f"{os.environ.get('LAMBDA_TASK_ROOT', '')}/model/weights.json"):
    __import__("mlpack_runtime.remote.start")  # by name: only packages with such weights have it
    sys.modules["mlpack_runtime.remote.start"].begin()  # before everything that takes time

from mlpack_runtime import jsontext
from mlpack_runtime.failure import Watched
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import Reply, fits_direct, open_service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mlpack_runtime.triggers.dispatch import Dispatch
    from mlpack_runtime.triggers.settings import Settings


class InferenceError(RuntimeError):
    """A direct invocation or an event failed. The message is the error answer: JSON with the trace id."""


_SETTINGS: "Settings | None" = None
with Watched():
    # What is wrong with them is told now; where none is set there is nothing to look at before an event comes.
    if any(os.environ.get(name) for name in ("MLPACK_EVENTS", "MLPACK_RAISE", "MLPACK_RESULTS", "MLPACK_ANSWER_BYTES")):
        from mlpack_runtime.triggers.settings import Settings

        _SETTINGS = Settings(os.environ)
    SERVICE = open_service()
FLUSH_S = 1.0
"""The most that sending the log of predictions may take of an invocation."""
_DISPATCH: "list[Dispatch]" = []
_MARKS = frozenset((
    "CodePipeline.job", "Details", "Items", "LifecycleEventHookExecutionId", "Records", "ResponseURL", "SecretId", "agent",
    "alarmData", "authorizationToken", "awslogs", "batch", "bot", "clickType", "datasetRecords", "detail-type", "deviceEvent",
    "directive", "eventSource", "fieldName", "flowDirection", "getObjectContext", "header", "info", "invokingEvent",
    "isFinalInvokeForWindow", "labelingJobArn", "methodArn", "raw_path", "records", "operation", "request", "responseContext",
    "routeArn", "serverId", "sessionState", "tasks", "transformId", "triggerSource", "widgetContext",
))  # fmt: skip
"""Keys of which an event of another service has one (`triggers.sources` knows them): other requests do not pay for its import."""
if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    from mlpack_runtime import snapshot, starting

    starting.AFTER_RESTORE.append(_DISPATCH.clear)  # it holds clients of services
    snapshot.prepare(SERVICE)


def handler(event: "dict[str, Any]", context: "Any") -> "Any":
    """The Lambda function, for the stock runtime client. Never raises for a bad event; InferenceError as told above."""
    try:
        reply, envelope = _respond(event, context)
    finally:
        flush()  # the stock client has nothing that runs between an answer and the freeze
    return jsontext.loads(reply.body) if envelope is None else envelope


def flush() -> None:
    """Send what is logged of predictions, before the function is frozen."""
    if (logs := sys.modules.get("mlpack_runtime.around.prediction_log")) is not None:  # packages without one have no such module
        logs.flush(FLUSH_S)


def render(event: "dict[str, Any]", context: "Any") -> bytes:
    """The same answer as JSON bytes, for our own loop: a direct answer is not parsed only to be written again."""
    reply, envelope = _respond(event, context)
    return reply.body if envelope is None else jsontext.dumps(envelope).encode()


def _respond(event: "Any", context: "Any") -> "tuple[Reply, dict[str, Any] | None]":
    request_id = getattr(context, "aws_request_id", "") or ""
    if type(event) is dict and event.get("warmup") is True:
        return SERVICE.warmup(), None
    if _is_marked(event):
        event, reply = _triggered(event, request_id, context)
        if reply is not None:
            return reply, None
    if type(event) is not dict or not isinstance(event.get("requestContext"), dict):
        reply = SERVICE.value(event, request_id, _check)
        if reply.status >= 500 or (reply.status >= 400 and _SETTINGS is not None and _SETTINGS.raises_refused):
            raise InferenceError(reply.body.decode())
        return reply, None
    from mlpack_runtime import events  # nothing that a direct invocation's start should pay for

    asked = events.Asked(event)
    try:
        reply = SERVICE.http(asked.method, asked.path, asked.headers, events.body(event), request_id, asked.check)
    except RequestError as error:  # the body could not be read
        reply = SERVICE.refuse(error, request_id, asked.headers)
    return reply, events.envelope(event, reply)


def _check(reply: Reply) -> None:
    if _SETTINGS is None or _SETTINGS.answer_bytes is None:
        fits_direct(reply)
    else:
        fits_direct(reply, _SETTINGS.answer_bytes)


def _is_marked(event: "Any") -> bool:
    """Whether an event may be another service's: a look that costs a request nothing."""
    if type(event) is not dict:
        return type(event) is list
    context = event.get("requestContext")
    return not _MARKS.isdisjoint(event) or (type(context) is dict and "connectionId" in context)


def _triggered(event: "Any", request_id: str, context: "Any") -> "tuple[Any, Reply | None]":
    """The answer to an event of another service; None and the event, perhaps in another form, where it is a request after all."""
    from mlpack_runtime.triggers import sources

    source = None if _SETTINGS is not None and _SETTINGS.direct else sources.recognize(event)
    if source is None:
        return event, None
    if source.name == sources.LATTICE:
        return sources.as_http(event), None
    from mlpack_runtime.triggers import dispatch, settings  # nothing that a request which only looks like an event should pay for

    if not _DISPATCH:
        _DISPATCH.append(dispatch.Dispatch(SERVICE, _SETTINGS or settings.Settings({})))
    if not _DISPATCH[0].takes(source):
        return event, None
    left_ms = getattr(context, "get_remaining_time_in_millis", None)
    try:
        return event, _DISPATCH[0].answer(source, event, request_id, left_ms() / 1000 if left_ms is not None else float("inf"))
    except dispatch.FailedError as error:
        raise InferenceError(str(error)) from None
