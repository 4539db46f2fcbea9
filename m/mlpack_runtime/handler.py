"""AWS Lambda events to answers: API Gateway (both payload formats), function URLs, load balancers, and direct invocations.

`mlpack_runtime.handler.handler` is the function's handler. Importing this module loads the model, so that loading happens in the
init phase; a package that cannot load raises there, loudly, before any event is taken.

Promises: every HTTP-like event gets {statusCode, headers, body, isBase64Encoded} with the trace id in `x-trace-id`; a direct
invocation gets the answer itself; {"warmup": true} gets a short answer without running the model.
Will not: exceed Lambda's response size (413 instead, saying what to do), or log anything itself.

Source: AWS Lambda developer guide, payload formats 1.0 and 2.0, and "Using a Lambda function with an Application Load Balancer".
"""

import os

from mlpack_runtime import jsontext
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import Reply, open_service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RESPONSE_LIMIT_BYTES = 6 * 1024 * 1024  # AWS: 6 MB for a synchronous answer, after base64
_ENVELOPE_BYTES = 2048  # room for the keys and headers around the body

SERVICE = open_service()
if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    SERVICE.model.warm()  # arenas and pages touched now are in the snapshot


def handler(event: "dict[str, Any]", context: "Any") -> "Any":
    """The Lambda function, for the stock runtime client. Never raises for a bad event."""
    reply, envelope = _respond(event, context)
    return jsontext.loads(reply.body) if envelope is None else envelope


def render(event: "dict[str, Any]", context: "Any") -> bytes:
    """The same answer as JSON bytes, for our own loop: a direct answer is not parsed only to be written again."""
    reply, envelope = _respond(event, context)
    return reply.body if envelope is None else jsontext.dumps(envelope).encode()


def _respond(event: "Any", context: "Any") -> "tuple[Reply, dict[str, Any] | None]":
    request_id = getattr(context, "aws_request_id", "") or ""
    if type(event) is dict and event.get("warmup") is True:
        body = {"warm": True, "model": SERVICE.model.name, "version": SERVICE.model.version}
        return Reply(200, jsontext.dumps(body).encode(), {}), None
    if type(event) is not dict or not isinstance(event.get("requestContext"), dict):
        return _limited(SERVICE.value(event, request_id), {}, request_id), None
    headers = _headers(event)
    http = event["requestContext"].get("http")
    described = http if isinstance(http, dict) else {}
    method = str(described.get("method") or event.get("httpMethod") or "POST").upper()
    path = str(event.get("rawPath") or event.get("path") or "/")
    try:
        reply = SERVICE.http(method, path, headers, _body(event), request_id)
    except RequestError as error:  # the body could not be read
        reply = SERVICE.refuse(error, request_id, headers)
    reply = _limited(reply, headers, request_id)
    return reply, _envelope(event, reply)


def _headers(event: "dict[str, Any]") -> "dict[str, str]":
    found: dict[str, str] = {}
    many = event.get("multiValueHeaders")
    if isinstance(many, dict):
        found.update((str(name).lower(), str(values[-1])) for name, values in many.items() if isinstance(values, list) and values)
    single = event.get("headers")
    if isinstance(single, dict):
        found.update((str(name).lower(), str(value)) for name, value in single.items() if value is not None)
    return found


def _body(event: "dict[str, Any]") -> bytes:
    body = event.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise RequestError(f"the event's body is a {type(body).__name__}, not a string")
    if not event.get("isBase64Encoded"):
        return body.encode("utf-8", "surrogatepass")
    from binascii import Error, a2b_base64

    try:
        return a2b_base64(body, strict_mode=True)
    except (Error, ValueError) as error:
        raise RequestError(f"the event says isBase64Encoded, but its body is not base64: {error}") from None


def _limited(reply: Reply, headers: "dict[str, str]", request_id: str) -> Reply:
    size = len(reply.body) * 4 // 3 if reply.binary else len(reply.body)
    if size + _ENVELOPE_BYTES <= RESPONSE_LIMIT_BYTES:
        return reply
    message = (
        f"the answer has {size} bytes; Lambda passes on {RESPONSE_LIMIT_BYTES}. Send fewer samples a call, ask for fewer outputs,"
        ' or ask for binary ones ("parameters": {"binary_data_output": true})'
    )
    return SERVICE.refuse(RequestError(message, 413, "PayloadTooLarge"), request_id, headers)


def _envelope(event: "dict[str, Any]", reply: Reply) -> "dict[str, Any]":
    if reply.binary:
        from binascii import b2a_base64

        body = b2a_base64(reply.body, newline=False).decode("ascii")
    else:
        body = reply.body.decode()
    answer: dict[str, Any] = {"statusCode": reply.status, "body": body, "isBase64Encoded": reply.binary}
    if "elb" in event["requestContext"] and event.get("headers") is None:  # a target group with multi-value headers on
        answer["multiValueHeaders"] = {name: [value] for name, value in reply.headers.items()}
    else:
        answer["headers"] = reply.headers
    return answer
