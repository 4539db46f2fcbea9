"""What a message says about itself beside its body: attributes, whether they rule it out, and the name that its result gets.

Promises: the same for a worker's messages and for the records of a function's events; a name is safe in an object's key.
Will not: read a body.
"""

from time import time
from urllib.parse import quote

from mlpack_runtime import protocol, routes, telemetry
from mlpack_runtime.limits import quoted
from mlpack_runtime.protocol import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlpack_runtime.model import Described

_LONGEST_ID = 200


class Letter:
    """A message's name and the headers that it stands for over HTTP. `message_id`: its name unless it has one of its own; `trace`:
    X-Ray's header."""

    __slots__ = ("attributes", "headers", "request_id")

    def __init__(self, attributes: "Mapping[str, str]", message_id: str, trace: str = "") -> None:
        self.attributes = attributes
        self.request_id = attributes.get("request_id") or message_id
        headers = {
            "traceparent": attributes.get("traceparent"),
            telemetry.TRACE_HEADER: attributes.get("trace_id"),
            "x-amzn-trace-id": trace,
            protocol.HEADER_LENGTH: attributes.get(protocol.HEADER_LENGTH),
            routes.MODEL_HEADER: attributes.get("model"),
        }
        self.headers = {name: value for name, value in headers.items() if value}


def check(letter: Letter, model: "Described") -> None:
    """Raise RequestError for what a message's attributes rule out; 503 for another version, which may be served elsewhere."""
    told = letter.attributes
    if not is_name(letter.request_id):
        raise RequestError(f"request_id {quoted(letter.request_id)} is no name: up to {_LONGEST_ID} letters, digits, -_.:")
    if told.get("model", model.name) != model.name:
        raise RequestError(f"no model {quoted(told['model'])} here; this package is {model.name!r}", 404, "NotFound")
    if told.get("version", model.version) != model.version:
        raise RequestError(f"no version {quoted(told['version'])} here; this package is {model.version!r}", 503, "OtherVersion")
    if "deadline_ms" in told:
        try:
            late_ms = time() * 1000 - float(told["deadline_ms"])
        except ValueError:
            raise RequestError(f"deadline_ms is {quoted(told['deadline_ms'])}, not milliseconds since 1970") from None
        if late_ms > 0:
            raise RequestError(f"the deadline was {late_ms:.6g} ms ago; nobody waits for this answer", 504, "DeadlineExceeded")


def is_name(request_id: str) -> bool:
    """Whether a result may have this name."""
    fits = 0 < len(request_id) <= _LONGEST_ID and request_id.isascii()
    return fits and quote(request_id, safe=":") == request_id and request_id.strip(".") != ""


def is_done(status: "int | None") -> bool:
    """Whether a message whose answer has this status needs nothing more when it comes again. One that was refused does: it belongs
    into the dead-letter queue."""
    return status is not None and not 400 <= status < 500
