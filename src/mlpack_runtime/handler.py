"""AWS Lambda events to answers: API Gateway (both payload formats), function URLs, load balancers, and direct invocations.

`mlpack_runtime.handler.handler` is the function's handler. Importing this module loads the model, so that loading happens in the
init phase; a package that cannot load raises there, loudly, before any event is taken.

Promises: every HTTP-like event gets {statusCode, headers, body, isBase64Encoded} with the trace id in `x-trace-id`; a direct
invocation gets the answer itself, which carries the trace id; {"warmup": true} gets a short answer without running the model.
A direct invocation that fails by the package's own fault raises `InferenceError`: a direct answer has no status, and only a
function error is counted by Lambda, retried by asynchronous invocations and caught by Step Functions.
Will not: exceed Lambda's response size (413 instead, saying what to do), or log anything itself.
"""

import os

from mlpack_runtime import jsontext
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import Reply, fits_direct, open_service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class InferenceError(RuntimeError):
    """A direct invocation failed and its caller is not to blame. The message is the error answer: JSON with the trace id."""


SERVICE = open_service()
if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    SERVICE.model.warm()  # arenas and pages touched now are in the snapshot


def handler(event: "dict[str, Any]", context: "Any") -> "Any":
    """The Lambda function, for the stock runtime client. Never raises for a bad event; InferenceError as told above."""
    reply, envelope = _respond(event, context)
    return jsontext.loads(reply.body) if envelope is None else envelope


def render(event: "dict[str, Any]", context: "Any") -> bytes:
    """The same answer as JSON bytes, for our own loop: a direct answer is not parsed only to be written again."""
    reply, envelope = _respond(event, context)
    return reply.body if envelope is None else jsontext.dumps(envelope).encode()


def _respond(event: "Any", context: "Any") -> "tuple[Reply, dict[str, Any] | None]":
    request_id = getattr(context, "aws_request_id", "") or ""
    if type(event) is dict and event.get("warmup") is True:
        return SERVICE.warmup(), None
    if type(event) is not dict or not isinstance(event.get("requestContext"), dict):
        reply = SERVICE.value(event, request_id, fits_direct)
        if reply.status >= 500:
            raise InferenceError(reply.body.decode())
        return reply, None
    from mlpack_runtime import events  # nothing that a direct invocation's start should pay for

    asked = events.Asked(event)
    try:
        reply = SERVICE.http(asked.method, asked.path, asked.headers, events.body(event), request_id, asked.check)
    except RequestError as error:  # the body could not be read
        reply = SERVICE.refuse(error, request_id, asked.headers)
    return reply, events.envelope(event, reply)
