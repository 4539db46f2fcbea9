"""What a front door reads beside a request's body, and the other forms that requests and answers take there.

Promises: pure; what a caller's header says of time, preference and identity is read as its standard says, or refused in words.
Will not: send or wait.

Sources: RFC 7240 (Prefer); the IETF's draft on Idempotency-Key, whose values are quoted.
"""

import os

from mlpack_runtime import jsontext, protocol, telemetry
from mlpack_runtime.protocol import HEADER_LENGTH, RequestError
from mlpack_runtime.texts import PAIR_INPUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from mlpack_runtime.access import Access
    from mlpack_runtime.door.settings import Settings
    from mlpack_runtime.protocol import Call
    from mlpack_runtime.service import Reply

GATEWAY_ERRORS = (502, 503, 504)
LONGEST_ID = 128
_LONGEST_VALUE = 200
_TRACES = ("traceparent", "tracestate", "x-amzn-trace-id")
_CREDENTIALS = 20_000
"""Characters of a header with a token."""
_SCOPE = 32
"""Hexadecimal digits for a tenant. With the longest id they are a name that workers take."""
_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")


class RefusedError(RequestError):
    """A refusal with headers, and with more keys in its body."""

    def __init__(self, message: str, status: int, kind: str, wait_s: "float | None" = None) -> None:
        super().__init__(message, status, kind)
        self.more: dict[str, str] = {}
        self.headers = {} if wait_s is None else {"retry-after": str(max(1, int(wait_s + 0.999)))}


class Patience:
    """Seconds since 1970. `ends_s`: when an answer must be on its way; `until_s`: how long a result is waited for; `deadline_s`:
    when none is worth having any more, for workers (None: it always is)."""

    __slots__ = ("deadline_s", "ends_s", "until_s")

    def __init__(self, ends_s: float, until_s: float, deadline_s: "float | None") -> None:
        self.ends_s = ends_s
        self.until_s = until_s
        self.deadline_s = deadline_s


def patience(headers: "Mapping[str, str]", settings: "Settings", arrived_s: float, limit_s: float, *, as_ticket: bool) -> Patience:
    """What a request that arrived then is given, never beyond `limit_s`. RequestError for a header that says no time."""
    left_ms, wait = protocol.deadline_ms(headers), preferences(headers).get("wait", "")
    told_s = arrived_s + left_ms / 1000 if left_ms is not None else None
    ends_s = min(told_s if told_s is not None else arrived_s + settings.deadline_s, limit_s)
    until_s = arrived_s if as_ticket else ends_s
    if protocol.is_number(wait):
        until_s = min(arrived_s + int(wait), ends_s)
    if told_s is None and not as_ticket:  # the caller may come back with its ticket
        return Patience(ends_s, until_s, until_s + settings.grace_s)
    return Patience(ends_s, until_s, told_s)


def preferences(headers: "Mapping[str, str]") -> "dict[str, str]":
    """RFC 7240's Prefer: names in lower case, the first of a name counts, parameters are passed over."""
    found: dict[str, str] = {}
    for part in headers.get("prefer", "")[:1024].split(","):
        name, _, value = part.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def handed_on(headers: "Mapping[str, str]", access: "Access | None") -> "dict[str, str]":
    """What a worker is told of a caller's headers: traces, and the credentials, which it looks at as well."""
    longest = dict.fromkeys(_TRACES, telemetry.LONGEST_HEADER) | dict.fromkeys(access.credentials if access else (), _CREDENTIALS)
    fit = ((name, headers.get(name, "")) for name, most in longest.items() if 0 < len(headers.get(name, "")) <= most)
    return {name: value for name, value in fit if value.isascii() and value.isprintable()}


def is_id(text: str) -> bool:
    """Whether a text may name a request: it becomes part of keys and paths."""
    return 0 < len(text) <= LONGEST_ID and text[0].isalnum() and _ID_LETTERS.issuperset(text)


def scope_of(record: telemetry.Record) -> str:
    """What stands before the id of a request whose caller is known, in its message and at its result: ids are each tenant's own, so
    that nobody is given what another asked for, or is refused because another took the id."""
    if "authorize" not in record.stages_ms:
        return ""
    from hashlib import sha256

    return sha256(record.detail.get("tenant", "").encode("utf-8", "surrogatepass")).hexdigest()[:_SCOPE] + "."


