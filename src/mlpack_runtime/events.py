"""HTTP as AWS Lambda hands it over: API Gateway (both payload formats), function URLs, load balancers and VPC Lattice (version 2),
events to and from it.

Promises: whatever an event holds, `Asked` says what was asked for, and `body` gives its bytes or a `RequestError`; an answer comes
in the form that this sender takes, and is held against the size that it passes on. Will not: know a model, or log anything.

Source: AWS Lambda developer guide, payload formats 1.0 and 2.0, and "Using a Lambda function with an Application Load Balancer".
"""

from mlpack_runtime.limits import fits
from mlpack_runtime.protocol import RequestError
from mlpack_runtime.service import RESPONSE_LIMIT_BYTES, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BALANCER_LIMIT_BYTES = 1024 * 1024  # AWS: "the maximum size of the response JSON" to a load balancer "is 1 MB"


class Asked:
    """What an event asks for, headers by lower-case names. `check` raises RequestError for an answer that its sender would drop."""

    __slots__ = ("check", "headers", "method", "path")

    def __init__(self, event: "dict[str, Any]") -> None:
        http = event["requestContext"].get("http")
        described = http if isinstance(http, dict) else {}
        # VPC Lattice's version 2 has its method beside the path.
        self.method = _text(described.get("method") or event.get("httpMethod") or event.get("method"), "POST").upper()
        self.path = _text(event.get("rawPath") or event.get("path"), "/")
        self.headers = _headers(event)
        self.check = _fits_balancer if "elb" in event["requestContext"] else _fits_gateway


def is_http(event: object) -> bool:
    """Whether an event has HTTP's form; what has not was given to the function directly."""
    return type(event) is dict and isinstance(event.get("requestContext"), dict)


def body(event: "dict[str, Any]") -> bytes:
    """The body's bytes. Raises RequestError when it is no text, or not the base64 that the event says it is."""
    given = event.get("body")
    if given is None:
        return b""
    if not isinstance(given, str):
        raise RequestError(f"the event's body is a {type(given).__name__}, not a string")
    if not event.get("isBase64Encoded"):
        return given.encode("utf-8", "surrogatepass")
    from binascii import Error, a2b_base64

    try:
        return a2b_base64(given, strict_mode=True)
    except (Error, ValueError) as error:
        raise RequestError(f"the event says isBase64Encoded, but its body is not base64: {error}") from None


def envelope(event: "dict[str, Any]", reply: Reply) -> "dict[str, Any]":
    """{statusCode, headers, body, isBase64Encoded}, as this event's sender wants it."""
    if reply.binary:
        from binascii import b2a_base64

        text = b2a_base64(reply.body, newline=False).decode("ascii")
    else:
        text = reply.body.decode()
    answer: dict[str, Any] = {"statusCode": reply.status, "body": text, "isBase64Encoded": reply.binary}
    if "elb" in event["requestContext"] and event.get("headers") is None:  # a target group with multi-value headers on
        answer["multiValueHeaders"] = {name: [value] for name, value in reply.headers.items()}
    else:
        answer["headers"] = reply.headers
    return answer


def _headers(event: "dict[str, Any]") -> "dict[str, str]":
    found: dict[str, str] = {}
    many = event.get("multiValueHeaders")
    if isinstance(many, dict):
        for name, values in many.items():
            if isinstance(values, list) and values:
                found[str(name).lower()] = _text(values[-1])
    single = event.get("headers")
    if isinstance(single, dict):
        for name, value in single.items():
            last = value[-1] if type(value) is list and value else value  # VPC Lattice's version 2 has lists here
            if last is not None:
                found[str(name).lower()] = _text(last)
    return found


def _text(value: object, default: str = "") -> str:
    """A text of an event; of what is none, its number or the default: other values can be as deep as their sender likes."""
    return value if type(value) is str else str(value) if type(value) in (bool, int, float) else default


def _fits_gateway(reply: Reply) -> None:
    fits(_enveloped_bytes(reply), RESPONSE_LIMIT_BYTES)


def _fits_balancer(reply: Reply) -> None:
    fits(_enveloped_bytes(reply), BALANCER_LIMIT_BYTES)


def _enveloped_bytes(reply: Reply) -> int:
    """A body's size inside the envelope: in base64, or as a JSON string, where quotes and backslashes count twice."""
    if reply.binary:
        return (len(reply.body) + 2) // 3 * 4
    return len(reply.body) + reply.body.count(b'"') + reply.body.count(b"\\")
