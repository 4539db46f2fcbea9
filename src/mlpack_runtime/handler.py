"""AWS Lambda events to answers: API Gateway (both payload formats), function URLs, load balancers, and direct invocations.

`mlpack_runtime.handler.handler` is the function's handler. Importing this module loads the model, so that loading happens in the
init phase; a package that cannot load raises there, loudly, before any event is taken.

Promises: every HTTP-like event gets {statusCode, headers, body, isBase64Encoded} with the trace id in `x-trace-id`; a direct
invocation gets the answer itself, which carries the trace id; {"warmup": true} gets a short answer without running the model.
A direct invocation that fails by the package's own fault raises `InferenceError`: a direct answer has no status, and only a
function error is counted by Lambda, retried by asynchronous invocations and caught by Step Functions.
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
BALANCER_LIMIT_BYTES = 1024 * 1024  # AWS: "the maximum size of the response JSON" to a load balancer "is 1 MB"
_ENVELOPE_BYTES = 2048  # room for the keys and headers around the body


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
        reply = SERVICE.value(event, request_id, _fits_direct)
        if reply.status >= 500:
            raise InferenceError(reply.body.decode())
        return reply, None
    headers = _headers(event)
    http = event["requestContext"].get("http")
    described = http if isinstance(http, dict) else {}
    method = str(described.get("method") or event.get("httpMethod") or "POST").upper()
    path = str(event.get("rawPath") or event.get("path") or "/")
    check = _fits_balancer if "elb" in event["requestContext"] else _fits_gateway
    try:
        reply = SERVICE.http(method, path, headers, _body(event), request_id, check)
    except RequestError as error:  # the body could not be read
        reply = SERVICE.refuse(error, request_id, headers)
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


def _fits_direct(reply: Reply) -> None:
    # The stock client writes the answer anew, with a space after each comma and colon.
    _fits(len(reply.body) + reply.body.count(b",") + reply.body.count(b":"), RESPONSE_LIMIT_BYTES)


def _fits_gateway(reply: Reply) -> None:
    _fits(_enveloped_bytes(reply), RESPONSE_LIMIT_BYTES)


def _fits_balancer(reply: Reply) -> None:
    _fits(_enveloped_bytes(reply), BALANCER_LIMIT_BYTES)


def _enveloped_bytes(reply: Reply) -> int:
    """A body's size inside the envelope: in base64, or as a JSON string, where quotes and backslashes count twice."""
    if reply.binary:
        return (len(reply.body) + 2) // 3 * 4
    return len(reply.body) + reply.body.count(b'"') + reply.body.count(b"\\")


def _fits(size: int, limit: int) -> None:
    if size + _ENVELOPE_BYTES > limit:
        message = (
            f"the answer has {size} bytes; {limit} are passed on. Send fewer samples a call, ask for fewer outputs,"
            ' or over HTTP for binary ones ("parameters": {"binary_data_output": true})'
        )
        raise RequestError(message, 413, "PayloadTooLarge")


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