def as_json(value: "Any", call: "Call | None") -> "dict[str, Any]":
    """A request with binary tensors as the same in plain JSON, which is what a queue carries."""
    assert call is not None
    rows = []
    for row in value["inputs"]:
        parameters = {key: given for key, given in (row.get("parameters") or {}).items() if key != "binary_data_size"}
        made = {key: given for key, given in row.items() if key != "parameters"}
        if parameters:
            made["parameters"] = parameters
        if "binary_data_size" in (row.get("parameters") or {}):
            made["data"] = _texts(row["name"], call) if call.texts is not None else _finite(row["name"], call)
        rows.append(made)
    return {**value, "inputs": rows}


def _texts(name: str, call: "Call") -> "list[str]":
    """The strings of the input `text`, or of `text_pair`."""
    at = 1 if name == PAIR_INPUT else 0
    return [text if type(text) is str else text[at] for text in call.texts or ()]


def _finite(name: str, call: "Call") -> "Any":
    text, lost = protocol.encode_json(call.inputs[name])
    if lost:
        raise RequestError(f"input {name!r} holds {lost} values that are not finite: a queue carries JSON, which has none")
    return jsontext.loads(text)


def passed_on(headers: "Mapping[str, str]", size: int) -> "dict[str, str]":
    """Of a worker's headers, with lower-case names, what goes on to a caller: each so far as it is what it has to be, beside a body
    of `size` bytes."""
    from mlpack_runtime.serving.http_head import clean

    kept = {name: headers.get(name, "") for name in ("content-type", HEADER_LENGTH, "retry-after")}
    length, wait = kept[HEADER_LENGTH], kept["retry-after"]
    if not protocol.is_number(length) or int(length) > size:
        del kept[HEADER_LENGTH]
    if not protocol.is_number(wait) and not (len(wait) == 29 and wait.endswith(" GMT")):  # seconds, or RFC 9110's date
        del kept["retry-after"]
    return {name: value for name, value in kept.items() if 0 < len(value) <= _LONGEST_VALUE and value == clean(value)}


def is_gateways(reply: "Reply") -> bool:
    """Whether an answer is that of something in between, or of a worker that is not well: neither is one about a caller's URL."""
    return reply.status in GATEWAY_ERRORS and not (reply.status == 502 and b'"error_type":"FetchFailed"' in reply.body[:4096])


def as_answered(reply: "Reply") -> "Reply":
    """A worker's answer, so long as it is one and not a page of something in between."""
    try:
        if 300 <= reply.status < 400:
            raise ValueError("a worker sends nobody elsewhere")
        if not reply.binary:
            jsontext.loads(reply.body)
    except ValueError:
        told = 503 if reply.status in GATEWAY_ERRORS else 502
        raise RefusedError(f"the worker's endpoint answered {reply.status} with what is not JSON", told, "Unavailable", 1) from None
    return reply


def answers_freely(settings: "Mapping[str, Any]") -> bool:
    """Whether a plain request's answer may have another form than the protocol's."""
    return bool(settings.get("postprocess") or settings.get("task"))


def traced(reply: "Reply", trace_id: str) -> "Reply":
    """An answer whose object carries the trace id; the protocol's has it among its parameters."""
    made = jsontext.loads(reply.body) if reply.status == 200 else None
    if type(made) is dict and not {"model_name", "outputs"} <= made.keys():
        reply.body = jsontext.dumps({"trace_id": trace_id, **made}).encode()
    return reply


def xray() -> "str | None":
    """The invocation's own X-Ray header, for the message's system attribute."""
    return os.environ.get("_X_AMZN_TRACE_ID") or None


def media_of(settings: "Mapping[str, Any]") -> "str | None":
    """What files the worker's task reads, of `media.KINDS`; None where it reads none."""
    if not settings.get("task"):
        return None
    from mlpack_runtime.media import of_task  # nothing that a front door of texts should pay for

    return of_task(settings["task"])


def as_text(value: "Any") -> "Any":
    """A plain request with files as base64, as a queue's message and JSON have them."""
    if type(value) is not dict or not any(type(each) in (bytes, list) for each in value.values()):
        return value
    return {key: _in_base64(each) for key, each in value.items()}


def _in_base64(value: "Any") -> "Any":
    """A file, or a list of files; anything else as it is."""
    if type(value) is list and value and all(type(each) is bytes for each in value):
        return [_in_base64(each) for each in value]
    if type(value) is not bytes:
        return value
    from binascii import b2a_base64

    return b2a_base64(value, newline=False).decode()
